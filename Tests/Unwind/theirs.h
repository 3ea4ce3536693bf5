/* SPDX-License-Identifier: MIT */
/* libunwind's walk, the one ours is compared with. The library is opened RTLD_LOCAL: needed by the
 * sampler it would take over the program's exceptions. Included by sampler.c only. */

struct theirs {
    uintptr_t pc[DEPTH + 1];
    uintptr_t cfa[DEPTH + 1];             /* value of rsp in that frame */
    unsigned char interrupted[DEPTH + 1]; /* that frame was interrupted, it did not call */
    int count;
    int ended; /* last result of unw_step */
};

static int (*their_init)(unw_cursor_t *, unw_context_t *, int);
static int (*their_step)(unw_cursor_t *);
static int (*their_get)(unw_cursor_t *, int, unw_word_t *);
static int (*their_set_caching_policy)(unw_addr_space_t, unw_caching_policy_t);
static unw_addr_space_t *their_local_space;
static int (*their_getcontext)(unw_context_t *);

/* One thread samples at a time: see sampler.c. */
static struct theirs theirs;

static int open_oracle(void)
{
    void *library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (!library) return 0;
    their_init = (__typeof__(their_init))dlsym(library, "_ULx86_64_init_local2");
    their_step = (__typeof__(their_step))dlsym(library, "_ULx86_64_step");
    their_get = (__typeof__(their_get))dlsym(library, "_ULx86_64_get_reg");
    their_set_caching_policy =
        (__typeof__(their_set_caching_policy))dlsym(library, "_ULx86_64_set_caching_policy");
    their_local_space = (unw_addr_space_t *)dlsym(library, "_ULx86_64_local_addr_space");
    their_getcontext = (__typeof__(their_getcontext))dlsym(library, "_Ux86_64_getcontext");
    return their_init && their_step && their_get && their_getcontext && their_local_space &&
           their_set_caching_policy;
}

/* mov $15, %rax; syscall: what a handler returns to, or its second instruction if that was
 * interrupted. libunwind's own mark of it comes a frame late. */
static int is_trampoline(uintptr_t pc)
{
    static const unsigned char code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
    if (!in_a_module(pc) || !in_a_module(pc - 7)) return 0;
    return memcmp((const void *)pc, code, sizeof code) == 0 ||
           memcmp((const void *)(pc - 7), code, sizeof code) == 0;
}

/* A return address of 0 ends a stack, though libunwind steps on from there. */
static void walk_theirs(unw_context_t *context, int flags)
{
    unw_cursor_t cursor;
    unw_word_t pc = 0, sp = 0;
    int is_signal = flags == UNW_INIT_SIGNAL_FRAME;
    theirs.count = 0;
    theirs.ended = their_init(&cursor, context, flags);
    if (theirs.ended) return;
    do {
        their_get(&cursor, UNW_REG_IP, &pc);
        their_get(&cursor, UNW_X86_64_RSP, &sp);
        if (pc == 0) break;
        theirs.interrupted[theirs.count] = (unsigned char)is_signal;
        theirs.pc[theirs.count] = pc + (uintptr_t)is_signal;
        theirs.cfa[theirs.count++] = sp;
        is_signal = is_trampoline(pc);
    } while (theirs.count <= DEPTH && (theirs.ended = their_step(&cursor)) > 0);
}
