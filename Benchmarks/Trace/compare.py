#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What recording a backtrace costs: traced against untraced on the same heap.

    Benchmarks/Trace/compare.py                 pairs by depth and pattern, then real programs
    Benchmarks/Trace/compare.py --only 'burst*' --no-programs
    Benchmarks/Trace/compare.py --jemalloc /path/libjemalloc.so --library /path/libmemctl.so

A pair is one malloc and one free; added ns = (CPU traced - CPU untraced) / pairs, from the CPU
clocks of the threads that make the pairs, medians of interleaved runs. The untraced side of
heaptrack is glibc, on which it works. For pairs it writes raw data (heaptrack --raw), because its
interpreter does not survive some of them; for programs the interpreter runs beside, as usual, and
its CPU is shown apart. jemalloc records every allocation (lg_prof_sample:0); it is too slow for
the programs unless --tracers names it. Patterns are told in trace_bench.c.
"""
import argparse
import atexit
import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import allocators  # noqa: E402
import measure  # noqa: E402
import programs  # noqa: E402
import tracers  # noqa: E402

TRACE_BENCH = f"{allocators.ROOT}/build/bench/trace_bench"
PATTERNS = ["one", "loop", "burst", "near", "random"]
DEPTHS = [10, 30, 60]
PROGRAMS = ["python3", "sqlite3", "redis"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="names or patterns of cases, with commas")
    parser.add_argument("--tracers", default="", help="only these, with commas")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--pairs", type=int, default=300000, help="pairs in a run (300000)")
    parser.add_argument("--scale", type=float, default=1.0, help="work of the programs (1)")
    parser.add_argument("--quick", action="store_true", help="3 runs, a third of the work")
    parser.add_argument("--no-programs", action="store_true", help="pairs only")
    parser.add_argument("--no-pairs", action="store_true", help="programs only")
    parser.add_argument("--library", metavar="PATH",
                        default=f"{allocators.ROOT}/build/lib/libmemctl.so", help="our library")
    parser.add_argument("--jemalloc", metavar="PATH", help="a jemalloc with its profiler")
    parser.add_argument("--heaptrack", metavar="FOLDER",
                        help="another heaptrack's lib/heaptrack, as of its newest source")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    return parser.parse_args()


def chosen(label, only):
    return any(fnmatch.fnmatch(label, pattern) for pattern in only.split(","))


def pair_cases(options):
    """(label, arguments of trace_bench without the number of pairs)."""
    cases = [(f"{pattern} {depth}", [pattern, str(depth), "1"], "distinct")
             for depth in DEPTHS for pattern in PATTERNS]
    cases += [(f"{pattern} 30 x2 {stacks}", [pattern, "30", "2"], stacks)
              for pattern in ("one", "burst", "random") for stacks in ("distinct", "same")]
    return [case for case in cases if chosen(case[0], options.only)]


def measure_pairs(label, words, stacks, found, options):
    """All tracers' two sides interleaved; {tracer: {off, on, added, spread}} in ns a pair."""
    row = {"label": label, "tracers": {}}
    groups = {}
    for tracer in found:
        groups.setdefault(tracer.share, []).append(tracer)
    for share, members in groups.items():
        pairs = str(max(1000, int(options.pairs * share)))
        case = measure.Case(label, [TRACE_BENCH, *words, pairs, stacks], kernel=True)
        heaps = [heap for tracer in members for heap in (tracer.off, tracer.on)]
        result = measure.interleaved(case, heaps, options.runs, {})["heaps"]
        for tracer in members:
            row["tracers"][tracer.name] = added(result[tracer.off.name], result[tracer.on.name])
    return row


def added(off, on):
    if "error" in off or "error" in on:
        return {"error": off.get("error") or on.get("error")}
    return {"off": off["ns_per_pair"], "on": on["ns_per_pair"],
            "added": on["ns_per_pair"] - off["ns_per_pair"], "spread": on["ns_per_pair_spread"]}


def compiler_proper():
    """The compiler behind g++: the driver is a second process, which tracers would not follow."""
    source = f"{programs.FOLDER}/templates.cpp"
    told = subprocess.run(["g++", "-###", "-std=c++17", "-O1", "-S", "-o", "/dev/null", source],
                          capture_output=True, text=True, check=False).stderr
    for line in told.splitlines():
        words = shlex.split(line) if "cc1plus" in line else []
        if words and words[0].endswith("cc1plus"):
            return [measure.Case("g++", words, "the compiler proper on a file of templates")]
    return []


def program_cases(options):
    cases, folder = programs.cases(options.scale)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cases = [case for case in cases if case.label in PROGRAMS]
    if shutil.which("g++"):
        cases += compiler_proper()
    return [case for case in cases if chosen(case.label, options.only)]


def measure_program(case, found, options):
    heaps = [heap for tracer in found for heap in (tracer.off, tracer.on)]
    result = measure.interleaved(case, heaps, options.runs, {})["heaps"]
    row = {"label": case.label, "tracers": {}}
    for tracer in found:
        off, on = result[tracer.off.name], result[tracer.on.name]
        if "error" in off or "error" in on:
            row["tracers"][tracer.name] = {"error": off.get("error") or on.get("error")}
            continue
        row["tracers"][tracer.name] = {
            key: {"off": off[key], "on": on[key]} for key in ("cpu", "wall", "rss")}
        row["tracers"][tracer.name]["helper_cpu"] = on.get("helper_cpu", 0.0)
        row["tracers"][tracer.name]["spread"] = max(off["cpu_spread"], on["cpu_spread"])
    return row


def mark(figures):
    return "~" if figures["spread"] > measure.NOISY else " "


def pair_table(rows, names):
    lines = ["Added CPU per traced pair, ns (untraced pair -> traced pair)",
             "pattern depth".ljust(22) + "".join(name.rjust(25) for name in names)]
    for row in rows:
        line = row["label"].ljust(22)
        for name in names:
            figures = row["tracers"][name]
            text = figures.get("error") or (f"{figures['added']:.0f} ({figures['off']:.0f} -> "
                                            f"{figures['on']:.0f}){mark(figures)}")
            line += text.rjust(25)
        lines.append(line.rstrip())
    return "\n".join(lines)


def program_table(rows, names):
    lines = ["Real programs, traced over untraced (CPU s; RSS MiB; +CPU of a second process)",
             "program".ljust(10) + "".join(name.rjust(30) for name in names)]
    for row in rows:
        first, second = row["label"].ljust(10), " " * 10
        for name in names:
            figures = row["tracers"][name]
            if "error" in figures:
                first, second = first + figures["error"].rjust(30), second + " " * 30
                continue
            cpu, rss = figures["cpu"], figures["rss"]
            helper = f" +{figures['helper_cpu']:.2f}" if figures["helper_cpu"] else ""
            first += (f"{cpu['on'] / cpu['off']:.2f} ({cpu['off']:.2f} -> {cpu['on']:.2f}"
                      f"{helper}){mark(figures)}").rjust(30)
            second += (f"rss {rss['on'] / rss['off']:.2f} ({rss['off'] / 1024:.0f} -> "
                       f"{rss['on'] / 1024:.0f}) ").rjust(30)
        lines += [first.rstrip(), second.rstrip()]
    return "\n".join(lines)


def main():
    options = arguments()
    if options.quick:
        options.runs, options.pairs, options.scale = 3, options.pairs // 3, options.scale / 3
    measure.build()
    library = os.path.abspath(options.library)
    found, said = tracers.choose(options.jemalloc, library, True, options.heaptrack)
    whole, _ = tracers.choose(options.jemalloc, library, False, options.heaptrack)
    if options.tracers:
        names = options.tracers.split(",")
        found = [tracer for tracer in found if tracer.name in names]
        whole = [tracer for tracer in whole if tracer.name in names]
    else:
        whole = [tracer for tracer in whole if tracer.programs]
    print("\n".join([measure.machine()] + said))
    if not found:
        print("no tracer to measure", file=sys.stderr)
        return 1
    allocators.check_active([tracer.off for tracer in found])
    pairs, real = [], []
    if not options.no_pairs and not pair_cases(options) and options.no_programs:
        print("no case matches --only", file=sys.stderr)
        return 64
    if not options.no_pairs:
        pairs = [measure_pairs(*case, found, options) for case in pair_cases(options)]
        print("\n" + pair_table(pairs, [tracer.name for tracer in found]), flush=True)
    if not options.no_programs:
        real = [measure_program(case, whole, options) for case in program_cases(options)]
        print("\n" + program_table(real, [tracer.name for tracer in whole]))
    print("\n~ runs spread by more than 10 %")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": measure.machine(), "runs": options.runs, "pairs": pairs,
                       "programs": real}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
