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

import ctypes
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
LIMITS_SCALE = float(os.environ.get("MEMCTL_TEST_PATIENCE", "4"))


class Failure(Exception):
    """The program did not do what it does without the preload."""


class Hang(Failure):
    """A wait reached its limit; the text holds the stacks."""


class Skip(Exception):
    """The program can't be run on this machine."""


def become_subreaper():
    """Orphaned descendants become children of this process instead of init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def process_stat(pid):
    """(parent, state, start time) of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), fields[0], int(fields[19])


def descendants(root):
    """Every living or dead-but-unreaped process below `root`: {pid: (parent, state, start)}."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = process_stat(int(entry))
            if stat:
                table[int(entry)] = stat
    found, wave = {}, {root}
    while wave:
        wave = {pid for pid, stat in table.items() if stat[0] in wave and pid not in found}
        found.update((pid, table[pid]) for pid in wave)
    return found


def command_line(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:120] or "?"
    except OSError:
        return "?"


def stacks(pids, most=6):
    """What the given processes are doing, as gdb tells it, for the text of a failure."""
    texts = []
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    for pid in list(pids)[:most]:
        texts.append(f"--- process {pid}: {command_line(pid)}")
        try:
            done = subprocess.run(
                ["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "set pagination off",
                 "-ex", "thread apply all bt 24"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=60, env=environment)
            lines = done.stdout.decode(errors="replace").splitlines()
            texts += [s for s in lines if s.startswith(("#", "Thread"))][:150] or lines[-10:]
        except (OSError, subprocess.TimeoutExpired) as error:
            texts.append(f"no stacks: {error}")
    return "\n".join(texts)


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


class Toggler(threading.Thread):
    """Switches tracing of the program's processes on and off, every 100 ms.

    A process is a target when it runs on the library; a new one is switched as soon as it has its
    region. At most TARGETS of them are switched in one round, in turn, so a server with many
    workers has all of them switched over time. A refusal counts when the process has lived for a
    while, lives on, and has a region before and after: one that has just been forked or is about
    to exit has none, and one that shares its parent's is refused with good reason.
    """

    PERIOD = 0.1
    FIRST = 0.01  # seconds between two looks for a process that was not switched yet,
    FEW = 10  # as long as there were fewer switches than this
    TARGETS = 3
    SETTLED = 0.5  # seconds a process must have lived before a refusal counts
    REASONS = ("shares the region of process", "can't be traced alone before")

    def __init__(self, stage):
        super().__init__(daemon=True)
        self.stage = stage
        self.ended = threading.Event()
        self.first_seen = {}  # (pid, start) -> monotonic time
        self.wanted = {}  # (pid, start) -> the word to say next
        self.rounds = {}  # pid -> switches that worked
        self.refusals = {}  # (pid, start) -> texts
        self.cursor = 0

    def rounds_of(self, pid):
        return self.rounds.get(pid, 0)

    def last_refusal(self):
        return "".join(f"{texts[-1]}\n" for texts in self.refusals.values())

    def total(self):
        return sum(self.rounds.values())

    def run(self):
        while not self.ended.is_set():
            begun = time.monotonic()
            try:
                self.round()
            except Hang as error:
                self.stage.problems.append(str(error))
                return
            self.rest(begun + self.PERIOD)

    def rest(self, end):
        """Until the next round is due; while little was switched, until somebody can be."""
        while not self.ended.is_set() and time.monotonic() < end:
            few = self.total() < self.FEW
            self.ended.wait(max(0.0, min(self.FIRST if few else 1, end - time.monotonic())))
            if few and self.new_ones(self.targets()):
                return

    def new_ones(self, keys):
        return [key for key in keys if key[0] not in self.rounds and key not in self.refusals
                and self.has_region(key[0])]

    def stop(self):
        self.ended.set()
        self.join()
        for (pid, _), texts in self.refusals.items():
            if len(texts) >= 3:
                self.stage.problems.append(
                    f"memctl refused a living process {len(texts)} times: {texts[-1]}")

    def targets(self):
        keys = []
        for pid in self.stage.alive():
            stat = process_stat(pid)
            if stat is None:
                continue
            key = (pid, stat[2])
            if key not in self.first_seen:
                if not self.runs_on_library(pid):
                    continue
                self.first_seen[key] = time.monotonic()
            keys.append(key)
        return keys

    @staticmethod
    def maps(pid):
        try:
            return Path(f"/proc/{pid}/maps").read_text(errors="replace")
        except OSError:
            return ""

    def runs_on_library(self, pid):
        return str(self.stage.library) in self.maps(pid)

    def has_region(self, pid):
        """Whether it maps a region that still has its name."""
        return any(str(self.stage.regions) in line and not line.endswith("(deleted)")
                   for line in self.maps(pid).splitlines())

    def round(self):
        keys = self.targets()
        for key in self.new_ones(keys)[: self.TARGETS]:
            self.switch(key)
        for _ in range(min(self.TARGETS, len(keys))):
            self.cursor += 1
            self.switch(keys[self.cursor % len(keys)])
            if self.ended.is_set():
                return

    def switch(self, key):
        word = self.wanted.get(key, "on")
        settled = time.monotonic() - self.first_seen[key] > self.SETTLED
        settled = settled and self.has_region(key[0])
        done = self.stage.tool(["trace", word, "-p", str(key[0])])
        if done.status == 0:
            self.wanted[key] = "off" if word == "on" else "on"
            self.rounds[key[0]] = self.rounds.get(key[0], 0) + 1
            self.refusals.pop(key, None)
            return
        stat = process_stat(key[0])
        same = stat is not None and stat[2] == key[1] and stat[1] not in "ZX"
        error = done.err.decode(errors="replace").strip()[:300]
        if any(reason in error for reason in self.REASONS):
            return
        if same and settled and self.has_region(key[0]):
            self.refusals.setdefault(key, []).append(
                f"trace {word} -p {key[0]} ({command_line(key[0])}): "
                f"status {done.status}: {error}")


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
