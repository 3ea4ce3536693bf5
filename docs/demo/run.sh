#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# `make demo`: finds a leak in docs/demo/orders.c, as one would find it in a program one can't
# rebuild. Every command is printed before it runs. Takes about 15 seconds and cleans up after
# itself; ends with an error as soon as a command fails or does not show what it must.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/build/bin:$PATH"
unset LD_PRELOAD

if [[ -t 1 && -z ${NO_COLOR-} ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
work=$(mktemp -d)
pid=''

# The program is disowned, so that the shell has nothing to say about its end.
end_program() {
    kill -KILL "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}

finish() {
    local status=$?
    if [[ -n $pid ]]; then
        end_program
        memctl forget "$pid" >/dev/null 2>&1 || true
    fi
    rm -rf "$work"
    ((status == 0)) || printf '\ndemo: FAILED (status %s)\n' "$status" >&2
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() { printf 'demo: %s\n' "$1" >&2; exit 1; }

# note TEXT: a comment, as one would type it.
note() { printf '%s' "$dim"; fold -s -w 76 <<<"$*" | sed -e 's/^/# /' -e 's/ *$//'; printf '%s' "$plain"; }
prompt() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }

# run COMMAND...: prints it, runs it, keeps what it printed in $work/out for must_show.
run() {
    local status=0 word shown=()
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=,-]+$ ]] || word="'$word'"
        shown+=("$word")
    done
    prompt "${shown[*]}"
    "$@" >"$work/out" 2>&1 || status=$?
    cat "$work/out"
    if ((status != 0)); then
        fail "that command ended with status $status"
    fi
    printf '\n'
}

# must_show TEXT WHY: the demo is worth nothing when its commands show something else.
must_show() {
    if ! grep -qF -- "$1" "$work/out"; then
        fail "the last command had to show \"$1\": $2"
    fi
}
pass_time() { prompt "sleep $1"; sleep "$1"; printf '\n'; }

note "orders is a small service: libxml2 parses its documents, OpenSSL signs them," \
    "SQLite stores them, zlib archives them. It is started with memctl's heap in" \
    "place of libc's. Nothing is traced yet."
prompt "LD_PRELOAD=build/lib/libmemctl.so build/demo/orders 60 &"
LD_PRELOAD=build/lib/libmemctl.so build/demo/orders 60 >"$work/orders" 2>&1 &
pid=$!
disown
printf '[1] %s\n\n' "$pid"
sleep 1

note "Its memory grows (RSS is in KiB):"
run ps -o pid,etimes,rss,comm -p "$pid"
pass_time 3
run ps -o pid,etimes,rss,comm -p "$pid"

note "Which processes can be looked into?"
run memctl list
must_show "$pid" "the process runs under build/lib/libmemctl.so"

note "From here on, note the backtrace of every allocation. The process is not" \
    "stopped and need not cooperate: one word is stored in memory it shares."
run memctl trace on -p "$pid"
pass_time 6

note "What was allocated since, is not freed yet, and who asked for it:"
run memctl show trace -p "$pid" --limit 3
must_show load_document "every document is made there"
must_show cancel_order "it is the caller that leaks"

note "The innermost frames belong to libxml2, which is not at fault: the same ones" \
    "serve place_order, which keeps its documents for a while and frees them. It is" \
    "cancel_order, further out, whose documents are never freed:"
memctl show trace -p "$pid" --all >"$work/out"
must_show place_order "its documents are live as well"
run sed -n '/^static.* cancel_order/,/^}/p' docs/demo/orders.c
must_show 'return;' "the leak is there"

note "Where the memory of the process is as a whole:"
run memctl show memory -p "$pid"

note "Tracing is switched off again, and so is its cost. The program ran on all the" \
    "time; nothing was restarted."
run memctl trace off -p "$pid"

kill -0 "$pid" 2>/dev/null || { cat "$work/orders" >&2; fail "orders ended on its own"; }
note "Even a killed process can be asked: its trace stays until it is forgotten."
prompt "kill -KILL $pid"
end_program
printf '\n'
run memctl show trace -p "$pid" --limit 1
must_show cancel_order "the trace outlives the process"
run memctl forget "$pid"
pid=''
