# SPDX-License-Identifier: MIT
"""Programs that restrict their own system calls: what can still be traced is, and nobody is killed."""

from harness import row


def restricted(t, kind, before=()):
    program = t.puppet()
    for command in before:
        t.equal(program.ask(command), "done", command)
    found = program.ask(f"seccomp {kind}")
    t.need(found != "result 22", "this kernel has no seccomp filters")
    t.equal(found, "result 0", f"seccomp {kind}")
    return program


def use_heap(t, program):
    for command in ("alloc h 2000 300", "alloc h 40 100000", "alloc h 3 40000000", "touch h 1",
                    "realloc h 100 5000", "every h", "alloc h 5 3000000", "free h 5000"):
        t.equal(program.ask(command), "done", command)


@row("X1_seccomp_least_untraced")
def least_untraced(t):
    """Killed for anything but read, write, exit, mmap, munmap and futex: the program goes on, also
    when somebody tries to trace it, and what could not be recorded is said."""
    program = restricted(t, "least", before=["alloc a 100 64"])
    use_heap(t, program)
    t.on(program)
    use_heap(t, program)
    t.equal(program.ask("alloc b 50 64"), "done", "a program that is to be traced and can't be")
    table = t.trace(program)
    t.equal(table.rows, [], "rows")
    t.adds_up(table)
    missed = table.data["not_recorded"]["untagged_allocs"]
    t.check(missed >= 50, f"{missed} allocations are said to be untraced, there were more than 50")
    t.has(t.text(program), "untraced")
    t.off(program)
    use_heap(t, program)
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")
    t.list()
    t.equal(list(t.regions.iterdir()), [], "regions, once memctl has looked")


@row("X1_seccomp_least_traced")
def least_traced(t):
    """Traced when it restricts itself: known backtraces are counted on exactly, new ones have the
    row of those that found no room."""
    program = t.puppet()
    t.on(program)
    for command in ("alloc a 100 64", "many b 200 48"):
        t.equal(program.ask(command), "done", command)
    t.equal(program.ask("seccomp least"), "result 0", "seccomp")
    t.equal(program.ask("alloc a 50 64"), "done", "a known backtrace")
    t.site(t.trace(program), "site_a", 150, 64)
    t.equal(program.ask("many c 30000 48"), "done", "new backtraces")
    table = t.trace(program)
    t.adds_up(table)
    t.equal(table.totals["traced_count"], 150 + 200 + 30000, "traced")
    lost = [each for each in table.rows if each.data["overflow"]]
    t.equal(len(lost), 1, "rows for what has none of its own")
    t.check(table.data["not_recorded"]["overflow_stacks"] > 0, "nothing is said to have no row")
    for command in ("free a 150", "free b 200", "free c 30000"):
        program.ask(command)
    table = t.trace(program)
    t.equal(table.totals["traced_count"], 0, "traced when all is freed")
    t.adds_up(table)
    use_heap(t, program)
    t.off(program)
    program.ask("churn 0")
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")


@row("X1_seccomp_usual")
def usual(t):
    """Killed for anything but what heaps and files usually take: traced as any other program."""
    program = restricted(t, "usual", before=["alloc a 100 64"])
    use_heap(t, program)
    t.on(program)
    for command in ("alloc b 50 64", "many c 3000 48"):
        t.equal(program.ask(command), "done", command)
    table = t.trace(program)
    t.site(table, "site_b", 50, 64)
    t.equal(table.totals["traced_count"], 3050, "traced")
    t.equal(table.data["not_recorded"]["overflow_stacks"], 0, "backtraces without a row")
    t.adds_up(table)
    use_heap(t, program)
    t.off(program)
    program.send("exit 0")
    t.equal((program.wait(), list(t.regions.iterdir())), (0, []), "status, and regions left")
