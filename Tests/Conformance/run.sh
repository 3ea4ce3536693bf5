#!/usr/bin/env bash
# run.sh [--lib PATH] [--cc CC] [--cxx CXX] [--jobs N] [--no-control] [--trace] [PATTERN...]
# Builds the conformance programs and runs every case in its own process, once on plain glibc
# (the control) and once with the library preloaded. One line per case on stdout:
#     ok conformance/NAME | not ok conformance/NAME: reason | skip conformance/NAME: reason
# with NAME = glibc/CASE for the control and CASE for the library. --trace, or TEST_LONG=1 in the
# environment, runs each once more with tracing on from the start, as traced/CASE: all that holds
# must hold then too. PATTERNs (bash globs) choose cases. Exit status: 0 none failed, 1 some failed, 2 nothing could be run.
# SPDX-License-Identifier: MIT
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$here/../../build/lib/libmemctl.so
cc=${CC:-cc} cxx=${CXX:-c++} jobs=0 control=1 traced=${TEST_LONG:-0} limit=${CONFORMANCE_TIMEOUT:-300}
patterns=()
while (($#)); do
    case $1 in
    --lib) lib=$2 && shift 2 ;;
    --cc) cc=$2 && shift 2 ;;
    --cxx) cxx=$2 && shift 2 ;;
    --jobs) jobs=$2 && shift 2 ;;
    --no-control) control=0 && shift ;;
    --trace) traced=1 && shift ;;
    -*) echo "run.sh: unknown option $1" >&2 && exit 2 ;;
    *) patterns+=("$1") && shift ;;
    esac
done

# One case: the inner call, made by xargs below.
run_one() { # run_one WORK LIMIT LIB-OR-EMPTY PROGRAM CASE NAME
    local work=$1 seconds=$2 preload=$3 program=$4 case=$5 name=$6 status reason
    local said="$work/said.$BASHPID"
    local environment=(-u LD_PRELOAD -u MEMCTL_TRACE TMPDIR="$work/tmp")
    if [[ $name == traced/* ]]; then environment+=(MEMCTL_TRACE=1); fi
    if [[ -n $preload ]]; then environment+=(LD_PRELOAD="$preload"); fi
    timeout -k 2 "$seconds" env "${environment[@]}" "$program" "$case" \
        </dev/null >"$said" 2>&1
    status=$?
    reason=$(tail -n 3 "$said" | tr '\n\t' '; ' | tr -cd '[:print:]' | cut -c 1-300)
    rm -f "$said"
    case $status in
    0) echo "ok conformance/$name" ;;
    77) echo "skip conformance/$name: ${reason%; }" ;;
    124 | 137) echo "not ok conformance/$name: no end within $seconds s; $reason" ;;
    *)
        if ((status > 128)); then reason="died by signal $((status - 128)); $reason"; fi
        echo "not ok conformance/$name: ${reason:-exit status $status}"
        ;;
    esac
}
export -f run_one

lib=$(realpath -m "$lib")
if [[ ! -f $lib ]]; then
    echo "run.sh: no library at $lib; build it first or name one with --lib" >&2
    exit 2
fi
# Not in $TMPDIR: other users run programs from there, and the library's path stands in LD_PRELOAD,
# which is cut at spaces and colons.
work=$(mktemp -d /tmp/memctl-conformance-XXXXXX) || exit 2

# Cases take up to 2 GiB of memory; more of them at once than processors only wait.
if ((jobs == 0)); then
    jobs=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) / (2 << 20)))
    ((jobs > $(nproc))) && jobs=$(($(nproc) + 1))
    ((jobs > 0)) || jobs=1
fi

# What programs that were killed, or left by _exit(2), did not take along: by their path in the region.
cleanup() {
    local region
    for region in /dev/shm/memctl-*/*; do
        if head -c 4096 "$region" 2>/dev/null | grep -aqF "$work/bin/"; then rm -f "$region"; fi
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir "$work/tmp"
# Cases drop privileges and must still reach the programs and the library.
chmod 755 "$work" && chmod 1777 "$work/tmp"
cp "$lib" "$work/preload.so" && chmod 755 "$work/preload.so" || exit 2
"$here/build.sh" "$work/bin" "$cc" "$cxx" >&2 || exit 2

wanted() {
    local pattern
    ((${#patterns[@]})) || return 0
    # shellcheck disable=SC2053 # the pattern is meant to be one
    for pattern in "${patterns[@]}"; do [[ $1 == $pattern ]] && return 0; done
    return 1
}

arguments=()
for program in conformance conformance_cxx; do
    [[ -x $work/bin/$program ]] || continue
    list=$("$work/bin/$program" --list) || exit 2
    while IFS=$'\t' read -r case where _; do
        wanted "$case" || continue
        if ((control)) && [[ $where == both ]]; then
            arguments+=("$work" "$limit" "" "$work/bin/$program" "$case" "glibc/$case")
        fi
        arguments+=("$work" "$limit" "$work/preload.so" "$work/bin/$program" "$case" "$case")
        if [[ $traced == 1 ]]; then
            arguments+=("$work" "$limit" "$work/preload.so" "$work/bin/$program" "$case" "traced/$case")
        fi
    done <<<"$list"
done
if ((${#arguments[@]} == 0)); then
    echo "run.sh: no case matches" >&2
    exit 2
fi

# shellcheck disable=SC2016 # expanded by the inner shell
printf '%s\0' "${arguments[@]}" | xargs -0 -n 6 -P "$jobs" bash -c 'run_one "$@" 2>/dev/null' _ |
    tee "$work/results"
failed=$(grep -c '^not ok' "$work/results")
echo "$(grep -c '^ok' "$work/results") passed, $failed failed," \
    "$(grep -c '^skip' "$work/results") skipped" >&2
((failed == 0))
