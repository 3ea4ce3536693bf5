/* SPDX-License-Identifier: MIT */
/* Gravity among bodies by an octree (J. Barnes and P. Hut, "A hierarchical O(N log N)
 * force-calculation algorithm", Nature 1986): few allocations, many visits.
 *
 * Each step builds a tree of cells on the heap, walks it once for every body and frees it.
 * Allocation is a small part of the time; where the heap put the cells is the larger one. */
#include "bench.h"

#include <string.h>

enum { BODIES = 6000, CORNERS = 8, DIMENSIONS = 3, SLOWEST_HALVING = 60 };

struct body {
    double at[DIMENSIONS], speed[DIMENSIONS], mass;
};

struct cell {
    double center[DIMENSIONS], half, mass, sum[DIMENSIONS];
    const struct body *only;
    struct cell *child[CORNERS];
};

static uint64_t cells_made;

static struct cell *cell_new(const double center[DIMENSIONS], double half)
{
    struct cell *cell = mc_need(malloc(sizeof(*cell)));
    cells_made++;
    memset(cell, 0, sizeof(*cell));
    memcpy(cell->center, center, sizeof(cell->center));
    cell->half = half;
    return cell;
}

static void cell_add(struct cell *cell, const struct body *body, unsigned depth);

static void cell_descend(struct cell *cell, const struct body *body, unsigned depth)
{
    unsigned corner = 0;
    double center[DIMENSIONS];
    for (unsigned d = 0; d < DIMENSIONS; d++) {
        bool above = body->at[d] >= cell->center[d];
        corner |= (unsigned)above << d;
        center[d] = cell->center[d] + (above ? cell->half : -cell->half) / 2;
    }
    if (!cell->child[corner]) cell->child[corner] = cell_new(center, cell->half / 2);
    cell_add(cell->child[corner], body, depth + 1);
}

static void cell_add(struct cell *cell, const struct body *body, unsigned depth)
{
    bool was_empty = cell->mass == 0;
    cell->mass += body->mass;
    for (unsigned d = 0; d < DIMENSIONS; d++)
        cell->sum[d] += body->mass * body->at[d];
    if (was_empty) {
        cell->only = body;
        return;
    }
    if (depth >= SLOWEST_HALVING) return; /* two bodies at one place stay one mass */
    if (cell->only) {
        const struct body *first = cell->only;
        cell->only = NULL;
        cell_descend(cell, first, depth);
    }
    cell_descend(cell, body, depth);
}

static void cell_end(struct cell *cell)
{
    if (!cell) return;
    for (unsigned i = 0; i < CORNERS; i++)
        cell_end(cell->child[i]);
    free(cell);
}

/* Adds the pull of a cell on a body; cells that look small from there count as one mass. */
static void pull(const struct cell *cell, const struct body *body, double force[DIMENSIONS])
{
    double away[DIMENSIONS], square = 1e-4;
    for (unsigned d = 0; d < DIMENSIONS; d++) {
        away[d] = cell->sum[d] / cell->mass - body->at[d];
        square += away[d] * away[d];
    }
    if (cell->only || 4 * cell->half * cell->half < 0.6 * square) {
        if (cell->only == body) return;
        double pull = cell->mass / (square * (1 + square));
        for (unsigned d = 0; d < DIMENSIONS; d++)
            force[d] += pull * away[d];
        return;
    }
    for (unsigned i = 0; i < CORNERS; i++)
        if (cell->child[i]) pull(cell->child[i], body, force);
}

static void step(struct body *bodies)
{
    static const double origin[DIMENSIONS];
    struct cell *root = cell_new(origin, 4);
    for (unsigned i = 0; i < BODIES; i++)
        cell_add(root, &bodies[i], 0);
    for (unsigned i = 0; i < BODIES; i++) {
        double force[DIMENSIONS] = {0};
        pull(root, &bodies[i], force);
        for (unsigned d = 0; d < DIMENSIONS; d++)
            bodies[i].speed[d] += 1e-4 * force[d];
    }
    cell_end(root);
    for (unsigned i = 0; i < BODIES; i++)
        for (unsigned d = 0; d < DIMENSIONS; d++)
            bodies[i].at[d] += 1e-2 * bodies[i].speed[d];
}

uint64_t mc_bench_barnes(struct mc_bench *bench)
{
    uint64_t steps = mc_scaled(bench, 32), seed = mc_seed(0), sum = 0;
    struct body *bodies = mc_need(calloc(BODIES, sizeof(*bodies)));
    for (unsigned i = 0; i < BODIES; i++) {
        bodies[i].mass = 1.0 / BODIES;
        for (unsigned d = 0; d < DIMENSIONS; d++)
            bodies[i].at[d] = (double)mc_below(&seed, 2000000) / 1e6 - 1;
    }
    cells_made = 0;
    for (uint64_t i = 0; i < steps; i++)
        step(bodies);
    for (unsigned i = 0; i < BODIES; i++) {
        uint64_t bits;
        memcpy(&bits, &bodies[i].at[0], sizeof(bits));
        sum = sum * 31 + bits;
    }
    free(bodies);
    bench->ops = cells_made;
    return sum;
}
