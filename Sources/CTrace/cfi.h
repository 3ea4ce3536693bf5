/* SPDX-License-Identifier: MIT */
/* Call frame information: what .eh_frame says about an address.
 *
 *   mc_cfi_find        address -> entry (an FDE joined with its CIE), through the loader's
 *                      lock-free _dl_find_object and the binary search table of .eh_frame_hdr
 *   mc_cfi_parse       the entry at a given place of a given section
 *   mc_cfi_row_at      entry, address -> row: how to find the CFA and each register of the caller
 *   mc_cfi_evaluate    a DWARF expression
 *
 * Pure readers: no state, no allocation, no locks, any thread, signal handlers. The bytes are
 * treated as hostile: nothing outside [first, last) is read, every program ends after a bounded
 * number of steps. Errors are errno values: ESRCH no module holds this address, ENOENT its module
 * has no information for it, EINVAL malformed or not understood, EFAULT an expression read memory
 * that `read` refused. */
#ifndef MC_CFI_H
#define MC_CFI_H

#include "unwind.h"

/* The bytes of the segment that holds a section: all that may be read. */
struct mc_cfi_bytes {
    const uint8_t *first;
    const uint8_t *last; /* one past the last */
};

struct mc_cfi_entry {
    struct mc_cfi_bytes bytes;
    uintptr_t module_first, module_last;  /* as the loader answers; set by mc_cfi_find only */
    uintptr_t module_header;              /* its .eh_frame_hdr */
    uintptr_t begin, end;                 /* the code it describes */
    const uint8_t *initial, *initial_end; /* the CIE's program */
    const uint8_t *program, *program_end; /* the FDE's */
    uint64_t code_align;
    int64_t data_align;
    uint8_t pointer_encoding;
    uint8_t sized;        /* augmentation data with its size precedes the programs */
    uint8_t signal_frame; /* the caller was interrupted, it did not call */
};

/* Where the caller's value of a register is. */
enum mc_cfi_how {
    MC_CFI_SAME,        /* still in the register */
    MC_CFI_UNDEFINED,   /* nowhere; for the return address: this frame is the outermost */
    MC_CFI_AT_CFA,      /* memory at CFA + value */
    MC_CFI_IS_CFA,      /* CFA + value itself */
    MC_CFI_IN_REGISTER, /* register `value` */
    MC_CFI_AT_EXPR,     /* memory at the expression's result; value: see mc_cfi_row */
    MC_CFI_IS_EXPR,     /* the expression's result itself */
};

/* An expression is named by the offset of its length (a ULEB128) from bytes.first. */
struct mc_cfi_row {
    int32_t value[MC_REG_COUNT];
    int32_t cfa_value;         /* offset, or an expression */
    uint8_t how[MC_REG_COUNT]; /* enum mc_cfi_how */
    uint8_t cfa_register;
    uint8_t cfa_is_expression;
};

/* Reads the word at `address` into *value; 0, or EFAULT. */
typedef int mc_cfi_read(void *memory, uintptr_t address, unsigned size, uintptr_t *value);

/* `may_go`: modules may be on their way out. The loader names one until it is unmapped, and a moment longer; where
 * a signal handler interrupts it then, the module is not read: ESRCH. */
int mc_cfi_find(uintptr_t pc, int may_go, struct mc_cfi_entry *entry);

/* Asked when nothing describes `pc` - 1: is `pc` the first instruction of a function? Then no call
 * put it on the stack as a return address, but whoever made the stack: makecontext does so. It is
 * the outermost frame. */
int mc_cfi_is_start(uintptr_t pc, int may_go);

int mc_cfi_parse(struct mc_cfi_bytes bytes, const uint8_t *fde, struct mc_cfi_entry *entry);
int mc_cfi_row_at(const struct mc_cfi_entry *entry, uintptr_t pc, struct mc_cfi_row *row);

/* `registers` holds MC_REG_COUNT words, of which bit i of `known` says whether i is valid.
 * `push_cfa` starts the expression's stack with *result. */
int mc_cfi_evaluate(struct mc_cfi_bytes bytes, int32_t expression, const uintptr_t *registers,
                    uintptr_t known, int push_cfa, mc_cfi_read *read, void *memory,
                    uintptr_t *result);

/* A bounded reader of bytes; `bad` sticks. Shared by the parser, the programs and expressions. */
struct mc_cfi_cursor {
    const uint8_t *at, *end;
    int bad;
};

uint64_t mc_cfi_take(struct mc_cfi_cursor *cursor, unsigned size);
uint64_t mc_cfi_take_uleb(struct mc_cfi_cursor *cursor);
int64_t mc_cfi_take_sleb(struct mc_cfi_cursor *cursor);
void mc_cfi_skip(struct mc_cfi_cursor *cursor, uint64_t size);

/* A DW_EH_PE_* encoded value; `data` is the base of data-relative ones. */
uintptr_t mc_cfi_take_encoded(struct mc_cfi_cursor *cursor, uint8_t encoding, uintptr_t data);

enum {
    MC_PE_OMIT = 0xff,
    MC_PE_DATAREL_SDATA4 = 0x3b,
};

#endif
