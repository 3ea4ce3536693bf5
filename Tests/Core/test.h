/* SPDX-License-Identifier: MIT */
/* A small harness: a program is a table of cases, each run in a process of its own, so that every
 * case starts with a heap that was never used and may end as it likes.
 *
 *     static void opens(void) { REQUIRE(open_it() == 0); }
 *     static const struct test_case cases[] = {{"opens", opens, 0}, {"long_one", longer, 30}};
 *     TEST_MAIN(cases)
 *
 * Prints `ok core/NAME [VARIANT]`, `not ok core/NAME [VARIANT]: reason` or `skip core/NAME
 * [VARIANT]: reason` a case; a case fails by REQUIRE, a signal, a bad exit status or its time limit.
 *
 *     PROGRAM VARIANT [NAME...]     TEST_LONG=1 and TEST_SEED=N in the environment are obeyed */
#ifndef TEST_H
#define TEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct test_case {
    const char *name;
    void (*run)(void);
    unsigned seconds; /* time limit; 0: the usual one */
};

int test_main(int argc, char **argv, const struct test_case *cases, size_t count);
#define TEST_MAIN(cases)                                                                           \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_main(argc, argv, cases, sizeof(cases) / sizeof(*cases));                       \
    }

/* Ends the case. May be called by any thread and in forked children of the case (whose status the
 * case has to look at). */
_Noreturn void test_fail(const char *file, int line, const char *what);
_Noreturn void test_skip(const char *reason);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) test_fail(__FILE__, __LINE__, #condition);                               \
    } while (0)

/* Of two numbers; says which they were. */
#define REQUIRE_EQUAL(a, b)                                                                        \
    do {                                                                                           \
        unsigned long long left_ = (unsigned long long)(a), right_ = (unsigned long long)(b);      \
        if (left_ != right_) {                                                                     \
            char text_[256];                                                                       \
            snprintf(text_, sizeof(text_), "%s == %s (%llu, %llu)", #a, #b, left_, right_);        \
            test_fail(__FILE__, __LINE__, text_);                                                  \
        }                                                                                          \
    } while (0)

/* How much to do: `usual`, ten times that with TEST_LONG, a fifth under a slow sanitizer. */
uint64_t test_scale(uint64_t usual);

/* Runs the function in four threads at once, and waits for all. */
void test_together(void *(*function)(void *), void *argument);

/* Random numbers that a seed repeats. */
struct random {
    uint64_t state;
};
struct random test_random(uint64_t stream);
uint64_t random_next(struct random *random);
uint64_t random_below(struct random *random, uint64_t limit);

/* Runs `function` in a forked child; returns its wait status, and what it wrote to standard error
 * (terminated, cut to fit). A child that does not end in time is killed by SIGALRM. */
int test_in_child(void (*function)(void *), void *argument, char *text, size_t size);

#endif
