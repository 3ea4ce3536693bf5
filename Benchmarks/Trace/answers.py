#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How soon tracing is there when it is asked for, and how soon its table is shown.

    Benchmarks/Trace/answers.py [--threads 1,8,64] [--stacks 100000] [--runs 9] [--json FILE]

Switching: busy threads make pairs of malloc and free. From the moment before `memctl trace on` is started to the
first allocation of each thread that is accounted, which is looked up in the trace afterwards: medians and
maxima over all threads of all runs. With more threads than processors, what they wait for each other is in it:
`the word` is the same until a thread saw the word that memctl stores, which asks for nothing but a processor.

Showing: `memctl show trace` of a process that left that many stacks, under chain.c's functions: after what can be
of memctl's and the program's files was dropped from the page cache (cold), and at once again (warm). The rows that
are shown by default, and all. memctl keeps nothing between runs. Times are seconds, medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "build/bench"
KEPT_BYTES = 777  # of switched.c
GOAL_MS, GOAL_COLD_S, GOAL_WARM_S = 50.0, 2.0, 0.5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,8,64", help="busy threads (1,8,64)")
    parser.add_argument("--stacks", type=int, default=100000, help="stacks to show (100000)")
    parser.add_argument("--runs", type=int, default=9, help="of each (9)")
    parser.add_argument("--memctl", type=Path, default=ROOT / "build/bin/memctl")
    parser.add_argument("--library", type=Path, default=ROOT / "build/lib/libmemctl.so")
    parser.add_argument("--json", type=Path, help="write all figures")
    return parser.parse_args()


def run(options, folder, *words):
    environment = dict(os.environ, MEMCTL_DIR=folder, DEBUGINFOD_URLS="")
    began = time.monotonic()
    done = subprocess.run([options.memctl, *map(str, words)], env=environment, capture_output=True,
                          text=True)
    if done.returncode:
        raise SystemExit(f"memctl {' '.join(map(str, words))}: {done.stderr}")
    return time.monotonic() - began, done.stdout


def begin(options, folder, words, **more):
    environment = dict(os.environ, LD_PRELOAD=str(options.library), MEMCTL_DIR=folder, **more)
    return subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, bufsize=1)


def switch_once(options, folder, threads):
    """Milliseconds from the key press to each thread's first accounted allocation."""
    # The region is named by the pid, which the shell keeps over exec.
    program = begin(options, folder, ["sh", "-c", f'exec "{BENCH}/switched" "{folder}/$$" {threads}'])
    if program.stdout.readline() != "ready\n":
        raise SystemExit("switched: it did not get ready")
    pressed = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    taken, _ = run(options, folder, "trace", "on", "-p", program.pid)
    times = [[(int(word) - pressed) / 1e6 for word in program.stdout.readline().split()]
             for _ in range(threads)]
    _, text = run(options, folder, "show", "trace", "-p", program.pid, "--all", "--format", "json")
    kept = sum(row["count"] for row in json.loads(text)["rows"]
               if row["bytes"] == row["count"] * KEPT_BYTES)
    if kept != threads:
        raise SystemExit(f"{kept} of {threads} objects are in the trace")
    program.stdin.close()
    program.wait()
    return times, taken * 1000


def switching(options, folder, threads):
    times, commands = [], []
    for _ in range(options.runs):
        each, command = switch_once(options, folder, threads)
        times += each
        commands.append(command)
    accounted, saw = zip(*times)
    return {"threads": threads, "median_ms": statistics.median(accounted), "most_ms": max(accounted),
            "word_ms": statistics.median(saw), "word_most_ms": max(saw),
            "command_ms": statistics.median(commands), "command_most_ms": max(commands)}


def make_stacks(options, folder):
    """The pid of a process that ended and left so many stacks."""
    program = begin(options, folder, [f"{BENCH}/trace_bench", "fresh", "30", "1",
                                      str(options.stacks // 2)], MEMCTL_TRACE="on", MEMCTL_KEEP="1")
    program.communicate()
    return program.pid


def drop_files(options):
    """From the page cache, where nobody maps them."""
    for path in (options.memctl, options.library, BENCH / "trace_bench"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def showing(options, folder, pid, more):
    cold, warm = [], []
    for _ in range(options.runs):
        words = ["show", "trace", "-p", pid, "--cumulative", *more]
        drop_files(options)
        cold.append(run(options, folder, *words)[0])
        taken, text = run(options, folder, *words)
        warm.append(taken)
    return {"rows": "all" if more else "default", "cold_s": statistics.median(cold),
            "warm_s": statistics.median(warm), "bytes": len(text)}


def main():
    options = arguments()
    subprocess.run(["make", "-s", "-C", ROOT / "Benchmarks"], check=True)
    figures = {"switching": [], "showing": []}
    with tempfile.TemporaryDirectory(prefix="memctl-bench-", dir="/dev/shm") as folder:
        print(f"trace on, ms        median      most      the word      most   the command      most"
              f"   (goal {GOAL_MS:.0f})")
        for threads in map(int, options.threads.split(",")):
            row = switching(options, folder, threads)
            figures["switching"].append(row)
            print(f"{threads:>4} busy threads{row['median_ms']:>10.1f}{row['most_ms']:>10.1f}"
                  f"{row['word_ms']:>14.1f}{row['word_most_ms']:>10.1f}"
                  f"{row['command_ms']:>14.1f}{row['command_most_ms']:>10.1f}")
        pid = make_stacks(options, folder)
        print(f"show trace, {options.stacks} stacks, s: cold, warm   (goals {GOAL_COLD_S}, {GOAL_WARM_S})")
        for more in ([], ["--all"]):
            row = showing(options, folder, pid, more)
            figures["showing"].append(row)
            print(f"{row['rows']:>8} rows{row['cold_s']:>10.2f}{row['warm_s']:>8.2f}"
                  f"{row['bytes'] / 2**20:>10.1f} MiB of text")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
