# SPDX-License-Identifier: MIT
"""`memctl verify`: a heap that is whole is clean, however busy; a damaged one is not."""

import json
import signal

import schema
from harness import HERE, row

INCLUDE = HERE.parent.parent / "Sources/CRegion/include"

# How the program damages its heap, what kind of finding it is, and where.
DAMAGE = [
    ("mark", "list_mark", "span"), ("wild", "list_link", "span"), ("inside", "list_link", "span"),
    ("foreign", "list_link", "span"), ("circle", "list_link", "span"),
    ("head", "list_link", "span"), ("dropped", "span_counts", "span"),
    ("remote", "list_shared", "span"), ("tag", "list_tag", "span"), ("stack", "tag", "span"),
    ("used", "span_counts", "span"), ("fresh", "span_counts", "span"),
    ("count", "span_bounds", "span"), ("size", "span_bounds", "span"),
    ("class", "span_bounds", "span"), ("base", "span_bounds", "span"),
    ("state", "span_state", "span"), ("flags", "span_state", "span"),
    ("limit", "span_state", "span"), ("owner", "span_state", "span"),
    ("full", "span_state", "span"), ("overlap", "span_overlap", "span"),
    ("large", "span_state", "span"), ("huge", "span_bounds", "span"),
    ("unmapped", "page_map", "span"), ("stray", "page_map_stray", "heap"),
    ("nowhere", "page_map_stray", "heap"), ("bitmap", "slices", "arena"),
    ("committed", "slices", "arena"), ("arena", "arena", "arena"), ("arenas", "root", "heap"),
    ("huge-arena", "arena", "arena"), ("huge-pages", "root", "heap"),
    ("spans", "root", "heap"), ("sums", "huge_sums", "heap"), ("map", "root", "heap"),
    ("threads", "threads", "heap"), ("ghost", "threads", "heap"),
    ("thread", "threads", "thread"), ("current", "thread_span", "thread"),
    ("unlinked", "thread_span", "thread"), ("lost", "span_lost", "span"),
    ("kept", "thread_span", "thread"), ("owned", "thread_span", "thread"),
    ("elsewhere", "thread_span", "thread"), ("nothing", "threads", "thread"),
    ("waiting", "thread_span", "thread"), ("cached", "list_mark", "thread"),
    ("cache", "list_link", "thread"), ("caches", "thread_span", "thread"),
    ("proxied", "list_mark", "thread"), ("proxies", "thread_span", "thread"),
    ("reused", "list_mark", "thread"), ("reuse", "list_link", "thread"),
    ("reuses", "thread_span", "thread"), ("list", "span_state", "span"),
    ("proxy", "thread_span", "thread"), ("proxy-serves", "thread_span", "thread"),
]


def verify(t, program, status=0):
    """As JSON, which must be as documented."""
    text = t.memctl("verify", *t.target(program), "--format", "json", status=status)[0]
    data = json.loads(text)
    t.equal(schema.check(data, "verify")[:3], [], "verify is not as documented")
    return data


@row("U7_verify_finds_every_damage")
def finds_every_damage(t):
    path = t.build.c("damage", "-I", INCLUDE)
    for how, kind, place in DAMAGE:
        # Spans with tags have no proxies, and their frees go to themselves.
        traced = "off" if how.startswith(("prox", "reus")) else "on"
        program = t.start(path, how, variables={"MEMCTL_TRACE": traced})
        program.answer()
        t.equal(verify(t, program)["findings"], [], f"{how}: findings before")
        where = program.ask("go").split()[1]
        found = verify(t, program, status=2)
        t.check(any(each["kind"] == kind and each["place"].startswith(place)
                    for each in found["findings"]), f"{how}: {found['findings'][:5]}")
        t.equal(found["corrupt"], len(found["findings"]), f"{how}: corrupt")
        text = t.memctl("verify", *t.target(program), status=2)[0]
        t.equal(text.splitlines()[-1], f"{found['corrupt']} corrupt", f"{how}: last line")
        t.check(all(len(line) <= 80 for line in text.splitlines()), f"{how}: wide line")
        if how == "mark":
            t.has(text, f"slot {where} was written to after it was freed")
        program.kill()
        t.memctl("forget", "--all")


@row("U7_verify_clean_when_idle_stopped_traced")
def clean_when_still(t):
    program = t.puppet()
    t.on(program)
    for name, count, size in (("a", 5000, 100), ("b", 300, 5000), ("c", 20, 100000),
                              ("d", 3, 40 << 20)):
        program.ask(f"alloc {name} {count} {size}")
        program.ask(f"every {name}")
    program.ask("cross 4 2000")
    found = verify(t, program)
    t.equal((found["clean"], found["findings"], found["unsettled_spans"]), (True, [], 0), "idle")
    t.check(found["walked"]["live_slots"] > 2600, f"live slots: {found['walked']}")
    t.check(found["walked"]["free_slots"] > 2500, f"free slots: {found['walked']}")
    t.check(found["walked"]["tags"] > 2600, f"tags: {found['walked']}")
    t.equal(found["walked"]["huge"], 1, "huge slots")
    program.stop()
    t.equal(verify(t, program)["findings"], [], "stopped")
    text = t.memctl("verify", *t.target(program))[0]
    t.equal(text.splitlines()[-1], "clean", "last line")


@row("U7_verify_clean_while_busy")
def clean_while_busy(t):
    """What threads are in the middle of is no damage: running, or stopped at any instant."""
    program = t.puppet()
    program.ask("alloc a 20000 48")
    program.ask("churn 6")
    for turn in range(t.rounds(30, 300)):
        if turn % 3 == 2:
            t.on(program) if turn % 2 else t.off(program)
        if turn % 2:
            program.stop()
        found = verify(t, program)
        t.equal(found["findings"], [], f"turn {turn}")
        if turn % 2:
            program.signal(signal.SIGCONT)
    program.ask("calm")
    found = verify(t, program)
    t.equal((found["findings"], found["uncertain"]), ([], []), "afterwards")


@row("U7_verify_forked_child")
def forked_child(t):
    """A child of a busy process has what its parent's threads left half done."""
    program = t.puppet()
    program.ask("churn 6")
    for _ in range(t.rounds(8, 60)):
        child = program.fork()
        t.equal(verify(t, child)["findings"], [], "child")
        child.send("exit 0")
        program.ask("reap")
    program.ask("calm")


@row("U7_verify_touches_nothing", tries=3)
def touches_nothing(t):
    """No page is given to the process by looking at it."""
    program = t.puppet()
    program.ask("alloc a 100 200000")
    program.ask("every a")
    program.ask("alloc b 5000 1000")
    def resident():
        return [int(word) for word in open(f"/proc/{program.pid}/statm").read().split()]
    before = resident()
    table = [line for line in open(f"/proc/{program.pid}/status") if line.startswith("VmPTE")]
    for _ in range(3):
        verify(t, program)
    t.equal(resident(), before, "pages")
    after = [line for line in open(f"/proc/{program.pid}/status") if line.startswith("VmPTE")]
    t.equal(after, table, "page tables")


@row("U7_verify_ended")
def ended(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 10 10")
    program.kill()
    errors = t.memctl("verify", "-p", program.pid, status=1)[1]
    t.has(errors, f"process {program.pid} has ended")
