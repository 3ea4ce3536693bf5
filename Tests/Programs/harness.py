# SPDX-License-Identifier: MIT
"""The stage a real program runs on.

A Stage is one run of one program in one mode: an empty work directory, an environment, the
processes started in it and a transcript of everything that must not change. Programs call run(),
start(), stop(), note() and look(); the driver compares the transcript with that of the bare run.

Rules every Stage keeps, whatever the program does:
  1. Nothing waits for ever: each wait has a limit, and a wait that ends by it raises Hang with the
     stacks of every process on the stage.
  2. Nothing outlives it: close() kills by pid all that descends from this process. The driver is a
     child subreaper, so daemons that detach still descend from it.
  3. The work directory has the same path in every mode, so paths in outputs compare equal.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from processes import command_line, descendants, stacks

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
LIMITS_SCALE = float(os.environ.get("MEMCTL_TEST_PATIENCE", "4"))


class Failure(Exception):
    """The program did not do what it does without the preload."""


class Hang(Failure):
    """A wait reached its limit; the text holds the stacks."""


class Skip(Exception):
    """The program can't be run on this machine."""


def free_port():
    """A TCP port of 127.0.0.1 nobody listens on now, and the kernel gives to no client."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32768
    choice = random.SystemRandom()
    for _ in range(1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", choice.randrange(10000, max(first, 10100))))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise Skip("no free port of 127.0.0.1")


class Done:
    """A process that ended: its exit status (negative: the signal), stdout and stderr."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


class Running:
    """A process in the background; its output goes to files, so a full pipe never stops it."""

    def __init__(self, popen, name, out_path, err_path, settings):
        self.popen, self.name, self.settings = popen, name, settings
        self.out_path, self.err_path = out_path, err_path
        self.pid = popen.pid


class Stage:
    def __init__(self, program, mode, base, regions, library, memctl, long):
        self.program, self.mode, self.long = program, mode, long
        self.library, self.memctl = library, memctl
        self.base = base
        self.work = base / "work"
        self.regions = regions
        self.io = base / "io"
        self.transcript = []
        self.problems = []
        self.children = {}  # pid -> Running or None for helpers of ours
        self.helpers = set()  # pids that are not the program's: memctl, gdb
        self.count = 0  # commands in the transcript
        self.files = 0  # commands at all
        self.toggler = None
        for directory in (self.work, self.regions, self.io):
            remove_tree(directory)
            directory.mkdir(parents=True)
            # Servers that change user must still reach their files and make their region.
            os.chmod(directory, 0o1777)

    # --- environment -----------------------------------------------------------------------

    def environment(self, extra=None):
        """What the program's processes see: the caller's PATH and a fixed rest."""
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.work), "TMPDIR": str(self.work), "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
        }
        if self.mode != "bare":
            env["LD_PRELOAD"] = str(self.library)
            env["MEMCTL_DIR"] = str(self.regions)
        if self.mode == "on":
            env["MEMCTL_TRACE"] = "on"
        env.update(extra or {})
        return env

    def tool_environment(self):
        """What memctl itself sees: never preloaded, or it would show up on the stage."""
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8",
               "TERM": "dumb", "HOME": str(self.base)}
        env["MEMCTL_DIR"] = str(self.regions)
        return env

    # --- what programs call ----------------------------------------------------------------

    def note(self, key, value):
        """Adds a fact that must be the same in every mode."""
        self.transcript.append((key, value if isinstance(value, str) else repr(value)))

    def require(self, condition, text):
        """A fact that must hold in every mode, the bare one included."""
        if not condition:
            raise Failure(text)

    def write(self, name, text):
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def run(self, argv, **settings):
        """Runs a command to its end and notes status, stderr and (unless keep=True) stdout.

        Settings: input (bytes), limit (seconds), env (added), user (name), cwd, keep (stdout is
        returned but not compared), scrub ([(regex, replacement)] applied to both outputs),
        expect (the exit status required; None to only compare it with the bare run's), note (False:
        nothing of it goes into the transcript, it may run a different number of times in each run).
        """
        return self.finish(self.start(argv, **settings))

    def start(self, argv, **settings):
        """Starts a command in the background; settings as for run()."""
        argv = [str(word) for word in argv]
        noted = settings.get("note", True)
        self.count += noted
        self.files += 1
        name = f"{self.count} {os.path.basename(argv[0])}" if noted else os.path.basename(argv[0])
        out_path, err_path = self.io / f"{self.files}.out", self.io / f"{self.files}.err"
        in_path = self.io / f"{self.files}.in"
        in_path.write_bytes(settings.get("input", b""))
        identity = {}
        if settings.get("user") and os.geteuid() == 0:
            identity = {"user": settings["user"], "group": settings["user"], "extra_groups": []}
        with open(in_path, "rb") as stdin, open(out_path, "wb") as out, open(err_path, "wb") as err:
            popen = subprocess.Popen(
                argv, stdin=stdin, stdout=out, stderr=err, start_new_session=True,
                cwd=settings.get("cwd", self.work), env=self.environment(settings.get("env")),
                **identity)
        running = Running(popen, name, out_path, err_path, settings)
        self.children[popen.pid] = running
        return running

    def finish(self, running):
        """Waits for a started command to end by itself; see run()."""
        limit = running.settings.get("limit", 60) * LIMITS_SCALE
        try:
            running.popen.wait(limit)
        except subprocess.TimeoutExpired:
            text = stacks([running.pid, *self.alive(running.pid)])
            tail = running.err_path.read_bytes()[-600:].decode(errors="replace")
            raise Hang(f"{running.name}: not done after {limit:g} s\n{tail}\n{text}") from None
        return self.collect(running)

    def stop(self, running, number=signal.SIGTERM):
        """Asks a server to end, waits for it, and notes how it ended."""
        if running.popen.poll() is not None:
            tail = running.err_path.read_bytes()[-600:].decode(errors="replace")
            raise Failure(f"{running.name}: ended by itself, "
                          f"status {running.popen.returncode}: {tail}")
        os.kill(running.pid, number)
        return self.finish(running)

    def look(self, pid, work=None):
        """What can be said of a long-lived process from outside while it runs.

        `work` is called to make it allocate, again and again until its trace has rows. A process
        without may have asked for nothing while it was traced: no rows are required of it when
        tracing is switched.
        """
        self.note("threads", len(os.listdir(f"/proc/{pid}/task")))
        if self.mode == "bare":
            return
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except OSError:
                continue
            if target.startswith(str(self.regions)):
                raise Failure(f"process {pid} keeps descriptor {descriptor} open on {target}")
        if self.mode in ("on", "toggle") and self.memctl:
            self.look_at_trace(pid, work)

    def look_at_trace(self, pid, work):
        if self.mode == "toggle":
            self.wait_for(lambda: self.toggler.rounds_of(pid) >= 1, 60,
                          f"the first switch of {pid} ({command_line(pid)})",
                          self.toggler.last_refusal)
        document, end = self.trace(pid), time.monotonic() + 60 * LIMITS_SCALE
        while work and not document_rows(document) and time.monotonic() < end:
            work()
            document = self.trace(pid)
        if (work or self.mode == "on") and not document_rows(document):
            raise Failure(f"memctl show trace -p {pid}: no rows: {str(document)[:300]}")

    def trace(self, pid):
        """The document of `show trace`."""
        done = self.tool(["show", "trace", "-p", str(pid), "--format", "json"], limit=30)
        if done.status != 0:
            raise Failure(f"memctl show trace -p {pid}: status {done.status}: "
                          f"{done.err.decode(errors='replace')[:400]}")
        try:
            return json.loads(done.out)
        except ValueError as error:
            raise Failure(f"memctl show trace -p {pid}: {error}: {done.out[:200]!r}") from None

    def wait_for(self, condition, seconds, what, more=lambda: ""):
        """Waits until `condition()` is true; used for sockets, files and the like."""
        end = time.monotonic() + seconds * LIMITS_SCALE
        while not condition():
            if time.monotonic() > end:
                raise Hang(f"waited {seconds * LIMITS_SCALE:g} s for {what}\n{more()}{stacks(self.alive())}")
            time.sleep(0.02)

    # --- what the driver calls --------------------------------------------------------------

    def collect(self, running):
        settings = running.settings
        done = Done(running.popen.returncode, running.out_path.read_bytes(),
                    running.err_path.read_bytes())
        expected = settings.get("expect", 0)
        if expected is not None and done.status != expected:
            raise Failure(f"{running.name}: status {done.status}, not {expected}: "
                          + done.err[-800:].decode(errors="replace"))
        if not settings.get("note", True):
            return done
        self.note(f"{running.name}: status", done.status)
        self.note(f"{running.name}: stderr", scrubbed(done.err, settings))
        if not settings.get("keep"):
            self.note(f"{running.name}: stdout", scrubbed(done.out, settings))
        return done

    def tool(self, arguments, limit=30):
        """Runs memctl, outside the stage."""
        popen = subprocess.Popen([str(self.memctl), *arguments], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=self.tool_environment(), cwd=self.base)
        self.helpers.add(popen.pid)
        try:
            out, err = popen.communicate(timeout=limit * LIMITS_SCALE)
        except subprocess.TimeoutExpired:
            text = stacks([popen.pid])
            popen.kill()
            popen.communicate()
            raise Hang(f"memctl {' '.join(arguments)}: not done after {limit * LIMITS_SCALE:g} s\n"
                       f"{text}") from None
        finally:
            self.helpers.discard(popen.pid)
        return Done(popen.returncode, out, err)

    def alive(self, root=None):
        """Pids of the program's processes (not zombies), outermost first."""
        root = root or os.getpid()
        return [pid for pid, stat in sorted(descendants(root).items(), key=lambda i: i[1][2])
                if stat[1] not in "ZX" and not self.is_helper(pid)]

    def is_helper(self, pid):
        return pid in self.helpers

    def reap_orphans(self):
        """Collects detached processes that ended; a crash among them is a failure."""
        for pid, stat in descendants(os.getpid()).items():
            mine = stat[0] == os.getpid() and pid not in self.children and pid not in self.helpers
            if mine and stat[1] == "Z":
                try:
                    _, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES:
                    name = signal.Signals(os.WTERMSIG(status)).name
                    self.problems.append(f"a detached process of the program died of {name}")

    def check_leftovers(self):
        """After a program is through: nothing of it runs any more."""
        end = time.monotonic() + 5 * LIMITS_SCALE
        while True:
            self.reap_orphans()
            left = self.alive()
            if not left:
                return
            if time.monotonic() > end:
                names = ", ".join(f"{pid} ({command_line(pid)})" for pid in left[:5])
                self.problems.append(f"left running: {names}\n{stacks(left)}")
                return
            time.sleep(0.02)

    def check_regions(self, kills):
        """No region of a dead process stays behind.

        Processes that were killed or called _exit() can't remove theirs; for programs with such
        children (`kills`) the tool clears them first: `list` those without a trace, which are all
        when nothing was traced, `forget` the rest. Regions put aside for a successor with the same
        pid (PID.1) are a failure even so: nothing here lives long enough for pids to come round.
        """
        if self.mode == "bare" or (kills and not self.memctl):
            return
        if kills:
            self.clear_regions(["list"])
            aside = [name for name in self.region_names() if "." in name]
            self.complain_of_regions(aside if self.mode != "off" else self.region_names())
            self.clear_regions(["forget", "--all"])
        self.complain_of_regions(self.region_names())

    def region_names(self):
        return sorted(str(path.relative_to(self.regions)) for path in self.regions.rglob("*")
                      if not path.is_dir())

    def clear_regions(self, arguments):
        done = self.tool(arguments)
        if done.status != 0:
            self.problems.append(f"memctl {' '.join(arguments)}: status {done.status}: "
                                 + done.err.decode(errors="replace")[:300])

    def complain_of_regions(self, left):
        if left:
            self.problems.append(f"{len(left)} region(s) of dead processes left: "
                                 + ", ".join(left[:5]))

    def note_files(self, ignored):
        """The names left in the work directory belong to the transcript."""
        names = []
        for path in sorted(self.work.rglob("*")):
            name = str(path.relative_to(self.work))
            if not any(re.search(pattern, name) for pattern in ignored):
                names.append(name + ("/" if path.is_dir() else ""))
        self.note("files left", "\n".join(names))

    def close(self):
        """Kills and reaps what is left, by pid, innermost last."""
        for _ in range(100):
            left = self.alive()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
            for running in self.children.values():
                running.popen.poll()
            self.reap_orphans()
        for running in self.children.values():
            running.popen.poll()


def document_rows(document):
    """The rows of a `show trace --format json` document."""
    if isinstance(document, dict):
        document = document.get("rows", [])
    return document if isinstance(document, list) else []


def scrubbed(output, settings):
    text = output.decode(errors="backslashreplace")
    for pattern, replacement in settings.get("scrub", ()):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def remove_tree(path):
    """Removes a directory whose contents may be read-only."""
    def retry(function, name, _):
        try:
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700)
            function(name)
        except FileNotFoundError:
            pass
    if path.exists():
        shutil.rmtree(path, onerror=retry)


def warn(text):
    print(text, file=sys.stderr, flush=True)


def listens(port):
    """Whether somebody accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
