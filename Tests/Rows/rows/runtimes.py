# SPDX-License-Identifier: MIT
"""Programs that nobody here wrote, traced while they run: what they were asked for is found, exactly."""

import shutil
from pathlib import Path

from harness import row

# Each line says how many more to keep.
PYTHON = """
import ctypes, sys
library = ctypes.CDLL(None)
library.strdup.restype = ctypes.c_void_p
def keep(count):
    for _ in range(count): library.strdup(b'x' * 99)
print('ready', flush=True)
for line in sys.stdin:
    keep(int(line))
    print('done', flush=True)
"""

NODE = """
const kept = [];
function keepBuffers(count) {
    for (let i = 0; i < count; i++) kept.push(Buffer.allocUnsafeSlow(100003));
}
process.stdin.on('data', (line) => { keepBuffers(Number(line)); console.log('done'); });
console.log('ready');
"""


def sums_at(table, *parts):
    """(count, bytes) of the rows that have each of these parts of names in some frame."""
    found = [row for row in table.rows
             if all(any(part in (name or "") for name in row.functions) for part in parts)]
    return sum(row.count for row in found), sum(row.bytes for row in found)


@row("V1_python_and_its_libraries")
def python_and_its_libraries(t):
    """A leak in a C library that Python calls: what it is before, while and after it is traced."""
    t.need(shutil.which("python3"), "python3 is not installed")
    program = t.start("python3", "-c", PYTHON)
    program.answer()
    program.ask("300")
    t.on(program)
    program.ask("1000")
    program.ask("500")
    t.off(program)
    program.ask("200")
    table = t.trace(program)
    wanted = (1500, 1500 * 100)
    t.equal(sums_at(table, "strdup"), wanted, "of strdup")
    t.equal(sums_at(table, "strdup", "ffi_call", "__libc_start_main"), wanted,
            "called through libffi, by what main calls")
    t.adds_up(table)
    t.on(program)
    program.ask("70")
    t.equal(sums_at(t.trace(program), "strdup"), (1570, 1570 * 100), "traced again")


@row("J1_functions_of_node")
def functions_of_node(t):
    """Names of JavaScript functions stand in native stacks, with V8's map of its code."""
    t.need(shutil.which("node"), "node is not installed")
    script = t.folder / "keep.js"
    script.write_text(NODE)
    # Nothing is inlined, and interpreted functions are in the map as well.
    program = t.start("node", "--perf-basic-prof", "--interpreted-frames-native-stack", "--no-opt",
                      f"--logfile={t.folder}/v8.log", "--no-logfile-per-isolate",
                      script)
    t.undo.append(lambda: Path(f"/tmp/perf-{program.pid}.map").unlink(missing_ok=True))
    program.answer()
    program.ask("7")
    t.on(program)
    program.ask("500")

    def kept(table):
        return sums_at(table, "NodeArrayBufferAllocator", "keepBuffers")
    wanted = (500, 500 * 100003)
    table = t.trace(program)
    t.equal(kept(table), wanted, "of keepBuffers()")
    t.adds_up(table)
    t.has(t.text(program), f"keepBuffers {script}:3", "text")
    program.stop()
    t.equal(kept(t.trace(program)), wanted, "stopped")
    program.kill()
    t.equal(kept(t.trace(program)), wanted, "killed")
