#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds libmemctl.so: build.sh OUTPUT [more compiler flags]. CC chooses the compiler (clang).
#
# What the flags are for:
#   -O2, -Os                short paths for speed, what is run now and then for size: it has room in the first 64 KiB
#   -flto                   clang only: a traced allocation goes through five files
#   -gdwarf-4               what valgrind's reader of debug information understands
#   -fno-builtin            calloc's malloc + memset must not become a call of calloc
#   -ftls-model             one load to find the thread; a preload is there from the start
#   -fno-semantic-interposition, -fvisibility=hidden   calls inside the library stay inside
#   -fomit-frame-pointer, -fasynchronous-unwind-tables our frames must be walkable, not slow
#   -z separate-loadable-segments, max-page-size: pages of one kind each, from a multiple of 64 KiB on
#   --no-rosegment, order.txt, layout.ld    lld only: every process touches the first 64 KiB and three pages
#   -z now, relro, -z nodelete   no lazy binding inside malloc; the library can't be unloaded
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
output=$1
shift
mkdir -p "$(dirname -- "$output")"
work=$(mktemp -d "${output%/*}/objects.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
cc=${CC:-clang}
whole=
linker=
case $cc in *clang*) whole=-flto=full linker="-fuse-ld=lld -Wl,-z,separate-loadable-segments -Wl,--no-rosegment
-Wl,--symbol-ordering-file=$root/preload/order.txt -Wl,-T,$root/preload/layout.ld -Wl,--no-warn-symbol-ordering" ;; esac
objects=
traces=
# What every process runs comes first, and the rest of what traces last: the kernel maps 64 KiB of a
# file around the one that was touched, so a process that is not traced has no pages of it.
for file in "$root"/Sources/CHeap/*.c "$root"/Sources/CBase/*.c "$root"/preload/*.c \
    "$root"/Sources/CTrace/*.c; do
    object=$work/$(basename -- "${file%/*}")-$(basename -- "$file" .c).o
    optimize=-O2 place=first
    case ${file#"$root"/} in
    preload/malloc.c) ;;
    preload/instrument.c) place=last ;;
    preload/mappings.c | preload/sandbox.c | preload/filter.c | preload/statistics.c | \
        Sources/CTrace/modules.c | Sources/CTrace/shard.c) optimize=-Os place=last ;;
    preload/* | Sources/CBase/* | Sources/CTrace/region.c | Sources/CTrace/folder.c | \
        Sources/CTrace/identity.c | Sources/CTrace/unwind_stack.c | Sources/CHeap/arena*.c | \
        Sources/CHeap/ended.c | Sources/CHeap/held.c | Sources/CHeap/huge.c | Sources/CHeap/large*.c | \
        Sources/CHeap/lend.c | Sources/CHeap/meta.c | Sources/CHeap/pagemap.c | Sources/CHeap/reuse.c | \
        Sources/CHeap/root.c | Sources/CHeap/span.c | Sources/CHeap/stats.c | Sources/CHeap/structs.c | \
        Sources/CHeap/thread.c | Sources/CHeap/trim.c | Sources/CHeap/waiting.c) optimize=-Os ;;
    Sources/CTrace/*) place=last ;;
    esac
    "$cc" -std=gnu17 "$optimize" -gdwarf-4 -fPIC -Wall -Wextra -Wno-unknown-warning-option \
        -DNDEBUG -fno-builtin -fvisibility=hidden -fno-semantic-interposition -ftls-model=initial-exec \
        -fno-plt -fomit-frame-pointer -fasynchronous-unwind-tables -fno-strict-aliasing \
        -fno-stack-protector -fcf-protection=none -ffunction-sections \
        -I"$root/Sources/CRegion/include" -I"$root/Sources/CBase/include" \
        -I"$root/Sources/CHeap/include" -I"$root/Sources/CTrace/include" \
        ${whole:+"$whole"} "$@" -c "$file" -o "$object" &
    pids="${pids:-} $!"
    case $place in
    first) objects="$objects $object" ;;
    last) traces="$traces $object" ;;
    esac
done
for pid in $pids; do wait "$pid"; done
# shellcheck disable=SC2086
"$cc" $linker $whole -O2 "$@" -shared -o "$work/libmemctl.so" $objects $traces -Wl,-soname,libmemctl.so \
    -Wl,--version-script="$root/preload/exports.map" -Wl,-z,now,-z,relro,-z,nodelete \
    -Wl,-z,max-page-size=4096 \
    -Wl,-z,noexecstack -Wl,--gc-sections -Wl,--hash-style=gnu -Wl,--build-id=sha1 \
    -Wl,--as-needed -nostartfiles -nodefaultlibs -lc
mv "$work/libmemctl.so" "$output"
