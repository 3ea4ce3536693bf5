/* SPDX-License-Identifier: MIT */
/* See clock_words.h. */
#include "clock_words.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "bits.h"
#include "unwind_machine.h"

enum { PAGES = 16 }; /* before the code, and at most as many of interest: Linux 6.18 has 6 and 4 */

static const uint64_t *search(uintptr_t page, const struct timespec *now, const uint64_t *found,
                              unsigned *count)
{
    const uint64_t *words = (const uint64_t *)page;
    for (size_t i = 0; i + MC_CLOCK_WORDS <= MC_PAGE / sizeof(*words); i++) {
        if (mc_load(&words[i + MC_CLOCK_SECONDS]) != (uint64_t)now->tv_sec ||
            mc_load(&words[i + MC_CLOCK_NS]) != (uint64_t)now->tv_nsec)
            continue;
        found = &words[i];
        (*count)++;
    }
    return found;
}

const uint64_t *mc_clock_words_in(const uintptr_t *pages, size_t count, const struct timespec *now)
{
    const uint64_t *found = 0;
    unsigned places = 0;
    for (size_t i = 0; i < count; i++)
        found = search(pages[i], now, found, &places);
    return places == 1 ? found : 0;
}

static int is_among(const uintptr_t *pages, size_t count, uintptr_t page)
{
    for (size_t i = 0; i < count; i++)
        if (pages[i] == page) return 1;
    return 0;
}

/* An operand at a distance from the next instruction: the byte that says so, and the distance. */
size_t mc_clock_pages_of(const unsigned char *code, const unsigned char *end, uintptr_t *pages,
                         size_t most)
{
    enum { MODE = 0xc7, FROM_NEXT = 0x05, SIZE = 1 + sizeof(int32_t) };
    size_t count = 0;
    for (const unsigned char *at = code; at + SIZE <= end && count < most; at++) {
        if ((*at & MODE) != FROM_NEXT) continue;
        int32_t distance;
        memcpy(&distance, at + 1, sizeof(distance));
        uintptr_t page =
            ((uintptr_t)at + SIZE + (uintptr_t)(intptr_t)distance) & -(uintptr_t)MC_PAGE;
        uintptr_t before = (uintptr_t)code - page;
        if (before == 0 || before > PAGES * MC_PAGE || is_among(pages, count, page)) continue;
        pages[count++] = page;
    }
    return count;
}

/* Of the kernel's object: as much of it as is in memory, which begins with its header. */
static size_t size_of(const Elf64_Ehdr *header)
{
    const Elf64_Phdr *segment = (const void *)((const char *)header + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++, segment++)
        if (segment->p_type == PT_LOAD) return segment->p_filesz;
    return 0;
}

const uint64_t *mc_clock_words_find(const struct timespec *now)
{
    const unsigned char *code = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
    if (!code || (uintptr_t)code % MC_PAGE) return 0;
    uintptr_t pages[PAGES];
    size_t named = mc_clock_pages_of(code, code + size_of((const void *)code), pages, PAGES);
    size_t count = 0;
    for (size_t i = 0; i < named; i++)
        if (mc_machine_readable(pages[i])) pages[count++] = pages[i];
    return mc_clock_words_in(pages, count, now);
}
