/* SPDX-License-Identifier: MIT */
/* Rules: one word per return address, all that most frames need.
 *
 *   mc_rule_find     the rule for a key, from the shared table; computed and entered if missing
 *
 * A key is a return address, or the address of an instruction plus one where the code was
 * interrupted: the code it names is at key - 1.
 *
 *     63 ....... 44 | 43 .. 36 | 35 .. 33 | 32 ......... 0
 *     cfa, signed   | saved bp | kind     | tag of its key
 * where `cfa` is what to add to the base register and `saved bp` how far below the CFA the caller's
 * frame pointer is (0: still in the register), both in words of 8 bytes. The return address is
 * always the word below the CFA. What does not fit is MC_RULE_EXACT. The layout keeps the chain
 * from one return address to the next short: mask, load, shift, add.
 *
 * The table is one array of such words, two ways, shared by all threads without locks: an entry is
 * one aligned 64-bit word, so it is read and written whole, and it names its key exactly: the tag
 * together with the entry's place are all bits of the key. Hence a hit is never another address's
 * rule. rules.c argues why it is never one of an unloaded module either. */
#ifndef MC_RULES_H
#define MC_RULES_H

#include <stddef.h>
#include <stdint.h>

enum mc_rule_kind {
    MC_RULE_EMPTY = 0, /* no rule: tag 0, which is no key's, and the epoch above the kind */
    MC_RULE_SP = 1,    /* CFA = sp + cfa */
    MC_RULE_BP = 2,    /* CFA = bp + cfa */
    MC_RULE_DEREF = 3, /* CFA = word at bp + cfa, caller's bp = word at bp: realigned frames */
    MC_RULE_OUTERMOST = 4,
    MC_RULE_EXACT = 5, /* only the interpreter can do this frame */
    MC_RULE_NONE = 6,  /* code of a module, but without unwind information */
    MC_RULE_START = 7, /* none either, but a function begins at the key: see mc_cfi_is_start */
};

enum {
    MC_RULE_TAG_BITS = 33,
    MC_RULE_KIND_SHIFT = MC_RULE_TAG_BITS,
    MC_RULE_BP_SHIFT = MC_RULE_KIND_SHIFT + 3,
    MC_RULE_CFA_SHIFT = MC_RULE_BP_SHIFT + 8,
    MC_RULE_CFA_LIMIT = 8 << (63 - MC_RULE_CFA_SHIFT), /* 4 MiB */
    MC_RULE_BP_LIMIT = 8 << 8,

    /* 2^15 entries, 256 KiB of .bss, of which only touched pages exist. The program with the most
     * return addresses on its way to malloc that was measured, a C++ compiler, has 9,700; one in
     * eight of them then is in its second way. */
    MC_RULE_INDEX_BITS = 15,
    MC_RULE_COUNT = 1 << MC_RULE_INDEX_BITS,
    MC_RULE_OTHER_WAY = MC_RULE_COUNT / 2,

    /* User addresses have 47 bits. The few programs that ask for more (five-level paging) get their
     * rules computed each time. */
    MC_RULE_KEY_BITS = 47,
};

/* The top index bit tells the two ways apart, so the tag holds the key from that bit up. */
_Static_assert(MC_RULE_TAG_BITS == MC_RULE_KEY_BITS - (MC_RULE_INDEX_BITS - 1), "tag bits");

extern uint64_t mc_rule_table[MC_RULE_COUNT] __attribute__((visibility("hidden")));
/* Unfinished epoch begins. */
extern unsigned mc_rule_unloading __attribute__((visibility("hidden")));

static inline unsigned mc_rule_kind(uint64_t rule)
{
    return rule >> MC_RULE_KIND_SHIFT & 7;
}

static inline intptr_t mc_rule_cfa(uint64_t rule)
{
    return ((int64_t)rule >> MC_RULE_CFA_SHIFT) * 8;
}

static inline uintptr_t mc_rule_bp(uint64_t rule)
{
    return (rule >> MC_RULE_BP_SHIFT & 0xff) * 8;
}

static inline int mc_rule_fits(intptr_t cfa, intptr_t bp)
{
    return cfa % 8 == 0 && cfa >= -MC_RULE_CFA_LIMIT && cfa < MC_RULE_CFA_LIMIT && bp % 8 == 0 &&
           bp >= 0 && bp < MC_RULE_BP_LIMIT;
}

/* Requires mc_rule_fits(cfa, bp). Without a tag. */
static inline uint64_t mc_rule_make(enum mc_rule_kind kind, intptr_t cfa, intptr_t bp)
{
    return (uint64_t)(cfa / 8) << MC_RULE_CFA_SHIFT | (uint64_t)(bp / 8) << MC_RULE_BP_SHIFT |
           (uint64_t)kind << MC_RULE_KIND_SHIFT;
}

/* The low bits as they are: return addresses differ there, and every operation more is paid per
 * frame. */
static inline size_t mc_rule_place(uintptr_t key)
{
    return key & (MC_RULE_COUNT - 1);
}

static inline uint64_t mc_rule_tag(uintptr_t key)
{
    return key >> (MC_RULE_INDEX_BITS - 1);
}

/* All bits of the key count: one beyond MC_RULE_KEY_BITS is nobody's. */
static inline int mc_rule_is_for(uint64_t rule, uintptr_t key)
{
    return (rule & (((uint64_t)1 << MC_RULE_TAG_BITS) - 1)) == mc_rule_tag(key);
}

uint64_t mc_rule_miss(uintptr_t key, int guessed);

/* `guessed`: the key was not derived from unwind information, so its module need not be in use and
 * may be unloaded at any time. Requires mc_rule_unloading == 0, seen when the walk began. */
static inline uint64_t mc_rule_find(uintptr_t key, int guessed)
{
    uint64_t rule = __atomic_load_n(&mc_rule_table[mc_rule_place(key)], __ATOMIC_RELAXED);
    if (__builtin_expect(mc_rule_is_for(rule, key), 1)) return rule;
    return mc_rule_miss(key, guessed);
}

/* Brackets any reading of unwind information for a guessed address. enter returns 0 when another
 * thread is unloading modules: do not read, do not leave. */
int mc_rule_enter_guess(void);
void mc_rule_leave_guess(void);

struct mc_cfi_entry;

/* The compact form of what .eh_frame says for the code at key - 1; the architecture's part. Unless
 * the kind is EMPTY, NONE or START the entry it comes from is left in *entry. */
uint64_t mc_rule_compute(uintptr_t key, struct mc_cfi_entry *entry);

#endif
