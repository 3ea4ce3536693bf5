/* SPDX-License-Identifier: MIT */
/* See sampling.h. The functions of mathematics are here since libm is not: good to 12 digits. */
#include "sampling.h"

#include "os.h"

__thread struct mc_sampling mc_sampling;
uint8_t mc_sampling_used; /* [shared] */

uint32_t mc_sampling_interval(void)
{
    uint32_t n = mc_load(&mc_own_region.sample); /* another process wrote it */
    return n >= MC_SAMPLE_LEAST && n <= MC_SAMPLE_MOST ? n : 0;
}

/* 1 - exp(-x) for x >= 0: a series for a small part of x, doubled: f(2x) = f(x) (2 - f(x)). */
static double one_less_exp(double x)
{
    enum { DOUBLINGS = 16 };
    if (x > 40) return 1;
    double part = x / (1 << DOUBLINGS);
    double result = part * (1 - part / 2 * (1 - part / 3 * (1 - part / 4)));
    for (int i = 0; i < DOUBLINGS; i++)
        result *= 2 - result;
    return result;
}

/* -log(u), 0 < u <= 1: u = m 2^e with m near 1, and log m = 2 atanh((m - 1) / (m + 1)). */
static double minus_log(double u)
{
    static const double log_2 = 0.693147180559945309;
    int exponent = 0;
    while (u < 0.70) {
        u *= 2;
        exponent++;
    }
    double t = (u - 1) / (u + 1), square = t * t, power = t, sum = 0;
    for (int k = 1; k < 20; k += 2) {
        sum += power / k;
        power *= square;
    }
    return exponent * log_2 - 2 * sum;
}

/* Vigna's splitmix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t value = *state += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

uint64_t mc_sampling_draw(uint32_t n, uint64_t *random)
{
    double u = (double)((next_random(random) >> 11) + 1) / (double)(1ull << 53);
    return (uint64_t)(minus_log(u) * (double)(1ull << n));
}

/* To the next point: at least the byte that it lies in. */
static int64_t distance(uint32_t n, struct mc_sampling *own)
{
    return (int64_t)mc_sampling_draw(n, &own->random) + 1;
}

int mc_sampling_takes(size_t size)
{
    struct mc_sampling *own = &mc_sampling;
    uint32_t n = mc_sampling_interval();
    int64_t counted = (int64_t)(size + !size);
    int64_t before = (int64_t)((uint64_t)own->left + (uint64_t)counted);
    if (!n) {
        own->interval = 0;
        own->left = 0;
        return 1;
    }
    mc_store(&mc_sampling_used, 1);
    if (own->interval != n || before <= 0) {
        if (!own->random) own->random = mc_os_random() ^ (uint64_t)own;
        own->interval = n;
        own->left = distance(n, own) - counted;
    }
    if (own->left > 0) return 0;
    own->left = distance(n, own);
    return 1;
}

static uint64_t rounded(double value)
{
    return (uint64_t)(value + 0.5);
}

struct mc_weighed mc_sampling_weigh(uint32_t n, uint64_t requested, uint64_t usable)
{
    double interval = (double)(1ull << n), size = (double)(requested + !requested);
    double chance = one_less_exp(size / interval), weight = 1 / chance;
    double square = weight * (1 - chance) / chance; /* w (w - 1), exact where w is nearly 1 */
    return (struct mc_weighed){
        .count = rounded(weight * MC_SAMPLE_UNIT),
        .requested = requested ? rounded(size * weight) : 0,
        .usable = rounded((double)usable * weight),
        .count_square = rounded(square),
        .bytes_square = rounded(size / interval * size * square),
    };
}
