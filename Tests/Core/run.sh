#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs the tests of heap, region and accounting, in C, in variants:
#   clang, gcc   -O2, every mc_assert on        all programs
#   asan         AddressSanitizer and UBSan     all programs; the heap is not libc's there
#   tsan         ThreadSanitizer (gcc)          the concurrent cases
#
#   run.sh [--long] [VARIANT...] [-- CASE...]
# TEST_SEED=N repeats a random run; OUT=FOLDER keeps the programs. Exit status 0: nothing failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
sources=$(cd "$here/../../Sources" && pwd)
out=${OUT:-$(mktemp -d "${TMPDIR:-/tmp}/core.XXXXXX")}
mkdir -p "$out"
# Regions lie in memory, as in life.
TEST_FOLDER=$(mktemp -d /dev/shm/core.XXXXXX 2>/dev/null) || TEST_FOLDER=$(mktemp -d)
export TEST_FOLDER
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
((${#variants[@]})) || variants=(clang gcc asan tsan)

flags=(-std=gnu17 -g -Wall -Wextra -Werror -fno-builtin -I"$here")
for layer in CRegion/include CBase/include CHeap/include CTrace/include; do
    flags+=(-I"$sources/$layer")
done
harness=("$here/test.c" "$here/hooks.c")
base=("$sources"/CBase/*.c)
heap=(-iquote "$sources/CHeap" "$sources"/CHeap/*.c) # its limits.h is not <limits.h>
trace=(-iquote "$sources/CTrace" "$sources"/CTrace/*.c)

# The same heap on a kernel that a test can make fail.
faulty=("$here/os_faulty.c")
for file in "${base[@]}"; do [[ $file == */os.c ]] || faulty+=("$file"); done

# build NAME SOURCE...: $compiler makes $out/NAME-$variant, unless that is newer than all sources.
build() {
    local program=$out/$1-$variant
    shift
    "${compiler[@]}" "${flags[@]}" "$@" -lpthread -o "$program" 2>"$program.err" && return 0
    echo "not ok core/build ${program##*/}: $(grep -m 1 -E 'error|undefined' "$program.err")"
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
    build parts "$here/parts_test.c" "${harness[@]}" "${base[@]}" "${heap[@]}" && run parts
    build model "$here/model_test.c" "${harness[@]}" "${base[@]}" "${heap[@]}" && run model
    build threads "$here/threads_test.c" "${harness[@]}" "${base[@]}" "${heap[@]}" && run threads
    build faults "$here/faults_test.c" "${harness[@]}" "${faulty[@]}" "${heap[@]}" && run faults
    build region "$here/region_test.c" "$here/test.c" "${base[@]}" "${trace[@]}" && run region
    build misuse "$here/misuse_test.c" "${harness[@]}" "${base[@]}" "${heap[@]}" && run misuse
}

# ThreadSanitizer has to see memory go and come back, so its heap is on libc's mmap.
concurrent() {
    build parts "$here/parts_test.c" "${harness[@]}" "${faulty[@]}" "${heap[@]}" &&
        run parts bitmap_threads pool_threads page_map_threads arena_threads
    build threads "$here/threads_test.c" "${harness[@]}" "${faulty[@]}" "${heap[@]}" &&
        run threads exchanges handed_over adoption only_frees
    build region "$here/region_test.c" "$here/test.c" "${base[@]}" "${trace[@]}" &&
        run region index_threads stack_threads counter_threads
}

for variant in "${variants[@]}"; do
    unset TEST_SLOW
    case $variant in
    clang) compiler=(clang -O2) && usual ;;
    gcc) compiler=(gcc -O2) && usual ;;
    asan)
        export TEST_SLOW=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        export ASAN_OPTIONS=detect_leaks=0:handle_abort=0:abort_on_error=0
        compiler=(clang -O1 -fuse-ld=lld -fsanitize=address,undefined -fno-sanitize-recover=all)
        usual
        ;;
    tsan)
        export TEST_SLOW=1
        export TSAN_OPTIONS="halt_on_error=1:suppressions=$here/tsan.txt:report_mutex_bugs=0"
        compiler=(gcc -O1 -fsanitize=thread -Wno-tsan)
        concurrent
        ;;
    *)
        echo "usage: run.sh [--long] [clang|gcc|asan|tsan...] [-- CASE...]" >&2
        exit 64
        ;;
    esac
done
exit "$failed"
