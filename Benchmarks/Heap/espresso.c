/* SPDX-License-Identifier: MIT */
/* Complements of boolean functions: a program of small sets and short arrays of them.
 *
 * After the description of espresso (Brayton and others, "Logic Minimization Algorithms for VLSI
 * Synthesis"), the minimizer that Zorn, Grunwald and Berger used to compare allocators: a cover is
 * an array of cubes, a cube a bit set with two bits a variable (may be 0, may be 1). The
 * complement splits on a variable, recurses into both cofactors, and joins what comes back after
 * dropping cubes that others contain. Objects are 8 to some hundred bytes, recursion frees most of
 * them soon, results survive. Covers grow by realloc. */
#include "bench.h"

#include <string.h>

enum { VARIABLES_MAX = 20, CUBES = 14, GROW_FROM = 4 };

struct cube {
    uint32_t variables;
    uint32_t value[]; /* one word for 16 variables */
};

struct cover {
    uint32_t variables, count, capacity;
    struct cube **cube;
};

static uint64_t cubes_made;

static size_t words(uint32_t variables)
{
    return (variables + 15) / 16;
}

static struct cube *cube_copy(const struct cube *from)
{
    size_t size = sizeof(*from) + words(from->variables) * sizeof(from->value[0]);
    cubes_made++;
    return memcpy(mc_need(malloc(size)), from, size);
}

static struct cube *cube_full(uint32_t variables)
{
    size_t size = sizeof(struct cube) + words(variables) * sizeof(uint32_t);
    struct cube *cube = mc_need(malloc(size));
    cubes_made++;
    cube->variables = variables;
    memset(cube->value, 0xff, words(variables) * sizeof(uint32_t));
    return cube;
}

static unsigned part(const struct cube *cube, uint32_t variable)
{
    return cube->value[variable / 16] >> variable % 16 * 2 & 3;
}

static void set_part(struct cube *cube, uint32_t variable, unsigned part)
{
    uint32_t *word = &cube->value[variable / 16];
    *word = (*word & ~(3u << variable % 16 * 2)) | part << variable % 16 * 2;
}

static bool contains(const struct cube *outer, const struct cube *inner)
{
    for (size_t i = 0; i < words(outer->variables); i++)
        if (inner->value[i] & ~outer->value[i]) return false;
    return true;
}

static bool is_full(const struct cube *cube)
{
    for (uint32_t v = 0; v < cube->variables; v++)
        if (part(cube, v) != 3) return false;
    return true;
}

static struct cover *cover_new(uint32_t variables)
{
    struct cover *cover = mc_need(malloc(sizeof(*cover)));
    *cover = (struct cover){.variables = variables};
    return cover;
}

static void cover_add(struct cover *cover, struct cube *cube)
{
    if (cover->count == cover->capacity) {
        cover->capacity = cover->capacity ? cover->capacity * 2 : GROW_FROM;
        cover->cube = mc_need(realloc(cover->cube, cover->capacity * sizeof(cube)));
    }
    cover->cube[cover->count++] = cube;
}

static void cover_end(struct cover *cover)
{
    for (uint32_t i = 0; i < cover->count; i++)
        free(cover->cube[i]);
    free(cover->cube);
    free(cover);
}

/* The cubes that meet `variable` = `side`, freed of that variable. */
static struct cover *cofactor(const struct cover *cover, uint32_t variable, unsigned side)
{
    struct cover *half = cover_new(cover->variables);
    for (uint32_t i = 0; i < cover->count; i++) {
        if (!(part(cover->cube[i], variable) & side)) continue;
        struct cube *cube = cube_copy(cover->cube[i]);
        set_part(cube, variable, 3);
        cover_add(half, cube);
    }
    return half;
}

/* The variable that most cubes depend on; the cover's variable count when none does. */
static uint32_t splitting(const struct cover *cover)
{
    uint32_t best = cover->variables, most = 0;
    for (uint32_t v = 0; v < cover->variables; v++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < cover->count; i++)
            count += part(cover->cube[i], v) != 3;
        if (count > most) {
            most = count;
            best = v;
        }
    }
    return best;
}

/* Adds `cube` unless one in the cover contains it; drops those that it contains. */
static void absorb(struct cover *cover, struct cube *cube)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cover->count; i++) {
        if (contains(cover->cube[i], cube)) {
            free(cube);
            return;
        }
    }
    for (uint32_t i = 0; i < cover->count; i++) {
        if (contains(cube, cover->cube[i]))
            free(cover->cube[i]);
        else
            cover->cube[kept++] = cover->cube[i];
    }
    cover->count = kept;
    cover_add(cover, cube);
}

/* Moves the cubes of `half` into `whole`, restricted to `variable` = `side`. Ends `half`. */
static void join(struct cover *whole, struct cover *half, uint32_t variable, unsigned side)
{
    for (uint32_t i = 0; i < half->count; i++) {
        struct cube *cube = half->cube[i];
        set_part(cube, variable, part(cube, variable) & side);
        absorb(whole, cube);
    }
    half->count = 0;
    cover_end(half);
}

static struct cover *complement(const struct cover *cover)
{
    struct cover *result = cover_new(cover->variables);
    if (!cover->count) {
        cover_add(result, cube_full(cover->variables));
        return result;
    }
    for (uint32_t i = 0; i < cover->count; i++)
        if (is_full(cover->cube[i])) return result;
    uint32_t variable = splitting(cover);
    for (unsigned side = 1; side <= 2; side++) {
        struct cover *half = cofactor(cover, variable, side);
        join(result, complement(half), variable, side);
        cover_end(half);
    }
    return result;
}

static struct cover *random_cover(uint64_t *seed, uint32_t variables)
{
    struct cover *cover = cover_new(variables);
    for (unsigned i = 0; i < CUBES; i++) {
        struct cube *cube = cube_full(variables);
        for (unsigned k = 0; k < 5; k++)
            set_part(cube, mc_below(seed, variables), 1 + mc_below(seed, 2));
        cover_add(cover, cube);
    }
    return cover;
}

static uint64_t cover_sum(const struct cover *cover)
{
    uint64_t sum = cover->count;
    for (uint32_t i = 0; i < cover->count; i++)
        for (size_t w = 0; w < words(cover->variables); w++)
            sum = sum * 31 + cover->cube[i]->value[w];
    return sum;
}

uint64_t mc_bench_espresso(struct mc_bench *bench)
{
    uint64_t rounds = mc_scaled(bench, 1200), seed = mc_seed(0), sum = 0;
    cubes_made = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        uint32_t variables = mc_between(&seed, 8, VARIABLES_MAX);
        struct cover *cover = random_cover(&seed, variables);
        struct cover *off = complement(cover);
        sum = sum * 31 + cover_sum(off);
        cover_end(off);
        cover_end(cover);
    }
    bench->ops = cubes_made;
    return sum;
}
