# SPDX-License-Identifier: MIT
"""When there is no room for tracing, the program goes on and what is missing is said."""

import os
import subprocess

from harness import row


def small_memory(t, size):
    """A tmpfs of that size for regions."""
    t.need(os.geteuid() == 0, "mounting takes root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none",
                           str(t.regions)], capture_output=True, text=True)
    t.need(done.returncode == 0, f"mount: {done.stderr.strip()}")
    t.undo.append(lambda: subprocess.run(["umount", "-l", str(t.regions)], check=True))


def overflows(t, program, count):
    """More stacks than there is room for: sums are exact, and it is said how many have no row."""
    t.on(program)
    program.ask(f"many a {count} 48")
    table = t.trace(program)
    t.equal((table.totals["traced_count"], table.totals["traced_bytes"]), (count, count * 48),
            "sums of a full table")
    t.adds_up(table)
    lost = [each for each in table.rows if each.data["overflow"]]
    t.equal(len(lost), 1, "rows for what has none of its own")
    t.check(0 < lost[0].count < count, f"{lost[0].count} of {count} have no row of their own")
    missing = table.data["not_recorded"]["overflow_stacks"]
    t.check(missing >= lost[0].count, f"{missing} overflows, {lost[0].count} objects without a row")
    t.has(t.text(program), "found the table full")
    program.ask(f"free a {count}")
    table = t.trace(program)
    t.equal(table.totals["traced_count"], 0, "traced when all is freed")
    t.adds_up(table)
    program.ask("alloc b 50 64")
    t.equal(t.trace(program).totals["traced_count"], 50, "what comes after")
    program.ask("churn 8")
    for _ in range(5):
        t.trace(program)
    program.ask("calm")
    program.ask("cross 16 1000")
    table = t.trace(program)
    left = table.totals["traced_count"]  # libc keeps a few ended threads' stacks, and their TLS
    t.check(50 <= left <= 50 + 16, f"{left} live after eight and sixteen threads, not 50")
    t.adds_up(table)
    return lost[0].count


@row("X1_full_memory")
def full_memory(t):
    """/dev/shm is full: never SIGBUS."""
    small_memory(t, "400k")
    program = t.puppet()
    lost = overflows(t, program, 60000)
    before = t.trace(program).totals["traced_count"]
    t.remark(f"of 60,000 stacks {lost} found no room in 400 KiB")
    child = program.fork()
    t.equal(child.ask("alloc c 100 64"), "done", "a child without room for a region")
    t.equal(child.ask("free b 50"), "done", "its frees of what the parent traced")
    t.equal(t.trace(program).totals["traced_count"], before, "the parent's rows")
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")


@row("X1_no_room_at_all")
def no_room_at_all(t):
    """Room for the control page only, and not even for that."""
    for size in ("8k", "4k"):
        small_memory(t, size)
        if size == "4k":
            (t.regions / "filler").write_bytes(b"x" * 4096)
        program = t.puppet(variables={"MEMCTL_TRACE": "on"})
        for command in ("alloc a 1000 100", "many b 3000 48", "free a 1000", "churn 4", "calm"):
            t.equal(program.ask(command), "done", f"{size}: {command}")
        child = program.fork()
        t.equal(child.ask("alloc a 10 100"), "done", f"{size}: a child")
        child.send("exit 0")
        program.ask("reap")
        if size == "8k":
            table = t.trace(program)
            t.adds_up(table)
            missed = table.data["not_recorded"]["untagged_allocs"]
            t.check(missed + table.totals["traced_count"] >= 4000,
                    f"{missed} of more than 4000 allocations are said to be untraced")
        program.send("exit 0")
        t.equal(program.wait(), 0, f"{size}: status")


@row("X1_trace_max")
def trace_max(t):
    program = t.puppet(variables={"MEMCTL_TRACE_MAX": "1M"})
    overflows(t, program, 60000)
    size = t.region(program).path.stat().st_size
    t.check(size <= 1 << 20, f"the region has {size} bytes, more than MEMCTL_TRACE_MAX")


@row("X1_no_region_possible")
def no_region_possible(t):
    """Folders that are missing, files, or not writable: a heap, and nothing said."""
    nowhere = t.folder / "file"
    nowhere.write_text("")
    for folder in (t.folder / "missing" / "deep", nowhere, "/proc/self", "relative\x01"):
        program = t.puppet(variables={"MEMCTL_DIR": str(folder), "MEMCTL_TRACE": "on"})
        program.ask("alloc a 100 64")
        program.ask("free a 100")
        _, errors = t.memctl("trace", "on", "-p", program.pid, status=1)
        t.has(errors, "does not use the memctl heap")
        program.send("exit 0")
        t.equal((program.wait(), program.stderr()), (0, ""), f"{folder}: status and stderr")
    verbose = t.puppet(variables={"MEMCTL_DIR": str(nowhere), "MEMCTL_VERBOSE": "1"})
    t.has(verbose.stderr(), "can't be traced")


@row("X1_file_size_limit")
def file_size_limit(t):
    """RLIMIT_FSIZE would end the program by SIGXFSZ, were the region to pass it."""
    for limit in (0, 4096, 100_000):
        program = t.start("prlimit", f"--fsize={limit}", "env", f"LD_PRELOAD={t.lib}",
                          "MEMCTL_TRACE=on", t.build.c("puppet"), preload=False)
        program.answer()
        t.equal(program.ask("many a 3000 64"), "done", f"limit {limit}")
        program.send("exit 0")
        t.equal(program.wait(), 0, f"limit {limit}: status")


@row("X1_small_stacks")
def small_stacks(t):
    """Tracing in threads with the smallest stack there is."""
    t.run(t.build.c("small_stacks"), variables={"MEMCTL_TRACE": "on", "MEMCTL_DEPTH": "256"})
