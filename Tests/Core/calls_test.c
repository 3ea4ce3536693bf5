/* SPDX-License-Identifier: MIT */
/* The heap when calls that it makes of its own accord are forbidden, in all combinations and while
 * threads use it; and that none is made. */
#define _GNU_SOURCE
#include "calls.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap.h"
#include "os.h"
#include "root.h"
#include "test.h"

enum { MIB = 1 << 20 };

/* -- the kernel's side ------------------------------------------------------------------------ */

static void purge_without_madvise(void)
{
    void *memory;
    REQUIRE_EQUAL(mc_os_map(MIB, &memory), 0);
    memset(memory, 1, MIB);
    mc_calls_forbid(MC_CALL_PURGE);
    REQUIRE_EQUAL(mc_os_purge(memory, MIB / 2), 0);
    REQUIRE_EQUAL(mc_os_purge(memory, 4096), EPERM); /* too small for a mapping */
    for (unsigned i = 0; i < MIB; i++)
        REQUIRE_EQUAL(((char *)memory)[i], i >= MIB / 2);
    mc_calls_forbid(MC_CALL_REPLACE);
    REQUIRE_EQUAL(mc_os_purge((char *)memory + MIB / 2, MIB / 2), EPERM);
    REQUIRE_EQUAL(((char *)memory)[MIB - 1], 1);
    mc_calls_permit(MC_CALL_PURGE);
    REQUIRE_EQUAL(mc_os_purge((char *)memory + MIB / 2, MIB / 2), 0);
    REQUIRE_EQUAL(((char *)memory)[MIB - 1], 0);
}

static void reserve_without_mprotect(void)
{
    void *memory;
    int usable = 7;
    REQUIRE(!mc_os_reserve(MIB, &memory, &usable) && !usable);
    mc_calls_forbid(MC_CALL_COMMIT);
    REQUIRE_EQUAL(mc_os_commit(memory, MIB), EPERM);
    REQUIRE(!mc_os_reserve(MIB, &memory, &usable) && usable);
    memset(memory, 1, MIB);
    mc_calls_forbid(MC_CALL_RELEASE | MC_CALL_MAP | MC_CALL_RESIZE);
    void *none = &none;
    REQUIRE_EQUAL(mc_os_release(memory, MIB), EPERM);
    REQUIRE_EQUAL(mc_os_resize(memory, MIB, 2 * MIB, &none), EPERM);
    REQUIRE(mc_os_map(MIB, &none) == ENOMEM && none == &none);
    REQUIRE_EQUAL(((char *)memory)[MIB - 1], 1);
}

static void calls_come_and_go(void)
{
    REQUIRE_EQUAL(mc_calls_forbid(MC_CALL_PURGE | MC_CALL_PID), MC_CALL_PURGE | MC_CALL_PID);
    REQUIRE_EQUAL(mc_calls_forbid(MC_CALL_PURGE | MC_CALL_MAP), MC_CALL_MAP);
    REQUIRE(!mc_call_allowed(MC_CALL_PURGE | MC_CALL_COMMIT) && mc_call_allowed(MC_CALL_COMMIT));
    REQUIRE(!mc_call_begin(MC_CALL_PURGE) && mc_calls_begun == 0);
    REQUIRE(mc_call_begin(MC_CALL_COMMIT) && mc_calls_begun == 1);
    mc_calls_settle(); /* in a handler, say: it does not wait for ever */
    mc_call_end();
    mc_calls_permit(MC_CALL_ALL);
    REQUIRE(mc_call_allowed(MC_CALL_ALL) && mc_calls_begun == 0);
}

/* -- no call is under way once it was taken back ---------------------------------------------- */

enum { THREADS = 4 };
static int stop;
static uint32_t under_way, made;

static void *make_calls(void *unused)
{
    while (!mc_load(&stop)) {
        if (!mc_call_begin(MC_CALL_PURGE)) continue;
        __atomic_add_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        mc_add(&made, 1);
        __atomic_sub_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        mc_call_end();
    }
    return unused;
}

static void calls_settle(void)
{
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, make_calls, 0));
    for (uint64_t i = 0; i < test_scale(2000); i++) {
        uint32_t before = mc_load(&made);
        while (mc_load(&made) == before)
            sched_yield();
        mc_calls_forbid(MC_CALL_PURGE);
        do
            mc_calls_settle();
        while (__atomic_load_n(&mc_calls_begun, __ATOMIC_SEQ_CST)); /* bounded: a slow machine */
        REQUIRE_EQUAL(__atomic_load_n(&under_way, __ATOMIC_SEQ_CST), 0);
        mc_calls_permit(MC_CALL_PURGE);
    }
    mc_store(&stop, 1);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], 0);
}

/* -- the heap --------------------------------------------------------------------------------- */

enum { PLACES = 400 };

static size_t some_size(struct random *random)
{
    uint64_t kind = random_below(random, 100);
    if (kind < 80) return random_below(random, 2000) + 8;
    return kind < 98 ? random_below(random, 200000) + 8 : random_below(random, 12 * MIB) + 8;
}

/* Allocates, frees and reallocates; first and last word of each object are told by its place. */
static void use_places(struct random *random, char **places, size_t *sizes, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned at = (unsigned)random_below(random, PLACES);
        char *object = places[at];
        if (object) {
            REQUIRE(object[0] == (char)at && object[sizes[at] - 1] == (char)at);
            places[at] = 0;
            size_t size = some_size(random);
            char *same = random_below(random, 4) ? 0 : mc_realloc_in_place(object, size);
            if (!same) {
                mc_free(object);
                continue;
            }
            places[at] = object = same;
            sizes[at] = size;
        } else {
            sizes[at] = some_size(random);
            int zero = random_below(random, 3) == 0;
            object = zero ? mc_alloc_slow(sizes[at], 1) : mc_alloc(sizes[at]);
            if (!object) continue;
            for (size_t byte = 0; zero && byte < sizes[at]; byte++)
                REQUIRE_EQUAL(object[byte], 0);
            places[at] = object;
        }
        object[0] = object[sizes[at] - 1] = (char)at;
    }
}

static uint64_t rounds;

static void *use_in_thread(void *argument)
{
    char *places[PLACES] = {0};
    size_t sizes[PLACES];
    struct random random = test_random((uint64_t)argument);
    for (uint64_t round = 0; round < rounds; round++)
        use_places(&random, places, sizes, 200);
    for (unsigned i = 0; i < PLACES; i++)
        mc_free(places[i]);
    return 0;
}

/* Calls are taken back and given again, while threads use the heap: it stays sound. */
static void heap_while_calls_come_and_go(void)
{
    pthread_t threads[THREADS];
    struct random random = test_random(70);
    rounds = test_scale(60);
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, use_in_thread, (void *)(71 + i)));
    for (uint64_t i = 0; i < test_scale(300); i++) {
        uint32_t calls = (uint32_t)random_next(&random) & MC_CALL_ALL;
        if (random_below(&random, 3)) mc_heap_commit();
        mc_calls_forbid(calls);
        mc_heap_trim();
        mc_calls_permit(calls);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], 0);
    mc_heap_trim();
    mc_heap_check();
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used_slots, 0);
}

/* Under a filter that kills for what was forbidden, in each combination of what heaps use. */
static void live_under(void *argument)
{
    static const struct {
        uint32_t calls;
        uint32_t number;
    } table[] = {
        {MC_CALL_COMMIT, SYS_mprotect},
        {MC_CALL_RELEASE, SYS_munmap},
        {MC_CALL_PURGE | MC_CALL_HUGE_PAGES, SYS_madvise},
        {MC_CALL_RESIZE, SYS_mremap},
        {MC_CALL_YIELD, SYS_sched_yield},
    };
    uint32_t without = (uint32_t)(uint64_t)argument;
    struct sock_filter code[16];
    unsigned count = 0;
    code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (!(without >> i & 1)) continue;
        if (table[i].calls == MC_CALL_COMMIT) mc_heap_commit();
        mc_calls_forbid(table[i].calls);
        code[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, table[i].number, 0, 1);
        code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {(unsigned short)count, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) _exit(77);
    use_in_thread((void *)(uint64_t)without);
    mc_heap_trim();
    mc_heap_check();
}

static void heap_under_filters(void)
{
    char text[1024];
    rounds = test_scale(100);
    mc_free(mc_alloc(100000));
    for (uint64_t without = 0; without < 32; without++) {
        int status = test_in_child(live_under, (void *)without, text, sizeof(text));
        fputs(text, stderr);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) test_skip("no seccomp filters here");
        REQUIRE_EQUAL(status, 0);
    }
}

static const struct test_case cases[] = {
    {"calls_purge", purge_without_madvise, 0},       {"calls_reserve", reserve_without_mprotect, 0},
    {"calls_come_and_go", calls_come_and_go, 0},     {"calls_settle", calls_settle, 0},
    {"calls_heap", heap_while_calls_come_and_go, 0}, {"calls_under_filters", heap_under_filters, 0},
};
TEST_MAIN(cases)
