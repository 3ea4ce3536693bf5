#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`show numa`, `show memory`, `explain` and `verify` on a machine of two nodes, which is emulated.

    Tests/Numa/run.py [--memctl PATH] [--lib PATH] [--kernel VMLINUZ] [--accel kvm] [--keep FILE]

qemu boots Debian's kernel (of linux-image-cloud-amd64, downloaded and unpacked below build/numa, not
installed) with a small initramfs: busybox, the library, the tool with the libraries it needs, and
placed.c, which puts its memory on nodes by mbind(2). What the tool says comes back over the serial
line; --keep writes all of it to a file. On standard output a line a test, as of other suites.

The processors are emulated, so that it runs wherever qemu does, and it takes some minutes.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 1800  # seconds for the whole machine, however slowly it is emulated
MIB = 1 << 20
OBJECT = 64 * MIB
SLOTS = 16384 * 1000  # bytes that each thread of `placed threads` asks for


class Failed(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failed(what)


# --- the machine


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def kernel(folder):
    """Debian's kernel for virtual machines: its package is unpacked here, nothing is installed."""
    found = sorted(folder.glob("package/boot/vmlinuz-*"))
    if not found:
        depends = run("apt-cache", "depends", "linux-image-cloud-amd64", capture_output=True,
                      text=True).stdout
        name = re.search(r"Depends: (linux-image-\S+)", depends)
        check(name, "apt knows no linux-image-cloud-amd64: run apt-get update")
        run("apt-get", "download", name[1], cwd=folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        package = sorted(folder.glob("linux-image-*.deb"))[-1]
        run("dpkg-deb", "-x", package, folder / "package")
        found = sorted(folder.glob("package/boot/vmlinuz-*"))
    return found[-1]


def libraries_of(*programs):
    """Paths of all that these load, the loader too."""
    found = set()
    for program in programs:
        text = run("ldd", program, capture_output=True, text=True).stdout
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", text)}
    return found


def initramfs(folder, memctl, lib):
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "lib", "lib64", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    placed = root / "bin/placed"
    run("gcc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-fno-builtin", "-pthread", "-o", placed,
        HERE / "placed.c")
    shutil.copy(memctl, root / "bin/memctl")
    shutil.copy(lib, root / "lib/libmemctl.so")
    run("strip", root / "bin/memctl")
    for path in libraries_of(memctl, placed):
        target = "lib64" if path.name.startswith("ld-linux") else "lib"
        shutil.copy(path, root / target / path.name)
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "mount", "mkdir", "mkfifo", "cat", "kill", "poweroff", "dmesg", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    shutil.copy(HERE / "init", root / "init")
    image = folder / "initramfs.gz"
    with open(image, "wb") as file:
        names = subprocess.Popen(["find", "."], cwd=root, stdout=subprocess.PIPE)
        packed = subprocess.Popen(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root,
                                  stdin=names.stdout, stdout=subprocess.PIPE)
        run("gzip", "-1", stdin=packed.stdout, stdout=file)
        check(packed.wait() == 0 and names.wait() == 0, "no initramfs could be made")
    return image


def boot(vmlinuz, image, accel):
    """What the machine writes to its serial line until it turns itself off."""
    command = ["qemu-system-x86_64", "-accel", accel, "-cpu", "max", "-m", "1024", "-smp", "2"]
    for node in "01":
        command += ["-object", f"memory-backend-ram,id=m{node},size=512M",
                    "-numa", f"node,nodeid={node},cpus={node},memdev=m{node}"]
    command += [
        "-kernel", str(vmlinuz), "-initrd", str(image), "-append",
        "console=ttyS0 quiet panic=-1 rdinit=/init transparent_hugepage=never",
        "-nographic", "-no-reboot", "-nic", "none"]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    try:
        return machine.communicate(timeout=PATIENCE)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        machine.kill()
        return machine.communicate()[0].decode(errors="replace")


# --- what it said


class Said:
    """The answers, by `POLICY REPORT`."""

    def __init__(self, text):
        self.text = text.replace("\r", "")
        self.answers = {}
        pattern = r"=== begin (.+)\n((?:.*\n)*?)=== end (\d+)"
        for name, body, status in re.findall(pattern, self.text):
            self.answers[name] = (int(status), body.strip())

    def answer(self, name):
        check(name in self.answers, f"{name}: not said; the last: {self.text[-300:]!r}")
        status, body = self.answers[name]
        check(status == 0, f"{name}: status {status}: {body[-300:]}")
        return body

    def json(self, name):
        return json.loads(self.answer(name).splitlines()[-1])


def by_node(report):
    nodes = {each["node"]: each["bytes"] for each in report["numa"]["nodes"]}
    return [nodes.get(0, 0), nodes.get(1, 0)]


def two_nodes(said):
    check("=== nodes 0-1" in said.text, f"nodes: {said.text[-300:]!r}")
    check("=== done" in said.text, f"the machine did not come to its end: {said.text[-300:]!r}")


def bound(said):
    first, second = by_node(said.json("bind memory"))
    check(second >= OBJECT, f"node 1 has {second} bytes, bound were {OBJECT}")
    check(first < OBJECT // 8, f"node 0 has {first} bytes")


def interleaved(said):
    """How evenly is the kernel's business; that both have a good part is the policy."""
    first, second = by_node(said.json("interleave memory"))
    check(first + second >= OBJECT, f"{first} + {second} bytes of {OBJECT}")
    check(min(first, second) >= OBJECT // 4, f"{first} and {second} bytes")


def threads(said):
    """A page is on the node of the thread that touches it first."""
    first, second = by_node(said.json("threads memory"))
    check(first >= SLOTS and second >= SLOTS, f"{first} and {second} bytes, {SLOTS} each")


def sums(said):
    for policy in ("bind", "interleave", "threads"):
        report = said.json(f"{policy} memory")
        pages, nodes = report["pages"], report["numa"]["nodes"]
        check(report["numa"]["unavailable"] is None, f"{policy}: {report['numa']}")
        check(pages["total"] == pages["populated"] + pages["not_populated"] + pages["unknown"],
              f"{policy}: {pages}")
        check(sum(each["pages"] for each in nodes) == pages["populated"],
              f"{policy}: nodes {nodes}, populated {pages['populated']}")


def show_numa(said):
    for policy in ("bind", "interleave", "threads"):
        said.json(f"{policy} numa")
        said.json(f"{policy} numa-thread")
        wide = [line for line in said.answer(f"{policy} numa-text").splitlines() if len(line) > 80]
        check(not wide, f"{policy}: wide lines {wide[:2]}")


def explained(said):
    report = said.json("bind explain")
    parts = {name: each["bytes"] for name, each in report["parts"].items()}
    check(parts["untraced"] >= OBJECT, f"untraced {parts['untraced']}")
    check(abs(report["remainder"]) <= MIB, f"remainder {report['remainder']}")


def verified(said):
    for policy in ("bind", "interleave", "threads"):
        check(said.json(f"{policy} verify")["clean"], f"{policy}: not clean")


TESTS = [two_nodes, bound, interleaved, threads, sums, show_numa, explained, verified]


def main():
    parser = argparse.ArgumentParser(description="NUMA reports on an emulated machine")
    parser.add_argument("--memctl", type=Path, default=ROOT / "build/bin/memctl")
    parser.add_argument("--lib", type=Path, default=ROOT / "build/lib/libmemctl.so")
    parser.add_argument("--kernel", type=Path, help="a kernel, instead of Debian's")
    parser.add_argument("--accel", default="tcg", help="kvm, where it works; tcg is everywhere")
    parser.add_argument("--keep", type=Path, help="write what the machine said to a file")
    options = parser.parse_args()
    folder = ROOT / "build/numa"
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("qemu-system-x86_64", "busybox", "cpio"):
        if not shutil.which(program):
            print(f"skip numa: there is no {program}: Tests/Setup/packages.sh numa installs it")
            return 0
    started = time.monotonic()
    image = initramfs(folder, options.memctl, options.lib)
    said = Said(boot(options.kernel or kernel(folder), image, options.accel))
    print(f"numa: the machine ran for {time.monotonic() - started:.0f} s", file=sys.stderr)
    if options.keep:
        options.keep.write_text(said.text)
    failed = 0
    for test in TESTS:
        try:
            test(said)
            print(f"ok numa/{test.__name__}")
        except (Failed, KeyError, ValueError) as reason:
            failed += 1
            print(f"not ok numa/{test.__name__}: {' '.join(str(reason).split())}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
