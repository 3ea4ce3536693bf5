/* SPDX-License-Identifier: MIT */
/* Objects freed by another thread than allocated them.
 *
 * xmalloc: after C. Lever and D. Boreham, "malloc() Performance in a Multithreaded Linux
 * Environment", USENIX 2000: half the threads allocate batches of random sizes and put them in a
 * bounded queue, the other half take batches out and free them.
 * remote: each thread allocates 100 objects at a time and hands them to its right neighbour, who
 * frees them; the rarest kind of program, and the worst for heaps with per-thread lists.
 * With one thread both do the same work without a partner. */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { BATCH = 120, QUEUE = 64, HANDED = 100, DEPTH = 16, THREADS_MAX = 256 };

struct batch {
    struct batch *next;
    void *object[BATCH];
};

struct xmalloc {
    struct mc_bench *bench;
    unsigned makers;
    uint64_t batches;
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    struct batch *queue; /* [lock] last put first taken */
    unsigned queued;     /* [lock] */
    uint64_t taken;      /* [lock] */
};

static struct batch *batch_new(uint64_t *seed)
{
    struct batch *batch = mc_need(malloc(sizeof(*batch)));
    for (unsigned i = 0; i < BATCH; i++)
        batch->object[i] = mc_object_new(mc_between(seed, 8, 500), i);
    return batch;
}

static uint64_t batch_end(struct batch *batch)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < BATCH; i++)
        sum += mc_object_end(batch->object[i]);
    free(batch);
    return sum;
}

static void make(struct xmalloc *x, unsigned index)
{
    uint64_t seed = mc_seed(index);
    for (uint64_t left = mc_share(x->batches, x->makers, index); left; left--) {
        struct batch *batch = batch_new(&seed);
        pthread_mutex_lock(&x->lock);
        while (x->queued == QUEUE)
            pthread_cond_wait(&x->emptied, &x->lock);
        batch->next = x->queue;
        x->queue = batch;
        x->queued++;
        pthread_cond_signal(&x->filled);
        pthread_mutex_unlock(&x->lock);
    }
}

static uint64_t take(struct xmalloc *x)
{
    uint64_t sum = 0;
    for (;;) {
        pthread_mutex_lock(&x->lock);
        while (!x->queue && x->taken < x->batches)
            pthread_cond_wait(&x->filled, &x->lock);
        struct batch *batch = x->queue;
        if (batch) {
            x->queue = batch->next;
            x->queued--;
            /* The last one is out: wake the takers that still wait for more. */
            if (++x->taken == x->batches) pthread_cond_broadcast(&x->filled);
            pthread_cond_signal(&x->emptied);
        }
        pthread_mutex_unlock(&x->lock);
        if (!batch) return sum;
        sum += batch_end(batch);
    }
}

static uint64_t xmalloc_work(void *context, unsigned index)
{
    struct xmalloc *x = context;
    if (index >= x->makers) return take(x);
    make(x, index);
    return 0;
}

uint64_t mc_bench_xmalloc(struct mc_bench *bench)
{
    struct xmalloc x = {.bench = bench,
                        .makers = (bench->threads + 1) / 2,
                        .batches = mc_scaled(bench, 250000),
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .filled = PTHREAD_COND_INITIALIZER,
                        .emptied = PTHREAD_COND_INITIALIZER};
    bench->ops = x.batches * (BATCH + 1);
    if (bench->threads > 1) return mc_in_threads(bench->threads, xmalloc_work, &x);
    uint64_t seed = mc_seed(0), sum = 0;
    for (uint64_t i = 0; i < x.batches; i++)
        sum += batch_end(batch_new(&seed));
    return sum;
}

/* Between each thread and its right neighbour lie DEPTH places; a thread that could only wait for a
 * place yields, so on few processors a whole queue is made or freed per time slice. */
struct place {
    /* [shared] released when the objects are there, and again when they are gone */
    _Alignas(64) atomic_bool full;
    void *object[HANDED];
};

struct ring {
    struct mc_bench *bench;
    uint64_t rounds; /* [const] batches that each thread makes and frees */
    struct place queue[THREADS_MAX][DEPTH];
};

static bool try_give(struct place *place, uint64_t *seed)
{
    if (atomic_load_explicit(&place->full, memory_order_acquire)) return false;
    for (unsigned i = 0; i < HANDED; i++)
        place->object[i] = mc_object_new(mc_between(seed, 16, 256), i);
    atomic_store_explicit(&place->full, true, memory_order_release);
    return true;
}

static bool try_take(struct place *place, uint64_t *sum)
{
    if (!atomic_load_explicit(&place->full, memory_order_acquire)) return false;
    for (unsigned i = 0; i < HANDED; i++)
        *sum += mc_object_end(place->object[i]);
    atomic_store_explicit(&place->full, false, memory_order_release);
    return true;
}

static uint64_t ring_work(void *context, unsigned index)
{
    struct ring *ring = context;
    struct place *mine = ring->queue[index];
    struct place *next = ring->queue[(index + 1) % ring->bench->threads];
    uint64_t given = 0, taken = 0, seed = mc_seed(index), sum = 0;
    while (given < ring->rounds || taken < ring->rounds) {
        bool gave = given < ring->rounds && try_give(&next[given % DEPTH], &seed);
        bool took = taken < ring->rounds && try_take(&mine[taken % DEPTH], &sum);
        given += gave;
        taken += took;
        if (!gave && !took) sched_yield();
    }
    return sum;
}

uint64_t mc_bench_remote(struct mc_bench *bench)
{
    static struct ring ring;
    ring.bench = bench;
    ring.rounds = mc_scaled(bench, 15000000) / bench->threads / HANDED + 1;
    bench->ops = ring.rounds * bench->threads * HANDED;
    return mc_in_threads(bench->threads, ring_work, &ring);
}
