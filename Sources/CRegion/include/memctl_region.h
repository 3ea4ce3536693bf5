/* SPDX-License-Identifier: MIT */
/* The region: the file a traced process shares with memctl.
 *
 * One file a process, in $MEMCTL_DIR or /dev/shm/memctl-UID/, named by the pid. Its first page is
 * `struct mc_region`; the areas behind it exist once tracing was on. The process maps it, memctl
 * reads it with pread(2) and stores control words with pwrite(2): neither needs the other to run.
 *
 *     offset 0      struct mc_region            control words, answers, counters, area table
 *     areas[i]      records, append only        found by (offset, record_size, capacity, count)
 *
 * Rules that both sides keep:
 *   1. `magic` is stored last when a region is made; without it the file is not a region yet.
 *   2. An area's `count` is stored (release) after its newest record is whole. Records below it
 *      never change, but for counters, a module's last_epoch, and the MC_STACK_DEEPEN and
 *      MC_STACK_SPLIT of a stack, which are memctl's.
 *   3. Counters only grow. live = in - out. A reader takes every `out` before any `in`, so that a
 *      live number is never below zero.
 *   4. A reader trusts nothing: every offset and count is checked against the file's size.
 *
 * Fields are plain and fixed-width, in native byte order, since Swift imports neither _Atomic nor
 * over-aligned structs; concurrent access goes through the accessors at the end.
 * docs/region-format.md tells the same for people. */
#ifndef MEMCTL_REGION_H
#define MEMCTL_REGION_H

#include <stddef.h>
#include <stdint.h>

#define MC_REGION_MAGIC 0x316c74636d656d89ull /* 0x89 "memctl1" */

enum {
    MC_REGION_VERSION = 6,
    MC_REGION_PAGE = 4096,
    /* Counter shards, at most: shard 0 is shared by any number of threads, the others have one thread each,
     * so that most threads count without a locked instruction. A stack's sums run over all shards. */
    MC_REGION_SHARDS = 63, /* a million stacks fit beside in 4 GiB */
    MC_REGION_PATH_MAX = 1024,
};

/* mc_region.direct while nothing is armed: MC_DIRECT_MAX + 1. */
enum { MC_REGION_DIRECT = 1025 };

/* Bits of mc_region.armed. */
enum {
    MC_ARMED_TRACE = 1, /* every allocation is accounted to its backtrace */
    MC_ARMED_MAPS = 2,  /* with the former: mmap(2) and its kin as well */
};

/* Values of mc_region.exited: whether a region left by a normal exit is still wanted. */
enum { MC_EXITED_KEPT = 1, MC_EXITED = 2 };

/* Added to a device number in mc_region.pid_namespace: no inode of a namespace has this bit. */
#define MC_NAMESPACE_OF_PROC 0x100000000ull

enum {
    MC_AREA_MODULES, /* struct mc_region_module */
    MC_AREA_STRINGS, /* bytes: module paths, not terminated */
    MC_AREA_FRAMES,  /* struct mc_region_frame; 0 stands for the root, above the outermost frame */
    MC_AREA_STACKS,  /* struct mc_region_stack; record 0 is never used, record 1 see below */
    MC_AREA_COUNTERS, /* struct mc_region_counters, a run of `capacity`; then, of the same size, runs of twice
                         as many struct mc_region_narrow: mc_region.shards runs in all, so far */
    MC_AREA_SAMPLES, /* struct mc_region_samples, of sampled stacks alone */
    MC_AREA_COMMON, /* struct mc_region_narrow, of stacks that threads without a shard count in: `capacity` rows,
                        as they come up, and then as many again, their turns. Row 0 is never used */
    MC_AREA_PLACES, /* uint32_t: which of these is the stack's; 0: none */
    MC_AREA_COUNT,
};

/* Stack 1 holds what could not be given a row of its own (table full): its sums stay exact. */
enum { MC_STACK_NONE = 0, MC_STACK_OVERFLOW = 1, MC_STACK_FIRST = 2 };

struct mc_region_area {
    uint64_t offset;      /* in the file; 0 until the area exists */
    uint64_t record_size; /* bytes */
    uint64_t capacity;    /* records that fit (for counters: in one shard) */
    uint64_t count;       /* records that are whole; of what has one a stack, it says nothing */
};

/* An object the process had loaded; [start, end) is never empty. */
struct mc_region_module {
    uint64_t start;
    uint64_t end;
    uint64_t bias;        /* what the loader added to the file's addresses (l_addr) */
    uint64_t path_offset; /* in MC_AREA_STRINGS */
    uint32_t path_size;   /* 0: unnamed (the vdso) */
    uint32_t first_epoch;
    uint32_t last_epoch;    /* UINT32_MAX while loaded; else the last epoch it was seen in */
    uint32_t build_id_size; /* 0 to 32 */
    uint8_t build_id[32];
};

/* One call site on the way from the outermost frame inward, of a tree, so that stacks with a common
 * outer part share it. Frames that were first met together, one below the other, follow each other,
 * behind a link that says which frame the first of them is below:
 *     frame    bit 31 clear, bits 27-30 window, bits 0-26 of the return address (one past it where a
 *              signal interrupted). The window says which bits are above: mc_region.frame_windows has
 *              those of windows 1 to 14; of window 15 the record before is a prefix.
 *     link     bits 30-31 are 2. Bit 29 clear: bits 0-28 frame further out; set: what follows is
 *              an outermost frame, bits 0-28 epoch (between two unloadings of modules) of all below it
 *     prefix   bits 30-31 are 3, bits 0-29 the bits above those of the next frame; the highest of them
 *              stands for all above it
 * So the frame further out is the record before, or the one before a prefix, or what the link there says. 0
 * is none of these, but a record that was not finished. */
struct mc_region_frame {
    uint32_t word;
};
enum {
    MC_FRAME_SHIFT = 27,   /* bits of an address in a frame */
    MC_FRAME_WINDOWS = 14, /* whose bits above are known from the control page */
    MC_FRAME_WIDE = MC_FRAME_WINDOWS + 1,
};
#define MC_FRAME_LINK   (2u << 30)
#define MC_FRAME_ROOT   (MC_FRAME_LINK | 1u << 29)
#define MC_FRAME_PREFIX (3u << 30)

/* Bits of mc_region_stack.flags. */
enum {
    MC_STACK_CUT = 1,     /* deeper than the depth wanted: outer frames are missing */
    MC_STACK_STOPPED = 2, /* the walk met a frame without unwind information */
    MC_STACK_SAMPLED = 4, /* its numbers are estimates: see mc_region_counters */
    MC_STACK_MAPPED = 8,  /* of mappings, not of the heap's objects */
    MC_STACK_PART = 16,   /* taken to the deeper depth, for a stack that is MC_STACK_DEEPEN */
    /* [memctl writes] */
    MC_STACK_DEEPEN = 32, /* allocations of this stack are charged to MC_STACK_PART ones instead */
    MC_STACK_SPLIT = 64,  /* was MC_STACK_DEEPEN at some time, so that it may have parts */
    /* The interval of MC_STACK_SAMPLED ones: 2^n bytes, n in the bits from here on. */
    MC_STACK_INTERVAL_SHIFT = 8,
};

/* Sampling: on the average one object per 2^n bytes asked for. */
enum { MC_SAMPLE_LEAST = 6, MC_SAMPLE_MOST = 30, MC_SAMPLE_USUAL = 19 };

struct mc_region_stack {
    uint64_t hash;  /* of the frames, the depth wanted and the flags */
    uint32_t frame; /* innermost frame; 0 for MC_STACK_OVERFLOW */
    uint16_t depth; /* frames */
    uint16_t flags;
};

/* What was counted of a stack.
 *
 * Of a sampled stack each object counts for all those that were passed over: w = 1/(1 - exp(-size /
 * 2^n)). Bytes are multiplied by that, and allocs, frees, lifetimes and temporary are in parts of
 * MC_SAMPLE_UNIT. */
enum { MC_SAMPLE_UNIT = 256 };
struct mc_region_counters {
    uint64_t allocs;
    uint64_t frees;
    uint64_t bytes_in; /* requested */
    uint64_t bytes_out;
    uint64_t usable_in; /* slot sizes */
    uint64_t usable_out;
    uint64_t lifetimes; /* of the freed, in MC_TAG_BIRTH_NS: the difference of two such ticks */
    uint64_t temporary; /* of the freed, those with a lifetime of MC_TEMPORARY_TICKS at most */
};

/* The same in half a cache line: what a shard other than 0 counted of it, or all threads without one in common.
 * The shard's run holds `capacity` of these, the counters modulo 2^32, and then as many again, their turns: a
 * multiple of 2^MC_TURN_SHIFT is a turn, and what the upper two bits of a counter are ahead of its turns is to be
 * added to them. Turns are noted after the counter has made them, and before it makes four. */
struct mc_region_narrow {
    uint32_t allocs;
    uint32_t frees;
    uint32_t bytes_in;
    uint32_t bytes_out;
    uint32_t usable_in;
    uint32_t usable_out;
    uint32_t lifetimes;
    uint32_t temporary;
};
enum { MC_TURN_SHIFT = 30 };
/* So an object that was freed within a quarter of a second is temporary for sure, and one that
 * lived for half a second is not. */
enum { MC_TEMPORARY_TICKS = 1 };

/* How sure the estimates of a sampled stack are: variances, which add up. */
struct mc_region_samples {
    uint64_t taken; /* objects that were sampled */
    uint64_t freed;
    uint64_t count_square_in; /* sums of w (w - 1): the variance of the count */
    uint64_t count_square_out;
    uint64_t bytes_square_in; /* sums of size^2 w (w - 1) / 2^n: variance of bytes, over 2^n */
    uint64_t bytes_square_out;
    uint64_t reserved[2];
};

struct mc_region {
    /* Line 0: the armed word and its command. [memctl writes] but for the first store at start. */
    uint8_t armed; /* MC_ARMED_ bits */
    uint8_t reserved_0[7];
    uint32_t depth;    /* frames to keep a stack, 1 to 256 */
    uint32_t only_pid; /* 0: all processes that share this page; else armed for this one */
    uint64_t commands; /* commands given so far */
    uint64_t floor;    /* stacks below this id were reset: they count as untraced */
    uint32_t sample;   /* 0: every allocation; n: on the average one per 2^n bytes asked for */
    uint32_t deepen;   /* frames to keep of MC_STACK_PART ones; 0: there is no MC_STACK_DEEPEN */
    uint64_t direct;   /* what malloc tests: smaller requests take its short path, which accounts
                          nothing. 0 unless `armed` is 0, then MC_REGION_DIRECT */
    uint64_t reserved_2[2];

    /* Line 1: who this is. [process writes] once, before magic; `shards` later, too. */
    uint64_t magic;
    uint32_t version;
    uint32_t shards; /* runs of counters in which anything may be; grows before it is */
    uint32_t pid;    /* in the process' own pid namespace */
    uint32_t uid;
    uint64_t start_boottime_ns;
    uint64_t start_realtime_ns;
    uint64_t heap_root;     /* address of memctl_heap_root in the process */
    uint64_t library_start; /* libmemctl.so's own range: frames in it are never shown */
    uint64_t library_end;
    uint32_t parent_pid; /* of a forked child that copied its rows; else 0 */
    uint32_t exited;     /* MC_EXITED_; 0: lives, or was killed */

    /* Answers and counters. [process writes] atomically. */
    uint64_t commands_seen;   /* value of `commands` at the last traced allocation that noticed */
    uint64_t epoch;           /* counts the times that modules went */
    uint64_t overflow_stacks; /* stacks that found the table full (counted under stack 1) */
    uint64_t
        untagged_allocs;     /* allocations that could not be tagged for want of memory: untraced */
    uint64_t cut_stacks;     /* stacks with MC_STACK_CUT */
    uint64_t stopped_stacks; /* stacks with MC_STACK_STOPPED */
    uint64_t own_bytes;      /* memory of the tracing itself outside this file: index, trails */
    uint64_t traced_since_ns; /* boot time of the first armed allocation; 0: never */
    uint64_t pid_namespace;   /* where `pid` counts: MC_NAMESPACE_OF_PROC and the device of the
                                 process' /proc, or the inode of /proc/PID/ns/pid; 0: unknown */
    uint64_t births_from_ns;  /* boot time that the births of tags count from */

    struct mc_region_area areas[MC_AREA_COUNT];
    char name[64];                       /* last part of the path given to execve, terminated */
    char executable[MC_REGION_PATH_MAX]; /* terminated; as given to execve, an absolute path; once
                                            traced, as the kernel has it */

    /* More answers. [process writes] atomically. */
    uint64_t misplaced_frees; /* frees that found no room for their row's counters: counted out of
                                 stack 1, so that the sum is exact */
    uint64_t missed_maps;     /* mappings that could not be kept account of: untraced */
    uint64_t own_lists;       /* address of the address of a struct mc_meta_list, or of 0: what
                                 own_bytes is */
    uint64_t turns; /* how often turns of narrow counters were noted; counted up before they are */
    uint64_t trail_bytes; /* of own_bytes: the trails of threads; 0: not told, or none */

    /* Windows 1 and up of frames: one more than the bits above MC_FRAME_SHIFT, or 0. [process writes] each
     * once, before the first frame in it. */
    uint64_t frame_windows[MC_FRAME_WINDOWS];
};

_Static_assert(offsetof(struct mc_region, magic) == 64, "region layout is an ABI");
_Static_assert(offsetof(struct mc_region, commands_seen) == 136, "region layout is an ABI");
_Static_assert(offsetof(struct mc_region, areas) == 216, "region layout is an ABI");
_Static_assert(offsetof(struct mc_region, name) == 472, "region layout is an ABI");
_Static_assert(offsetof(struct mc_region, misplaced_frees) == 1560, "region layout is an ABI");
_Static_assert(offsetof(struct mc_region, frame_windows) == 1600, "region layout is an ABI");
_Static_assert(sizeof(struct mc_region) <= MC_REGION_PAGE, "the control words fill one page");
_Static_assert(sizeof(struct mc_region_module) == 80, "region layout is an ABI");
_Static_assert(sizeof(struct mc_region_frame) == 4, "region layout is an ABI");
_Static_assert(sizeof(struct mc_region_stack) == 16, "region layout is an ABI");
_Static_assert(sizeof(struct mc_region_counters) == 64, "region layout is an ABI");
_Static_assert(sizeof(struct mc_region_narrow) == 32, "a shard's run has room for two of each");
_Static_assert(sizeof(struct mc_region_samples) == 64, "region layout is an ABI");

/* A tag: what tracing keeps for a live slot. 0 means untraced.
 *     bits 0-23   stack id        bits 24-38  usable - requested        bits 39-63  birth
 * birth counts quarters of a second since births_from_ns. A large or huge span keeps its
 * requested size itself (mc_span.requested), so 15 bits of slack are enough. */
enum { MC_TAG_STACK_BITS = 24, MC_TAG_SLACK_BITS = 15, MC_TAG_BIRTH_BITS = 25 };
#define MC_TAG_BIRTH_NS 250000000ull

static inline uint64_t mc_tag_make(uint32_t stack, uint64_t slack, uint64_t birth)
{
    return (uint64_t)stack | slack << MC_TAG_STACK_BITS |
           birth << (MC_TAG_STACK_BITS + MC_TAG_SLACK_BITS);
}

static inline uint32_t mc_tag_stack(uint64_t tag)
{
    return (uint32_t)(tag & ((1u << MC_TAG_STACK_BITS) - 1));
}

static inline uint64_t mc_tag_slack(uint64_t tag)
{
    return tag >> MC_TAG_STACK_BITS & ((1u << MC_TAG_SLACK_BITS) - 1);
}

static inline uint64_t mc_tag_birth(uint64_t tag)
{
    return tag >> (MC_TAG_STACK_BITS + MC_TAG_SLACK_BITS);
}

/* What a narrow counter stands for. */
static inline uint64_t mc_narrow_value(uint32_t counter, uint32_t turns)
{
    uint32_t ahead = ((counter >> MC_TURN_SHIFT) - turns) & 3;
    return ((uint64_t)turns + ahead) << MC_TURN_SHIFT | (counter & ((1u << MC_TURN_SHIFT) - 1));
}

static inline int mc_frame_is_link(uint32_t word)
{
    return word >> 30 == MC_FRAME_LINK >> 30;
}

static inline int mc_frame_is_prefix(uint32_t word)
{
    return word >> 30 == MC_FRAME_PREFIX >> 30;
}

/* The frame further out that a link names; 0: what follows it is an outermost one. */
static inline uint32_t mc_frame_parent(uint32_t link)
{
    return (link & MC_FRAME_ROOT) == MC_FRAME_ROOT ? 0 : link & ~MC_FRAME_ROOT;
}

/* Of a link that names none. */
static inline uint32_t mc_frame_epoch(uint32_t link)
{
    return link & ~MC_FRAME_ROOT;
}

static inline uint32_t mc_frame_link(uint32_t parent, uint32_t epoch)
{
    return parent ? MC_FRAME_LINK | parent : MC_FRAME_ROOT | (epoch & ~MC_FRAME_ROOT);
}

/* A frame in this window, 1 to MC_FRAME_WIDE, and the prefix of a wide one. */
static inline uint32_t mc_frame_word(uint32_t window, uint64_t pc)
{
    return window << MC_FRAME_SHIFT | (uint32_t)(pc & ((1u << MC_FRAME_SHIFT) - 1));
}

static inline uint32_t mc_frame_prefix(uint64_t pc)
{
    return MC_FRAME_PREFIX | (uint32_t)(pc >> MC_FRAME_SHIFT);
}

static inline uint32_t mc_frame_window(uint32_t frame)
{
    return frame >> MC_FRAME_SHIFT;
}

static inline uint64_t mc_frame_pc(uint32_t frame, uint64_t above)
{
    return above << MC_FRAME_SHIFT | (frame & ((1u << MC_FRAME_SHIFT) - 1));
}

/* The bits above that a prefix says. */
static inline uint64_t mc_frame_above(uint32_t prefix)
{
    return (uint64_t)((int64_t)((uint64_t)prefix << 34) >> 34);
}

/* What an address is in a frame: its 57 bits, of which the highest stands for those above. Of canonical
 * addresses that is the address itself. */
static inline uint64_t mc_frame_address(uint64_t pc)
{
    return (uint64_t)((int64_t)(pc << 7) >> 7);
}

static inline uint64_t mc_region_load(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_ACQUIRE);
}

static inline void mc_region_store(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELEASE);
}

#endif
