/* SPDX-License-Identifier: MIT */
/* The x86-64 part of the unwinder: the fast walk, compact rules from rows, signal contexts, and
 * what is asked of processor and kernel.
 *
 * The fast walk knows three registers: pc, sp, bp. A frame whose rule needs another, or whose
 * memory is not where the rule says, makes the whole walk start again, exactly: at the start all
 * registers are known, here they are not. Each frame costs one chain of dependent loads: return
 * address -> rule -> next return address; all checks hang off that chain and are predicted. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "unwind_x86_64.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "cfi.h"
#include "rules.h"
#include "unwind.h"
#include "unwind_exact.h"
#include "unwind_machine.h"
#include "unwind_stack.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

uintptr_t mc_machine_thread_pointer(void)
{
    uintptr_t self;
    __asm__("movq %%fs:0, %0" : "=r"(self)); /* the ABI: the first word of the TCB is its address */
    return self;
}

/* rt_sigprocmask(-1, address, NULL, 8): EINVAL for the -1 once the mask has been read. */
static long probe(uintptr_t address)
{
    long result;
    register long size __asm__("r10") = 8;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_rt_sigprocmask), "D"(-1L), "S"(address), "d"(0L), "r"(size)
                     : "rcx", "r11", "memory");
    return result;
}

unsigned char mc_machine_no_calls;

int mc_machine_readable(uintptr_t address)
{
    /* Emulated kernels may look at `how` first and then say EINVAL to everything. One question
     * whose answer is known tells: 0 not asked yet, 1 trustworthy, 2 not. */
    static unsigned char trust;
    if (unlikely(__atomic_load_n(&mc_machine_no_calls, __ATOMIC_RELAXED))) return 0;
    if (unlikely(!__atomic_load_n(&trust, __ATOMIC_RELAXED)))
        __atomic_store_n(&trust, probe(-(uintptr_t)4096) == -EFAULT ? 1 : 2, __ATOMIC_RELAXED);
    return __atomic_load_n(&trust, __ATOMIC_RELAXED) == 1 && probe(address) == -EINVAL;
}

int mc_machine_entry_depth(uintptr_t pc)
{
    static const struct {
        unsigned char size, code[4];
        signed char depth;
    } known[] = {
        {1, {0x55}, 0},                   /* push %rbp */
        {1, {0xc3}, 0},                   /* ret */
        {2, {0xff, 0x25}, 0},             /* jmp *x(%rip) */
        {3, {0xf2, 0xff, 0x25}, 0},       /* bnd jmp *x(%rip) */
        {4, {0xf3, 0x0f, 0x1e, 0xfa}, 0}, /* endbr64 */
        {3, {0x48, 0x89, 0xe5}, 1},       /* mov %rsp, %rbp */
        {3, {0x48, 0x8b, 0xec}, 1},       /* the same, other encoding */
    };
    unsigned char code[4];
    if (!mc_machine_readable(pc & ~(uintptr_t)7) || !mc_machine_readable((pc + 3) & ~(uintptr_t)7))
        return -1;
    __builtin_memcpy(code, (const void *)pc, sizeof code);
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (memcmp(code, known[i].code, known[i].size) == 0) return known[i].depth;
    return -1;
}

/* e8 and an offset, or ff /2 with any operand. */
int mc_machine_is_after_call(uintptr_t pc)
{
    unsigned char code[7];
    uintptr_t first = pc - sizeof code;
    if (!mc_machine_readable(first & ~(uintptr_t)7) ||
        !mc_machine_readable((pc - 1) & ~(uintptr_t)7))
        return 0;
    __builtin_memcpy(code, (const void *)first, sizeof code);
    if (code[2] == 0xe8) return 1;
    for (unsigned i = 0; i + 1 < sizeof code; i++)
        if (code[i] == 0xff && (code[i + 1] >> 3 & 7) == 2) return 1;
    return 0;
}

/* Is the expression exactly: the word at rbp + *offset (`deref`), or rbp + 0 itself? */
static int is_bp_expression(const struct mc_cfi_entry *entry, int32_t expression, int deref,
                            int64_t *offset)
{
    enum { BREG_BP = 0x70 + MC_REG_BP, DEREF = 0x06 };
    struct mc_cfi_cursor code = {entry->bytes.first + expression, entry->bytes.last, 0};
    uint64_t size = mc_cfi_take_uleb(&code);
    const uint8_t *first = code.at;
    if (mc_cfi_take(&code, 1) != BREG_BP) return 0;
    *offset = mc_cfi_take_sleb(&code);
    if (deref && mc_cfi_take(&code, 1) != DEREF) return 0;
    return !code.bad && (uint64_t)(code.at - first) == size;
}

/* A rule that is its kind. */
static uint64_t bare(enum mc_rule_kind kind)
{
    return mc_rule_make(kind, 0, 0);
}

/* gcc's frame of a function that realigns its stack: CFA kept in memory below the saved bp. */
static uint64_t realigned_rule(const struct mc_cfi_entry *entry, const struct mc_cfi_row *row)
{
    int64_t cfa, bp;
    if (row->how[MC_REG_BP] != MC_CFI_AT_EXPR ||
        !is_bp_expression(entry, row->cfa_value, 1, &cfa) ||
        !is_bp_expression(entry, row->value[MC_REG_BP], 0, &bp) || bp != 0 || !mc_rule_fits(cfa, 0))
        return bare(MC_RULE_EXACT);
    return mc_rule_make(MC_RULE_DEREF, cfa, 0);
}

/* The frame the kernel puts between a signal handler and what it interrupted: recognised by libc's
 * code for the return from it. As a rule it is EXACT, with a mark where others have the CFA. */
enum { SIGNAL_MARK = 8 };

static int is_signal_return(const struct mc_cfi_entry *entry, uintptr_t key)
{
    /* mov $15, %rax; syscall */
    static const unsigned char code[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
    return entry->signal_frame && !memcmp((const void *)key, code, sizeof code);
}

static uint64_t rule_of_row(const struct mc_cfi_entry *entry, const struct mc_cfi_row *row)
{
    if (row->how[MC_REG_PC] == MC_CFI_UNDEFINED) return bare(MC_RULE_OUTERMOST);
    if (entry->signal_frame || row->how[MC_REG_PC] != MC_CFI_AT_CFA ||
        row->value[MC_REG_PC] != -8 || row->how[MC_REG_SP] != MC_CFI_SAME)
        return bare(MC_RULE_EXACT);
    if (row->cfa_is_expression) return realigned_rule(entry, row);
    if (row->cfa_register != MC_REG_SP && row->cfa_register != MC_REG_BP)
        return bare(MC_RULE_EXACT);
    intptr_t bp = 0;
    if (row->how[MC_REG_BP] == MC_CFI_AT_CFA && row->value[MC_REG_BP] <= -16)
        bp = -(intptr_t)row->value[MC_REG_BP];
    else if (row->how[MC_REG_BP] != MC_CFI_SAME)
        return bare(MC_RULE_EXACT);
    if (!mc_rule_fits(row->cfa_value, bp)) return bare(MC_RULE_EXACT);
    return mc_rule_make(row->cfa_register == MC_REG_SP ? MC_RULE_SP : MC_RULE_BP, row->cfa_value,
                        bp);
}

uint64_t mc_rule_compute(uintptr_t key, struct mc_cfi_entry *entry)
{
    struct mc_cfi_row row;
    switch (mc_cfi_find(key - 1, 0, entry)) {
    case 0: break;
    case ESRCH: return bare(MC_RULE_EMPTY);
    case ENOENT: return bare(mc_cfi_is_start(key, 0) ? MC_RULE_START : MC_RULE_NONE);
    default: return bare(MC_RULE_EXACT); /* whose walk says what is wrong with it */
    }
    if (is_signal_return(entry, key)) return mc_rule_make(MC_RULE_EXACT, SIGNAL_MARK, 0);
    if (mc_cfi_row_at(entry, key - 1, &row)) return bare(MC_RULE_EXACT);
    return rule_of_row(entry, &row);
}

/* What the fast walk knows of the frame it is at. */
struct fast {
    uintptr_t sp, bp;
    uintptr_t key;
    struct mc_stack stack;
    unsigned flags;
    int guessed;
    int interrupted;  /* `key` is one more than an interrupted instruction, no return address */
    unsigned signals; /* signal frames met */
    uintptr_t slot;   /* after a step: what holds `key` */
};

/* The builtin, by name: under -fno-builtin memcpy would be a call, twice a frame. */
static inline uintptr_t word_at(uintptr_t address)
{
    uintptr_t word;
    __builtin_memcpy(&word, (const void *)address, sizeof word);
    return word;
}

/* From a signal handler's frame to the code that it interrupted: the handler's return address was
 * popped, so sp is at the ucontext, where the kernel kept the registers. The code may be on another
 * stack. Returns as rare_step(). */
static unsigned signal_step(struct fast *f)
{
    enum { SIGNALS = 16 }; /* more in one stack are taken for a circle */
    const size_t registers = offsetof(ucontext_t, uc_mcontext.gregs);
    const uintptr_t place = f->sp + registers;
    if (++f->signals > SIGNALS || mc_stack_reach(&f->stack, place, sizeof(gregset_t)))
        return MC_UNWIND_EXACT;
    f->slot = place + REG_RIP * sizeof(greg_t);
    f->sp = word_at(place + REG_RSP * sizeof(greg_t));
    f->bp = word_at(place + REG_RBP * sizeof(greg_t));
    f->key = word_at(f->slot) + 1;
    f->interrupted = 1;
    f->flags |= MC_UNWIND_SIGNAL;
    if (f->sp % 8) return MC_UNWIND_EXACT;
    if (f->sp < f->stack.low || mc_stack_reach(&f->stack, f->sp, 0))
        mc_stack_find(&f->stack, f->sp, 0);
    return f->stack.low > f->sp ? MC_UNWIND_EXACT : 0;
}

/* The frames that are rare. 0: stepped, *f is the caller; else the flags to end with, where
 * MC_UNWIND_EXACT alone asks for the exact walk. */
static __attribute__((noinline)) unsigned rare_step(struct fast *f, uint64_t rule)
{
    uintptr_t slot;
    switch (mc_rule_kind(rule)) {
    case MC_RULE_OUTERMOST: return MC_UNWIND_COMPLETE;
    case MC_RULE_START:
        if (!f->interrupted) return MC_UNWIND_COMPLETE;
        __attribute__((fallthrough));
    case MC_RULE_NONE:
    case MC_RULE_EMPTY: {
        if (f->key == 0) return MC_UNWIND_COMPLETE;
        unsigned ended = mc_unwind_guess(&f->stack, f->interrupted, &f->sp, &f->bp, &f->key);
        f->flags |= MC_UNWIND_GUESSED;
        f->guessed = 1;
        f->interrupted = 0;
        f->slot = f->sp - 8;
        return ended;
    }
    case MC_RULE_SP:
    case MC_RULE_BP: /* above the known part of the stack, or not sane */
        slot = (mc_rule_kind(rule) == MC_RULE_SP ? f->sp : f->bp) + (uintptr_t)mc_rule_cfa(rule);
        if (slot % 8 || slot <= f->sp || slot - mc_rule_bp(rule) < f->sp ||
            mc_stack_reach(&f->stack, f->sp, slot - f->sp))
            return MC_UNWIND_EXACT;
        f->sp = slot;
        if (mc_rule_bp(rule)) f->bp = word_at(slot - mc_rule_bp(rule));
        break;
    case MC_RULE_DEREF:
        slot = f->bp + (uintptr_t)mc_rule_cfa(rule);
        if (f->bp % 8 || slot < f->sp || f->bp < f->sp ||
            mc_stack_reach(&f->stack, f->bp, sizeof slot) ||
            mc_stack_reach(&f->stack, slot, sizeof slot))
            return MC_UNWIND_EXACT;
        slot = word_at(slot);
        if (slot % 8 || slot <= f->sp || mc_stack_reach(&f->stack, f->sp, slot - f->sp))
            return MC_UNWIND_EXACT;
        f->sp = slot;
        f->bp = word_at(f->bp);
        break;
    default: return mc_rule_cfa(rule) == SIGNAL_MARK ? signal_step(f) : MC_UNWIND_EXACT;
    }
    f->slot = f->sp - 8;
    f->key = word_at(f->slot);
    f->interrupted = 0;
    return 0;
}

static inline uintptr_t rotate_right(uintptr_t value, unsigned count)
{
    return value >> count | value << (64 - count);
}

/* `f` is handed to rare_step by address; the loop keeps what it needs in registers beside it. */
static inline size_t walk(const struct mc_unwind_start *start, int running,
                          struct mc_frame_site *frames, size_t max, unsigned *flags)
{
    struct fast f = {.interrupted = 1};
    uintptr_t sp = start->sp, bp = start->bp, key = start->pc + 1;
    size_t count = 0;
    /* Acquire: pairs with mc_unwind_epoch_end, whose wipe comes before its decrement. */
    if (unlikely(mc_rule_unloading(__atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE)) || sp % 8))
        return mc_unwind_exact(start, running, frames, max, flags);
    mc_stack_find(&f.stack, sp, running);
    if (unlikely(f.stack.low > sp)) return mc_unwind_exact(start, running, frames, max, flags);
    uintptr_t high = f.stack.high;
    for (;;) {
        uint64_t rule = mc_rule_find(key, f.guessed);
        uintptr_t cfa = (mc_rule_kind(rule) & MC_RULE_BP ? bp : sp) + (uintptr_t)mc_rule_cfa(rule);
        uintptr_t saved = mc_rule_bp(rule);
        /* One comparison for three facts: sp < cfa, cfa <= high, cfa % 8 == 0. */
        if (likely(mc_rule_kind(rule) - 1 < 2 && rotate_right(cfa - sp - 8, 3) < (high - sp) >> 3 &&
                   cfa - saved >= sp)) {
            if (saved) bp = word_at(cfa - saved);
            key = word_at(cfa - 8);
            sp = cfa;
            f.interrupted = 0;
            f.slot = cfa - 8;
        } else {
            f.sp = sp, f.bp = bp, f.key = key;
            unsigned ended = rare_step(&f, rule);
            if (ended == MC_UNWIND_EXACT)
                return mc_unwind_exact(start, running, frames, max, flags);
            if (ended) {
                *flags = f.flags | ended;
                return count;
            }
            sp = f.sp, bp = f.bp, key = f.key, high = f.stack.high;
        }
        if (unlikely(key == 0 || count == max)) break;
        frames[count].slot = f.slot;
        frames[count++].pc = key;
    }
    *flags = f.flags | (key == 0 ? MC_UNWIND_COMPLETE : MC_UNWIND_CUT);
    return count;
}

size_t mc_unwind(const struct mc_unwind_start *start, struct mc_frame_site *frames, size_t max,
                 unsigned *flags)
{
    return walk(start, 1, frames, max, flags);
}

size_t mc_unwind_context(const void *ucontext, struct mc_frame_site *frames, size_t max,
                         unsigned *flags)
{
    /* DWARF number -> index in the context's array. */
    static const unsigned char places[MC_REG_COUNT] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP,
    };
    const ucontext_t *context = ucontext;
    uintptr_t registers[MC_REG_COUNT + 1];
    struct mc_unwind_start start;
    *flags = MC_UNWIND_CUT;
    if (max == 0) return 0;
    for (unsigned i = 0; i < MC_REG_COUNT; i++)
        registers[i] = (uintptr_t)context->uc_mcontext.gregs[places[i]];
    registers[MC_REG_COUNT] = MC_REG_ALL;
    memcpy(&start, registers, sizeof start);
    frames[0].slot = 0;
    frames[0].pc = start.pc + 1;
    return 1 + walk(&start, 0, frames + 1, max - 1, flags);
}
