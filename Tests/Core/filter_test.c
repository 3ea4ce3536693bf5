/* SPDX-License-Identifier: MIT */
/* preload/filter.c against the kernel, which runs the same filters: random programs, and those that
 * libseccomp makes. And own_calls.c: which of our calls a filter takes away. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "filter.h"
#include "own_calls.h"
#include "syscall.h"
#include "test.h"

/* -- the kernel as the oracle ---------------------------------------------------------------- */

enum { NO_CALL = 1234567, PROGRAM_MAX = 48, DIED = 1 << 30 };

/* A system call that does not exist, from a known place. */
static long call_from(struct seccomp_data *call)
{
    long result;
    register long r10 __asm__("r10") = (long)call->args[3];
    register long r8 __asm__("r8") = (long)call->args[4];
    register long r9 __asm__("r9") = (long)call->args[5];
    __asm__ volatile("lea 1f(%%rip), %%rcx\n\tmov %%rcx, %[place]\n\tsyscall\n1:"
                     : "=a"(result), [place] "=m"(call->instruction_pointer)
                     : "a"((long)call->nr), "D"(call->args[0]), "S"(call->args[1]),
                       "d"(call->args[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* Written before the child is killed: what the call returned, and from where it was made. */
struct outcome {
    struct seccomp_data call;
    long result;
    int refused, answered;
};

/* Runs the filter in a child for the call in outcome->call. Returns 0 if the kernel refuses it. */
static int ask_kernel(const struct sock_filter *code, unsigned count, struct outcome *outcome)
{
    outcome->refused = outcome->answered = 0;
    pid_t child = fork();
    if (!child) {
        struct sock_fprog filter = {(unsigned short)count, (struct sock_filter *)code};
        signal(SIGSYS, SIG_DFL);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        call_from(&(struct seccomp_data){.nr = NO_CALL});
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
            outcome->refused = 1;
            _exit(0);
        }
        outcome->result = call_from(&outcome->call);
        __atomic_store_n(&outcome->answered, 1, __ATOMIC_RELEASE);
        for (;;) /* what ends us may be filtered too */
            ;
    }
    REQUIRE(child > 0);
    int status = 0;
    while (!__atomic_load_n(&outcome->answered, __ATOMIC_ACQUIRE)) {
        if (waitpid(child, &status, WNOHANG) != child) continue;
        return !outcome->refused;
    }
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, &status, 0) == child);
    return 1;
}

/* What the action of a filter looks like to who makes the call; DIED: to whom it was fatal. */
static long seen_of(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ERRNO: {
        long number = action & SECCOMP_RET_DATA;
        return number > 4095 ? -4095 : -number;
    }
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_USER_NOTIF: return -ENOSYS;
    default: return DIED;
    }
}

static void compare(const struct sock_filter *code, unsigned count, struct outcome *outcome)
{
    if (!ask_kernel(code, count, outcome)) return;
    outcome->call.arch = AUDIT_ARCH_X86_64;
    uint32_t action = mc_filter_run(code, count, &outcome->call);
    long seen = outcome->answered ? outcome->result : DIED;
    REQUIRE_EQUAL(seen_of(action), seen);
    REQUIRE(!mc_filter_returns(action) || seen != DIED);
}

static struct outcome *shared(void)
{
    void *memory =
        mmap(0, sizeof(struct outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    return memory;
}

static uint32_t some_constant(struct random *random)
{
    static const uint32_t usual[] = {0, 1, 31, 63, 255, AUDIT_ARCH_X86_64, NO_CALL, 0x7fffffff};
    uint64_t kind = random_below(random, 3);
    if (kind == 0) return usual[random_below(random, sizeof(usual) / sizeof(*usual))];
    return kind == 1 ? (uint32_t)random_below(random, 70) : (uint32_t)random_next(random);
}

static uint32_t some_action(struct random *random)
{
    static const uint32_t actions[] = {
        SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,  SECCOMP_RET_TRACE,
        SECCOMP_RET_ERRNO,        SECCOMP_RET_ERRNO,       SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW};
    return actions[random_below(random, 8)] | (uint32_t)random_below(random, 5000);
}

static struct sock_filter some_instruction(struct random *random, unsigned left)
{
    static const uint16_t codes[] = {
        BPF_LD | BPF_W | BPF_ABS,
        BPF_LD | BPF_W | BPF_ABS,
        BPF_LD | BPF_W | BPF_LEN,
        BPF_LDX | BPF_W | BPF_LEN,
        BPF_LD | BPF_IMM,
        BPF_LDX | BPF_IMM,
        BPF_LD | BPF_MEM,
        BPF_LDX | BPF_MEM,
        BPF_ST,
        BPF_STX,
        BPF_MISC | BPF_TAX,
        BPF_MISC | BPF_TXA,
        BPF_ALU | BPF_ADD | BPF_K,
        BPF_ALU | BPF_ADD | BPF_X,
        BPF_ALU | BPF_SUB | BPF_K,
        BPF_ALU | BPF_SUB | BPF_X,
        BPF_ALU | BPF_MUL | BPF_K,
        BPF_ALU | BPF_MUL | BPF_X,
        BPF_ALU | BPF_DIV | BPF_K,
        BPF_ALU | BPF_DIV | BPF_X,
        BPF_ALU | BPF_AND | BPF_K,
        BPF_ALU | BPF_AND | BPF_X,
        BPF_ALU | BPF_OR | BPF_K,
        BPF_ALU | BPF_OR | BPF_X,
        BPF_ALU | BPF_XOR | BPF_K,
        BPF_ALU | BPF_XOR | BPF_X,
        BPF_ALU | BPF_LSH | BPF_K,
        BPF_ALU | BPF_LSH | BPF_X,
        BPF_ALU | BPF_RSH | BPF_K,
        BPF_ALU | BPF_RSH | BPF_X,
        BPF_ALU | BPF_NEG,
        BPF_JMP | BPF_JA,
        BPF_JMP | BPF_JEQ | BPF_K,
        BPF_JMP | BPF_JEQ | BPF_X,
        BPF_JMP | BPF_JGT | BPF_K,
        BPF_JMP | BPF_JGT | BPF_X,
        BPF_JMP | BPF_JGE | BPF_K,
        BPF_JMP | BPF_JGE | BPF_X,
        BPF_JMP | BPF_JSET | BPF_K,
        BPF_JMP | BPF_JSET | BPF_X,
        BPF_RET | BPF_K,
        BPF_RET | BPF_A,
    };
    struct sock_filter made = {.code = codes[random_below(random, sizeof(codes) / sizeof(*codes))],
                               .k = some_constant(random)};
    unsigned class = BPF_CLASS(made.code);
    if (class == BPF_JMP) {
        made.jt = (uint8_t)random_below(random, left);
        made.jf = (uint8_t)random_below(random, left);
        if (BPF_OP(made.code) == BPF_JA) made.k = (uint32_t)random_below(random, left);
    } else if (class == BPF_RET) {
        made.k = some_action(random);
    } else if (made.code == (BPF_LD | BPF_W | BPF_ABS)) {
        made.k = (uint32_t)random_below(random, sizeof(struct seccomp_data) / 4) * 4;
    } else if (class == BPF_ST || class == BPF_STX || BPF_MODE(made.code) == BPF_MEM) {
        made.k = (uint32_t)random_below(random, BPF_MEMWORDS);
    } else if (BPF_OP(made.code) == BPF_LSH || BPF_OP(made.code) == BPF_RSH) {
        made.k &= 31;
    }
    return made;
}

/* Memory that is read before it was written the kernel refuses, so all of it is written first. At
 * the end the register is what is returned, so that a wrong bit is seen. */
static unsigned some_program(struct random *random, struct sock_filter *code)
{
    unsigned count = 0, size = BPF_MEMWORDS + 5 + (unsigned)random_below(random, PROGRAM_MAX - 20);
    code[count++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, some_constant(random));
    for (unsigned i = 0; i < BPF_MEMWORDS; i++)
        code[count++] = (struct sock_filter)BPF_STMT(i % 2 ? BPF_ST : BPF_STX, i);
    while (count < size - 3) {
        code[count] = some_instruction(random, size - 3 - count);
        count++;
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff);
    code[count++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO);
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0);
    return count;
}

static void random_filters(void)
{
    struct random random = test_random(90);
    struct outcome *outcome = shared();
    struct sock_filter code[PROGRAM_MAX];
    unsigned asked = 0;
    for (uint64_t i = 0; i < test_scale(1500); i++) {
        unsigned count = some_program(&random, code);
        outcome->call = (struct seccomp_data){.nr = NO_CALL};
        for (unsigned at = 0; at < 6; at++)
            outcome->call.args[at] = random_below(&random, 2) ? random_next(&random) : 1;
        compare(code, count, outcome);
        asked += !outcome->refused;
    }
    REQUIRE(asked > 10);
}

/* -- what no kernel lets in ------------------------------------------------------------------ */

static void wild_filters(void)
{
    struct random random = test_random(91);
    struct seccomp_data call = {.nr = 1};
    struct sock_filter code[PROGRAM_MAX];
    for (uint64_t i = 0; i < test_scale(300000); i++) {
        unsigned count = (unsigned)random_below(&random, PROGRAM_MAX);
        for (unsigned at = 0; at < count; at++) {
            uint64_t bits = random_next(&random), k = random_next(&random);
            code[at] = (struct sock_filter){(uint16_t)(bits & (bits >> 63 ? 0xff : 0xffff)),
                                            (uint8_t)(bits >> 16 & 7), (uint8_t)(bits >> 24 & 7),
                                            (uint32_t)(bits >> 62 ? k & 63 : k)};
        }
        mc_filter_run(code, count, &call); /* ends, and touches nothing else: sanitizers look */
    }
    REQUIRE_EQUAL(mc_filter_run(code, 0, &call), SECCOMP_RET_KILL_THREAD);
    struct sock_filter endless = BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)-1);
    REQUIRE_EQUAL(mc_filter_run(&endless, 1, &call), SECCOMP_RET_KILL_THREAD);
}

/* -- libseccomp ------------------------------------------------------------------------------ */

struct comparison {
    unsigned argument;
    int operation;
    uint64_t a, b;
};

static struct {
    void *(*init)(uint32_t action);
    int (*add)(void *filter, uint32_t action, int number, unsigned count,
               const struct comparison *comparisons);
    int (*export)(void *filter, int file);
} libseccomp;

static void find_libseccomp(void)
{
    void *library = dlopen("libseccomp.so.2", RTLD_NOW);
    if (!library) test_skip("no libseccomp.so.2 here (Debian: libseccomp2)");
    libseccomp.init = (__typeof__(libseccomp.init))dlsym(library, "seccomp_init");
    libseccomp.add = (__typeof__(libseccomp.add))dlsym(library, "seccomp_rule_add_array");
    libseccomp.export = (__typeof__(libseccomp.export))dlsym(library, "seccomp_export_bpf");
    REQUIRE(libseccomp.init && libseccomp.add && libseccomp.export);
}

static unsigned exported(void *filter, struct sock_filter *code, unsigned most)
{
    int file = memfd_create("filter", 0);
    REQUIRE(file >= 0 && !libseccomp.export(filter, file));
    long size = pread(file, code, most * sizeof(*code), 0);
    close(file);
    REQUIRE(size > 0 && size % (long)sizeof(*code) == 0);
    return (unsigned)((unsigned long)size / sizeof(*code));
}

enum { EQUAL = 4, GREATER = 6, MASKED = 7 }; /* of libseccomp's enum scmp_compare */

static void filters_of_libseccomp(void)
{
    static struct sock_filter code[4096];
    find_libseccomp();
    struct random random = test_random(92);
    struct outcome *outcome = shared();
    for (uint64_t i = 0; i < test_scale(100); i++) {
        void *filter = libseccomp.init(some_action(&random));
        for (unsigned rule = 0; filter && rule < 40; rule++) {
            struct comparison one = {(unsigned)random_below(&random, 6),
                                     (int[]){EQUAL, GREATER, MASKED}[random_below(&random, 3)],
                                     random_below(&random, 4), random_below(&random, 4)};
            libseccomp.add(filter, some_action(&random), rule == 7 ? NO_CALL : (int)rule * 7,
                           rule % 2, &one);
        }
        if (!filter) continue;
        unsigned count = exported(filter, code, 4096);
        outcome->call = (struct seccomp_data){.nr = NO_CALL};
        for (unsigned at = 0; at < 6; at++)
            outcome->call.args[at] = random_below(&random, 4);
        compare(code, count, outcome);
    }
}

/* -- our own calls --------------------------------------------------------------------------- */

static uint32_t lost_to(const int *allowed, unsigned allowed_count, uint32_t otherwise)
{
    struct sock_filter code[128];
    unsigned count = 0;
    code[count++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < allowed_count; i++) {
        code[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
        code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    return mc_own_calls_lost(code, count);
}

static void calls_lost(void)
{
    static const int memory[] = {SYS_mmap, SYS_munmap};
    static const int usual[] = {SYS_mmap,   SYS_munmap,         SYS_mprotect, SYS_madvise,
                                SYS_mremap, SYS_rt_sigprocmask, SYS_prlimit64};
    uint32_t kept = MC_CALL_MAP | MC_CALL_RESERVE | MC_CALL_RELEASE | MC_CALL_REPLACE;
    REQUIRE_EQUAL(lost_to(0, 0, SECCOMP_RET_ALLOW), 0);
    REQUIRE_EQUAL(lost_to(0, 0, SECCOMP_RET_LOG), 0);
    REQUIRE_EQUAL(lost_to(0, 0, SECCOMP_RET_KILL_PROCESS), MC_CALL_ALL);
    REQUIRE_EQUAL(lost_to(memory, 2, SECCOMP_RET_KILL_PROCESS), MC_CALL_ALL & ~kept);
    REQUIRE_EQUAL(lost_to(memory, 2, SECCOMP_RET_KILL_THREAD), MC_CALL_ALL & ~kept);
    REQUIRE_EQUAL(lost_to(memory, 2, SECCOMP_RET_TRAP), MC_CALL_ALL & ~kept);
    kept |= MC_CALL_COMMIT | MC_CALL_PURGE | MC_CALL_WATCH_FORK | MC_CALL_POPULATE |
            MC_CALL_RESIZE | MC_CALL_SHARE | MC_CALL_PROBE | MC_CALL_HUGE_PAGES;
    REQUIRE_EQUAL(lost_to(usual, 7, SECCOMP_RET_KILL_PROCESS), MC_CALL_ALL & ~kept);
    /* Refused is as good as done, but for those that nobody expects to fail. */
    REQUIRE(!(lost_to(0, 0, SECCOMP_RET_ERRNO | EPERM) & (MC_CALL_PURGE | MC_CALL_MAKE_FILE)) ||
            lost_to(0, 0, SECCOMP_RET_ERRNO | EPERM) & MC_CALL_PID);
    /* More memory is the program's business: only what certainly kills is not tried. */
    uint32_t essential = MC_CALL_MAP | MC_CALL_RELEASE;
    REQUIRE_EQUAL(lost_to(0, 0, SECCOMP_RET_TRAP) & essential, 0);
    REQUIRE_EQUAL(lost_to(0, 0, SECCOMP_RET_ERRNO | EPERM) & essential, 0);
}

static const struct test_case cases[] = {
    {"filter_random", random_filters, 0},
    {"filter_wild", wild_filters, 0},
    {"filter_libseccomp", filters_of_libseccomp, 0},
    {"filter_calls_lost", calls_lost, 0},
};
TEST_MAIN(cases)
