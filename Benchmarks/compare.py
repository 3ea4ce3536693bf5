#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs heap kernels and real programs under several allocators and prints ratios.

    Benchmarks/compare.py                       kernels, default allocators, 1 and 2 threads
    Benchmarks/compare.py --programs            real programs instead of kernels
    Benchmarks/compare.py --only 'larson,pair-*' --threads 1,4 new=/path/libx.so
    Benchmarks/compare.py --quick               3 rounds at a quarter of the work

Runs are interleaved (A B C ... A B C ...), so that a slow minute of the machine hits all alike;
the figures are medians. CPU is user + system time and RSS is the peak, both from wait4() for the
whole process. `ratio` is ours over the best other: below 1 is better. A `~` marks a figure whose
runs spread by more than 10 %. An allocator whose checksum differs from the first one's, or that
crashes, is shown as `fail` and left out of the means.
"""
import argparse
import atexit
import fnmatch
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402
import plot  # noqa: E402
import programs  # noqa: E402
import table  # noqa: E402

OURS = allocators.OURS


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("allocator", nargs="*", metavar="NAME=PATH",
                        help="another allocator to compare (NAME= alone is no preload; "
                             "NAME=K=V,PATH sets a variable for it)")
    parser.add_argument("--only", default="*", help="names or patterns of cases, with commas")
    parser.add_argument("--threads", default="1,2", help="thread counts, with commas (1,2)")
    parser.add_argument("--allocators", default="", help="only these of the list, with commas")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="work of each kernel (1)")
    parser.add_argument("--quick", action="store_true", help="3 runs, scale 0.25")
    parser.add_argument("--lowest", action="store_true",
                        help="the lowest of the runs instead of the median: on a machine that "
                             "others use, the lowest was disturbed least")
    parser.add_argument("--programs", action="store_true", help="real programs, not kernels")
    parser.add_argument("--env", action="append", default=[], metavar="K=V",
                        help="set in the environment of every run")
    parser.add_argument("--metrics", default="", metavar="M,M",
                        help="tables to print: cpu wall rss rss_ratio kept_ratio (all)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--svg", metavar="FILE", help="draw the CPU and RSS ratios")
    parser.add_argument("--list", action="store_true", help="list cases and allocators")
    return parser.parse_args()


def chosen(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(","))


def kernel_cases(options):
    """One case per kernel and thread count; kernels of one thread come once."""
    cases = []
    for name, kind, about in measure.kernels():
        if not chosen(name, options.only):
            continue
        counts = [1] if kind == "one" else [int(t) for t in options.threads.split(",")]
        for threads in counts:
            label = name if kind == "one" else f"{name} x{threads}"
            command = [measure.HEAP_BENCH, name, str(threads), str(options.scale)]
            cases.append(measure.Case(label, command, about, kernel=True))
    return cases


def program_cases(options):
    cases, folder = programs.cases(options.scale)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return [case for case in cases if chosen(case.label, options.only)]


def main():
    options = arguments()
    if options.quick:
        options.runs, options.scale = 3, 0.25
    heaps = allocators.choose(options.allocator, options.allocators)
    measure.build()
    cases = program_cases(options) if options.programs else kernel_cases(options)
    if options.list:
        for case in cases:
            print(f"{case.label:20} {case.about}")
        for heap in heaps:
            print(f"{heap.name:20} {heap.path or 'no preload'}")
        return 0
    if not cases:
        print("no case matches --only — see --list", file=sys.stderr)
        return 64
    allocators.check_active(heaps)
    print(measure.machine())
    extra = dict(pair.split("=", 1) for pair in options.env)
    results = []
    for case in cases:
        result = measure.interleaved(case, heaps, options.runs, extra,
                                     min if options.lowest else measure.median)
        results.append(result)
        if sys.stderr.isatty():
            print(f"\r{case.label:30}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 30 + "\r", end="", file=sys.stderr)
    metrics = options.metrics.split(",") if options.metrics else None
    print(table.render(results, [heap.name for heap in heaps], OURS, metrics))
    print(measure.noise(results, options.runs))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": measure.machine(), "runs": options.runs,
                       "scale": options.scale, "cases": results}, file, indent=1)
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(plot.draw(results, [heap.name for heap in heaps], OURS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
