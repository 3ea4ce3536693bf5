/* lifetimes.c: cases about early and late use of the heap: loader, constructors, exit handlers,
 * destructors of libraries, threads that outlive main. Most need a process or library of their
 * own: helpers/. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/wait.h>

CASE(order_of_a_c_program,
     "allocation in preinit_array, ifunc resolvers, constructors, main, atexit "
     "handlers, key destructors, destructors and fini: all use one heap")
{
    char text[512];
    require_helper("helper_order", NULL, text, sizeof text);
    REQUIRE(strcmp(text, "preinit constructor main key atexit destructor\n") == 0);
}

CASE(order_of_a_cxx_program,
     "allocation by C++ statics, iostream before main, thread_local objects, "
     "static destructors")
{
    char text[512];
    require_helper("helper_order_cxx", NULL, text, sizeof text);
    REQUIRE(strcmp(text, "static main thread_local static-end\n") == 0);
}

CASE(threads_outlive_main, "threads allocate while exit handlers and destructors run; exit(3)")
{
    for (int i = 0; i < 30; i++)
        require_helper("helper_outlive_main", NULL, NULL, 0);
}

CASE(quick_exit_handlers_allocate, "at_quick_exit handlers use the heap; quick_exit(3)")
{
    require_helper("helper_quick_exit", NULL, NULL, 0);
}

CASE(programs_with_a_malloc_of_their_own, "a program that defines malloc, calloc, realloc and free "
                                          "keeps its own; glibc manual 3.2.5")
{
    require_helper("helper_own_malloc", NULL, NULL, 0);
}

CASE(exec_of_many_kinds, "programs linked otherwise: static-pie or static ones ignore the preload")
{
    require_helper("helper_allocate", "1", NULL, 0);
    REQUIRE(
        system("ls / >/dev/null && awk 'BEGIN { exit 0 }' && sed -n 1p /etc/passwd >/dev/null") ==
        0);
}

/* --- dlopen ---------------------------------------------------------------------------------- */

static void *open_path(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) dprintf(2, "%s;", dlerror());
    REQUIRE(library);
    return library;
}

static void *open_plugin(const char *name)
{
    return open_path(beside(name));
}

/* The plugin's functions: a block it made in its constructor, and one it is to free. */
static void *block_of(void *library)
{
    void *(*make)(void) = (void *(*)(void))dlsym(library, "plugin_block");
    REQUIRE(make);
    return make();
}

static void give_to(void *library, void *p)
{
    void (*take)(void *) = (void (*)(void *))dlsym(library, "plugin_take");
    REQUIRE(take);
    take(p);
}

CASE(plugins_allocate_when_loaded_and_unloaded,
     "constructors, destructors and atexit handlers of a "
     "dlopened library; dlopen(3)")
{
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        void *library = open_plugin("plugin_c.so"), *block = block_of(library);
        give_to(library, malloc(1000));
        give_to(library, strdup("text"));
        REQUIRE(dlclose(library) == 0);
        /* What the plugin allocated outlives its code. */
        REQUIRE(pattern_holds(block, 1000, 42));
        free(block);
        if (i == 50) before = resident_bytes();
    }
    REQUIRE(resident_bytes() < before + ((size_t)2 << 20));
}

static void *use_plugin(void *library)
{
    void *(*run)(void *) = (void *(*)(void *))dlsym(library, "plugin_thread");
    REQUIRE(run);
    return run(NULL);
}

CASE(plugin_tls_is_torn_down, "thread_local objects and dynamic TLS of a dlopened C++ library, by "
                              "threads that end before and after others")
{
    for (int i = 0; i < 50; i++) {
        void *library = open_plugin("plugin_cxx.so");
        pthread_t thread[4];
        for (int t = 0; t < 4; t++)
            REQUIRE(pthread_create(&thread[t], NULL, use_plugin, library) == 0);
        use_plugin(library);
        for (int t = 0; t < 4; t++)
            REQUIRE(pthread_join(thread[t], NULL) == 0);
        REQUIRE(dlclose(library) == 0);
    }
}

CASE(plugins_left_open_at_exit, "a library nobody closes runs its destructors in _dl_fini")
{
    require_helper("helper_leave_plugins", NULL, NULL, 0);
}

CASE(namespaces_have_heaps_of_their_own, "dlmopen loads a second libc: each frees its own blocks; "
                                         "dlmopen(3)")
{
    void *library = dlmopen(LM_ID_NEWLM, beside("plugin_c.so"), RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library);
    REQUIRE(block_of(library));
    void (*self_test)(void) = (void (*)(void))dlsym(library, "plugin_self_test");
    REQUIRE(self_test);
    for (int i = 0; i < 100; i++) {
        self_test();
        free(malloc(100));
    }
    REQUIRE(dlclose(library) == 0);
}

static void *fail_to_open(void *unused)
{
    for (int i = 0; i < 20; i++) {
        REQUIRE(dlopen("/nowhere/none.so", RTLD_NOW) == NULL);
        REQUIRE(i % 2 || strstr(dlerror(), "none.so"));
        REQUIRE(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == NULL);
    }
    return unused;
}

CASE(dlerror_texts_are_freed, "error texts of the loader, read or not, at the end of a thread too; "
                              "dlerror(3)")
{
    fail_to_open(NULL);
    for (int i = 0; i < 100; i++)
        run_thread(fail_to_open, NULL, 65536);
    REQUIRE(dlopen("/nowhere/last.so", RTLD_NOW) == NULL);
}

/* Freed by libc when the thread ends, after all destructors. */
static void *use_per_thread_buffers(void *unused)
{
    REQUIRE(strstr(strerror(123456), "123456") && strsignal(12345));
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *addresses;
    REQUIRE(getaddrinfo("::1", NULL, &hints, &addresses) == 0);
    freeaddrinfo(addresses);
    return fail_to_open(unused);
}

CASE(what_libc_keeps_per_thread_is_freed,
     "texts of strerror and strsignal, resolver state, dlerror: "
     "freed by the same heap when the thread ends")
{
    size_t before = 0;
    for (int i = 0; i < 500; i++) {
        run_thread(use_per_thread_buffers, NULL, 0);
        if (i == 50) before = resident_bytes();
    }
    REQUIRE(resident_bytes() < before + ((size_t)2 << 20));
}

static void *open_and_close(void *path)
{
    for (int i = 0; i < 50; i++) {
        void *library = open_path(path);
        give_to(library, malloc(10));
        free(block_of(library));
        REQUIRE(dlclose(library) == 0);
    }
    return NULL;
}

CASE(plugins_from_several_threads, "dlopen and dlclose from threads at once, others allocating")
{
    char *path = strdup(beside("plugin_c.so")); /* beside() is for one thread */
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&thread[i], NULL, open_and_close, path) == 0);
    for (int i = 0; i < 100000; i++)
        free(malloc((size_t)i % 3000));
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_join(thread[i], NULL) == 0);
    free(path);
}

/* --- exit ------------------------------------------------------------------------------------ */

static void *kept_for_exit[100];

static void free_at_exit(void)
{
    for (int i = 0; i < 100; i++) {
        free(kept_for_exit[i]);
        kept_for_exit[i] = malloc(50);
    }
}

static void end_normally(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++)
        REQUIRE(atexit(free_at_exit) == 0);
    exit(0);
}

CASE(atexit_handlers_allocate, "a hundred atexit handlers that free and allocate; atexit(3)")
{
    require_child(end_normally, NULL);
}

static pthread_key_t key;

static void end_thread_value(void *p)
{
    free(p);
    free(calloc(3, 1000));
}

static void *exit_from_thread(void *unused)
{
    pthread_setspecific(key, malloc(100));
    for (int i = 0; i < 50; i++)
        kept_for_exit[i] = malloc(3000);
    exit(0);
    return unused;
}

static void end_from_a_thread(void *unused)
{
    pthread_t thread;
    atexit(free_at_exit);
    REQUIRE(pthread_key_create(&key, end_thread_value) == 0);
    REQUIRE(pthread_create(&thread, NULL, exit_from_thread, unused) == 0);
    for (;;)
        free(malloc(100));
}

CASE(exit_from_a_thread, "exit() in a thread while main is in malloc; exit(3)")
{
    for (int i = 0; i < 50; i++)
        require_child(end_from_a_thread, NULL);
}

static void crash(void *unused)
{
    free(malloc(100));
    *(volatile int *)hide(unused) = 1;
}

CASE(crashes_keep_their_signal,
     "a program's own SIGSEGV, SIGABRT and exit status are seen as they are")
{
    int status = in_child(crash, NULL);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == 11);
    status = in_child((void (*)(void *))(uintptr_t)_exit, (void *)42);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    status = in_child((void (*)(void *))(uintptr_t)exit, (void *)43);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 43);
}
