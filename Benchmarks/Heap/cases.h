/* SPDX-License-Identifier: MIT */
/* The list of kernels: CASE(name, function, threads it may use, what it is).
 * Kernels with ONE always run in the thread of main; MANY follow the threads argument. */

/* Whole programs in small */
CASE("cfrac", mc_bench_cfrac, ONE, "continued fraction of a square root, many tiny bignums")
CASE("espresso", mc_bench_espresso, ONE, "complements of boolean covers, small sets and arrays")
CASE("barnes", mc_bench_barnes, ONE, "Barnes-Hut octree: few allocations, many visits")
CASE("simple-1600", mc_bench_simple, ONE, "1,600 objects of one size, freed in order")
CASE("alloc-test", mc_bench_alloc_test, MANY, "random cells of a large array filled and emptied")
CASE("sh6", mc_bench_sh6, MANY, "batches of mixed sizes, freed partly at once, partly late")
CASE("sh8", mc_bench_sh8, MANY, "as sh6 with larger batches handed between threads")

/* Servers and threads */
CASE("larson", mc_bench_larson, MANY, "objects replaced at random and inherited by new threads")
CASE("mstress", mc_bench_mstress, MANY, "generations of threads that exchange objects")
CASE("rptest", mc_bench_rptest, MANY, "falling size distribution, rings of objects sent across")
CASE("xmalloc", mc_bench_xmalloc, MANY, "batches freed by another thread than allocated them")
CASE("glibc-thread", mc_bench_glibc_thread, MANY, "1,024 objects a thread, sizes by e^-x")
CASE("mleak", mc_bench_mleak, MANY, "short threads that leave objects behind")
CASE("cache-scratch", mc_bench_cache_scratch, MANY, "objects handed to threads, then written")
CASE("cache-thrash", mc_bench_cache_thrash, MANY, "objects of each thread, written")
CASE("remote", mc_bench_remote, MANY, "every object is freed by the next thread")
CASE("large", mc_bench_large, ONE, "objects of 5 to 25 MiB, up to 20 live")

/* One operation at a time */
CASE("pair-16", mc_bench_pair_16, MANY, "malloc(16) and free")
CASE("pair-16-full", mc_bench_pair_16_full, MANY, "the same, all 16 bytes written between")
CASE("pair-64", mc_bench_pair_64, MANY, "malloc(64) and free")
CASE("pair-256", mc_bench_pair_256, MANY, "malloc(256) and free")
CASE("pair-1k", mc_bench_pair_1k, MANY, "malloc(1024) and free")
CASE("pair-8k", mc_bench_pair_8k, MANY, "malloc(8 KiB) and free")
CASE("pair-64k", mc_bench_pair_64k, MANY, "malloc(64 KiB) and free")
CASE("pair-1m", mc_bench_pair_1m, MANY, "malloc(1 MiB) and free, first and last page written")
CASE("lifo-1000", mc_bench_lifo, MANY, "1,000 objects, last in first out")
CASE("fifo-1000", mc_bench_fifo, MANY, "1,000 objects live, first in first out")
CASE("random-1000", mc_bench_random_order, MANY, "1,000 objects, freed in random order")
CASE("random-100k", mc_bench_random_many, ONE, "100,000 objects, replaced at random")
CASE("random-1m", mc_bench_random_million, ONE, "1,000,000 objects, replaced at random")
CASE("calloc", mc_bench_calloc, MANY, "calloc of 16 B to 4 KiB, read, and free")
CASE("calloc-large", mc_bench_calloc_large, ONE, "calloc of 256 KiB to 4 MiB, read in part")
CASE("realloc", mc_bench_realloc, MANY, "arrays grown by half from 16 B to 256 KiB")
CASE("realloc-large", mc_bench_realloc_large, ONE, "one array grown to 64 MiB by 64 KiB")
CASE("aligned", mc_bench_aligned, MANY, "posix_memalign of 32 to 4096 alignment and free")

/* Memory */
CASE("fragment", mc_bench_fragment, ONE, "random sizes and lifetimes in phases: RSS over live")
CASE("churn", mc_bench_churn, ONE,
     "sizes and lives recorded of python3, g++ and redis: RSS over live")
CASE("footprint-16", mc_bench_footprint_16, ONE, "64 MiB of 16-byte objects: RSS over live")
CASE("footprint-mix", mc_bench_footprint_mix, ONE, "128 MiB of 24 to 2,000 bytes: RSS over live")
CASE("giveback", mc_bench_giveback, ONE, "256 MiB freed, then light work: what stays resident")
CASE("giveback-mixed", mc_bench_giveback_mixed, ONE, "the same, with buffers of 16 to 256 KiB")
