#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs all unwinder tests: unit tests, rules against readelf, and the oracle over
#   programs. run.sh            quick: under a minute
#   run.sh --long     ten to twenty times as many stacks; also by TEST_LONG=1
#   run.sh NAME...    only the oracle programs so named
# CC and OUT as in steps.sh. hours.sh is the oracle over programs of others, for hours.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scale=${TEST_LONG:+10}
if [[ ${1:-} == --long ]]; then
    scale=10
    shift
fi
scale=${scale:-1}
only=("$@")
# shellcheck source=Tests/Unwind/steps.sh
. "$here/steps.sh"

# unit NAME ARGUMENT...: a program that speaks the protocol; dying without a word is a failure too.
unit() {
    local name=$1 status=0
    shift
    "$out/$name" "$@" || status=$?
    if ((status)); then failed=1; fi
    if ((status > 1)); then echo "not ok $name: exit status $status"; fi
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
    build_oracle || return
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
finish
