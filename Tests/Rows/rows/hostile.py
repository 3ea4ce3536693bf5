# SPDX-License-Identifier: MIT
"""Hostile regions: files that are damaged, no files at all, or put there by somebody else. The tool
says what is wrong with each; none crashes it, hangs it or makes it ask for much memory."""

import os
import random
import subprocess

from harness import PATIENCE, row

NOBODY = 65534


def regions_of_a_kind(t, whole):
    """Damaged copies of a region: (name, bytes)."""
    chance = random.Random(7)
    yield "empty", b""
    yield "short", whole[:63]
    yield "one_page", whole[:4096]
    yield "half", whole[:len(whole) // 2]
    yield "zeros", bytes(len(whole))
    yield "noise", chance.randbytes(65536)
    for field in range(64, 376, 8):
        for value in (2**64 - 1, 2**63, 1 << 32):
            yield f"word_{field}_{value:x}", (whole[:field] + value.to_bytes(8, "little")
                                              + whole[field + 8:])
    for number in range(40):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 10, 1000))):
            data[chance.randrange(64, len(data))] = chance.randrange(256)
        yield f"random_{number}", bytes(data)


@row("X1_hostile_region")
def hostile_region(t):
    """Damaged files give a report or an error, never a crash, a hang or a huge allocation."""
    program = t.puppet()
    t.on(program)
    program.ask("many a 60 100")
    region = t.region(program).path
    program.kill()
    whole = sparse_head(region)
    target = t.regions / "77"
    seen = set()
    for number, (name, data) in enumerate(regions_of_a_kind(t, whole)):
        if not t.long and name.startswith("word") and number % 3:
            continue
        target.write_bytes(data)
        os.truncate(target, max(len(data), region.stat().st_size if name[0] in "wr" else 0))
        for words in (["show", "trace", "--all", "--file", target],
                      ["list"] if number % 8 == 0 else []):
            if not words:
                continue
            done = subprocess.run(
                ["prlimit", f"--as={4 << 30}", str(t.memctl_path), *map(str, words)],
                env={"MEMCTL_DIR": str(t.regions), "PATH": os.environ["PATH"],
                     "DEBUGINFOD_URLS": ""}, capture_output=True, timeout=PATIENCE)
            seen.add(done.returncode)
            t.check(done.returncode in (0, 1), f"{name}: {words[0]} ended with {done.returncode}")
            if done.returncode:
                t.check(b" \xe2\x80\x94 " in done.stderr, f"{name}: {done.stderr!r}")
    t.equal(seen, {0, 1}, "statuses seen: some were readable, some were not")


def sparse_head(path):
    """What there is of a sparse file, up to the last byte written below 16 MiB."""
    with open(path, "rb") as file:
        data = file.read(16 << 20).rstrip(b"\0")
    return data + bytes(-len(data) % 4096)


@row("X1_strange_files")
def strange_files(t):
    """Links, pipes and folders among the regions are left alone and hang nobody."""
    program = t.puppet()
    os.mkfifo(t.regions / "5")
    os.symlink(t.region(program).path, t.regions / "6")
    (t.regions / "7").mkdir()
    (t.regions / "notes").write_text("not a region")
    t.equal([each["pid"] for each in t.list()], [program.pid], "list")
    for name in ("5", "7", "notes"):
        _, errors = t.memctl("show", "trace", "--file", t.regions / name, status=1)
        t.has(errors, name)
    t.memctl("forget", "--all")
    t.equal(sorted(path.name for path in t.regions.iterdir()),
            sorted(["5", "6", "7", "notes", str(program.pid)]), "what is no region is not removed")


@row("X1_linked_folder")
def linked_folder(t):
    """A folder of regions that somebody else could have put there is not used."""
    t.need(os.geteuid() == 0, "giving a folder away takes root")
    theirs = t.folder / "theirs"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, NOBODY, NOBODY)
    program = t.puppet(variables={"MEMCTL_DIR": str(theirs), "MEMCTL_VERBOSE": "1"})
    t.equal(program.ask("alloc a 10 100"), "done", "the program goes on")
    t.check(os.listdir(theirs) == [] or os.stat(theirs / os.listdir(theirs)[0]).st_mode & 0o77 == 0,
            "a region that others may read")
