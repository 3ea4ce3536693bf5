#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs all unwinder tests: unit tests, rules against readelf, and the oracle over
#   programs. run.sh            quick: under a minute
#   run.sh --long     ten to twenty times as many stacks; also by TEST_LONG=1
#   run.sh NAME...    only the oracle programs so named
# CC chooses the compiler of the unwinder. The logs of differences stay in $OUT (default: a
# directory under /tmp, removed when all is well: $TMPDIR may be private, and LD_PRELOAD is cut at
# spaces).
set -u
here=$(cd "$(dirname "$0")" && pwd)
trace=$(cd "$here/../../Sources/CTrace" && pwd)
cc=${CC:-cc}
scale=${TEST_LONG:+10}
if [[ ${1:-} == --long ]]; then
    scale=10
    shift
fi
scale=${scale:-1}
only=("$@")
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

# unit NAME ARGUMENT...: a program that speaks the protocol; dying without a word is a failure too.
unit() {
    local name=$1 status=0
    shift
    "$out/$name" "$@" || status=$?
    if ((status)); then failed=1; fi
    if ((status > 1)); then echo "not ok $name: exit status $status"; fi
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

units() {
    local name
    build cfi_test "$here/cfi_test.c" "${unwinder[@]}" && unit cfi_test
    for name in unwind_test stack_test epoch_test; do
        build "$name" -fno-optimize-sibling-calls "$here/$name.c" "${unwinder[@]}" -lpthread &&
            unit "$name"
    done
    # gcc: its attributes make the machine's frames, through which exceptions go.
    make_program throws.o g++ -O2 -Wall -Wextra -c "$here/trail/throws.cc"
    cc=gcc build trail_test -fexceptions -I "$here/trail" "$here"/trail/*.c "$out/throws.o" \
        "${unwinder[@]}" -lpthread -lstdc++ && unit trail_test "$scale"
    cc=gcc build recall_test "$here/recall_test.c" "${unwinder[@]}" -lpthread && unit recall_test
    build fallback_test -fno-optimize-sibling-calls -fno-omit-frame-pointer \
        -D_dl_find_object=mc_no_such_symbol "$here/fallback_test.c" "${sources[@]}" &&
        unit fallback_test
    build rules_dump "$here/rules_dump.c" "${unwinder[@]}" -ldl &&
        { "$here/rules_test.py" "$out/rules_dump" "$scale" || failed=1; }
}

oracle() {
    local programs=$here/programs
    if ! "$cc" -E -x c -include libunwind.h /dev/null >/dev/null 2>&1; then
        echo "skip oracle: no libunwind.h (Debian: libunwind-dev)"
        return
    fi
    build launcher "$here/launcher.c" || return
    build sampler.so -fPIC -shared -fno-builtin -ftls-model=initial-exec "$here/sampler.c" \
        "${unwinder[@]}" || return
    make_program shapes gcc -g -O2 "$programs/shapes.c"
    make_program throws g++ -g -O2 "$programs/throws.cc"
    make_program stacks gcc -g -O2 "$programs/stacks.c" -lpthread
    make_program modules gcc -g -O2 "$programs/modules.c" -ldl
    make_program module1.so gcc -O2 -fPIC -shared -DSIZE=1000 "$programs/module.c"
    make_program module2.so gcc -O2 -fPIC -shared -DSIZE=1400 "$programs/module.c"
    wanted rust && make_program rust rustc -O -C debuginfo=0 "$programs/work.rs"
    wanted swift && make_program swift swiftc -O "$programs/work.swift"
    local t=$((scale > 1 ? 2 * scale : 1)) cc1plus
    cc1plus=$(gcc -print-prog-name=cc1plus)
    sample shapes 1 1000 37 "$out/shapes" "$t"
    sample throws 1 1000 37 "$out/throws" "$t"
    sample stacks 1 333 997 "$out/stacks" "$t"
    UNWIND_UNCACHED=1 sample modules 1 333 37 "$out/modules" "$t" "$out/module1.so" \
        "$out/module2.so"
    sample rust 1 333 997 "$out/rust" "$t"
    sample swift 1 333 997 "$out/swift" "$t"
    sample python 1 333 499 /usr/bin/python3 "$programs/work.py" "$t"
    sample perl 1 333 97 perl "$programs/work.pl" "$t"
    sample node 2 333 499 node "$programs/work.js" "$t"
    sample_postgres
    sample openssl 1 333 37 openssl speed -seconds "$t" -evp aes-256-gcm
    sample openssl_rsa 1 333 37 openssl speed -seconds "$t" rsa2048
    sample cc1plus 2 333 97 "$cc1plus" -quiet -O2 -o /dev/null -imultiarch x86_64-linux-gnu \
        -D_GNU_SOURCE "$programs/throws.cc"
    sample swiftc 2 333 997 swiftc -O -o "$out/made" "$programs/work.swift"
    sample gdb 2 333 97 gdb -batch -ex 'info functions e' -ex 'info types s' "$out/throws"
}

if ! compile_unwinder; then
    echo "not ok build unwinder"
    exit 1
fi
((${#only[@]} == 0)) && units
oracle
if ((failed == 0)) && [[ -z $kept ]]; then rm -rf "$out"; else echo "# logs in $out"; fi
exit "$failed"
