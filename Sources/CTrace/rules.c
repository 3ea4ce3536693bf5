/* SPDX-License-Identifier: MIT */
/* The shared table of rules, and epochs (contract in rules.h and unwind.h).
 *
 * Entering a rule is: claim, compute, fill. The claim replaces what is there by EMPTY of the
 * current epoch, the fill replaces exactly that by the rule, both by compare-and-swap. The end of
 * an epoch increases the epoch and then makes every entry EMPTY of the new one. So:
 *   1. A fill that succeeds proves that no epoch ended between claim and fill: an EMPTY of an epoch
 *      comes back only after 2^28 more epochs.
 *   2. A rule computed before or while a module is unloaded is therefore either never entered or
 *      wiped by the end of that unloading.
 *   3. Until that end no walk reads the table: mc_rule_unloading() is not 0. A walk that began before
 *      the unloading reads rules of modules on its own stack only, which nobody may unload.
 * Two threads that claim the same entry: one fills it, the other's rule is used once and dropped.
 *
 * Modules that go without an epoch: libc unloads character set converters by itself. So for each
 * module met its extent is kept, and a module of another extent at the same addresses ends the
 * epoch when first a rule of it is missing.
 *
 * Guessed addresses (from a frame pointer in code without information) break 3: their module need
 * not be in use. Looking them up is bracketed, and an unloading by another thread waits for the
 * brackets to close. */
#include "rules.h"

#include <sched.h>

#include "bits.h"
#include "cfi.h"
#include "unwind.h"
#include "unwind_machine.h"

MC_TABLE uint64_t mc_rule_table[MC_RULE_COUNT] __attribute__((aligned(64)));
static _Thread_local unsigned own_unloading /* [owner] this thread's part of mc_rule_unloading() */
    __attribute__((tls_model("initial-exec")));
static unsigned guessing; /* [shared] walks inside enter_guess .. leave_guess */
/* [shared] Number 0 is what untouched memory says. */
uint64_t mc_rule_epoch = 1 << MC_RULE_EPOCH_SHIFT;

/* [shared] The modules rules came from, by their first page; written without care: a torn entry,
 * as an overwritten one, costs a needless wipe or a missed one of those that are only a second
 * net. */
MC_TABLE static struct {
    uintptr_t first, last, header;
} modules[256];

enum {
    /* How long an unloading waits for guesses: a thread may have been preempted inside one, or it
     * is our own, interrupted by a signal whose handler unloads. Then it goes on: the remaining
     * risk needs a guess that is wrong, preempted, and names the very module that goes. */
    WAITS = 1000,
};

static uint64_t empty_of(uint64_t number)
{
    return number << 3 & (((uint64_t)1 << MC_RULE_DATA_BITS) - 1);
}

/* Of a word as it is in the table. */
static int is_empty(uint64_t word)
{
    return mc_rule_is_data(word);
}

int mc_rule_enter_guess(void)
{
    __atomic_add_fetch(&guessing, 1, __ATOMIC_SEQ_CST);
    /* Sequentially consistent with begin's increment: one of the two sees the other. What this
     * thread itself unloads (its destructors run then) does not go while it is walking. */
    if (mc_rule_unloading(__atomic_load_n(&mc_rule_epoch, __ATOMIC_SEQ_CST)) == own_unloading)
        return 1;
    mc_rule_leave_guess();
    return 0;
}

void mc_rule_leave_guess(void)
{
    __atomic_sub_fetch(&guessing, 1, __ATOMIC_RELEASE);
}

/* Which of the two ways a new rule takes: an empty one if there is, else by a bit of the key, so
 * that two addresses that alternate do not both want the same. */
static uint64_t *choose(uintptr_t key)
{
    uint64_t *first = &mc_rule_table[mc_rule_place(key)];
    uint64_t *other = &mc_rule_table[mc_rule_place(key) ^ MC_RULE_OTHER_WAY];
    if (is_empty(__atomic_load_n(first, __ATOMIC_RELAXED))) return first;
    if (is_empty(__atomic_load_n(other, __ATOMIC_RELAXED))) return other;
    return key >> (MC_RULE_INDEX_BITS + 4) & 1 ? other : first;
}

static void wipe(void);

static uintptr_t exchange(uintptr_t *word, uintptr_t value)
{
    uintptr_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (old != value) __atomic_store_n(word, value, __ATOMIC_RELAXED);
    return old;
}

/* Is there another module now where an earlier one was? */
static int is_successor(const struct mc_cfi_entry *entry)
{
    size_t place = (entry->module_first >> 12) % (sizeof modules / sizeof *modules);
    uintptr_t first = exchange(&modules[place].first, entry->module_first);
    uintptr_t last = exchange(&modules[place].last, entry->module_last);
    uintptr_t header = exchange(&modules[place].header, entry->module_header);
    int overlap = first < entry->module_last && entry->module_first < last;
    return overlap && (last != entry->module_last || header != entry->module_header);
}

static uint64_t compute_and_enter(uintptr_t key)
{
    struct mc_cfi_entry from;
    uint64_t epoch =
        __atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE); /* pairs with end's increment */
    uint64_t *entry = choose(key);
    uint64_t there = __atomic_load_n(entry, __ATOMIC_RELAXED);
    uint64_t claim = empty_of(epoch >> MC_RULE_EPOCH_SHIFT);
    if (there != claim) {
        if (!__atomic_compare_exchange_n(entry, &there, claim, 0, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            return mc_rule_compute(key, &from);
    }
    from.module_first = 0;
    uint64_t rule = mc_rule_compute(key, &from);
    /* Code outside all modules may become a module's at the next dlopen, which starts no epoch. */
    if (mc_rule_kind(rule) == MC_RULE_EMPTY) return rule;
    if (from.module_first && is_successor(&from)) wipe(); /* after which the claim is void */
    __atomic_compare_exchange_n(entry, &claim, mc_rule_seal(rule, key), 0, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
    return rule;
}

uint64_t mc_rule_miss(uintptr_t key, int guessed)
{
    struct mc_cfi_entry unused;
    int known = mc_rule_is_key(key);
    uint64_t rule = mc_rule_at(mc_rule_place(key) ^ MC_RULE_OTHER_WAY, key);
    if (known && mc_rule_is_data(rule)) return rule;
    if (guessed && !mc_rule_enter_guess()) return MC_RULE_EMPTY;
    rule = known ? compute_and_enter(key) : mc_rule_compute(key, &unused);
    if (guessed) mc_rule_leave_guess();
    return rule;
}

void mc_unwind_epoch_begin(void)
{
    own_unloading++; /* first: a handler in between then refuses guesses, for which it need not */
    __atomic_add_fetch(&mc_rule_epoch, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < WAITS && __atomic_load_n(&guessing, __ATOMIC_SEQ_CST) != 0; i++)
        if (!__atomic_load_n(&mc_machine_no_calls, __ATOMIC_RELAXED)) sched_yield();
}

static void forget_modules(void)
{
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        __atomic_store_n(&modules[i].first, 0, __ATOMIC_RELAXED),
            __atomic_store_n(&modules[i].last, 0, __ATOMIC_RELAXED);
}

static void wipe(void)
{
    const uint64_t one = 1 << MC_RULE_EPOCH_SHIFT;
    uint64_t epoch = __atomic_add_fetch(&mc_rule_epoch, one, __ATOMIC_ACQ_REL);
    for (size_t i = 0; i < MC_RULE_COUNT; i++) {
        /* Pages never used stay untouched: zero is EMPTY of epoch 0, which is nobody's claim. */
        if (__atomic_load_n(&mc_rule_table[i], __ATOMIC_RELAXED) != 0)
            __atomic_store_n(&mc_rule_table[i], empty_of(epoch >> MC_RULE_EPOCH_SHIFT),
                             __ATOMIC_RELEASE);
    }
}

void mc_unwind_epoch_end(void)
{
    forget_modules();
    wipe();
    __atomic_sub_fetch(&mc_rule_epoch, 1, __ATOMIC_SEQ_CST);
    own_unloading--;
}

void mc_unwind_epoch_forked(void)
{
    __atomic_store_n(&guessing, 0, __ATOMIC_RELAXED);
    wipe();
    uint64_t others = mc_rule_unloading(mc_rule_epoch) - own_unloading; /* are not here */
    __atomic_sub_fetch(&mc_rule_epoch, others, __ATOMIC_SEQ_CST);
}
