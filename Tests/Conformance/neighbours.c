/* neighbours.c: cases about what else is in the process: other preloads and audit libraries,
 * programs that interpose system calls or allocators, unusual address space layouts, coroutines.
 * Each breaks a well-known allocator when that is preloaded, or did at some time. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

static void churn(unsigned rounds)
{
    void *p[64] = {0};
    for (unsigned i = 0; i < rounds; i++) {
        free(p[i % 64]);
        p[i % 64] = malloc(i * 97 % (i % 50 ? 3000 : 300000));
        REQUIRE(p[i % 64]);
    }
    for (int i = 0; i < 64; i++)
        free(p[i]);
}

/* --- programs and libraries that interpose --------------------------------------------------- */

CASE(programs_interpose_system_calls, "a program that defines mmap, munmap, madvise, open, getenv, "
                                      "pthread_mutex_lock ... and allocates in them; ld.so(8)")
{
    require_helper("helper_interpose", NULL, NULL, 0);
}

CASE(cxx_programs_with_a_malloc_of_their_own,
     "operators new and delete go through the malloc and free "
     "the program defines, as libstdc++'s do")
{
    require_helper("helper_own_malloc_cxx", NULL, NULL, 0);
}

static void preload_also(const char *name, bool first)
{
    const char *preload = getenv("LD_PRELOAD");
    char list[8192];
    if (first)
        snprintf(list, sizeof list, "%s %s", beside(name), preload ? preload : "");
    else
        snprintf(list, sizeof list, "%s %s", preload ? preload : "", beside(name));
    REQUIRE(setenv("LD_PRELOAD", list, 1) == 0);
}

CASE(wrappers_before_the_heap,
     "a preloaded library in front wraps malloc and calls dlsym(RTLD_NEXT) in "
     "it; dlsym(3)")
{
    preload_also("plugin_wrap.so", true);
    require_helper("helper_allocate", "5", NULL, 0);
    char text[512];
    require_helper("helper_order_cxx", NULL, text, sizeof text);
}

CASE(wrappers_behind_the_heap, "the same library after the heap")
{
    preload_also("plugin_wrap.so", false);
    require_helper("helper_allocate", "5", NULL, 0);
}

CASE(audit_libraries, "LD_AUDIT: a second libc, and calls before relocation is done; rtld-audit(7)")
{
    REQUIRE(setenv("LD_AUDIT", beside("plugin_audit.so"), 1) == 0);
    require_helper("helper_allocate", "5", NULL, 0);
    char text[512];
    require_helper("helper_order", NULL, text, sizeof text);
    REQUIRE(strcmp(text, "preinit constructor main key atexit destructor\n") == 0);
}

CASE(loader_settings, "LD_BIND_NOW, LD_BIND_NOT, GLIBC_TUNABLES and MALLOC_ variables; ld.so(8)")
{
    static const char *const settings[][2] = {{"LD_BIND_NOW", "1"},
                                              {"LD_BIND_NOT", "1"},
                                              {"GLIBC_TUNABLES", "glibc.malloc.check=3"},
                                              {"MALLOC_CHECK_", "3"},
                                              {"MALLOC_PERTURB_", "85"},
                                              {"MALLOC_ARENA_MAX", "1"},
                                              {"LD_DYNAMIC_WEAK", "1"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char text[512];
        REQUIRE(setenv(settings[i][0], settings[i][1], 1) == 0);
        require_helper("helper_order", NULL, text, sizeof text);
        REQUIRE(strcmp(text, "preinit constructor main key atexit destructor\n") == 0);
        require_helper("helper_allocate", "2", NULL, 0);
        unsetenv(settings[i][0]);
    }
}

CASE(plugins_opened_with_deepbind,
     "a library opened RTLD_DEEPBIND looks in libc first and still shares "
     "the heap: blocks pass both ways; dlopen(3)")
{
    for (int i = 0; i < 20; i++) {
        void *library = dlopen(beside("plugin_c.so"), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        REQUIRE(library);
        void *(*make)(void) = (void *(*)(void))dlsym(library, "plugin_block");
        void (*take)(void *) = (void (*)(void *))dlsym(library, "plugin_take");
        REQUIRE(make && take);
        take(malloc(1000));
        take(strdup("text"));
        free(make());
        void *grown = realloc(make(), 100000);
        REQUIRE(grown && pattern_holds(grown, 1000, 42));
        take(grown);
        REQUIRE(dlclose(library) == 0);
    }
}

/* --- the loader's lock ----------------------------------------------------------------------- */

static atomic_bool stop;

static int allocate_for_object(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size, (void)unused;
    free(strdup(info->dlpi_name));
    churn(20);
    return 0;
}

static void *walk_objects(void *unused)
{
    while (!atomic_load(&stop))
        dl_iterate_phdr(allocate_for_object, NULL);
    return unused;
}

static void *churn_for_long(void *unused)
{
    while (!atomic_load(&stop))
        churn(500);
    return unused;
}

CASE(loader_lock_and_heap,
     "malloc under the loader's lock while others load, fork and allocate: no "
     "deadlock; dl_iterate_phdr(3)")
{
    pthread_t walker, churner;
    REQUIRE(pthread_create(&walker, NULL, walk_objects, NULL) == 0);
    REQUIRE(pthread_create(&churner, NULL, churn_for_long, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        void *library = dlopen(beside("plugin_cxx.so"), RTLD_LAZY);
        REQUIRE(library && dlclose(library) == 0);
        if (i % 4) continue;
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE);
            churn(300);
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
    atomic_store(&stop, true);
    pthread_join(walker, NULL);
    pthread_join(churner, NULL);
}

/* --- address space --------------------------------------------------------------------------- */

CASE(address_space_layouts, "no randomisation, legacy (bottom-up) layout, unlimited stack; "
                            "personality(2)")
{
    static const unsigned long kinds[] = {ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT,
                                          ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT,
                                          READ_IMPLIES_EXEC};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (personality(kinds[i]) == -1) SKIP("personality is not permitted");
        require_helper("helper_allocate", "20", NULL, 0);
    }
    personality(0);
    struct rlimit stack = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_STACK, &stack) == 0) require_helper("helper_allocate", "20", NULL, 0);
}

CASE(great_reservations, "a program that reserves 64 TiB, as runtimes do, leaves room for the heap")
{
    for (size_t size = (size_t)1 << 46; size >= (size_t)1 << 44; size /= 2) {
        void *map = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) continue;
        void *p = malloc((size_t)1 << 30);
        REQUIRE(p);
        churn(5000);
        free(p);
        return;
    }
    SKIP("not even 16 TiB can be reserved");
}

/* Until the kernel refuses; every other page, so that no two mappings merge. */
static size_t use_up_mappings(char *area, size_t pages)
{
    size_t made = 0;
    while (made < pages / 2 && mprotect(area + made * 2 * 4096, 4096, PROT_READ) == 0)
        made++;
    return made;
}

CASE(mappings_used_up,
     "at vm.max_map_count malloc gives memory or ENOMEM, free keeps errno and nothing "
     "is lost; mmap(2), glibc's tst-free-errno")
{
    enum { PAGES = 1 << 18, KEPT = 64 };
    char *kept[KEPT];
    for (size_t i = 0; i < KEPT; i++) {
        REQUIRE(kept[i] = malloc((i + 1) * 100000));
        memset(kept[i], 1, (i + 1) * 100000);
    }
    char *area = mmap(NULL, (size_t)PAGES * 4096, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(area != MAP_FAILED);
    if (use_up_mappings(area, PAGES) >= PAGES / 2) SKIP("vm.max_map_count is not reached");
    for (size_t n = 1; n < (size_t)64 << 20; n = n * 2 + 3) {
        errno = 0;
        char *p = malloc(n), *q = calloc(1, n);
        REQUIRE((p && q) || errno == ENOMEM);
        if (p) p[0] = p[n - 1] = 1;
        if (q) REQUIRE(q[0] == 0 && q[n - 1] == 0);
        errno = 88;
        free(p);
        free(q);
        REQUIRE(errno == 88);
    }
    for (size_t i = 0; i < KEPT; i++) {
        char *grown = realloc(kept[i], (i + 1) * 200000);
        if (grown) kept[i] = grown;
        REQUIRE(all_zero(kept[i], 0) && kept[i][(i + 1) * 100000 - 1] == 1);
        errno = 99;
        free(kept[i]);
        REQUIRE(errno == 99);
    }
    REQUIRE(munmap(area, (size_t)PAGES * 4096) == 0);
    churn(5000);
}

CASE(pages_may_be_protected,
     "page-aligned blocks may be made read-only or inaccessible for a while; "
     "mprotect(2) EXAMPLES")
{
    enum { COUNT = 100 };
    char *p[COUNT];
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = memalign(4096, 4 * 4096));
        memset(p[i], 7, 4 * 4096);
        REQUIRE(mprotect(p[i], 4 * 4096, i % 2 ? PROT_NONE : PROT_READ) == 0);
    }
    churn(20000);
    malloc_trim(0);
    (void)mallinfo2();
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(mprotect(p[i], 4 * 4096, PROT_READ | PROT_WRITE) == 0 && p[i][16383] == 7);
        free(p[i]);
    }
}

CASE(pages_may_be_advised, "mlock, MADV_DONTNEED, MADV_FREE, MADV_DONTFORK on a program's blocks; "
                           "madvise(2)")
{
    static const int advice[] = {MADV_DONTNEED, MADV_FREE,       MADV_DONTFORK, MADV_DONTDUMP,
                                 MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_RANDOM,   MADV_WILLNEED};
    for (size_t i = 0; i < sizeof advice / sizeof *advice; i++) {
        char *p = memalign(4096, 16 * 4096);
        REQUIRE(p);
        memset(p, 9, 16 * 4096);
        (void)madvise(p, 16 * 4096, advice[i]);
        free(p);
        churn(2000);
        p = calloc(1, 16 * 4096);
        REQUIRE(p && all_zero(p, 16 * 4096));
        free(p);
    }
    char *locked = memalign(4096, 65536);
    REQUIRE(locked);
    (void)mlock(locked, 65536);
    memset(locked, 9, 65536);
    free(locked); /* still locked: its pages can't be dropped */
    malloc_trim(0);
    for (int i = 0; i < 50; i++) {
        char *p = calloc(1, 65536);
        REQUIRE(p && all_zero(p, 65536));
        if (i % 2) free(p);
    }
}

/* --- stacks of the program's own ------------------------------------------------------------- */

static ucontext_t main_context, coroutine;
static void *made_in_coroutine;

static void run_coroutine(void)
{
    for (;;) {
        for (size_t n = 1; n < (size_t)4 << 20; n *= 4) {
            void *p = realloc(calloc(1, n), n * 2);
            REQUIRE(p);
            free(p);
        }
        made_in_coroutine = malloc(100);
        swapcontext(&coroutine, &main_context);
    }
}

CASE(coroutines_allocate, "malloc on stacks made by the program, of 8 KiB; makecontext(3)")
{
    size_t size = 8192;
    char *area =
        mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(area != MAP_FAILED && mprotect(area, 4096, PROT_NONE) == 0);
    /* Bound now: the loader's resolver needs more stack than this. */
    free(realloc(calloc(1, 1), 2));
    for (int i = 0; i < 200; i++) {
        REQUIRE(getcontext(&coroutine) == 0);
        coroutine.uc_stack.ss_sp = area + 4096;
        coroutine.uc_stack.ss_size = size;
        makecontext(&coroutine, run_coroutine, 0);
        for (int k = 0; k < 3; k++) {
            REQUIRE(swapcontext(&main_context, &coroutine) == 0);
            free(made_in_coroutine);
        }
    }
}
