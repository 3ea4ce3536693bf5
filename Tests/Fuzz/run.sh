#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Feeds damaged region files to the code that reads them, and to memctl itself. Whatever a file
# says, reading it must end: no crash, no hang, no more memory than the limit below.
#
# TEST_LONG=1 reads fifty times as many, others each time. SEED=N repeats a run.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

count=100000 seconds=20 seed=${SEED:-1}
[ -n "${TEST_LONG:-}" ] && count=5000000 seconds=900 seed=${SEED:-$(date +%s)}
swift=$(command -v "${SWIFT:-swift}") || { echo "not ok fuzz/build: no swift on PATH"; exit 1; }
swiftc=$(dirname "$swift")/swiftc
[ -x "$swiftc" ] || swiftc=swiftc
work=$(mktemp -d "${TMPDIR:-/tmp}/memctl-fuzz.XXXXXX")
# Files are made a hundred thousand times: in memory where there is a place for it.
regions=$(mktemp -d /dev/shm/memctl-fuzz.XXXXXX 2>/dev/null || mktemp -d "$work/regions.XXXXXX")
trap 'rm -rf "$work" "$regions"' EXIT
failed=0
echo "seed $seed"

fail() {
    echo "not ok $1: $2; again: SEED=$seed Tests/Fuzz/run.sh"
    failed=1
}

# compile FOLDER FLAGS...: HeapImage as a module of its own in FOLDER.
compile() {
    local folder=$1
    shift
    mkdir -p "$folder"
    "$swiftc" "$@" -O -wmo -swift-version 6 -parse-as-library -package-name memctl \
        -I Sources/CRegion/include -I Sources/CKernel -module-name HeapImage \
        -emit-module -emit-module-path "$folder/HeapImage.swiftmodule" \
        -emit-library -static -o "$folder/libHeapImage.a" Sources/HeapImage/*.swift
}

# link FOLDER OUTPUT FLAGS... FILES...: a program over that module.
link() {
    local folder=$1 output=$2
    shift 2
    "$swiftc" -O -wmo -swift-version 6 -parse-as-library -package-name memctl -module-name RegionFuzz \
        -I Sources/CRegion/include -I Sources/CKernel -I "$folder" -L "$folder" -lHeapImage \
        -o "$output" "$@" Tests/HeapImageTests/SampleRegion.swift Tests/HeapImageTests/Mutation.swift
}

# Keeps what brought the reader down where it can be looked at.
keep() {
    mkdir -p build/test-logs
    cp "$1" "build/test-logs/fuzz-$2" 2>/dev/null
}

if ! { compile "$work/plain" && link "$work/plain" "$work/fuzz" Tests/Fuzz/RegionFuzz.swift; } \
    >"$work/build.log" 2>&1; then
    cat "$work/build.log"
    fail fuzz/build "the fuzz program does not build"
    exit 1
fi

for kind in mutated truncated random sparse; do
    many=$count
    [ "$kind" = sparse ] && many=$((count / 20)) # each may claim, and cost, some megabytes
    (
        ulimit -v 2097152 # KiB
        exec timeout "$((600 + count / 100))" "$work/fuzz" "$kind" "$many" "$seed" "$regions/1"
    )
    status=$?
    if [ $status -eq 0 ]; then
        echo "ok fuzz/$kind-$many"
    else
        keep "$regions/1" "$kind.region"
        fail "fuzz/$kind-$many" "status $status; the file: build/test-logs/fuzz-$kind.region"
    fi
done

# well_formed FORMAT FILE: what other programs are to read, they can.
well_formed() {
    case $1 in
    json | vpp-json) python3 -m json.tool <"$2" >/dev/null 2>&1 ;;
    folded) ! grep -qvE '^.* [1-9][0-9]*$' "$2" ;;
    esac
}

# The tool itself, from the command line to the last line written.
memctl=
for place in build/bin/memctl "${SCRATCH:-.build}/debug/memctl" "${SCRATCH:-.build}/release/memctl"; do
    [ -x "$place" ] && memctl=$place && break
done
if [ -z "$memctl" ]; then
    echo "skip fuzz/tool: memctl is not built"
else
    "$work/fuzz" keep 150 "$seed" "$regions/kept" >/dev/null
    for format in text json vpp-json folded; do
        bad=
        for file in "$regions"/kept.*; do
            timeout 240 "$memctl" show trace --all --cumulative --format "$format" --file "$file" \
                >"$work/out" 2>"$work/err"
            status=$?
            # Shown, or refused with a word of why.
            if [ $status -gt 1 ] || { [ $status -eq 1 ] && ! grep -q '^Error: ' "$work/err"; }; then
                keep "$file" "tool.region"
                bad="status $status; the file: build/test-logs/fuzz-tool.region"
                break
            fi
            if [ $status -eq 0 ] && ! well_formed "$format" "$work/out"; then
                keep "$file" "tool.region"
                bad="not well formed; the file: build/test-logs/fuzz-tool.region"
                break
            fi
        done
        if [ -n "$bad" ]; then fail "fuzz/tool-$format" "$bad"; else echo "ok fuzz/tool-$format"; fi
    done
fi

if { compile "$work/cover" -sanitize=fuzzer && link "$work/cover" "$work/cover/fuzz" \
    -sanitize=fuzzer Tests/Fuzz/LibFuzzerEntry.swift; } >"$work/build.log" 2>&1; then
    mkdir -p "$work/corpus"
    for file in "$regions"/kept.*; do [ -f "$file" ] && cp "$file" "$work/corpus"; done
    if "$work/cover/fuzz" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=240 -max_len=16384 \
        -seed="$((seed % 4294967295))" -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$work/crash-" "$work/corpus" >"$work/libfuzzer.log" 2>&1; then
        grep -E 'number_of_executed_units' "$work/libfuzzer.log"
        echo "ok fuzz/guided-${seconds}s"
    else
        tail -40 "$work/libfuzzer.log"
        for file in "$work"/crash-*; do keep "$file" guided.region; done
        fail "fuzz/guided-${seconds}s" "the file: build/test-logs/fuzz-guided.region"
    fi
else
    tail -3 "$work/build.log"
    echo "skip fuzz/guided: this Swift has no -sanitize=fuzzer"
fi
exit $failed
