# SPDX-License-Identifier: MIT
"""Which program a region is of: what it was started by, and what the kernel calls it."""

import sys
from pathlib import Path

from harness import row


def by_link(t):
    """A puppet that is started by another name, and where it really is."""
    link = t.folder / "other-name"
    real = t.build.c("puppet").resolve()
    link.symlink_to(real)
    return t.puppet(link), str(link), str(real)


def names(t):
    return [(each["name"], each["executable"], each["state"]) for each in t.list()]


def left_by(t, program):
    """What the region says; without a trace, list removes it."""
    return t.region(program).executable.rstrip(b"\0").decode()


@row("X1_named_by_a_link")
def named_by_a_link(t):
    """A program started by a link has the link's name, as ps shows it, and commands find it by that. Where it
    really is, is said while it lives, and afterwards if it was traced."""
    program, link, real = by_link(t)
    t.equal(names(t), [("other-name", real, "alive")], "alive, never traced")
    t.need(t.memctl("show", "total", "-p", "other-name")[0].strip().isdigit(), "by that name")
    program.kill()
    t.equal(left_by(t, program), link, "dead, never traced")
    Path(link).unlink()
    program, link, real = by_link(t)
    t.on(program)
    program.ask("alloc a 40 100")
    program.kill()
    t.equal(names(t), [("other-name", real, "dead")], "dead, once traced")
    t.equal(t.trace(program).at("site_a").count, 40, "its trace")


@row("X1_named_before_a_sandbox")
def named_before_a_sandbox(t):
    """Who forbids itself to look is named before that."""
    program, _, real = by_link(t)
    found = program.ask("seccomp least")
    t.need(found != "result 22", "this kernel has no seccomp filters")
    t.equal(found, "result 0", "seccomp")
    program.kill()
    t.equal(left_by(t, program), real, "dead, never traced")


@row("X1_named_by_a_descriptor")
def named_by_a_descriptor(t):
    """Of a program that fexecve(3) starts the path is a descriptor's: it has the file's name."""
    real = t.build.c("puppet").resolve()
    code = ("import os, sys\n"
            "os.execve(os.open(sys.argv[1], os.O_RDONLY), ['puppet'], os.environ)")
    program = t.start(sys.executable, "-c", code, real)
    program.answer()
    t.equal(names(t), [("puppet", str(real), "alive")], "alive")
    program.kill()
