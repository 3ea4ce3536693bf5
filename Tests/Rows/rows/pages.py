# SPDX-License-Identifier: MIT
"""The address space as a map, and pages of every kind, on kernels that tell less."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree
from pathlib import Path

from harness import row
from rows.memory import PAGE, REPORTS, adds_up, counted_late, mappings, show


@row("P3_map", tries=3)
def heap_map(t):
    program = t.puppet()
    program.ask("alloc a 1000 1000")
    program.ask("alloc d 2 40000000")
    program.ask("touch d 100")
    program.ask("every a")
    program.stop()
    memory = show(t, program, "memory")
    heap = show(t, program, "memory", "map")["mappings"]
    slots = [each for each in heap if each["kind"] in ("arena", "huge")]
    t.equal(sum(each["size"] for each in slots), memory["reserved"], "sizes")
    t.equal(sum(each["populated"] for each in slots), memory["pages"]["populated"], "pages")
    t.equal(sum(each["free_inside"] for each in slots),
            memory["resident"]["cached"] + memory["resident"]["free"], "free inside")
    t.equal(len([each for each in slots if each["kind"] == "huge"]), 2, "huge slots")
    whole = show(t, program, "memory", "map", "--all")
    limit = mappings(program.pid) * PAGE + counted_late(program.pid)
    t.check(abs(whole["remainder"]) <= limit, "the sum is not RSS")
    text = t.memctl("show", "memory", "map", "--all", "-p", program.pid)[0]
    t.check(all(len(line) <= 80 for line in text.splitlines()), "lines longer than 80 columns")
    picture = t.folder / "map.svg"
    t.memctl("show", "memory", "map", "--svg", picture, "-p", program.pid)
    root = xml.etree.ElementTree.parse(picture).getroot()
    t.check(root.tag.endswith("svg"), root.tag)
    text = picture.read_text()
    t.check("href" not in text and "<script" not in text, "the picture needs something else")
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    for wanted in (r"slots of \d+ bytes, 50 % live", "huge slot, populated",
                   "huge slot, not populated"):
        t.check(any(re.fullmatch(wanted, title) for title in titles), f"no cell says {wanted!r}")
    _, errors = t.memctl("show", "memory", "map", "--svg", "/nowhere/x.svg", "-p", program.pid,
                         status=1)
    t.has(errors, "can't write /nowhere/x.svg")
    full = t.folder / "full"
    full.symlink_to("/dev/full")
    _, errors = t.memctl("show", "memory", "map", "--svg", full, "-p", program.pid, status=1)
    t.has(errors, "No space left on device")
    t.check(full.is_symlink(), "what is no file of its own is written to, not replaced")
    t.memctl("show", "memory", "--all", "-p", program.pid, status=64)


@row("P4_nodes_refused", tries=3)
def nodes_refused(t):
    """A filter that refuses move_pages(2): pages are known, nodes are not."""
    refuse = t.build.c("refuse")
    program = t.puppet()
    program.ask("alloc a 1000 1000")
    program.stop()
    wanted = show(t, program, "memory")
    found = show(t, program, "memory", prefix=(refuse, "nodes"))
    t.equal(found["numa"], {"unavailable": "EPERM", "nodes": []}, "nodes")
    t.equal(found["pages"], wanted["pages"], "pages")
    text = t.memctl("show", "memory", "-p", program.pid, prefix=(refuse, "nodes"))[0]
    t.has(text, "numa: unavailable (EPERM)\n")
    for name in ("threads", "numa"):
        t.equal(show(t, program, name, prefix=(refuse, "nodes"))["numa_unavailable"], "EPERM", name)


def known_to_all(report):
    """Without what those words tell root alone: which pages are huge, or the page of zeros."""
    if isinstance(report, list):
        return [known_to_all(each) for each in report]
    if not isinstance(report, dict):
        return report
    hidden = () if os.geteuid() == 0 else ("zero", "huge")
    return {key: None if key in hidden else known_to_all(value) for key, value in report.items()}


@row("P4_older_kernel", tries=3)
def older_kernel(t):
    """Without PAGEMAP_SCAN the words of pagemap say the same."""
    refuse = t.build.c("refuse")
    program = t.puppet()
    program.ask("alloc a 1000 1000")
    program.ask("alloc d 2 40000000")
    program.ask("touch d 100")
    program.stop()
    for name, words in REPORTS.items():
        t.equal(known_to_all(show(t, program, *words, prefix=(refuse, "scan"))),
                known_to_all(show(t, program, *words)), name)


@row("P4_pages_of_zeros")
def zeros(t):
    program = t.start(t.build.c("pages"), "zero", "300")
    program.answer()
    program.stop()
    for prefix in ((), (t.build.c("refuse"), "scan")):
        pages = show(t, program, "memory", prefix=prefix)["pages"]
        # Without the scan only root is told how many.
        known = pages["zero"] is not None
        t.equal(pages["zero"], 300 if known else None, f"pages of zeros {prefix}")
        t.check(known or os.geteuid() != 0, f"pages of zeros are not known {prefix}")
        t.check(pages["populated"] < 100, f"{pages['populated']} pages are populated")
        text = t.memctl("show", "memory", "-p", program.pid, prefix=prefix)[0]
        if known:
            t.has(text, "of the not populated 300 are the page of zeros")
    adds_up(t, program)


@row("P4_swap", alone=True, tries=3)
def swap(t):
    t.need(os.geteuid() == 0, "swap takes root")
    file = Path(f"/var/tmp/memctl-swap-{os.getpid()}")
    t.undo.append(lambda: file.unlink(missing_ok=True))
    with open(file, "wb") as out:
        out.write(bytes(64 << 20))
    file.chmod(0o600)

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        t.need(done.returncode == 0, f"{words[0]}: {done.stderr.strip()}")
        return done.stdout.strip()
    t.need(shutil.which("losetup"), "losetup is not installed")
    device = run("losetup", "--find", "--show", str(file))
    t.undo.append(lambda: subprocess.run(["losetup", "-d", device]))
    run("mkswap", device)
    run("swapon", device)
    t.undo.append(lambda: subprocess.run(["swapoff", device], check=True))
    program = t.start(t.build.c("pages"), "swap", "2000")
    program.answer()
    program.stop()
    memory = adds_up(t, program)
    t.need(memory["resident"]["swap"] > 0, "the kernel did not swap")
    swapped = memory["pages"]["swapped"]
    t.check(1000 <= swapped <= 2000, f"{swapped} of 2000 pages are in swap")
    t.check(abs(swapped * PAGE - memory["resident"]["swap"])
            <= 64 * PAGE + counted_late(program.pid), "as the kernel counts")
    rows = show(t, program, "memory", "map")["mappings"]
    t.equal(sum(each["swapped"] for each in rows if each["kind"] == "huge"), swapped, "the map")
    t.has(t.memctl("show", "memory", "-p", program.pid)[0],
          f"of the not populated {swapped} are in swap")


@row("P4_hugetlb", alone=True)
def hugetlb(t):
    t.need(os.geteuid() == 0, "huge pages take root")
    number = Path("/proc/sys/vm/nr_hugepages")
    t.need(number.exists(), "the kernel has no hugetlbfs")
    before = number.read_text()
    t.undo.append(lambda: number.write_text(before))
    number.write_text(str(int(before) + 4))
    t.need(int(number.read_text()) >= int(before) + 4, "no memory for huge pages")
    program = t.start(t.build.c("pages"), "hugetlb", "3")
    program.answer()
    program.stop()
    memory = adds_up(t, program)
    t.equal(memory["resident"]["hugetlb"], 3 * (2 << 20), "bytes in hugetlbfs")
    found = [each for each in show(t, program, "memory", "map", "--all")["mappings"]
             if each["kind"] == "hugetlb"]
    t.equal([(each["page_size"], each["populated"]) for each in found], [(2 << 20, 3 * 512)],
            "the mapping")


@row("P4_huge_pages")
def huge_pages(t):
    program = t.start(t.build.c("pages"), "huge", "64")
    program.answer()
    program.stop()
    memory = adds_up(t, program)
    mode = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if mode.exists() and "[never]" not in mode.read_text():
        status = Path(f"/proc/{program.pid}/smaps_rollup").read_text()
        kernels = int(re.search(r"^AnonHugePages:\s+(\d+)", status, re.M)[1]) * 1024
        t.equal(memory["pages"]["huge"] * PAGE, kernels, "bytes in huge pages")


@row("P4_no_permission")
def no_permission(t):
    """Somebody else's process, and one that may not be looked into: said, with what to do."""
    t.need(os.geteuid() == 0 and shutil.which("setpriv"), "another user takes root and setpriv")
    path = Path(t.build_outside("puppet"))
    library = shutil.copy2(t.lib, path.parent)
    memctl = shutil.copy2(t.memctl_path, path.parent)
    path.parent.chmod(0o755)
    os.chown(t.regions, 65534, 65534)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    program = t.start(*user, "env", f"LD_PRELOAD={library}", path, preload=False)
    program.answer()
    t.equal(program.number("secret"), 0, "result")
    t.memctl_path = memctl
    for words in REPORTS.values():
        _, errors = t.memctl("show", *words, "-p", program.pid, prefix=user, status=1)
        t.has(errors, "not allowed to read the memory")
        t.has(errors, "CAP_SYS_PTRACE")
        if Path("/proc/sys/kernel/yama/ptrace_scope").exists():
            scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
            t.check(scope == "0" or f"ptrace_scope is {scope}" in errors, errors)


@row("P1_sixteen_gibibytes")
def sixteen_gibibytes(t):
    """Touched sparsely: right to the page, whatever the machine has."""
    free = int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
    t.need(free > 2 << 30, "less than 2 GiB of memory are free")
    limit = 16
    program = t.start(t.build.c("pages"), "sparse", limit)
    program.answer()
    program.stop()
    memory = adds_up(t, program)
    t.check(memory["reserved"] >= limit << 30, "less is reserved")
    touched = memory["pages"]["populated"]
    if memory["pages"]["huge"] == 0:
        t.check(limit * 1024 <= touched <= limit * 1024 + 256, f"{touched} pages are populated")
