/* SPDX-License-Identifier: MIT */
/* Running call frame programs (contract in cfi.h).
 *
 * A row starts with every register unchanged; the CIE's program sets the state at the function's
 * entry, the FDE's program edits it while the location advances, and stops before the first row
 * beyond the address asked for. DW_CFA_remember_state nests; compilers go two deep.
 *
 * Registers the walk has no use for (vector and segment registers, MC_REG_COUNT and up) are read
 * and passed over. An instruction that is unknown makes the whole row invalid: its operands' size
 * is unknown, so nothing behind it can be trusted. */
#include "cfi.h"

#include <errno.h>
#include <string.h>

enum {
    ROW_STACK = 8, /* remembered rows at once; bounds this file's stack use to about 1 KiB */

    ADVANCE_LOC = 0x40, /* the three that carry an operand in their low six bits */
    OFFSET = 0x80,
    RESTORE = 0xc0,

    NOP = 0x00,
    SET_LOC = 0x01,
    ADVANCE_LOC1 = 0x02,
    ADVANCE_LOC2 = 0x03,
    ADVANCE_LOC4 = 0x04,
    OFFSET_EXTENDED = 0x05,
    RESTORE_EXTENDED = 0x06,
    UNDEFINED = 0x07,
    SAME_VALUE = 0x08,
    REGISTER = 0x09,
    REMEMBER_STATE = 0x0a,
    RESTORE_STATE = 0x0b,
    DEF_CFA = 0x0c,
    DEF_CFA_REGISTER = 0x0d,
    DEF_CFA_OFFSET = 0x0e,
    DEF_CFA_EXPRESSION = 0x0f,
    EXPRESSION = 0x10,
    OFFSET_EXTENDED_SF = 0x11,
    DEF_CFA_SF = 0x12,
    DEF_CFA_OFFSET_SF = 0x13,
    VAL_OFFSET = 0x14,
    VAL_OFFSET_SF = 0x15,
    VAL_EXPRESSION = 0x16,
    GNU_ARGS_SIZE = 0x2e,
    GNU_NEGATIVE_OFFSET = 0x2f,
};

struct machine {
    const struct mc_cfi_entry *entry;
    struct mc_cfi_cursor code;
    struct mc_cfi_row *row;
    const struct mc_cfi_row *initial; /* what DW_CFA_restore goes back to; NULL in the CIE */
    uintptr_t location;
    unsigned depth;
    struct mc_cfi_row remembered[ROW_STACK];
};

static void set(struct machine *m, uint64_t reg, enum mc_cfi_how how, int64_t value)
{
    if (value != (int32_t)value) m->code.bad = 1;
    if (reg >= MC_REG_COUNT) return;
    m->row->how[reg] = (uint8_t)how;
    m->row->value[reg] = (int32_t)value;
}

/* Products of two hostile numbers: out of int32 is an error, wrapping is not an escape. */
static int64_t scaled(struct machine *m, int64_t factor)
{
    int64_t product;
    if (__builtin_mul_overflow(factor, m->entry->data_align, &product)) m->code.bad = 1;
    return m->code.bad ? 0 : product;
}

static void set_scaled(struct machine *m, uint64_t reg, enum mc_cfi_how how, int64_t factor)
{
    set(m, reg, how, scaled(m, factor));
}

static void restore(struct machine *m, uint64_t reg)
{
    if (!m->initial) m->code.bad = 1;
    if (m->code.bad || reg >= MC_REG_COUNT) return;
    m->row->how[reg] = m->initial->how[reg];
    m->row->value[reg] = m->initial->value[reg];
}

static void set_cfa(struct machine *m, uint64_t reg, int64_t offset)
{
    if (reg >= MC_REG_COUNT || offset != (int32_t)offset) m->code.bad = 1;
    m->row->cfa_register = (uint8_t)reg;
    m->row->cfa_value = (int32_t)offset;
    m->row->cfa_is_expression = 0;
}

/* Only meaningful while the CFA is a register plus an offset. */
static void set_cfa_offset(struct machine *m, int64_t offset)
{
    if (m->row->cfa_is_expression) m->code.bad = 1;
    set_cfa(m, m->row->cfa_register, offset);
}

/* The place of the expression under the cursor, which moves behind it. */
static int64_t take_expression(struct machine *m)
{
    int64_t place = m->code.at - m->entry->bytes.first;
    mc_cfi_skip(&m->code, mc_cfi_take_uleb(&m->code));
    if (place != (int32_t)place) m->code.bad = 1;
    return place;
}

static void advance(struct machine *m, uint64_t delta)
{
    if (!m->initial) m->code.bad = 1; /* a CIE's program has no location */
    m->location += delta * m->entry->code_align;
}

static void remember_state(struct machine *m)
{
    if (m->depth == ROW_STACK)
        m->code.bad = 1;
    else
        m->remembered[m->depth++] = *m->row;
}

static void restore_state(struct machine *m)
{
    if (m->depth == 0)
        m->code.bad = 1;
    else
        *m->row = m->remembered[--m->depth];
}

/* Instructions about the CFA, the location and the row as a whole; 0 when `op` is none of them. */
static int step_frame(struct machine *m, unsigned op)
{
    struct mc_cfi_cursor *code = &m->code;
    uint64_t reg;
    switch (op) {
    case NOP: break;
    case SET_LOC:
        if (!m->initial) code->bad = 1;
        m->location = mc_cfi_take_encoded(code, m->entry->pointer_encoding, 0);
        break;
    case ADVANCE_LOC1: advance(m, mc_cfi_take(code, 1)); break;
    case ADVANCE_LOC2: advance(m, mc_cfi_take(code, 2)); break;
    case ADVANCE_LOC4: advance(m, mc_cfi_take(code, 4)); break;
    case REMEMBER_STATE: remember_state(m); break;
    case RESTORE_STATE: restore_state(m); break;
    case DEF_CFA:
        reg = mc_cfi_take_uleb(code);
        set_cfa(m, reg, (int64_t)mc_cfi_take_uleb(code));
        break;
    case DEF_CFA_SF:
        reg = mc_cfi_take_uleb(code);
        set_cfa(m, reg, scaled(m, mc_cfi_take_sleb(code)));
        break;
    case DEF_CFA_REGISTER:
        reg = mc_cfi_take_uleb(code);
        if (m->row->cfa_is_expression) code->bad = 1;
        set_cfa(m, reg, m->row->cfa_value);
        break;
    case DEF_CFA_OFFSET: set_cfa_offset(m, (int64_t)mc_cfi_take_uleb(code)); break;
    case DEF_CFA_OFFSET_SF: set_cfa_offset(m, scaled(m, mc_cfi_take_sleb(code))); break;
    case DEF_CFA_EXPRESSION:
        m->row->cfa_value = (int32_t)take_expression(m);
        m->row->cfa_is_expression = 1;
        break;
    case GNU_ARGS_SIZE: mc_cfi_take_uleb(code); break;
    default: return 0;
    }
    return 1;
}

/* Instructions about one register: all of them start with its number. */
static void step_register(struct machine *m, unsigned op)
{
    struct mc_cfi_cursor *code = &m->code;
    uint64_t reg = mc_cfi_take_uleb(code);
    switch (op) {
    case OFFSET_EXTENDED: set_scaled(m, reg, MC_CFI_AT_CFA, (int64_t)mc_cfi_take_uleb(code)); break;
    case OFFSET_EXTENDED_SF: set_scaled(m, reg, MC_CFI_AT_CFA, mc_cfi_take_sleb(code)); break;
    case GNU_NEGATIVE_OFFSET:
        set_scaled(m, reg, MC_CFI_AT_CFA, (int64_t)(0 - mc_cfi_take_uleb(code)));
        break;
    case VAL_OFFSET: set_scaled(m, reg, MC_CFI_IS_CFA, (int64_t)mc_cfi_take_uleb(code)); break;
    case VAL_OFFSET_SF: set_scaled(m, reg, MC_CFI_IS_CFA, mc_cfi_take_sleb(code)); break;
    case RESTORE_EXTENDED: restore(m, reg); break;
    case UNDEFINED: set(m, reg, MC_CFI_UNDEFINED, 0); break;
    case SAME_VALUE: set(m, reg, MC_CFI_SAME, 0); break;
    case EXPRESSION: set(m, reg, MC_CFI_AT_EXPR, take_expression(m)); break;
    case VAL_EXPRESSION: set(m, reg, MC_CFI_IS_EXPR, take_expression(m)); break;
    case REGISTER: {
        uint64_t from = mc_cfi_take_uleb(code);
        if (from >= MC_REG_COUNT) code->bad = 1;
        set(m, reg, MC_CFI_IN_REGISTER, (int64_t)(from % MC_REG_COUNT));
        break;
    }
    default: code->bad = 1;
    }
}

static void step(struct machine *m)
{
    unsigned byte = (unsigned)mc_cfi_take(&m->code, 1);
    unsigned operand = byte & 0x3f;
    switch (byte & 0xc0) {
    case ADVANCE_LOC: advance(m, operand); break;
    case OFFSET: set_scaled(m, operand, MC_CFI_AT_CFA, (int64_t)mc_cfi_take_uleb(&m->code)); break;
    case RESTORE: restore(m, operand); break;
    default:
        if (!step_frame(m, byte)) step_register(m, byte);
    }
}

/* Runs until the program ends or the location passes `pc`; the row then is the one before it.
 * Every step takes at least one byte, so the program ends. */
static int run(struct machine *m, const uint8_t *first, const uint8_t *last, uintptr_t pc)
{
    m->code = (struct mc_cfi_cursor){first, last, 0};
    while (m->code.at < m->code.end) {
        step(m);
        if (m->code.bad) return EINVAL;
        if (m->location > pc) return 0; /* only an advance moves it and leaves the row alone */
    }
    return 0;
}

int mc_cfi_row_at(const struct mc_cfi_entry *entry, uintptr_t pc, struct mc_cfi_row *row)
{
    struct mc_cfi_row initial;
    struct machine m;
    memset(row, 0, sizeof *row);
    row->cfa_register = MC_REG_COUNT; /* none yet */
    m.entry = entry;
    m.row = row;
    m.initial = NULL;
    m.location = entry->begin;
    m.depth = 0;
    int error = run(&m, entry->initial, entry->initial_end, pc);
    if (error) return error;
    initial = *row;
    m.initial = &initial;
    m.depth = 0;
    error = run(&m, entry->program, entry->program_end, pc);
    if (error) return error;
    if (!row->cfa_is_expression && row->cfa_register >= MC_REG_COUNT) return EINVAL;
    return 0;
}
