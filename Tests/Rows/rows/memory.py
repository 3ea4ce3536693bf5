# SPDX-License-Identifier: MIT
"""Where memory is: pages, nodes, classes, threads, and that all of it adds up to what the kernel counts."""

import json
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import exposition
import schema
from harness import PATIENCE, row

PAGE = 4096
REPORTS = {"memory": ["memory"], "map": ["memory", "map", "--all"], "classes": ["classes"],
           "threads": ["threads"], "numa": ["numa"], "sizes": ["sizes"], "arenas": ["arenas"],
           "total": ["total"]}


def show(t, program, *words, **options):
    """A report as JSON, which must be as documented."""
    text = t.memctl("show", *words, *t.target(program), "--format", "json", **options)[0]
    data = json.loads(text)
    name = "map" if "map" in words else words[0]
    found = schema.check(data, name)
    t.equal(found[:3], [], f"show {' '.join(words)} is not as documented")
    return data


def mappings(pid):
    return len(Path(f"/proc/{pid}/maps").read_text().splitlines())


def counted_late(pid):
    """Bytes by which the kernel's own counter of RSS differs from the pages that are there.

    Before 6.16 it is behind by up to 64 pages a thread, or some dozens of pages a processor.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    pages, counter = (int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1])
                      for name, text in (("Rss", rollup), ("VmRSS", status)))
    return abs(pages - counter) * 1024


def adds_up(t, program):
    """The use of every resident page is known, within a page a mapping."""
    memory = show(t, program, "memory")
    resident, pages = memory["resident"], memory["pages"]
    parts = ("used", "cached", "free", "metadata", "region", "not_malloc")
    t.equal(sum(resident[each] for each in parts), resident["sum"], "the sum of the parts")
    t.equal(sum(resident[each] for each in ("files", "shared", "stack", "anonymous")),
            resident["not_malloc"], "what is not malloc's")
    t.equal(resident["rss"] - resident["sum"], resident["remainder"], "the remainder")
    t.equal(pages["populated"] + pages["not_populated"] + pages["unknown"], pages["total"],
            "T = P + N + U")
    t.equal(pages["unknown"], 0, "unknown pages")
    t.equal(memory["used"] + memory["cached"] + memory["free"], memory["reserved"],
            "used + cached + free = reserved")
    t.equal(resident["used"] + resident["cached"] + resident["free"], memory["populated"],
            "the same of what is populated")
    limit = mappings(program.pid) * PAGE + counted_late(program.pid)
    t.check(abs(resident["remainder"]) <= limit,
            f"RSS {resident['rss']}, sum {resident['sum']}: more than {limit} apart")
    t.equal(sum(each["live_bytes"] for each in memory["classes"]), memory["used"], "the classes")
    return memory


def at_rest(t, program):
    """The memory and the map of a stopped process. The kernel may take pages of it meanwhile, or
    join them to huge ones: then once more."""
    for _ in range(20):
        memory = adds_up(t, program)
        whole = show(t, program, "memory", "map", "--all")
        if adds_up(t, program)["resident"] == memory["resident"]:
            return memory, whole
    t.check(False, "the pages of a stopped process change all the time")


def stopped_at_random(t, program, rounds, busy=lambda: None):
    numbers = random.Random(program.pid)
    for _ in range(rounds):
        busy()
        time.sleep(numbers.uniform(0, 0.05))
        program.stop()
        memory, whole = at_rest(t, program)
        t.equal(whole["populated"], memory["resident"]["sum"], "the sum of all mappings")
        t.equal(int(t.memctl("show", "total", "-p", program.pid)[0]), memory["used"], "show total")
        program.signal(18)  # SIGCONT
    return memory


@row("P1_sum_is_rss_puppet")
def puppet_adds_up(t):
    program = t.puppet()
    t.on(program)
    for name, size in (("a", 24), ("b", 700), ("c", 100_000), ("d", 40_000_000)):
        program.ask(f"alloc {name} 20 {size}")
    program.ask("touch d 500")
    program.ask("free a 9")
    memory = stopped_at_random(t, program, 1)
    t.equal(memory["traced_slack"] > 0, True, "slack of what is traced")
    table = t.trace(program)
    t.equal(memory["used"], table.totals["used_usable"], "used, as show trace has it")
    t.equal(memory["untraced"], table.totals["untraced_usable"], "untraced")
    text = t.memctl("show", "memory", "-p", program.pid)[0]
    t.check(all(len(line) <= 80 for line in text.splitlines()), "lines longer than 80 columns")
    t.has(text, "used + slack + cached + free + metadata + region + not malloc = RSS:")


@row("P1_sum_is_rss_threads")
def threads_add_up(t):
    """Threads that allocate and free all the while: stopped exactly, running within what changes."""
    program = t.puppet()
    program.ask("churn 16")
    stopped_at_random(t, program, 4)
    for _ in range(4):
        # 16 threads hold up to 128 objects of up to 70,000 bytes each.
        adds_up_running(t, program, 16 * 128 * 70_000)
    program.ask("calm")


def adds_up_running(t, program, bound):
    memory = show(t, program, "memory")
    resident, pages = memory["resident"], memory["pages"]
    t.equal(resident["rss"] - resident["sum"], resident["remainder"], "the remainder")
    t.check(abs(resident["remainder"]) <= bound, f"{resident['remainder']} bytes are unexplained")
    t.equal(pages["populated"] + pages["not_populated"] + pages["unknown"], pages["total"],
            "T = P + N + U")


@row("P1_sum_is_rss_python")
def python_adds_up(t):
    t.need(shutil.which("python3"), "python3 is not installed")
    program = t.start("python3", "-c", """
import sys, threading
print('ready', flush=True)
held = []
def work(n):
    for i in range(1 << 30):
        held.append(bytes(i * 37 % 5000)); held.append(bytes(i % 3 * 300000))
        if len(held) > 3000: del held[::2]
for n in range(3): threading.Thread(target=work, args=(n,), daemon=True).start()
sys.stdin.read()
""")
    program.answer()
    stopped_at_random(t, program, 4)


@row("P1_sum_is_rss_node")
def node_adds_up(t):
    t.need(shutil.which("node"), "node is not installed")
    program = t.start("node", "-e", """
console.log('ready'); const held = [];
setInterval(() => { for (let i = 0; i < 200; i++) held.push(Buffer.alloc(i * 100));
                    if (held.length > 3000) held.splice(0, 1500); }, 1);
process.stdin.resume();
""")
    program.answer()
    stopped_at_random(t, program, 3)


@row("P1_sum_is_rss_redis")
def redis_adds_up(t):
    t.need(shutil.which("redis-server") and shutil.which("redis-cli"), "redis is not installed")
    socket = t.folder / "redis.sock"
    program = t.start("redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                      "--dir", t.folder, "--daemonize", "no")
    t.until(socket.exists, "redis listens")

    def busy():
        subprocess.run(["redis-cli", "-s", str(socket), "eval",
                        "for i=1,3000 do redis.call('set', math.random(5000), "
                        "string.rep('x', math.random(3000))) end", "0"],
                       check=True, capture_output=True, timeout=PATIENCE)
    memory = stopped_at_random(t, program, 3, busy)
    t.check(memory["used"] > 1 << 20, f"redis uses {memory['used']} bytes only")


@row("P2_no_observer_effect", tries=3)
def no_observer(t):
    """Looking twice gives the same; the process has not run, and has no page more."""
    program = t.puppet()
    for name, size in (("a", 40), ("b", 3000), ("c", 300_000)):
        program.ask(f"alloc {name} 200 {size}")
        program.ask(f"every {name}")
    program.stop()

    def state():
        status = Path(f"/proc/{program.pid}/status").read_text()
        times = Path(f"/proc/{program.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
        return re.findall(r"^(?:VmRSS|VmSize|RssAnon):.*", status, re.M), times
    before = state()
    first = {name: show(t, program, *words) for name, words in REPORTS.items()}
    second = {name: show(t, program, *words) for name, words in REPORTS.items()}
    t.equal(state(), before, "what the kernel says of the process")
    for name in REPORTS:
        t.equal(second[name], first[name], f"show {name}, asked again")


@row("P5_classes")
def classes(t):
    program = t.puppet()
    program.ask("alloc a 5000 1000")
    program.ask("alloc b 3 40000000")
    program.ask("every a")
    program.stop()
    found = {each["slot_size"] or each["class"]: each for each in show(t, program, "classes")["classes"]}
    size = min(each for each in found if isinstance(each, int) and each >= 1000)
    mine = found[size]
    t.check(2500 <= mine["live"] < 2600, f"{mine['live']} live slots, not 2500")
    t.check(mine["total"] >= 5000, f"{mine['total']} slots in all")
    t.equal(mine["live_bytes"], mine["live"] * size, "bytes of live slots")
    t.check(30 <= mine["fragmentation_percent"] <= 70,
            f"every second is free, fragmentation is {mine['fragmentation_percent']} %")
    t.check(mine["largest_free_run"] >= 1, "no free slot was found")
    t.equal((found["huge"]["live"], found["huge"]["spans"]), (3, 3), "huge slots")
    text = t.memctl("show", "classes", *t.target(program))[0]
    lines = [line.split() for line in text.splitlines()]
    made = next(line[3] for line in lines if line and line[0] == str(size))
    t.equal(int(made), mine["allocations"], "allocations made, as text")
    t.check(int(made) >= 5000, f"{made} allocations were made, not 5000")


@row("P5_free_runs")
def free_runs(t):
    """Of a span whose every second slot is free no two free ones are beside each other."""
    program = t.puppet()
    # So many that the last span, which has fresh slots, is not the only one.
    program.ask("alloc a 20000 1000")
    program.stop()
    def run(found):
        return next(each["largest_free_run"] for each in found["classes"]
                    if each["slot_size"] and each["slot_size"] >= 1000)
    whole = run(show(t, program, "classes"))
    program.signal(18)
    program.ask("free a 3000")
    program.stop()
    t.check(run(show(t, program, "classes")) >= max(whole, 16),
            "3000 slots beside each other were freed")


@row("P5_threads")
def threads(t):
    program = t.puppet()
    program.ask("alloc a 1000 64")
    program.ask("thread b 3000 200")
    program.ask("churn 4")
    program.ask("calm")
    program.stop()
    report = show(t, program, "threads")
    total = sum(each["used"] for each in report["threads"]) - report["in_caches"]
    t.equal(total, show(t, program, "memory")["used"], "used by all threads")
    first = report["threads"][0]
    t.equal((first["tid"], first["name"], first["state"]), (program.pid, "puppet", "live"), "first")
    t.check(first["used"] >= 64000, f"the first thread uses {first['used']}")
    t.check(any(each["state"] == "ended" and each["used"] >= 3000 * 200
                for each in report["threads"]), "an ended thread's slots")
    if report["numa_unavailable"] is None:
        for each in report["threads"]:
            t.equal(sum(node["pages"] for node in each["nodes"]), each["populated_pages"], "nodes")
    for order in ("arena", "class", "thread"):
        numa = show(t, program, "numa", "--by", order)
        pages = sum(each["populated_pages"] for each in numa["rows"] if each["name"] != "metadata")
        wanted = show(t, program, "memory")["pages"]["populated"]
        t.check(pages <= wanted if order != "arena" else pages == wanted,
                f"{order}: {pages} of {wanted} pages")


@row("P6_metrics")
def metrics(t):
    """Prometheus text, of a process that runs on; and of one whose name needs escapes."""
    program = t.puppet()
    program.ask("churn 2")
    texts = {name: t.memctl("show", *words, "-p", program.pid, "--format", "prometheus")[0]
             for name, words in REPORTS.items()}
    program.ask("calm")
    odd = t.folder / 'a"b\\c'
    shutil.copy(t.build.c("spinner", "-pthread"), odd)
    program = t.start(odd)
    program.answer()
    texts["odd"] = t.memctl("show", "threads", "-p", program.pid, "--format", "prometheus")[0]
    t.has(texts["odd"], 'process="a\\"b\\\\c"')
    for name, text in texts.items():
        t.equal(exposition.check(text), [], name)
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                                  capture_output=True, timeout=PATIENCE)
            t.equal((done.returncode, done.stdout + done.stderr), (0, ""), f"promtool on {name}")


WRONG = {
    "": "no metric",
    "# HELP a A.\n# TYPE a gauge\na 1": "line's end",
    "# HELP a A.\n# TYPE a gauge\n a 1\n": "blanks",
    "# HELP a A.\n# TYPE a gauge\n\na 1\n": "empty",
    "a 1\n": "without HELP",
    "# HELP a A.\na 1\n": "without HELP and TYPE",
    "# TYPE a gauge\n# HELP a A.\na 1\n": "HELP comes once, and first",
    "# HELP a A.\n# HELP a A.\n# TYPE a gauge\na 1\n": "HELP comes once",
    "# HELP a A.\n# TYPE a gauge\n# TYPE a gauge\na 1\n": "TYPE twice",
    "# HELP a A.\n# TYPE a number\na 1\n": "no type",
    "# HELP a A\\b.\n# TYPE a gauge\na 1\n": "not escaped",
    "# HELP a A.\n# TYPE a gauge\n": "no sample",
    "# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b gauge\nb 1\na{c=\"d\"} 2\n": "further above",
    "# HELP a A.\n# TYPE a gauge\na 1\na 2\n": "same sample twice",
    "# HELP a A.\n# TYPE a gauge\na{b=\"1\"} 1\na{c=\"1\"} 2\n": "other labels",
    "# HELP a A.\n# TYPE a gauge\na{b=\"1\",b=\"2\"} 1\n": "twice",
    "# HELP a A.\n# TYPE a gauge\na{b=\"1\" c=\"2\"} 1\n": "no comma",
    "# HELP a A.\n# TYPE a gauge\na{b=\"1\",} 1\n": "a comma behind",
    "# HELP a A.\n# TYPE a gauge\na{b=\"\\x\"} 1\n": "no label",
    "# HELP a A.\n# TYPE a gauge\na{b=\"c\"d\"} 1\n": "no comma",
    "# HELP a A.\n# TYPE a gauge\na{__b=\"1\"} 1\n": "reserved",
    "# HELP a A.\n# TYPE a gauge\na 1 x\n": "no value",
    "# HELP a A.\n# TYPE a gauge\na 0x1\n": "no value",
    "# HELP a A.\n# TYPE a gauge\na\n": "no value",
    "# HELP a A.\n# TYPE a counter\na 1\n": "of this name",
    "# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n": "of this name",
    "# HELP a_total A.\n# TYPE a_total counter\na_total -1\n": "below zero",
    "# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n": "no base unit",
    "# HELP a_count A.\n# TYPE a_count gauge\na_count 1\n": "for histograms",
    "# HELP a_gauge A.\n# TYPE a_gauge gauge\na_gauge 1\n": "type in the name",
    "# EOF\n": "neither HELP nor TYPE",
}


@row("P6_metrics_checker")
def metrics_checker(t):
    """The checker takes what is right and refuses each kind of what is wrong."""
    t.equal(exposition.check(
        '# HELP a_bytes A \\\\ \\n "b".\n# TYPE a_bytes gauge\na_bytes{b="\\\\ \\n \\" }, c="} 1\n'
        'a_bytes{b=""} 0.5\n# HELP c_total C.\n# TYPE c_total counter\nc_total 1e9\n'), [], "right")
    for text, wanted in WRONG.items():
        problems = exposition.check(text)
        t.check(any(wanted in each for each in problems), f"{text!r}: {problems}")


@row("P6_json_is_documented")
def documented(t):
    """Every report against docs/reports.schema.json, of a busy and of a stopped process."""
    program = t.puppet(variables={"MEMCTL_TRACE": "on"})
    program.ask("alloc a 100 100")
    program.ask("churn 2")
    for _ in range(2):
        for words in REPORTS.values():
            show(t, program, *words)
        for words, name in ((("show", "trace", "--all", "-p", program.pid), "trace"),
                            (("list",), "list")):
            data = json.loads(t.memctl(*words, "--format", "json")[0])
            t.equal(schema.check(data, name)[:3], [], name)
        program.stop()
    program.signal(18)
    program.ask("calm")


@row("U3_arenas")
def arenas(t):
    program = t.puppet()
    program.ask("alloc a 5000 1000")
    program.ask("alloc d 4 40000000")
    program.ask("free d 1")
    program.stop()
    rows = {each["name"]: each for each in show(t, program, "arenas")["arenas"]}
    memory = show(t, program, "memory")
    t.equal(rows["slices"]["total"] + rows["huge"]["total"], memory["reserved"], "total")
    t.equal(sum(each["in_use"] for name, each in rows.items()
                if name.startswith("class ")), memory["used"], "in use")
    t.equal(rows["huge"]["in_use"], rows["class huge"]["in_use"], "huge, both ways")
    t.equal(rows["slices"]["total"] - rows["slices"]["in_use"], memory["free"], "free slices")
    t.equal(rows["metadata"]["total"], memory["metadata"], "metadata")
    t.check(rows["huge"]["succeeded"] >= 4, f"{rows['huge']['succeeded']} mappings succeeded")
    t.check(rows["slices"]["succeeded"] > 0, "no slices were taken")
    t.equal((rows["slices"]["failed"], rows["huge"]["failed"]), (0, 0), "failures")


@row("U3_huge_pages")
def huge_pages(t):
    """The three ways are told, and `always` has the program's first objects in whole huge pages."""
    for way in ("dense", "always", "never"):
        program = t.puppet(variables={"MEMCTL_HUGE_PAGES": way})
        program.ask("alloc a 5000 1000")
        program.stop()
        told = show(t, program, "arenas")
        t.equal(told["huge_pages"], way, "huge_pages")
        arenas_ = {int(name.split()[1], 16): each["total"] for each in told["arenas"]
                   if (name := each["name"]).startswith("arena ")}
        is_whole = [size % (2 << 20) == 0 for size in arenas_.values()]
        t.equal(all(is_whole), way == "always", f"{way}: arenas of whole huge pages")
        if way == "always":
            t.equal([hex(base) for base in arenas_ if base % (2 << 20)], [], "beside huge pages")
        t.memctl("verify", *t.target(program))


@row("U3_requests_by_class")
def requests(t):
    """What a program asked for and what it got, exactly, whoever freed it and where it went."""
    program = t.puppet()

    def counts():
        program.stop()
        rows = {each["name"]: each for each in show(t, program, "arenas")["arenas"]}
        classes = {each["slot_size"] or each["class"]: each
                   for each in show(t, program, "classes")["classes"]}
        for size in ("large", "huge", *(size for size in classes if isinstance(size, int))):
            if size in classes:
                row_ = rows[f"class {size}"]
                t.equal((classes[size]["allocations"], classes[size]["failures"]),
                        (row_["succeeded"], row_["failed"]), f"class {size}, both ways")
        program.signal(18)
        return {name.removeprefix("class "): (each["succeeded"], each["failed"])
                for name, each in rows.items() if name.startswith("class ")}

    def grown(before, size):
        now, was = counts().get(size, (0, 0)), before.get(size, (0, 0))
        return now[0] - was[0], now[1] - was[1]

    before = counts()
    program.ask("pairs a 50000 48")
    t.equal(grown(before, "48"), (50000, 0), "pairs on one slot")
    program.ask("alloc b 3000 2000")
    program.ask("free b 3000")
    program.ask("calloc b 200 2000")
    t.equal(grown(before, "2048"), (3200, 0), "malloc and calloc")
    program.ask("realloc b 200 1990")
    t.equal(grown(before, "2048"), (3200, 0), "realloc in place is no request")
    program.ask("realloc b 200 5000")
    # What grows may be given a large slot, to go on growing there.
    moved = [grown(before, size) for size in ("5120", "large")]
    t.equal([sum(each) for each in zip(*moved)], [200, 0], "realloc that moves is one")
    program.ask("cross 4 5000")
    crossed = counts()
    program.ask("thread c 70 200000")
    t.equal(grown(crossed, "large"), (70, 0), "large, by a thread that ended")
    program.ask("alloc d 3 40000000")
    t.equal(grown(crossed, "huge"), (3, 0), "huge")


@row("U8_sizes")
def sizes(t):
    program = t.puppet()
    program.ask("alloc a 300 100")
    t.on(program)
    program.ask("alloc b 500 90")
    program.ask("alloc c 100 3000")
    program.ask("alloc d 1 40000001")
    program.stop()
    rows = {each["slot_size"]: each for each in show(t, program, "sizes")["sizes"]}
    small = next(rows[size] for size in sorted(size for size in rows if size) if size >= 90)
    t.equal((small["traced"], small["requested_bytes"]), (500, 500 * 90), "requests of 90 bytes")
    t.equal((small["requested_min"], small["requested_max"]), (90, 90), "the smallest, the largest")
    t.equal(small["slack_bytes"], 500 * (small["slot_size"] - 90), "slack")
    memory = show(t, program, "memory")
    t.equal(sum(each["slack_bytes"] for each in rows.values()), memory["traced_slack"], "all slack")
    t.equal(sum(each["live_bytes"] for each in rows.values()), memory["used"], "all live bytes")
    t.equal(rows[None]["requested_max"], 40000001, "the largest request")


@row("X1_reports_of_the_dead")
def dead(t):
    """A killed process has left its region; its heap is gone, and that is said."""
    program = t.puppet(variables={"MEMCTL_TRACE": "on"})
    program.ask("alloc a 10 100")
    region = t.region(program).path
    program.kill()
    for words in REPORTS.values():
        for target in (("-p", program.pid), ("--file", region)):
            _, errors = t.memctl("show", *words, *target, status=1)
            t.has(errors, "has ended, and its heap with it")
