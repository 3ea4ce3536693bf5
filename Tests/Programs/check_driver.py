#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does run.py see what it is there to see? Runs it with preloads that each break one promise.

    Tests/Programs/check_driver.py

Each preload below does one thing no allocator may do to a program; run.py must call the test not
ok, for the reason given, and leave no process behind. A preload that does nothing must pass.
Same protocol as run.py: `ok programs/driver/NAME`, exit status 0 iff all are.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import processes  # noqa: E402  (needs the path above)

HEAD = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int is(const char *name) { return strstr(program_invocation_short_name, name) != 0; }
static void file(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("MEMCTL_DIR"), name);
    close(open(path, O_CREAT | O_RDWR, 0600));
}
static void *sleeper(void *p) { pause(); return p; }
__attribute__((constructor)) static void start(void)
{
    pthread_t thread; (void)thread; (void)file; (void)is; (void)sleeper;
"""

# name: (what the preload does, the program, what the verdict must say)
CASES = {
    "harmless": ("", "sqlite3", None),
    "stderr": ('if (is("sqlite3")) write(2, "hello\\n", 6);', "sqlite3", "stderr differs"),
    "stdout": ('if (is("sqlite3")) write(1, "hello\\n", 6);', "sqlite3", "stdout differs"),
    "crash": ('if (is("sqlite3")) abort();', "sqlite3", "status -6"),
    "status": ('if (is("sqlite3")) _exit(9);', "sqlite3", "status 9"),
    "region": ('if (is("sqlite3")) file("left.region");', "sqlite3", "of dead processes left"),
    "file": ('if (is("sqlite3")) close(open("extra", O_CREAT | O_RDWR, 0600));', "sqlite3",
             "files left differs"),
    "process": ('if (is("sqlite3") && !fork()) { setsid(); sleep(300); _exit(0); }', "sqlite3",
                "left running"),
    "thread": ('if (is("redis-server")) pthread_create(&thread, 0, sleeper, 0);', "redis",
               "threads differs"),
    "descriptor": ('if (is("redis-server")) { char path[4096]; snprintf(path, sizeof path, '
                   '"%s/r", getenv("MEMCTL_DIR")); open(path, O_CREAT | O_RDWR, 0600); }',
                   "redis", "keeps descriptor"),
    "hang": ('if (is("sqlite3")) pause();', "sqlite3", "not done after"),
}

# name: (a stand-in for the memctl command, what the verdict must say); redis-server, toggled
COMMANDS = {
    "command": ("""case "$1 $2" in "show trace") echo '{"rows": [{"bytes": 1}]}';; esac""", None),
    "refusal": ("""[ "$1" = trace ] && { echo refused >&2; exit 1; }; echo '{"rows": [1]}'""",
                "first toggle"),
    "refusal-later": ("""[ "$1 $2" = "trace off" ] && { echo no >&2; exit 1; }
echo '{"rows": [1]}'""", "refused a living process"),
    "no-json": ("""[ "$1" = trace ] || echo rows""", "Expecting value"),
    "no-rows": ("""[ "$1" = trace ] || echo '{"rows": []}'""", "no rows"),
    "stuck": ("""[ "$1 $2" = "trace off" ] && exec sleep 600; echo '{"rows": [1]}'""",
              "not done after"),
}


def build(directory, name, body):
    library = directory / f"{name}.so"
    (directory / f"{name}.c").write_text(HEAD + body + "\n}\n")
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, directory / f"{name}.c"],
                   check=True)
    return library


def examine_library(directory, name):
    body, program, reason = CASES[name]
    # Hangs are awaited to their limit: 300 s for sqlite3's script, scaled down to 15.
    patience = "0.05" if name == "hang" else "4"
    return examine(program, "off", reason, patience, ["--lib", build(directory, name, body)])


def examine_command(directory, name):
    text, reason = COMMANDS[name]
    command = directory / name
    command.write_text(f"#!/bin/sh\n{text}\n")
    command.chmod(0o755)
    library = build(directory, name, "")
    return examine("redis", "toggle", reason, "4" if name != "stuck" else "0.5", ["--lib", library, "--memctl", command])


def examine(program, mode, reason, patience, options):
    """None when run.py says what it must, else what it said."""
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "--only", program, "--modes", mode, *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=1200,
        env=os.environ | {"MEMCTL_TEST_PATIENCE": patience})
    left = [pid for pid, stat in processes.descendants(os.getpid()).items() if stat[1] not in "ZX"]
    if left:
        return f"run.py left {len(left)} processes: {processes.command_line(left[0])}"
    if reason is None:
        wanted = done.returncode == 0 and f"ok programs/{program}/{mode}" in done.stdout
    else:
        wanted = (done.returncode == 1 and f"not ok programs/{program}/{mode}: " in done.stdout
                  and reason in done.stdout)
    return None if wanted else f"status {done.returncode}: {done.stdout.strip()[:300]}"


def main():
    processes.become_subreaper()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="memctl-driver-") as name:
        cases = [(case, examine_library) for case in CASES]
        cases += [(case, examine_command) for case in COMMANDS]
        for case, examination in cases:
            problem = examination(Path(name), case)
            failed += problem is not None
            print(f"ok programs/driver/{case}" if problem is None
                  else f"not ok programs/driver/{case}: {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
