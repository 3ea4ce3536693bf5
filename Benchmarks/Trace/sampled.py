#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What sampling costs real programs when it is always on: MEMCTL_TRACE=sampled over the same heap untraced.

    Benchmarks/Trace/sampled.py                     CPU of interleaved runs, then instructions
    Benchmarks/Trace/sampled.py --runs 0            instructions alone, which no load disturbs
    Benchmarks/Trace/sampled.py --no-instructions --only python3

CPU is the median of ratios of neighbouring runs, the two sides first by turns, with the quartiles of these
ratios; instructions are callgrind's, of a tenth of the work, the process' start included. MEMCTL_DIR is a
folder of its own.
"""
import argparse
import atexit
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402
import programs  # noqa: E402

PROGRAMS = ["python3", "sqlite3", "redis"]
SAMPLED = {"MEMCTL_TRACE": "sampled"}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, with commas")
    parser.add_argument("--runs", type=int, default=15, help="pairs of runs of each (15)")
    parser.add_argument("--scale", type=float, default=0.3, help="work of the programs (0.3)")
    parser.add_argument("--no-instructions", action="store_true", help="CPU alone")
    parser.add_argument("--library", metavar="PATH",
                        default=f"{allocators.ROOT}/build/lib/libmemctl.so", help="our library")
    return parser.parse_args()


def chosen_cases(options, scale):
    cases, folder = programs.cases(scale)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return [case for case in cases if case.label in options.only.split(",")]


def cpu_ratios(case, off, on, runs):
    """Of neighbouring runs: what else the machine does changes little between the two."""
    ratios = []
    for number in range(runs):
        order = [off, on] if number % 2 else [on, off]
        taken = {heap.name: measure.one_run(case, heap, {}) for heap in order}
        broken = [run["error"] for run in taken.values() if "error" in run]
        if broken:
            sys.exit(f"{case.label}: {broken[0]}")
        ratios.append(taken[on.name]["cpu"] / taken[off.name]["cpu"])
    return sorted(ratios)


def instructions(case, heap):
    """Of one run under callgrind; None where it is not one command."""
    if case.runner:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = shutil.copy(heap.path, f"{folder}/libmemctl.so")
        subprocess.run(["strip", "--strip-debug", library], check=True)
        env = allocators.environment({**case.env, **heap.env, "LD_PRELOAD": library})
        if case.prepare:
            case.prepare()
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                               *case.command], env=env, cwd=case.cwd, check=False,
                              capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"{case.label} under valgrind: exit {done.returncode}")
        with open(f"{folder}/out", encoding="utf-8") as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M).group(1))


def main():
    options = arguments()
    measure.build()
    library = os.path.abspath(options.library)
    off = allocators.Heap("off", library)
    on = allocators.Heap("sampled", library, SAMPLED)
    allocators.check_active([off])
    print(f"{measure.machine()}\n\nSampled over untraced")
    print("program".ljust(10) + "CPU, median (quartiles)".rjust(28) + "instructions".rjust(14))
    small = {case.label: case for case in chosen_cases(options, options.scale / 10)}
    for case in chosen_cases(options, options.scale):
        line = case.label.ljust(10)
        ratios = cpu_ratios(case, off, on, options.runs)
        if ratios:
            cut = len(ratios) // 4
            line += (f"{statistics.median(ratios):.3f} ({ratios[cut]:.3f} to "
                     f"{ratios[-1 - cut]:.3f})").rjust(28)
        else:
            line += "-".rjust(28)
        counts = [] if options.no_instructions else [
            instructions(small[case.label], heap) for heap in (off, on)]
        line += (f"{counts[1] / counts[0]:.4f}" if all(counts) and counts else "-").rjust(14)
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
