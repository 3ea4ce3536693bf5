/* SPDX-License-Identifier: MIT */
/* orders: a small order service, the program that `make demo` looks into.
 *
 * It answers a loop of made-up requests with four libraries: libxml2 parses the documents, OpenSSL
 * signs them, SQLite stores them, zlib archives them. All documents are made by one helper,
 * load_document(), for three callers:
 *
 *     place_order()      keeps the last RECENT_COUNT documents: they are live, and rightly so
 *     show_prices()      reads a document and frees it
 *     cancel_order()     reads a document and frees it, except on one error path
 *
 * So the memory that grows was allocated by libxml2, called by load_document(), and looks just like
 * the memory that is kept on purpose: only a frame further out tells them apart. How it ends: by
 * itself, after the seconds given as its argument. */
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

/* Every handler is a frame of its own, as it would be in a larger program. */
#define SEPARATE __attribute__((noinline))

enum {
    RECENT_COUNT = 64, /* documents kept for reprints */
    ITEM_COUNT = 12,   /* lines of an order */
    REQUESTS_PER_SECOND = 400,
    TEXT_SIZE = 4096, /* an order of ITEM_COUNT lines is about 900 bytes */
};

/* What the service holds from start to end. */
struct service {
    sqlite3 *database;
    sqlite3_stmt *insert;
    sqlite3_stmt *find;
    xmlDoc *recent[RECENT_COUNT]; /* ring of the newest orders */
    uint64_t placed;              /* orders so far; the next one's number */
    uint64_t refused;             /* cancellations of orders that do not exist */
    uint64_t archived_bytes;
};

static void die(const char *what)
{
    fprintf(stderr, "orders: %s failed\n", what);
    exit(1);
}

/* printf at the end of `text`, which has TEXT_SIZE bytes. */
__attribute__((format(printf, 2, 3))) static void append(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list values;
    va_start(values, format);
    int added = vsnprintf(text + used, TEXT_SIZE - used, format, values);
    va_end(values);
    if (added < 0 || (size_t)added >= TEXT_SIZE - used) die("append: the text is too long; it");
}

static void write_order(char *text, uint64_t number)
{
    text[0] = '\0';
    append(text, "<order number=\"%lu\"><customer>C%05lu</customer>", number,
           number * 7919 % 100000);
    for (unsigned i = 0; i < ITEM_COUNT; i++)
        append(text, "<item article=\"A%03u\" count=\"%u\">%u.%02u</item>",
               (unsigned)number % 97 + i, i + 1, i * 13 + 5, i * 7 % 100);
    append(text, "</order>");
}

/* The one way from text to document. The caller frees it with xmlFreeDoc(). */
static SEPARATE xmlDoc *load_document(const char *text)
{
    xmlDoc *document = xmlReadMemory(text, (int)strlen(text), "request.xml", NULL, XML_PARSE_NONET);
    if (!document) die("xmlReadMemory");
    return document;
}

static uint64_t order_number(xmlDoc *document)
{
    xmlChar *value = xmlGetProp(xmlDocGetRootElement(document), BAD_CAST "number");
    if (!value) die("xmlGetProp");
    uint64_t number = strtoull((const char *)value, NULL, 10);
    xmlFree(value);
    return number;
}

static void sign(const char *text, unsigned char digest[EVP_MAX_MD_SIZE], unsigned *digest_size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL) ||
        !EVP_DigestUpdate(context, text, strlen(text)) ||
        !EVP_DigestFinal_ex(context, digest, digest_size))
        die("the digest");
    EVP_MD_CTX_free(context);
}

static void archive(struct service *service, const char *text)
{
    uLongf packed_size = compressBound(strlen(text));
    Bytef *packed = malloc(packed_size);
    if (!packed || compress(packed, &packed_size, (const Bytef *)text, strlen(text)) != Z_OK)
        die("compress");
    service->archived_bytes += packed_size;
    free(packed);
}

static SEPARATE void place_order(struct service *service)
{
    char text[TEXT_SIZE];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
    write_order(text, service->placed);
    xmlDoc *document = load_document(text);
    sign(text, digest, &digest_size);
    archive(service, text);

    sqlite3_bind_int64(service->insert, 1, (sqlite3_int64)order_number(document));
    sqlite3_bind_blob(service->insert, 2, digest, (int)digest_size, SQLITE_TRANSIENT);
    if (sqlite3_step(service->insert) != SQLITE_DONE) die("the insertion");
    sqlite3_reset(service->insert);

    xmlDoc **place = &service->recent[service->placed++ % RECENT_COUNT];
    xmlFreeDoc(*place);
    *place = document;
}

static SEPARATE void show_prices(struct service *service)
{
    char text[TEXT_SIZE];
    write_order(text, service->placed);
    xmlDoc *document = load_document(text);
    size_t item_count = 0;
    for (xmlNode *node = xmlDocGetRootElement(document)->children; node; node = node->next)
        item_count += xmlStrEqual(node->name, BAD_CAST "item");
    if (item_count != ITEM_COUNT) die("reading the items");
    xmlFreeDoc(document);
}

/* Every second request names an order that does not exist: the return in the middle forgets the
 * document. This is the leak, made as it is made everywhere: by an error path. */
static SEPARATE void cancel_order(struct service *service, uint64_t number)
{
    char text[TEXT_SIZE];
    write_order(text, number);
    xmlDoc *document = load_document(text);
    sqlite3_bind_int64(service->find, 1, (sqlite3_int64)order_number(document));
    int found = sqlite3_step(service->find) == SQLITE_ROW;
    sqlite3_reset(service->find);
    if (!found) {
        service->refused++;
        return;
    }
    xmlFreeDoc(document);
}

static void service_init(struct service *service)
{
    memset(service, 0, sizeof *service);
    xmlInitParser();
    if (sqlite3_open(":memory:", &service->database) ||
        sqlite3_exec(service->database,
                     "CREATE TABLE orders(number INTEGER PRIMARY KEY, digest BLOB)", NULL, NULL,
                     NULL) ||
        sqlite3_prepare_v2(service->database, "INSERT OR REPLACE INTO orders VALUES(?, ?)", -1,
                           &service->insert, NULL) ||
        sqlite3_prepare_v2(service->database, "SELECT 1 FROM orders WHERE number = ?", -1,
                           &service->find, NULL))
        die("opening the database");
}

static void service_finish(struct service *service)
{
    for (size_t i = 0; i < RECENT_COUNT; i++)
        xmlFreeDoc(service->recent[i]);
    sqlite3_finalize(service->insert);
    sqlite3_finalize(service->find);
    sqlite3_close(service->database);
    xmlCleanupParser();
}

static void serve_one(struct service *service, uint64_t request)
{
    switch (request % 4) {
    case 0: place_order(service); break;
    case 1:
    case 2: show_prices(service); break;
    /* One that exists, then one that does not. */
    case 3:
        cancel_order(service, request % 8 == 3 ? service->placed - 1 : 1000000000 + request);
        break;
    }
}

int main(int argc, char **argv)
{
    long seconds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (seconds < 1) {
        fprintf(stderr, "usage: orders SECONDS\n");
        return 64;
    }
    struct service service;
    service_init(&service);
    const struct timespec pause = {.tv_nsec = 1000000000 / REQUESTS_PER_SECOND};
    time_t end = time(NULL) + seconds;
    for (uint64_t request = 0; time(NULL) < end; request++) {
        serve_one(&service, request);
        nanosleep(&pause, NULL);
    }
    printf("orders: %lu placed, %lu refused, %lu bytes archived\n", service.placed, service.refused,
           service.archived_bytes);
    service_finish(&service);
    return 0;
}
