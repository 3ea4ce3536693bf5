#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a user can do with memctl, row by row, with the real tool and real programs.

    Tests/Rows/run.py [--memctl PATH] [--lib PATH] [--only TEXT] [--long] [--list]

Each file rows/*.py holds tests; each is named after the promise it keeps. On standard output a
line a test, `ok rows/NAME`, `not ok rows/NAME: reason` or `skip rows/NAME: reason`; figures that
were measured go to standard error. Exit status 0 iff none failed. See harness.py.
"""

import argparse
import concurrent.futures
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402  (needs the path above)

printing = threading.Lock()


def arguments():
    parser = argparse.ArgumentParser(description="the rows, with real programs")
    parser.add_argument("--memctl", type=Path, default=ROOT / "build/bin/memctl")
    parser.add_argument("--lib", type=Path, default=ROOT / "build/lib/libmemctl.so")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT",
                        help="tests whose name has this in it; may be repeated")
    parser.add_argument("--long", action="store_true", default=os.environ.get("TEST_LONG") == "1",
                        help="more rounds; 16 million live objects; also by TEST_LONG=1")
    parser.add_argument("--jobs", type=int, default=2, help="tests side by side")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    for path in (options.memctl, options.lib):
        if not path.exists() and not options.list:
            parser.error(f"{path} is missing: build it, or name another")
    options.memctl, options.lib = options.memctl.absolute(), options.lib.absolute()
    return options


def attempt(name, function, options, builder, base):
    """Runs a test once. Returns its line and its remarks."""
    verdict = f"ok rows/{name}"
    test = harness.Test(name, options, builder, base)
    try:
        function(test)
    except harness.Skip as reason:
        verdict = f"skip rows/{name}: {reason}"
    except harness.Failed as reason:
        verdict = f"not ok rows/{name}: {' '.join(str(reason).split())}"
    except Exception as error:  # a broken test is a failed test
        traceback.print_exc()
        verdict = f"not ok rows/{name}: {type(error).__name__}: {' '.join(str(error).split())}"
    test.finish()
    return verdict, test.remarks


def run_row(name, function, tries, options, builder, base):
    """Runs a test; returns whether it did not fail."""
    started, earlier = time.monotonic(), []
    for left in reversed(range(tries)):
        verdict, remarks = attempt(name, function, options, builder, base)
        if not verdict.startswith("not ok") or not left:
            break
        earlier.append(f"tried again: {verdict}")
    with printing:
        print(verdict, flush=True)
        for remark in earlier + remarks:
            print(f"{name}: {remark}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return not verdict.startswith("not ok")


def main():
    options = arguments()
    for path in sorted((HERE / "rows").glob("*.py")):
        importlib.import_module(f"rows.{path.stem}")
    rows = [each for each in harness.ROWS
            if not options.only or any(text.lower() in each[0].lower() for text in options.only)]
    if options.list:
        print("\n".join(each[0] for each in rows))
        return 0
    if not rows:
        print(f"no test has {' or '.join(options.only)} in its name", file=sys.stderr)
        return 1
    # Not in $TMPDIR nor in the checkout, for programs and library: those may be out of other users'
    # reach, and LD_PRELOAD is cut at spaces and colons.
    base = Path(tempfile.mkdtemp(prefix="memctl-rows-", dir="/tmp"))
    # Regions are kept in memory, where nothing has to be written to a disk; programs may not be run
    # from there everywhere.
    memory = Path("/dev/shm")
    memory = Path(tempfile.mkdtemp(prefix="memctl-rows-", dir=memory if memory.is_dir() else base))
    for folder in (base, memory):
        folder.chmod(0o711)
    options.lib, options.regions = Path(shutil.copy2(options.lib, base)), memory
    options.lib.chmod(0o755)
    try:
        builder = harness.Builder(base / "build", threading.Lock())
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(
                lambda each: run_row(each[0], each[1], each[3], options, builder, base),
                [each for each in rows if not each[2]]))
        results += [run_row(each[0], each[1], each[3], options, builder, base)
                    for each in rows if each[2]]
    finally:
        for folder in (memory, base):
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
