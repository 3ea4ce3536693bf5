/* SPDX-License-Identifier: MIT */
/* See modules.h. */
#define _GNU_SOURCE
#include "modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "region.h"
#include "rules.h"
#include "unwind_machine.h"

/* Weak: a strong reference would make the library need the loader by name. */
extern int _dl_find_object(void *address, struct dl_find_object *result) __attribute__((weak));

/* What is known, newest last. `start` is stored last and cleared first. */
struct known {
    uint64_t start; /* [shared] 0: gone, or being written */
    uint64_t end;
    const void *map; /* the loader's, to tell two of the same place apart */
    uint64_t record;
};
enum { KNOWN_MAX = 2048 };
MC_TABLE static struct known known[KNOWN_MAX];
static uint64_t known_count; /* [shared] */

uint32_t mc_modules_epoch(void)
{
    return (uint32_t)mc_load_acquire(&mc_own_region.epoch);
}

static int covers(const struct known *module, uint64_t pc)
{
    uint64_t start = mc_load_acquire(&module->start);
    return start && pc - start < module->end - start;
}

/* Frames that follow each other mostly lie in one module. */
static int is_known(uint64_t pc)
{
    static uint64_t recent; /* [shared] */
    if (likely(covers(&known[mc_load(&recent)], pc))) return 1;
    uint64_t count = mc_load_acquire(&known_count);
    for (uint64_t i = count < KNOWN_MAX ? count : KNOWN_MAX; i-- > 0;) {
        if (!covers(&known[i], pc)) continue;
        mc_store(&recent, i);
        return 1;
    }
    return 0;
}

/* The GNU build-id of an object whose first page is mapped at `start`. */
static void copy_build_id(struct mc_region_module *module)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)module->start;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_phentsize != sizeof(ElfW(Phdr)) ||
        header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > MC_PAGE)
        return;
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(module->start + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++, segment++) {
        uint64_t at = module->bias + segment->p_vaddr, end = at + segment->p_memsz;
        if (segment->p_type != PT_NOTE || at < module->start || end > module->end) continue;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
            uint64_t name = at + sizeof(*note), text = name + mc_round_up(note->n_namesz, 4);
            if (text + note->n_descsz > end || text < at) break;
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
                !memcmp((const void *)name, "GNU", 4) &&
                note->n_descsz <= sizeof(module->build_id)) {
                memcpy(module->build_id, (const void *)text, note->n_descsz);
                module->build_id_size = note->n_descsz;
                return;
            }
            at = text + mc_round_up(note->n_descsz, 4);
        }
    }
}

static void copy_path(struct mc_region_module *module, const char *path)
{
    uint64_t size = strlen(path);
    if (!size) return;
    uint64_t offset = mc_area_append(MC_AREA_STRINGS, size);
    if (offset == UINT64_MAX) return;
    memcpy(mc_area_record(MC_AREA_STRINGS, offset), path, size);
    mc_area_publish(MC_AREA_STRINGS, offset + size);
    module->path_offset = offset;
    module->path_size = (uint32_t)size;
}

static uint64_t append(const struct dl_find_object *object)
{
    const struct link_map *map = object->dlfo_link_map;
    struct mc_region_module module = {.start = (uint64_t)object->dlfo_map_start,
                                      .end = (uint64_t)object->dlfo_map_end,
                                      .bias = map ? map->l_addr : 0,
                                      .first_epoch = mc_modules_epoch(),
                                      .last_epoch = UINT32_MAX};
    copy_build_id(&module);
    /* The loader has no name for the program itself. */
    const char *path = map && map->l_name ? map->l_name : "";
    copy_path(&module, *path ? path : mc_own_region.executable);
    uint64_t record = mc_area_append(MC_AREA_MODULES, 1);
    if (record != UINT64_MAX) {
        memcpy(mc_area_record(MC_AREA_MODULES, record), &module, sizeof(module));
        mc_area_publish(MC_AREA_MODULES, record + 1);
    }
    return record;
}

void mc_modules_note(uint64_t pc)
{
    struct dl_find_object object;
    if (is_known(pc) || !_dl_find_object || _dl_find_object((void *)pc, &object)) return;
    /* While modules go, it may be unmapped already, if a walk guessed; see mc_cfi_find(). */
    if (unlikely(mc_rule_unloading(mc_load(&mc_rule_epoch))) &&
        !mc_machine_readable((uintptr_t)object.dlfo_map_start))
        return;
    uint64_t place = mc_add(&known_count, 1);
    uint64_t record = append(&object);
    if (place >= KNOWN_MAX || record == UINT64_MAX) return;
    known[place].end = (uint64_t)object.dlfo_map_end;
    known[place].map = object.dlfo_link_map;
    known[place].record = record;
    mc_store_release(&known[place].start, (uint64_t)object.dlfo_map_start);
}

void mc_modules_unloaded(void)
{
    uint64_t count = mc_load_acquire(&known_count), gone = 0;
    if (!mc_areas || !_dl_find_object) return;
    for (uint64_t i = 0; i < count && i < KNOWN_MAX; i++) {
        struct dl_find_object object;
        uint64_t start = mc_load_acquire(&known[i].start);
        if (!start ||
            (!_dl_find_object((void *)start, &object) && object.dlfo_link_map == known[i].map))
            continue;
        struct mc_region_module *module = mc_area_record(MC_AREA_MODULES, known[i].record);
        __atomic_store_n(&module->last_epoch, mc_modules_epoch(), __ATOMIC_RELEASE);
        mc_store_release(&known[i].start, 0);
        gone = 1;
    }
    if (gone) mc_add(&mc_own_region.epoch, 1);
}
