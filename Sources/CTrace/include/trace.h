/* SPDX-License-Identifier: MIT */
/* Tracing: accounts allocations to backtraces, in the region. The only header of CTrace that
 * others include. Knows nothing of the heap; whoever links both brings tags from one to the other.
 *
 *     mc_region_create()      once, at start: the file, and mc_own_region, the page malloc tests
 *     mc_trace_ready()        before the first traced allocation: the areas behind the page
 *     mc_trace_count_in()     -> a tag for the object, or 0
 *     mc_trace_count_out()    when an object with a tag is freed
 *
 * Any thread, also in signal handlers that interrupted none of these calls; no locks, no
 * allocation through malloc. Every failure leaves the program a heap that works and, at worst, a
 * table that says what it could not record. errno is kept. */
#ifndef MC_TRACE_H
#define MC_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "caller.h"
#include "memctl_region.h"

/* The control page. Private memory until mc_region_create() lays the file over it, so its
 * words are at a fixed place and one compare is all that malloc pays. */
extern union mc_control {
    struct mc_region region;
    char page[MC_REGION_PAGE];
} mc_control;
#define mc_own_region mc_control.region

/* Set in `armed` until the process has started: sends the first allocation the long way. Never in
 * the file. */
enum { MC_ARMED_START = 128 };

struct mc_region_options {
    const char *folder; /* of regions; NULL: /dev/shm/memctl-UID, made if missing */
    uint64_t max_size;  /* bytes of the file, which is sparse */
    uint64_t heap_root;
    uint32_t depth;
    uint32_t sample; /* mc_region.sample */
    uint8_t armed;   /* what `armed` becomes */
    uint8_t keep;    /* mc_region_remove() leaves the file */
};

/* Nothing is accounted from now on. Like memctl, which stores the same words. */
static inline void mc_region_disarm(void)
{
    __atomic_store_n(&mc_own_region.armed, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&mc_own_region.direct, MC_REGION_DIRECT, __ATOMIC_RELAXED);
}

/* Makes the file and maps its first page. Returns 0, or an errno value: then `armed` is 0 for good
 * and nothing is shared. *failed names the step, for a message. */
int mc_region_create(const struct mc_region_options *options, const char **failed);

/* At exit. Does nothing in a forked child that has no region of its own. */
void mc_region_remove(void);

/* Looks up which program this really is, as tracing does: for those who will not be able to any more. */
void mc_region_name(void);

/* 1 once the areas are there; the first call after a new region makes them, and those of other
 * threads wait for it. To be called for each allocation that is to be traced. */
static inline int mc_trace_ready(void);

/* Its long way, and what it asks for first. */
int mc_trace_make_ready(void);
extern uint32_t mc_trace_state; /* [shared] */
enum { MC_TRACE_READY = 1 };

static inline int mc_trace_ready(void)
{
    return __atomic_load_n(&mc_trace_state, __ATOMIC_ACQUIRE) == MC_TRACE_READY ||
           mc_trace_make_ready();
}

/* What a thread knows of sampling; see sampling.h. */
extern __thread struct mc_sampling {
    int64_t left; /* bytes to ask for until one is sampled, that one included; else not above 0 */
    uint64_t random;   /* state; 0: not seeded */
    uint32_t interval; /* that `left` was drawn for, and how its next object is accounted */
} mc_sampling;

/* 1 if an allocation of so many bytes is passed over, which is all there is to do then. 0: ask
 * mc_sampling_takes() if it is traced, else mc_sampling_untraced(). Requires bytes <= INT64_MAX. One of none
 * is not counted here; see mc_sampling_passes(). */
static inline int mc_sampling_passes_bytes(size_t bytes)
{
    struct mc_sampling *own = &mc_sampling;
    if (own->interval != __atomic_load_n(&mc_own_region.sample, __ATOMIC_RELAXED)) return 0;
    /* One subtraction in memory; signed, so that what is below 0 stays there until somebody draws anew. */
    int64_t left = own->left;
    own->left = (int64_t)((uint64_t)left - bytes);
    return left > (int64_t)bytes;
}

/* The same of any request: one of no bytes counts as one, and one for which there is no room not at all. */
static inline int mc_sampling_passes(size_t size)
{
    return size > INT64_MAX || mc_sampling_passes_bytes(size + !size);
}

/* What was not passed over is not traced. */
static inline void mc_sampling_untraced(void)
{
    if (mc_sampling.left < 0) mc_sampling.left = 0;
}

/* 1 if all allocations are accounted, and the calling thread knows. */
static inline int mc_sampling_takes_all(void)
{
    if (mc_sampling.interval || __atomic_load_n(&mc_own_region.sample, __ATOMIC_RELAXED)) return 0;
    mc_sampling_untraced();
    return 1;
}

/* 1 if an allocation that was not passed over is to be accounted, by mc_trace_count_in(). */
int mc_sampling_takes(size_t size);

/* Accounts an object to the stack of the caller, our own frames left out, and returns its tag. The
 * caller is above the frames of this thread that lead here; `thread` is the calling thread's number. `large`: the
 * object keeps its requested size itself. Needs 2 KiB of stack at the usual depth. */
uint64_t mc_trace_count_in(unsigned thread, const struct mc_caller *caller, size_t usable,
                           size_t requested, int large);

/* The short way, for objects that are not large, in two steps: compiled into its one caller, where most of them
 * are made. The stack of a caller that walks have been made from of late; 0 if it has to be walked to. Requires
 * that mc_trace_is_plain(), in that very call; or if mc_own_region.only_pid is not 0. */
uint32_t mc_trace_recall(const struct mc_caller *caller);
uint64_t mc_trace_count_recalled_in(uint32_t stack, size_t usable, size_t requested);
uint64_t mc_trace_count_walked_in(unsigned thread, const struct mc_caller *caller, size_t usable,
                                  size_t requested);

/* 1 if all is to be accounted, neither sampled nor deepened, and the calling thread has a shard and knows
 * where it is. */
int mc_trace_is_plain(void);

/* Gives the calling thread, which has that number, a shard if it is time. Before each object that goes the long
 * way, in or out; not by a signal handler that interrupted the accounting of its own thread. */
void mc_trace_thread(unsigned thread);

/* As `requested` of an object that does not: then it follows from the tag. */
#define MC_REQUESTED_IN_TAG UINT64_MAX

void mc_trace_count_out(uint64_t tag, size_t usable, size_t requested);

/* The same of an object that is not large, by a thread that knows its shard; compiled into its one caller as
 * well. 0: nothing was done, it has to go the long way. */
int mc_trace_count_slot_out(uint64_t tag, size_t usable);

/* Mappings; see mappings.h. The lock lies around the system call that maps or unmaps and what is
 * noted of it. mc_mappings_lock() gives 0 to a signal handler that interrupted its own thread there,
 * which has to mc_mappings_leave() what it unmapped. */
extern uint64_t mc_mappings_count;
int mc_mappings_lock(void);
void mc_mappings_unlock(void);
void mc_mappings_remove(uint64_t start, uint64_t size);
void mc_mappings_leave(uint64_t start, uint64_t size);

/* The tag for a mapping that the caller is about to make, without the lock; then, with it. */
uint64_t mc_trace_map_tag(void);
void mc_mappings_insert(uint64_t start, uint64_t size, uint64_t tag);
void mc_mappings_after_fork(int has_rows);

/* An allocation went untraced while tracing was on: counted, so that the report can say so.
 * mc_trace_ready() counts its own refusals. */
void mc_trace_untraced(void);

/* The tag of an object could not be kept: takes back what mc_trace_count_in() counted. */
void mc_trace_count_undo(uint64_t tag, size_t usable, size_t requested);

/* A forked child, alone: whether what was interrupted may be using its parent's areas. If it goes on
 * after the child has left them, it finds empty ones of the child's own there. */
void mc_region_forked(int interrupted);

/* A forked child, alone: makes a region of its own. The rows are copied with no counts; the caller
 * then tells mc_trace_after_fork() the result, and gives every live tag to mc_trace_recount(). Returns as mc_region_create(). */
int mc_region_create_forked(const struct mc_region_options *options, const char **failed);
void mc_trace_after_fork(int error);

/* A forked child that must make no file: goes on untraced, sharing nothing. */
void mc_region_abandon(void);

void mc_trace_recount(uint64_t tag, uint64_t usable, uint64_t requested, void *unused);

/* 1 if the region has rows: a forked child must not go on counting in them. */
int mc_trace_has_rows(void);

/* Around dlclose(3): what was learned of addresses is not used meanwhile, and forgotten after; if a
 * module went, addresses seen from then on belong to another epoch. */
void mc_trace_unload_begin(void);
void mc_trace_unload_end(void);

/* Whether the unwinder may make system calls: rt_sigprocmask(2), to ask if memory can be read, and
 * sched_yield(2). Where not, walks end at the first frame that is on no stack known. */
void mc_trace_may_call(int may);

/* Whether memory can be read. Asks the kernel, a word a page; no means that it is not certain. */
int mc_trace_can_read(const void *start, size_t size);

/* How much can be read from `sp` on, on the stack that this code runs on: bytes, at most `most`. Known of a
 * thread's own stack; of another the kernel is asked, page by page. */
size_t mc_trace_stack_above(const void *sp, size_t most);

#endif
