#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs every test suite and counts every test.

    Tests/run.py                   all suites
    Tests/run.py --only NAME       one suite (may be given several times; case does not matter)
    Tests/run.py --long            longer randomised runs (suites see TEST_LONG=1)
    Tests/run.py --list            names of the suites and their time limits

A suite is a command that prints a line per test on its standard output: `ok NAME`,
`not ok NAME: reason` or `skip NAME: reason`. The Swift suite is `swift test`, whose event stream is
read instead. Each suite runs in a process group of its own, without standard input, under a time
limit; what it leaves running is ended by process id. Its whole output goes to build/test-logs/NAME.log.

Beside its own tests a suite fails when it ran none, did not end in time, is missing, or ended with
a bad status while every test it named had passed. The last line counts: `N passed, N failed`, and
`, N skipped` when some were. Exit status: 0 all passed, 1 something failed, 130 interrupted.
"""

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
# All suites together; for each its own limit below, far from what it takes: a slow machine, or one
# that does other work, has to get by with them.
TOTAL_MINUTES, TOTAL_MINUTES_LONG = 39, 240
PR_SET_CHILD_SUBREAPER = 36
LINE = re.compile(r"(ok|not ok|skip) (.+)")


class Suite:
    """A command and what its tests said."""

    def __init__(self, name, minutes, long_minutes, *command):
        self.name, self.command = name, list(command)
        self.minutes, self.long_minutes = minutes, long_minutes
        self.passed = 0
        self.failures = []  # (name, reason)
        self.skips = []  # (name, reason)
        self.seconds = 0.0
        self.log = LOGS / f"{name}.log"

    def fail(self, name, reason):
        self.failures.append((name, reason or "no reason given"))

    def take_line(self, line):
        """Counts one line of standard output if it names a test; returns whether it failed."""
        match = LINE.fullmatch(line)
        if not match:
            return False
        verdict, rest = match.groups()
        if verdict == "ok":
            self.passed += 1
            return False
        name, _, reason = rest.partition(": ")
        (self.fail if verdict == "not ok" else lambda *x: self.skips.append(x))(name, reason)
        return verdict == "not ok"

    def collect(self):
        """Called once when the command has ended: results that are not in its output."""

    def missing(self):
        """What there is to run is a file of this checkout; its name if it is not there."""
        return next((c for c in self.command if "/" in c and not (ROOT / c).exists()), None)


class SwiftSuite(Suite):
    """`swift test`, read through Swift Testing's event stream: one JSON value per line."""

    def __init__(self, name, minutes, long_minutes):
        self.events = LOGS / f"{name}.events.jsonl"
        scratch = os.environ.get("SCRATCH", ".build")
        command = [os.environ.get("SWIFT") or shutil.which("swift") or "swift", "test",
                   "--disable-xctest", "--scratch-path", scratch,
                   "--event-stream-output-path", str(self.events)]
        super().__init__(name, minutes, long_minutes, *command)

    def missing(self):
        self.events.unlink(missing_ok=True)  # what an earlier run said must not count
        return None if shutil.which(self.command[0]) else "swift"

    def take_line(self, line):
        return False

    def collect(self):
        tests, state, issues, ended = set(), {}, {}, False
        lines = self.events.read_text().splitlines() if self.events.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a crashed run may be cut
            payload, kind = record.get("payload", {}), record.get("kind")
            if kind == "test" and payload["kind"] == "function":
                tests.add(payload["id"])
                continue
            what, test = payload.get("kind"), payload.get("testID")
            if what in ("testStarted", "testEnded", "testSkipped"):
                state[test] = what
            if what == "testSkipped":
                issues.setdefault(test, []).append(payload["messages"][0]["text"])
            if what == "issueRecorded" and payload.get("issue", {}).get("isFailure", True):
                place = payload["issue"].get("sourceLocation", {})
                text = "; ".join(message["text"] for message in payload["messages"])
                issues.setdefault(test, []).append(
                    f"{place.get('fileID', '?')}:{place.get('line', '?')}: {text}")
            ended = ended or what == "runEnded"
        self.judge(tests, state, issues)
        if tests and not ended:
            self.fail(self.name, f"the test process ended early — its last words are in {self.log}")

    def judge(self, tests, state, issues):
        for test in sorted(tests):
            name = test.rsplit("/", 1)[0]
            if state.get(test) == "testSkipped":
                self.skips.append((name, issues[test][0]))
            elif state.get(test) == "testEnded" and test not in issues:
                self.passed += 1
            elif state.get(test) == "testEnded":
                self.fail(name, " | ".join(issues[test]))
            elif state.get(test) == "testStarted":
                self.fail(name, "was running when the test process ended")
            else:
                self.fail(name, "never ran")
        for other in sorted(set(issues) - tests, key=str):
            if state.get(other) != "testSkipped":  # a suite, or no test at all
                self.fail(str(other), " | ".join(issues[other]))


def all_suites():
    return [
        Suite("Binary", 25, 25, "bash", "Tests/Binary/run.sh"),
        Suite("Core", 25, 90, "bash", "Tests/Core/run.sh"),
        Suite("Unwind", 15, 60, "bash", "Tests/Unwind/run.sh"),
        Suite("Conformance", 20, 60, "bash", "Tests/Conformance/run.sh"),
        SwiftSuite("Swift", 25, 60),
        Suite("Rows", 25, 60, "python3", "Tests/Rows/run.py"),
        Suite("Fuzz", 20, 120, "bash", "Tests/Fuzz/run.sh"),
        Suite("Programs", 30, 120, "python3", "Tests/Programs/run.py"),
    ]


def children():
    """Direct children of this process; orphans of a suite become such (see PR_SET_CHILD_SUBREAPER)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(after_name[1]) == os.getpid() and after_name[0] != "Z":
                found.append(int(entry.name))
    return found


def end_leftovers(group):
    """Ends the group and every orphan it left; returns the names of those that had to be ended."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
    names = set()
    for _ in range(100):
        pids = children()
        for pid in pids:
            try:
                names.add(Path(f"/proc/{pid}/comm").read_text().strip())
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return names
        if not pids:
            return names
        time.sleep(0.02)
    return names


class Progress:
    """What is seen while suites run. On a terminal a line that is rewritten every second, elsewhere
    a line a minute; one line per suite at its end."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.next_seconds = 0

    def say(self, text):
        print(("\r\033[K" if self.live else "") + text, flush=True)

    def running(self, suite, seconds):
        done = suite.passed + len(suite.failures) + len(suite.skips)
        line = f"{suite.name:<13}{f'{done} so far ...':<40}{seconds:>6.0f} s"
        if self.live:
            print(f"\r\033[K{line}", end="", flush=True)
        elif seconds < 1:
            self.next_seconds = 60
        elif seconds >= self.next_seconds:
            self.next_seconds += 60
            self.say(line)

    def done(self, suite):
        parts = [f"{suite.passed} passed"]
        if suite.failures:
            parts.append(f"{len(suite.failures)} FAILED")
        if suite.skips:
            parts.append(f"{len(suite.skips)} skipped")
        self.say(f"{suite.name:<13}{', '.join(parts):<40}{suite.seconds:>6.0f} s")


def run_command(suite, limit, environment, progress):
    """Runs a suite's command; returns its status, or None when it was ended for taking too long."""
    with open(suite.log, "ab", buffering=0) as log:
        process = subprocess.Popen(
            suite.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, start_new_session=True)

        def read():
            for raw in process.stdout:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                if suite.take_line(line):
                    progress.say(f"  {suite.name}: {line}")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        started, status = time.monotonic(), None
        try:
            while status is None and time.monotonic() - started < limit:
                progress.running(suite, time.monotonic() - started)
                try:
                    status = process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    pass
            if status is not None:
                reader.join(timeout=2)
        finally:
            names = end_leftovers(process.pid)
            process.poll()
            reader.join(timeout=5)
        if status is not None and names:
            log.write(f"left running, ended now: {', '.join(sorted(names))}\n".encode())
            progress.say(f"  {suite.name}: note: left running: {', '.join(sorted(names))} (ended)")
        return status


def run_suite(suite, limit, environment, progress):
    started = time.monotonic()
    suite.log.write_bytes(b"")
    absent = suite.missing()
    if absent:
        suite.fail(suite.name, f"{absent} is missing")
    elif limit < 1:
        suite.fail(suite.name, "no time was left for it — run it alone with --only")
    else:
        status = run_command(suite, limit, environment, progress)
        suite.collect()
        log = suite.log.relative_to(ROOT)
        if status is None:
            suite.fail(suite.name, f"did not end within {limit / 60:.0f} minutes — see {log}")
        elif status != 0 and not suite.failures:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            suite.fail(suite.name, f"ended with {how} without naming a failed test — see {log}")
        elif suite.passed == 0 and not suite.failures:
            suite.fail(suite.name, f"ran no test — see {log}")
    suite.seconds = time.monotonic() - started
    progress.done(suite)


def conclude(suites):
    """Prints the failures and the one closing line; returns whether all went well."""
    failed = [(s.name, n, r) for s in suites for n, r in s.failures]
    skipped = [(s.name, n, r) for s in suites for n, r in s.skips]
    if skipped:
        print("\nSkipped:")
        for suite, name, reason in skipped:
            print(f"  {suite}: {name}: {reason}")
    if failed:
        print(f"\nFailed (whole output in {LOGS.relative_to(ROOT)}/SUITE.log):")
        for suite, name, reason in failed:
            print(f"  {suite}: {name}: {reason}")
    print()
    line = f"{sum(s.passed for s in suites)} passed, {len(failed)} failed"
    print(line + (f", {len(skipped)} skipped" if skipped else ""), flush=True)
    return not failed


def chosen(suites, names):
    if not names:
        return suites
    known = {s.name.lower(): s for s in suites}
    for name in names:
        if name.lower() not in known:
            sys.exit(f"run.py: no suite named '{name}' — there are {', '.join(s.name for s in suites)}")
    return [s for s in suites if s.name.lower() in {n.lower() for n in names}]


def clean_environment(long):
    """What a suite sees: nothing that a user's own use of memctl may have left in the environment."""
    environment = {k: v for k, v in os.environ.items() if k.startswith("MEMCTL_TEST_") or not (
        k == "LD_PRELOAD" or k.startswith(("MEMCTL_", "MALLOC_")))}
    environment.update(LC_ALL="C.UTF-8", PYTHONDONTWRITEBYTECODE="1")
    if long:
        environment["TEST_LONG"] = "1"
    return environment


def main():
    parser = argparse.ArgumentParser(description="Runs the test suites and counts every test.")
    parser.add_argument("--only", metavar="SUITE", action="append", help="run this suite alone")
    parser.add_argument("--long", action="store_true", help="longer randomised runs")
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    options = parser.parse_args()

    LOGS.mkdir(parents=True, exist_ok=True)
    suites = chosen(all_suites(), options.only)
    if options.list:
        for suite in suites:
            print(f"{suite.name:<13} at most {suite.minutes} min ({suite.long_minutes} with --long)")
        return 0

    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    # Daemons that left their suite's process group come to us when their parent ends.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    environment, progress = clean_environment(options.long), Progress()
    deadline = time.monotonic() + 60 * (TOTAL_MINUTES_LONG if options.long else TOTAL_MINUTES)
    try:
        for suite in suites:
            minutes = suite.long_minutes if options.long else suite.minutes
            limit = min(minutes * 60, deadline - time.monotonic())
            run_suite(suite, limit, environment, progress)
    except KeyboardInterrupt:
        suites[-1].fail("interrupted", "stopped before every suite had run")
        conclude(suites)
        return 130
    return 0 if conclude(suites) else 1


if __name__ == "__main__":
    sys.exit(main())
