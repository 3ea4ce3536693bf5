# SPDX-License-Identifier: MIT
"""`memctl whatis` and `memctl explain`: what an address is, and where resident memory went."""

import json
import sys
import threading
from pathlib import Path

import schema
from harness import row, stat_field
from rows.memory import PAGE, counted_late
from rows.memory import mappings as mappings_of


def whatis(t, program, *words):
    text = t.memctl("whatis", *words, *t.target(program), "--format", "json")[0]
    data = json.loads(text)
    t.equal(schema.check(data, "whatis")[:3], [], "whatis is not as documented")
    return data["answers"]


def narrow(t, text):
    wide = [line for line in text.splitlines() if len(line) > 80]
    t.check(not wide, f"wide lines: {wide[:3]}")
    return text


def sample(t, program, site):
    return int(t.trace(program).at(site).data["sample"], 16)


@row("U5_whatis_live_slot")
def live_slot(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 40 100")
    program.ask("alloc b 2 300000")
    address = sample(t, program, "site_a")
    found = whatis(t, program, hex(address + 10))[0]
    slot, span = found["slot"], found["span"]
    t.equal((found["kind"], slot["address"], slot["offset"]), ("slot", hex(address), 10), "slot")
    t.equal((slot["state"], slot["requested"], slot["usable"]), ("live", 100, 112), "sizes")
    t.equal((slot["traced"], span["kind"], span["slot_size"]), (True, "slots", 112), "span")
    t.check(span["live_slots"] >= 40, f"live slots {span}")
    t.equal(span["tid"], program.pid, "the owner's tid")
    t.check(any((each["function"] or "").startswith("site_a") for each in slot["frames"]),
            f"frames {slot['frames']}")
    t.check(0 <= slot["age_ms"] < 3600_000, f"age {slot['age_ms']} ms")
    large = whatis(t, program, hex(sample(t, program, "site_b") + 299999))[0]
    t.equal((large["slot"]["offset"], large["slot"]["requested"], large["span"]["kind"]),
            (299999, 300000, "large"), "large slot")
    t.equal(large["span"]["tid"], program.pid, "who asked for the large one")
    text = narrow(t, t.memctl("whatis", hex(address), *t.target(program))[0])
    t.has(text, f"slot {address:#x} + 0: live, 100 of 112 bytes")
    t.has(text, "site_a")
    t.has(text, f"owner thread 1 (tid {program.pid}, puppet)")
    # Untraced: all but the stack, the age and what was asked for.
    t.off(program)
    t.memctl("trace", "reset", *t.target(program))
    t.equal(whatis(t, program, hex(address))[0]["slot"]["requested"], 100, "after a reset")


@row("U5_whatis_free_slots")
def free_slots(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 20 100")
    program.ask("alloc b 20 200")
    first, second = sample(t, program, "site_a"), sample(t, program, "site_b")
    state = lambda address: whatis(t, program, hex(address))[0]["slot"]["state"]
    program.ask("free a 20")
    t.equal(state(first), "free", "freed by its owner")
    program.ask("away b 20 5000")
    t.equal(state(second), "remote", "freed by another thread")
    text = narrow(t, t.memctl("whatis", hex(first), hex(second), *t.target(program))[0])
    t.has(text, "free, on the list of thread 1")
    t.has(text, "freed by another thread, waits for thread 1")
    program.ask("thread c 1 200000")
    ended = whatis(t, program, hex(sample(t, program, "site_c")))[0]
    t.equal((ended["slot"]["state"], ended["span"]["tid"]), ("live", None), "its thread has ended")


@row("U5_whatis_mappings")
def mappings(t):
    program = t.puppet()
    maps = [line.split() for line in open(f"/proc/{program.pid}/maps")]
    def start(part):
        return int(next(words for words in maps if words[-1].endswith(part))[0].split("-")[0], 16)
    def end(part):
        return int(next(words for words in maps if words[-1].endswith(part))[0].split("-")[1], 16)
    code, stack, nothing = whatis(t, program, hex(start("libc.so.6") + 100),
                                  hex(end("[stack]") - 8), "10")
    t.equal((code["kind"], code["mapping"]["name"].rpartition("/")[2]), ("mapping", "libc.so.6"),
            "code")
    t.equal((stack["kind"], stack["stack_of_tid"]), ("mapping", program.pid), "stack")
    t.equal(nothing["kind"], "unmapped", "nothing")
    text = narrow(t, t.memctl("whatis", "10", hex(end("[stack]") - 8), *t.target(program))[0])
    t.has(text, "not mapped")
    t.has(text, f"stack of thread {program.pid} (puppet)")
    t.memctl("whatis", "zebra", *t.target(program), status=64)


@row("U5_whatis_stack_of_a_running_thread")
def running_stack(t):
    """Of a thread that runs the kernel tells no stack pointer; the heap knows where its stack is."""
    program = t.start(t.build.c("spinner", "-pthread"))
    tid, address = program.answer().split()
    def running():
        text = open(f"/proc/{program.pid}/task/{tid}/syscall").read()
        return text.startswith("running")
    t.until(running, "the thread runs")
    found = whatis(t, program, address)[0]
    t.equal((found["kind"], found["stack_of_tid"]), ("mapping", int(tid)), "whose stack it is")
    text = narrow(t, t.memctl("whatis", address, *t.target(program))[0])
    t.has(text, f"stack of thread {tid} (spinner), which runs")
    parts = explain(t, program)["parts"]
    t.check(parts["stacks"]["bytes"] >= 1 << 20, f"stacks {parts['stacks']}")
    t.check(parts["mappings"]["bytes"] < 1 << 20, f"mappings {parts['mappings']}")


@row("U5_whatis_references")
def references(t):
    """The puppet keeps addresses in memory that it mapped: one word points at each object."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 3 1000")
    address = sample(t, program, "site_a")
    for stopped in (False, True):
        if stopped:
            program.stop()
        found = whatis(t, program, hex(address), "--refs")[0]
        t.check(found["reference_count"] >= 1, f"{found}")
        holders = {each["holder"] for each in found["references"]}
        t.check("mapping" in holders, f"holders {found['references'][:8]}")
        words = [each for each in found["references"] if each["holder"] == "mapping"]
        t.equal({int(each["value"], 16) for each in words}, {address}, "values")
        # Looking at its registers leaves it as it was.
        t.equal(stat_field(program.pid, 0) == "T", stopped, "stopped")
    narrow(t, t.memctl("whatis", hex(address), "--refs", *t.target(program))[0])


def explain(t, program, *words, **options):
    text = t.memctl("explain", *t.target(program), *words, "--format", "json", **options)[0]
    data = json.loads(text)
    t.equal(schema.check(data, "explain")[:3], [], "explain is not as documented")
    return data


@row("P7_explain_adds_up", tries=3)
def adds_up(t):
    program = t.puppet()
    program.ask("alloc a 3000 500")
    t.on(program)
    program.ask("alloc b 20000 100")
    program.ask("every b")
    program.ask("alloc c 3 20000000")
    program.ask("touch c 1000")
    program.stop()
    found = explain(t, program)
    parts = {name: each["bytes"] for name, each in found["parts"].items()}
    t.equal(sum(parts.values()), found["sum"], "the sum of the parts")
    t.equal(found["rss"] - found["sum"], found["remainder"], "remainder")
    limit = mappings_of(program.pid) * PAGE + counted_late(program.pid)
    t.check(abs(found["remainder"]) <= limit, f"remainder {found['remainder']}, not {limit}")
    t.equal(found["unknown_pages"], 0, "pages nothing is known of")
    trace = t.trace(program).totals
    # What is live is traced, untraced or slack; what of it was never touched is none of them.
    t.equal(parts["traced"] + parts["untraced"] + parts["slack"] + found["untouched"],
            trace["used_usable"], "used")
    t.check(parts["traced"] >= 10000 * 100 + 1000 * 4096, f"traced {parts['traced']}")
    t.check(parts["untraced"] >= 3000 * 500, f"untraced {parts['untraced']}")
    t.check(parts["fragmented"] >= 10000 * 100, f"fragmented {parts['fragmented']}")
    t.equal(explain(t, program)["parts"], found["parts"], "a second look")
    text = narrow(t, t.memctl("explain", *t.target(program))[0])
    t.has(text, "traced live")
    t.has(text, "not malloc's, by name:")
    t.has(text, "next: memctl ")


@row("P7_explain_sets_the_tracing_apart", tries=3)
def tracing_apart(t):
    """What the tracing keeps, an index of many stacks, is our own memory, not the program's."""
    program = t.puppet()
    before = explain(t, program)["parts"]
    t.on(program)
    program.ask("many a 30000 16")
    program.stop()
    after = explain(t, program)["parts"]
    grown = {part: after[part]["bytes"] - before[part]["bytes"] for part in after}
    # 8 bytes a stack and as many a frame at least, in tables no more than half full.
    t.check(grown["metadata"] >= 30000 * 16, f"grown {grown}")
    # The puppet notes 8 bytes an object, where the kernel may give it whole huge pages.
    mode = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    rest = 2 << 20 if mode.exists() and "[always]" in mode.read_text() else 64 << 10
    t.check(grown["mappings"] <= 30000 * 8 + rest, f"grown {grown}")
    memory = json.loads(t.memctl("show", "memory", *t.target(program), "--format", "json")[0])
    t.equal(memory["resident"]["metadata"], after["metadata"]["bytes"], "show memory's metadata")
    overhead = t.trace(program).data["overhead"]
    t.equal((memory["tracing"], memory["metadata"]),
            (overhead["tracing"], overhead["tracing"] + overhead["heap"]), "listed and counted")
    ours = next(each for each in map_rows(t, program)
                if each["kind"] == "metadata" and int(each["end"], 16) - int(each["start"], 16)
                >= 512 << 10)
    found = whatis(t, program, ours["start"])[0]
    t.equal(found["kind"], "structure", f"what {ours['start']} is")


def map_rows(t, program):
    text = t.memctl("show", "memory", "map", *t.target(program), "--format", "json")[0]
    return json.loads(text)["mappings"]


@row("P7_explain_fragmentation")
def fragmentation(t):
    program = t.puppet()
    program.ask("alloc a 300000 100")
    program.ask("every a")
    found = explain(t, program)
    t.equal(found["verdict"], "fragmentation", f"verdict; {found['parts']}")
    t.has(found["next"], "show classes")


@row("P7_explain_not_malloc")
def not_malloc(t):
    code = ("import mmap, sys; m = mmap.mmap(-1, 200 << 20)\n"
            "for i in range(0, 200 << 20, 4096): m[i] = 1\n"
            "print('ready', flush=True); sys.stdin.read()")
    program = t.start(sys.executable, "-c", code)
    program.answer()
    found = explain(t, program)
    t.equal(found["verdict"], "not_malloc", f"verdict; {found['parts']}")
    t.check(found["parts"]["mappings"]["bytes"] + found["parts"]["files"]["bytes"] >= 200 << 20,
            f"{found['parts']}")


@row("P7_explain_leak_over_a_window")
def leak_over_a_window(t):
    """A program that goes on allocating is called a leak, and one that rests is steady."""
    program = t.puppet()
    t.equal(explain(t, program, "--for", "250ms")["verdict"], "steady", "at rest")
    done = threading.Event()
    def leak():
        while not done.is_set() and program.ask("alloc a 1000 900") == "done":
            done.wait(0.02)
    leaking = threading.Thread(target=leak)
    leaking.start()
    try:
        found = t.until(
            lambda: next((each for each in [explain(t, program, "--for", "500ms")]
                          if each["verdict"] == "leak"), None), "a leak is seen")
    finally:
        done.set()
        leaking.join()
    t.check(found["window_ms"] >= 500, f"window {found['window_ms']}")
    t.check(found["parts"]["untraced"]["grew_by"] > 0, f"{found['parts']}")
    t.has(found["sentence"], "live memory grew by")
    t.has(found["next"], "memctl leak-check --for")


@row("P7_explain_and_whatis_ended")
def ended(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 10 10")
    program.kill()
    for words in (["explain"], ["whatis", "0x1000"]):
        errors = t.memctl(*words, "-p", program.pid, status=1)[1]
        t.has(errors, f"process {program.pid} has ended")
