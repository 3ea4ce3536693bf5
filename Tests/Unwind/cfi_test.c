/* SPDX-License-Identifier: MIT */
/* The reader of call frame information, fed by hand: every instruction, every expression operator,
 * and damaged input of all kinds. All input lies right before an unreadable page, so that reading
 * one byte too many is a crash, not luck. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cfi.h"
#include "check.h"
#include "rules.h"

enum { ROOM = 8192, FDE_AT = 512, CODE = 0x10000, CODE_SIZE = 0x1000 };

static uint8_t *room; /* ROOM readable bytes, then none */
static struct mc_cfi_bytes bytes;
static uint8_t *out; /* where the next byte goes while building */

static void make_room(void)
{
    room = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || mprotect(room + ROOM, 4096, PROT_NONE)) exit(1);
    bytes = (struct mc_cfi_bytes){room, room + ROOM};
}

static void put(uint64_t value, unsigned size)
{
    memcpy(out, &value, size);
    out += size;
}

static void put_bytes(const uint8_t *from, size_t size)
{
    memcpy(out, from, size);
    out += size;
}

/* A CIE at the start of the room, an FDE at FDE_AT for [CODE, CODE + CODE_SIZE); absolute
 * pointers. */
static const uint8_t *build(const char *letters, const uint8_t *initial, size_t initial_size,
                            const uint8_t *program, size_t program_size)
{
    memset(room, 0, ROOM);
    out = room + 4;
    put(0, 4);
    put(1, 1);
    put_bytes((const uint8_t *)letters, strlen(letters) + 1);
    put(4, 1);    /* code alignment 4 */
    put(0x78, 1); /* data alignment -8 */
    put(MC_REG_PC, 1);
    if (*letters == 'z') {
        put((strchr(letters, 'R') != NULL) + (strchr(letters, 'L') != NULL), 1);
        for (const char *l = letters + 1; *l; l++) {
            if (*l == 'R') put(0, 1); /* absolute */
            if (*l == 'L') put(0xff, 1);
        }
    }
    put_bytes(initial, initial_size);
    uint32_t size = (uint32_t)(out - room - 4);
    memcpy(room, &size, 4);
    out = room + FDE_AT + 4;
    put(FDE_AT + 4, 4);
    put(CODE, 8);
    put(CODE_SIZE, 8);
    if (*letters == 'z') put(0, 1);
    put_bytes(program, program_size);
    size = (uint32_t)(out - room - FDE_AT - 4);
    memcpy(room + FDE_AT, &size, 4);
    return room + FDE_AT;
}

/* CFA = rsp + 8, return address at CFA - 8: what every compiler's CIE says. */
static const uint8_t usual[] = {0x0c, 7, 8, 0x90, 1};

static struct mc_cfi_entry entry;
static struct mc_cfi_row row;

static int run_at(unsigned offset, const uint8_t *program, size_t size)
{
    const uint8_t *fde = build("zR", usual, sizeof usual, program, size);
    int error = mc_cfi_parse(bytes, fde, &entry);
    return error ? error : mc_cfi_row_at(&entry, CODE + offset, &row);
}

#define RUN(offset, ...)                                                                           \
    run_at(offset, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static int is(unsigned reg, enum mc_cfi_how how, int32_t value)
{
    return row.how[reg] == how && row.value[reg] == value;
}

static int cfa_is(unsigned reg, int32_t offset)
{
    return !row.cfa_is_expression && row.cfa_register == reg && row.cfa_value == offset;
}

static void parses_entries(void)
{
    CHECK(RUN(0, 0x00) == 0);
    CHECK(entry.begin == CODE && entry.end == CODE + CODE_SIZE);
    CHECK(entry.code_align == 4 && entry.data_align == -8 && !entry.signal_frame);
    CHECK(cfa_is(7, 8) && is(16, MC_CFI_AT_CFA, -8));
    const uint8_t nop = 0;
    CHECK(mc_cfi_parse(bytes, build("zRS", usual, sizeof usual, &nop, 1), &entry) == 0);
    CHECK(entry.signal_frame);
    CHECK(mc_cfi_parse(bytes, build("zLR", usual, sizeof usual, &nop, 1), &entry) == 0);
    CHECK(mc_cfi_row_at(&entry, CODE, &row) == 0 && cfa_is(7, 8));
    CHECK(mc_cfi_parse(bytes, build("", usual, sizeof usual, &nop, 1), &entry) == 0);
    CHECK(mc_cfi_row_at(&entry, CODE, &row) == 0 && cfa_is(7, 8));
    CHECK(mc_cfi_parse(bytes, build("eh", usual, sizeof usual, &nop, 1), &entry) == EINVAL);
}

static void follows_the_location(void)
{
    CHECK(RUN(0, 0x41, 0x0e, 16) == 0 && cfa_is(7, 8)); /* advance 1 * 4 */
    CHECK(RUN(3, 0x41, 0x0e, 16) == 0 && cfa_is(7, 8));
    CHECK(RUN(4, 0x41, 0x0e, 16) == 0 && cfa_is(7, 16));
    CHECK(RUN(0x3fc, 0x02, 0xff, 0x0e, 16) == 0 && cfa_is(7, 16)); /* advance_loc1 */
    CHECK(RUN(0x3fb, 0x02, 0xff, 0x0e, 16) == 0 && cfa_is(7, 8));
    CHECK(RUN(0x804, 0x03, 0x01, 0x02, 0x0e, 16) == 0 && cfa_is(7, 16)); /* 2: 0x201 * 4 */
    CHECK(RUN(0x803, 0x03, 0x01, 0x02, 0x0e, 16) == 0 && cfa_is(7, 8));
    CHECK(RUN(0x804, 0x04, 0x01, 0x02, 0, 0, 0x0e, 16) == 0 && cfa_is(7, 16)); /* 4 */
    CHECK(RUN(0x803, 0x04, 0x01, 0x02, 0, 0, 0x0e, 16) == 0 && cfa_is(7, 8));
    /* set_loc CODE + 8 */
    CHECK(RUN(8, 0x01, 8, 0, 1, 0, 0, 0, 0, 0, 0x0e, 16) == 0 && cfa_is(7, 16));
    CHECK(RUN(7, 0x01, 8, 0, 1, 0, 0, 0, 0, 0, 0x0e, 16) == 0 && cfa_is(7, 8));
    /* what comes after the address is not even read: 0x3f is no instruction */
    CHECK(RUN(0, 0x41, 0x3f) == 0 && RUN(4, 0x41, 0x3f) == EINVAL);
}

static void finds_the_cfa(void)
{
    CHECK(RUN(0, 0x0c, 6, 0x90, 1) == 0 && cfa_is(6, 0x90)); /* def_cfa */
    CHECK(RUN(0, 0x12, 6, 0x7e) == 0 && cfa_is(6, 16));      /* def_cfa_sf -2 * -8 */
    CHECK(RUN(0, 0x0d, 6) == 0 && cfa_is(6, 8));             /* def_cfa_register */
    CHECK(RUN(0, 0x0e, 0x80, 2) == 0 && cfa_is(7, 256));     /* def_cfa_offset */
    CHECK(RUN(0, 0x13, 0x7c) == 0 && cfa_is(7, 32));         /* def_cfa_offset_sf */
    CHECK(RUN(0, 0x0f, 2, 0x76, 0) == 0 && row.cfa_is_expression);
    CHECK(room[row.cfa_value] == 2 && room[row.cfa_value + 1] == 0x76);
    CHECK(RUN(0, 0x0f, 2, 0x76, 0, 0x0c, 6, 16) == 0 && cfa_is(6, 16)); /* and back */
    CHECK(RUN(0, 0x0f, 2, 0x76, 0, 0x0e, 16) == EINVAL); /* an offset of an expression */
    CHECK(RUN(0, 0x0f, 2, 0x76, 0, 0x0d, 6) == EINVAL);
    CHECK(RUN(0, 0x0c, 17, 16) == EINVAL); /* no register of ours */
    CHECK(RUN(0, 0x0e, 0xff, 0xff, 0xff, 0xff, 0x7f) == EINVAL);
}

static void finds_registers(void)
{
    CHECK(RUN(0, 0x86, 2) == 0 && is(6, MC_CFI_AT_CFA, -16));         /* offset */
    CHECK(RUN(0, 0x05, 3, 3) == 0 && is(3, MC_CFI_AT_CFA, -24));      /* offset_extended */
    CHECK(RUN(0, 0x11, 3, 0x7d) == 0 && is(3, MC_CFI_AT_CFA, 24));    /* .._sf -3 */
    CHECK(RUN(0, 0x2f, 3, 3) == 0 && is(3, MC_CFI_AT_CFA, 24));       /* GNU_negative_offset */
    CHECK(RUN(0, 0x14, 12, 2) == 0 && is(12, MC_CFI_IS_CFA, -16));    /* val_offset */
    CHECK(RUN(0, 0x15, 12, 0x7e) == 0 && is(12, MC_CFI_IS_CFA, 16));  /* val_offset_sf */
    CHECK(RUN(0, 0x09, 16, 5) == 0 && is(16, MC_CFI_IN_REGISTER, 5)); /* register */
    CHECK(RUN(0, 0x07, 16) == 0 && is(16, MC_CFI_UNDEFINED, 0));      /* undefined */
    CHECK(RUN(0, 0x86, 2, 0x08, 6) == 0 && is(6, MC_CFI_SAME, 0));    /* same_value */
    CHECK(RUN(0, 0x10, 6, 2, 0x76, 0) == 0 && row.how[6] == MC_CFI_AT_EXPR);
    CHECK(RUN(0, 0x16, 7, 2, 0x76, 0) == 0 && row.how[7] == MC_CFI_IS_EXPR);
    CHECK(room[row.value[7]] == 2 && room[row.value[7] + 1] == 0x76);
    CHECK(RUN(0, 0x2e, 0x90, 1, 0x86, 2) == 0 && is(6, MC_CFI_AT_CFA, -16)); /* GNU_args_size */
    CHECK(RUN(0, 0x05, 40, 3, 0x86, 2) == 0 && is(6, MC_CFI_AT_CFA, -16));   /* xmm: passed over */
    CHECK(RUN(0, 0x16, 40, 2, 0x76, 0, 0x86, 2) == 0 && is(6, MC_CFI_AT_CFA, -16));
    CHECK(RUN(0, 0x09, 16, 17) == EINVAL);
}

static void restores(void)
{
    CHECK(RUN(0, 0x90, 4, 0xd0) == 0 && is(16, MC_CFI_AT_CFA, -8));     /* restore */
    CHECK(RUN(0, 0x90, 4, 0x06, 16) == 0 && is(16, MC_CFI_AT_CFA, -8)); /* restore_extended */
    CHECK(RUN(0, 0x86, 2, 0xc6) == 0 && is(6, MC_CFI_SAME, 0));
    CHECK(RUN(0, 0x0a, 0x0e, 32, 0x86, 4, 0x0b) == 0 && cfa_is(7, 8) && is(6, MC_CFI_SAME, 0));
    CHECK(RUN(0, 0x0a, 0x0e, 16, 0x0a, 0x0e, 24, 0x0b) == 0 && cfa_is(7, 16));
    CHECK(RUN(0, 0x0b) == EINVAL); /* nothing remembered */
    CHECK(RUN(0, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a) == 0);
    CHECK(RUN(0, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a) == EINVAL);
    const uint8_t restore_in_cie[] = {0x0c, 7, 8, 0x90, 1, 0xd0}, advance_in_cie[] = {0x41, 0};
    const uint8_t nop = 0;
    CHECK(!mc_cfi_parse(bytes, build("zR", restore_in_cie, 6, &nop, 1), &entry));
    CHECK(mc_cfi_row_at(&entry, CODE, &row) == EINVAL);
    CHECK(!mc_cfi_parse(bytes, build("zR", advance_in_cie, 2, &nop, 1), &entry));
    CHECK(mc_cfi_row_at(&entry, CODE, &row) == EINVAL);
    CHECK(!mc_cfi_parse(bytes, build("zR", &nop, 1, &nop, 1), &entry)); /* no CFA at all */
    CHECK(mc_cfi_row_at(&entry, CODE, &row) == EINVAL);
}

static void refuses_damaged_programs(void)
{
    static const uint8_t lone[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                   0x09, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12,
                                   0x13, 0x14, 0x15, 0x16, 0x2e, 0x2f, 0x86};
    for (size_t i = 0; i < sizeof lone; i++)
        CHECK(run_at(0, &lone[i], 1) == EINVAL);
    for (unsigned op = 0x17; op < 0x40; op++) {
        uint8_t unknown = (uint8_t)op;
        if (op != 0x2e && op != 0x2f) CHECK(run_at(0, &unknown, 1) == EINVAL);
    }
    CHECK(RUN(0, 0x86, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1) == EINVAL);
    CHECK(RUN(0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x76, 0) == EINVAL); /* beyond the entry */
    CHECK(RUN(0, 0x86, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f) == EINVAL);
}

static void refuses_damaged_records(void)
{
    const uint8_t nop = 0;
    const uint8_t *fde = build("zR", usual, sizeof usual, &nop, 1);
    uint32_t huge = 0x7fffffff, zero = 0, far = FDE_AT + 5000;
    CHECK(mc_cfi_parse(bytes, room + ROOM, &entry) == EINVAL);
    CHECK(mc_cfi_parse(bytes, room + ROOM - 2, &entry) == EINVAL);
    CHECK(mc_cfi_parse(bytes, room - 1, &entry) == EINVAL);
    CHECK(mc_cfi_parse(bytes, room, &entry) == EINVAL); /* a CIE is no FDE */
    memcpy(room + FDE_AT, &huge, 4);
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    memcpy(room + FDE_AT, &zero, 4);
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    build("zR", usual, sizeof usual, &nop, 1);
    memcpy(room + FDE_AT + 4, &far, 4); /* its CIE would lie before the section */
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    build("zR", usual, sizeof usual, &nop, 1);
    memcpy(room, &huge, 4);
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    build("zR", usual, sizeof usual, &nop, 1);
    room[8] = 9; /* version */
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    build("zR", usual, sizeof usual, &nop, 1);
    CHECK(mc_cfi_parse(bytes, fde, &entry) == 0);
    uint32_t size;
    memcpy(&size, room, 4);
    memset(room + 9, 'z', size - 5); /* an augmentation that does not end within its record */
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
    build("zPR", usual, sizeof usual, &nop, 1); /* a personality where there is only 'R' */
    CHECK(mc_cfi_parse(bytes, fde, &entry) == EINVAL);
}

/* Expressions: registers 0 .. 15 hold 0x1000 * number, memory is `words`. */
static uintptr_t words[8] = {11, 22, 33, 44, 55, 66, 77, 0x8899aabbccddeeff};

static int read_words(void *memory, uintptr_t address, unsigned size, uintptr_t *value)
{
    uintptr_t first = (uintptr_t)memory;
    if (address < first || address - first > sizeof words - size) return EFAULT;
    *value = 0;
    memcpy(value, (void *)address, size);
    return 0;
}

static uintptr_t result;

static int evaluate(const uint8_t *code, size_t size, int push)
{
    uintptr_t registers[MC_REG_COUNT];
    for (unsigned i = 0; i < MC_REG_COUNT; i++)
        registers[i] = 0x1000 * i;
    registers[6] = (uintptr_t)words;
    out = room + ROOM - size - 1;
    put(size, 1);
    put_bytes(code, size);
    result = 7777;
    return mc_cfi_evaluate(bytes, (int32_t)(ROOM - size - 1), registers, MC_REG_ALL & ~(1 << 2),
                           push, read_words, words, &result);
}

#define EVALUATE(...)                                                                              \
    evaluate((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), 0)
#define GIVES(value, ...) (EVALUATE(__VA_ARGS__) == 0 && result == (uintptr_t)(value))

static void evaluates_constants(void)
{
    CHECK(GIVES(0, 0x30) && GIVES(31, 0x4f));
    CHECK(GIVES(0x8070605040302010, 0x03, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80));
    CHECK(GIVES(0xfe, 0x08, 0xfe) && GIVES(-2, 0x09, 0xfe));
    CHECK(GIVES(0xfffe, 0x0a, 0xfe, 0xff) && GIVES(-2, 0x0b, 0xfe, 0xff));
    CHECK(GIVES(0xfffffffe, 0x0c, 0xfe, 0xff, 0xff, 0xff));
    CHECK(GIVES(-2, 0x0d, 0xfe, 0xff, 0xff, 0xff));
    CHECK(GIVES(1, 0x0e, 1, 0, 0, 0, 0, 0, 0, 0) && GIVES(1, 0x0f, 1, 0, 0, 0, 0, 0, 0, 0));
    CHECK(GIVES(128, 0x10, 0x80, 1) && GIVES(-128, 0x11, 0x80, 0x7f));
}

static void evaluates_the_stack(void)
{
    CHECK(GIVES(4, 0x32, 0x12, 0x22));          /* dup */
    CHECK(GIVES(1, 0x31, 0x32, 0x13));          /* drop */
    CHECK(GIVES(1, 0x31, 0x32, 0x14));          /* over */
    CHECK(GIVES(3, 0x33, 0x32, 0x31, 0x15, 2)); /* pick */
    CHECK(GIVES(1, 0x31, 0x32, 0x16));          /* swap: 2 1 */
    CHECK(GIVES(2, 0x31, 0x32, 0x33, 0x17));    /* rot: 3 1 2 */
    CHECK(GIVES(1, 0x31, 0x32, 0x33, 0x17, 0x13));
    CHECK(GIVES(3, 0x31, 0x32, 0x33, 0x17, 0x13, 0x13));
    CHECK(GIVES(0x3008, 0x73, 8) && GIVES(0x2ff8, 0x73, 0x78)); /* breg3 */
    CHECK(GIVES(0x3008, 0x92, 3, 8));                           /* bregx */
    CHECK(GIVES(22, 0x76, 8, 0x06));                            /* deref */
    CHECK(GIVES(0xff, 0x76, 56, 0x94, 1) && GIVES(0xeeff, 0x76, 56, 0x94, 2));
    CHECK(GIVES(0xccddeeff, 0x76, 56, 0x94, 4) && GIVES(5, 0x35, 0x96));
    const uint8_t add8[] = {0x38, 0x22};
    CHECK(evaluate(add8, 2, 1) == 0 && result == 7785); /* starts with the CFA */
}

static void evaluates_arithmetic(void)
{
    CHECK(GIVES(5, 0x11, 0x7b, 0x19) && GIVES(5, 0x35, 0x19)); /* abs */
    CHECK(GIVES(4, 0x36, 0x34, 0x1a) && GIVES(7, 0x36, 0x33, 0x21) && GIVES(5, 0x36, 0x33, 0x27));
    CHECK(GIVES(-3, 0x11, 0x7a, 0x32, 0x1b) && GIVES(1, 0x37, 0x33, 0x1d));
    CHECK(GIVES(3, 0x37, 0x34, 0x1c) && GIVES(28, 0x37, 0x34, 0x1e) && GIVES(11, 0x37, 0x34, 0x22));
    CHECK(GIVES(-7, 0x37, 0x1f) && GIVES(~(uintptr_t)7, 0x37, 0x20));
    CHECK(GIVES(135, 0x37, 0x23, 0x80, 1));
    CHECK(GIVES(28, 0x37, 0x32, 0x24) && GIVES(3, 0x3f, 0x32, 0x25));
    CHECK(GIVES(-2, 0x11, 0x78, 0x32, 0x26) && GIVES(-1, 0x11, 0x78, 0x08, 200, 0x26));
    CHECK(GIVES(0, 0x31, 0x08, 64, 0x24) && GIVES(0, 0x31, 0x08, 64, 0x25));
    CHECK(GIVES(1, 0x33, 0x33, 0x29) && GIVES(0, 0x33, 0x34, 0x29) && GIVES(1, 0x33, 0x34, 0x2e));
    CHECK(GIVES(1, 0x34, 0x33, 0x2a) && GIVES(1, 0x34, 0x33, 0x2b) && GIVES(0, 0x34, 0x33, 0x2c));
    CHECK(GIVES(0, 0x34, 0x33, 0x2d) && GIVES(1, 0x11, 0x7f, 0x33, 0x2d)); /* signed */
    CHECK(EVALUATE(0x31, 0x30, 0x1b) == EINVAL && EVALUATE(0x31, 0x30, 0x1d) == EINVAL);
    CHECK(GIVES(0x8000000000000000, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x09, 0xff, 0x1b));
}

static void evaluates_branches(void)
{
    CHECK(GIVES(1, 0x31, 0x2f, 1, 0, 0x35));                   /* skip one byte */
    CHECK(GIVES(1, 0x31, 0x31, 0x28, 1, 0, 0x35));             /* bra, taken */
    CHECK(GIVES(5, 0x31, 0x30, 0x28, 1, 0, 0x35));             /* not taken */
    CHECK(GIVES(0, 0x35, 0x31, 0x1c, 0x12, 0x28, 0xfa, 0xff)); /* counts down from 5 */
    CHECK(EVALUATE(0x2f, 0xfd, 0xff) == EINVAL);               /* for ever */
    CHECK(EVALUATE(0x31, 0x2f, 0xfb, 0xff) == EINVAL);         /* before its beginning */
    CHECK(EVALUATE(0x31, 0x2f, 0x01, 0x00) == EINVAL);         /* behind its end */
    CHECK(EVALUATE(0x31, 0x2f, 0xff, 0x7f) == EINVAL);
}

static void refuses_damaged_expressions(void)
{
    static const uint8_t lone[] = {0x03, 0x06, 0x08, 0x0a, 0x0c, 0x0e, 0x10, 0x11, 0x12, 0x13,
                                   0x14, 0x15, 0x16, 0x17, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e,
                                   0x1f, 0x20, 0x22, 0x23, 0x24, 0x28, 0x29, 0x2f, 0x76, 0x92,
                                   0x94, 0x96, 0x91, 0x9c, 0x98, 0xe0, 0x50, 0x00, 0xff};
    for (size_t i = 0; i < sizeof lone; i++)
        CHECK(evaluate(&lone[i], 1, 0) != 0);
    CHECK(evaluate(lone, 0, 0) == EINVAL);
    CHECK(EVALUATE(0x72, 0) == EINVAL); /* a register that is not known */
    CHECK(EVALUATE(0x92, 17, 0) == EINVAL && EVALUATE(0x81, 0) == EINVAL);
    CHECK(EVALUATE(0x31, 0x15, 3) == EINVAL && EVALUATE(0x76, 0, 0x94, 3) == EINVAL);
    CHECK(EVALUATE(0x30, 0x06) == EFAULT && EVALUATE(0x76, 57, 0x06) == EFAULT);
    uint8_t many[40];
    memset(many, 0x31, sizeof many);
    CHECK(evaluate(many, 32, 0) == 0 && evaluate(many, 33, 0) == EINVAL);
    uintptr_t registers[MC_REG_COUNT] = {0};
    CHECK(mc_cfi_evaluate(bytes, -1, registers, 0, 0, read_words, words, &result) == EINVAL);
    CHECK(mc_cfi_evaluate(bytes, ROOM, registers, 0, 0, read_words, words, &result) == EINVAL);
    room[ROOM - 1] = 1; /* its one byte would lie behind the end */
    CHECK(mc_cfi_evaluate(bytes, ROOM - 1, registers, 0, 0, read_words, words, &result) == EINVAL);
}

/* Random damage to records, programs and expressions at the very end of the readable bytes. Nothing
 * to compare: it must come back, and did not read behind the end if this process lives. */
static void survives_random_input(void)
{
    uint64_t seed = 0x2545f4914f6cdd1d;
    unsigned accepted = 0;
    for (unsigned i = 0; i < 300000; i++) {
        uint8_t program[48], code[24];
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        uint64_t bits = seed;
        for (size_t k = 0; k < sizeof program; k++)
            bits = bits * 6364136223846793005u + 1, program[k] = (uint8_t)(bits >> 56);
        for (size_t k = 0; k < sizeof code; k++)
            bits = bits * 6364136223846793005u + 1, code[k] = (uint8_t)(bits >> 56);
        accepted += evaluate(code, bits % sizeof code, (int)(bits & 1)) == 0;
        accepted += run_at((unsigned)(seed & 0xfff), program, seed >> 20 & 31) == 0;
        /* then the same records with a few bytes changed, moved to the end of the room */
        size_t size = (size_t)(out - room);
        for (unsigned k = 0; k < 3; k++) {
            bits = bits * 6364136223846793005u + 1;
            size_t place = (bits >> 40) % 64;
            room[bits >> 60 & 1 ? place : FDE_AT + place] = (uint8_t)(bits >> 32);
        }
        size &= ~(size_t)7;
        memmove(room + ROOM - size, room, size);
        if (mc_cfi_parse(bytes, room + ROOM - size + FDE_AT, &entry) == 0)
            accepted += mc_cfi_row_at(&entry, entry.begin + (seed & 63), &row) == 0;
    }
    CHECK(accepted > 1000); /* or nothing got past the first check */
}

static void packs_rules(void)
{
    static const intptr_t cfas[] = {8, 16, 0, -8, 4096, (1 << 22) - 8, -(1 << 22)};
    static const intptr_t bps[] = {0, 16, 2040};
    for (size_t i = 0; i < sizeof cfas / sizeof *cfas; i++) {
        for (size_t k = 0; k < 3; k++) {
            const uintptr_t key = 0x7ffff7654321;
            uint64_t rule = mc_rule_make(MC_RULE_BP, cfas[i], bps[k]);
            uint64_t sealed = mc_rule_seal(rule, key);
            CHECK(mc_rule_fits(cfas[i], bps[k]) && mc_rule_is_data(rule));
            CHECK(mc_rule_kind(rule) == MC_RULE_BP && mc_rule_cfa(rule) == cfas[i]);
            CHECK(mc_rule_bp(rule) == (uintptr_t)bps[k] && mc_rule_seal(sealed, key) == rule);
            CHECK(!mc_rule_is_data(mc_rule_seal(sealed, key ^ 1 << 14))); /* same place */
            CHECK(!mc_rule_is_data(mc_rule_seal(sealed, key ^ 1ul << 46)));
            CHECK(!mc_rule_is_data(sealed)); /* so it is not EMPTY */
        }
    }
    CHECK(mc_rule_is_key(1 << 14) && mc_rule_is_key((1ul << 47) - 1));
    CHECK(!mc_rule_is_key((1 << 14) - 1) && !mc_rule_is_key(1ul << 47) && !mc_rule_is_key(-1ul));
    CHECK(!mc_rule_fits(12, 0) && !mc_rule_fits(1 << 22, 0) && !mc_rule_fits(8, 2048));
    CHECK(!mc_rule_fits(8, -8) && !mc_rule_fits(8, 4) && !mc_rule_fits(-(1 << 22) - 8, 0));
}

int main(void)
{
    make_room();
    TEST(parses_entries);
    TEST(follows_the_location);
    TEST(finds_the_cfa);
    TEST(finds_registers);
    TEST(restores);
    TEST(refuses_damaged_programs);
    TEST(refuses_damaged_records);
    TEST(evaluates_constants);
    TEST(evaluates_the_stack);
    TEST(evaluates_arithmetic);
    TEST(evaluates_branches);
    TEST(refuses_damaged_expressions);
    TEST(survives_random_input);
    TEST(packs_rules);
    return check_failed_tests != 0;
}
