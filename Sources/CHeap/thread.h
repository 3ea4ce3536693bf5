/* SPDX-License-Identifier: MIT */
/* Threads: what each thread of the program owns of the heap, and what becomes of it.
 *
 * A thread takes a struct at its first allocation and keeps it until it ends. How it ends is not
 * watched by a destructor (a pthread key may be the program's last one, and destructors allocate):
 * each struct holds a robust mutex that its thread keeps locked, so that the kernel itself marks
 * the struct when the thread is gone, however it went. Whoever comes by next takes it over: a new
 * thread with all its spans, or a running one (mc_threads_reap) that gives empty spans back.
 *
 *     FREE --attach--> LIVE --thread ends, found--> BUSY --emptied out--> FREE
 *     FREE --reap or adopt--> BUSY --> FREE         LOST: ran in the parent of a forked child
 *
 * Structs are never unmade, so a span's `owner` may be followed at any time. */
#ifndef MC_THREAD_H
#define MC_THREAD_H

#include "heap.h"

extern struct mc_owner mc_owner_none;
#define mc_thread_none mc_owner_none.thread
extern struct mc_span mc_span_none; /* never has a free slot: what serves a class without spans */

/* The calling thread's struct, taken now if it has none; NULL when memory is short. */
struct mc_thread *mc_thread_attach(void);

/* Gives the calling thread, if it has no struct, that of one that ended; 0 if that can't be. Whoever begins
 * by freeing what an ended thread has left is likely to go on with the rest of it, and would free all of
 * that as another's. */
int mc_thread_inherit(struct mc_thread *ended);

/* 1 if its thread has ended, and nobody has come by since. */
int mc_thread_has_ended(struct mc_thread *thread);

/* Takes a FREE or dead thread's struct (for BUSY) so that its spans may be touched; 0 if it is in
 * use. Undone by mc_thread_let_go(), which leaves it FREE. */
int mc_thread_seize(struct mc_thread *thread);
void mc_thread_let_go(struct mc_thread *thread);

/* In a forked child: the calling thread is the only one there is. Does nothing the second time. */
void mc_threads_after_fork(void);

static inline struct mc_thread *mc_thread_next(const struct mc_thread *thread)
{
    return (struct mc_thread *)thread->next;
}

struct mc_thread *mc_thread_first(void);

#endif
