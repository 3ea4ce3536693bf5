/* SPDX-License-Identifier: MIT */
/* DWARF expressions, as far as call frames use them (contract in cfi.h).
 *
 * A small stack machine: constants, registers plus an offset, arithmetic, comparison, memory and
 * branches. Everything that needs type or location information of a debugger (DW_OP_fbreg,
 * DW_OP_call*, pieces) is refused, as DWARF 5 section 6.4.2 forbids it here. A branch may go
 * backwards, so the number of steps is bounded. */
#include "cfi.h"

#include <errno.h>

enum {
    EXPRESSION_STACK = 32,
    EXPRESSION_STEPS = 1000,

    OP_ADDR = 0x03,
    OP_DEREF = 0x06,
    OP_CONST1U = 0x08,
    OP_CONST1S = 0x09,
    OP_CONST2U = 0x0a,
    OP_CONST2S = 0x0b,
    OP_CONST4U = 0x0c,
    OP_CONST4S = 0x0d,
    OP_CONST8U = 0x0e,
    OP_CONST8S = 0x0f,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_DUP = 0x12,
    OP_DROP = 0x13,
    OP_OVER = 0x14,
    OP_PICK = 0x15,
    OP_SWAP = 0x16,
    OP_ROT = 0x17,
    OP_ABS = 0x19,
    OP_AND = 0x1a,
    OP_DIV = 0x1b,
    OP_MINUS = 0x1c,
    OP_MOD = 0x1d,
    OP_MUL = 0x1e,
    OP_NEG = 0x1f,
    OP_NOT = 0x20,
    OP_OR = 0x21,
    OP_PLUS = 0x22,
    OP_PLUS_UCONST = 0x23,
    OP_SHL = 0x24,
    OP_SHR = 0x25,
    OP_SHRA = 0x26,
    OP_XOR = 0x27,
    OP_BRA = 0x28,
    OP_EQ = 0x29,
    OP_GE = 0x2a,
    OP_GT = 0x2b,
    OP_LE = 0x2c,
    OP_LT = 0x2d,
    OP_NE = 0x2e,
    OP_SKIP = 0x2f,
    OP_LIT0 = 0x30,
    OP_LIT31 = 0x4f,
    OP_BREG0 = 0x70,
    OP_BREG31 = 0x8f,
    OP_BREGX = 0x92,
    OP_DEREF_SIZE = 0x94,
    OP_NOP = 0x96,
};

struct evaluation {
    struct mc_cfi_cursor code;
    const uint8_t *first;
    const uintptr_t *registers;
    uintptr_t known;
    mc_cfi_read *read;
    void *memory;
    int error;
    unsigned depth;
    uintptr_t stack[EXPRESSION_STACK];
};

static void fail(struct evaluation *e, int error)
{
    if (!e->error) e->error = error;
}

static void push(struct evaluation *e, uintptr_t value)
{
    if (e->depth == EXPRESSION_STACK)
        fail(e, EINVAL);
    else
        e->stack[e->depth++] = value;
}

static uintptr_t pop(struct evaluation *e)
{
    if (e->depth == 0) fail(e, EINVAL);
    return e->depth ? e->stack[--e->depth] : 0;
}

/* The entry `index` below the top. */
static uintptr_t peek(struct evaluation *e, uint64_t index)
{
    if (index >= e->depth) fail(e, EINVAL);
    return index < e->depth ? e->stack[e->depth - 1 - index] : 0;
}

static void push_register(struct evaluation *e, uint64_t reg)
{
    int64_t offset = mc_cfi_take_sleb(&e->code);
    if (reg >= MC_REG_COUNT || !(e->known >> reg & 1))
        fail(e, EINVAL);
    else
        push(e, e->registers[reg] + (uintptr_t)offset);
}

static void deref(struct evaluation *e, uint64_t size)
{
    uintptr_t value = 0, address = pop(e);
    if (size != 1 && size != 2 && size != 4 && size != 8) fail(e, EINVAL);
    if (!e->error && e->read(e->memory, address, (unsigned)size, &value)) fail(e, EFAULT);
    push(e, value);
}

static void jump(struct evaluation *e, int taken)
{
    int64_t delta = (int16_t)mc_cfi_take(&e->code, 2);
    if (!taken || e->code.bad) return;
    if (delta < e->first - e->code.at || delta > e->code.end - e->code.at)
        fail(e, EINVAL);
    else
        e->code.at += delta;
}

static int step_constant(struct evaluation *e, unsigned op)
{
    struct mc_cfi_cursor *code = &e->code;
    if (op >= OP_LIT0 && op <= OP_LIT31) {
        push(e, op - OP_LIT0);
        return 1;
    }
    switch (op) {
    case OP_ADDR: push(e, mc_cfi_take(code, sizeof(uintptr_t))); break;
    case OP_CONST1U: push(e, mc_cfi_take(code, 1)); break;
    case OP_CONST1S: push(e, (uintptr_t)(int8_t)mc_cfi_take(code, 1)); break;
    case OP_CONST2U: push(e, mc_cfi_take(code, 2)); break;
    case OP_CONST2S: push(e, (uintptr_t)(int16_t)mc_cfi_take(code, 2)); break;
    case OP_CONST4U: push(e, mc_cfi_take(code, 4)); break;
    case OP_CONST4S: push(e, (uintptr_t)(int32_t)mc_cfi_take(code, 4)); break;
    case OP_CONST8U:
    case OP_CONST8S: push(e, mc_cfi_take(code, 8)); break;
    case OP_CONSTU: push(e, mc_cfi_take_uleb(code)); break;
    case OP_CONSTS: push(e, (uintptr_t)mc_cfi_take_sleb(code)); break;
    default: return 0;
    }
    return 1;
}

static int step_stack(struct evaluation *e, unsigned op)
{
    uintptr_t a, b, c;
    if (op >= OP_BREG0 && op <= OP_BREG31) {
        push_register(e, op - OP_BREG0);
        return 1;
    }
    switch (op) {
    case OP_BREGX: push_register(e, mc_cfi_take_uleb(&e->code)); break;
    case OP_DUP: push(e, peek(e, 0)); break;
    case OP_DROP: pop(e); break;
    case OP_OVER: push(e, peek(e, 1)); break;
    case OP_PICK: push(e, peek(e, mc_cfi_take(&e->code, 1))); break;
    case OP_SWAP: a = pop(e), b = pop(e), push(e, a), push(e, b); break;
    case OP_ROT: a = pop(e), b = pop(e), c = pop(e), push(e, a), push(e, c), push(e, b); break;
    case OP_DEREF: deref(e, sizeof(uintptr_t)); break;
    case OP_DEREF_SIZE: deref(e, mc_cfi_take(&e->code, 1)); break;
    case OP_SKIP: jump(e, 1); break;
    case OP_BRA: jump(e, pop(e) != 0); break;
    case OP_NOP: break;
    default: return 0;
    }
    return 1;
}

static int step_unary(struct evaluation *e, unsigned op)
{
    uintptr_t a;
    switch (op) {
    case OP_ABS: a = pop(e), push(e, (intptr_t)a < 0 ? 0 - a : a); break;
    case OP_NEG: push(e, 0 - pop(e)); break;
    case OP_NOT: push(e, ~pop(e)); break;
    case OP_PLUS_UCONST: push(e, pop(e) + mc_cfi_take_uleb(&e->code)); break;
    default: return 0;
    }
    return 1;
}

/* INTPTR_MIN / -1 traps like a division by zero. */
static uintptr_t divide(struct evaluation *e, uintptr_t b, uintptr_t a)
{
    if (a == 0) fail(e, EINVAL);
    if (a == 0) return 0;
    return (intptr_t)a == -1 ? 0 - b : (uintptr_t)((intptr_t)b / (intptr_t)a);
}

static uintptr_t shift_signed(uintptr_t b, uintptr_t a)
{
    return (uintptr_t)((intptr_t)b >> (a < 63 ? a : 63));
}

/* Everything left pops two and pushes one: `b op a`, a on top. */
static void step_binary(struct evaluation *e, unsigned op)
{
    uintptr_t a = pop(e), b = pop(e);
    intptr_t sa = (intptr_t)a, sb = (intptr_t)b;
    switch (op) {
    case OP_AND: push(e, b & a); break;
    case OP_OR: push(e, b | a); break;
    case OP_XOR: push(e, b ^ a); break;
    case OP_PLUS: push(e, b + a); break;
    case OP_MINUS: push(e, b - a); break;
    case OP_MUL: push(e, b * a); break;
    case OP_DIV: push(e, divide(e, b, a)); break;
    case OP_MOD:
        if (a == 0) fail(e, EINVAL);
        push(e, a ? b % a : 0);
        break;
    case OP_SHL: push(e, a < 64 ? b << a : 0); break;
    case OP_SHR: push(e, a < 64 ? b >> a : 0); break;
    case OP_SHRA: push(e, shift_signed(b, a)); break;
    case OP_EQ: push(e, sb == sa); break;
    case OP_NE: push(e, sb != sa); break;
    case OP_GE: push(e, sb >= sa); break;
    case OP_GT: push(e, sb > sa); break;
    case OP_LE: push(e, sb <= sa); break;
    case OP_LT: push(e, sb < sa); break;
    default: fail(e, EINVAL);
    }
}

int mc_cfi_evaluate(struct mc_cfi_bytes bytes, int32_t expression, const uintptr_t *registers,
                    uintptr_t known, int push_cfa, mc_cfi_read *read, void *memory,
                    uintptr_t *result)
{
    struct evaluation e;
    if (expression < 0 || expression >= bytes.last - bytes.first) return EINVAL;
    e.code = (struct mc_cfi_cursor){bytes.first + expression, bytes.last, 0};
    uint64_t size = mc_cfi_take_uleb(&e.code);
    if (e.code.bad || size > (uint64_t)(e.code.end - e.code.at)) return EINVAL;
    e.code.end = e.code.at + size;
    e.first = e.code.at;
    e.registers = registers;
    e.known = known;
    e.read = read;
    e.memory = memory;
    e.error = 0;
    e.depth = 0;
    if (push_cfa) push(&e, *result);
    for (unsigned steps = 0; e.code.at < e.code.end; steps++) {
        if (steps == EXPRESSION_STEPS) return EINVAL;
        unsigned op = (unsigned)mc_cfi_take(&e.code, 1);
        if (!step_constant(&e, op) && !step_stack(&e, op) && !step_unary(&e, op))
            step_binary(&e, op);
        if (e.code.bad) return EINVAL;
        if (e.error) return e.error;
    }
    if (e.depth == 0) return EINVAL;
    *result = e.stack[e.depth - 1];
    return 0;
}
