/* SPDX-License-Identifier: MIT */
/* Workers: threads that do what they are told, one at a time, so that a seed repeats a run. Who tells
 * them waits until it is done. begin() starts one, replace() ends it and starts another. */
#ifndef WORKERS_H
#define WORKERS_H

#include <pthread.h>

#include "test.h"

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t told;
    void (*job)(void *);
    void *argument;
    int busy, ends;
};

enum { WORKERS = 3 };
static struct worker workers[WORKERS];

static void *work(void *argument)
{
    struct worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    while (!worker->ends) {
        if (worker->busy) {
            worker->job(worker->argument);
            worker->busy = 0;
            pthread_cond_broadcast(&worker->told);
        }
        pthread_cond_wait(&worker->told, &worker->lock);
    }
    pthread_mutex_unlock(&worker->lock);
    return 0;
}

static inline void begin(struct worker *worker)
{
    worker->ends = worker->busy = 0;
    REQUIRE(!pthread_create(&worker->thread, 0, work, worker));
}

/* The thread ends with all it owns; a fresh one is in its place then. */
static inline void replace(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->ends = 1;
    pthread_cond_broadcast(&worker->told);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, 0);
    begin(worker);
}

/* Runs `job` on a random thread, which may be this one, and waits for it. */
static inline void somewhere(struct random *random, void (*job)(void *), void *argument)
{
    uint64_t number = random_below(random, WORKERS + 1);
    if (number == WORKERS) {
        job(argument);
        return;
    }
    struct worker *worker = &workers[number];
    pthread_mutex_lock(&worker->lock);
    worker->job = job;
    worker->argument = argument;
    worker->busy = 1;
    pthread_cond_broadcast(&worker->told);
    while (worker->busy)
        pthread_cond_wait(&worker->told, &worker->lock);
    pthread_mutex_unlock(&worker->lock);
}

#endif
