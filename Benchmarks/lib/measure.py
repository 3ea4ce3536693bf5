# SPDX-License-Identifier: MIT
"""Running cases: interleaved, one process each, costs from wait4()."""
import os
import re
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

import allocators
from allocators import ROOT

HEAP_BENCH = f"{ROOT}/build/bench/heap_bench"
MEASURED = f"{ROOT}/build/bench/measured"
NOISY = 0.10
TIMEOUT = 600
median = statistics.median


@dataclass
class Case:
    """A command to run under each heap. Kernels print key=value pairs with a checksum."""
    label: str
    command: list
    about: str = ""
    kernel: bool = False
    cwd: str = None
    prepare: object = None  # called before each run, unmeasured
    env: dict = field(default_factory=dict)
    runner: object = None   # instead of `command`: (heap, environment) -> figures


def build():
    """Builds the measuring programs when sources are newer."""
    done = subprocess.run(["make", "-s", "-C", f"{ROOT}/Benchmarks"], check=False)
    if done.returncode:
        sys.exit("the measuring programs could not be built")


def kernels():
    text = subprocess.run([HEAP_BENCH, "--list"], capture_output=True, text=True, check=True)
    return [line.split("\t") for line in text.stdout.splitlines()]


def machine():
    """One line: CPU model, how many, load, kernel."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.M)
        if found:
            model = found.group(1)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} CPUs, load {load}, Linux {os.uname().release}"


def begin(command, heap, env, cwd=None, stdout=subprocess.PIPE):
    """Starts a command under a heap, through the launcher that measures it."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [MEASURED, str(write_end), heap.path, *command], env=env, cwd=cwd, stdout=stdout,
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    return process, os.fdopen(read_end)


def finish(process, costs):
    """Waits; returns CPU and wall seconds, peak RSS in KiB, what it printed, or an error."""
    try:
        text, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.terminate()
        text, _ = process.communicate()
    with costs:
        told = costs.read().split()
    if len(told) != 4:
        return {"error": "not measured"}
    cpu, wall, rss, status = map(int, told)
    figures = {"cpu": cpu / 1e6, "wall": wall / 1e6, "rss": rss,
               "text": (text or b"").decode(errors="replace")}
    if status:
        code = os.waitstatus_to_exitcode(status)
        figures["error"] = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return figures


def run_once(command, heap, env, cwd=None):
    return finish(*begin(command, heap, env, cwd))


def pairs(text):
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


def one_run(case, heap, extra):
    if case.prepare:
        case.prepare()
    with heap.around() as around:
        env = allocators.environment({**case.env, **extra, **heap.env, **around.get("env", {})})
        if case.runner:
            figures = case.runner(heap, env)
        else:
            figures = run_once(case.command, heap, env, case.cwd)
    if "helper" in around:
        figures["helper_cpu"] = around["helper"].get("cpu", 0.0)
    if case.kernel and "error" not in figures:
        told = pairs(figures["text"])
        figures["check"] = told.get("check", "")
        figures["rss"] = max(figures["rss"], int(told.get("rss_end_kib", 0)))
        for key in ("rss_ratio", "kept_ratio", "ns_per_pair"):
            if float(told.get(key, 0)):
                figures[key] = float(told[key])
    figures.pop("text", None)
    return figures


def spread(values):
    """The distance between the quartiles over the median: one odd run of five does not count."""
    middle = statistics.median(values)
    if len(values) < 2 or not middle:
        return 0.0
    ordered = sorted(values)
    cut = len(ordered) // 4
    return (ordered[len(ordered) - 1 - cut] - ordered[cut]) / middle


def interleaved(case, heaps, runs, extra, choose=median):
    """All heaps once, then again: {label, about, heaps: {name: {figure: value, ...}}}; `choose`
    makes one value of those of the runs."""
    seen = {heap.name: [] for heap in heaps}
    for number in range(runs):
        # Rotated, so that no heap always runs after the same one.
        for heap in heaps[number % len(heaps):] + heaps[:number % len(heaps)]:
            failed = seen[heap.name] and "error" in seen[heap.name][-1]
            if not failed:
                seen[heap.name].append(one_run(case, heap, extra))
    result = {"label": case.label, "about": case.about, "heaps": {}}
    checks = [run.get("check") for name in seen for run in seen[name] if run.get("check")]
    usual = max(set(checks), key=checks.count) if checks else None
    for name, taken in seen.items():
        result["heaps"][name] = summary(taken, usual, choose)
    return result


def summary(taken, usual, choose):
    broken = [run["error"] for run in taken if "error" in run]
    if broken:
        return {"error": broken[0]}
    if any(run.get("check", usual) != usual for run in taken):
        return {"error": "wrong checksum"}
    figures = {}
    for key in taken[0]:
        if key != "check":
            values = [run[key] for run in taken]
            figures[key] = choose(values)
            figures[key + "_spread"] = spread(values)
            figures[key + "_all"] = values
    return figures


def noise(results, runs):
    if runs < 3:
        return "noise: unknown, it takes three runs or more to see it"
    noisy = [result["label"] for result in results
             if any(figures.get("cpu_spread", 0) > NOISY
                    for figures in result["heaps"].values())]
    if not noisy:
        return "noise: every CPU figure spread by less than 10 % between its runs"
    return (f"noise: {len(noisy)} of {len(results)} cases had a CPU figure that spread by more "
            "than 10 % (marked ~): repeat them with more --runs before believing them")
