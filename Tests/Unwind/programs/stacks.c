/* SPDX-License-Identifier: MIT */
/* Other stacks: coroutines on mapped, heap and static memory, handlers on an alternate stack
 * (nested too, also while a coroutine runs), threads with small and with their own stacks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { COROUTINES = 6, STACK = 65536 };

static volatile unsigned sink;
static __thread ucontext_t resumer, coroutines[COROUTINES];
static double end;

static int over(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + now.tv_nsec * 1e-9 > end;
}

static __attribute__((noinline)) void work(unsigned depth, unsigned i)
{
    char *memory = malloc(depth * 8 + 16);
    memset(memory, (int)i, depth * 8 + 16);
    if (depth) work(depth - 1, i + 1);
    sink += (unsigned char)memory[depth];
    free(memory);
}

static __attribute__((noinline)) void work_and_yield(int self, unsigned depth)
{
    if (depth) {
        work_and_yield(self, depth - 1);
        sink++;
        return;
    }
    work(5, depth);
    swapcontext(&coroutines[self], &resumer);
    work(3, depth);
}

static void coroutine(int self)
{
    for (unsigned i = 0;; i++)
        work_and_yield(self, i % 20);
}

static void short_coroutine(int self)
{
    work((unsigned)self, 2); /* returns into uc_link */
}

static void *new_stack(int kind, size_t size)
{
    static char fixed[4][STACK];
    static int used;
    void *map;
    switch (kind % 3) {
    case 0:
        map = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect((char *)map + 4096, size, PROT_READ | PROT_WRITE);
        return (char *)map + 4096;
    case 1: return malloc(size);
    default: return fixed[__atomic_fetch_add(&used, 1, __ATOMIC_RELAXED) % 4];
    }
}

static void prepare(ucontext_t *context, void *stack, void (*run)(int), int argument)
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK;
    context->uc_link = &resumer;
    makecontext(context, (void (*)(void))run, 1, argument);
}

/* Stacks that come and go at the same addresses. */
static void run_short(int i)
{
    ucontext_t context;
    char *map = mmap(NULL, 3 * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(map + STACK, STACK, PROT_READ | PROT_WRITE);
    prepare(&context, map + STACK, short_coroutine, i % 40);
    swapcontext(&resumer, &context);
    munmap(map, 3 * STACK);
}

static void on_signal(int signal)
{
    work(4, 1);
    if (signal == SIGUSR1) raise(SIGUSR2);
    work(2, 1);
}

static void *run_all(void *argument)
{
    int first = (int)(long)argument;
    stack_t alternate = {.ss_sp = malloc(STACK), .ss_size = STACK};
    sigaltstack(&alternate, NULL);
    for (int i = 0; i < COROUTINES; i++)
        prepare(&coroutines[i], new_stack(first ? i % 2 : i, STACK), coroutine, i);
    for (unsigned i = 0; !over(); i++) {
        swapcontext(&resumer, &coroutines[i % COROUTINES]);
        if (i % 8 == 0) raise(SIGUSR1);
        if (i % 4 == 0) run_short((int)i);
        work(i % 30, i);
    }
    return NULL;
}

static void *small(void *argument)
{
    while (!over())
        work(20, 3);
    return argument;
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    end = (double)now.tv_sec + now.tv_nsec * 1e-9 + (argc > 1 ? atof(argv[1]) : 2);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = 0;
    sigaction(SIGUSR2, &action, NULL);
    pthread_t threads[3];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_create(&threads[0], NULL, run_all, (void *)1L);
    pthread_attr_setstacksize(&attributes, 131072);
    pthread_attr_setguardsize(&attributes, 0);
    pthread_create(&threads[1], &attributes, small, NULL);
    pthread_attr_setstack(
        &attributes,
        mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 18);
    pthread_create(&threads[2], &attributes, small, NULL);
    run_all(NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
