/* SPDX-License-Identifier: MIT */
/* See filter.h. The instructions are those that the kernel's seccomp_check_filter() lets in. */
#include "filter.h"

#include <string.h>

#include "bits.h"

struct machine {
    uint32_t a, x;
    uint32_t memory[BPF_MEMWORDS];
    const struct seccomp_data *call;
};

enum { NEXT = -1, DIES = -2 };

/* A word of the call; 0 if there is none at that place. */
static int load_word(struct machine *machine, uint32_t offset)
{
    if (offset % sizeof(uint32_t) || offset > sizeof(*machine->call) - sizeof(uint32_t)) return 0;
    memcpy(&machine->a, (const char *)machine->call + offset, sizeof(uint32_t));
    return 1;
}

static int load(struct machine *machine, const struct sock_filter *at)
{
    int to_x = BPF_CLASS(at->code) == BPF_LDX;
    uint32_t value;
    switch (BPF_MODE(at->code) | BPF_SIZE(at->code)) {
    case BPF_ABS | BPF_W: return !to_x && load_word(machine, at->k) ? NEXT : DIES;
    case BPF_LEN | BPF_W: value = sizeof(*machine->call); break;
    case BPF_IMM: value = at->k; break; /* BPF_W is 0 */
    case BPF_MEM:
        if (at->k >= BPF_MEMWORDS) return DIES;
        value = machine->memory[at->k];
        break;
    default: return DIES;
    }
    *(to_x ? &machine->x : &machine->a) = value;
    return NEXT;
}

static int store(struct machine *machine, const struct sock_filter *at)
{
    if (at->k >= BPF_MEMWORDS) return DIES;
    machine->memory[at->k] = BPF_CLASS(at->code) == BPF_STX ? machine->x : machine->a;
    return NEXT;
}

static int compute(struct machine *machine, const struct sock_filter *at)
{
    uint32_t *a = &machine->a, operand = BPF_SRC(at->code) == BPF_X ? machine->x : at->k;
    switch (BPF_OP(at->code)) {
    case BPF_ADD: *a += operand; break;
    case BPF_SUB: *a -= operand; break;
    case BPF_MUL: *a *= operand; break;
    case BPF_DIV:
        if (!operand) return DIES; /* ends the program with 0, which is SECCOMP_RET_KILL */
        *a /= operand;
        break;
    case BPF_AND: *a &= operand; break;
    case BPF_OR: *a |= operand; break;
    case BPF_XOR: *a ^= operand; break;
    case BPF_LSH: *a <<= operand & 31; break;
    case BPF_RSH: *a >>= operand & 31; break;
    case BPF_NEG: *a = -*a; break;
    default: return DIES;
    }
    return NEXT;
}

/* How many instructions to skip, or DIES. */
static int64_t jump(const struct machine *machine, const struct sock_filter *at)
{
    uint32_t a = machine->a, operand = BPF_SRC(at->code) == BPF_X ? machine->x : at->k;
    int holds;
    switch (BPF_OP(at->code)) {
    case BPF_JA: return at->k;
    case BPF_JEQ: holds = a == operand; break;
    case BPF_JGT: holds = a > operand; break;
    case BPF_JGE: holds = a >= operand; break;
    case BPF_JSET: holds = (a & operand) != 0; break;
    default: return DIES;
    }
    return holds ? at->jt : at->jf;
}

/* What is returned; 0 is also for what the kernel does not know. */
static uint32_t result(const struct machine *machine, const struct sock_filter *at)
{
    if (BPF_RVAL(at->code) == BPF_A) return machine->a;
    return BPF_RVAL(at->code) == BPF_K ? at->k : SECCOMP_RET_KILL_THREAD;
}

static int move(struct machine *machine, const struct sock_filter *at)
{
    if (BPF_MISCOP(at->code) == BPF_TAX)
        machine->x = machine->a;
    else if (BPF_MISCOP(at->code) == BPF_TXA)
        machine->a = machine->x;
    else
        return DIES;
    return NEXT;
}

uint32_t mc_filter_run(const struct sock_filter *code, unsigned count,
                       const struct seccomp_data *call)
{
    struct machine machine = {.call = call};
    for (uint64_t at = 0; at < count; at++) {
        const struct sock_filter *now = &code[at];
        int64_t step = NEXT;
        switch (BPF_CLASS(now->code)) {
        case BPF_LD:
        case BPF_LDX: step = load(&machine, now); break;
        case BPF_ST:
        case BPF_STX: step = store(&machine, now); break;
        case BPF_ALU: step = compute(&machine, now); break;
        case BPF_JMP:
            step = jump(&machine, now);
            if (step >= 0) at += (uint64_t)step;
            break;
        case BPF_RET: return result(&machine, now);
        default: step = move(&machine, now); /* BPF_MISC */
        }
        if (step == DIES) return SECCOMP_RET_KILL_THREAD;
    }
    return SECCOMP_RET_KILL_THREAD;
}

int mc_filter_returns(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ERRNO: return 1;
    default: return 0;
    }
}
