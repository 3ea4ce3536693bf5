# SPDX-License-Identifier: MIT
"""What the rows are tested with: programs under the preload, and the tool beside them.

    @row("V1_toggle_live")          a test; its name begins with the row of the promise
    def toggle_live(t):
        program = t.puppet()        programs/puppet.c, which does as it is told through a pipe
        program.ask("alloc a 1000 100")
        table = t.trace(program)    `memctl show trace --all --format json`, as a Table
        t.equal(table.at("site_a").count, 1000, "count")

Every test has a folder of regions of its own in memory, and its processes are ended by pid, as
members of the process groups that it made. Failed checks raise Failed; Skip says why a test can't
run here.
"""

import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import schema

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
PATIENCE = 240  # seconds for any one answer, on a machine that does much else

ROWS = []  # (name, function, alone, tries)


class Failed(Exception):
    pass


class Skip(Exception):
    pass


def row(name, alone=False, tries=1):
    """Registers a test. One that is `alone` measures time and runs while no other does.

    One with several `tries` reads the pages of a stopped program twice: a kernel that is short of
    memory takes some meanwhile, or one that has time joins them to huge ones. It is tried anew, with
    programs of its own; what the tool does wrong it does each time.
    """
    def register(function):
        ROWS.append((name, function, alone, tries))
        return function
    return register


def clean_environment():
    return {name: value for name, value in os.environ.items()
            if name != "LD_PRELOAD" and not name.startswith(("MEMCTL_", "MALLOC_"))}


class Builder:
    """Compiles fixtures once each, whoever asks first."""

    C = ["-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-fno-builtin",
         "-fno-optimize-sibling-calls"]
    CXX = ["-std=c++17", "-O2", "-g", "-Wall", "-Wextra", "-fno-builtin",
           "-fno-optimize-sibling-calls"]

    def __init__(self, folder, lock):
        self.folder, self.lock, self.made = folder, lock, {}

    def make(self, name, command):
        """The path of `name`, made by `command` (with @OUT@ for that path)."""
        with self.lock:
            path = self.folder / name
            if name not in self.made:
                path.parent.mkdir(parents=True, exist_ok=True)
                words = [str(path) if word == "@OUT@" else str(word) for word in command]
                done = subprocess.run(words, capture_output=True, text=True, cwd=self.folder,
                                      env=clean_environment())
                if done.returncode:
                    raise Failed(f"{' '.join(words)}: {done.stderr.strip()[-800:]}")
                self.made[name] = path
            return path

    def c(self, name, *flags, source=None):
        source = PROGRAMS / (source or name + ".c")
        return self.make(name, ["gcc", *self.C, "-o", "@OUT@", source, *flags, "-pthread", "-ldl"])

    def cxx(self, name, *flags, source=None):
        source = PROGRAMS / (source or name + ".cc")
        return self.make(name, ["g++", *self.CXX, "-o", "@OUT@", source, *flags, "-pthread"])


class Row:
    """A row of `show trace`, out of its JSON."""

    def __init__(self, data):
        self.data = data
        self.count, self.bytes, self.usable = data["count"], data["bytes"], data["usable"]
        self.allocs, self.frees = data["allocs"], data["frees"]
        self.functions = [frame["function"] for frame in data["frames"]]
        self.frames = data["frames"]

    def __repr__(self):
        return f"{self.count} x {self.bytes} B {[f or '?' for f in self.functions[:4]]}"


class Table:
    """`show trace` as a whole."""

    def __init__(self, data):
        self.data, self.totals = data, data["totals"]
        self.rows = [Row(each) for each in data["rows"]]

    def all_at(self, *names):
        """Rows whose frames have these functions; names are prefixes."""
        def has(row, name):
            return any(each and each.startswith(name) for each in row.functions)
        return [row for row in self.rows if all(has(row, name) for name in names)]

    def at(self, *names):
        found = self.all_at(*names)
        if len(found) != 1:
            raise Failed(f"{len(found)} rows with {' and '.join(names)} in them, not one: "
                         f"{found or self.rows[:8]}")
        return found[0]

    def sums(self, *names):
        """(count, bytes) over the rows at these functions."""
        found = self.all_at(*names)
        return sum(row.count for row in found), sum(row.bytes for row in found)


class Channel:
    """Commands to a puppet and its answers."""

    def __init__(self, read, write, test, pid, who):
        self.read, self.write, self.rest = read, write, b""
        self.test, self.pid, self.who = test, pid, who

    def send(self, command):
        os.write(self.write, command.encode() + b"\n")

    def answer(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.read], [], [], left)[0]:
                raise Failed(f"{self.who()}: no answer within {seconds} s")
            data = os.read(self.read, 65536)
            if not data:
                raise Failed(f"{self.who()}: ended instead of answering")
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def ask(self, command):
        self.send(command)
        return self.answer()

    def number(self, command):
        """The number at the end of the answer."""
        return int(self.ask(command).split()[-1])

    def fork(self):
        """A child of the puppet that takes commands too."""
        base = self.test.folder / f"fork-{time.monotonic_ns()}"
        paths = [Path(f"{base}-{end}") for end in ("in", "out")]
        ends = []
        for path in paths:
            os.mkfifo(path)
            ends.append(os.open(path, os.O_RDWR))
        pid = int(self.ask(f"fork {paths[0]} {paths[1]}").split()[-1])
        child = Channel(ends[1], ends[0], self.test, pid, lambda: f"child {pid} of {self.pid}")
        self.test.descriptors += ends
        child.answer()
        return child


class Program(Channel):
    """A program under the preload, with pipes to talk through."""

    def __init__(self, test, command, variables, preload, **more):
        environment = clean_environment()
        environment["MEMCTL_DIR"] = str(test.regions)
        if preload:
            environment["LD_PRELOAD"] = str(test.lib)
        environment.update(variables)
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, env={k: v for k, v in environment.items() if v is not None},
            start_new_session=True, bufsize=0, **more)
        self.name = Path(command[0]).name
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno(), test,
                         self.process.pid, self.describe)
        test.programs.append(self)

    def describe(self):
        status = self.process.poll()
        state = "running" if status is None else f"status {status}"
        return f"{self.name} ({state}) {self.stderr().strip()[-300:]}"

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        """SIGSTOP, and waits until the kernel says that every thread has stopped: each stops where it
        next leaves the kernel, and the process counts as stopped from its first thread on."""
        self.signal(signal.SIGSTOP)
        self.test.until(lambda: thread_states(self.pid) <= set("TZX"), "the program stops")

    def wait(self, seconds=PATIENCE):
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {seconds} s") from None

    def kill(self):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        return self.wait()

    def finish(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()


def stat_field(pid, index):
    """A field of /proc/PID/stat behind the name; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[index]
    except (OSError, IndexError):
        return ""


def thread_states(pid):
    """The states of the threads of a process, as letters of /proc/PID/task/TID/stat."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {stat_field(f"{pid}/task/{thread.name}", 0) for thread in threads} - {""}


class Region:
    """Fields of a region file that no command prints."""

    FIELDS = {"armed": (0, "<B"), "commands": (16, "<Q"), "magic": (64, "<Q"), "pid": (80, "<I"),
              "sample": (32, "<I"), "deepen": (36, "<I"), "commands_seen": (136, "<Q"), "epoch": (144, "<Q"), "overflow_stacks": (152, "<Q"),
              "traced_since_ns": (192, "<Q"), "executable": (536, "<1024s")}

    AREAS, COUNTERS = 216, 4

    def __init__(self, path):
        self.path = Path(path)

    def __getattr__(self, name):
        offset, form = self.FIELDS[name]
        with open(self.path, "rb") as file:
            return struct.unpack(form, os.pread(file.fileno(), struct.calcsize(form), offset))[0]


    def shard_allocs(self, shard):
        """Allocations of a shard, over its first thousand stacks, but for turns."""
        with open(self.path, "rb") as file:
            offset, size, capacity, _ = struct.unpack(
                "<4Q", os.pread(file.fileno(), 32, self.AREAS + 32 * self.COUNTERS))
            row, allocs = (size // 2, "<I") if shard else (size, "<Q")
            rows = os.pread(file.fileno(), 1000 * row, offset + shard * capacity * size) \
                if offset else b""
        return sum(struct.unpack_from(allocs, rows, at)[0] for at in range(0, len(rows), row or 1))


class Test:
    """One test: its folders, its programs, and the tool as it sees them."""

    def __init__(self, name, options, builder, base):
        self.name, self.memctl_path, self.lib = name, options.memctl, options.lib
        self.long, self.build = options.long, builder
        self.folder = Path(tempfile.mkdtemp(prefix=name + "-", dir=base))
        self.regions = Path(tempfile.mkdtemp(prefix=name + "-", dir=options.regions))
        self.programs, self.descriptors, self.undo = [], [], []
        self.remarks = []

    def rounds(self, few, many):
        """How often to repeat what chance decides."""
        return many if self.long else few

    # --- programs

    def build_outside(self, name):
        """A fixture where a process without our /dev/shm finds it too; gone after the test. Not in
        $TMPDIR, which may be private, or have spaces in its name."""
        folder = Path(tempfile.mkdtemp(prefix="memctl-rows-", dir="/tmp"))
        self.undo.append(lambda: shutil.rmtree(folder))
        return shutil.copy2(self.build.c(name), folder)

    @staticmethod
    def source(name):
        return PROGRAMS / name

    def start(self, *command, preload=True, variables=None, **more):
        return Program(self, command, variables or {}, preload, **more)

    def puppet(self, path=None, **more):
        program = self.start(path or self.build.c("puppet"), **more)
        program.answer()
        return program

    def run(self, *command, variables=None, preload=True, seconds=PATIENCE):
        """Runs a program to its end under the preload; fails unless it succeeds."""
        program = self.start(*command, preload=preload, variables=variables)
        program.process.stdin.close()
        program.process.stdin = open(os.devnull, "wb")
        output = b""
        while data := os.read(program.read, 65536):
            output += data
        status = program.wait(seconds)
        if status:
            raise Failed(f"{command[0]}: status {status}: {program.stderr().strip()[-500:]}")
        return output.decode()

    def finish(self):
        for program in reversed(self.programs):
            program.finish()
        for descriptor in self.descriptors:
            os.close(descriptor)
        for action in reversed(self.undo):
            action()
        for folder in (self.regions, self.folder):
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)

    # --- the tool

    def memctl(self, *words, status=0, variables=None, prefix=(), seconds=PATIENCE):
        """Runs the tool; fails unless it ends with this status. Returns (stdout, stderr)."""
        environment = clean_environment()
        environment["MEMCTL_DIR"] = str(self.regions)
        environment["MEMCTL_LIBRARY"] = str(self.lib)
        environment["DEBUGINFOD_URLS"] = ""
        environment.update(variables or {})
        command = [str(word) for word in (*prefix, self.memctl_path, *words)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds,
                env={k: v for k, v in environment.items() if v is not None},
                stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise Failed(f"memctl {' '.join(map(str, words))}: not done in {seconds} s") from None
        if done.returncode != status:
            raise Failed(f"memctl {' '.join(map(str, words))}: status {done.returncode}, not "
                         f"{status}: {(done.stderr or done.stdout).strip()[-400:]}")
        return done.stdout, done.stderr

    @staticmethod
    def target(program):
        return ["--file", program] if isinstance(program, (str, Path)) else ["-p", program.pid]

    def on(self, program, *more):
        return self.memctl("trace", "on", *self.target(program), *more)[0]

    def off(self, program):
        return self.memctl("trace", "off", *self.target(program))[0]

    def trace(self, program, *more, **options):
        text = self.memctl("show", "trace", *self.target(program), "--all", "--format", "json",
                           *more, **options)[0]
        data = json.loads(text)
        # Of a hundred thousand rows the first thousand are enough.
        part = dict(data, rows=data["rows"][:1000])
        self.equal(schema.check(part, "trace")[:3], [], "show trace is not as documented")
        return Table(data)

    def text(self, program, *more, **options):
        return self.memctl("show", "trace", *self.target(program), *more, **options)[0]

    def memory(self, program):
        return json.loads(
            self.memctl("show", "memory", *self.target(program), "--format", "json")[0])

    def list(self, **options):
        return json.loads(self.memctl("list", "--format", "json", **options)[0])

    def region(self, program):
        return Region(self.regions / str(program.pid))

    # --- checks

    def check(self, condition, what):
        if not condition:
            raise Failed(what)

    def equal(self, found, wanted, what):
        if found != wanted:
            raise Failed(f"{what}: {found!r}, not {wanted!r}")

    def has(self, text, part, what="output"):
        if part not in text:
            raise Failed(f"{what} lacks {part!r}: {text.strip()[-400:]!r}")

    def site(self, table, names, count, size):
        """Exactly one row at these functions, with so many objects of that size."""
        names = [names] if isinstance(names, str) else names
        found = table.at(*names)
        self.equal((found.count, found.bytes), (count, count * size), " ".join(names))
        self.check(found.usable >= found.bytes, f"{names}: usable {found.usable} < {found.bytes}")
        return found

    def adds_up(self, table):
        """traced live + untraced live = used, and rows = total."""
        totals = table.totals
        self.equal(totals["used_unknown"], None, "why used is unknown")
        self.equal(totals["traced_usable"] + totals["untraced_usable"], totals["used_usable"],
                   "traced + untraced bytes")
        self.equal(totals["traced_count"] + totals["untraced_count"], totals["used_count"],
                   "traced + untraced count")
        # Parts are in the rows that they are parts of; mappings are not the heap's.
        rows = [row for row in table.rows
                if row.data["part_of"] is None and row.data["kind"] == "heap"]
        self.equal(sum(row.bytes for row in rows), totals["traced_bytes"], "bytes of rows")
        self.equal(sum(row.count for row in rows), totals["traced_count"], "count of rows")
        for each in table.rows:
            self.equal(each.allocs - each.frees, each.count, f"alloc - free of {each}")

    def until(self, condition, what, seconds=PATIENCE):
        """Waits for something that gives no sign when it happens."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise Failed(f"waited {seconds} s in vain: {what}")
            time.sleep(0.005)
        return value

    def remark(self, text):
        """A figure that is measured; printed on stderr."""
        self.remarks.append(text)

    def need(self, condition, why):
        if not condition:
            raise Skip(why)
