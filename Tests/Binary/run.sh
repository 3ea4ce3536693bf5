#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What must hold of the built files rather than of the running program: what libmemctl.so needs,
# exports and asks of the loader; that the sources compile without a warning with both compilers
# and only see the layers below them; that the installed layout works.
#
#     run.sh [PATTERN]    runs the checks whose name matches the shell pattern (all)
#
# Prints `ok binary/NAME` or `not ok binary/NAME: reason` per check; exit status 1 if one failed.
# Needs build/ as `make` leaves it.
# shellcheck disable=SC2317 # the checks are called through check()
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
library=build/lib/libmemctl.so
pattern=${1:-*}
failed=0
work=$(mktemp -d /tmp/memctl-binary-XXXXXX) || exit 2 # a folder without spaces: see below
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if [[ ! -f $library ]]; then
    echo "run.sh: there is no $library — run make first" >&2
    exit 2
fi
swift=${SWIFT:-$(command -v swift)}
scratch=${SCRATCH:-.build}
gcc=$(command -v gcc)
# The toolchain's own clang, also where only `swift` is on PATH.
clang=$(command -v clang || ls "$(dirname "$(realpath "$swift")")/clang")

# check NAME FUNCTION [ARGUMENT...]: the function says on its output why it fails.
check() {
    local name=$1 reason
    shift
    # shellcheck disable=SC2053 # the pattern is meant to be one
    [[ $name == $pattern ]] || return 0
    if reason=$("$@" 2>&1); then
        echo "ok binary/$name"
    else
        failed=1
        echo "not ok binary/$name: $(tr '\n' ';' <<<"$reason" | cut -c 1-600 | sed 's, *$,,')"
    fi
}
# expect_empty TEXT WHAT: fails and shows the text when there is some.
expect_empty() { [[ -z $1 ]] || { echo "$2: $1"; return 1; }; }

dynamic() { readelf -W --dynamic "$library"; }
segments() { readelf -W --program-headers "$library"; }

needs_libc_only() {
    local needed
    needed=$(dynamic | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
    [[ $needed == "libc.so.6 " ]] || { echo "NEEDED is '$needed', not libc.so.6"; return 1; }
}
has_soname() {
    dynamic | grep -q '(SONAME).*\[libmemctl.so\]' || { echo "no SONAME libmemctl.so"; return 1; }
}
has_no_text_relocations() { expect_empty "$(dynamic | grep TEXTREL)" "text relocations"; }
has_no_search_path() { expect_empty "$(dynamic | grep -E 'RPATH|RUNPATH')" "a search path"; }
binds_now() {
    dynamic | grep -qE 'BIND_NOW|FLAGS_1.* NOW' || { echo "neither BIND_NOW nor NOW is set"; return 1; }
}
has_relro() { segments | grep -q GNU_RELRO || { echo "no RELRO segment"; return 1; }; }
has_no_executable_stack() {
    local flags
    flags=$(segments | awk '$1 == "GNU_STACK" { print $(NF - 1) }')
    [[ $flags == RW ]] || { echo "GNU_STACK has flags '$flags', not RW"; return 1; }
}
has_no_writable_code() {
    expect_empty "$(segments | awk '$1 == "LOAD" && / RWE /')" "a segment that is writable and executable"
}
has_build_id() { readelf -n "$library" | grep -q 'Build ID' || { echo "no build-id"; return 1; }; }
keeps_unwind_tables() {
    segments | grep -q GNU_EH_FRAME || { echo "no .eh_frame_hdr: our frames can't be walked"; return 1; }
}

# What every process runs lies in the 64 KiB that the kernel maps around a touched page of text.
in_order() { sed -n "/^# $1/,/^# $2/p" preload/order.txt | sed '/^#/d;/^$/d' | sort; }
addresses() { nm -S "$library" | awk 'NF == 4 && $3 ~ /^[tTdDbB]$/ { print $4, $1, $2 }' | sort; }
beyond_first() { # of NAME ADDRESS SIZE, those that do not end in it
    local name address size
    while read -r name address size; do
        ((0x$address + 0x$size <= 0x10000)) || echo "$name"
    done
}
start_is_compact() {
    local start variables LC_ALL=C
    export LC_ALL
    start=$(join <(in_order Start Variables) <(addresses))
    grep -q '^mc_refill ' <<<"$start" || { echo "no mc_refill among the symbols"; return 1; }
    expect_empty "$(beyond_first <<<"$start")" "beyond the first 64 KiB" || return 1
    variables=$(join <(in_order Variables '$') <(addresses) | awk '{ print substr($2, 1, 13) }' | sort -u)
    (($(wc -l <<<"$variables") <= 2)) || { echo "variables in more than two pages: $variables"; return 1; }
}

# The same as seen, so that a function which order.txt does not name is noticed: callgrind names what of
# ours the command ran. (Without debug information, which valgrind can't read all of.)
runs_compact() { # COMMAND
    local ran LC_ALL=C
    export LC_ALL
    strip --strip-debug -o "$work/libmemctl.so" "$library"
    MEMCTL_DIR=$work/regions LD_PRELOAD=$work/libmemctl.so valgrind --tool=callgrind \
        --callgrind-out-file="$work/ran" "$@" >/dev/null 2>"$work/err" || { tail -3 "$work/err"; return 1; }
    ran=$(awk -v library="$work/libmemctl.so" '
        /^c?(ob|fn)=\(/ { # a name is written where its number is first used
            split($1, part, "=")
            kind = substr(part[1], length(part[1]) - 1)
            if (NF > 1) name[kind, part[2]] = $2
            if (part[1] == "ob") ours = name["ob", part[2]] == library
            if (part[1] == "fn" && ours) print name["fn", part[2]] }' "$work/ran" | sed "s/'.*//" | sort -u)
    grep -qx malloc <<<"$ran" || { echo "no malloc among what ran"; return 1; }
    expect_empty "$(join <(echo "$ran") <(addresses) | beyond_first)" \
        "run by every process and not in order.txt"
}
start_runs_compact() { runs_compact ls /; }
# What a process comes to run that lives on: ticks, large objects, memory that goes back.
life_runs_compact() {
    # shellcheck disable=SC2016 # perl's own
    runs_compact perl -e '
        for (1 .. 3) {
            push @many, "x" x ($_ % 3000) for 1 .. 5000;
            my $large = "x" x 3_000_000;
            @many = ();
            select undef, undef, undef, 0.3;
        }' || return 1
    grep -q mc_arena_purge "$work/ran" || { echo "no tick gave anything back"; return 1; }
}

# Thread state is found by one load. Every byte is taken from each thread's stack, which may be 16 KiB:
# the table of what serves each small size (mc_direct) has 520, the rest 80, and that is enough.
tls_is_initial_exec() {
    dynamic | grep -q STATIC_TLS || { echo "the flag STATIC_TLS is not set"; return 1; }
    expect_empty "$(readelf -W --relocs "$library" | grep -E 'DTPMOD|DTPOFF|TLSDESC')" \
        "relocations of another TLS model"
}
tls_is_small() {
    local size
    size=$((0x$(segments | awk '$1 == "TLS" { sub("0x", "", $6); print $6 }')))
    echo "binary: the TLS segment has $size bytes" >&3
    ((size > 0 && size <= 600)) || { echo "the TLS segment has $size bytes, not 1 to 600"; return 1; }
}

# The names of exports.map's global part: comments out, then every name up to a semicolon.
documented() {
    tr '\n' ' ' <preload/exports.map | sed -e 's|/\*[^*]*\**\([^/*][^*]*\*\+\)*/||g' |
        sed -e 's/.*global://' -e 's/local:.*//' | tr ';' '\n' | tr -d ' \t"{}' | sed '/^$/d' | sort
}
exported() {
    readelf -W --dyn-syms "$library" |
        awk '$7 != "UND" && $7 != "ABS" && $1 ~ /^[0-9]+:$/ && $4 != "NOTYPE" && $8 != "" { sub("@.*", "", $8); print $8 }' |
        sort -u
}
exports_are_documented() {
    expect_empty "$(comm -13 <(documented) <(exported))" "exported, but not named in exports.map"
}
documented_are_exported() {
    [[ -n $(documented) ]] || { echo "no names found in preload/exports.map"; return 1; }
    expect_empty "$(documented | uniq -d)" "named twice in exports.map" || return 1
    expect_empty "$(comm -23 <(documented) <(exported))" "named in exports.map, but not exported"
}

# Each folder is compiled with the headers of the layers it may know, and no others.
include_flags() {
    local layer
    case $1 in
    Sources/CRegion) set -- CRegion ;;
    Sources/CBase) set -- CRegion CBase ;;
    Sources/CHeap) set -- CRegion CBase CHeap ;;
    Sources/CTrace) set -- CRegion CBase CTrace ;;
    preload) set -- CRegion CBase CHeap CTrace; printf '%s ' -Ipreload -Ipreload/include ;;
    esac
    for layer; do printf '%s ' "-ISources/$layer/include"; done
}
c_flags='-std=gnu17 -O2 -fPIC -Wall -Wextra -Werror -Wno-unknown-warning-option -fno-builtin -ftls-model=initial-exec'
compiles_cleanly() { # COMPILER FOLDER FILE
    # shellcheck disable=SC2046,SC2086 # flags are separate words
    "$1" $c_flags $(include_flags "$2") -c "$3" -o /dev/null
}
stands_alone() { # COMPILER FOLDER HEADER: included first, and twice
    printf '#include "%s"\n#include "%s"\nextern int nothing;\n' "$PWD/$3" "$PWD/$3" >"$work/$$.c"
    # shellcheck disable=SC2046,SC2086
    "$1" $c_flags -Wno-unused-function $(include_flags "$2") -I"$(dirname "$3")" -c "$work/$$.c" -o /dev/null
}
has_sources() { compgen -G "$1/*.c" >/dev/null || { echo "no C sources in $1"; return 1; }; }
check_sources() {
    local compiler name folder file
    for folder in Sources/CRegion Sources/CBase Sources/CHeap Sources/CTrace preload; do
        check "has-sources/$folder" has_sources "$folder"
    done
    for compiler in "$gcc" "$clang"; do
        name=${compiler##*/}
        for folder in Sources/CRegion Sources/CBase Sources/CHeap Sources/CTrace preload; do
            while read -r file; do
                check "$name-compiles/$file" compiles_cleanly "$compiler" "$folder" "$file"
            done < <(find "$folder" -name '*.c' ! -path 'preload/target/*' 2>/dev/null | sort)
            while read -r file; do
                check "$name-header-alone/$file" stands_alone "$compiler" "$folder" "$file"
            done < <(find "$folder" -name '*.h' 2>/dev/null | sort)
        done
    done
}

imports_nothing_above() { # FOLDER EXPRESSION
    compgen -G "$1/*.swift" >/dev/null || { echo "no Swift sources in $1"; return 1; }
    expect_empty "$(grep -rnE "^(@[a-zA-Z]+ )*(package |internal |private |public )?import ($2)\b" "$1")" \
        "an import that docs/layers.md forbids"
}

installs_a_working_layout() {
    local prefix="$work/a prefix" left header
    make --no-print-directory install PACKAGES=skip PREFIX="$prefix" >"$work/log" 2>&1 ||
        { tail -5 "$work/log"; return 1; }
    (
        cd / && unset LD_PRELOAD
        "$prefix/bin/memctl" --help >/dev/null || { echo "memctl --help fails"; exit 1; }
        # The loader cuts LD_PRELOAD at spaces, so a link without one leads there.
        ln -s "$prefix/lib/libmemctl.so" "$work/link.so"
        said=$(LD_PRELOAD="$work/link.so" /bin/echo works 2>&1)
        [[ $said == works ]] || { echo "under the installed library echo says '$said'"; exit 1; }
    ) || return 1
    for header in build/include/*.h; do
        [[ -f $prefix/include/${header##*/} ]] || { echo "${header##*/} is not installed"; return 1; }
        printf '#include <%s>\nint main(void) { return 0; }\n' "${header##*/}" >"$work/use.c"
        "$gcc" -Wall -Wextra -Werror -I"$prefix/include" "$work/use.c" -o "$work/use" || return 1
    done
    make --no-print-directory uninstall PREFIX="$prefix" >/dev/null || return 1
    left=$(find "$prefix" ! -type d)
    expect_empty "$left" "make uninstall leaves"
}
stages_below_destdir() {
    make --no-print-directory install PACKAGES=skip DESTDIR="$work/stage" PREFIX=/opt/m >"$work/log" 2>&1 ||
        { tail -5 "$work/log"; return 1; }
    [[ -x $work/stage/opt/m/bin/memctl && -f $work/stage/opt/m/lib/libmemctl.so ]] ||
        { echo "not below DESTDIR/PREFIX: $(cd "$work/stage" && find . -type f | tr '\n' ' ')"; return 1; }
}
builds_nothing_twice() {
    local said
    said=$(make --no-print-directory PACKAGES=skip 2>&1) || { echo "$said"; return 1; }
    expect_empty "$(grep -v "Nothing to be done" <<<"$said")" "a second make does"
}

# Our own modules are compiled anew, those of the dependencies are kept: warnings are only printed
# when a file is compiled. The tests' modules too; `swift test` then finds them built.
swift_builds_without_warning() {
    local module
    for module in Sources/* Tests/*Tests; do
        rm -rf "$scratch"/debug/"${module##*/}".build
    done
    "$swift" build --build-tests --scratch-path "$scratch" \
        --explicit-target-dependency-import-check error >"$work/build" 2>&1 ||
        { grep -E 'error:' "$work/build" | head -3 || tail -5 "$work/build"; return 1; }
    expect_empty "$(grep -E 'warning:' "$work/build" | sort -u | head -5)" "warnings"
}

exec 3>&2
check needs-libc-only needs_libc_only
check soname has_soname
check no-text-relocations has_no_text_relocations
check no-search-path has_no_search_path
check binds-now binds_now
check relro has_relro
check no-executable-stack has_no_executable_stack
check no-writable-code has_no_writable_code
check build-id has_build_id
check unwind-tables keeps_unwind_tables
check start-compact start_is_compact
check start-runs-compact start_runs_compact
check life-runs-compact life_runs_compact
check tls-initial-exec tls_is_initial_exec
check tls-small tls_is_small
check exports-documented exports_are_documented
check documented-exported documented_are_exported
check_sources
for folder in HeapImage Symbols Reports Exports; do
    check "no-foundation/$folder" imports_nothing_above "Sources/$folder" "Foundation[A-Za-z]*|ArgumentParser"
done
check incremental builds_nothing_twice
check install installs_a_working_layout
check destdir stages_below_destdir
check swift-no-warnings swift_builds_without_warning
exit "$failed"
