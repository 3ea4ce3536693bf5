#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is still resident of memory that a program freed, in MiB over the start.

    Benchmarks/returns.py                       default allocators, 1 GiB of each size
    Benchmarks/returns.py --mib 256 new=/path/libx.so

Objects of one range of sizes are made, written and freed; then the program does a little for a
second (ten small objects a millisecond and a buffer), and calls malloc_trim(3). Columns: at the
peak, when all is freed, after a quarter, a half, three quarters of a second and a second, and
trimmed. A `+` marks what is within 5 % and 2 MiB of the start. `waiting`: the same of threads that held
5 MiB each of all sizes up to 16 KiB, freed it and wait; `handed`: of small objects that another thread
freed than made them, which waits. `threads`: RSS after a hundredth of 10,000 threads
that ran one after the other, and after all of them.
"""
import argparse
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402

PROBE = f"{allocators.ROOT}/build/bench/returns"
SIZES = [("small", 16, 1024), ("medium", 1 << 10, 64 << 10), ("large", 64 << 10, 8 << 20)]
COLUMNS = ["peak", "freed", "after_250", "after_500", "after_750", "after_1000", "trimmed"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("allocator", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--allocators", default="", help="only these of the list, with commas")
    parser.add_argument("--mib", type=int, default=1024, help="of each range of sizes (1024)")
    parser.add_argument("--waiting", type=int, default=32, help="threads that wait (32)")
    parser.add_argument("--threads", type=int, default=10000, help="of them (10000)")
    return parser.parse_args()


def run(heap, *args):
    """What the probe told, in MiB, or nothing if it failed."""
    done = subprocess.run([PROBE, *map(str, args)], env=heap.preloaded(),
                          capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    return {key: float(value) / 1024 for key, value in measure.pairs(done.stdout).items()}


def row(name, told, columns, within=None):
    cells = []
    for column in columns:
        value = told.get(column)
        text = "fail" if value is None else f"{value:.1f}"
        near = within is not None and value is not None and value <= within
        cells.append(f"{text + ('+' if near else ''):>12}")
    print(f"{name:<12}{''.join(cells)}")


def table(title, heaps, *args):
    print(f"\n{title}")
    print(f"{'':<12}{''.join(f'{column:>12}' for column in COLUMNS)}")
    for heap in heaps:
        # The start is a few MiB, of which 5 % are little beside the 2.
        row(heap.name, run(heap, *args), COLUMNS, within=2)


def main():
    options = arguments()
    heaps = allocators.choose(options.allocator, options.allocators)
    allocators.check_active(heaps)
    for label, low, high in SIZES:
        table(f"{label} ({low} to {high} bytes)", heaps, low, high, options.mib)
    table(f"{options.waiting} threads that wait", heaps, "waiting", options.waiting)
    table("small, freed by another thread", heaps, "handed", options.mib)
    print(f"\n{options.threads} threads, one after the other")
    print(f"{'':<12}{'early':>12}{'late':>12}")
    for heap in heaps:
        row(heap.name, run(heap, "threads", options.threads), ["early", "late"])


if __name__ == "__main__":
    main()
