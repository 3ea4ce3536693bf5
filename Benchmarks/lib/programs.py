# SPDX-License-Identifier: MIT
"""Real programs as cases: what is installed of a small set, each with a fixed workload."""
import os
import shutil
import socket
import subprocess
import tempfile
import time

import measure
from allocators import ROOT

FOLDER = f"{ROOT}/Benchmarks/Programs"


def work_folder():
    """Where inputs and outputs live: memory if there is some, so that no disk is measured."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="memctl-bench-", dir=base)


def scaled(count, scale):
    return str(max(1, int(count * scale)))


def script_cases(scale):
    """Interpreters that run one script of ours; the script prints a checksum."""
    cases = []
    # The system's own interpreter: a version manager's shim would measure a shell as well.
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else None
    if python:
        cases.append(measure.Case("python3", [python, f"{FOLDER}/workload.py", scaled(30, scale)],
                                  "objects, strings, dicts, JSON; PYTHONMALLOC=malloc",
                                  env={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"},
                                  kernel=True))
    if python and subprocess.run([python, "-c", "import numpy"], check=False,
                                 capture_output=True).returncode == 0:
        cases.append(measure.Case("numpy", [python, f"{FOLDER}/arrays.py", scaled(6, scale)],
                                  "expressions with arrays of 256 KiB to 16 MiB", kernel=True))
    for name, script, count in (("perl", "workload.pl", 60), ("ruby", "workload.rb", 40),
                                ("lua5.4", "workload.lua", 20)):
        if shutil.which(name):
            env = {"PERL_HASH_SEED": "0"} if name == "perl" else {}
            cases.append(measure.Case(name, [name, f"{FOLDER}/{script}", scaled(count, scale)],
                                      "strings, tables and objects", env=env, kernel=True))
    return cases


def sqlite_case(folder, scale):
    rows = scaled(250000, scale)
    with open(f"{FOLDER}/workload.sql", encoding="utf-8") as file:
        sql = file.read().replace("ROWS", rows)
    with open(f"{folder}/workload.sql", "w", encoding="utf-8") as file:
        file.write(sql)
    return measure.Case("sqlite3", ["sqlite3", ":memory:", f".read {folder}/workload.sql"],
                        f"bulk insert of {rows} rows, two indexes, queries", kernel=True)


def filled(folder, name, values):
    """A copy of an input in which words stand for numbers."""
    with open(f"{FOLDER}/{name}", encoding="utf-8") as file:
        text = file.read()
    for word, value in values.items():
        text = text.replace(word, value)
    with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
        file.write(text)
    return f"{folder}/{name}"


def ghostscript_case(folder, scale):
    page = filled(folder, "workload.ps", {"PAGES": scaled(25, scale)})
    return measure.Case("ghostscript", ["gs", "-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", "-r72",
                                        "-sDEVICE=ppmraw", "-sOutputFile=/dev/null", page],
                        "renders pages of dictionaries, paths and text")


def solver_case(folder, scale):
    links = scaled(30, scale)
    problem = filled(folder, "workload.smt2", {"LINKS": links, "LIMIT": str(int(links) + 5)})
    return measure.Case("z3", ["z3", problem], "bit vectors, functions with quantifiers, arrays")


def compiler_case():
    return measure.Case("g++", ["g++", "-std=c++17", "-O1", "-c", "-o", "/dev/null",
                                f"{FOLDER}/templates.cpp"],
                        "compiles a file full of templates")


def git_case(folder, scale):
    """Repacks the same small history each time: copied afresh, unmeasured."""
    source, copy = f"{folder}/git-source", f"{folder}/git-copy"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
    subprocess.run(["git", "init", "-q", source], **quiet)
    stream = subprocess.run([f"{FOLDER}/history.py", scaled(1500, scale)], check=True,
                            capture_output=True).stdout
    subprocess.run(["git", "-C", source, "fast-import", "--quiet"], input=stream, **quiet)

    def prepare():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)

    return measure.Case("git gc", ["git", "-C", copy, "-c", "pack.threads=1", "-c",
                                   "gc.auto=0", "gc", "--quiet", "--aggressive"],
                        "repacks a history of generated files", prepare=prepare)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(port):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return True
        except OSError:
            time.sleep(0.01)
    return False


def redis_runner(folder, scale):
    def run(heap, env):
        """The server alone is measured; clients run on glibc."""
        port = str(free_port())
        server, costs = measure.begin(
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly",
             "no", "--dir", folder], heap, env, stdout=subprocess.DEVNULL)
        if not wait_until_open(int(port)):
            server.terminate()
            return measure.finish(server, costs) | {"error": "the server did not answer"}
        began = time.monotonic()
        for tests, size in (("set,get,lpush,hset,zadd", "64"), ("set,get", "900")):
            subprocess.run(["redis-benchmark", "-p", port, "-q", "-t", tests, "-d", size, "-P",
                            "16", "-r", "100000", "-n", scaled(150000, scale)], check=False,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - began
        subprocess.run(["redis-cli", "-p", port, "shutdown", "nosave"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return measure.finish(server, costs) | {"wall": wall}
    return run


def cases(scale):
    """Every case whose program is installed."""
    folder = work_folder()
    found = script_cases(scale)
    if shutil.which("sqlite3"):
        found.append(sqlite_case(folder, scale))
    if shutil.which("gs"):
        found.append(ghostscript_case(folder, scale))
    if shutil.which("z3"):
        found.append(solver_case(folder, scale))
    if shutil.which("g++"):
        found.append(compiler_case())
    if shutil.which("redis-server") and shutil.which("redis-benchmark"):
        found.append(measure.Case("redis", [], "SET GET LPUSH HSET ZADD from redis-benchmark",
                                  runner=redis_runner(folder, scale)))
    if shutil.which("git"):
        found.append(git_case(folder, scale))
    return found, folder
