#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Instructions per heap operation under each allocator, counted by valgrind's callgrind.
#
#   Benchmarks/instructions.sh                      default allocators
#   Benchmarks/instructions.sh new=/path/libx.so    and others
#
# Instructions do not depend on what else the machine does, so a change of one instruction shows.
# They are not time: a cache miss is one instruction too. The figure of an operation is
# (I(op, 2N) - I(op, N) - I(empty, 2N) + I(empty, N)) / N, so that process start and first calls
# drop out; what stays beside the heap is the call through the loop's pointer and the PLT.
# callgrind replaces no allocator; that the preload is the one that answers is checked first.
# Preloads are measured as copies without debug information: valgrind cannot read all of it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench=$root/build/bench
libraries=/usr/lib/x86_64-linux-gnu
operations=(pair pair256 pair4k calloc realloc aligned half-fill)
count=${COUNT:-20000}

fail() {
    echo "instructions.sh: $1" >&2
    exit 1
}

names=(glibc) paths=('')
add() {
    if [ -e "$2" ]; then
        names+=("$1") paths+=("$(realpath -s "$2")")
    else
        echo "$1: $2 is not there, left out" >&2
    fi
}

add jemalloc "$libraries/libjemalloc.so.2"
add mimalloc "$libraries/libmimalloc.so.2.0"
add tcmalloc "$libraries/libtcmalloc_minimal.so.4"
add memctl "$root/build/lib/libmemctl.so"
for pair in "$@"; do
    case $pair in
    *=*) add "${pair%%=*}" "${pair#*=}" ;;
    *) echo "usage: instructions.sh [NAME=PATH]..." >&2; exit 64 ;;
    esac
done

command -v valgrind >/dev/null || fail 'valgrind is not installed'
make -s -C "$root/Benchmarks"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prints the instructions of one run, or fails.
instructions() { # PRELOAD OPERATION COUNT
    LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file="$work/out" \
        "$bench/count_ops" "$2" "$3" >/dev/null 2>"$work/err" || return 1
    awk '/^(summary|totals):/ { print $2; exit }' "$work/out"
}

# Prints what each of N further operations cost, in instructions.
slope() { # PRELOAD OPERATION
    local low high
    low=$(instructions "$1" "$2" "$count") && high=$(instructions "$1" "$2" $((2 * count))) &&
        echo $((high - low))
}

for i in "${!names[@]}"; do
    if [ -n "${paths[i]}" ]; then
        mkdir "$work/${names[i]}"
        strip --strip-debug -o "$work/${names[i]}/$(basename "${paths[i]}")" "${paths[i]}"
        paths[i]=$work/${names[i]}/$(basename "${paths[i]}")
    fi
    LD_PRELOAD=${paths[i]} valgrind --tool=callgrind --callgrind-out-file="$work/out" \
        "$bench/which_malloc" >"$work/answer" 2>/dev/null || true
    answer=$(cat "$work/answer")
    wanted=${paths[i]:-libc.so}
    case $(realpath "${answer:-/nobody}") in
    *libc.so.6) [ -z "${paths[i]}" ] || fail "${names[i]}: libc answers, not $wanted" ;;
    "$(realpath "$wanted" 2>/dev/null)") ;;
    *) fail "${names[i]}: malloc is answered by ${answer:-nobody}, not by $wanted" ;;
    esac
done

empty=()
for preload in "${paths[@]}"; do
    empty+=("$(slope "$preload" empty || echo fail)")
done

printf '%-12s' 'operation'
printf '%10s' "${names[@]}"
echo
for operation in "${operations[@]}"; do
    printf '%-12s' "$operation"
    for i in "${!paths[@]}"; do
        if [ "${empty[i]}" != fail ] && full=$(slope "${paths[i]}" "$operation"); then
            awk -v d=$((full - empty[i])) -v n="$count" 'BEGIN { printf "%10.1f", d / n }'
        else
            printf '%10s' fail
        fi
    done
    echo
done
