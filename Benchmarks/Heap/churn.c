/* SPDX-License-Identifier: MIT */
/* churn: hours of three programs in seconds, one after the other and over again in one process.
 *
 * Sizes and lifetimes are drawn together from what python3, a C++ compiler and redis were recorded to ask
 * for (churn_cells.h), lifetimes counted in allocations as they were recorded. What was still live at a
 * program's end lives to the end of its phase; one in KEPT of those to the end of all, among what comes
 * after. RSS over live bytes is read at the end of each phase, when most is live, and averaged from the
 * second round on: by then the heap has seen all that will come. */
#include "bench.h"

#include <string.h>

struct cell {
    uint32_t size;     /* upper bound; the one before is 1/9 to 1/8 smaller, from 128 bytes on */
    uint8_t life_log2; /* STILL_LIVE: beyond the end */
    uint32_t count;
};

#include "churn_cells.h"

enum {
    STILL_LIVE = 64,
    WHEEL = 1 << 20,
    ROUNDS = 3,
    PROGRAMS = 3,
    KEPT = 16,
    STEP = 8,
    QUANTUM = 16
};

static const struct program {
    const struct cell *cells;
    uint32_t count;
} programs[PROGRAMS] = {
    {python_cells, sizeof(python_cells) / sizeof(*python_cells)},
    {compiler_cells, sizeof(compiler_cells) / sizeof(*compiler_cells)},
    {redis_cells, sizeof(redis_cells) / sizeof(*redis_cells)},
};

/* An object; its last byte repeats the mark if there is one behind this. */
struct mortal {
    struct mortal *next; /* dies in the same step */
    uint32_t size, mark;
};

struct churn {
    struct mortal **wheel; /* those that die at a step, modulo WHEEL */
    struct mortal *phase, *all;
    uint64_t seed, step, live, before, readings;
    double ratios;
};

static uint64_t bury(struct churn *churn, struct mortal **list)
{
    uint64_t sum = 0;
    for (struct mortal *dead = *list, *next; dead; dead = next) {
        next = dead->next;
        uint32_t size = dead->size;
        if (size > sizeof(*dead) && ((unsigned char *)dead)[size - 1] != (unsigned char)dead->mark)
            mc_bench_fail("an object was damaged");
        sum += (uint64_t)size * 31 + dead->mark;
        churn->live -= size;
        free(dead);
    }
    *list = NULL;
    return sum;
}

static const struct cell *draw(struct churn *churn, const struct program *program,
                               const uint32_t *sums)
{
    uint32_t at = mc_below(&churn->seed, sums[program->count - 1]), low = 0,
             high = program->count - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sums[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return &program->cells[low];
}

static void give_birth(struct churn *churn, const struct cell *cell)
{
    uint32_t spread = cell->size <= STEP * QUANTUM ? QUANTUM : cell->size / (STEP + 1);
    uint32_t size = cell->size - mc_below(&churn->seed, spread);
    if (size < sizeof(struct mortal)) size = sizeof(struct mortal);
    struct mortal *born = mc_need(malloc(size)), **list = &churn->phase;
    born->size = size;
    born->mark = (uint32_t)churn->step;
    if (size > sizeof(*born)) ((unsigned char *)born)[size - 1] = (unsigned char)born->mark;
    if (cell->life_log2 != STILL_LIVE) {
        uint32_t life = 1u << cell->life_log2;
        life += mc_below(&churn->seed, life);
        list = &churn->wheel[(churn->step + (life < WHEEL ? life : WHEEL - 1)) % WHEEL];
    } else if (mc_below(&churn->seed, KEPT) == 0) {
        list = &churn->all;
    }
    born->next = *list;
    *list = born;
    churn->live += size;
}

static uint64_t run_program(struct churn *churn, const struct program *program, uint64_t steps)
{
    uint32_t sums[256], sum = 0;
    uint64_t check = 0;
    for (uint32_t i = 0; i < program->count; i++)
        sums[i] = sum += program->cells[i].count;
    for (uint64_t end = churn->step + steps; churn->step < end; churn->step++) {
        check += bury(churn, &churn->wheel[churn->step % WHEEL]);
        give_birth(churn, draw(churn, program, sums));
    }
    return check;
}

static void read_ratio(struct churn *churn)
{
    churn->ratios += mc_resident_over(churn->live, churn->before);
    churn->readings++;
}

uint64_t mc_bench_churn(struct mc_bench *bench)
{
    static struct mortal *wheel[WHEEL]; /* the program's, not the heap's */
    uint64_t steps = mc_scaled(bench, 1000000), sum = 0;
    struct churn churn = {.wheel = wheel, .seed = mc_seed(0)};
    memset(wheel, 0, sizeof(wheel)); /* resident before the first reading */
    churn.before = mc_resident();
    for (unsigned phase = 0; phase < ROUNDS * PROGRAMS; phase++) {
        sum += run_program(&churn, &programs[phase % PROGRAMS], steps);
        if (phase >= PROGRAMS) read_ratio(&churn);
        sum += bury(&churn, &churn.phase);
    }
    for (unsigned i = 0; i < WHEEL; i++)
        sum += bury(&churn, &wheel[i]);
    sum += bury(&churn, &churn.all);
    bench->rss_ratio = churn.ratios / (double)churn.readings;
    bench->ops = ROUNDS * PROGRAMS * steps;
    return sum;
}
