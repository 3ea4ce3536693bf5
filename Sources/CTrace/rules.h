/* SPDX-License-Identifier: MIT */
/* Rules: one word per return address, all that most frames need.
 *
 *   mc_rule_find     the rule for a key, from the shared table; computed and entered if missing
 *
 * A key is a return address, or the address of an instruction plus one where the code was
 * interrupted: the code it names is at key - 1.
 *
 *     63 ......... 31 | 30 .. 23 | 22 .......... 3 | 2 .. 0
 *     tag of its key  | saved bp | cfa, signed     | kind       all below 31: the rule's data
 * where `cfa` is what to add to the base register, in bytes, a multiple of 8, and `saved bp` how
 * far below the CFA the caller's frame pointer is, in words of 8 bytes (0: still in the register).
 * The return address is always the word below the CFA. What does not fit is MC_RULE_EXACT.
 *
 * In the table a word is kept sealed: exclusive or with its key shifted up by 17. So one shift and
 * one exclusive or with the key that is looked up both test and yield it: what comes out is the
 * data if the keys agree in all bits, and 2^31 or more if they don't. And data with the saved bp
 * masked out, added to sp - MC_RULE_SP, is the CFA if the kind is MC_RULE_SP, and no multiple of 8
 * for any other kind: whoever knows what the CFA should be tests all of that by one comparison.
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
    MC_RULE_EMPTY = 0, /* no rule: in the table with tag 0, and the epoch above the kind */
    MC_RULE_SP = 1,    /* CFA = sp + cfa */
    MC_RULE_BP = 2,    /* CFA = bp + cfa */
    MC_RULE_DEREF = 3, /* CFA = word at bp + cfa, caller's bp = word at bp: realigned frames */
    MC_RULE_OUTERMOST = 4,
    MC_RULE_EXACT = 5, /* only the interpreter can do this frame */
    MC_RULE_NONE = 6,  /* code of a module, but without unwind information */
    MC_RULE_START = 7, /* none either, but a function begins at the key: see mc_cfi_is_start */
};

enum {
    MC_RULE_DATA_BITS = 31,
    MC_RULE_BP_SHIFT = 23,
    MC_RULE_CFA_LIMIT = 1 << 22, /* 4 MiB */
    MC_RULE_BP_LIMIT = 8 << 8,

    /* 2^15 entries, 256 KiB of .bss, of which only touched pages exist. The program with the most
     * return addresses on its way to malloc that was measured, a C++ compiler, has 9,700; one in
     * eight of them then is in its second way. */
    MC_RULE_INDEX_BITS = 15,
    MC_RULE_COUNT = 1 << MC_RULE_INDEX_BITS,
    MC_RULE_OTHER_WAY = MC_RULE_COUNT / 2,

    /* User addresses have 47 bits. The few programs that ask for more (five-level paging) get their
     * rules computed each time. So do keys in the lowest pages, where no code is, so that 0 is the
     * tag of no key. */
    MC_RULE_KEY_BITS = 47,
    MC_RULE_SEAL_SHIFT = 64 - MC_RULE_KEY_BITS,
};
#define MC_RULE_KEY_LEAST ((uintptr_t)1 << (MC_RULE_INDEX_BITS - 1))

/* The top index bit tells the two ways apart, so the tag holds the key from that bit up. */
_Static_assert(64 - MC_RULE_DATA_BITS == MC_RULE_KEY_BITS - (MC_RULE_INDEX_BITS - 1), "tag bits");

extern uint64_t mc_rule_table[MC_RULE_COUNT] __attribute__((visibility("hidden")));
/* The epoch's number above, which only grows: what was concluded from rules of an earlier one means nothing
 * any more. Below how many are unloading modules: unfinished epoch begins. So one comparison tells that the
 * epoch is a given one, and that nobody is. */
enum { MC_RULE_EPOCH_SHIFT = 16 };
extern uint64_t mc_rule_epoch __attribute__((visibility("hidden")));

static inline unsigned mc_rule_unloading(uint64_t epoch)
{
    return epoch & ((1u << MC_RULE_EPOCH_SHIFT) - 1);
}

/* Of data, as all that follow. */
static inline unsigned mc_rule_kind(uint64_t rule)
{
    return rule & 7;
}

static inline intptr_t mc_rule_cfa(uint64_t rule)
{
    return ((int32_t)((uint32_t)rule << 9) >> 9) & ~7;
}

static inline uintptr_t mc_rule_bp(uint64_t rule)
{
    return (rule >> MC_RULE_BP_SHIFT & 0xff) * 8;
}

/* Without the saved bp; an unsealed word of another key stays 2^31 or more. */
static inline uint64_t mc_rule_without_bp(uint64_t rule)
{
    return rule & ~((uint64_t)0xff << MC_RULE_BP_SHIFT);
}

static inline int mc_rule_fits(intptr_t cfa, intptr_t bp)
{
    return cfa % 8 == 0 && cfa >= -MC_RULE_CFA_LIMIT && cfa < MC_RULE_CFA_LIMIT && bp % 8 == 0 &&
           bp >= 0 && bp < MC_RULE_BP_LIMIT;
}

/* Requires mc_rule_fits(cfa, bp). */
static inline uint64_t mc_rule_make(enum mc_rule_kind kind, intptr_t cfa, intptr_t bp)
{
    return (uint64_t)(bp / 8) << MC_RULE_BP_SHIFT |
           ((uint64_t)cfa & ((1 << MC_RULE_BP_SHIFT) - 1)) | (uint64_t)kind;
}

/* The low bits as they are: return addresses differ there, and every operation more is paid per
 * frame. */
static inline size_t mc_rule_place(uintptr_t key)
{
    return key & (MC_RULE_COUNT - 1);
}

/* Either way. Requires mc_rule_is_key(key) to mean anything. */
static inline uint64_t mc_rule_seal(uint64_t word, uintptr_t key)
{
    return word ^ key << MC_RULE_SEAL_SHIFT;
}

/* Can there be an entry for it? */
static inline int mc_rule_is_key(uintptr_t key)
{
    return key - MC_RULE_KEY_LEAST < ((uintptr_t)1 << MC_RULE_KEY_BITS) - MC_RULE_KEY_LEAST;
}

/* Is this what came out of the seal, or another key's? */
static inline int mc_rule_is_data(uint64_t unsealed)
{
    return unsealed >> MC_RULE_DATA_BITS == 0;
}

/* The entry at `place`, unsealed for the key. */
static inline uint64_t mc_rule_at(size_t place, uintptr_t key)
{
    return mc_rule_seal(__atomic_load_n(&mc_rule_table[place], __ATOMIC_RELAXED), key);
}

uint64_t mc_rule_miss(uintptr_t key, int guessed);

/* `guessed`: the key was not derived from unwind information, so its module need not be in use and
 * may be unloaded at any time. Requires that mc_rule_unloading() was 0 when the walk began. */
static inline uint64_t mc_rule_find(uintptr_t key, int guessed)
{
    uint64_t rule = mc_rule_at(mc_rule_place(key), key);
    if (__builtin_expect(mc_rule_is_data(rule) && mc_rule_is_key(key), 1)) return rule;
    return mc_rule_miss(key, guessed);
}

/* Brackets any reading of unwind information for a guessed address. enter returns 0 when another
 * thread is unloading modules: do not read, do not leave. */
int mc_rule_enter_guess(void);
void mc_rule_leave_guess(void);

struct mc_cfi_entry;

/* The data of what .eh_frame says for the code at key - 1; the architecture's part. Unless
 * the kind is EMPTY, NONE or START the entry it comes from is left in *entry. */
uint64_t mc_rule_compute(uintptr_t key, struct mc_cfi_entry *entry);

#endif
