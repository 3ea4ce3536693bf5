#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How long reports take, and how long they hold the process up that they are about.

    Benchmarks/Tool/reports.py [--slots 10000000] [--gib 16] [--runs 5] [--only TEXT] [--json FILE]

The heaps are those of looked_at.c: one slot, ten million live ones, and 16 GiB of which few pages
were ever touched. `--version` is what starting memctl takes. A thread of the process maps, unmaps,
allocates and frees in a loop, and says how long its longest round was while a report ran, and in a
stretch of time as long without one, by turns: what the second shows is the machine's, and the
difference the report's. Times are medians; rounds are medians and, in brackets, maxima. `over` tells
in how many of the runs a round took more than 10 ms, with the report and without.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START = ["--version"]
REPORTS = [START, ["show", "total"], ["show", "memory"], ["show", "memory", "map"],
           ["show", "classes"], ["show", "threads"], ["show", "numa"], ["show", "sizes"],
           ["show", "arenas"], ["show", "trace"], ["verify"], ["explain"],
           ["whatis", "1000", "--refs"]]
GOAL_S = 2.0   # of any report
GOAL_MS = 10.0  # that a thread may be held up


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=10_000_000, help="live slots (10000000)")
    parser.add_argument("--gib", type=int, default=16, help="GiB of the sparse heap (16)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each report (5)")
    parser.add_argument("--only", default="", help="reports that have this in their name")
    parser.add_argument("--memctl", type=Path, default=ROOT / "build/bin/memctl")
    parser.add_argument("--library", type=Path, default=ROOT / "build/lib/libmemctl.so")
    parser.add_argument("--json", type=Path, help="write all figures")
    return parser.parse_args()


class Heap:
    """A process with a heap, and its thread that goes round."""

    def __init__(self, words, options, folder, trace):
        environment = dict(os.environ, LD_PRELOAD=str(options.library), MEMCTL_DIR=folder)
        if trace:
            environment["MEMCTL_TRACE"] = "on"
        self.process = subprocess.Popen(
            [ROOT / "build/bench/looked_at", *map(str, words)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=environment, text=True, bufsize=1)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"looked_at {words}: it did not get ready")

    def longest_ms(self):
        """The longest round since this was last asked."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1000

    def resident_mib(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def one_run(command, heap, environment):
    """(seconds, CPU seconds, longest round in ms with, and in as long without)."""
    heap.longest_ms()
    started, cpu = time.monotonic(), children_cpu()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    taken, cpu = time.monotonic() - started, children_cpu() - cpu
    held = heap.longest_ms()
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout[-300:]}")
    time.sleep(taken)
    return taken, cpu, held, heap.longest_ms()


def measured(report, heap, options, folder):
    target = [] if report == START else ["-p", str(heap.process.pid)]
    command = [options.memctl, *report, *target]
    environment = dict(os.environ, MEMCTL_DIR=folder, DEBUGINFOD_URLS="")
    runs = [one_run(command, heap, environment) for _ in range(options.runs)]
    seconds, cpu, held, alone = zip(*runs)
    return {"report": " ".join(report), "seconds": statistics.median(seconds),
            "cpu": statistics.median(cpu), "held_ms": statistics.median(held),
            "held_most_ms": max(held), "alone_ms": statistics.median(alone),
            "alone_most_ms": max(alone), "runs": options.runs,
            "over": sum(each > GOAL_MS for each in held),
            "alone_over": sum(each > GOAL_MS for each in alone)}


def table(title, rows):
    print(f"\n{title}")
    print(f"{'report':<20}{'seconds':>8}{'CPU s':>8}{'longest round, ms':>19}{'without':>14}"
          f"{'difference':>12}{'over 10 ms':>12}")
    for row in rows:
        held = f"{row['held_ms']:.1f} ({row['held_most_ms']:.1f})"
        alone = f"{row['alone_ms']:.1f} ({row['alone_most_ms']:.1f})"
        late = " > goal" if row["seconds"] > GOAL_S else ""
        over = f"{row['over']}, {row['alone_over']} of {row['runs']}"
        print(f"{row['report']:<20}{row['seconds']:>8.3f}{row['cpu']:>8.3f}{held:>19}{alone:>14}"
              f"{row['held_ms'] - row['alone_ms']:>12.1f}{over:>12}{late}")


def main():
    options = arguments()
    subprocess.run(["make", "-s", "-C", ROOT / "Benchmarks"], check=True)
    heaps = [("slots", 1, False), ("slots", options.slots, False), ("slots", options.slots, True),
             ("sparse", options.gib, False)]
    figures = []
    with tempfile.TemporaryDirectory(prefix="memctl-bench-") as folder:
        for kind, amount, trace in heaps:
            heap = Heap([kind, amount], options, folder, trace)
            unit = {"slots": "live slots" if amount > 1 else "live slot",
                    "sparse": "GiB, touched here and there"}[kind]
            title = (f"{amount} {unit}{', traced' if trace else ''};"
                     f" RSS {heap.resident_mib():.0f} MiB")
            rows = [row for report in REPORTS
                    if report == START or options.only in " ".join(report)
                    for row in [measured(report, heap, options, folder)]]
            heap.end()
            table(title, rows)
            figures.append({"heap": title, "reports": rows})
    print(f"\ngoals: {GOAL_S:.0f} s for any report, {GOAL_MS:.0f} ms for a round")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
