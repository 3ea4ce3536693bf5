#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a preload adds to the start of a process, to fork+exec heavy scripts, and to a small RSS.

    Benchmarks/startup.py                 default allocators
    Benchmarks/startup.py --count 5000 new=/path/libx.so

`true` is posix_spawn and wait of /bin/true from a small C program, in rounds of 10 that
alternate between the allocators; the median over all rounds' medians, of wall time and of CPU
time, which others on the machine disturb less. `shell` is a bash loop that forks a subshell and
runs two programs 100 times. `fork` is fork, one allocation in the child, exit and wait in a
process that holds 50 MiB of small objects. RSS is the peak of /bin/true and of `sleep 0`, a
process that has hardly a heap.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402

BENCH = f"{allocators.ROOT}/build/bench"
ROUND = 10
SHELL = "for i in $(seq 100); do (:); /bin/true; x=$(/bin/echo $i); done"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("allocator", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--allocators", default="", help="only these of the list, with commas")
    parser.add_argument("--count", type=int, default=3000, help="starts of each (3000)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    return parser.parse_args()


def told_by(command):
    done = subprocess.run(command, env=allocators.environment(), capture_output=True, text=True,
                          check=False)
    if done.returncode:
        return None
    return {key: float(value) for key, value in measure.pairs(done.stdout).items()}


def rounds(heaps, count, command):
    """Interleaved rounds of one command that prints key=value; medians of what it told."""
    seen = {heap.name: [] for heap in heaps}
    for number in range(count):
        for heap in heaps[number % len(heaps):] + heaps[:number % len(heaps)]:
            seen[heap.name].append(told_by(command(heap)))
    figures = {}
    for name, runs in seen.items():
        if None not in runs:
            figures[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return figures


def spawn(command, count=ROUND):
    return lambda heap: [f"{BENCH}/spawner", str(count), heap.path, *command]


def fork_cost(heap):
    preload = [f"LD_PRELOAD={heap.path}"] if heap.path else []
    return ["env", *preload, f"{BENCH}/forker", "200"]


def main():
    options = arguments()
    heaps = allocators.choose(options.allocator, options.allocators)
    measure.build()
    allocators.check_active(heaps)
    print(measure.machine())
    times = max(3, options.count // ROUND)
    parts = {
        "true": rounds(heaps, times, spawn(["/bin/true"])),
        "shell": rounds(heaps, 7, spawn(["bash", "-c", SHELL], 1)),
        "sleep": rounds(heaps, 3, spawn(["sleep", "0"], 3)),
        "fork": rounds(heaps, 5, fork_cost),
    }
    print(report(parts, [heap.name for heap in heaps]))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": measure.machine(), "parts": parts}, file, indent=1)
    return 0


def report(parts, names):
    """Rows are allocators; what is added is over the first row, which is glibc by default."""
    lines = [f"{'':10}{'/bin/true':>17}{'/bin/true':>18}{'shell loop':>18}{'fork':>17}"
             f"{'RSS KiB':>16}",
             f"{'':10}{'wall us':>9}{'added':>8}{'CPU us':>10}{'added':>8}{'CPU ms':>10}"
             f"{'added':>8}{'CPU us':>9}{'added':>8}{'true':>8}{'sleep':>8}"]
    for name in names:
        line = name.ljust(10)
        for part, key, unit, width in (("true", "median_us", 1, 9), ("true", "cpu_us", 1, 10),
                                       ("shell", "cpu_us", 1000, 10), ("fork", "cpu_us", 1, 9)):
            line += pair_of_columns(parts[part], names[0], name, key, unit).rjust(width + 8)
        for part in ("true", "sleep"):
            figures = parts[part].get(name)
            line += f"{figures['rss']:.0f}".rjust(8) if figures else "fail".rjust(8)
        lines.append(line)
    return "\n".join(lines)


def pair_of_columns(figures, first, name, key, unit):
    if name not in figures:
        return "fail".ljust(8)
    value = figures[name][key] / unit
    added = f"{value - figures[first][key] / unit:+.1f}" if first in figures else "-"
    return f"{value:.1f}" + added.rjust(8)


if __name__ == "__main__":
    sys.exit(main())
