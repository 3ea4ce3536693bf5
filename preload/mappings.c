/* SPDX-License-Identifier: MIT */
/* mmap(2), munmap(2), mremap(2): passed on to the kernel, as libc does, and accounted on request.
 *
 * Nothing of libc's own comes this way (thread stacks, its files), nor what libmemctl.so maps: they
 * make the system calls themselves. Until somebody asks, each function is one test and the call;
 * once a mapping is known, unmapping looks it up. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "instrument.h"
#include "os.h"
#include "syscall.h"

static void *finish(long result)
{
    if (!mc_syscall_failed(result)) return (void *)result;
    errno = (int)-result;
    return MAP_FAILED;
}

static uint64_t whole_pages(size_t size)
{
    return mc_round_up(size, MC_PAGE);
}

/* The tag for a mapping made by our caller's caller; 0 if it is not traced. */
static uint64_t tag_here(void)
{
    if (!(mc_armed_here() & MC_ARMED_MAPS)) return 0;
    if (mc_accounting || !mc_trace_ready()) {
        mc_add(&mc_own_region.missed_maps, 1);
        return 0;
    }
    mc_accounting = 1;
    uint64_t tag = mc_trace_map_tag();
    mc_accounting = 0;
    return tag;
}

/* What a system call does to the mappings if it succeeds. */
struct change {
    uint64_t removed, removed_size; /* gone */
    uint64_t inserted_size;         /* made, at the address returned */
    uint64_t tag;                   /* of what is made; 0: untraced */
};

static void note(const struct change *change, uint64_t made)
{
    if (change->removed_size) mc_mappings_remove(change->removed, change->removed_size);
    if (!change->inserted_size) return;
    if (change->tag)
        mc_mappings_insert(made, change->inserted_size, change->tag);
    else
        mc_mappings_remove(made, change->inserted_size);
}

/* The same in a signal handler that interrupted its own thread there. */
static void leave(const struct change *change, uint64_t made)
{
    if (change->removed_size) mc_mappings_leave(change->removed, change->removed_size);
    if (change->inserted_size) mc_mappings_leave(made, change->inserted_size);
    if (change->tag) mc_add(&mc_own_region.missed_maps, 1);
}

static long accounted(const struct change *change, long number, const long arguments[6])
{
    int locked = mc_mappings_lock();
    long result = MC_SYSCALL_6(number, arguments[0], arguments[1], arguments[2], arguments[3],
                               arguments[4], arguments[5]);
    if (!mc_syscall_failed(result)) {
        if (locked)
            note(change, (uint64_t)result);
        else
            leave(change, (uint64_t)result);
    }
    if (locked) mc_mappings_unlock();
    return result;
}

EXPORT void *mmap(void *address, size_t size, int protection, int flags, int descriptor,
                  off_t offset)
{
    const long arguments[6] = {(long)address, (long)size, protection,
                               flags,         descriptor, (long)offset};
    int replaces = flags & MAP_FIXED && mc_load(&mc_mappings_count);
    if (likely(!(mc_load(&mc_own_region.armed) & MC_ARMED_MAPS) && !replaces))
        return finish(MC_SYSCALL_6(SYS_mmap, address, size, protection, flags, descriptor, offset));
    struct change change = {.inserted_size = whole_pages(size), .tag = tag_here()};
    return finish(accounted(&change, SYS_mmap, arguments));
}

EXPORT int munmap(void *address, size_t size)
{
    if (likely(!mc_load(&mc_mappings_count)))
        return finish(MC_SYSCALL_2(SYS_munmap, address, size)) ? -1 : 0;
    const long arguments[6] = {(long)address, (long)size};
    mc_armed_here(); /* a forked child has its own account first */
    struct change change = {(uint64_t)address, whole_pages(size), 0, 0};
    return finish(accounted(&change, SYS_munmap, arguments)) ? -1 : 0;
}

EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
    void *wanted = 0;
    if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
        va_list list;
        va_start(list, flags);
        wanted = va_arg(list, void *);
        va_end(list);
    }
    if (likely(!(mc_load(&mc_own_region.armed) & MC_ARMED_MAPS) && !mc_load(&mc_mappings_count)))
        return finish(MC_SYSCALL_5(SYS_mremap, old, old_size, new_size, flags, wanted));
    const long arguments[6] = {(long)old, (long)old_size, (long)new_size, flags, (long)wanted};
    /* As with realloc(3), the caller is charged with the whole from now on. */
    struct change change = {.inserted_size = whole_pages(new_size), .tag = tag_here()};
    if (!(flags & MREMAP_DONTUNMAP)) {
        change.removed = (uint64_t)old;
        change.removed_size = whole_pages(old_size);
    }
    return finish(accounted(&change, SYS_mremap, arguments));
}

__asm__(".globl mmap64\n.set mmap64, mmap");
