#!/usr/bin/env bash
# build.sh OUTDIR [CC] [CXX]: compiles the conformance programs and their helpers into OUTDIR.
# -fno-builtin: neither compiler may fold, merge or drop a call whose behaviour is the test.
# SPDX-License-Identifier: MIT
set -euo pipefail
out=${1:?usage: build.sh OUTDIR [CC] [CXX]}
cc=${2:-cc} cxx=${3:-c++}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

warn=(-Wall -Wextra)
common=(-O2 -g -fno-builtin -pthread -D_GNU_SOURCE "${warn[@]}" -I "$here")

# One compile each, as many at once as there are processors.
jobs=()
for source in "$here"/*.c "$here"/*.cc; do
    [[ -e $source ]] || continue
    object="$out/$(basename "$source").o"
    # Whatever a header change might touch is compiled again; a fresh object is kept.
    if [[ -e $object && $object -nt $source && $object -nt "$here/conformance.h" &&
        $object -nt "$here/filters.h" ]]; then continue; fi
    case $source in
    *.c) jobs+=("$cc|-std=gnu17|$source|$object") ;;
    *.cc) jobs+=("$cxx|-std=gnu++17|$source|$object") ;;
    esac
done
# shellcheck disable=SC2016 # expanded by the inner shell
if ((${#jobs[@]})); then
    printf '%s\0' "${jobs[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c '
        IFS="|" read -r compiler std source object <<<"$1"
        shift
        "$compiler" "$std" "$@" -c "$source" -o "$object"' _ {} "${common[@]}"
fi

shared=("$out/main.c.o" "$out/support.c.o")
objects_of() { # objects_of SUFFIX: those of the cases written in one language
    local source
    for source in "$here"/*."$1"; do
        case $(basename "$source") in main.c | support.c) ;; *) echo "$out/$(basename "$source").o" ;; esac
    done
}
mapfile -t c_objects < <(objects_of c)
"$cc" -pthread -o "$out/conformance" "${shared[@]}" "${c_objects[@]}" -ldl
if compgen -G "$here/*.cc" >/dev/null; then
    mapfile -t cxx_objects < <(objects_of cc)
    "$cxx" -pthread -o "$out/conformance_cxx" "${shared[@]}" "${cxx_objects[@]}" -ldl
fi
if [[ -x $here/helpers/build.sh ]]; then "$here/helpers/build.sh" "$out" "$cc" "$cxx"; fi
