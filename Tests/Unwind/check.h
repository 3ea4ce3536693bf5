/* SPDX-License-Identifier: MIT */
/* The test protocol for C: CHECK counts and reports, TEST runs one function and prints its line. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int check_failures; /* of the running test */
static int check_failed_tests;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition) && check_failures++ == 0)                                                 \
            printf("not ok %s: line %d: %s\n", check_name, __LINE__, #condition);                  \
    } while (0)

static const char *check_name;

#define TEST(function)                                                                             \
    do {                                                                                           \
        check_name = #function;                                                                    \
        check_failures = 0;                                                                        \
        function();                                                                                \
        if (check_failures)                                                                        \
            check_failed_tests++;                                                                  \
        else                                                                                       \
            printf("ok %s\n", check_name);                                                         \
        fflush(stdout);                                                                            \
    } while (0)

#endif
