# SPDX-License-Identifier: MIT
"""Processes as /proc tells of them: who descends from whom, what it was started as, what it does.

Everything here may be asked of a process that is gone meanwhile, and says so instead of failing.
"""

import ctypes
import os
import subprocess
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


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
