/* SPDX-License-Identifier: MIT */
/* See os_faulty.h. Memory goes through libc here, so that sanitizers see it come and go; all else is
 * os.c itself, included with its memory calls under other names. */
#define mc_os_reserve  real_os_reserve
#define mc_os_map      real_os_map
#define mc_os_commit   real_os_commit
#define mc_os_purge    real_os_purge
#define mc_os_release  real_os_release
#define mc_os_resize   real_os_resize
#define mc_os_clock_ms real_os_clock_ms
#include "../../Sources/CBase/os.c"
#undef mc_os_reserve
#undef mc_os_map
#undef mc_os_commit
#undef mc_os_purge
#undef mc_os_release
#undef mc_os_resize
#undef mc_os_clock_ms

#include "os_faulty.h"

#include <errno.h>

int mc_os_reserve(size_t size, void **out, int *usable);
int mc_os_map(size_t size, void **out);
int mc_os_commit(void *start, size_t size);
int mc_os_purge(void *start, size_t size);
int mc_os_release(void *start, size_t size);
int mc_os_resize(void *start, size_t size, size_t wanted, void **out);
uint64_t mc_os_clock_ms(void);

struct os_faults os_faults = {
    .fail_at = UINT64_MAX, .bytes_limit = UINT64_MAX, .commit_limit = UINT64_MAX};

/* Whether this call is one that has to fail. */
static int fails(unsigned kind)
{
    if (!(os_faults.kinds & kind)) return 0;
    uint64_t number = __atomic_fetch_add(&os_faults.calls, 1, __ATOMIC_RELAXED);
    return number >= os_faults.fail_at && number - os_faults.fail_at < os_faults.fail_count;
}

static void count_bytes(int64_t change)
{
    __atomic_fetch_add(&os_faults.bytes, (uint64_t)change, __ATOMIC_RELAXED);
}

static int is_too_much(size_t more)
{
    return __atomic_load_n(&os_faults.bytes, __ATOMIC_RELAXED) + more > os_faults.bytes_limit;
}

static int map_counted(size_t size, int protection, void **out)
{
    if (is_too_much(size)) return ENOMEM;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *address = mmap(0, size, protection, flags, -1, 0);
    if (address == MAP_FAILED) return ENOMEM;
    count_bytes((int64_t)size);
    *out = address;
    return 0;
}

int mc_os_reserve(size_t size, void **out, int *usable)
{
    *usable = 0;
    return fails(OS_RESERVE) ? ENOMEM : map_counted(size, PROT_NONE, out);
}

int mc_os_map(size_t size, void **out)
{
    return fails(OS_MAP) ? ENOMEM : map_counted(size, PROT_READ | PROT_WRITE, out);
}

int mc_os_commit(void *start, size_t size)
{
    if (fails(OS_COMMIT) || size > os_faults.commit_limit) return ENOMEM;
    return mprotect(start, size, PROT_READ | PROT_WRITE) ? ENOMEM : 0;
}

int mc_os_purge(void *start, size_t size)
{
    if (fails(OS_PURGE)) return EINVAL;
    return madvise(start, size, MADV_DONTNEED) ? EINVAL : 0;
}

int mc_os_release(void *start, size_t size)
{
    count_bytes(-(int64_t)size);
    return munmap(start, size) ? EINVAL : 0;
}

int mc_os_resize(void *start, size_t size, size_t wanted, void **out)
{
    if (fails(OS_RESIZE) || (wanted > size && is_too_much(wanted - size))) return ENOMEM;
    void *address;
    if (os_faults.resize_moves) {
        address = mmap(0, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (address == MAP_FAILED) return ENOMEM;
        address = mremap(start, size, wanted, MREMAP_MAYMOVE | MREMAP_FIXED, address);
    } else {
        address = mremap(start, size, wanted, MREMAP_MAYMOVE);
    }
    if (address == MAP_FAILED) return ENOMEM;
    count_bytes((int64_t)wanted - (int64_t)size);
    if (os_faults.after_resize) os_faults.after_resize(start, size);
    *out = address;
    return 0;
}

uint64_t mc_os_clock_ms(void)
{
    return real_os_clock_ms() + __atomic_load_n(&os_faults.ms_ahead, __ATOMIC_RELAXED);
}
