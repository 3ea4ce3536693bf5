/* SPDX-License-Identifier: MIT */
/* The exact walk (contract in unwind_exact.h).
 *
 * Invariants: 1. Every read of the stack goes through mc_stack_read. 2. A walk ends: it writes at
 * most `max` frames, each step writes one, and steps that do not move outwards are counted. */
#include "unwind_exact.h"

#include <errno.h>
#include <string.h>

#include "cfi.h"
#include "rules.h"
#include "unwind_machine.h"

enum {
    /* Steps whose caller does not lie above the callee: signal frames on an alternate stack, split
     * stacks, coroutines that unwind into their resumer. More of them is a loop. */
    SWITCHES = 64,
    LOWEST_CODE = 65536, /* vm.mmap_min_addr's default: nothing is mapped below */
};

struct walk {
    uintptr_t registers[MC_REG_COUNT];
    uintptr_t known;
    struct mc_stack stack;
    struct mc_cfi_entry entry;
    struct mc_cfi_row row;
    int interrupted; /* the pc is exact, not a return address */
    int guessed;
    unsigned switches;
    unsigned flags;
};

_Static_assert(sizeof(struct mc_unwind_start) == (MC_REG_COUNT + 1) * sizeof(uintptr_t),
               "mc_unwind_start is the array of registers and `known`");

static int read_stack(void *memory, uintptr_t address, unsigned size, uintptr_t *value)
{
    return mc_stack_read(memory, address, size, value);
}

static int is_plausible(const struct mc_stack *stack, uintptr_t pc)
{
    int on_stack = pc >= stack->low && pc < stack->high;
    return pc >= LOWEST_CODE && !(pc >> MC_RULE_KEY_BITS) && !on_stack;
}

/* The frame of an interrupted instruction that is first or last of its function, if what would then be the return
 * address is behind a call: hand-written code pushes rbp after other registers. */
static int guess_entry(struct mc_stack *stack, uintptr_t *sp, uintptr_t *bp, uintptr_t *pc)
{
    uintptr_t saved[2] = {0, 0};
    int depth = mc_machine_entry_depth(*pc - 1);
    size_t size = depth < 0 ? 0 : (size_t)(depth + 1) * sizeof *saved;
    if (size == 0 || mc_stack_reach(stack, *sp, size)) return 0;
    memcpy(saved, (const void *)*sp, size);
    if (!is_plausible(stack, saved[depth]) || !mc_machine_is_after_call(saved[depth])) return 0;
    *sp += size;
    *pc = saved[depth];
    if (depth == 1) *bp = saved[0];
    return 1;
}

unsigned mc_unwind_guess(struct mc_stack *stack, int interrupted, uintptr_t *sp, uintptr_t *bp,
                         uintptr_t *pc)
{
    uintptr_t frame = *bp, saved[2];
    if (interrupted && guess_entry(stack, sp, bp, pc)) return 0;
    /* The ABI marks the outermost frame with a zero frame pointer; the loader's entry code has no
     * information at all and ends where the kernel put the stack. */
    if (frame == 0 || mc_stack_is_main_end(*sp)) return MC_UNWIND_COMPLETE;
    if (frame % 8 || frame < *sp || mc_stack_reach(stack, frame, sizeof saved))
        return MC_UNWIND_STOPPED | MC_UNWIND_NO_INFO;
    memcpy(saved, (const void *)frame, sizeof saved);
    if (saved[1] == 0) return MC_UNWIND_COMPLETE;
    if (!is_plausible(stack, saved[1])) return MC_UNWIND_STOPPED | MC_UNWIND_NO_INFO;
    *sp = frame + 16;
    *bp = saved[0];
    *pc = saved[1];
    return 0;
}

/* The entry and row for the current pc: 0, ECHILD where a stack was begun by hand, or the errors of
 * mc_cfi_find. */
static int find_row(struct walk *walk)
{
    uintptr_t pc = walk->registers[MC_REG_PC] - !walk->interrupted;
    if (walk->guessed && !mc_rule_enter_guess()) return ENOENT;
    int may_go = mc_rule_unloading(__atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE)) != 0;
    int error = mc_cfi_find(pc, may_go, &walk->entry);
    if (error == ENOENT && !walk->interrupted && mc_cfi_is_start(pc + 1, may_go)) error = ECHILD;
    if (!error) error = mc_cfi_row_at(&walk->entry, pc, &walk->row);
    if (walk->guessed) mc_rule_leave_guess();
    return error;
}

static int find_cfa(struct walk *walk, uintptr_t *cfa)
{
    const struct mc_cfi_row *row = &walk->row;
    if (row->cfa_is_expression)
        return mc_cfi_evaluate(walk->entry.bytes, row->cfa_value, walk->registers, walk->known, 0,
                               read_stack, &walk->stack, cfa);
    if (!(walk->known >> row->cfa_register & 1)) return EINVAL;
    *cfa = walk->registers[row->cfa_register] + (uintptr_t)(intptr_t)row->cfa_value;
    return 0;
}

/* The caller's value of register `i`; *slot is where it lies in memory, or 0. */
static int find_register(struct walk *walk, unsigned i, uintptr_t cfa, uintptr_t *value,
                         uintptr_t *slot)
{
    int32_t operand = walk->row.value[i];
    uintptr_t result = cfa;
    int error;
    *slot = 0;
    switch (walk->row.how[i]) {
    case MC_CFI_SAME: *value = walk->registers[i]; return walk->known >> i & 1 ? 0 : EINVAL;
    case MC_CFI_IN_REGISTER:
        *value = walk->registers[operand];
        return walk->known >> operand & 1 ? 0 : EINVAL;
    case MC_CFI_IS_CFA: *value = cfa + (uintptr_t)(intptr_t)operand; return 0;
    case MC_CFI_AT_CFA:
        *slot = cfa + (uintptr_t)(intptr_t)operand;
        return mc_stack_read(&walk->stack, *slot, sizeof *value, value);
    case MC_CFI_AT_EXPR:
    case MC_CFI_IS_EXPR:
        error = mc_cfi_evaluate(walk->entry.bytes, operand, walk->registers, walk->known, 1,
                                read_stack, &walk->stack, &result);
        if (error) return error;
        if (walk->row.how[i] == MC_CFI_IS_EXPR) {
            *value = result;
            return 0;
        }
        *slot = result;
        return mc_stack_read(&walk->stack, *slot, sizeof *value, value);
    default: return EINVAL; /* MC_CFI_UNDEFINED */
    }
}

/* Keeps the readable range around the new sp, and counts steps that do not move outwards. */
static unsigned moved(struct walk *walk, uintptr_t from)
{
    uintptr_t sp = walk->registers[MC_REG_SP];
    if (sp <= from && ++walk->switches > SWITCHES) return MC_UNWIND_STOPPED | MC_UNWIND_BAD_STACK;
    if (mc_stack_reach(&walk->stack, sp, 0)) mc_stack_find(&walk->stack, sp & ~(uintptr_t)7, 0);
    return 0;
}

/* The caller's registers by the row found. 0 or the flags to end with. */
static unsigned step_by_row(struct walk *walk, uintptr_t *slot)
{
    uintptr_t caller[MC_REG_COUNT], known = 0, cfa, unused;
    if (walk->row.how[MC_REG_PC] == MC_CFI_UNDEFINED) return MC_UNWIND_COMPLETE;
    int error = find_cfa(walk, &cfa);
    if (error) goto failed;
    /* On a stack that is probed as it is used: one probe a page instead of two a word. */
    if (cfa > walk->stack.high && cfa % 8 == 0) mc_stack_reach(&walk->stack, cfa, 0);
    for (unsigned i = 0; i < MC_REG_PC; i++) {
        if (i == MC_REG_SP && walk->row.how[i] == MC_CFI_SAME)
            caller[i] = cfa;
        else if (find_register(walk, i, cfa, &caller[i], &unused))
            continue;
        known |= (uintptr_t)1 << i;
    }
    error = find_register(walk, MC_REG_PC, cfa, &caller[MC_REG_PC], slot);
    if (error) goto failed;
    if (!(known >> MC_REG_SP & 1)) return MC_UNWIND_STOPPED | MC_UNWIND_BAD_STACK;
    uintptr_t from = walk->registers[MC_REG_SP];
    memcpy(walk->registers, caller, sizeof caller);
    walk->known = known | (uintptr_t)1 << MC_REG_PC;
    walk->interrupted = walk->entry.signal_frame;
    if (walk->interrupted) walk->flags |= MC_UNWIND_SIGNAL;
    return moved(walk, from);
failed:
    return MC_UNWIND_STOPPED | (error == EFAULT ? MC_UNWIND_BAD_STACK : MC_UNWIND_BAD_INFO);
}

static unsigned step_by_guess(struct walk *walk, uintptr_t *slot)
{
    uintptr_t *registers = walk->registers;
    if (!(walk->known >> MC_REG_BP & 1)) return MC_UNWIND_STOPPED | MC_UNWIND_NO_INFO;
    uintptr_t pc = registers[MC_REG_PC] + (uintptr_t)walk->interrupted;
    unsigned ended = mc_unwind_guess(&walk->stack, walk->interrupted, &registers[MC_REG_SP],
                                     &registers[MC_REG_BP], &pc);
    walk->flags |= MC_UNWIND_GUESSED;
    if (ended) return ended;
    registers[MC_REG_PC] = pc;
    walk->known &= 1 << MC_REG_SP | 1 << MC_REG_BP | 1 << MC_REG_PC;
    walk->guessed = 1;
    walk->interrupted = 0;
    *slot = registers[MC_REG_SP] - sizeof(uintptr_t);
    return 0;
}

/* One frame outwards: 0, or the flags that say why there is none. */
static unsigned step(struct walk *walk, uintptr_t *slot)
{
    uintptr_t pc = walk->registers[MC_REG_PC];
    if (pc == 0 && !walk->interrupted) return MC_UNWIND_COMPLETE;
    switch (find_row(walk)) {
    case 0: return step_by_row(walk, slot);
    case ECHILD: return MC_UNWIND_COMPLETE;
    case ENOENT:
    case ESRCH: return step_by_guess(walk, slot);
    default: return MC_UNWIND_STOPPED | MC_UNWIND_BAD_INFO;
    }
}

size_t mc_unwind_exact(const struct mc_unwind_start *start, int running,
                       struct mc_frame_site *frames, size_t max, unsigned *flags)
{
    struct walk walk;
    size_t count = 0;
    memcpy(walk.registers, start, sizeof walk.registers);
    walk.known = start->known;
    walk.interrupted = 1;
    walk.guessed = 0;
    walk.switches = 0;
    walk.flags = MC_UNWIND_EXACT;
    mc_stack_find(&walk.stack, start->sp & ~(uintptr_t)7, running);
    for (;;) {
        uintptr_t slot = 0;
        unsigned ended = step(&walk, &slot);
        if (!ended && walk.registers[MC_REG_PC] == 0) ended = MC_UNWIND_COMPLETE;
        if (!ended && count == max) ended = MC_UNWIND_CUT;
        if (ended) {
            *flags = walk.flags | ended;
            return count;
        }
        frames[count].slot = slot;
        frames[count++].pc = walk.registers[MC_REG_PC] + (uintptr_t)walk.interrupted;
    }
}
