/* SPDX-License-Identifier: MIT */
/* Finding and parsing .eh_frame entries (contract in cfi.h).
 *
 * _dl_find_object (glibc 2.35) answers "which module holds this address" without a lock. It lives in
 * the loader; a weak reference finds it there at run time without making the loader a NEEDED of
 * the library. Without it there is no information, and the unwinder falls back to frame pointers.
 *
 * The section itself is mapped and does not change while code of its module is on the stack. What may
 * be read of it is bounded by the PT_LOAD segment it lies in, taken from the module's own program
 * headers, since a module's address range may have holes between segments. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "cfi.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#pragma weak _dl_find_object

/* The loader maps program headers with the first segment; linkers put them right behind the ELF
 * header. Headers anywhere else are not followed. */
static const Elf64_Phdr *program_headers(const char *start, size_t size, unsigned *count)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)start;
    if (size < 4096 || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return NULL;
    if (header->e_phentsize != sizeof(Elf64_Phdr)) return NULL;
    if (header->e_phoff % 8 || header->e_phoff > 4096) return NULL;
    if (header->e_phoff + header->e_phnum * sizeof(Elf64_Phdr) > 4096) return NULL;
    *count = header->e_phnum;
    return (const Elf64_Phdr *)(start + header->e_phoff);
}

/* The part of the module [start, end) around `address` that is surely one readable mapping. */
static int segment_of(const char *start, const char *end, uintptr_t address,
                      struct mc_cfi_bytes *bytes)
{
    unsigned count = 0;
    const Elf64_Phdr *headers = program_headers(start, (size_t)(end - start), &count);
    uintptr_t bias = 0;
    int have_bias = 0;
    if (address < (uintptr_t)start || address >= (uintptr_t)end) return EINVAL;
    for (unsigned i = 0; headers && i < count; i++) {
        if (headers[i].p_type != PT_LOAD) continue;
        if (!have_bias) bias = (uintptr_t)start - (headers[i].p_vaddr & ~(uintptr_t)4095);
        have_bias = 1;
        uintptr_t first = bias + headers[i].p_vaddr;
        if (address - first >= headers[i].p_memsz) continue;
        if (!(headers[i].p_flags & PF_R)) return EINVAL;
        bytes->first = (const uint8_t *)first;
        bytes->last = bytes->first + headers[i].p_memsz;
        return 0;
    }
    if (headers) return EINVAL;
    bytes->first = (const uint8_t *)start;
    bytes->last = (const uint8_t *)end;
    return 0;
}

/* One row of the search table: both relative to the header. */
struct search_row {
    int32_t code;
    int32_t entry;
};

/* The last row whose code address is <= pc; NULL when pc is below all. */
static const struct search_row *search(const struct search_row *rows, size_t count, intptr_t pc)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle].code <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &rows[low - 1] : NULL;
}

/* No usable table: reads the section from its first entry to its terminator or `pc`. */
static int scan(struct mc_cfi_bytes bytes, uintptr_t section, uintptr_t pc,
                struct mc_cfi_entry *entry)
{
    struct mc_cfi_cursor cursor = {(const uint8_t *)section, bytes.last, 0};
    while (!cursor.bad) {
        const uint8_t *record = cursor.at;
        uint64_t size = mc_cfi_take(&cursor, 4);
        if (size == 0xffffffff) size = mc_cfi_take(&cursor, 8);
        if (cursor.bad || size == 0) return ENOENT;
        if (mc_cfi_parse(bytes, record, entry) == 0 && pc - entry->begin < entry->end - entry->begin)
            return 0;
        mc_cfi_skip(&cursor, size);
    }
    return ENOENT;
}

/* The entry for `pc` of the module [start, end) whose .eh_frame_hdr is at `header`. */
static int find_in(const char *start, const char *end, const uint8_t *header, uintptr_t pc,
                   struct mc_cfi_entry *entry)
{
    struct mc_cfi_bytes bytes, section_bytes;
    int error = segment_of(start, end, (uintptr_t)header, &bytes);
    if (error) return error;
    struct mc_cfi_cursor cursor = {header, bytes.last, 0};
    uint64_t version = mc_cfi_take(&cursor, 1);
    uint8_t section_encoding = (uint8_t)mc_cfi_take(&cursor, 1);
    uint8_t count_encoding = (uint8_t)mc_cfi_take(&cursor, 1);
    uint8_t table_encoding = (uint8_t)mc_cfi_take(&cursor, 1);
    uintptr_t section = mc_cfi_take_encoded(&cursor, section_encoding, (uintptr_t)header);
    size_t count = mc_cfi_take_encoded(&cursor, count_encoding, (uintptr_t)header);
    if (cursor.bad || version != 1 || (section_encoding & 0x80) || (count_encoding & 0x80))
        return EINVAL;
    error = segment_of(start, end, section, &section_bytes);
    if (error) return error;
    if (table_encoding != MC_PE_DATAREL_SDATA4 || count_encoding == MC_PE_OMIT)
        return scan(section_bytes, section, pc, entry);

    const struct search_row *rows = (const struct search_row *)cursor.at;
    if ((uintptr_t)rows % 4 || count > (size_t)(cursor.end - cursor.at) / sizeof *rows)
        return EINVAL;
    const struct search_row *row = search(rows, count, (intptr_t)(pc - (uintptr_t)header));
    if (!row) return ENOENT;
    const uint8_t *fde = (const uint8_t *)((uintptr_t)header + (uintptr_t)(intptr_t)row->entry);
    error = mc_cfi_parse(section_bytes, fde, entry);
    if (error) return error;
    return pc - entry->begin < entry->end - entry->begin ? 0 : ENOENT;
}

int mc_cfi_find(uintptr_t pc, struct mc_cfi_entry *entry)
{
    struct dl_find_object module;
    if (!_dl_find_object || _dl_find_object((void *)pc, &module) != 0) return ESRCH;
    if (!module.dlfo_eh_frame) return ENOENT;
    return find_in(module.dlfo_map_start, module.dlfo_map_end, module.dlfo_eh_frame, pc, entry);
}

int mc_cfi_is_start(uintptr_t pc)
{
    struct mc_cfi_entry entry;
    return mc_cfi_find(pc, &entry) == 0 && entry.begin == pc;
}

/* Length and extent of the record at `at`: *cursor is left behind the length, ending with it. */
static int open_record(struct mc_cfi_bytes bytes, const uint8_t *at, struct mc_cfi_cursor *cursor)
{
    if (at < bytes.first || at >= bytes.last) return EINVAL;
    *cursor = (struct mc_cfi_cursor){at, bytes.last, 0};
    uint64_t size = mc_cfi_take(cursor, 4);
    if (size == 0xffffffff) size = mc_cfi_take(cursor, 8);
    if (cursor->bad || size == 0 || size > (uint64_t)(cursor->end - cursor->at)) return EINVAL;
    cursor->end = cursor->at + size;
    return 0;
}

/* The augmentation data, one letter after the other. */
static int parse_augmentation(struct mc_cfi_cursor *cursor, const char *letters,
                              struct mc_cfi_entry *entry)
{
    if (*letters == '\0') return 0;
    if (*letters != 'z') return EINVAL; /* nothing since gcc 3 lacks it; without it the rest is lost */
    uint64_t size = mc_cfi_take_uleb(cursor);
    if (cursor->bad || size > (uint64_t)(cursor->end - cursor->at)) return EINVAL;
    struct mc_cfi_cursor data = {cursor->at, cursor->at + size, 0};
    cursor->at += size;
    while (*++letters) {
        switch (*letters) {
        case 'L': mc_cfi_take(&data, 1); break;
        case 'R': entry->pointer_encoding = (uint8_t)mc_cfi_take(&data, 1); break;
        case 'S': entry->signal_frame = 1; break;
        case 'B': break;
        case 'P': {
            uint8_t encoding = (uint8_t)mc_cfi_take(&data, 1);
            if (encoding == 0x50) return EINVAL; /* aligned */
            mc_cfi_take_encoded(&data, encoding & 0x0f, 0);
            break;
        }
        default: return data.bad ? EINVAL : 0; /* the data is in letter order: stop at the unknown */
        }
    }
    return data.bad ? EINVAL : 0;
}

static int parse_cie(const uint8_t *cie, struct mc_cfi_entry *entry)
{
    struct mc_cfi_cursor cursor;
    int error = open_record(entry->bytes, cie, &cursor);
    if (error) return error;
    if (mc_cfi_take(&cursor, 4) != 0) return EINVAL; /* 0: a CIE */
    uint64_t version = mc_cfi_take(&cursor, 1);
    if (version != 1 && version != 3 && version != 4) return EINVAL;
    const char *letters = (const char *)cursor.at;
    while (mc_cfi_take(&cursor, 1) != 0 && !cursor.bad) continue;
    if (version == 4 && mc_cfi_take(&cursor, 2) != sizeof(uintptr_t)) return EINVAL;
    entry->code_align = mc_cfi_take_uleb(&cursor);
    entry->data_align = mc_cfi_take_sleb(&cursor);
    uint64_t column = version == 1 ? mc_cfi_take(&cursor, 1) : mc_cfi_take_uleb(&cursor);
    if (cursor.bad || column != MC_REG_PC) return EINVAL;
    entry->pointer_encoding = 0;
    entry->signal_frame = 0;
    entry->sized = *letters == 'z';
    error = parse_augmentation(&cursor, letters, entry);
    entry->initial = cursor.at;
    entry->initial_end = cursor.end;
    return error;
}

int mc_cfi_parse(struct mc_cfi_bytes bytes, const uint8_t *fde, struct mc_cfi_entry *entry)
{
    struct mc_cfi_cursor cursor;
    int error = open_record(bytes, fde, &cursor);
    if (error) return error;
    const uint8_t *here = cursor.at;
    uint64_t back = mc_cfi_take(&cursor, 4);
    if (cursor.bad || back == 0 || back > (uint64_t)(here - bytes.first)) return EINVAL;
    entry->bytes = bytes;
    error = parse_cie(here - back, entry);
    if (error) return error;
    if (entry->pointer_encoding & 0xe0) return EINVAL; /* absolute or relative to its own place */
    entry->begin = mc_cfi_take_encoded(&cursor, entry->pointer_encoding, 0);
    entry->end = entry->begin + mc_cfi_take_encoded(&cursor, entry->pointer_encoding & 0x0f, 0);
    if (cursor.bad || entry->end < entry->begin) return EINVAL;
    if (entry->sized) mc_cfi_skip(&cursor, mc_cfi_take_uleb(&cursor));
    if (cursor.bad) return EINVAL;
    entry->program = cursor.at;
    entry->program_end = cursor.end;
    return 0;
}
