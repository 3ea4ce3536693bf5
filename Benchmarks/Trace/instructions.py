#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a traced pair of malloc and free executes, counted by valgrind.

    Benchmarks/Trace/instructions.py                        one 10, one 30, random 30, burst 30
    Benchmarks/Trace/instructions.py --only 'one 10' --library /path/libmemctl.so
    Benchmarks/Trace/instructions.py --lines trail_readings.h       that file line by line

Each case runs with few pairs and with more, so that what is done once falls out. A table names each
function and, indented, the files that what was inlined there comes from. What the machine does
otherwise has no influence. valgrind hides the kernel's clock code, so the clock is a system call
there: the functions that make it are left out of the sum, and are shown below it.
"""
import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = ["one 10", "one 30", "random 30", "burst 30"]
CLOCK = ("mc_births_ask", "ask", "clock_gettime", "syscall")
COUNT = re.compile(r"^\s*([\d,]+) \(.*?%\)\s+(\S.*)$")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="names or patterns of cases, with commas")
    parser.add_argument("--library", metavar="PATH", default=f"{ROOT}/build/lib/libmemctl.so")
    parser.add_argument("--bench", metavar="PATH", default=f"{ROOT}/build/bench/trace_bench")
    parser.add_argument("--pairs", type=int, default=20000, help="the fewer of the two (20000)")
    parser.add_argument("--least", type=float, default=0.5, help="rows below that are left out (0.5)")
    parser.add_argument("--lines", metavar="FILE", help="that source file line by line instead")
    return parser.parse_args()


def counted(case, pairs, options, folder):
    """The lines of callgrind_annotate for one run."""
    environment = dict(os.environ, LD_PRELOAD=os.path.abspath(options.library), MEMCTL_TRACE="on",
                       MEMCTL_DIR=folder)
    out = f"{folder}/callgrind.{pairs}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", options.bench,
               *case.split(), "1", str(pairs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    command = ["callgrind_annotate", "--threshold=100", "--auto=yes" if options.lines else
               "--auto=no", out]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def functions(lines):
    """{(function, file of its source)}: instructions."""
    counts = {}
    for line in lines:
        found = COUNT.match(line)
        if not found or ":" not in found[2]:
            continue
        file, _, function = found[2].split(" [")[0].rpartition(":")
        key = (function.split("'")[0].split("@@")[0], os.path.basename(file))
        counts[key] = counts.get(key, 0) + int(found[1].replace(",", ""))
    return counts


def source_lines(lines, file):
    """{line of source}: instructions, of one file."""
    counts, inside = {}, False
    for line in lines:
        if line.startswith("-- "):
            inside = line.rstrip().endswith(f"/{file}")
        found = COUNT.match(line)
        if inside and found:
            counts[found[2]] = counts.get(found[2], 0) + int(found[1].replace(",", ""))
    return counts


def a_pair(case, options, folder, read):
    fewer, more = (read(counted(case, pairs, options, folder))
                   for pairs in (options.pairs, 2 * options.pairs))
    # It makes them twice, once to warm up.
    return {key: (count - fewer.get(key, 0)) / (2 * options.pairs) for key, count in more.items()}


def table(case, counts, least):
    sums = {}
    for (function, _), count in counts.items():
        sums[function] = sums.get(function, 0) + count
    clock = sum(count for function, count in sums.items() if function in CLOCK)
    chain = sum(count for (_, file), count in counts.items() if file in ("chain.c", "trace_bench.c"))
    whole = sum(sums.values()) - clock - chain
    print(f"\n{case}: {whole:.0f} a pair, without {chain:.0f} of the program's own and "
          f"{clock:.0f} around the clock's system calls")
    for function in sorted(sums, key=lambda name: -sums[name]):
        parts = [(count, file) for (name, file), count in counts.items() if name == function]
        if sums[function] < least or parts[0][1] in ("chain.c", "trace_bench.c"):
            continue
        print(f"{sums[function]:8.1f}  {function}")
        for count, file in sorted(parts, reverse=True):
            if len(parts) > 1 and count >= least:
                print(f"{'':10}{count:8.1f}  {file}")


def main():
    options = arguments()
    chosen = [case for case in CASES if
              any(fnmatch.fnmatch(case, pattern) for pattern in options.only.split(","))]
    if not chosen:
        print("no case matches --only", file=sys.stderr)
        return 64
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            if not options.lines:
                table(case, a_pair(case, options, folder, functions), options.least)
                continue
            print(f"\n{case}")
            counts = a_pair(case, options, folder,
                            lambda lines: source_lines(lines, options.lines))
            for text, count in counts.items():
                if count >= options.least:
                    print(f"{count:8.1f}  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
