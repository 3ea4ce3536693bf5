# SPDX-License-Identifier: MIT
"""Who switches tracing while a program runs; see docs/real-programs.md, "toggle"."""

import threading
import time
from pathlib import Path

from harness import Hang
from processes import command_line, process_stat


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
