#!/usr/bin/env bash
# build.sh OUTDIR CC CXX: the helper programs (helper_*) and plugins (plugin_*) of the cases.
# SPDX-License-Identifier: MIT
set -euo pipefail
out=$1 cc=$2 cxx=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
flags=(-O2 -g -fno-builtin -pthread -D_GNU_SOURCE -Wall -Wextra)
# shellcheck disable=SC2016 # expanded by the inner shell
compile='$3 -o "$1" "$2" -ldl'
for source in "$here"/*.c "$here"/*.cc; do
    [[ -e $source ]] || continue
    name=$(basename "${source%.*}")
    case $source in
    *.c) compiler=("$cc" -std=gnu17) ;;
    *.cc) compiler=("$cxx" -std=gnu++17) ;;
    esac
    target=$out/$name
    if [[ $name == plugin_* ]]; then
        target+=.so
        compiler+=(-fPIC -shared)
    fi
    if [[ -e $target && $target -nt $source ]]; then continue; fi
    printf '%s\0' "$target" "$source" "${compiler[*]} ${flags[*]}"
done | xargs -r -0 -n 3 -P "$(nproc)" bash -c "$compile" _
