/* SPDX-License-Identifier: MIT */
/* The bounded reader under everything that parses .eh_frame (contract in cfi.h).
 *
 * Invariants: 1. at <= end, always. 2. Once `bad` is set every take returns 0 and reads nothing,
 * so a parser may read a whole record and test `bad` once. */
#include "cfi.h"

#include <string.h>

uint64_t mc_cfi_take(struct mc_cfi_cursor *cursor, unsigned size)
{
    uint64_t value = 0;
    if (cursor->bad || (size_t)(cursor->end - cursor->at) < size) {
        cursor->bad = 1;
        return 0;
    }
    memcpy(&value, cursor->at, size); /* little endian, as is every host this file serves */
    cursor->at += size;
    return value;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mc_cfi_take's memcpy");

/* Both LEB128 forms: the bits, and in *shift how many there were. Ten bytes hold 64 bits. */
static uint64_t take_leb(struct mc_cfi_cursor *cursor, unsigned *shift, unsigned *last)
{
    uint64_t value = 0;
    for (*shift = 0; *shift < 70; *shift += 7) {
        *last = (unsigned)mc_cfi_take(cursor, 1);
        if (*shift < 64) value |= (uint64_t)(*last & 0x7f) << *shift;
        if (!(*last & 0x80)) {
            *shift += 7;
            return value;
        }
    }
    cursor->bad = 1;
    return 0;
}

uint64_t mc_cfi_take_uleb(struct mc_cfi_cursor *cursor)
{
    unsigned shift, last;
    return take_leb(cursor, &shift, &last);
}

int64_t mc_cfi_take_sleb(struct mc_cfi_cursor *cursor)
{
    unsigned shift, last;
    uint64_t value = take_leb(cursor, &shift, &last);
    if (shift < 64 && (last & 0x40)) value |= ~(uint64_t)0 << shift;
    return (int64_t)value;
}

void mc_cfi_skip(struct mc_cfi_cursor *cursor, uint64_t size)
{
    if (cursor->bad || (uint64_t)(cursor->end - cursor->at) < size) {
        cursor->bad = 1;
        return;
    }
    cursor->at += size;
}

/* The low four bits of an encoding: the format. */
static uint64_t take_format(struct mc_cfi_cursor *cursor, uint8_t encoding)
{
    switch (encoding & 0x0f) {
    case 0x00: return mc_cfi_take(cursor, sizeof(uintptr_t));
    case 0x01: return mc_cfi_take_uleb(cursor);
    case 0x02: return mc_cfi_take(cursor, 2);
    case 0x03: return mc_cfi_take(cursor, 4);
    case 0x04: return mc_cfi_take(cursor, 8);
    case 0x09: return (uint64_t)mc_cfi_take_sleb(cursor);
    case 0x0a: return (uint64_t)(int64_t)(int16_t)mc_cfi_take(cursor, 2);
    case 0x0b: return (uint64_t)(int64_t)(int32_t)mc_cfi_take(cursor, 4);
    case 0x0c: return mc_cfi_take(cursor, 8);
    default: cursor->bad = 1; return 0;
    }
}

uintptr_t mc_cfi_take_encoded(struct mc_cfi_cursor *cursor, uint8_t encoding, uintptr_t data)
{
    uintptr_t here = (uintptr_t)cursor->at;
    if (encoding == MC_PE_OMIT) return 0;
    uintptr_t value = (uintptr_t)take_format(cursor, encoding);
    switch (encoding & 0x70) {
    case 0x00: return value;        /* absolute */
    case 0x10: return value + here; /* relative to its own place */
    case 0x30: return value + data;
    default: cursor->bad = 1; return 0; /* text, function, aligned: not produced for .eh_frame */
    }
}
