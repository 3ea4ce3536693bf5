/* SPDX-License-Identifier: MIT */
/* Sizes that get rarer as they grow, and rings of objects freed by the neighbour.
 *
 * After the description of rpmalloc's benchmark (M. Jansson): each thread keeps a ring of objects
 * whose sizes fall off linearly from 16 bytes to 16 KiB, replaces them in a stride that is not
 * their age, and every so often gives a whole batch to another thread, which frees it. */
#include "bench.h"

#include <stdatomic.h>

enum { RING = 2000, BATCH = 200, STRIDE = 7, SIZE_LOW = 16, SIZE_HIGH = 16 << 10, MAILBOXES = 256 };

struct batch {
    void *object[BATCH];
};

struct rptest {
    struct mc_bench *bench;
    uint64_t total;
    _Atomic(struct batch *) mailbox[MAILBOXES]; /* [shared] taken and given whole */
};

/* The smaller of two draws falls linearly; cubed small ones keep the mean near 1 KiB. */
static uint32_t falling_size(uint64_t *seed)
{
    uint32_t a = mc_below(seed, SIZE_HIGH - SIZE_LOW), b = mc_below(seed, SIZE_HIGH - SIZE_LOW);
    uint32_t least = a < b ? a : b;
    return SIZE_LOW + (uint32_t)((uint64_t)least * least / (SIZE_HIGH - SIZE_LOW));
}

static uint64_t batch_end(struct batch *batch)
{
    uint64_t sum = 0;
    if (!batch) return 0;
    for (unsigned i = 0; i < BATCH; i++)
        sum += mc_object_end(batch->object[i]);
    free(batch);
    return sum;
}

static uint64_t rptest_work(void *context, unsigned index)
{
    struct rptest *rptest = context;
    unsigned threads = rptest->bench->threads, at = 0;
    uint64_t count = mc_share(rptest->total, threads, index), seed = mc_seed(index), sum = 0;
    void **ring = mc_need(calloc(RING, sizeof(*ring)));
    for (uint64_t i = 0; i < count;) {
        for (unsigned k = 0; k < RING && i < count; k++, i++) {
            sum += mc_object_end(ring[at]);
            ring[at] = mc_object_new(falling_size(&seed), (uint32_t)i);
            at = (at + STRIDE) % RING;
        }
        struct batch *batch = mc_need(malloc(sizeof(*batch)));
        for (unsigned k = 0; k < BATCH; k++) {
            batch->object[k] = ring[k];
            ring[k] = NULL;
        }
        unsigned to = (index + 1) % threads;
        sum += batch_end(atomic_exchange(&rptest->mailbox[to], batch));
        sum += batch_end(atomic_exchange(&rptest->mailbox[index], NULL));
    }
    for (unsigned i = 0; i < RING; i++)
        sum += mc_object_end(ring[i]);
    free(ring);
    return sum;
}

uint64_t mc_bench_rptest(struct mc_bench *bench)
{
    struct rptest *rptest = mc_need(calloc(1, sizeof(*rptest)));
    rptest->bench = bench;
    rptest->total = mc_scaled(bench, 5000000);
    uint64_t sum = mc_in_threads(bench->threads, rptest_work, rptest);
    for (unsigned i = 0; i < MAILBOXES; i++)
        sum += batch_end(atomic_load(&rptest->mailbox[i]));
    bench->ops = rptest->total;
    free(rptest);
    return sum;
}
