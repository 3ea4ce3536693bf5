/* SPDX-License-Identifier: MIT */
/* Continued fraction expansion of a square root: a program of tiny, short-lived bignums.
 *
 * After the description of cfrac (D. Barrett; used by Zorn and Grunwald to compare allocators):
 * the continued fraction method of factoring does all arithmetic on numbers of a few digits, each
 * a heap object of its own that lives for one or two operations. Here: expand sqrt(N) for a
 * 38-digit N, keep the convergents modulo N, and divide every Q by the primes of a factor base.
 * Most objects are 16 to 48 bytes; about a dozen live at a time. */
#include "bench.h"

#include <string.h>

enum { FACTOR_BASE = 24 };

/* A natural number: 16-bit digits, least first, without leading zeros; zero has no digit. */
struct number {
    uint32_t count;
    uint16_t digit[];
};

static uint64_t numbers_made;

static struct number *number_new(uint32_t count)
{
    numbers_made++;
    struct number *n = mc_need(malloc(sizeof(*n) + count * sizeof(n->digit[0])));
    n->count = count;
    return n;
}

static struct number *trim(struct number *n)
{
    while (n->count && !n->digit[n->count - 1])
        n->count--;
    return n;
}

static struct number *from_u32(uint32_t value)
{
    struct number *n = number_new(2);
    n->digit[0] = (uint16_t)value;
    n->digit[1] = (uint16_t)(value >> 16);
    return trim(n);
}

static struct number *plus(const struct number *a, const struct number *b)
{
    uint32_t count = (a->count > b->count ? a->count : b->count) + 1, carry = 0;
    struct number *sum = number_new(count);
    for (uint32_t i = 0; i < count; i++) {
        carry += (i < a->count ? a->digit[i] : 0u) + (i < b->count ? b->digit[i] : 0u);
        sum->digit[i] = (uint16_t)carry;
        carry >>= 16;
    }
    return trim(sum);
}

/* Requires a >= b. */
static struct number *minus(const struct number *a, const struct number *b)
{
    struct number *difference = number_new(a->count);
    int32_t borrow = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        borrow += (int32_t)a->digit[i] - (i < b->count ? (int32_t)b->digit[i] : 0);
        difference->digit[i] = (uint16_t)borrow;
        borrow >>= 16;
    }
    return trim(difference);
}

static struct number *times(const struct number *a, const struct number *b)
{
    struct number *product = number_new(a->count + b->count);
    memset(product->digit, 0, product->count * sizeof(product->digit[0]));
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t carry = 0;
        for (uint32_t k = 0; k < b->count; k++) {
            carry += (uint32_t)a->digit[i] * b->digit[k] + product->digit[i + k];
            product->digit[i + k] = (uint16_t)carry;
            carry >>= 16;
        }
        product->digit[i + b->count] = (uint16_t)carry;
    }
    return trim(product);
}

static struct number *by_digit(const struct number *a, uint32_t divisor, uint32_t *rest)
{
    struct number *quotient = number_new(a->count);
    uint32_t left = 0;
    for (uint32_t i = a->count; i-- > 0;) {
        left = left << 16 | a->digit[i];
        quotient->digit[i] = (uint16_t)(left / divisor);
        left %= divisor;
    }
    *rest = left;
    return trim(quotient);
}

static struct number *shifted(const struct number *a, unsigned bits)
{
    struct number *n = number_new(a->count + 1);
    uint32_t carry = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        carry |= (uint32_t)a->digit[i] << bits;
        n->digit[i] = (uint16_t)carry;
        carry >>= 16;
    }
    n->digit[a->count] = (uint16_t)carry;
    return n;
}

/* One digit of long division: takes `guess` times the divisor off `left` at `at`, and corrects a
 * guess that was too large. Returns the right digit. */
static uint16_t take_off(struct number *left, const struct number *d, uint32_t at, uint32_t guess)
{
    int64_t borrow = 0;
    for (uint32_t i = 0; i <= d->count; i++) {
        uint64_t part = i < d->count ? (uint64_t)guess * d->digit[i] : 0;
        borrow += (int64_t)left->digit[at + i] - (int64_t)part;
        left->digit[at + i] = (uint16_t)borrow;
        borrow >>= 16;
    }
    while (borrow < 0) {
        uint32_t carry = 0;
        guess--;
        for (uint32_t i = 0; i <= d->count; i++) {
            carry += left->digit[at + i] + (i < d->count ? d->digit[i] : 0u);
            left->digit[at + i] = (uint16_t)carry;
            carry >>= 16;
        }
        borrow += carry;
    }
    return (uint16_t)guess;
}

/* Quotient, and the rest in *rest; both new. Schoolbook long division. Requires b > 0. */
static struct number *divided(const struct number *a, const struct number *b, struct number **rest)
{
    if (b->count == 1) {
        uint32_t left;
        struct number *quotient = by_digit(a, b->digit[0], &left);
        *rest = from_u32(left);
        return quotient;
    }
    unsigned bits = (unsigned)__builtin_clz(b->digit[b->count - 1]) - 16;
    struct number *left = shifted(a, bits), *d = trim(shifted(b, bits));
    uint32_t top = d->digit[d->count - 1];
    uint32_t count = left->count > d->count ? left->count - d->count : 0;
    struct number *quotient = number_new(count);
    for (uint32_t at = count; at-- > 0;) {
        uint32_t high = (uint32_t)left->digit[at + d->count] << 16;
        uint32_t guess = (high | left->digit[at + d->count - 1]) / top;
        quotient->digit[at] = take_off(left, d, at, guess > 0xffff ? 0xffff : guess);
    }
    for (uint32_t i = 0; i < left->count; i++) {
        uint32_t above = i + 1 < left->count ? left->digit[i + 1] : 0;
        left->digit[i] = (uint16_t)((above << 16 | left->digit[i]) >> bits);
    }
    free(d);
    *rest = trim(left);
    return trim(quotient);
}

static struct number *quotient(const struct number *a, const struct number *b)
{
    struct number *rest, *result = divided(a, b, &rest);
    free(rest);
    return result;
}

static struct number *modulo(const struct number *a, const struct number *b)
{
    struct number *rest;
    free(divided(a, b, &rest));
    return rest;
}

static bool less(const struct number *a, const struct number *b)
{
    if (a->count != b->count) return a->count < b->count;
    for (uint32_t i = a->count; i-- > 0;)
        if (a->digit[i] != b->digit[i]) return a->digit[i] < b->digit[i];
    return false;
}

/* Newton's method from above: the largest root with root * root <= n. */
static struct number *square_root(const struct number *n)
{
    struct number *root = number_new(n->count / 2 + 1);
    memset(root->digit, 0xff, root->count * sizeof(root->digit[0]));
    for (;;) {
        struct number *part = quotient(n, root), *both = plus(root, part);
        uint32_t odd;
        struct number *next = by_digit(both, 2, &odd);
        free(part);
        free(both);
        if (!less(next, root)) {
            free(next);
            return root;
        }
        free(root);
        root = next;
    }
}

/* Divides q by the factor base as often as it goes; true when nothing is left but 1. */
static bool smooth(const struct number *q, uint64_t *exponents)
{
    static const uint16_t primes[FACTOR_BASE] = {2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31, 37,
                                                 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89};
    struct number *left = plus(q, &(struct number){0});
    for (unsigned i = 0; i < FACTOR_BASE; i++) {
        for (;;) {
            uint32_t rest;
            struct number *part = by_digit(left, primes[i], &rest);
            if (rest || !left->count) {
                free(part);
                break;
            }
            *exponents += primes[i];
            free(left);
            left = part;
        }
    }
    bool is_one = left->count == 1 && left->digit[0] == 1;
    free(left);
    return is_one;
}

static void replace(struct number **old, struct number *next)
{
    free(*old);
    *old = next;
}

/* P' = aQ - P, Q' = (N - P'P') / Q, a' = (root + P') / Q', A'' = a'A' + A mod N. */
static void expand(const struct number *n, const struct number *root, struct number *state[5])
{
    struct number **p = &state[0], **q = &state[1], **a = &state[2];
    struct number *product = times(*a, *q);
    replace(p, minus(product, *p));
    replace(&product, times(*p, *p));
    replace(&product, minus(n, product));
    replace(q, quotient(product, *q));
    replace(&product, plus(root, *p));
    replace(a, quotient(product, *q));
    replace(&product, times(*a, state[4]));
    replace(&product, plus(product, state[3]));
    replace(&state[3], state[4]);
    state[4] = modulo(product, n);
    free(product);
}

uint64_t mc_bench_cfrac(struct mc_bench *bench)
{
    uint64_t steps = mc_scaled(bench, 600000), sum = 0;
    struct number *n = number_new(8);
    for (uint32_t i = 0; i < n->count; i++)
        n->digit[i] = (uint16_t)(0x9e37u * (i + 1) | 1);
    numbers_made = 1;
    struct number *root = square_root(n);
    struct number *state[5] = {from_u32(0), from_u32(1), plus(root, &(struct number){0}),
                               from_u32(1), plus(root, &(struct number){0})};
    for (uint64_t i = 0; i < steps; i++) {
        expand(n, root, state);
        if (smooth(state[1], &sum)) sum += state[4]->digit[0] * i;
    }
    for (unsigned i = 0; i < 5; i++) {
        sum = sum * 31 + state[i]->count + (state[i]->count ? state[i]->digit[0] : 0u);
        free(state[i]);
    }
    free(root);
    free(n);
    bench->ops = numbers_made;
    return sum;
}
