/* SPDX-License-Identifier: MIT */
/* Finding and parsing .eh_frame entries (contract in cfi.h).
 *
 * _dl_find_object (glibc 2.35) answers "which module holds this address" without a lock. It lives
 * in the loader; a weak reference finds it there at run time without making the loader a NEEDED of
 * the library. Without it there is no information, and the unwinder falls back to frame pointers.
 *
 * The section itself is mapped and does not change while code of its module is on the stack. What
 * may be read of it is bounded by the PT_LOAD segment it lies in, taken from the module's own
 * program headers, since a module's address range may have holes between segments, with anything
 * in them. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "cfi.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "unwind_machine.h"

extern __typeof__(_dl_find_object) _dl_find_object __attribute__((weak));

enum { PAGE = 4096 };

/* A module's segments. Without headers only [start, end) is known of it. */
struct module {
    uintptr_t start, end;
    uintptr_t bias;
    const Elf64_Phdr *headers;
    unsigned count;
};

/* Linkers put the program headers right behind the ELF header, in the page the first segment begins
 * with. Headers anywhere else are not followed. */
static int take_headers(struct module *module, uintptr_t header_address)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)header_address;
    if (header_address % PAGE || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return 0;
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phoff % 8) return 0;
    if (header->e_phoff > PAGE) return 0;
    if (header->e_phoff + header->e_phnum * sizeof(Elf64_Phdr) > PAGE) return 0;
    module->headers = (const Elf64_Phdr *)(header_address + header->e_phoff);
    module->count = header->e_phnum;
    return 1;
}

/* Where the loader answers with all of a module, its ELF header is in front. Where segments have
 * other mappings between them the answer is one segment only: then the header is at the load bias
 * (shared objects are linked at 0), and the main program's headers are known from the kernel. */
static void open_module(struct module *module, const struct dl_find_object *found)
{
    module->start = (uintptr_t)found->dlfo_map_start;
    module->end = (uintptr_t)found->dlfo_map_end;
    module->bias = found->dlfo_link_map->l_addr;
    module->headers = NULL;
    module->count = 0;
    if (module->end - module->start >= PAGE && take_headers(module, module->start)) return;
    if (module->bias) {
        if (mc_machine_readable(module->bias)) take_headers(module, module->bias);
    } else {
        module->headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
        module->count = module->headers ? (unsigned)getauxval(AT_PHNUM) : 0;
    }
}

/* The readable segment of the module that holds `address`. */
static int segment_of(const struct module *module, uintptr_t address, struct mc_cfi_bytes *bytes)
{
    for (unsigned i = 0; i < module->count; i++) {
        const Elf64_Phdr *header = &module->headers[i];
        uintptr_t first = module->bias + header->p_vaddr;
        if (header->p_type != PT_LOAD || address - first >= header->p_memsz) continue;
        if (!(header->p_flags & PF_R)) return EINVAL;
        bytes->first = (const uint8_t *)first;
        bytes->last = bytes->first + header->p_memsz;
        return 0;
    }
    if (module->headers || address < module->start || address >= module->end) return EINVAL;
    bytes->first = (const uint8_t *)module->start;
    bytes->last = (const uint8_t *)module->end;
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
        int is_fde = mc_cfi_parse(bytes, record, entry) == 0;
        if (is_fde && pc - entry->begin < entry->end - entry->begin) return 0;
        mc_cfi_skip(&cursor, size);
    }
    return ENOENT;
}

/* The entry for `pc` of the module whose .eh_frame_hdr is at `header`. */
static int find_in(const struct module *module, const uint8_t *header, uintptr_t pc,
                   struct mc_cfi_entry *entry)
{
    struct mc_cfi_bytes bytes, section_bytes;
    int error = segment_of(module, (uintptr_t)header, &bytes);
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
    error = segment_of(module, section, &section_bytes);
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

/* Its first page, which the headers are in, and its information: all of a module is unmapped at once. */
static int is_there(const struct dl_find_object *found)
{
    return mc_machine_readable((uintptr_t)found->dlfo_map_start) &&
           mc_machine_readable((uintptr_t)found->dlfo_eh_frame & ~(uintptr_t)7);
}

int mc_cfi_find(uintptr_t pc, int may_go, struct mc_cfi_entry *entry)
{
    struct dl_find_object found;
    struct module module;
    if (!_dl_find_object || _dl_find_object((void *)pc, &found) != 0) return ESRCH;
    if (!found.dlfo_eh_frame) return ENOENT;
    if (may_go && !is_there(&found)) return ESRCH;
    open_module(&module, &found);
    entry->module_first = module.start;
    entry->module_last = module.end;
    entry->module_header = (uintptr_t)found.dlfo_eh_frame;
    return find_in(&module, found.dlfo_eh_frame, pc, entry);
}

int mc_cfi_is_start(uintptr_t pc, int may_go)
{
    struct mc_cfi_entry entry;
    return mc_cfi_find(pc, may_go, &entry) == 0 && entry.begin == pc;
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
    if (*letters != 'z') return EINVAL; /* nothing since gcc 3 lacks it; the rest would be lost */
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
        default: return data.bad ? EINVAL : 0; /* data is in letter order: the rest is unknown */
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
    while (mc_cfi_take(&cursor, 1) != 0 && !cursor.bad)
        continue;
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
