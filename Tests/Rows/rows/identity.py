# SPDX-License-Identifier: MIT
"""Which program a region is of: what it was started by, and what the kernel calls it."""

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
    """A program started by a link has the kernel's name while it lives, and afterwards if it was
    traced; else the name it was started by."""
    program, link, real = by_link(t)
    t.equal(names(t), [("puppet", real, "alive")], "alive, never traced")
    program.kill()
    t.equal(left_by(t, program), link, "dead, never traced")
    Path(link).unlink()
    program, link, real = by_link(t)
    t.on(program)
    program.ask("alloc a 40 100")
    program.kill()
    t.equal(names(t), [("puppet", real, "dead")], "dead, once traced")
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
