/* libc.c: cases about what libc itself allocates: what it hands out is freed by free(), what it was
 * given it may resize, and what its own parts keep they free through the same heap. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <argz.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <iconv.h>
#include <ifaddrs.h>
#include <langinfo.h>
#include <libgen.h>
#include <locale.h>
#include <malloc.h>
#include <netdb.h>
#include <obstack.h>
#include <pwd.h>
#include <regex.h>
#include <search.h>
#include <sys/stat.h>
#include <time.h>
#include <wchar.h>
#include <wordexp.h>

/* Freed blocks are dirtied over their whole usable range first: they must be whole. */
static void take_back(void *p)
{
    REQUIRE(p && is_aligned(p, 16));
    memset(p, 0xDD, malloc_usable_size(p));
    free(p);
}

CASE(libc_strings_are_freeable, "strdup, strndup, wcsdup, asprintf: \"can be freed with free(3)\"")
{
    for (int n = 0; n < 5000; n = n * 2 + 1) {
        char *text = NULL, *copy;
        REQUIRE(asprintf(&text, "%0*d", n, 1) == (n ? n : 1));
        copy = strdup(text);
        REQUIRE(copy && strcmp(copy, text) == 0);
        take_back(copy);
        take_back(strndup(text, (size_t)n / 2));
        take_back(text);
    }
    take_back(wcsdup(L"wide"));
    char *joined = NULL;
    size_t length = 0;
    REQUIRE(argz_add(&joined, &length, "one") == 0 && argz_add(&joined, &length, "two") == 0);
    take_back(joined);
}

CASE(getline_grows_any_block, "getline and getdelim take malloc'd buffers, resize them, and make "
                              "their own; getline(3)")
{
    FILE *f = tmpfile();
    REQUIRE(f);
    for (int n = 1; n < 20000; n = n * 2 + 1)
        fprintf(f, "%0*d\n", n, 7);
    for (int start = 0; start < 3; start++) {
        size_t size = start == 0 ? 0 : 10;
        char *line = start == 0 ? NULL : start == 1 ? malloc(10) : memalign(64, 10);
        rewind(f);
        for (int n = 1; n < 20000; n = n * 2 + 1)
            REQUIRE(getline(&line, &size, f) == n + 1 && malloc_usable_size(line) >= size);
        take_back(line);
    }
    char *all = NULL;
    size_t size = 0;
    rewind(f);
    REQUIRE(getdelim(&all, &size, 0, f) > 20000);
    take_back(all);
    fclose(f);
}

CASE(memory_streams_are_freeable, "open_memstream's, open_wmemstream's buffers; open_memstream(3)")
{
    for (int lines = 0; lines < 5000; lines = lines * 3 + 1) {
        char *text = NULL;
        wchar_t *wide = NULL;
        size_t size = 0, wide_size = 0;
        FILE *f = open_memstream(&text, &size);
        FILE *w = open_wmemstream(&wide, &wide_size);
        REQUIRE(f && w);
        for (int i = 0; i < lines; i++) {
            fprintf(f, "line %06d\n", i);
            fwprintf(w, L"line %06d\n", i);
        }
        REQUIRE(fclose(f) == 0 && size == 12u * (unsigned)lines);
        REQUIRE(fclose(w) == 0 && wide_size == size);
        take_back(text);
        take_back(wide);
    }
    FILE *own = fmemopen(NULL, 1000, "w+");
    REQUIRE(own && fputs("x", own) >= 0 && fclose(own) == 0);
}

CASE(paths_are_freeable,
     "realpath, getcwd(NULL), get_current_dir_name, canonicalize_file_name, tempnam")
{
    take_back(realpath("/usr/../tmp", NULL));
    take_back(getcwd(NULL, 0));
    take_back(getcwd(NULL, 4000));
    take_back(get_current_dir_name());
    take_back(canonicalize_file_name("/"));
    /* By name: the linker warns of tempnam itself. */
    void *(*deprecated)(const char *, const char *) =
        (void *(*)(const char *, const char *))dlsym(RTLD_DEFAULT, "tempnam");
    REQUIRE(deprecated);
    take_back(deprecated(NULL, NULL));
}

CASE(directories_are_freeable, "scandir, opendir, glob, nftw, fts; scandir(3)")
{
    struct dirent **names;
    int count = scandir("/usr/bin", &names, NULL, alphasort);
    REQUIRE(count > 0);
    for (int i = 0; i < count; i++)
        take_back(names[i]);
    take_back(names);
    DIR *directory = opendir("/proc/self");
    REQUIRE(directory && readdir(directory) && closedir(directory) == 0);
    glob_t found;
    REQUIRE(glob("/usr/{bin,lib}/*a*", GLOB_BRACE, NULL, &found) == 0);
    globfree(&found);
    char *roots[] = {(char *)"/etc", NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    REQUIRE(tree);
    while (fts_read(tree))
        continue;
    REQUIRE(fts_close(tree) == 0);
}

static int visit(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    take_back(strdup(path));
    return 0;
}

CASE(tree_walks_work, "nftw; ftw(3)")
{
    REQUIRE(nftw("/etc", visit, 20, FTW_PHYS) == 0);
}

CASE(streams_work, "fopen, setvbuf, popen, fclose, freopen; many at once; fopen(3)")
{
    FILE *f[200];
    for (int i = 0; i < 200; i++) {
        f[i] = fopen("/dev/null", "r+");
        REQUIRE(f[i]);
        if (i % 3 == 0) setvbuf(f[i], NULL, _IOFBF, (size_t)i * 1000);
        REQUIRE(fprintf(f[i], "%*d", i * 50 + 1, i) > 0);
        fgetc(f[i]);
    }
    for (int i = 0; i < 200; i += 2)
        REQUIRE((f[i] = freopen("/dev/zero", "r", f[i])));
    for (int i = 0; i < 200; i++)
        REQUIRE(fclose(f[i]) == 0);
    /* Wide and far precision makes printf allocate. */
    f[0] = fopen("/dev/null", "w");
    REQUIRE(f[0] && fprintf(f[0], "%.20000f %*ls %s", 1e300, 20000, L"wide", "x") > 40000);
    fclose(f[0]);
}

CASE(environment_is_resizable, "setenv, putenv, unsetenv in numbers; setenv(3)")
{
    char name[32];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(name, sizeof name, "CONFORMANCE_%d", i);
            REQUIRE(setenv(name, name, 1) == 0);
        }
        for (int i = 0; i < 2000; i++) {
            snprintf(name, sizeof name, "CONFORMANCE_%d", i);
            REQUIRE(strcmp(getenv(name), name) == 0 && unsetenv(name) == 0);
        }
    }
    char *mine = strdup("CONFORMANCE_OWN=1");
    REQUIRE(putenv(mine) == 0 && strcmp(getenv("CONFORMANCE_OWN"), "1") == 0);
    REQUIRE(unsetenv("CONFORMANCE_OWN") == 0);
    take_back(mine);
}

CASE(expressions_are_freeable, "regcomp, wordexp; regcomp(3)")
{
    for (int i = 0; i < 20; i++) {
        regex_t expression;
        regmatch_t match[4];
        REQUIRE(regcomp(&expression, "^((a|b)*c{2,9}[[:alpha:]]+)(x)?$", REG_EXTENDED) == 0);
        REQUIRE(regexec(&expression, "ababccccdef", 4, match, 0) == 0);
        regfree(&expression);
    }
    wordexp_t words;
    REQUIRE(wordexp("a \"b c\" $HOME ~root", &words, WRDE_NOCMD) == 0 && words.we_wordc >= 3);
    wordfree(&words);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void keep_number(void *number)
{
    (void)number;
}

CASE(searching_and_sorting_work, "qsort (allocates for large arrays), tsearch, hcreate")
{
    static uint64_t numbers[300000];
    uint64_t state = 1;
    for (size_t i = 0; i < 300000; i++)
        numbers[i] = random_next(&state);
    qsort(numbers, 300000, sizeof *numbers, compare);
    for (size_t i = 1; i < 300000; i++)
        REQUIRE(numbers[i - 1] <= numbers[i]);
    void *tree = NULL;
    for (size_t i = 0; i < 1000; i++)
        REQUIRE(tsearch(&numbers[i * 7], &tree, compare));
    for (size_t i = 0; i < 500; i++)
        REQUIRE(tdelete(&numbers[i * 7], &tree, compare));
    tdestroy(tree, keep_number);
}

CASE(hash_tables_work, "hcreate, hsearch, hdestroy; hsearch(3)")
{
    static char name[1000][16];
    REQUIRE(hcreate(2000) != 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(name[i], sizeof name[i], "name %d", i);
        REQUIRE(hsearch((ENTRY){name[i], name[i]}, ENTER));
    }
    REQUIRE(hsearch((ENTRY){(char *)"name 77", NULL}, FIND)->data == name[77]);
    hdestroy();
}

CASE(locales_and_conversions_work, "setlocale, newlocale, iconv_open, mbstowcs")
{
    for (int i = 0; i < 20; i++) {
        setlocale(LC_ALL, i % 2 ? "C.UTF-8" : "C");
        locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", NULL), copy = duplocale(locale);
        REQUIRE(locale && copy);
        uselocale(copy);
        uselocale(LC_GLOBAL_LOCALE);
        freelocale(locale);
        freelocale(copy);
        iconv_t convert = iconv_open("UTF-16", "UTF-8");
        if (convert == (iconv_t)-1) continue; /* the module may not be installed */
        char in[] = "text", out[64], *from = in, *to = out;
        size_t in_left = 4, out_left = sizeof out;
        REQUIRE(iconv(convert, &from, &in_left, &to, &out_left) == 0);
        REQUIRE(iconv_close(convert) == 0);
    }
}

CASE(names_and_addresses_work, "getaddrinfo, getifaddrs, getpwnam, getgrouplist")
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *addresses;
    REQUIRE(getaddrinfo("127.0.0.1", "80", &hints, &addresses) == 0);
    freeaddrinfo(addresses);
    struct ifaddrs *interfaces;
    if (getifaddrs(&interfaces) == 0) freeifaddrs(interfaces);
    struct passwd *user = getpwnam("root");
    if (user) REQUIRE(strcmp(user->pw_name, "root") == 0);
    gid_t groups[64];
    int count = 64;
    (void)getgrouplist("root", 0, groups, &count);
    for (int i = 0; i < 3; i++) {
        setpwent();
        while (getpwent())
            continue;
        endpwent();
    }
}

#define obstack_chunk_alloc malloc
#define obstack_chunk_free  free

CASE(obstacks_work, "obstacks over malloc and free; glibc manual 3.2.6")
{
    struct obstack stack;
    obstack_init(&stack);
    for (int i = 0; i < 3000; i++) {
        char *p = obstack_alloc(&stack, i);
        memset(p, i, (size_t)i);
        obstack_printf(&stack, "%d", i);
        obstack_finish(&stack);
    }
    obstack_free(&stack, NULL);
}

CASE(time_zones_work, "tzset and localtime keep and free tables; tzset(3)")
{
    static const char *const zones[] = {"UTC", "Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3",
                                        ":/none"};
    time_t now = 1700000000;
    for (int i = 0; i < 40; i++) {
        REQUIRE(setenv("TZ", zones[i % 4], 1) == 0);
        tzset();
        REQUIRE(localtime(&now));
    }
}
