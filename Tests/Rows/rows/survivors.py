# SPDX-License-Identifier: MIT
"""The tool's way in: to stopped, hung, killed and walled-off processes."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness import PATIENCE, Table, row

NOBODY = 65534


@row("X1_stopped")
def stopped(t):
    program = t.puppet()
    program.ask("alloc a 10 100")
    program.stop()
    t.on(program)
    t.equal(t.trace(program).rows, [], "rows, stopped and traced")
    t.check(t.memory(program)["used"] > 0, "show memory of a stopped process")
    program.signal(signal.SIGCONT)
    program.ask("alloc b 20 100")
    program.stop()
    table = t.trace(program)
    t.site(table, "site_b", 20, 100)
    t.adds_up(table)
    t.off(program)
    program.signal(signal.SIGCONT)
    program.ask("alloc c 30 100")
    t.equal(t.trace(program).all_at("site_c"), [], "rows of what was made after off")
    t.site(t.trace(program), "site_b", 20, 100)


@row("X1_spinning")
def spinning(t):
    """A program that hangs in a loop and allocates no more."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 10 100")
    t.equal(program.ask("spin"), "spinning", "the program")
    t.site(t.trace(program), "site_a", 10, 100)
    t.off(program)
    t.on(program)
    t.adds_up(t.trace(program))


@row("X1_killed")
def killed(t):
    """After kill -9 the trace is there, with names, until it is forgotten."""
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 40 100")
    program.ask("deep b 9 700")
    live = t.trace(program)
    program.kill()
    table = t.trace(program)
    t.equal([(each.count, each.bytes, each.functions) for each in table.rows],
            [(each.count, each.bytes, each.functions) for each in live.rows], "rows post mortem")
    t.check(table.at("site_a").frames[0]["line"], "no line")
    text = t.text(program)
    t.has(text, f"{program.pid} (puppet, ended abruptly)")
    t.has(text, f"not compared — process {program.pid} has ended, and its heap with it\n")
    _, errors = t.memctl("trace", "on", "-p", program.pid, status=1)
    t.has(errors, "has ended")
    _, errors = t.memctl("show", "memory", "-p", program.pid, status=1)
    t.has(errors, "has ended")
    t.equal([each["state"] for each in t.list()], ["dead"], "list")
    t.memctl("forget", program.pid)
    t.equal((t.list(), list(t.regions.iterdir())), ([], []), "after forget")
    t.memctl("show", "trace", "-p", program.pid, status=1)


@row("X1_aborted")
def aborted(t):
    program = t.puppet(preexec_fn=no_core_file)
    t.on(program)
    program.ask("alloc a 40 100")
    program.send("abort")
    t.equal(program.wait(), -signal.SIGABRT, "status")
    t.site(t.trace(program), "site_a", 40, 100)


def no_core_file():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@row("X1_region_removed")
def region_removed(t):
    """A living process whose region's name is gone is still reached, by what it has mapped."""
    t.need(os.geteuid() == 0, "a region without a name is reached by root alone")
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 40 100")
    t.region(program).path.unlink()
    t.site(t.trace(program), "site_a", 40, 100)
    t.off(program)
    program.ask("alloc b 40 100")
    t.equal(t.trace(program).all_at("site_b"), [], "rows of what was made after off")
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")


@row("X1_forget_another_version")
def forget_another_version(t):
    """Regions of another memctl are not listed, but said to be there, and can be got rid of."""
    dead, alive = t.puppet(), t.puppet()
    for each in (dead, alive):
        t.on(each)
        with t.region(each).path.open("r+b") as file:
            page = file.read(4096)
            place = page.index(b"\x89memctl1") + 8
            version = int.from_bytes(page[place:place + 4], "little")
            file.seek(place)
            file.write((version + 1).to_bytes(4, "little"))
    dead.kill()
    _, note = t.memctl("list", "--format", "json")
    t.has(note, "2 regions not listed")
    t.has(note, f"of version {version + 1}, memctl is of {version}")
    t.has(t.memctl("forget", "--all")[0], "forgot 1 process")
    t.equal([path.name for path in t.regions.iterdir()], [str(alive.pid)], "what is in use stays")
    alive.send("exit 0")
    t.equal(alive.wait(), 0, "status")


@row("X1_list_and_forget")
def list_and_forget(t):
    idle, gone, traced, alive = (t.puppet() for _ in range(4))
    t.on(traced)
    traced.ask("alloc a 1 100")
    _, errors = t.memctl("forget", "nobody", status=1)
    t.has(errors, "nothing is left of a process nobody")
    _, errors = t.memctl("forget", alive.pid, status=1)
    t.has(errors, "is alive")
    for each in (idle, gone, traced):
        each.kill()
    states = {each["pid"]: each["state"] for each in t.list()}
    t.equal(states, {traced.pid: "dead", alive.pid: "alive"}, "list")
    t.equal(sorted(path.name for path in t.regions.iterdir()),
            sorted([str(traced.pid), str(alive.pid)]), "regions without a trace are cleared")
    text = t.memctl("list")[0].splitlines()
    t.equal(text[0].split(), "PID NAME UPTIME USED TRACE STACKS STATE".split(), "columns")
    t.check(any(line.split()[0] == str(alive.pid) and line.endswith("alive") for line in text),
            f"the living one is not in the list: {text}")
    t.has(t.memctl("forget", "--all")[0], "forgot 1 process")
    t.equal([each["pid"] for each in t.list()], [alive.pid], "after forget --all")
    alive.send("exit 0")
    t.equal(alive.wait(), 0, "status")
    t.equal((t.list(), list(t.regions.iterdir())), ([], []), "after a normal exit")


@row("X1_no_descriptors")
def no_descriptors(t):
    program = t.puppet()
    fds = lambda: sorted(os.listdir(f"/proc/{program.pid}/fd"))  # noqa: E731
    t.equal(fds(), ["0", "1", "2"], "descriptors of a program under the preload")
    t.equal(program.ask("sparse"), "result 0", "close_range")
    t.on(program)
    program.ask("alloc a 30 100")
    t.site(t.trace(program), "site_a", 30, 100)
    program.send("dark b 50 100")
    t.until(lambda: fds() == [] and t.trace(program).sums("site_b")[0] == 50,
            "50 objects of a program without descriptors")
    t.site(t.trace(program), "site_b", 50, 100)
    t.adds_up(t.trace(program))


@row("X1_chrooted")
def chrooted(t):
    t.need(os.geteuid() == 0, "chroot takes root")
    program = t.puppet()
    empty = t.folder / "empty"
    empty.mkdir()
    t.equal(program.ask(f"chroot {empty}"), "result 0", "chroot")
    t.has(t.on(program), "trace on")
    program.ask("alloc a 30 100")
    table = t.trace(program)
    t.adds_up(table)
    found = next(each for each in table.rows if each.bytes == 3000)
    t.equal(found.count, 30, "count")
    t.equal(found.functions[0], "site_a", "named through what the process has mapped")
    t.equal([each["pid"] for each in t.list()], [program.pid], "list")


@row("X1_changed_user")
def changed_user(t):
    t.need(os.geteuid() == 0, "changing the user takes root")
    program = t.puppet()
    t.equal(program.ask(f"setuid {NOBODY}"), "result 0", "setuid")
    t.on(program)
    program.ask("alloc a 30 100")
    table = t.trace(program)
    t.site(table, "site_a", 30, 100)
    t.adds_up(table)
    t.off(program)
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")
    t.equal(t.list(), [], "list after its normal exit, when its region was another user's")


@row("X1_other_users_process")
def other_users_process(t):
    """Refused with a clear message and status 1, whatever is asked."""
    t.need(os.geteuid() == 0, "being another user takes root")
    tool = Path(tempfile.mkdtemp(dir=t.folder.parent)) / "memctl"
    t.undo.append(lambda: shutil.rmtree(tool.parent))
    tool.parent.chmod(0o755)
    shutil.copy(t.memctl_path, tool)
    program = t.puppet()
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    for words in (["trace", "on"], ["trace", "off"], ["show", "trace"], ["show", "memory"],
                  ["show", "total"], ["leak-check", "--for", "1s"]):
        for variables in ({}, {"MEMCTL_DIR": str(t.regions)}):
            done = subprocess.run(
                [*as_nobody, str(tool), *words, "-p", str(program.pid)], capture_output=True,
                text=True, env={"PATH": os.environ["PATH"]} | variables, timeout=PATIENCE)
            t.equal((done.returncode, done.stdout), (1, ""), f"{words}: {done.stderr.strip()}")
            t.check("belongs to user 0" in done.stderr or "ermi" in done.stderr,
                    f"{words}: {done.stderr.strip()}")
    t.equal(t.region(program).armed, 0, "armed")
    t.equal(program.ask("alloc a 1 1"), "done", "the program goes on")


@row("X1_ordinary_user")
def ordinary_user(t):
    """Without root: the default folder, private to its owner, and every command."""
    t.need(os.geteuid() == 0, "becoming an ordinary user takes root")
    user = 100_000 + os.getpid()  # whose folder nobody else makes at the same time
    folder = Path(f"/dev/shm/memctl-{user}")
    tool = Path(tempfile.mkdtemp(dir=t.folder.parent))
    tool.chmod(0o755)
    for file in (t.memctl_path, t.lib, t.build.c("puppet")):
        shutil.copy(file, tool)
        os.chmod(tool / file.name, 0o755)
    t.undo += [lambda: shutil.rmtree(tool), lambda: shutil.rmtree(folder, ignore_errors=True)]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    program = t.start(*as_user, "env", f"LD_PRELOAD={tool / 'libmemctl.so'}", tool / "puppet",
                      preload=False, variables={"MEMCTL_DIR": None})
    program.answer()
    region = folder / str(program.pid)
    t.equal([(path.stat().st_mode & 0o7777, path.stat().st_uid) for path in (folder, region)],
            [(0o700, user), (0o600, user)], "mode and owner of folder and region")

    def memctl(*words):
        done = subprocess.run(
            [*as_user, str(tool / "memctl"), *words], capture_output=True, text=True, timeout=PATIENCE,
            env={"PATH": os.environ["PATH"]})
        t.equal((done.returncode, done.stderr), (0, ""), f"{words}")
        return done.stdout
    memctl("trace", "on")
    program.ask("alloc a 40 100")
    table = Table(json.loads(memctl("show", "trace", "--all", "--format", "json")))
    t.site(table, "site_a", 40, 100)
    t.adds_up(table)
    t.check(json.loads(memctl("show", "memory", "--format", "json"))["pages"]["populated"] > 0,
            "populated pages are unknown to the owner")
    t.check(int(memctl("show", "total")) >= 4000, "show total")
    memctl("trace", "off")
    t.equal([each["pid"] for each in json.loads(memctl("list", "--format", "json"))],
            [program.pid], "list")
    program.send("exit 0")
    t.equal((program.wait(), list(folder.iterdir())), (0, []), "status, and regions left")


@row("X1_may_not_be_looked_into")
def may_not_be_looked_into(t):
    """One's own process that others may not look into: the rows are there, used is not known."""
    t.need(os.geteuid() == 0, "becoming an ordinary user takes root")
    user = 54322
    tool = Path(tempfile.mkdtemp(dir=t.folder.parent))
    t.undo.append(lambda: shutil.rmtree(tool))
    tool.chmod(0o755)
    shutil.copy(t.memctl_path, tool / "memctl")
    t.folder.chmod(0o711)
    os.chown(t.regions, user, user)
    t.build.folder.chmod(0o755)
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    program = t.start(*as_user, "env", f"LD_PRELOAD={t.lib}", t.build.c("puppet"), preload=False)
    program.answer()
    t.equal(program.ask("secret"), "result 0", "prctl")

    def memctl(*words, status=0):
        done = subprocess.run(
            [*as_user, str(tool / "memctl"), *words, "-p", str(program.pid)], text=True, timeout=PATIENCE,
            capture_output=True, env={"PATH": os.environ["PATH"], "MEMCTL_DIR": str(t.regions)})
        t.equal(done.returncode, status, f"{words}: {done.stderr}")
        return done.stdout or done.stderr
    memctl("trace", "on")
    program.ask("alloc a 40 100")
    table = Table(json.loads(memctl("show", "trace", "--all", "--format", "json")))
    t.check(table.totals["used_unknown"], "used is known")
    t.equal((table.rows[0].count, table.rows[0].bytes), (40, 4000), "the row")
    t.has(memctl("show", "trace"), "not compared")
    t.has(memctl("show", "memory", status=1), "not allowed to read the memory")
    memctl("trace", "off")


@row("X1_same_number")
def same_number(t):
    """Two processes with one number, one after the other: the first one's trace is kept."""
    tables = []
    for number, count in enumerate((11, 22, 33)):
        program = unshared(t, ["-p", "-f", "--mount-proc"], "env", f"LD_PRELOAD={t.lib}",
                           "MEMCTL_TRACE=on", t.build.c("puppet"))
        program.ask(f"alloc a {count} 100")
        inner = child_of(t, program)
        t.site(t.trace(t.regions / "1"), "site_a", count, 100)
        os.kill(inner, signal.SIGKILL)
        program.wait()
    for name in sorted(path.name for path in t.regions.iterdir()):
        tables.append(t.trace(t.regions / name).at("site_a").count)
    t.equal(sorted(tables), [11, 22, 33], "traces kept")
    labels = [each["label"] for each in t.list()]
    t.equal(len(set(labels)), 3, f"labels to name them by: {labels}")
    for label in labels:
        t.memctl("forget", label)
    t.equal(t.list(), [], "after forget")


@row("X1_exec_begins_anew")
def exec_begins_anew(t):
    puppet = t.build.c("puppet")
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 40 100")
    t.has(program.ask(f"exec {puppet}"), "ready", "the program once more")
    t.equal([path.name for path in t.regions.iterdir()], [str(program.pid)], "regions")
    t.equal(t.trace(program).rows, [], "rows after exec")
    t.on(program)
    program.ask("alloc b 30 100")
    table = t.trace(program)
    t.site(table, "site_b", 30, 100)
    t.equal(len(table.rows), 1, "rows")


@row("X1_system")
def system(t):
    """Children by vfork, which end or run others in our address space, touch nothing of ours."""
    program = t.puppet()
    for traced in (False, True):
        if traced:
            t.on(program)
        program.ask("alloc a 10 100")
        for command in ("true", "false", "/nowhere"):
            program.ask(f"system {command}")
        t.equal([path.name for path in t.regions.iterdir()], [str(program.pid)], "regions")
        t.equal([each["state"] for each in t.list()], ["alive"], "state")
    t.site(t.trace(program), "site_a", 10, 100)
    program.kill()
    t.equal([each["state"] for each in t.list()], ["dead"], "state of the killed one")


@row("X1_vanishing")
def vanishing(t):
    """Processes that end while they are looked at give a table or an error."""
    leaks = t.build.c("leaks")
    seen = set()
    for number in range(400):
        if number >= 40 and seen == {0, 1}:
            break
        program = t.start(leaks, str(20_000 * (number % 20)), variables={"MEMCTL_TRACE": "on"})
        for words in (["show", "trace", "--all"], ["show", "memory"], ["trace", "off"]):
            done = subprocess.run(
                [t.memctl_path, *words, "-p", str(program.pid)], capture_output=True, timeout=PATIENCE,
                env={"MEMCTL_DIR": str(t.regions), "PATH": os.environ["PATH"]})
            seen.add(done.returncode)
            t.check(done.returncode in (0, 1), f"{words}: status {done.returncode}")
            t.check(done.returncode == 0 or b" \xe2\x80\x94 " in done.stderr,
                    f"{words}: {done.stderr!r}")
        program.wait()
    t.equal(seen, {0, 1}, "statuses seen")


@row("X1_started_in_a_chroot")
def started_in_a_chroot(t):
    """A process of a container's file tree: its region and its files are below /proc/PID/root."""
    t.need(os.geteuid() == 0, "chroot takes root")
    tree = t.folder / "tree"
    puppet = t.build.c("puppet")
    for file in (puppet, t.lib, *loaded_by(puppet)):
        place = tree / Path(file).relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (tree / "regions").mkdir(mode=0o700)
    program = t.start("chroot", tree, puppet, preload=False, variables={"MEMCTL_DIR": None})
    program.answer()
    program.kill()
    loader = next(file for file in loaded_by(puppet) if "ld-linux" in file)
    program = t.start("chroot", tree, loader, "--preload", t.lib, puppet, preload=False,
                      variables={"MEMCTL_DIR": "/regions"})
    program.answer()
    t.on(program)
    program.ask("alloc a 40 100")
    found = t.site(t.trace(program), "site_a", 40, 100)
    t.check(found.frames[0]["line"], "no line")
    t.equal(os.listdir(tree / "regions"), [str(program.pid)], "its region")


def loaded_by(program):
    """Libraries and loader of a program, as files."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in text.split() if word.startswith("/")]


def child_of(t, program):
    def children():
        path = f"/proc/{program.pid}/task/{program.pid}/children"
        return Path(path).read_text().split()
    return int(t.until(children, "unshare starts its child")[0])


def unshared(t, flags, *command, variables=None):
    """A puppet in namespaces of its own, or Skip."""
    t.need(os.geteuid() == 0, "namespaces take root")
    probe = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True)
    t.need(probe.returncode == 0, f"unshare {' '.join(flags)}: {probe.stderr.strip()}")
    program = t.start("unshare", *flags, *command, preload=False, variables=variables)
    program.answer()
    return program


@row("X1_mount_namespace")
def mount_namespace(t):
    """A process with a /dev/shm of its own, as in a container: found through /proc/PID/root."""
    script = f'mount -t tmpfs none /dev/shm && LD_PRELOAD={t.lib} exec {t.build_outside("puppet")}'
    program = unshared(t, ["-m"], "sh", "-c", script, variables={"MEMCTL_DIR": None})
    default = {"MEMCTL_DIR": None}
    t.memctl("trace", "on", "-p", program.pid, variables=default)
    program.ask("alloc a 30 100")
    table = t.trace(program, variables=default)
    t.site(table, "site_a", 30, 100)
    t.adds_up(table)
    t.check(not Path(f"/dev/shm/memctl-0/{program.pid}").exists(), "the region is in our /dev/shm")
    t.check(program.pid in [each["pid"] for each in t.list(variables=default)], "not in the list")
    t.memctl("trace", "off", "-p", program.pid, variables=default)
    program.send("exit 0")
    t.equal(program.wait(), 0, "status")


@row("X1_pid_namespace")
def pid_namespace(t):
    """A process that is number 1 to itself."""
    program = unshared(t, ["-p", "-f", "--mount-proc"], "env", f"LD_PRELOAD={t.lib}",
                       t.build.c("puppet"))
    program.pid = child_of(t, program)
    t.has(t.on(program), f"process {program.pid}")
    program.ask("alloc a 30 100")
    table = t.trace(program)
    t.site(table, "site_a", 30, 100)
    t.adds_up(table)
    t.equal([(each["pid"], each["state"]) for each in t.list()], [(program.pid, "alive")], "list")
    t.equal([path.name for path in t.regions.iterdir()], ["1"], "its region's name")
    program.process.kill()
