# SPDX-License-Identifier: MIT
"""Backtraces: as deep as wanted, ours cut, and every frame named."""

import os
import re
import shutil
import subprocess

from harness import row
from rows.entry_points import plugin


def made(t, path):
    """A program that fills its heap and waits, traced from the start."""
    program = t.start(path, variables={"MEMCTL_TRACE": "on"})
    t.equal(program.answer(), "full", "the program")
    return program


@row("V8_depth")
def depth(t):
    """64 frames by default, 1 and 256 on request; deeper ones are said to be cut."""
    program = t.puppet()
    t.on(program)
    program.ask("deep a 300 32")
    found = t.trace(program).at("descend")
    t.equal((len(found.frames), found.data["cut"]), (64, True), "default depth")
    t.has(t.text(program), "1 stack was deeper than the depth kept")
    program.ask("free a 1")
    for wanted in (256, 1, 64):
        t.on(program, "--depth", wanted)
        program.ask("deep a 300 32")
        found = t.trace(program).at("descend")
        t.equal((len(found.frames), found.data["cut"]), (wanted, True), f"depth {wanted}")
        program.ask("free a 1")
    program.ask("deep a 3 32")
    found = t.trace(program).at("descend")
    t.equal(found.functions[:3] + [found.functions[-1]], ["descend"] * 3 + ["_start"],
            "a whole stack")
    t.equal(found.data["cut"], False, "cut")


@row("V8_recursion_folded")
def recursion_folded(t):
    program = t.puppet()
    t.on(program, "--depth", "256")
    program.ask("deep a 100 32")
    t.equal(t.trace(program).at("descend").functions.count("descend"), 100, "frames in json")
    text = t.text(program)
    t.check(re.search(r"repeated \d+ times", text), f"recursion is not folded: {text[:600]!r}")
    t.check(text.count("descend+") <= 4, f"descend is printed {text.count('descend+')} times")


@row("V8_lines_and_own_frames")
def lines_and_own_frames(t):
    program = t.puppet()
    t.on(program)
    program.ask("alloc a 1 100")
    program.ask("calloc b 1 100")
    table = t.trace(program)
    source = t.source("puppet.c").read_text().splitlines()
    for name, text in (("site_calloc", "calloc(1, size)"), ("site_a", "MAKE_SITE(site_a)")):
        frame = table.at(name).frames[0]
        t.equal(frame["function"], name, "innermost frame")
        t.has(source[frame["line"] - 1], text, f"line {frame['line']}")
        t.equal(os.path.basename(frame["file"]), "puppet.c", "file")
    outer = [each for each in table.at("site_a").functions if each]
    for name in ("allocate", "obey_set", "obey", "main", "_start"):
        t.check(name in outer, f"{name} is not among the frames: {outer}")
    t.equal(outer[-1], "_start", "outermost frame")


@row("V8_signal_handlers")
def signal_handlers(t):
    """Frames of a handler, and beyond it those it interrupted."""
    program = t.puppet()
    t.on(program)
    program.ask("handle a 5 100")
    found = t.site(t.trace(program), ["site_a", "handler", "main"], 5, 100)
    t.equal((found.data["stopped"], found.functions[-1]), (False, "_start"), "the stack's end")
    t.check(any("raise" in (name or "") or "pthread_kill" in (name or "")
                for name in found.functions), f"what it interrupted: {found.functions}")


@row("V8_thread_stacks")
def thread_stacks(t):
    program = t.puppet()
    t.on(program)
    program.ask("thread a 5 100")
    found = t.site(t.trace(program), ["site_a", "allocate_in_thread"], 5, 100)
    t.equal((found.data["stopped"], found.data["cut"]), (False, False), "the whole stack")
    t.check(any((name or "").startswith(("clone", "__clone")) for name in found.functions[-2:]),
            f"outermost frames: {found.functions}")


@row("V8_cxx")
def cxx(t):
    program = made(t, t.build.cxx("names"))
    table = t.trace(program)
    shelf = "shop::Shelf<std::map<std::"
    found = next((each for each in table.rows if (each.functions[0] or "").startswith(shelf)), None)
    t.check(found, f"no row at {shelf}: {table.rows}")
    t.check(">::add(" in found.functions[0], f"not demangled: {found.functions[0]}")
    inlined = table.at("shop::outer")
    names = [each.split("(")[0] for each in inlined.functions[:3]]
    t.equal(names, ["shop::innermost", "shop::middle", "shop::outer"], "inlined frames")
    t.equal([frame["inlined"] for frame in inlined.frames[:3]], [True, True, False], "inlined")
    source = t.source("names.cc").read_text().splitlines()
    for frame, text in zip(inlined.frames, ("innermost", "middle", "outer")):
        t.has(source[frame["line"] - 1], f"// line of {text}", f"line {frame['line']}")
    t.check(any("main::{lambda" in (each or "") for r in table.rows for each in r.functions),
            "the lambda is not named")
    t.equal(sum("recurse" in (each or "") for r in table.rows if r.bytes == 4321
                for each in r.functions), 41, "frames of recurse()")
    text = t.text(program)
    t.check(re.search(r"shop::innermost.*\s+names\.cc:\d+ \(inlined\)", text),
            f"no (inlined): {text[text.find('shop::innermost') - 60:][:300]!r}")


@row("V8_without_pie")
def without_pie(t):
    for name, flags in (("puppet_fixed", ["-no-pie", "-fno-pie"]),
                        ("puppet_static_pie", ["-fPIE", "-pie", "-Wl,-z,now"]),
                        ("puppet_packed", ["-Wl,-z,noseparate-code", "-gdwarf-4"]),
                        ("puppet_high", ["-Wl,-Ttext-segment=0x70000000", "-no-pie"])):
        program = t.puppet(t.build.c(name, *flags, source="puppet.c"))
        t.on(program)
        program.ask("alloc a 4 100")
        found = t.site(t.trace(program), "site_a", 4, 100)
        t.check(found.frames[0]["line"], f"{name}: no line")


@row("V8_stripped")
def stripped(t):
    """Names from a separate debug file: by .gnu_debuglink, by build-id; else module and offset."""
    whole = t.build.c("puppet_whole", "-Wl,--build-id=sha1", source="puppet.c")
    folder = t.folder / "stripped"
    folder.mkdir()
    target, debug = folder / "puppet", folder / "puppet.debug"
    subprocess.run(["objcopy", "--only-keep-debug", whole, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", whole, target],
                   check=True)
    t.has(subprocess.run(["nm", target], capture_output=True, text=True).stderr, "no symbols")
    program = t.puppet(target)
    t.on(program)
    program.ask("alloc a 4 100")
    found = t.site(t.trace(program), "site_a", 4, 100)
    t.check(found.frames[0]["line"], "no line by way of the debug link")
    debug.unlink()
    bare = t.trace(program).rows[0]
    t.check(bare.frames[0]["module"].endswith("stripped/puppet") and
            re.fullmatch(r"0x[0-9a-f]+", bare.frames[0]["module_offset"]),
            f"no module and offset: {bare.frames[0]}")
    t.check(bare.functions[0] != "site_a", "a stripped file without debug file has names")


@row("V8_stripped_by_build_id")
def stripped_by_build_id(t):
    t.need(os.geteuid() == 0, "putting a file below /usr/lib/debug takes root")
    whole = t.build.c("puppet_whole", "-Wl,--build-id=sha1", source="puppet.c")
    target = t.folder / "puppet"
    subprocess.run(["objcopy", "--strip-all", whole, target], check=True)
    notes = subprocess.run(["readelf", "-n", target], capture_output=True, text=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)[1]
    debug = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    existed = os.path.isdir(os.path.dirname(debug))
    os.makedirs(os.path.dirname(debug), exist_ok=True)
    t.undo.append(lambda: os.remove(debug))
    if not existed:
        t.undo.insert(len(t.undo) - 1, lambda: os.rmdir(os.path.dirname(debug)))
    subprocess.run(["objcopy", "--only-keep-debug", whole, debug], check=True)
    program = t.puppet(target)
    t.on(program)
    program.ask("alloc a 4 100")
    found = t.site(t.trace(program), "site_a", 4, 100)
    t.check(found.frames[0]["line"], "no line by way of the build-id")


@row("V8_unloaded")
def unloaded(t):
    """Rows of a library that dlclose took away keep its name and lines."""
    library = plugin(t)
    program = t.puppet()
    t.on(program)
    t.equal(program.ask(f"open {library}"), "done", "dlopen")
    program.ask("call a 5 70")
    t.equal(program.ask("close"), "result 0", "dlclose")
    t.check("plugin.so" not in open(f"/proc/{program.pid}/maps").read(), "it is still mapped")
    found = t.site(t.trace(program), ["plugin_site", "main"], 5, 70)
    t.equal(found.frames[0]["module"], str(library), "module")
    t.check(found.frames[0]["line"], "no line")


@row("V8_two_at_one_address")
def two_at_one_address(t):
    """Two libraries, one after the other at the same addresses, are never taken for each other."""
    names = ("first_site", "second_site", "third_site")
    libraries = [plugin(t, name, f"-DNAME={name}") for name in names]
    program = t.puppet()
    t.on(program)
    starts = []
    for turn in range(2):
        for number, (name, library) in enumerate(zip(names, libraries)):
            t.equal(program.ask(f"open {library}"), "done", "dlopen")
            starts += re.findall(rf"^([0-9a-f]+)-.* 00000000 .*{re.escape(str(library))}$",
                                 open(f"/proc/{program.pid}/maps").read(), re.M)
            program.ask(f"call {'abc'[number]} {10 + number} 70")
            t.equal(program.ask("close"), "result 0", "dlclose")
            table = t.trace(program)
            for other, made_there in enumerate(names):
                loads = turn + (other <= number)
                wanted = (loads * (10 + other), loads * (10 + other) * 70)
                t.equal(table.sums(made_there), wanted, f"{made_there} in turn {turn}")
    t.equal(len(starts), 6, "loads")
    t.check(len(set(starts)) <= 2, f"each had a place of its own: {starts}")


@row("V8_epochs_in_a_loop")
def epochs_in_a_loop(t):
    """Two libraries take turns at one address, while other threads allocate and walk through them."""
    names = ("left_site", "right_site")
    libraries = [plugin(t, name, f"-DNAME={name}") for name in names]
    program = t.puppet()
    t.on(program)
    program.ask("churn 2")
    starts = [set(), set()]
    turns = 120 if t.long else 40
    for turn in range(turns):
        which = turn % 2
        t.equal(program.ask(f"open {libraries[which]}"), "done", "dlopen")
        starts[which].update(re.findall(
            rf"^([0-9a-f]+)-.* 00000000 .*{re.escape(str(libraries[which]))}$",
            open(f"/proc/{program.pid}/maps").read(), re.M))
        program.ask(f"call {'ab'[which]} {3 + which} {50 + which}")
        t.equal(program.ask("close"), "result 0", "dlclose")
    t.check(starts[0] & starts[1], f"the libraries never were at one address: {starts}")
    program.ask("calm")
    table = t.trace(program)
    for which, name in enumerate(names):
        count = turns // 2 * (3 + which)
        t.equal(table.sums(name), (count, count * (50 + which)), name)
        for each in table.all_at(name):
            t.equal(each.frames[0]["module"], str(libraries[which]), f"module of {name}")
            t.equal([other for other in names if other in each.functions], [name], "names of a row")
    t.adds_up(table)


@row("V8_perf_map")
def perf_map(t):
    """Code that no file holds, by frame pointer and through /tmp/perf-PID.map."""
    program = t.start(t.build.c("jit"))
    start = int(program.answer().split()[-1], 16)
    path = f"/tmp/perf-{program.pid}.map"
    if os.path.lexists(path):
        os.remove(path)
    with open(path, "x") as file:
        file.write(f"{start:x} 40 jitted_function in generated code\n")
    t.undo.append(lambda: os.remove(path))
    t.on(program)
    program.ask("go")
    table = t.trace(program)
    found = table.at("jitted_function in generated code")
    t.equal((found.count, found.bytes), (20, 20 * 123), "objects of generated code")
    t.equal(found.functions[0], "from_jit", "the frame inside")
    t.check("main" in found.functions, f"the frames outside are lost: {found.functions}")


@row("V8_stripped_library_exports")
def stripped_library_exports(t):
    """A stripped library still has the names it exports."""
    library = plugin(t, "bare", "-s")
    program = t.puppet()
    t.on(program)
    t.equal(program.ask(f"open {library}"), "done", "dlopen")
    program.ask("call a 3 70")
    t.site(t.trace(program), "plugin_site", 3, 70)


@row("V8_replaced_file")
def replaced_file(t):
    """A file that was replaced by another build gives no wrong names."""
    target = t.folder / "puppet"
    shutil.copy(t.build.c("puppet_whole", "-Wl,--build-id=sha1", source="puppet.c"), target)
    program = t.puppet(target)
    t.on(program)
    program.ask("alloc a 4 100")
    t.site(t.trace(program), "site_a", 4, 100)
    other = t.build.c("puppet_padded", "-Wl,--build-id=sha1", "-O0", source="puppet.c")
    os.replace(shutil.copy(other, t.folder / "new"), target)
    found = next(each for each in t.trace(program).rows if each.bytes == 400)
    right = {"site_a", "allocate", "obey_set", "obey", "obey_all", "main", None}
    ours = {frame["function"] for frame in found.frames if frame["module"] == str(target)}
    t.check(ours <= right | {"_start"}, f"names of another build: {ours}")
