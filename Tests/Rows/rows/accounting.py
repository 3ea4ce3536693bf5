# SPDX-License-Identifier: MIT
"""What rows tell beyond what lives: lifetimes, waste, age, thread, parts; samples and mappings."""

import json
import re
import time
from pathlib import Path

from harness import row

PAGE = 4096


def mapper(t, *options):
    program = t.start(t.build.c("mapper"))
    program.answer()
    if options:
        t.on(program, *options)
    return program


def mapped(table, *names):
    """(count, bytes) of the rows of mappings at these functions."""
    found = [each for each in table.all_at(*names) if each.data["kind"] == "mmap"]
    return sum(each.count for each in found), sum(each.bytes for each in found)


# --- lifetimes and waste ---------------------------------------------------------------------


@row("X3_lifetimes")
def lifetimes(t):
    program = t.puppet()
    t.on(program)
    program.ask("pairs a 5000 100")
    program.ask("alloc b 40 100")
    time.sleep(1.2)  # at least; by the program's clock that is three quarters of a second or more
    program.ask("free b 40")
    program.ask("alloc c 10 100")
    table = t.trace(program, "--columns", "lifetimes")
    short, long, none = (table.at(f"site_{name}").data for name in "abc")
    t.equal((short["allocs"], short["frees"]), (5000, 5000), "pairs")
    t.check(4900 <= short["temporary"] <= 5000, f"{short['temporary']} of 5000 temporary")
    t.equal((long["temporary"], long["frees"]), (0, 40), "of those that lived a second")
    t.check(long["mean_lifetime_ms"] >= 750, f"mean lifetime {long['mean_lifetime_ms']} ms")
    t.equal((none["temporary"], none["mean_lifetime_ms"]), (0, None), "of those never freed")
    text = t.text(program, "--columns", "lifetimes")
    lines = text.splitlines()
    header = next(line for line in lines if "Lifetime" in line)
    t.equal(header.split(),
            ["Bytes", "Alloc", "Free", "Lifetime", "Temporary", "Share", "Traceback"], "columns")
    t.check(text.index("site_a") < text.index("site_b"), "most temporary ones are not first")
    t.check(max(map(len, lines)) <= 80, "a line is wider than 80 columns")
    t.check(re.search(r" 0 +40 +40 +\d+(\.\d+)? s +0 +0%", text), f"row of site_b: {text[:900]}")


@row("X2_waste")
def waste(t):
    """Slack is what slots hold beyond what was asked for; pinned, what keeps their spans."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 1000 520")
    program.ask("alloc b 1000 16")
    program.ask("alloc c 20000 64")
    program.ask("free c 19000")
    table = t.trace(program, "--columns", "waste")
    usable = program.number("usable a")
    wasteful, neat, sparse = (table.at(f"site_{name}").data for name in "abc")
    t.equal(wasteful["waste"], 1000 * (usable - 520), "slack of 1000")
    t.equal(neat["waste"], 0, "slack where slots fit")
    t.check(sparse["pinned"] is not None, "nothing is said to be pinned")
    t.equal(table.rows[0].functions[0], "site_a", "the most wasteful row is not first")
    text = t.text(program, "--columns", "waste")
    header = next(line for line in text.splitlines() if "Pinned" in line)
    t.equal(header.split(),
            ["Bytes", "Usable", "Waste", "Share", "Pinned", "Count", "Traceback"], "columns")
    t.check(max(map(len, text.splitlines())) <= 80, "a line is wider than 80 columns")


@row("X2_pinned")
def pinned(t):
    """Every second object of full spans is left: the free ones are what they pin."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 80000 64")
    program.ask("every a")
    table = t.trace(program, "--columns", "waste")
    found = table.at("site_a")
    t.equal(found.count, 40000, "every second one is left")
    free = 40000 * 64
    t.check(0.9 * free < found.data["pinned"] < 1.3 * free,
            f"{found.data['pinned']} bytes pinned, about {free} are free around them")


@row("X3_sort")
def sort(t):
    program = t.puppet()
    t.on(program)
    program.ask("pairs a 300 16")
    program.ask("alloc a 1 16")
    program.ask("alloc b 100 20")
    program.ask("alloc c 3 5000")
    program.ask("alloc d 50 530")
    firsts = {}
    for order in ("bytes", "count", "allocs", "temporary", "waste"):
        firsts[order] = t.trace(program, "--sort", order).rows[0].functions[0]
    t.equal(firsts, {"bytes": "site_d", "count": "site_b", "allocs": "site_a",
                     "temporary": "site_a", "waste": "site_d"}, "first row by each order")


@row("X3_age")
def age(t):
    """Objects made four seconds apart are told apart by their age."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 30 100")
    first_made = time.monotonic()
    time.sleep(4)
    second_begun = time.monotonic()
    program.ask("alloc b 20 100")
    while True:
        # Younger than the first, older than the second: if the tool was quick enough.
        limit = time.monotonic() - first_made - 1
        milliseconds = int(limit * 1000)
        older = t.trace(program, "--older-than", f"{milliseconds}ms")
        younger = t.trace(program, "--younger-than", f"{milliseconds}ms")
        if time.monotonic() - second_begun < limit - 0.3:
            break
    t.equal((older.sums("site_a"), older.sums("site_b")), ((30, 3000), (0, 0)), "older")
    t.equal((younger.sums("site_a"), younger.sums("site_b")), ((0, 0), (20, 2000)), "younger")
    t.equal(older.totals["traced_count"], 30, "total of the older")
    text = t.text(program, "--older-than", "1s", "--younger-than", "1h")
    t.has(text, "live, older than 1 s, younger than 3600 s: ")
    program.kill()
    _, error = t.memctl("show", "trace", "-p", program.pid, "--older-than", "1s", status=1)
    t.has(error, "has ended, and the age and thread")


@row("X3_thread")
def thread(t):
    program = mapper(t, "--depth", "16")
    program.ask("crowd 3 1000")
    threads = [int(each.name) for each in Path(f"/proc/{program.pid}/task").iterdir()]
    t.equal(len(threads), 4, "threads")
    counts = {tid: t.trace(program, "--thread", str(tid)).sums("stand_in_crowd")
              for tid in threads}
    t.equal(sorted(counts.values()), [(0, 0), (1, 1000), (1, 1000), (1, 1000)], "by thread")
    t.equal(counts[program.pid], (0, 0), "of the first thread")
    t.equal(t.trace(program, "--thread", "1").totals["traced_count"], 0, "of no thread")
    t.equal(t.memctl("show", "trace", "-p", program.pid, "--thread", "1")[1],
            f"memctl: thread 1 has nothing of the heap — `memctl show threads -p {program.pid}` "
            "lists those that have\n", "of no thread")
    t.equal(t.memctl("show", "trace", "-p", program.pid, "--thread", program.pid)[1], "",
            "of a thread that has nothing traced")


# --- parts -----------------------------------------------------------------------------------


@row("E3_deepen")
def deepen(t):
    program = t.puppet()
    t.on(program, "--depth", "1")
    program.ask("deep a 2 100")
    program.ask("deep a 3 100")
    program.ask("alloc b 5 100")
    table = t.trace(program)
    whole = t.site(table, "descend", 2, 100)
    t.equal(len(whole.frames), 1, "frames at depth 1")
    identity = whole.data["stack"]
    t.check(re.search(rf"^ +{identity} +200 ", t.text(program, "--ids"), re.M), "--ids")
    t.has(t.memctl("trace", "deepen", "-p", program.pid, identity)[0], f": {identity}")
    for depth, count in ((2, 7), (3, 4), (5, 1)):
        for _ in range(count):
            program.ask(f"deep a {depth} 100")
    program.ask("alloc b 5 100")
    table = t.trace(program)
    rows = table.all_at("descend")
    wholes = [each for each in rows if each.data["part_of"] is None]
    parts = [each for each in rows if each.data["part_of"] == identity]
    t.equal((len(wholes), len(parts)), (1, 3), "wholes and parts")
    t.equal((wholes[0].count, wholes[0].bytes), (14, 1400), "the sum")
    t.equal([(each.count, each.functions.count("descend")) for each in parts],
            [(7, 2), (4, 3), (1, 5)], "parts, largest first, by their depth")
    t.check(all("main" in each.functions for each in parts), "parts do not reach main")
    t.check(wholes[0].data["deepened"], "the row is not said to be deepened")
    t.site(table, "site_b", 10, 100)
    t.equal(table.totals["traced_count"], 24, "the total counts nothing twice")
    t.equal(table.totals["traced_bytes"], 2400, "bytes of the total")
    t.adds_up(table)
    text = t.text(program, "--ids")
    t.has(text, f"part of {identity}")
    t.has(text, "2 stacks\n")
    t.memctl("trace", "undeepen", "-p", program.pid, identity)
    program.ask("deep a 2 100")
    program.ask("free a 15")
    table = t.trace(program, "--cumulative")
    whole = next(each for each in table.all_at("descend") if each.data["part_of"] is None)
    t.equal((whole.allocs, whole.frees, whole.bytes, whole.data["deepened"]), (15, 15, 0, False),
            "after undeepen and free")
    t.equal(t.region(program).deepen, 0, "the process goes on looking for deepened rows")


@row("E3_leakers")
def leakers(t):
    program = t.puppet()
    t.on(program, "--depth", "1")
    program.ask("alloc a 100 1000")   # all of it stays
    program.ask("alloc b 100 1000")   # a tenth of it stays
    program.ask("free b 90")
    program.ask("alloc c 1 16")       # stays, but is nothing
    out = t.memctl("trace", "deepen", "-p", program.pid, "--leakers")[0]
    table = t.trace(program)
    deepened = [each.functions[0] for each in table.rows if each.data["deepened"]]
    t.equal(deepened, ["site_a"], f"deepened rows; {out}")
    program.ask("alloc a 50 1000")
    table = t.trace(program)
    part = [each for each in table.rows if each.data["part_of"] is not None]
    t.equal([(each.count, each.functions[0]) for each in part], [(50, "site_a")], "the part")
    out = t.memctl("trace", "undeepen", "-p", program.pid, "--all")[0]
    t.has(out, "1 row\n")


@row("E3_wrong_ids")
def wrong_ids(t):
    program = t.puppet()
    t.on(program, "--depth", "2")
    program.ask("alloc a 1 16")
    program.ask("deep b 1 16")
    _, error = t.memctl("trace", "deepen", "-p", program.pid, "4000", status=1)
    t.has(error, "there is no row 4000")
    t.on(program, "--depth", "200")
    program.ask("alloc c 1 16")
    whole = t.trace(program).at("site_c").data["stack"]
    _, error = t.memctl("trace", "deepen", "-p", program.pid, whole, status=1)
    t.has(error, "has all its frames already")
    t.memctl("trace", "deepen", "-p", program.pid, status=64)


# --- sampling --------------------------------------------------------------------------------


def within(t, found, wanted, error, what):
    """Six standard errors, of which an honest one is exceeded once in half a billion times."""
    t.check(abs(found - wanted) <= 6 * error, f"{what}: {found} ± {error}, not {wanted}")


@row("X6_sampled")
def sampled(t):
    program = t.puppet()
    t.has(t.on(program, "--sample", "4K"), "one allocation per 4K bytes")
    program.ask("alloc a 400000 100")
    program.ask("alloc b 30 1000000")
    program.ask("alloc c 20000 3000")
    table = t.trace(program)
    for name, count, size in (("a", 400000, 100), ("b", 30, 1000000), ("c", 20000, 3000)):
        found = table.at(f"site_{name}")
        sure = found.data["estimate"]
        within(t, found.count, count, sure["stderr_count"] + 1, f"count of {name}")
        within(t, found.bytes, count * size, sure["stderr_bytes"] + count, f"bytes of {name}")
        t.check(0 < sure["samples"] <= count, f"{sure['samples']} samples of {name}")
    t.equal(table.at("site_b").count, 30, "large ones are all sampled")
    t.check(table.at("site_a").data["estimate"]["samples"] < 40000, "too many samples")
    text = t.text(program)
    t.check(re.search(r"^ *~\d+ +~\d+ +~?\d+ +0x[0-9a-f]+ +± \d+ bytes, ± \d+$", text, re.M),
            f"no row with an estimate: {text[:600]}")
    t.has(text, "sampled live   ~")
    t.has(text, " (standard error); ")
    for name in "abc":
        program.ask(f"free {name} 400000")
    table = t.trace(program, "--cumulative")
    for name in "abc":
        found = table.at(f"site_{name}")
        t.equal((found.count, found.bytes, found.usable), (0, 0, 0), f"{name} when all is freed")
        t.equal(found.data["estimate"]["stderr_bytes"], 0, f"error of {name}")


@row("X6_of_no_bytes")
def of_no_bytes(t):
    """Objects of no bytes count as one byte each, so that they are not missed for good."""
    program = t.puppet()
    t.on(program, "--sample", "64")
    program.ask("alloc a 100000 0")
    found = t.trace(program).at("site_a")
    within(t, found.count, 100000, found.data["estimate"]["stderr_count"], "count")
    t.equal(found.bytes, 0, "bytes")


@row("X6_from_the_start")
def from_the_start(t):
    program = t.puppet(variables={"MEMCTL_TRACE": "sampled:1K"})
    program.ask("alloc a 100000 64")
    found = t.trace(program).at("site_a")
    within(t, found.bytes, 6400000, found.data["estimate"]["stderr_bytes"], "bytes")
    program = t.puppet(variables={"MEMCTL_TRACE": "sampled"})
    t.equal(t.region(program).sample, 19, "the usual interval")
    program.ask("alloc a 3 100000000")
    t.site(t.trace(program), "site_a", 3, 100000000)


@row("X6_many_threads")
def many_threads(t):
    """Each thread has its own countdown; what threads free is counted out where it was counted in."""
    program = t.puppet()
    t.on(program, "--sample", "1K")
    program.ask("cross 16 4000")
    found = t.trace(program, "--cumulative").at("cross")
    t.equal((found.count, found.bytes), (0, 0), "when all is freed")
    # The deviation of the count of all that was made: as if none of it had been freed.
    t.check(abs(found.allocs - 64000) < 6 * 1500, f"{found.allocs} allocations, not about 64000")


@row("X6_exact_and_sampled")
def exact_and_sampled(t):
    """Exact again after sampling, and the other way: rows of both kinds keep their numbers."""
    program = t.puppet()
    t.on(program, "--sample", "64")
    program.ask("alloc a 1000 5000")  # larger than the interval by far: all are sampled
    t.on(program)
    program.ask("alloc b 700 100")
    program.ask("alloc a 3 5000")
    table = t.trace(program)
    t.site(table, "site_b", 700, 100)
    exact = [each for each in table.all_at("site_a") if each.data["estimate"] is None]
    t.equal([(each.count, each.bytes) for each in exact], [(3, 15000)], "exact row of site_a")
    t.equal(table.totals["traced_count"], 703, "exact total")
    t.on(program, "--sample", "64")
    program.ask("free b 700")
    program.ask("free a 1003")
    table = t.trace(program)
    t.equal((table.rows, table.totals["traced_count"], table.totals["sampled_count"]), ([], 0, 0),
            "when all is freed")


@row("X6_children")
def sampled_children(t):
    program = t.puppet()
    t.on(program, "--sample", "1K")
    program.ask("alloc a 20000 100")
    before = t.trace(program).at("site_a")
    child = program.fork()
    child.ask("free a 10000")
    found = t.trace(child).at("site_a")
    within(t, found.bytes, 1000000, found.data["estimate"]["stderr_bytes"], "bytes in the child")
    after = t.trace(program).at("site_a")
    t.equal((after.bytes, after.count), (before.bytes, before.count), "the parent's row")


# --- mappings --------------------------------------------------------------------------------


@row("X7_mmap")
def mmap(t):
    program = mapper(t)
    program.ask("map 3 100")
    t.on(program, "--mmap")
    program.ask("map 10 20")
    table = t.trace(program)
    t.equal(mapped(table, "site_map"), (10, 200 * PAGE), "mapped")
    t.equal(table.totals["mapped_bytes"], 200 * PAGE, "sum of mappings")
    t.equal(table.totals["traced_count"], 0, "the heap's objects")
    text = t.text(program)
    t.has(text, "\nmappings\n")
    t.has(text, f"mapped live    {200 * PAGE} bytes, 10 mappings")
    program.ask("unmap 3 100")  # those from before: in no row
    program.ask("unmap 4 20")
    t.equal(mapped(t.trace(program), "site_map"), (6, 120 * PAGE), "after munmap")
    t.off(program)
    program.ask("map 5 20")
    program.ask("unmap 2 20")
    table = t.trace(program)
    t.equal(mapped(table, "site_map"), (4, 80 * PAGE), "traced ones that went while off")
    t.on(program)  # without --mmap
    program.ask("map 5 20")
    t.equal(mapped(t.trace(program), "site_map"), (4, 80 * PAGE), "not asked for any more")
    program.ask("unmap 14 20")
    table = t.trace(program, "--cumulative")
    t.equal(mapped(table, "site_map"), (0, 0), "when all is gone")
    t.equal(table.data["not_recorded"]["missed_maps"], 0, "missed")


@row("X7_parts_of_mappings")
def parts_of_mappings(t):
    program = mapper(t, "--mmap")
    program.ask("map 2 100")
    program.ask("hole 40 20")
    t.equal(mapped(t.trace(program), "site_map"), (3, 180 * PAGE), "with a hole")
    program.ask("cover 50")
    table = t.trace(program)
    t.equal(mapped(table, "site_cover"), (1, 50 * PAGE), "mapped over")
    both = mapped(table, "site_map")
    t.equal(both, (3, 190 * PAGE), "all of them")
    program.ask("unmap 1 100")
    t.equal(mapped(t.trace(program), "site_map"), (1, 100 * PAGE), "the other one")
    program.ask("grow 1 100")
    table = t.trace(program)
    t.equal(mapped(table, "site_map"), (0, 0), "charged to its new caller")
    t.equal(mapped(table, "site_grow"), (1, 200 * PAGE), "grown")


@row("X7_children")
def children_with_mappings(t):
    program = mapper(t, "--mmap")
    program.ask("map 6 10")
    child = program.fork()
    child.ask("unmap 2 10")
    child.ask("map 1 10")
    t.equal(mapped(t.trace(child), "site_map"), (5, 50 * PAGE), "of the child")
    t.equal(mapped(t.trace(program), "site_map"), (6, 60 * PAGE), "of its parent")


@row("X7_from_the_start")
def mappings_from_the_start(t):
    script = ("import mmap, sys\n"
              "kept = [mmap.mmap(-1, 1 << 20) for _ in range(20)]\n"
              "del kept[:5]\n"
              "print('ready', flush=True)\nsys.stdin.readline()")
    program = t.start("python3", "-c", script,
                      variables={"MEMCTL_TRACE": "on", "MEMCTL_TRACE_MMAP": "1"})
    program.answer()
    found = [each for each in t.trace(program).rows
             if each.data["kind"] == "mmap" and each.bytes == 15 << 20]
    t.equal([each.count for each in found], [15], "rows of what the script mapped")


# --- how far it goes -------------------------------------------------------------------------


@row("V9_10000_threads")
def ten_thousand_threads(t):
    program = mapper(t, "--depth", "16")
    there = program.number("crowd 10000 200")
    t.need(there >= 1000, f"only {there} threads can be made here")
    t.remark(f"{there} threads at once")
    t.site(t.trace(program), "stand_in_crowd", there, 200)
    program.ask("disperse")
    table = t.trace(program, "--cumulative")
    found = table.at("stand_in_crowd")
    t.equal((found.allocs, found.frees, found.bytes), (there, there, 0), "when all have ended")
    t.equal(table.data["not_recorded"]["untagged_allocs"], 0, "untagged")


@row("U9_bytes_an_object")
def bytes_an_object(t):
    """What is kept of each traced object: a quarter of what libumem's audit takes at the most. Off,
    nothing is kept of further ones."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 1000000 16")
    memory = t.trace(program).data["overhead"]
    t.remark(f"{memory['bytes_per_ten_objects'] / 10:.1f} bytes a live object of 16")
    t.check(80 <= memory["bytes_per_ten_objects"] <= 500, f"ten objects: {memory}")
    t.off(program)
    before = t.memory(program)["tags"]
    program.ask("alloc b 1000000 16")
    # The last span of traced objects serves the first of these, with a tag's place for each.
    more = t.memory(program)["tags"] - before
    t.equal(more, 0, "bytes of tags for a million untraced objects")


@row("V9_1000000_stacks")
def a_million_stacks(t):
    program = t.puppet()
    t.on(program)
    program.send("many a 1000000 16")
    program.answer(seconds=300)
    table = json.loads(t.memctl("show", "trace", "-p", program.pid, "--limit", "3", "--format",
                                "json", seconds=300)[0])
    t.equal(table["totals"]["stacks"], 1000000, "stacks")
    t.equal(table["totals"]["traced_count"], 1000000, "objects")
    t.equal(table["not_recorded"]["overflow_stacks"], 0, "stacks without room")
    memory = table["overhead"]
    frames = memory["frame_bytes_per_stack"]
    own = memory["bytes_per_stack"] - frames
    t.remark(f"{own} bytes a stack and {frames} of frames, of 21 that share their outer ones; "
             f"{memory['bytes_per_ten_objects'] / 10:.1f} bytes a live object")
    t.check(own <= 64, f"{own} bytes a stack beside its frames")
    # Two of 21 frames are a stack's own, of 4 bytes, and a link.
    t.check(8 <= frames <= 16, f"{frames} bytes of frames")
