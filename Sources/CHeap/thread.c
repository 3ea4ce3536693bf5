/* SPDX-License-Identifier: MIT */
/* See thread.h. */
#define _GNU_SOURCE
#include "thread.h"

#include <errno.h>
#include <pthread.h>

#include "class.h"
#include "meta.h"
#include "os.h"
#include "reuse.h"
#include "root.h"

struct mc_span mc_span_none;

struct mc_owner mc_owner_none;

__thread struct mc_thread *mc_self = &mc_thread_none;
__thread uint64_t mc_direct[MC_DIRECT_COUNT] = {[0 ... MC_DIRECT_COUNT - 1] =
                                                    (uint64_t)&mc_thread_none.serving[0]};
__thread uint32_t mc_led;
_Static_assert(MC_DIRECT_CLASSES <= 32, "a bit each");

/* What served the thread that had the struct before serves this one. Requests of no bytes go the long way:
 * nobody else has to tell them from others. */
static void serve(struct mc_thread *self)
{
    for (uint64_t quanta = 1; quanta < MC_DIRECT_COUNT; quanta++)
        mc_direct[quanta] = (uint64_t)&self->serving[mc_class_for(quanta * MC_QUANTUM)];
}

/* Robust; locked by the thread itself as long as it lives. */
static pthread_mutex_t *alive(struct mc_thread *thread)
{
    return (pthread_mutex_t *)((struct mc_owner *)thread)->alive;
}
_Static_assert(sizeof(pthread_mutex_t) <= sizeof(mc_owner_none.alive), "it has its place there");

struct mc_thread *mc_thread_first(void)
{
    return (struct mc_thread *)mc_load_acquire(&mc_root()->threads);
}

unsigned mc_thread_number(void)
{
    return mc_self->number;
}

/* Makes `alive` anew and locks it, by the thread itself on its own stack. Fails only if the thread has none of the kernel's support for
 * robust mutexes; then its end stays unnoticed, and its spans serve nobody else. */
static void hold(struct mc_thread *thread)
{
    pthread_mutex_t *mutex = alive(thread);
    mc_store(&thread->stack_at, (uint64_t)__builtin_frame_address(0));
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &robust);
    pthread_mutex_lock(mutex);
    thread->tid = (uint32_t)mutex->__data.__owner; /* gettid(2) without the call */
}

/* Whether the kernel has marked the mutex: one load, so that a search over thousands is cheap. */
static int looks_dead(struct mc_thread *thread)
{
    enum { OWNER_DIED = 0x40000000 }; /* FUTEX_OWNER_DIED */
    return mc_load(&alive(thread)->__data.__lock) & OWNER_DIED;
}

int mc_thread_has_ended(struct mc_thread *thread)
{
    return mc_load(&thread->state) == MC_THREAD_LIVE && looks_dead(thread);
}

int mc_thread_seize(struct mc_thread *thread)
{
    uint32_t state = mc_load(&thread->state); /* live ones keep their cache line */
    if (state == MC_THREAD_FREE && mc_swap_if(&thread->state, &state, MC_THREAD_BUSY)) return 1;
    if (state != MC_THREAD_LIVE || !looks_dead(thread) ||
        !mc_swap_if(&thread->state, &state, MC_THREAD_BUSY))
        return 0;
    if (looks_dead(thread)) return 1;
    /* Since the first look, a new thread has taken it over and lives. */
    mc_store_release(&thread->state, MC_THREAD_LIVE);
    return 0;
}

void mc_thread_let_go(struct mc_thread *thread)
{
    mc_store_release(&thread->state, MC_THREAD_FREE); /* pairs with mc_thread_seize */
}

static struct mc_thread *make_thread(void)
{
    struct mc_thread *thread = mc_meta_alloc(sizeof(struct mc_owner));
    if (!thread) return 0;
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++)
        thread->current[i] = (uint64_t)&mc_span_none;
    for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++) {
        uint32_t room = mc_reuse_room(i);
        thread->serving[i].reuse = (struct mc_list){0, (int32_t)room, room};
    }
    thread->state = MC_THREAD_BUSY;
    thread->number = (uint32_t)mc_add(&mc_root()->thread_count, 1) + 1;
    uint64_t newest = mc_load(&mc_root()->threads);
    do {
        thread->next = newest;
    } while (!mc_swap_if(&mc_root()->threads, &newest, (uint64_t)thread));
    if (!newest) mc_os_fork_watch(); /* the first thread of the process */
    return thread;
}

/* It is the calling thread's from now on. */
static void become(struct mc_thread *thread)
{
    int saved = errno;
    hold(thread);
    mc_self = thread;
    serve(thread);
    mc_store(&thread->generation, mc_os_fork_generation());
    mc_store_release(&thread->state, MC_THREAD_LIVE);
    errno = saved;
}

struct mc_thread *mc_thread_attach(void)
{
    if (likely(mc_self != &mc_thread_none)) return mc_self;
    int saved = errno;
    struct mc_thread *thread = mc_thread_first();
    while (thread && !mc_thread_seize(thread))
        thread = mc_thread_next(thread);
    if (!thread) thread = make_thread();
    if (thread) become(thread);
    errno = saved;
    return thread;
}

int mc_thread_inherit(struct mc_thread *ended)
{
    if (likely(mc_self != &mc_thread_none) || !mc_thread_seize(ended)) return 0;
    become(ended);
    return 1;
}

void mc_thread_leave(void)
{
    struct mc_thread *own = mc_self;
    if (own == &mc_thread_none) return;
    mc_self = &mc_thread_none;
    for (unsigned quanta = 0; quanta < MC_DIRECT_COUNT; quanta++)
        mc_direct[quanta] = (uint64_t)&mc_thread_none.serving[0];
    mc_led = 0;
    mc_store(&own->state, MC_THREAD_LOST);
    mc_thread_attach(); /* or else with the next request */
}

/* Threads of the parent are not here. Which structs are theirs the generation tells: it is 0 for
 * those attached in this process before it noticed that it was forked. The struct of the thread that
 * forked is lost too if it is not the caller; it goes on serving, only not another after it. */
void mc_threads_after_fork(void)
{
    static uint64_t generation = 1;
    if (!mc_os_fork_first(MC_FORK_HEAP)) return;
    int saved = errno;
    mc_os_fork_set_generation(++generation);
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread)) {
        uint32_t state = mc_load(&thread->state);
        if (thread == mc_self || !mc_load(&thread->generation))
            mc_store(&thread->generation, generation);
        else if (state == MC_THREAD_LIVE || state == MC_THREAD_BUSY)
            mc_store(&thread->state, MC_THREAD_LOST);
    }
    if (mc_self != &mc_thread_none) hold(mc_self);
    errno = saved;
}
