/* SPDX-License-Identifier: MIT */
/* A program that does as it is told: a command a line on standard input, an answer a line on
 * standard output. What it allocates itself is mapped, so that the heap holds what was ordered and
 * nothing else. Sets `a` to `h` are lists of objects, each allocated at a site of its own.
 *
 *     alloc SET COUNT SIZE     calloc SET COUNT SIZE     realloc SET COUNT SIZE
 *     free SET COUNT           the first COUNT left      every SET    frees each second one
 *     away SET COUNT SIZE      realloc, in another thread than made it
 *     deep SET DEPTH SIZE      one object, DEPTH calls of descend() down
 *     many SET COUNT SIZE      each object from a backtrace of its own
 *     dark SET COUNT SIZE      closes every descriptor first, and waits for good after
 *     touch SET PAGES          writes to pages of the first object
 *     fork IN OUT              the child takes commands from these files
 *     thread SET COUNT SIZE    allocates in a thread that ends
 *     churn THREADS | calm     threads that allocate and free until calm; then all is freed
 *     trade THREADS | calm     the same, and each frees what the one before it made
 *     cross THREADS COUNT      COUNT objects a thread, each freed by the next thread
 *     open PATH | call SET COUNT SIZE | close       a library with `void *plugin(size_t)`
 *     pairs SET COUNT SIZE     each object is freed before the next is made
 *     holds SET ADDRESS        is that object one of the set, and live?
 *     handle SET COUNT SIZE    allocates in a signal handler
 *     system COMMAND           by system(3), without blanks
 *     secret                   becomes a process that others may not look into
 *     seccomp KIND             is killed for other calls than the least, or than the usual
 *     mallinfo                 what mallinfo2(3) says is in use, in all
 *     sparse | chroot DIR | setuid UID | exec PATH | spin | exit STATUS | abort */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"

enum { SETS = 8, OBJECTS = 1 << 22 };

static struct set {
    void **objects; /* mapped */
    size_t count;
    size_t first; /* those before it are freed */
} sets[SETS];

/* --- the sites ------------------------------------------------------------------------------- */

#define MAKE_SITE(name)                                                                            \
    SITE static void *name(size_t size)                                                            \
    {                                                                                              \
        void *volatile object = malloc(size);                                                      \
        return object;                                                                             \
    }
MAKE_SITE(site_a)
MAKE_SITE(site_b)
MAKE_SITE(site_c)
MAKE_SITE(site_d)
MAKE_SITE(site_e)
MAKE_SITE(site_f)
MAKE_SITE(site_g)
MAKE_SITE(site_h)

static void *(*const sites[SETS])(size_t) = {site_a, site_b, site_c, site_d,
                                             site_e, site_f, site_g, site_h};

SITE static void *site_calloc(size_t size)
{
    void *volatile object = calloc(1, size);
    return object;
}

SITE static void *site_realloc(void *object, size_t size)
{
    void *volatile fresh = realloc(object, size);
    return fresh;
}

SITE static void *descend(unsigned depth, size_t size)
{
    void *volatile object = depth > 1 ? descend(depth - 1, size) : malloc(size);
    return object;
}

static void *turn_left(unsigned turns, size_t size);
static void *turn_right(unsigned turns, size_t size);

/* As many backtraces as there are numbers: its bits tell the turns. The last turn is bit 1. */
static void *walk(unsigned turns, size_t size)
{
    if (turns < 2) return malloc(size);
    return turns % 2 ? turn_left(turns / 2, size) : turn_right(turns / 2, size);
}

SITE static void *turn_left(unsigned turns, size_t size)
{
    void *volatile object = walk(turns, size);
    return object;
}

SITE static void *turn_right(unsigned turns, size_t size)
{
    void *volatile object = walk(turns, size);
    return object;
}

static void add(struct set *set, void *object)
{
    if (!set->objects) set->objects = map(OBJECTS * sizeof(void *));
    if (!object || set->count == OBJECTS) _exit(4);
    set->objects[set->count++] = object;
}

/* --- threads --------------------------------------------------------------------------------- */

enum { THREADS = 64 };
static pthread_t threads[THREADS];
static unsigned thread_count;
static int calm;

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

SITE static void *churn_small(uint32_t *random)
{
    void *volatile object = malloc(next_random(random) % 500);
    return object;
}

SITE static void *churn_large(uint32_t *random)
{
    void *volatile object = malloc(20000 + next_random(random) % 50000);
    return object;
}

SITE static void *churn(void *number)
{
    void *held[128] = {0};
    uint32_t random = 77 + (uint32_t)(uintptr_t)number;
    while (!__atomic_load_n(&calm, __ATOMIC_ACQUIRE)) {
        void **place = &held[next_random(&random) % 128];
        free(*place);
        *place = next_random(&random) % 16 ? churn_small(&random) : churn_large(&random);
    }
    for (unsigned i = 0; i < 128; i++)
        free(held[i]);
    return 0;
}

/* Batches from each thread to the next; a place is NULL while it is empty. */
enum { BATCH = 50 };
struct batch {
    void *objects[BATCH];
};
static struct batch *traded[THREADS]; /* [shared] */
static unsigned traders;

SITE static void *trade_one(uint32_t *random)
{
    void *volatile object = malloc(16 + next_random(random) % 300);
    return object;
}

static void end_batch(struct batch *batch)
{
    for (unsigned i = 0; batch && i < BATCH; i++)
        free(batch->objects[i]);
    free(batch);
}

SITE static void *trade(void *number)
{
    size_t own = (size_t)number, next = (own + 1) % traders;
    uint32_t random = 55 + (uint32_t)own;
    while (!__atomic_load_n(&calm, __ATOMIC_ACQUIRE)) {
        struct batch *batch = malloc(sizeof(*batch));
        for (unsigned i = 0; i < BATCH; i++)
            batch->objects[i] = trade_one(&random);
        end_batch(__atomic_exchange_n(&traded[next], batch, __ATOMIC_ACQ_REL));
        end_batch(__atomic_exchange_n(&traded[own], 0, __ATOMIC_ACQ_REL));
    }
    return 0;
}

struct crossing {
    pthread_barrier_t barrier;
    void **objects[THREADS]; /* mapped */
    unsigned threads;
    size_t count;
};

static struct crossing crossing;

SITE static void *cross(void *argument)
{
    size_t number = (size_t)argument;
    uint32_t random = 99 + (uint32_t)number;
    for (size_t i = 0; i < crossing.count; i++) {
        void *volatile object = malloc(16 + next_random(&random) % 1000);
        crossing.objects[number][i] = object;
    }
    pthread_barrier_wait(&crossing.barrier);
    void **others = crossing.objects[(number + 1) % crossing.threads];
    for (size_t i = 0; i < crossing.count; i++)
        free(others[i]);
    return 0;
}

static void start_threads(unsigned count, void *(*run)(void *))
{
    for (thread_count = 0; thread_count < count && thread_count < THREADS; thread_count++) {
        if (pthread_create(&threads[thread_count], 0, run, (void *)(uintptr_t)thread_count))
            _exit(3);
    }
}

static void join_threads(void)
{
    while (thread_count)
        pthread_join(threads[--thread_count], 0);
}

static void run_crossing(unsigned count, size_t objects)
{
    crossing.threads = count;
    crossing.count = objects;
    for (unsigned i = 0; i < count; i++)
        crossing.objects[i] = map(objects * sizeof(void *));
    pthread_barrier_init(&crossing.barrier, 0, count);
    start_threads(count, cross);
    join_threads();
    for (unsigned i = 0; i < count; i++)
        munmap(crossing.objects[i], objects * sizeof(void *));
}

struct order {
    struct set *set;
    unsigned number;
    size_t count, size;
};

static void *reallocate_in_thread(void *argument)
{
    struct order *order = argument;
    void **objects = order->set->objects + order->set->first;
    for (size_t i = 0; i < order->count; i++)
        objects[i] = site_realloc(objects[i], order->size);
    return 0;
}

static void *allocate_in_thread(void *argument)
{
    struct order *order = argument;
    for (size_t i = 0; i < order->count; i++)
        add(order->set, sites[order->number](order->size));
    return 0;
}

static struct order handled;

SITE static void handler(int number)
{
    (void)number;
    for (size_t i = 0; i < handled.count; i++)
        add(handled.set, sites[handled.number](handled.size));
}

/* --- the commands ---------------------------------------------------------------------------- */

static void *library;

static struct set *set_named(const char *name, unsigned *number)
{
    unsigned index = (unsigned)(name[0] - 'a');
    if (index >= SETS || name[1]) _exit(4);
    if (number) *number = index;
    return &sets[index];
}

static void allocate(const char *how, struct set *set, unsigned number, size_t count, size_t size)
{
    int away = !strcmp(how, "away");
    if (away || !strcmp(how, "thread")) {
        struct order order = {set, number, count, size};
        pthread_t thread;
        if (pthread_create(&thread, 0, away ? reallocate_in_thread : allocate_in_thread, &order))
            _exit(3);
        pthread_join(thread, 0);
        return;
    }
    if (!strcmp(how, "deep")) {
        add(set, descend((unsigned)count, size));
        return;
    }
    if (!strcmp(how, "handle")) {
        handled = (struct order){set, number, count, size};
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
        return;
    }
    if (!strcmp(how, "dark")) close_range(0, ~0u, 0);
    void *(*plugin)(size_t) = 0;
    if (!strcmp(how, "call")) plugin = (void *(*)(size_t))dlsym(library, "plugin");
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(how, "realloc"))
            set->objects[set->first + i] = site_realloc(set->objects[set->first + i], size);
        else if (!strcmp(how, "many"))
            add(set, walk((unsigned)set->count + 2, size));
        else if (!strcmp(how, "calloc"))
            add(set, site_calloc(size));
        else
            add(set, plugin ? plugin(size) : sites[number](size));
    }
    while (!strcmp(how, "dark"))
        pause();
}

static void release(struct set *set, size_t count, unsigned step)
{
    for (size_t i = 0; i < count && set->first < set->count; i++) {
        free(set->objects[set->first]);
        set->first += step;
    }
    if (set->first >= set->count) set->first = set->count = 0;
}

static void allocate_pairs(unsigned number, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++)
        free(sites[number](size));
}

static void obey_set(char *words[4])
{
    unsigned number;
    struct set *set = set_named(words[1], &number);
    size_t count = words[2] ? strtoul(words[2], 0, 10) : 0;
    size_t size = words[3] ? strtoul(words[3], 0, 10) : 0;
    if (!strcmp(words[0], "free")) {
        release(set, count, 1);
    } else if (!strcmp(words[0], "every")) {
        release(set, set->count, 2);
    } else if (!strcmp(words[0], "touch")) {
        char *object = set->objects[set->first];
        for (size_t page = 0; page < count; page++)
            object[page * 4096] = 1;
    } else if (!strcmp(words[0], "holds")) {
        void *wanted = (void *)(uintptr_t)strtoull(words[2], 0, 16);
        size_t i = set->first;
        while (i < set->count && set->objects[i] != wanted)
            i++;
        say(i < set->count ? "yes" : "no");
        return;
    } else if (!strcmp(words[0], "usable")) {
        say_number("usable", (long)malloc_usable_size(set->objects[set->first]));
        return;
    } else if (!strcmp(words[0], "pairs")) {
        allocate_pairs(number, count, size);
    } else {
        allocate(words[0], set, number, count, size);
    }
    say("done");
}

static int restrict_calls(const char *kind)
{
    static const int allowed[] = {
        SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_mmap, SYS_munmap, SYS_futex,
        /* The usual ones begin here. */
        SYS_mprotect, SYS_madvise, SYS_mremap, SYS_rt_sigprocmask, SYS_openat, SYS_close,
        SYS_unlinkat, SYS_getpid, SYS_prlimit64, SYS_clock_gettime, SYS_sched_yield};
    struct sock_filter code[64];
    unsigned count = 0, number = strcmp(kind, "least") ? sizeof(allowed) / sizeof(*allowed) : 7;
    code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (unsigned i = 0; i < number; i++) {
        code[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog filter = {(unsigned short)count, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) ? errno : 0;
}

static int become(unsigned user)
{
    return setgid(user) || setuid(user) ? errno : 0;
}

static int obey_process(char *words[4])
{
    const char *what = words[0];
    if (!strcmp(what, "fork"))
        begin_child(words[1], words[2]);
    else if (!strcmp(what, "reap"))
        say_number("reaped", waitpid(-1, 0, 0));
    else if (!strcmp(what, "chroot"))
        say_number("result", chroot(words[1]) || chdir("/") ? errno : 0);
    else if (!strcmp(what, "setuid"))
        say_number("result", become((unsigned)atoi(words[1])));
    else if (!strcmp(what, "system"))
        say_number("result", system(words[1]));
    else if (!strcmp(what, "secret"))
        say_number("result", prctl(PR_SET_DUMPABLE, 0) ? errno : 0);
    else if (!strcmp(what, "seccomp"))
        say_number("result", restrict_calls(words[1]));
    else if (!strcmp(what, "sparse"))
        say_number("result", close_range(2, ~0u, 0) ? errno : 0);
    else if (!strcmp(what, "exec"))
        say_number("failed", execv(words[1], (char *[]){words[1], 0}));
    else if (!strcmp(what, "exit"))
        exit(atoi(words[1]));
    else if (!strcmp(what, "abort"))
        abort();
    else
        return 0;
    return 1;
}

static void obey(char *words[4])
{
    const char *what = words[0];
    if (obey_process(words)) return;
    if (!strcmp(what, "open")) {
        library = dlopen(words[1], RTLD_NOW);
        say(library ? "done" : dlerror());
    } else if (!strcmp(what, "close")) {
        say_number("result", dlclose(library));
    } else if (!strcmp(what, "churn")) {
        calm = 0;
        start_threads((unsigned)atoi(words[1]), churn);
        say("done");
    } else if (!strcmp(what, "trade")) {
        calm = 0;
        traders = (unsigned)atoi(words[1]);
        start_threads(traders, trade);
        say("done");
    } else if (!strcmp(what, "calm")) {
        __atomic_store_n(&calm, 1, __ATOMIC_RELEASE);
        join_threads();
        for (unsigned i = 0; i < traders; i++)
            end_batch(__atomic_exchange_n(&traded[i], 0, __ATOMIC_ACQ_REL));
        say("done");
    } else if (!strcmp(what, "cross")) {
        run_crossing((unsigned)atoi(words[1]), strtoul(words[2], 0, 10));
        say("done");
    } else if (!strcmp(what, "mallinfo")) {
        struct mallinfo2 info = mallinfo2();
        say_number("used", (long)(info.uordblks + info.hblkhd));
    } else if (!strcmp(what, "spin")) {
        say("spinning");
        for (volatile unsigned i = 0;; i++)
            ;
    } else {
        obey_set(words);
    }
}

int main(void)
{
    return obey_all(obey);
}
