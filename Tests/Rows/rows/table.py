# SPDX-License-Identifier: MIT
"""What `show trace` prints, and how the tool answers."""

import concurrent.futures
import errno
import json
import os
import re
import signal
import subprocess
import tty
from pathlib import Path

from harness import Table, clean_environment, row

FILL = [("a", 10, 5000), ("b", 300, 100), ("c", 40, 16), ("d", 1, 400)]


def filled(t):
    program = t.puppet()
    t.on(program)
    for name, count, size in FILL:
        program.ask(f"alloc {name} {count} {size}")
    return program


@row("V2_columns_and_footer")
def columns_and_footer(t):
    program = filled(t)
    lines = t.text(program).splitlines()
    t.has(lines[0], f"process {program.pid} (puppet)", "title")
    header = next(line for line in lines if "Traceback" in line)
    t.equal(header.split(), ["Bytes", "Usable", "Count", "Sample", "Traceback"], "columns")
    rows = [line.split() for line in lines
            if re.match(r" +\d+ +\d+ +\d+ +(0x[0-9a-f]+|-) *$", line)]
    wanted = sorted(((count * size, count) for _, count, size in FILL), reverse=True)
    t.equal([(int(each[0]), int(each[2])) for each in rows], wanted, "rows, largest first")
    samples = [int(each[3], 16) for each in rows]
    maps = open(f"/proc/{program.pid}/maps").read()
    ranges = [tuple(int(end, 16) for end in line.split()[0].split("-"))
              for line in maps.splitlines()]
    for sample in samples:
        t.check(any(start <= sample < end for start, end in ranges), f"{sample:#x} is not mapped")
    text = "\n".join(lines)
    t.has(text, "4 stacks\n")
    t.has(text, f"traced live    {sum(size for size, _ in wanted)} bytes requested, ")
    t.has(text, f", {sum(count for _, count in wanted)} allocations")
    t.has(text, "not recorded: nothing")
    t.has(text, "our own memory: region ")
    by_count = t.text(program, "--sort", "count")
    t.check(by_count.index("site_b") < by_count.index("site_a"), "--sort count does not sort")


@row("V2_samples_are_live")
def samples_are_live(t):
    """A row's sample is the address of an object of that row that lives now."""
    program = filled(t)
    for name, count, size in FILL:
        program.ask(f"alloc {name} 500 {size}")
    program.ask("alloc e 3 100000")
    program.ask("alloc f 3 50000000")
    for freed in (0, 1, 250):
        for name in "abc":
            program.ask(f"free {name} {freed}")
        table = t.trace(program)
        for name in "abcdef":
            sample = table.at(f"site_{name}").data["sample"]
            t.equal(program.ask(f"holds {name} {sample}"), "yes", f"sample {sample} of {name}")


@row("V2_top_50_and_all")
def top_50_and_all(t):
    program = t.puppet()
    t.on(program)
    for depth in range(1, 56):
        program.ask(f"deep a {depth} 32")
    def shown(*more):
        return len(re.findall(r"^ +32 +32 +1 ", t.text(program, *more), re.M))
    t.equal((shown(), shown("--limit", "7"), shown("--all")), (50, 7, 55), "rows shown")
    t.has(t.text(program), "50 of 55 stacks; --all shows all")
    total = f"traced live    {55 * 32} bytes requested, {55 * 32} usable, 55 allocations"
    t.has(t.text(program, "--limit", "7"), total, "footer of a cut table")


@row("V2_formats")
def formats(t):
    program = filled(t)
    table = t.trace(program)
    t.equal([each.bytes for each in table.rows], sorted((c * s for _, c, s in FILL), reverse=True),
            "json rows")
    t.equal(table.data["process"]["pid"], program.pid, "json pid")
    text = t.text(program, "--format", "vpp-json")
    rows = json.loads(text)
    t.check(isinstance(rows, list), "vpp-json is not an array")
    for each in rows:
        t.equal(sorted(each), ["bytes", "count", "sample", "traceback"], "vpp-json keys")
        t.check(re.fullmatch(r"0x[0-9a-f]+", each["sample"]), f"sample {each['sample']!r}")
        t.check(each["traceback"] and all(isinstance(line, str) for line in each["traceback"]),
                "a traceback is no list of strings")
    t.equal([(each["bytes"], each["count"]) for each in rows],
            [(each.bytes, each.count) for each in table.rows], "vpp-json and json")
    t.has("\n".join(rows[0]["traceback"]), "site_a")


@row("X4_folded")
def folded(t):
    """What flame graphs are drawn from: every stack, outermost first, and the sums of the table."""
    program = filled(t)
    program.ask("deep e 70 48")  # deeper than what is kept
    program.ask("many f 200 100")
    def lines(*more):
        pairs = [line.rpartition(" ") for line in
                 t.text(program, "--format", "folded", *more).splitlines()]
        t.check(all("+0x" not in stack for stack, _, _ in pairs), "offsets")
        return {stack.split(";")[-1]: [int(value) for last, _, value in pairs
                                       if last.split(";")[-1] == stack.split(";")[-1]]
                for stack, _, _ in pairs}, pairs
    table = t.trace(program)
    for words, part in (((), "bytes"), (("--sort", "count"), "count")):
        by_function, pairs = lines(*words)
        for name, count, size in FILL:
            t.equal(by_function[f"site_{name}"], [count * size if part == "bytes" else count],
                    f"{part} of site_{name}")
        t.equal(sum(int(value) for _, _, value in pairs), table.totals[f"traced_{part}"], part)
        t.equal(len({stack for stack, _, _ in pairs}), len(pairs), "each stack once")
        deep = [stack.split(";") for stack, _, _ in pairs if "descend" in stack]
        t.equal([(len(frames), frames[0]) for frames in deep],
                [(65, "(deeper than the depth kept)")], "a stack that was cut")
        t.check(all(stack.startswith("_start;") or stack.startswith("(deeper")
                    for stack, _, _ in pairs), "outermost first")
    t.equal(len(lines("--limit", "1")[1]), 1, "with --limit 1")


@row("V2_hostile_names")
def hostile_names(t):
    """What a program calls itself can't make the table lie, nor steer a terminal."""
    name = 'a"b\\\x1b[31m\nend'
    path = t.folder / name
    path.write_bytes(t.build.c("puppet").read_bytes())
    path.chmod(0o755)
    program = t.puppet(path)
    t.on(program)
    program.ask("alloc a 3 100")
    t.site(t.trace(program), "site_a", 3, 100)
    for words in (["show", "trace", "-p", program.pid], ["list"]):
        text = t.memctl(*words)[0]
        t.check("\x1b" not in text, f"{words[0]}: an escape character came through")
        t.check("\nend" not in text, f"{words[0]}: a line break came through")
    json.loads(t.memctl("list", "--format", "json")[0])


@row("V2_several_by_name")
def several_by_name(t):
    first, second = t.puppet(), t.puppet()
    other = t.folder / "unlike"
    other.write_bytes(t.build.c("puppet").read_bytes())
    other.chmod(0o755)
    third = t.puppet(other)
    _, errors = t.memctl("show", "trace", "-p", "puppet", status=1)
    t.has(errors, "several processes are named puppet")
    for each in (first, second):
        t.has(errors, f"{each.pid} (puppet)", "the list to choose from")
    t.check(f"{third.pid} (" not in errors, "a process of another name is in the list")
    t.has(t.memctl("trace", "on", "-p", "unlike")[0], f"trace on: process {third.pid}")
    _, errors = t.memctl("show", "trace", status=1)
    t.has(errors, "there are several processes")
    t.has(errors, f"{third.pid} (unlike)")
    for each in (first, second):
        each.kill()
    t.has(t.memctl("trace", "off")[0], f"trace off: process {third.pid}", "the only one there is")


@row("V2_messages_and_statuses")
def messages_and_statuses(t):
    """Every failure says what failed and what to do; 1 failed, 64 wrong usage."""
    def says(status, *words):
        out, errors = t.memctl(*words, status=status)
        t.equal(out, "", f"stdout of {words}")
        return errors
    t.has(says(1, "show", "trace"), "memctl run -- COMMAND", "what to do when there is none")
    t.has(says(1, "trace", "on", "-p", "nobody"), "no process named nobody")
    t.has(says(1, "show", "trace", "-p", "4194303"), "4194303")
    t.has(says(64, "show", "trace", "-p", ""), "not an empty one")
    nowhere = {"MEMCTL_DIR": "/nowhere/at/all"}
    for words in (["list"], ["run", "--", "true"]):
        t.has(t.memctl(*words, variables=nowhere)[1], "MEMCTL_DIR names /nowhere/at/all: No such")
    t.has(t.memctl("trace", "on", variables=nowhere, status=1)[1], "MEMCTL_DIR names /nowhere")
    bare = t.start("sleep", "1000", preload=False)
    t.has(says(1, "trace", "on", "-p", bare.pid), "does not use the memctl heap")
    t.has(says(1, "show", "trace", "--file", t.folder / "none"), "No such file")
    for words in (["--nonsense"], ["trace"], ["trace", "maybe"], ["show", "nothing"],
                  ["show", "trace", "--limit", "0"], ["show", "trace", "--format", "runes"],
                  ["trace", "on", "--depth", "0"], ["trace", "on", "--depth", "257"],
                  ["show", "trace", "-p", "1", "--file", "x"], ["leak-check"], ["forget"],
                  ["leak-check", "--for", "ages"], ["run"]):
        t.memctl(*words, status=64 if words not in (["trace"],) else 0)
    t.has(t.memctl("--help")[0], "leak-check")
    t.check(re.match(r"memctl \d+\.\d+\.\d+", t.memctl("--version")[0]), "--version")
    t.memctl("run", "--", "/nowhere/at/all", status=127)
    t.memctl("run", "--", "/etc/passwd", status=126)
    t.memctl("run", "--", "sh", "-c", "exit 9", status=9)


@row("V2_colour_on_terminals_only")
def colour_on_terminals_only(t):
    program = filled(t)
    t.check("\x1b" not in t.text(program), "colour in a pipe")
    for variables, wanted in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        ours, theirs = os.openpty()
        environment = clean_environment() | {"MEMCTL_DIR": str(t.regions), "TERM": "xterm"}
        done = subprocess.Popen(
            [t.memctl_path, "show", "trace", "-p", str(program.pid)], stdout=theirs,
            stderr=subprocess.DEVNULL, env=environment | variables)
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 65536):
                text += data
        except OSError:  # the terminal's other end is closed
            pass
        os.close(ours)
        t.equal(done.wait(), 0, "status")
        t.check(b"site_a" in text, "no table")
        t.equal(b"\x1b[1m" in text, wanted, f"colour with {variables}")


@row("V2_reader_that_leaves")
def reader_that_leaves(t):
    """`memctl show trace | head -1`: no complaint, no signal."""
    program = t.puppet()
    t.on(program)
    program.ask("many a 3000 48")
    done = subprocess.Popen(
        [t.memctl_path, "show", "trace", "--all", "-p", str(program.pid)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=clean_environment() | {"MEMCTL_DIR": str(t.regions)})
    t.check(done.stdout.readline().startswith(b"process "), "no first line")
    done.stdout.close()
    errors = done.stderr.read()
    done.stderr.close()
    t.check(done.wait() in (0, 1, -signal.SIGPIPE), f"status {done.returncode}")
    t.equal(errors, b"", "stderr")


def read_slowly(descriptor):
    """All there is to read, a little at a time; a terminal ends with an error."""
    parts = []
    try:
        while data := os.read(descriptor, 997):
            parts.append(data)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    return b"".join(parts)


@row("C4_whole_wherever_it_goes")
def whole_wherever_it_goes(t):
    """A table of many rows arrives whole at a file, a terminal, or a reader that is slower than we
    are and does not let us wait in write(2); and nothing of it in the program's output."""
    program = t.puppet()
    t.on(program)
    program.ask("many a 2000 48")
    program.stop()
    command = [t.memctl_path, "show", "trace", "--all", "-p", str(program.pid)]
    environment = clean_environment() | {"MEMCTL_DIR": str(t.regions), "NO_COLOR": "1"}
    with open(t.folder / "table", "wb") as file:
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, env=environment, check=True)
    whole = (t.folder / "table").read_bytes()
    counts = [line.split()[2] for line in whole.splitlines() if re.match(rb" *48 ", line)]
    t.equal((len(counts), set(counts)), (2000, {b"1"}), "rows of one object")
    for what, (ours, theirs) in (("pipe", os.pipe()), ("terminal", os.openpty())):
        if what == "pipe":
            os.set_blocking(theirs, False)
        else:
            tty.setraw(theirs)
        done = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
        os.close(theirs)
        found = read_slowly(ours)
        os.close(ours)
        t.equal(done.wait(), 0, f"status, written to a {what}")
        t.check(found == whole, f"{len(found)} bytes came through a {what}, of {len(whole)}")
    program.signal(signal.SIGCONT)
    t.equal(program.ask("every a").split()[0], "done", "the next line of the program itself")
    t.equal(program.stderr(), "", "the program's standard error")


@row("V2_output_that_cannot_be_written")
def output_that_cannot_be_written(t):
    """Whatever is written to standard output: if it can't be, the status says so, and a line."""
    t.need(Path("/dev/full").is_char_device(), "there is no /dev/full")
    program = t.puppet()
    program.ask("alloc a 10 100")
    where = ["-p", program.pid]
    for words in (["--help"], ["--version"], ["help", "show"], ["trace", "on", "--help"], ["list"],
                  ["trace", "on", *where], ["show", "trace", *where], ["show", "memory", *where],
                  ["show", "memory", "--format", "json", *where], ["explain", *where],
                  ["verify", *where], ["whatis", "0x1000", *where], ["trace", "off", *where]):
        for into, reason in (("/dev/full", "No space left on device"),
                             ("&-", "Bad file descriptor")):
            shell = ["sh", "-c", f'exec "$0" "$@" >{into}']
            t.equal(t.memctl(*words, prefix=shell, status=1),
                    ("", f"memctl: can't write the output: {reason}\n"), f"{words} >{into}")
    t.equal(t.memctl("verify", *where)[0].splitlines()[-1], "clean", "the process afterwards")


@row("C7_total_is_mallinfo")
def total_is_mallinfo(t):
    """What the tool reads from outside is what the program is told by mallinfo2(3)."""
    program = t.puppet()
    for command in ("alloc a 1000 64", "alloc b 30 100000", "alloc c 2 50000000", "free a 500",
                    "thread d 100 300", "free c 1", "cross 4 500"):
        program.ask(command)
        t.equal(int(t.memctl("show", "total", "-p", program.pid)[0]), program.number("mallinfo"),
                f"after {command}")


@row("C7_total")
def total(t):
    program = t.puppet()
    def now():
        text = t.memctl("show", "total", "-p", program.pid)[0]
        t.check(re.fullmatch(r"\d+\n", text), f"not one number: {text!r}")
        return int(text)
    before = now()
    t.equal(now(), before, "asked again")
    program.ask("alloc a 1000 64")
    t.equal(now() - before, 1000 * program.number("usable a"), "1000 objects more")
    t.equal(now(), t.memory(program)["used"], "used of show memory")
    program.ask("free a 1000")
    t.equal(now(), before, "freed again")


@row("P1_pages")
def pages(t):
    """1 GiB that is never touched costs nothing; each page that is touched counts once."""
    program = t.puppet()

    def now():
        memory = t.memory(program)
        counts = memory["pages"]
        t.equal(counts["total"], counts["populated"] + counts["not_populated"] + counts["unknown"],
                "T = P + N + U")
        t.equal(counts["page_size"], 4096, "page size")
        nodes = memory["numa"]
        if nodes["unavailable"] is None:
            t.equal(sum(each["pages"] for each in nodes["nodes"]), counts["populated"], "of nodes")
        return memory, counts
    first, _ = now()
    program.ask(f"calloc a 1 {1 << 30}")
    memory, before = now()
    t.check(memory["used"] - first["used"] >= 1 << 30, "1 GiB is not in use")
    t.check(memory["pages"]["populated"] - first["pages"]["populated"] < 64,
            f"calloc populated {memory['pages']['populated'] - first['pages']['populated']} pages")
    program.ask("touch a 1000")
    _, after = now()
    grown = after["populated"] - before["populated"]
    # Where the kernel backs all it can by huge pages it populates those.
    whole = 512 if after["huge"] else 4
    t.check(1000 <= grown <= 1000 + whole, f"1000 pages touched, populated grew by {grown}")
    t.equal(after["total"], before["total"], "total")
    t.equal(now()[1], after, "asked again")
    text = " ".join(t.memctl("show", "memory", "-p", program.pid)[0].split())
    t.has(text, f"page stats: page-size 4K, total {after['total']}, populated "
                f"{after['populated']}, not-populated {after['not_populated']}, unknown 0")
    program.ask("free a 1")
    _, freed = now()
    t.check(freed["populated"] <= before["populated"] + 4, "a freed GiB is still populated")


@row("P1_sums")
def sums(t):
    program = t.puppet()
    t.on(program)
    for name, size in (("a", 24), ("b", 700), ("c", 300_000), ("d", 40_000_000)):
        program.ask(f"alloc {name} 20 {size}")
    program.ask("free a 9")
    memory = t.memory(program)
    table = t.trace(program)
    t.equal(sum(each["live_bytes"] for each in memory["classes"]), memory["used"], "classes")
    t.equal(sum(each["live"] for each in memory["classes"]), memory["used_count"], "their counts")
    t.equal((memory["used"], memory["used_count"]),
            (table.totals["used_usable"], table.totals["used_count"]), "show trace")
    t.equal(memory["traced_slack"],
            table.totals["traced_usable"] - table.totals["traced_bytes"], "slack")
    for kind in ("large", "huge"):
        t.check(any(each["class"] == kind and each["live"] >= 20 for each in memory["classes"]),
                f"no {kind} ones among the classes")
    t.check(memory["reserved"] >= memory["used"] + memory["cached"] + memory["free"],
            "more used, cached and free than reserved")


@row("V7_read_while_it_grows")
def read_while_it_grows(t):
    """The table gets new stacks for as long as memctl reads it: what was there before is in the report, nothing
    is there twice, and each row is whole."""
    program = t.puppet()
    t.on(program)
    region, made = t.regions / str(program.pid), 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for number in range(40 if t.long else 6):
            before = made
            target = t.target(region if number % 2 else program)
            report = pool.submit(t.memctl, "show", "trace", *target, "--all", "--format", "json")
            while made == before or not report.done() and made < before + 1000:
                program.ask("many a 1 48")
                made += 1
            rows = Table(json.loads(report.result()[0])).all_at("turn_")
            t.check(before <= len(rows) <= made, f"{len(rows)} of {before} to {made} stacks")
            paths = {tuple(frame["pc"] for frame in each.frames) for each in rows}
            t.equal(len(paths), len(rows), f"round {number}: different backtraces")
            for each in rows:
                t.equal((each.allocs, each.frees, each.bytes), (1, 0, 48), f"counts of {each}")
                t.check("main" in each.functions and not each.data["cut"], f"all of {each}")
    t.adds_up(t.trace(program))
    t.remark(f"{made} stacks")
