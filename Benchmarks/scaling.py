#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How much sooner two threads on two processors do the work of one, kernel by kernel.

    Benchmarks/scaling.py                                 default allocators, local kernels
    Benchmarks/scaling.py --only 'sh6,pair-*' --allocators memctl,glibc --runs 9 --scale 1

`threads` is the wall time of a kernel on one thread over that of the same work on two. `processes`
is the same for two processes with half of the work each, on a processor each, at the same time:
they share no heap, so what they lack of 2 is the machine's doing, and a heap has contention in so far as
its threads do worse than that. Wall times are the kernel's own, without the start of the process,
and the lowest of all runs, which are interleaved: on a machine that others use, a processor is
often taken away for a while.
"""
import argparse
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402

LOCAL = "pair-16,pair-256,pair-1k,random-1000,lifo-1000,fifo-1000,glibc-thread,sh6,calloc,aligned"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("allocator", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--allocators", default="", help="only these of the list, with commas")
    parser.add_argument("--only", default=LOCAL, metavar="K,K", help="kernels (those without hand-over)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each (7)")
    parser.add_argument("--scale", type=float, default=0.5, help="work of each kernel (0.5)")
    return parser.parse_args()


def wall_of(heap, kernel, shares):
    """Seconds that the slowest of some processes spent in the kernel; a share is (threads, scale, processors)."""
    started = []
    for threads, scale, processors in shares:
        command = [measure.HEAP_BENCH, kernel, str(threads), str(scale)]
        started.append(subprocess.Popen(
            command, env=heap.preloaded(), stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda chosen=processors: os.sched_setaffinity(0, chosen)))
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{kernel} failed under {heap.name}")
    return max(float(measure.pairs(text)["wall_ns"]) for text in told) / 1e9


def ratios(heap, kernel, options, processors):
    """(seconds on one thread, gain of two threads, gain of two processes)"""
    first, second = ({number} for number in processors)
    shapes = {"one": [(1, options.scale, first)],
              "threads": [(2, options.scale, first | second)],
              "processes": [(1, options.scale / 2, first), (1, options.scale / 2, second)]}
    least = {}
    for _ in range(options.runs):
        for name, shares in shapes.items():
            wall = wall_of(heap, kernel, shares)
            least[name] = min(wall, least.get(name, wall))
    return least["one"], least["one"] / least["threads"], least["one"] / least["processes"]


def main():
    options = arguments()
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        sys.exit("two processors are needed, and this process may use one")
    heaps = allocators.choose(options.allocator, options.allocators)
    measure.build()
    known = {name for name, kind, _ in measure.kernels() if kind != "one"}
    kernels = options.only.split(",")
    if set(kernels) - known:
        sys.exit(f"no kernels of several threads: {', '.join(sorted(set(kernels) - known))}")
    allocators.check_active(heaps)
    print(measure.machine())
    print(f"{'':15}" + "".join(heap.name.rjust(28) for heap in heaps))
    print(f"{'':15}" + "".join(f"{'seconds':>8}{'threads':>9}{'processes':>11}" for _ in heaps))
    for kernel in kernels:
        line = kernel.ljust(15)
        for heap in heaps:
            seconds, threads, apart = ratios(heap, kernel, options, processors)
            line += f"{seconds:8.3f}{threads:9.2f}{apart:11.2f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
