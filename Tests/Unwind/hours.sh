#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The oracle over programs that nobody here wrote, with their own tests or scripts of ours as work, round
# after round, until the time is up:
#   hours.sh [MINUTES [NAME...]]   120 minutes, all programs
# Each round is new: addresses, the instants of interruption and the damage to registers are
# chance. At the end: what was compared, by program. Fails at the first difference.
set -u
here=$(cd "$(dirname "$0")" && pwd)
minutes=${1:-120}
scale=10
only=("${@:2}")
if [[ ! $minutes =~ ^[1-9][0-9]*$ ]]; then
    echo "hours.sh: MINUTES is a number from 1 on, not \"$minutes\"" >&2
    exit 64
fi
# shellcheck source=Tests/Unwind/steps.sh
. "$here/steps.sh"
workloads=$here/../../Benchmarks/Programs

# Python's own tests, but those that count signals: the oracle's own would fail them.
python_tests=(test_json test_re test_unicode test_dict test_decimal test_zlib test_bz2 test_lzma
    test_hashlib test_pickle test_xml_etree test_ctypes test_struct test_collections
    test_list test_set test_itertools test_tarfile test_zipfile
    test_weakref test_deque test_array test_gc)

# filled FILE WORD=NUMBER...: the path of a workload in which words stand for numbers.
filled() {
    local file=$out/$1 edits=() pair
    for pair in "${@:2}"; do edits+=(-e "s/\\b${pair%=*}\\b/${pair#*=}/g"); done
    sed "${edits[@]}" "$workloads/$1" >"$file"
    echo "$file"
}

round() {
    local cc1plus
    cc1plus=$(gcc -print-prog-name=cc1plus)
    if /usr/bin/python3 -c 'import test.test_json' 2>/dev/null; then
        PYTHONMALLOC=malloc sample python3 10 1000 499 /usr/bin/python3 -m test "${python_tests[@]}"
    else
        echo "skip python3: its own tests are not here (Debian: libpython3.11-testsuite)"
    fi
    PYTHONMALLOC=malloc sample python3_threads 5 1000 499 /usr/bin/python3 "$programs/work.py" 40
    sample node 5 1000 499 node "$programs/work.js" 40
    sample npm 5 1000 97 npm ls --global --all
    sample cc1plus 5 1000 97 "$cc1plus" -quiet -O2 -o /dev/null -imultiarch x86_64-linux-gnu \
        -D_GNU_SOURCE "$workloads/templates.cpp"
    sample clang 5 1000 97 clang++ -O2 -c -o "$out/templates.o" "$workloads/templates.cpp"
    sample swiftc 5 1000 997 swiftc -O -o "$out/made" "$programs/work.swift"
    sample_postgres
    sample ruby 5 1000 97 ruby "$workloads/workload.rb" 200
    sample perl 5 1000 97 perl "$workloads/workload.pl" 200
    sample lua 5 1000 97 lua5.4 "$workloads/workload.lua" 60
    sample gs 5 1000 97 gs -q -dNOPAUSE -dBATCH -r72 -sDEVICE=ppmraw -sOutputFile=/dev/null \
        "$(filled workload.ps PAGES=100)"
    sample z3 5 1000 97 z3 "$(filled workload.smt2 LINKS=40 LIMIT=45)"
    sample sqlite3 5 1000 97 sqlite3 :memory: ".read $(filled workload.sql ROWS=300000)"
    if git -C "$here" rev-parse 2>/dev/null; then
        sample git 5 1000 97 git -C "$here" log --patch --stat
    else
        echo "skip git: this is no repository"
    fi
    sample ffmpeg 5 1000 37 ffmpeg -v error -f lavfi -i testsrc=duration=20 -c:v libx264 -f null -
    sample openssl 2 333 37 openssl speed -seconds 4 rsa2048
    sample gdb 3 1000 97 gdb -batch -ex 'info functions e' -ex 'info types s' "$out/launcher"
}

# Adds up what the launcher printed, "# NAME: 17 stacks 140 frames, 0 differences, ...", by program,
# or all under one NAME.
add_up() {
    awk -v together="$1" '
        function number(word, i) {
            for (i = 3; i <= NF; i++)
                if ($i ~ "^" word) return substr($(i - 1), $(i - 1) ~ /^\(/ ? 2 : 1)
        }
        /^# / {
            name = together ? together : substr($2, 1, length($2) - 1)
            runs[name]++
            stacks[name] += number("stacks")
            frames[name] += number("frames")
            calls[name] += number("calls")
            recalled[name] += number("recalled")
            wrong[name] += number("differences") + number("fast/exact") + number("strayed")
        }
        END {
            for (name in runs)
                printf "%-16s %5.0f %11.0f %13.0f %13.0f %13.0f %11.0f\n", name, runs[name], stacks[name],
                       frames[name], calls[name], recalled[name], wrong[name]
        }' "$out/rounds"
}

compile_unwinder && build_oracle || exit 1
while ((failed == 0 && SECONDS < minutes * 60)); do
    round >"$out/round"
    tee -a "$out/rounds" <"$out/round"
done
printf '%-16s %5s %11s %13s %13s %13s %11s\n' '' runs stacks frames calls recalled differences
add_up '' | sort
add_up all
finish
