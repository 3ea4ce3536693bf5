# SPDX-License-Identifier: MIT
"""Forked children: each process has its own numbers, and each can be traced."""

import os
import time

from harness import row


@row("E7_fork_both_traced")
def fork_both_traced(t):
    """The child's table begins with what lives in it, and the two go apart from there."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 100 64")
    program.ask("alloc b 10 5000")
    child = program.fork()
    child.ask("alloc c 50 64")
    child.ask("free a 30")
    program.ask("alloc d 7 64")
    program.ask("free a 20")
    ours, theirs = t.trace(program), t.trace(child)
    t.site(ours, "site_a", 80, 64)
    t.site(theirs, "site_a", 70, 64)
    for table in (ours, theirs):
        t.site(table, "site_b", 10, 5000)
        t.adds_up(table)
    t.equal((ours.all_at("site_c"), theirs.all_at("site_d")), ([], []), "the other's rows")
    t.site(theirs, "site_c", 50, 64)
    t.site(ours, "site_d", 7, 64)
    grandchild = child.fork()
    grandchild.ask("free c 50")
    grandchild.ask("alloc e 5 64")
    t.site(t.trace(grandchild), "site_e", 5, 64)
    t.site(t.trace(grandchild), "site_a", 70, 64)
    t.equal(t.trace(grandchild).sums("site_c"), (0, 0), "freed in the grandchild")
    t.site(t.trace(child), "site_c", 50, 64)
    t.equal(sorted(each["pid"] for each in t.list()),
            sorted([program.pid, child.pid, grandchild.pid]), "list")
    for each in (grandchild, child):
        each.send("exit 0")
    program.ask("reap")
    t.until(lambda: not os.path.exists(f"/proc/{grandchild.pid}")
            or [e["pid"] for e in t.list()] == [program.pid], "children are gone")
    t.until(lambda: [path.name for path in t.regions.iterdir()] == [str(program.pid)],
            "regions of children that ended go, the parent's stays")
    t.site(t.trace(program), "site_a", 80, 64)


@row("E7_fork_while_parent_churns")
def fork_while_parent_churns(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 1000 64")
    program.ask("churn 4")
    t.until(lambda: t.trace(program).sums("churn_")[0] > 0, "the threads have begun")
    for _ in range(3):
        child = program.fork()
        child.ask("alloc b 200 64")
        table = t.trace(child)
        t.site(table, "site_a", 1000, 64)
        t.site(table, "site_b", 200, 64)
        t.adds_up(table)  # by its own live objects, though the parent goes on
        count, size = table.sums("churn_")
        t.check(0 < count <= 4 * 128 and size <= count * 70000, f"{count} objects of lost threads")
        child.ask("free a 1000")
        t.equal(t.trace(child).sums("site_a"), (0, 0), "freed in the child")
        t.site(t.trace(program), "site_a", 1000, 64)
        child.send("exit 0")
        program.ask("reap")
    program.ask("calm")
    table = t.trace(program)
    t.equal(table.sums("churn"), (0, 0), "live in the parent when all is freed")
    t.adds_up(table)


@row("E7_fork_untraced")
def fork_untraced(t):
    """A child of an untraced parent has no region until it needs one; each is traced alone."""
    program = t.puppet()
    program.ask("alloc a 10 64")
    child = program.fork()
    child.ask("alloc a 10 64")
    t.equal([path.name for path in t.regions.iterdir()], [str(program.pid)], "regions")
    child.send("thread b 25 64")  # so that it allocates while the tool may wait for it
    child.answer()
    t.on(child)
    child.ask("alloc c 30 64")
    program.ask("alloc d 40 64")
    table = t.trace(child)
    t.site(table, "site_c", 30, 64)
    t.adds_up(table)
    t.equal(t.trace(program).rows, [], "the parent is not traced")
    t.on(program)
    program.ask("alloc d 5 64")
    t.site(t.trace(program), "site_d", 5, 64)
    child.ask("alloc e 6 64")
    t.site(t.trace(child), "site_e", 6, 64)
    t.off(child)
    program.ask("alloc d 5 64")
    t.site(t.trace(program), "site_d", 10, 64)


@row("E7_children_that_share")
def children_that_share(t):
    """They are listed, say whose region they share, and commands given before they next allocate
    hold: the last one counts."""
    program = t.puppet()
    program.ask("alloc a 10 64")
    children = [program.fork() for _ in range(3)]
    for child in children:
        child.ask("alloc a 1 64")
    shares = {each["pid"]: each["shares"] for each in t.list()}
    t.equal(shares, {program.pid: None} | {child.pid: program.pid for child in children}, "list")
    t.has(t.memctl("list")[0], f"shares {program.pid}'s region")
    t.equal(int(t.memctl("show", "total", "-p", children[0].pid)[0]), 11 * 64, "its own heap")
    first, second, third = children
    for child in (first, second):  # one after the other, each alone
        t.on(child)
        child.ask("alloc b 5 64")
    program.ask("alloc b 5 64")
    third.ask("alloc b 5 64")
    for child in (first, second):
        t.site(t.trace(child), "site_b", 5, 64)
    for each in (program, third):
        t.equal(t.trace(each).rows, [], "rows of those that were not meant")
    t.on(third)
    t.off(third)
    third.ask("alloc c 5 64")
    t.equal(t.trace(third).rows, [], "rows of one that was turned on and off before it allocated")
    t.equal(t.region(program).armed, 0, "the parent's page")
    t.on(third)
    t.on(program)
    third.ask("alloc d 5 64")
    program.ask("alloc d 6 64")
    t.site(t.trace(third), "site_d", 5, 64)
    t.site(t.trace(program), "site_d", 6, 64)


@row("E7_child_of_a_traced_parent")
def child_of_a_traced_parent(t):
    """trace on for a child that still shares its page leaves the traced parent alone; off is
    refused until the child has a page of its own."""
    program = t.puppet()
    program.ask("alloc a 10 64")
    child, other = program.fork(), program.fork()
    t.on(program)
    program.ask("alloc b 1 64")
    t.on(child)
    program.ask("alloc b 1 64")
    child.ask("alloc c 5 64")
    program.ask("alloc b 1 64")
    t.site(t.trace(program), "site_b", 3, 64)
    t.site(t.trace(child), "site_c", 5, 64)
    _, errors = t.memctl("trace", "off", "-p", other.pid, status=1)
    t.has(errors, f"shares the region of process {program.pid}, which is traced")
    other.ask("alloc c 1 64")
    t.off(other)
    other.ask("alloc c 1 64")
    t.site(t.trace(other), "site_c", 1, 64)
    program.ask("alloc b 1 64")
    t.site(t.trace(program), "site_b", 4, 64)
    t.adds_up(t.trace(program))


@row("E7_child_outlives_its_parent")
def child_outlives_its_parent(t):
    """A child that shares the region of a parent that has ended can still be traced."""
    t.need(os.geteuid() == 0, "a region without a name is reached by root alone")
    for ending in ("exit", "kill"):
        program = t.puppet()
        program.ask("alloc a 10 64")
        child = program.fork()
        child.ask("alloc a 10 64")
        if ending == "exit":
            program.send("exit 0")
            program.wait()
        else:
            program.kill()
        t.memctl("list")
        t.on(child)
        child.ask("alloc b 30 64")
        table = t.trace(child)
        t.site(table, "site_b", 30, 64)
        t.adds_up(table)
        t.check(child.pid in [each["pid"] for each in t.list()], f"{ending}: not in the list")
        child.send("exit 0")
        t.until(lambda: str(child.pid) not in os.listdir(t.regions), "its region goes with it")


@row("E7_parent_on_traces_children")
def parent_on_traces_children(t):
    """trace on for a parent is for the children too that share its page."""
    program = t.puppet()
    children = [program.fork() for _ in range(3)]
    t.on(program)
    program.ask("alloc a 5 64")
    for number, child in enumerate(children):
        child.ask(f"alloc b {10 + number} 64")
    t.site(t.trace(program), "site_a", 5, 64)
    for number, child in enumerate(children):
        table = t.trace(child)
        t.site(table, "site_b", 10 + number, 64)
        t.adds_up(table)


@row("E7_fork_and_exec")
def fork_and_exec(t):
    """No region is left by children that exec or end, traced or not, and fork is not slow."""
    program = t.puppet()
    started = time.monotonic()
    for traced in (False, True):
        if traced:
            t.on(program)
            program.ask("alloc a 100 64")
        for number in range(5):
            child = program.fork()
            if number % 2:
                child.ask("alloc b 10 64")
            child.send("exec /bin/true")
            program.ask("reap")
    t.remark(f"ten forks, execs and ends: {time.monotonic() - started:.2f} s")
    t.until(lambda: [path.name for path in t.regions.iterdir()] == [str(program.pid)],
            f"only the parent's region is there: {os.listdir(t.regions)}")
    t.site(t.trace(program), "site_a", 100, 64)
