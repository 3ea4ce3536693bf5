/* limits.c: cases about memory that runs out: RLIMIT_AS, RLIMIT_DATA, descriptors, and what must
 * still work then. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)

static void limit_address_space(size_t beyond)
{
    struct rlimit limit = {address_space_bytes() + beyond, RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* A list threaded through the blocks themselves: counting them needs no memory. */
static void **fill(size_t size, size_t *got)
{
    void **list = NULL;
    for (*got = 0;; *got += size) {
        errno = 0;
        void **p = malloc(size);
        if (!p) break;
        *p = list;
        list = p;
    }
    REQUIRE(errno == ENOMEM);
    return list;
}

static void release(void **list)
{
    while (list) {
        void **next = *list;
        free(list);
        list = next;
    }
}

/* Exhausts, frees and exhausts again: the second time at least nine tenths must be had, of
 * another size too. */
static void exhaust(void *limit_size)
{
    static const size_t sizes[] = {64, 1000, 10000, (size_t)200 << 10, 4 * MIB};
    size_t limit = (size_t)(uintptr_t)limit_size;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t first, second;
        if (limit > 128 * MIB && sizes[i] < 1000) continue;
        void **list = fill(sizes[i], &first);
        REQUIRE(first >= limit / 2);
        errno = 0;
        REQUIRE(calloc(1, limit) == NULL && errno == ENOMEM);
        REQUIRE(!memalign(4096, limit) && errno == ENOMEM);
        release(list);
        list = fill(sizes[i], &second);
        REQUIRE(second >= first / 10 * 9);
        release(list);
    }
}

static void exhaust_address_space(void *size)
{
    limit_address_space((size_t)(uintptr_t)size);
    exhaust(size);
}

static void exhaust_data(void *size)
{
    struct rlimit limit = {(size_t)(uintptr_t)size + 8 * MIB, RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    exhaust(size);
}

CASE(address_space_limit_32_mib,
     "RLIMIT_AS: NULL and ENOMEM, at least half of what is there can be "
     "had, and again after freeing; setrlimit(2)")
{
    require_child(exhaust_address_space, (void *)(32 * MIB));
}

CASE(address_space_limit_64_mib, "the same with 64 MiB")
{
    require_child(exhaust_address_space, (void *)(64 * MIB));
}

CASE(address_space_limit_100_mib, "the same with 100 MiB")
{
    require_child(exhaust_address_space, (void *)(100 * MIB));
}

CASE(address_space_limit_1_gib, "the same with 1 GiB")
{
    require_child(exhaust_address_space, (void *)(1024 * MIB));
}

CASE(data_limit, "RLIMIT_DATA counts private mappings; setrlimit(2)")
{
    require_child(exhaust_data, (void *)(32 * MIB));
    require_child(exhaust_data, (void *)(100 * MIB));
}

CASE(small_limit_serves_small_blocks, "8 MiB of address space: 2 MiB of small blocks can be had")
{
    limit_address_space(8 * MIB);
    size_t got;
    void **list = fill(100, &got);
    REQUIRE(got >= 2 * MIB);
    release(list);
}

CASE(limit_before_start, "a program started under RLIMIT_AS of 64 MiB runs; setrlimit(2)")
{
    struct rlimit limit = {64 * MIB, 64 * MIB};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    require_helper("helper_allocate", "20", NULL, 0);
}

CASE(data_limit_before_start, "a program started under RLIMIT_DATA of 48 MiB runs; setrlimit(2)")
{
    struct rlimit limit = {48 * MIB, 48 * MIB};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    require_helper("helper_allocate", "20", NULL, 0);
}

static atomic_bool exhausted, tried;

static void *first_allocation(void *unused)
{
    while (!atomic_load(&exhausted))
        sched_yield();
    /* NULL with ENOMEM or a block: both are right. */
    errno = 0;
    void *p = malloc(100);
    REQUIRE(p || errno == ENOMEM);
    free(p);
    errno = 0;
    p = calloc(10, 1000);
    REQUIRE(p || errno == ENOMEM);
    free(p);
    p = NULL;
    int result = posix_memalign(&p, 64, 1000);
    REQUIRE(result == 0 || (result == ENOMEM && !p));
    free(p);
    free(NULL);
    atomic_store(&tried, true);
    return unused;
}

static void *first_free(void *p)
{
    while (!atomic_load(&tried))
        sched_yield();
    free(p);
    return NULL;
}

CASE(first_allocation_of_a_thread_may_fail, "a new thread's first call when memory is exhausted "
                                            "gives NULL, no crash; malloc(3)")
{
    pthread_t allocating[8], freeing[8];
    limit_address_space(300 * MIB);
    for (int i = 0; i < 8; i++) {
        REQUIRE(pthread_create(&allocating[i], NULL, first_allocation, NULL) == 0);
        REQUIRE(pthread_create(&freeing[i], NULL, first_free, malloc(5000)) == 0);
    }
    size_t got;
    void **coarse = fill(MIB, &got), **fine = fill(16, &got);
    atomic_store(&exhausted, true);
    for (int i = 0; i < 8; i++) {
        pthread_join(allocating[i], NULL);
        pthread_join(freeing[i], NULL);
    }
    release(coarse);
    release(fine);
    void *p = malloc(50 * MIB);
    REQUIRE(p);
    free(p);
}

CASE(thread_creation_when_exhausted, "pthread_create reports EAGAIN when memory is exhausted, and "
                                     "works again afterwards; pthread_create(3)")
{
    limit_address_space(100 * MIB);
    size_t got;
    void **coarse = fill(MIB, &got), **fine = fill(16, &got);
    pthread_t thread;
    atomic_store(&exhausted, true);
    for (int i = 0; i < 10; i++) {
        int result = pthread_create(&thread, NULL, first_allocation, NULL);
        REQUIRE(result == 0 || result == EAGAIN || result == ENOMEM);
        if (result == 0) pthread_join(thread, NULL);
    }
    release(coarse);
    release(fine);
    run_thread(first_allocation, NULL, 65536);
}

static void *fill_and_release(void *size)
{
    void *p[40];
    for (int i = 0; i < 40; i++) {
        p[i] = malloc((size_t)(uintptr_t)size);
        REQUIRE(p[i]);
        memset(p[i], 1, (size_t)(uintptr_t)size);
    }
    for (int i = 0; i < 40; i++)
        free(p[i]);
    return NULL;
}

CASE(address_space_of_ended_threads_is_reused, "200 threads one after the other, 4 MB each, live "
                                               "within 160 MiB of address space")
{
    limit_address_space(160 * MIB);
    for (int i = 0; i < 200; i++)
        run_thread(fill_and_release, (void *)(uintptr_t)100000, 65536);
    void *p = malloc(64 * MIB);
    REQUIRE(p);
    free(p);
}

CASE(address_space_changes_hands_between_sizes,
     "what small blocks used serves large ones when freed")
{
    limit_address_space(128 * MIB);
    size_t got;
    for (int round = 0; round < 5; round++) {
        release(fill(48, &got));
        malloc_trim(0);
        void *p = malloc(64 * MIB);
        REQUIRE(p);
        memset(p, 1, 64 * MIB);
        free(p);
        release(fill(3000, &got));
        REQUIRE(got >= 64 * MIB);
    }
}

CASE(libc_survives_exhaustion, "fopen, getline, strdup, asprintf fail with ENOMEM or work")
{
    limit_address_space(32 * MIB);
    FILE *ready = fopen("/dev/null", "r+");
    REQUIRE(ready);
    size_t got;
    void **coarse = fill(MIB, &got), **fine = fill(16, &got);
    char *text = NULL, *line = NULL;
    size_t size = 0;
    REQUIRE(asprintf(&text, "%05000d", 1) == -1);
    errno = 0;
    REQUIRE(strdup("this text is certainly longer than any block that may be left over") == NULL);
    REQUIRE(errno == ENOMEM);
    FILE *f = fopen("/dev/zero", "r");
    REQUIRE(f || errno == ENOMEM);
    REQUIRE(getline(&line, &size, ready) == -1);
    fprintf(ready, "%1000d", 3);
    release(coarse);
    release(fine);
    if (f) fclose(f);
    fclose(ready);
    free(line);
    REQUIRE(asprintf(&text, "%d", 1) == 1);
    free(text);
}

CASE(free_works_when_exhausted, "free and realloc to less succeed when nothing can be mapped")
{
    char *p[300];
    for (size_t i = 0; i < 300; i++) {
        p[i] = malloc(i * i * 10 + 1);
        REQUIRE(p[i]);
        pattern_fill(p[i], i * i * 10 + 1, 2);
    }
    limit_address_space(16 * MIB);
    size_t got;
    void **coarse = fill(MIB, &got), **fine = fill(16, &got);
    for (size_t i = 0; i < 300; i++) {
        size_t half = (i * i * 10 + 1 + 1) / 2;
        char *q = realloc(p[i], half);
        /* glibc shrinks in place; a heap that must move may say no, and then keeps the block. */
        if (q) p[i] = q;
        REQUIRE(pattern_holds(p[i], half & ~(size_t)7, 2));
        free(p[i]);
    }
    release(coarse);
    release(fine);
}

CASE(mapping_count_limit, "a heap of a million blocks and 50,000 page-sized holes stays under "
                          "vm.max_map_count; proc(5)")
{
    enum { COUNT = 50000 };
    static char *p[COUNT];
    for (int i = 0; i < COUNT; i++)
        REQUIRE(p[i] = memalign(4096, 8192));
    for (int i = 0; i < COUNT; i++)
        memset(p[i], 1, 8192);
    for (int i = 0; i < COUNT; i += 2)
        free(p[i]);
    malloc_trim(0);
    sleep_milliseconds(300);
    for (int i = 1; i < COUNT; i += 2)
        REQUIRE(p[i][8191] == 1);
    for (int i = 0; i < 100; i++) {
        void *map =
            mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(map != MAP_FAILED);
    }
    FILE *maps = fopen("/proc/self/maps", "r");
    REQUIRE(maps);
    int lines = 0;
    for (int c; (c = getc(maps)) != EOF;)
        lines += c == '\n';
    fclose(maps);
    REQUIRE(lines < 5000);
    for (int i = 1; i < COUNT; i += 2)
        free(p[i]);
}

CASE(overcommit_heuristic_refuses,
     "more than the machine has is refused or reserved, never a crash")
{
    for (size_t n = (size_t)1 << 34; n < (size_t)1 << 47; n *= 2) {
        errno = 0;
        char *p = malloc(n);
        REQUIRE(p || errno == ENOMEM);
        if (p) p[0] = p[n - 1] = 1;
        free(p);
    }
}

static void set_overcommit(const char *mode)
{
    int fd = open("/proc/sys/vm/overcommit_memory", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, mode, 1) != 1) SKIP("vm.overcommit_memory can't be set");
    close(fd);
}

static char overcommit_mode(void)
{
    char mode = 0;
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &mode, 1) != 1) SKIP("vm.overcommit_memory can't be read");
    close(fd);
    return mode;
}

/* The setting is the whole machine's, so nobody changes it unasked. A second process puts it back
 * when the first ends, however it ends: the pipe between them closes. */
CASE(strict_overcommit,
     "vm.overcommit_memory = 2 counts every private writable page: programs start "
     "and allocate; proc(5)")
{
    if (!getenv("CONFORMANCE_SYSTEM"))
        SKIP("CONFORMANCE_SYSTEM=1 lets it change vm.overcommit_memory");
    char before[2] = {overcommit_mode(), 0}, ignored;
    int alive[2];
    REQUIRE(pipe2(alive, O_CLOEXEC) == 0);
    pid_t guard = fork();
    if (guard == 0) {
        close(alive[1]);
        setsid(); /* a time limit ends the other's process group */
        while (read(alive[0], &ignored, 1) < 0)
            continue;
        set_overcommit(before);
        _exit(0);
    }
    close(alive[0]);
    set_overcommit("2");
    require_helper("helper_allocate", "20", NULL, 0);
    for (size_t n = 1; n < 256 * MIB; n *= 2) {
        char *p = malloc(n);
        REQUIRE(p);
        p[0] = p[n - 1] = 1;
        free(p);
    }
    run_thread(fill_and_release, (void *)(uintptr_t)5000, 65536);
}

/* Makes the hard limit of locked memory the soft one, at most 64 MiB. */
static void memlock_limit(void)
{
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (limit.rlim_max > 64 * MIB) limit.rlim_max = 64 * MIB;
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (limit.rlim_max < 8 * MIB) SKIP("less than 8 MiB may be locked");
}

CASE(locked_memory_is_limited,
     "mlockall under RLIMIT_MEMLOCK of 8 MiB succeeds (address space counts), "
     "blocks can be had, then NULL and ENOMEM; mlockall(2)")
{
    if (getenv("MEMCTL_TRACE")) SKIP("the address space of a trace is locked too");
    memlock_limit();
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) SKIP("root is not limited");
    require_helper("helper_locked", NULL, NULL, 0);
}

/* madvise(MADV_DONTNEED) fails on locked pages: purged memory is not zero then. */
CASE(locked_memory_is_zeroed,
     "calloc's memory is zero after mlockall, when pages can't be dropped; "
     "madvise(2) EINVAL")
{
    memlock_limit();
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) SKIP("mlockall is not permitted");
    void *room = malloc(8 * MIB); /* an ordinary user may lock 8 MiB, the program included */
    if (!room) SKIP("too little memory may be locked");
    free(room);
    for (size_t n = 64; n <= MIB; n *= 4) {
        enum { COUNT = 16 };
        char *p[COUNT];
        for (int i = 0; i < COUNT && i * n < 2 * MIB; i++) {
            REQUIRE(p[i] = malloc(n));
            memset(p[i], 0xA5, n);
        }
        for (int i = 0; i < COUNT && i * n < 2 * MIB; i++)
            free(p[i]);
        malloc_trim(0);
        sleep_milliseconds(150);
        for (int i = 0; i < COUNT && i * n < 2 * MIB; i++) {
            REQUIRE(p[i] = calloc(1, n));
            REQUIRE(all_zero(p[i], n));
        }
        for (int i = 0; i < COUNT && i * n < 2 * MIB; i++)
            free(p[i]);
    }
}
