#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs the tests of heap, region and accounting, in C, in variants:
#   clang, gcc   -O2, every mc_assert on        all programs
#   asan         AddressSanitizer and UBSan     all programs; the heap is not libc's there
#   tsan         ThreadSanitizer (gcc)          the concurrent cases
#   ticks        -O2, a tick each millisecond   the heap with several threads, and forked
#   huge         the same, huge pages always    the heap
#
#   run.sh [--long] [VARIANT...] [-- CASE...]
# TEST_SEED=N repeats a random run; OUT=FOLDER keeps the programs. Exit status 0: nothing failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
sources=$(cd "$here/../../Sources" && pwd)
preload=$(cd "$here/../../preload" && pwd)
out=${OUT:-$(mktemp -d "${TMPDIR:-/tmp}/core.XXXXXX")}
mkdir -p "$out"
# Regions lie in memory, as in life.
TEST_FOLDER=$(mktemp -d /dev/shm/core.XXXXXX 2>/dev/null) || TEST_FOLDER=$(mktemp -d)
export TEST_FOLDER
# shellcheck disable=SC2317
cleanup() {
    rm -rf "$TEST_FOLDER"
    [[ $out == "${OUT:-}" ]] || rm -rf "$out"
}
trap cleanup EXIT
failed=0
variants=()
names=()
while (($#)); do
    case $1 in
    --long) export TEST_LONG=1 ;;
    --) shift && names=("$@") && break ;;
    *) variants+=("$1") ;;
    esac
    shift
done
((${#variants[@]})) || variants=(clang gcc asan tsan ticks huge)

flags=(-std=gnu17 -g -Wall -Wextra -Werror -fno-builtin -I"$here")
for layer in CRegion/include CBase/include CHeap/include CTrace/include; do
    flags+=(-I"$sources/$layer")
done
# compile LAYER FILE...: $compiler makes $objects/LAYER-FILE.o of each, two at a time.
compile() {
    local layer=$1 file
    shift
    for file in "$@"; do
        # A layer's own folder is for "quotes" only: CHeap's limits.h is not <limits.h>.
        "${compiler[@]}" "${flags[@]}" -iquote "${file%/*}" -c "$file" \
            -o "$objects/$layer-$(basename "$file" .c).o" 2>>"$objects/errors" &
        while (($(jobs -pr | wc -l) >= 2)); do wait -n; done
    done
    wait
}

compile_all() {
    objects=$out/$variant
    rm -rf "$objects"
    mkdir -p "$objects"
    compile harness "$here/test.c"
    compile hooks "$here/hooks.c"
    compile faulty "$here/os_faulty.c"
    compile base "$sources"/CBase/*.c
    compile heap "$sources"/CHeap/*.c
    compile trace "$sources"/CTrace/*.c
    compile preload "$preload"/filter.c "$preload"/own_calls.c
    heap=("$objects"/harness-*.o "$objects"/hooks-*.o "$objects"/base-*.o "$objects"/heap-*.o)
    trace=("$objects"/harness-*.o "$objects"/base-*.o "$objects"/trace-*.o)
    filter=("${trace[@]}" "$objects"/preload-*.o)
    # The same heap on a kernel that a test can make fail, and a clock it can put forward.
    faulty=("$objects"/faulty-*.o)
    local object
    for object in "${heap[@]}"; do [[ $object == */base-os.o ]] || faulty+=("$object"); done
    faulty_trace=("$objects"/faulty-*.o)
    for object in "${trace[@]}"; do [[ $object == */base-os.o ]] || faulty_trace+=("$object"); done
    grep -E -m 1 'error' "$objects/errors" | sed 's/^/# /'
}

# build NAME OBJECT...: makes $out/NAME-$variant of Tests/Core/NAME_test.c and these.
build() {
    local program=$out/$1-$variant source=$here/$1_test.c
    shift
    "${compiler[@]}" "${flags[@]}" -iquote "$sources/CHeap" -iquote "$sources/CTrace" -iquote "$preload" "$source" "$@" \
        "${link[@]}" -lpthread -o "$program" 2>"$program.err" && return 0
    echo "not ok core/build ${program##*/}: $(grep -m 1 -E 'error|undefined|No such' "$program.err")"
    failed=1
    return 1
}

# run NAME CASE...: with the cases given on the command line, if any.
run() {
    local program=$out/$1-$variant
    shift
    ((${#names[@]})) && set -- "${names[@]}"
    "$program" "$variant" "$@" || failed=1
}

usual() {
    compile_all
    build parts "${heap[@]}" && run parts
    build arenas "${heap[@]}" && run arenas
    build huge "${faulty[@]}" && run huge
    build model "${faulty[@]}" && run model
    build tags "${faulty[@]}" && run tags
    build misuse "${heap[@]}" && run misuse
    build large "${faulty[@]}" && run large
    build growing "${faulty[@]}" && run growing
    build own_map "${heap[@]}" && run own_map
    build refill "${heap[@]}" && run refill
    build lend "${heap[@]}" && run lend
    build cache "${heap[@]}" && run cache
    build proxy "${heap[@]}" && run proxy
    build proxy_stops "${heap[@]}" && run proxy_stops
    build serving "${heap[@]}" && run serving
    build reuse "${heap[@]}" && run reuse
    build waiting "${heap[@]}" && run waiting
    build threads "${heap[@]}" && run threads
    build forks "${heap[@]}" && run forks
    build faults "${faulty[@]}" && run faults
    build requests "${faulty[@]}" && run requests
    build calls "${heap[@]}" && run calls
    build filter "${filter[@]}" && run filter
    build index "${faulty_trace[@]}" && run index
    build region "${trace[@]}" && run region
    build counters "${trace[@]}" && run counters
    build region_life "${trace[@]}" && run region_life
    build identity "${trace[@]}" && run identity
    build own "${trace[@]}" && run own
    build shard "${trace[@]}" && run shard
    build births "${trace[@]}" && run births
    build sampling "${trace[@]}" && run sampling
    build mappings "${trace[@]}" && run mappings
}

# ThreadSanitizer has to see memory go and come back, so its heap is on libc's mmap. It does not see
# the kernel mark a dead thread's mutex: cases where structs change hands before a join are left out.
concurrent() {
    compile_all
    build parts "${faulty[@]}" && run parts bitmap_threads pool_threads page_map_threads
    build arenas "${faulty[@]}" && run arenas arena_threads
    build threads "${faulty[@]}" && run threads exchanges handed_over linked_nodes adoption only_frees
    build large "${faulty[@]}" && run large growth_in_threads
    build growing "${faulty[@]}" && run growing growing_threads
    build proxy_stops "${faulty[@]}" && run proxy_stops proxy_no_tag_lost proxy_first_tags
    build waiting "${faulty[@]}" && run waiting owners_come_back
    build calls "${faulty[@]}" && run calls calls_settle
    build index "${faulty_trace[@]}" && run index index_threads index_threads_without_memory
    build region "${trace[@]}" && run region windows_threads stack_threads counter_threads ready_threads
    build counters "${trace[@]}" && run counters counters_turns_threads counters_room_for_turns_comes counters_common_rows_are_made_once
    build own "${trace[@]}" && run own own_threads
    build shard "${trace[@]}" && run shard
    build births "${trace[@]}" && run births births_threads
    build mappings "${trace[@]}" && run mappings mappings_threads
}

# What is done once in 200 ms, while all else goes on, is done all the time.
ticking() {
    compile_all
    build arenas "${heap[@]}" && run arenas arena_threads
    build model "${faulty[@]}" && run model model model_tagged
    build large "${faulty[@]}" && run large
    build proxy_stops "${heap[@]}" && run proxy_stops proxy_no_tag_lost
    build threads "${heap[@]}" && run threads
    build forks "${heap[@]}" && run forks
    build faults "${faulty[@]}" && run faults
}

huge_everywhere() {
    compile_all
    build arenas "${heap[@]}" && run arenas arena_threads
    build model "${faulty[@]}" && run model model model_tagged
    build large "${faulty[@]}" && run large
    build waiting "${heap[@]}" && run waiting
    build threads "${heap[@]}" && run threads
    build forks "${heap[@]}" && run forks
    build faults "${faulty[@]}" && run faults
}

for variant in "${variants[@]}"; do
    unset TEST_SLOW
    link=()
    case $variant in
    clang) compiler=(clang -O2) && usual ;;
    gcc)
        export TEST_SLOW=1 # the same code from another compiler: a shorter look
        compiler=(gcc -O2)
        usual
        ;;
    asan)
        export TEST_SLOW=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        export ASAN_OPTIONS=detect_leaks=0:handle_abort=0:abort_on_error=0
        link=(-fuse-ld=lld)
        compiler=(clang -O1 "-fsanitize=address,undefined" -fno-sanitize-recover=all)
        usual
        ;;
    tsan)
        export TEST_SLOW=1
        export TSAN_OPTIONS="halt_on_error=1:suppressions=$here/tsan.txt:report_mutex_bugs=0:history_size=7"
        compiler=(gcc -O1 -fsanitize=thread -Wno-tsan)
        concurrent
        ;;
    ticks)
        export TEST_SLOW=1
        compiler=(clang -O2 -DMC_TICK_MS=1)
        ticking
        ;;
    huge)
        export TEST_SLOW=1
        compiler=(clang -O2 -DMC_TICK_MS=1 -DMC_HUGE_USUAL=MC_HUGE_ALWAYS)
        huge_everywhere
        ;;
    *)
        echo "usage: run.sh [--long] [clang|gcc|asan|tsan|ticks|huge...] [-- CASE...]" >&2
        exit 64
        ;;
    esac
done
exit "$failed"
