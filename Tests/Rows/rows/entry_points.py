# SPDX-License-Identifier: MIT
"""The whole process is seen: every entry point, what libc allocates, other languages, what is
allocated before main."""

import os
import re
import shutil
import subprocess

from harness import Skip, row

SIZE, COUNT = 200, 7
# Sites whose objects are of the size asked for.
PLAIN = """malloc calloc realloc realloc_null reallocarray aligned_alloc memalign valloc
    posix_memalign
    new new_array new_nothrow new_array_nothrow new_expression strdup asprintf""".split()
# libstdc++ rounds these up to a multiple of the alignment before it asks for them.
ALIGNED = "new_aligned new_array_aligned new_aligned_nothrow new_array_aligned_nothrow".split()


def plugin(t, name="plugin", *flags):
    return t.build.c(name + ".so", "-shared", "-fPIC", *flags, source="plugin.c")


@row("V3_entry_points")
def entry_points(t):
    lines = t.folder / "line"
    lines.write_text("a line of thirty-one characters\n")
    program = t.start(t.build.cxx("entry_points"), lines, plugin(t),
                      variables={"MEMCTL_TRACE": "on"})
    t.equal(program.answer(), "full", "the program")
    table = t.trace(program)

    def rows_of(name):  # from_new, but not from_new_array
        return [each for each in table.rows if f"from_{name}" in each.functions]

    def sums(name):
        found = rows_of(name)
        return sum(each.count for each in found), sum(each.bytes for each in found)
    for name in PLAIN:
        t.equal(sums(name), (COUNT, COUNT * SIZE), name)
    for name in ALIGNED:
        t.equal(sums(name), (COUNT, COUNT * 256), name)
    t.equal(sums("pvalloc"), (COUNT, COUNT * 4096), "pvalloc asks for whole pages")
    t.equal(sums("strndup"), (COUNT, COUNT * 10), "strndup")
    lines = [(each.count, each.bytes) for each in rows_of("getline")]
    t.check((COUNT, COUNT * 120) in lines, f"getline: {lines}")  # beside the file's buffer
    t.equal(sums("fopen")[0], COUNT, "fopen: one FILE each")
    t.check(sums("fopen")[1] >= COUNT * 200, "fopen: a FILE has more than 200 bytes")
    t.check(sums("dlopen")[0] >= 3, f"dlopen: {sums('dlopen')}, the loader allocates more")
    threads = rows_of("pthread_create")
    t.check(sum(each.count for each in threads) == COUNT
            and any("_dl_allocate_tls" in (name or "") for each in threads
                    for name in each.functions), f"TLS of thread stacks: {threads}")
    t.equal(sums("constructor"), (1, 333), "what a constructor kept; what main freed is gone")
    t.adds_up(table)
    for name in PLAIN[:9]:
        t.equal({each.functions[0] for each in rows_of(name)}, {f"from_{name}"}, "innermost frame")
    library = os.path.realpath(t.lib)
    for each in table.rows:
        t.check(all(frame["module"] != library for frame in each.frames), f"{each}: our own frame")
    os.write(program.write, b"\n")
    t.equal(program.wait(), 0, "status")


@row("V5_from_the_start")
def from_the_start(t):
    """MEMCTL_TRACE=on and `memctl run --trace`: constructors' allocations, and the loader's."""
    lines = t.folder / "line"
    lines.write_text("x\n")
    entry = t.build.cxx("entry_points")
    library = plugin(t)
    traced = t.start(t.memctl_path, "run", "--trace", "--", entry, lines, library, preload=False,
                     variables={"MEMCTL_LIBRARY": str(t.lib)})
    t.equal(traced.answer(), "full", "the program")
    found = t.trace(traced)
    row_of = next(each for each in found.rows if "from_constructor" in each.functions)
    t.equal((row_of.count, row_of.bytes), (1, 333), "the constructor's row")
    t.equal(found.totals["untraced_count"], 0, "untraced, when traced from the start")
    t.check(any("_dl_" in (name or "") or "call_init" in (name or "")
                for each in found.rows for name in each.functions), "nothing of the loader's")
    os.write(traced.write, b"\n")
    t.equal(traced.wait(), 0, "status")
    plain = t.start(t.memctl_path, "run", "--", entry, lines, library, preload=False,
                    variables={"MEMCTL_LIBRARY": str(t.lib)})
    t.equal(plain.answer(), "full", "the program")
    t.equal(t.trace(plain).rows, [], "rows without --trace")
    t.check(t.trace(plain).totals["used_count"] > 100, "the heap is not in use without --trace")


@row("V5_run_keeps")
def run_keeps(t):
    """--keep: the trace of a program that ended is there until it is forgotten."""
    leaks = t.build.c("leaks")
    t.memctl("run", "--trace", "--keep", "--depth", "1", "--", leaks, "25")
    entry = t.list()[0]
    t.equal(entry["state"], "exited", "state")
    table = t.trace(entry["file"])
    t.site(table, "lose", 25, 77)
    t.equal([len(each.frames) for each in table.all_at("lose")], [1], "frames with --depth 1")
    t.memctl("forget", "--all")
    t.equal((t.list(), list(t.regions.iterdir())), ([], []), "after forget")
    t.memctl("run", "--trace", "--", leaks, "25")
    t.equal(list(t.regions.iterdir()), [], "regions of a program that was to keep none")


@row("V3_new_handler")
def new_handler(t):
    t.run(t.build.cxx("new_handler"), variables={"MEMCTL_TRACE": "on"})


def language(t, command):
    program = t.start(command, variables={"MEMCTL_TRACE": "on"})
    t.equal(program.answer(), "full", "the program")
    return program, t.trace(program)


@row("V3_rust")
def rust(t):
    compiler = shutil.which("rustc") or os.path.expanduser("~/.cargo/bin/rustc")
    t.need(os.access(compiler, os.X_OK), "rustc is not installed")
    program, table = language(t, t.build.make(
        "names_rs", [compiler, "-g", "-O", "--crate-name", "names", "-o", "@OUT@",
                     t.source("names.rs")]))
    t.equal(table.sums("names::make_box"), (9, 9 * 777), "boxes")
    boxed = table.all_at("names::make_box")[0]
    t.check(any(re.match(r"names::Shelf<.*>::fill|<names::Shelf<.*>>::fill", name or "")
                for each in table.rows if each.bytes == 8000 for name in each.functions),
            f"Shelf::fill is not named: {[each for each in table.rows if each.bytes == 8000]}")
    t.check(table.sums("names::make_map")[1] > 1600, "the map")
    t.check(any(frame["file"] and frame["file"].endswith("names.rs") and frame["line"]
                for frame in boxed.frames), "no line of names.rs")
    t.adds_up(table)


@row("V3_swift")
def swift(t):
    t.need(shutil.which("swiftc"), "swiftc is not installed")
    program, table = language(t, t.build.make(
        "names_swift", ["swiftc", "-g", "-O", "-module-name", "names", "-o", "@OUT@",
                        t.source("names.swift")]))
    parcels = [each for each in table.rows if each.count == 50
               and any("makeParcels" in (name or "") for name in each.functions)]
    t.equal(len(parcels), 1, f"rows of 50 parcels: {table.rows[:9]}")
    t.equal(parcels[0].bytes, 50 * (16 + 64), "bytes of parcels")
    filled = [each for each in table.rows if any("Shelf.fill" in (n or "") for n in each.functions)]
    t.check(filled and filled[0].bytes >= 8000, f"Shelf.fill is not named: {table.rows[:9]}")
    t.check(any(frame["file"] and frame["file"].endswith("names.swift") and frame["line"]
                for frame in parcels[0].frames), "no line of names.swift")
    t.adds_up(table)


@row("V3_go_c_parts")
def go_c_parts(t):
    t.need(shutil.which("go"), "go is not installed")
    folder = t.folder / "parts"
    folder.mkdir()
    (folder / "main.go").write_bytes(t.source("names.go").read_bytes())
    binary = folder / "names_go"
    done = subprocess.run(["go", "build", "-o", binary, "main.go"], cwd=folder, text=True,
                          capture_output=True, env=os.environ | {"GO111MODULE": "off"})
    if done.returncode:
        raise Skip(f"go can't build with C parts here: {done.stderr.strip()[-200:]}")
    program, table = language(t, binary)
    t.site(table, "from_c_part", 12, 600)


@row("E6_nothing_of_ours")
def nothing_of_ours(t):
    """Tracing's own memory is in no row and not in used; it is shown apart."""
    program = t.puppet()
    before = t.memctl("show", "total", "-p", program.pid)[0]
    t.on(program)
    for depth in range(1, 60):
        program.ask(f"deep a {depth} 48")
    program.ask("free a 59")
    table = t.trace(program)
    t.equal(table.rows, [], "rows when all is freed")
    t.equal(t.memctl("show", "total", "-p", program.pid)[0], before, "used, before and after")
    overhead = table.data["overhead"]
    t.check(overhead["region"] > 4096 and overhead["heap"] > 0, f"overhead: {overhead}")
    t.has(t.text(program), "our own memory: region ")
    program.ask("alloc a 20000 48")
    t.check(t.trace(program).data["overhead"]["tracing"] >= 0, "overhead of tags")
    t.check(t.memory(program)["tags"] >= 20000 * 8, "tags of 20,000 objects are not shown")


@row("E7_alignment_and_usable_size")
def alignment_and_usable_size(t):
    """The same promises traced and not, for objects made on one side and used on the other."""
    t.run(t.build.c("alignment"), t.regions)
