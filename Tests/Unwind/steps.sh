#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The steps that run.sh and hours.sh share; both source it. It takes `here`, the folder of these
# tests; `scale`, how many times longer than the quick run; `only`, the programs that are wanted
# (empty: all). It gives `out`, where all is built, and `failed`, whether something did.
# CC chooses the compiler of the unwinder. The logs of differences stay in $OUT (default: a
# directory under /tmp, removed when all is well: $TMPDIR may be private, and LD_PRELOAD is cut at
# spaces).
# shellcheck disable=SC2034,SC2154 # what it gives and takes
trace=$(cd "$here/../../Sources/CTrace" && pwd)
programs=$here/programs
cc=${CC:-cc}
kept=${OUT:+yes}
out=${OUT:-$(mktemp -d /tmp/unwind.XXXXXX)}
mkdir -p "$out"
failed=0
warnings=(-std=gnu17 -g -O2 -Wall -Wextra -I "$trace" -I "$trace/include" -I "$trace/../CBase/include")
sources=("$trace"/unwind*.c "$trace"/cfi*.c "$trace"/rules.c "$trace"/trail*.c "$here/own_memory.c")
unwinder=() # their objects

# build NAME ARGUMENT...: $cc makes $out/NAME; failing is a failed test.
build() {
    local name=$1
    shift
    if ! "$cc" "${warnings[@]}" -I "$trace" -I "$here" "$@" -o "$out/$name" 2>"$out/$name.err"; then
        echo "not ok build $name: $(head -n 1 "$out/$name.err")"
        failed=1
        return 1
    fi
}

wanted() {
    ((${#only[@]} == 0)) && return 0
    local name
    for name in "${only[@]}"; do [[ $name == "$1" ]] && return 0; done
    return 1
}

# sample NAME SECONDS LEAST EVERY COMMAND...: the oracle over one program. SECONDS is for the quick
# run.
sample() {
    local name=$1 seconds=$((scale > 1 ? $2 * 2 * scale : $2)) least=$3 every=$4
    shift 4
    wanted "$name" || return 0
    if ! command -v "$1" >/dev/null; then
        echo "skip $name: no $1 here"
        return 0
    fi
    "$out/launcher" "$name" "$out/$name.log" "$((seconds + 3))" "$least" 150 "$every" \
        "$out/sampler.so" -- "$@" >"$out/$name.out" 2>"$out/$name.err" || failed=1
    grep -E '^(ok|not ok|# '"$name:"')' "$out/$name.out"
}

# make NAME COMMAND...: a program under test; where its compiler is missing the program is skipped.
make_program() {
    local name=$1
    shift
    command -v "$1" >/dev/null || return 0
    "$@" -o "$out/$name" >"$out/$name.err" 2>&1 || echo "skip $name: $(head -n 1 "$out/$name.err")"
}

# A database server, its programs and its clients. It refuses to be root's, so a folder is handed to nobody.
sample_postgres() {
    local name=postgres home=$out/postgres as=() missing
    wanted "$name" || return 0
    for missing in initdb postgres pgbench setpriv; do
        command -v "$missing" >/dev/null && continue
        echo "skip $name: no $missing here"
        return 0
    done
    mkdir -p "$home"
    cp "$out/launcher" "$out/sampler.so" "$here/programs/serve.sh" "$home"
    if ((EUID == 0)); then
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
        chown -R 65534:65534 "$home"
        chmod o+x "$out"
    fi
    (cd "$home" && HOME=$home "${as[@]}" ./launcher "$name" "$home/log" 60 1000 1000 97 "$home/sampler.so" \
        -- bash "$home/serve.sh" "$home/data" "$((scale > 1 ? 20 : 2))") >"$out/$name.out" \
        2>"$out/$name.err" || failed=1
    grep -E '^(ok|not ok|# '"$name:"')' "$out/$name.out"
}

# Compiled once, as for the library: all programs and the sampler link the same objects.
compile_unwinder() {
    local source object
    for source in "${sources[@]}"; do
        object=$out/$(basename "$source" .c).o
        "$cc" "${warnings[@]}" -fPIC -fno-builtin -ftls-model=initial-exec -fno-plt -c "$source" \
            -o "$object" || return 1
        unwinder+=("$object")
    done
}

# What the oracle needs.
build_oracle() {
    if ! "$cc" -E -x c -include libunwind.h /dev/null >/dev/null 2>&1; then
        echo "skip oracle: no libunwind.h (Debian: libunwind-dev)"
        return 1
    fi
    build launcher "$here/launcher.c" &&
        build sampler.so -fPIC -shared -fno-builtin -ftls-model=initial-exec "$here/sampler.c" \
            "${unwinder[@]}"
}

# The logs go when all is well. Returns whether it is.
finish() {
    if ((failed == 0)) && [[ -z $kept ]]; then rm -rf "$out"; else echo "# logs in $out"; fi
    return "$failed"
}
