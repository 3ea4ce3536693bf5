#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs real programs on libmemctl.so and compares them with themselves without it.

    Tests/Programs/run.py [--lib PATH] [--memctl PATH] [--only NAME] [--long]
                          [--modes off,on,toggle]

Every file programs/NAME.py is one program. It runs bare first, then once per mode; each mode must
give the transcript of the bare run. On stdout one line a test:
    ok programs/NAME/MODE
    not ok programs/NAME/MODE: reason
    skip programs/NAME/MODE: reason
The whole text of a failure goes to stderr. Exit status 0 iff nothing failed. See
docs/real-programs.md.

One worker process per program keeps the rules of harness.py (it is the subreaper of all that the
program starts), so that programs may run side by side without being mistaken for each other.
"""

import argparse
import concurrent.futures
import difflib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402  (needs the path above)
import processes  # noqa: E402
import toggler  # noqa: E402

MODES = ("off", "on", "toggle")
# How often a toggled program may run until it was switched as often as it has to be: a short one
# on a busy machine may end before anybody got round to switching it.
MOST_RUNS = 40


def arguments():
    parser = argparse.ArgumentParser(description="real programs on libmemctl.so")
    parser.add_argument("--lib", type=Path, default=ROOT / "build/lib/libmemctl.so")
    parser.add_argument("--memctl", type=Path, help="default: build/bin/memctl, or from PATH")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="just this program; may be repeated")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--long", action="store_true", default=os.environ.get("TEST_LONG") == "1",
                        help="the slow workloads, and check_driver.py; also by TEST_LONG=1")
    parser.add_argument("--jobs", type=int, default=2, help="programs side by side")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work here, and leave it there")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--regions", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.modes = [mode for mode in options.modes.split(",") if mode]
    for mode in options.modes:
        if mode not in MODES:
            parser.error(f"no mode {mode}; there are {', '.join(MODES)}")
    names = program_names()
    for name in options.only:
        if name not in names:
            parser.error(f"no program {name}; there are {', '.join(names)}")
    options.lib = options.lib.absolute()
    options.memctl = find_memctl(options.memctl)
    return options


def find_memctl(path):
    if path:
        return path.absolute()
    for candidate in (ROOT / "build/bin/memctl", ROOT / ".build/release/memctl",
                      ROOT / ".build/debug/memctl"):
        if candidate.exists():
            return candidate
    found = shutil.which("memctl")
    return Path(found) if found else None


def program_names():
    return sorted(path.stem for path in (HERE / "programs").glob("*.py"))


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / "programs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- one program, in a worker ------------------------------------------------------------------


def perform(module, name, mode, options):
    """Runs a program once. Returns (transcript, problems, number of switches)."""
    stage = harness.Stage(name, mode, options.base, options.regions, options.lib, options.memctl,
                          options.long)
    if mode == "toggle":
        stage.toggler = toggler.Toggler(stage)
        stage.toggler.start()
    begun = time.monotonic()
    try:
        module.run(stage)
        if stage.toggler:
            stage.toggler.stop()
        stage.check_leftovers()
        stage.check_regions(getattr(module, "KILLS", False))
        stage.note_files(getattr(module, "IGNORED_FILES", ()))
    except harness.Failure as error:
        stage.problems.append(str(error))
    except (OSError, ValueError, LookupError) as error:
        stage.problems.append(f"{type(error).__name__}: {error}")
    finally:
        if stage.toggler:
            stage.toggler.ended.set()
            stage.toggler.join(60 * harness.LIMITS_SCALE)
        stage.close()
    switches = stage.toggler.total() if stage.toggler else 0
    toggles = f", {switches} switches" if stage.toggler else ""
    harness.warn(f"# {name}/{mode}: {time.monotonic() - begun:.1f} s{toggles}")
    return stage.transcript, stage.problems, switches


def difference(bare, other):
    """The first facts in which two transcripts differ, as text; empty when they agree."""
    lines = []
    for position in range(max(len(bare), len(other))):
        if position >= len(other):
            lines.append(f"missing: {bare[position][0]}")
            break
        if position >= len(bare):
            lines.append(f"additional: {other[position][0]}")
            break
        (key, old), (new_key, new) = bare[position], other[position]
        if key != new_key:
            lines.append(f"{new_key} where {key} was expected")
            break
        if old != new:
            lines.append(f"{key} differs:")
            changes = difflib.unified_diff(old.splitlines(), new.splitlines(), "bare", "mode",
                                           lineterm="", n=0)
            lines += [line[:400] for line in list(changes)[2:42]]
    return "\n".join(lines)


def one_line(text):
    flat = " | ".join(line.strip() for line in text.splitlines()[:6] if line.strip())
    return flat[:500]


def say(verdict, name, mode, reason=""):
    text = f"{verdict} programs/{name}/{mode}" + (f": {one_line(reason)}" if reason else "")
    print(text, flush=True)
    if verdict == "not ok" and len(reason.splitlines()) > 1:
        harness.warn(f"# programs/{name}/{mode}\n{reason}\n")


def missing_need(module):
    for need in getattr(module, "NEEDS", ()):
        found = any(shutil.which(n) or os.path.exists(n) for n in need.split("|"))
        if not found:
            return f"no {need} here"
    return None


def worker(options):
    name = options.worker
    processes.become_subreaper()
    module = load(name)
    reason = missing_need(module)
    bare = None
    if not reason:
        try:
            bare, problems, _ = perform(module, name, "bare", options)
        except harness.Skip as skip:
            reason = str(skip)
        else:
            if problems:
                say("not ok", name, "bare", "\n".join(problems))
                reason = "the bare run failed"
    for mode in options.modes:
        if reason:
            say("skip", name, mode, reason)
        elif mode == "toggle" and not options.memctl:
            say("skip", name, mode, "no memctl command (make builds it, --memctl names it)")
        else:
            judge(module, name, mode, bare, options)


def judge(module, name, mode, bare, options):
    problems, switches, wanted = [], 0, 0
    if mode == "toggle":
        wanted = getattr(module, "TOGGLES", 2)
    for _ in range(MOST_RUNS):
        transcript, problems, more = perform(module, name, mode, options)
        problems = problems or disagreement(module, name, bare, transcript, options)
        switches += more
        if problems or switches >= wanted:
            break
    else:
        problems = [f"switched only {switches} times in {MOST_RUNS} runs: nothing tested"]
    if problems:
        say("not ok", name, mode, "\n".join(problems))
    else:
        say("ok", name, mode)


def disagreement(module, name, bare, transcript, options):
    """What is wrong with a transcript that is not the bare run's, as a list of one text.

    The program runs bare once more then: what it also prints without us is no fault of ours.
    """
    text = difference(bare, transcript)
    if not text:
        return []
    again = perform(module, name, "bare", options)[0]
    unstable = difference(bare, again)
    if unstable and not difference(again, transcript):
        harness.warn(f"# {name}: two bare runs differ: {one_line(unstable)}")
        return []
    if unstable:
        text += f"\n(two bare runs differ as well: {one_line(unstable)})"
    return [text]


# --- all programs, in the driver -----------------------------------------------------------------


def dispatch(name, options, base, regions, ceiling):
    """Runs the worker of one program and relays its lines. Returns how many tests failed."""
    directory = base / name
    directory.mkdir(exist_ok=True)
    os.chmod(directory, 0o755)
    command = [sys.executable, str(HERE / "run.py"), "--worker", name, "--base", str(directory),
               "--regions", str(regions / name), "--lib", str(options.lib),
               "--modes", ",".join(options.modes)]
    if options.memctl:
        command += ["--memctl", str(options.memctl)]
    if options.long:
        command.append("--long")
    popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    killer = threading.Timer(ceiling, kill_tree, [popen.pid])
    killer.start()
    failed, seen = 0, set()
    for line in popen.stdout:
        print(line, end="", flush=True)
        failed += line.startswith("not ok")
        seen.add(line.split("programs/", 1)[-1].split(":")[0].strip())
    popen.wait()
    killer.cancel()
    for mode in options.modes:
        if f"{name}/{mode}" not in seen:
            print(f"not ok programs/{name}/{mode}: the driver of this program ended with status "
                  f"{popen.returncode} before reporting", flush=True)
            failed += 1
    if not options.keep:
        harness.remove_tree(directory)
    return failed


def memory_folder():
    """Where regions go by default: in memory. A disk makes every fork of a traced process slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def relay(command):
    """Runs a command that speaks the protocol. Returns how many of its tests failed."""
    failed, environment = 0, {k: v for k, v in os.environ.items() if k != "TEST_LONG"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as popen:
        for line in popen.stdout:
            print(line, end="", flush=True)
            failed += line.startswith("not ok")
    return failed or int(popen.returncode != 0)


def kill_tree(root):
    for pid in [root, *processes.descendants(root)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main():
    options = arguments()
    if options.worker:
        worker(options)
        return 0
    names = options.only or program_names()
    if options.list:
        print("\n".join(names))
        return 0
    if not options.lib.exists():
        sys.exit(f"run.py: no library {options.lib} — run make, or name one with --lib")
    processes.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Not in $TMPDIR nor in the checkout: programs that change user must reach work and library, and
    # LD_PRELOAD is cut at spaces and colons.
    base = options.keep or Path(tempfile.mkdtemp(prefix="memctl-programs-", dir="/tmp"))
    base.mkdir(parents=True, exist_ok=True)
    options.lib = Path(shutil.copy2(options.lib, base / "libmemctl.so"))
    options.lib.chmod(0o755)
    regions = Path(tempfile.mkdtemp(prefix="memctl-programs-", dir=memory_folder()))
    for directory in (base, regions):
        os.chmod(directory, 0o755)
    ceiling = (1800 if options.long else 600) * harness.LIMITS_SCALE
    # Longest first, so that the last one to end is a short one.
    weights = {name: getattr(load(name), "WEIGHT", 1) for name in names}
    names = sorted(names, key=lambda name: -weights[name])
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            failed = sum(pool.map(lambda name: dispatch(name, options, base, regions, ceiling),
                                  names))
        if options.long and not options.only:
            failed += relay([sys.executable, str(HERE / "check_driver.py")])
    finally:
        for pid in processes.descendants(os.getpid()):
            kill_tree(pid)
        harness.remove_tree(regions)
        if not options.keep:
            harness.remove_tree(base)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
