/* SPDX-License-Identifier: MIT */
/* Known errors of the oracle, libunwind 1.6.2, each by its exact circumstances; docs/unwinding.md
 * argues each. excuse() returns the number of the one that explains the first difference, at frame
 * `at`. Included by sampler.c only. */
#include "cfi.h"
#include "unwind_machine.h"

enum { NO_EXCUSE, LOW_SP, FRAME_OF_DATA, SKIPPED_CALLER, LATE_LOOKUP, IGNORED_SP };

static int has_information_at(uintptr_t pc)
{
    struct mc_cfi_entry entry;
    return mc_cfi_find(pc, 1, &entry) == 0;
}

/* Does unwind information cover the call (or the interrupted instruction) of frame i of ours? */
static int has_information(size_t i)
{
    return has_information_at(ours[i].pc - 1);
}

/* LOW_SP: stepping by frame pointer out of code without information libunwind finds the right
 * return address but then takes rsp to be its old value plus 16, whatever the frame's size. */
static int is_low_sp(size_t at)
{
    return theirs.pc[at] == ours[at].pc && theirs.cfa[at] == theirs.cfa[at - 1] + 16;
}

/* FRAME_OF_DATA: our walk ends at the first byte of a function, a return address that makecontext
 * pushed and that nothing describes, or stops in code without information whose frame pointer leads to
 * no code; libunwind guesses on and makes a frame out of data. */
static int is_frame_of_data(size_t count, unsigned flags, size_t at)
{
    uintptr_t pc = theirs.pc[at];
    if (at != count) return 0;
    if (flags & MC_UNWIND_STOPPED) return !in_a_module(pc) || !mc_machine_is_after_call(pc);
    return flags & MC_UNWIND_COMPLETE && mc_cfi_is_start(ours[at - 1].pc, 1) && !in_a_module(pc);
}

/* Does a call e8 rel32 in front of the return address `pc` lead to the function that `inside` is near
 * the start of? */
static int is_called_from(uintptr_t pc, uintptr_t inside)
{
    enum { NEAR = 256 };
    int32_t offset;
    if (!mc_machine_readable((pc - 5) & ~7ul) || !mc_machine_readable((pc - 1) & ~7ul)) return 0;
    memcpy(&offset, (const void *)(pc - 4), sizeof offset);
    return *(const unsigned char *)(pc - 5) == 0xe8 && inside - (pc + (uintptr_t)offset) < NEAR;
}

/* SKIPPED_CALLER: interrupted at the first or last instructions of a function without information,
 * whose return address is still on top of the stack, behind a call; libunwind follows the frame
 * pointer, which is the caller's or a caller's further out, or no frame's at all, and so leaves frames
 * out, finds none, or makes some out of data. Either the call leads to that very function, or
 * libunwind's next is one of ours further out, or lies behind no call. */
static int is_skipped_caller(const ucontext_t *context, size_t count, size_t at)
{
    if (!context || at != 1 || count < 2 || !mc_machine_is_after_call(ours[1].pc)) return 0;
    uintptr_t sp = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
    if (ours[1].slot != sp && ours[1].slot != sp + 8) return 0;
    if (theirs.count == 1 || is_called_from(ours[1].pc, ours[0].pc)) return 1;
    if (!in_a_module(theirs.pc[1]) || !mc_machine_is_after_call(theirs.pc[1])) return 1;
    for (size_t i = 2; i < count; i++)
        if (theirs.pc[1] == ours[i].pc) return 1;
    return 0;
}

/* IGNORED_SP: the row of frame at - 1 says where the caller's rsp is (setcontext: in the context it
 * loads); libunwind finds the return address that way but takes rsp to be the CFA all the same. */
static int is_ignored_sp(size_t at)
{
    struct mc_cfi_entry entry;
    struct mc_cfi_row row;
    uintptr_t pc = ours[at - 1].pc - 1;
    return theirs.pc[at] == ours[at].pc && mc_cfi_find(pc, 1, &entry) == 0 &&
           mc_cfi_row_at(&entry, pc, &row) == 0 && row.how[MC_REG_SP] == MC_CFI_AT_CFA;
}

/* The same further out: frame at - 1 is of code without information, so both step out of it by frame
 * pointer, and their step leads to one of our frames further out. */
static int is_further_out(size_t count, size_t at)
{
    for (size_t i = at + 1; i < count; i++)
        if (theirs.pc[at] == ours[i].pc) return 1;
    return 0;
}

static int excuse(const ucontext_t *context, size_t count, unsigned flags, size_t at)
{
    int both = at > 0 && at < count && at < (size_t)theirs.count;
    if (at > 0 && at < (size_t)theirs.count && !has_information(at - 1) &&
        is_frame_of_data(count, flags, at))
        return FRAME_OF_DATA;
    if (both && flags & MC_UNWIND_EXACT && is_ignored_sp(at)) return IGNORED_SP;
    if (!(flags & MC_UNWIND_GUESSED)) return NO_EXCUSE;
    if (both && !has_information(at - 1) && is_low_sp(at)) return LOW_SP;
    if (!has_information(0) && is_skipped_caller(context, count, at)) return SKIPPED_CALLER;
    if (both && !has_information(at - 1) && is_further_out(count, at)) return SKIPPED_CALLER;
    /* LATE_LOOKUP: after its special step out of a PLT stub without information libunwind looks up
     * the return address, not the call; a call at a function's end then has no information for it,
     * and LOW_SP follows. */
    if (context && both && at == 2 && !has_information(0) && has_information(1) &&
        !has_information_at(ours[1].pc) && is_low_sp(at))
        return LATE_LOOKUP;
    return NO_EXCUSE;
}
