/* SPDX-License-Identifier: MIT */
/* The time without libc: programs replace clock_gettime(3) (to fake the time, say) by functions
 * that may allocate. The kernel maps code for it into every process, as a small ELF object (vdso(7));
 * its symbol table is searched once. Without one, the call is libc's. */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "bits.h"
#include "calls.h"
#include "vdso.h"

typedef int (*clock_function)(clockid_t, struct timespec *);

clock_function mc_clock_code;

static const char wanted[] = "__vdso_clock_gettime";

static const Elf64_Phdr *segment_of(const Elf64_Ehdr *header, uint32_t type)
{
    const Elf64_Phdr *segment = (const Elf64_Phdr *)((const char *)header + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++, segment++) {
        if (segment->p_type == type) return segment;
    }
    return 0;
}

static clock_function search(const Elf64_Ehdr *header)
{
    const Elf64_Phdr *load = segment_of(header, PT_LOAD);
    const Elf64_Phdr *dynamic = segment_of(header, PT_DYNAMIC);
    if (!load || !dynamic) return 0;
    uint64_t bias = (uint64_t)header - load->p_vaddr;
    const Elf64_Sym *symbols = 0;
    const char *names = 0;
    uint64_t names_size = 0;
    for (const Elf64_Dyn *entry = (const Elf64_Dyn *)(bias + dynamic->p_vaddr);
         entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB) symbols = (const Elf64_Sym *)(bias + entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB) names = (const char *)(bias + entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRSZ) names_size = entry->d_un.d_val;
    }
    if (!symbols || !names) return 0;
    /* The linker puts the names right behind the symbols; a name out of bounds ends them too. */
    for (const Elf64_Sym *symbol = symbols; (const char *)symbol < names; symbol++) {
        if (symbol->st_name + sizeof(wanted) > names_size) break;
        if (symbol->st_shndx != SHN_UNDEF &&
            !memcmp(names + symbol->st_name, wanted, sizeof(wanted)))
            return (clock_function)(bias + symbol->st_value);
    }
    return 0;
}

/* The kernel's code asks the kernel for fine clocks where the machine has none that can be read; the
 * coarse ones it always finds in memory. Sleep is not counted in the time since boot then. */
static void read_coarse(clock_function function, clockid_t clock, struct timespec *now)
{
    if (function == clock_gettime) return; /* always a system call */
    function(clock == CLOCK_REALTIME ? CLOCK_REALTIME_COARSE : CLOCK_MONOTONIC_COARSE, now);
}

void mc_clock(clockid_t clock, struct timespec *now)
{
    static clock_function found; /* [shared] the same value whoever stores it */
    clock_function function = mc_load(&found);
    if (unlikely(!function)) {
        const Elf64_Ehdr *header = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
        function = header ? search(header) : 0;
        mc_store(&mc_clock_code, function);
        if (!function) function = clock_gettime;
        mc_store(&found, function);
    }
    if (likely(mc_call_allowed(MC_CALL_CLOCK)))
        function(clock, now);
    else
        read_coarse(function, clock, now);
}
