# SPDX-License-Identifier: MIT
"""g++: a template-heavy file; assembly, object and program equal byte for byte, and it runs."""

import hashlib

import workloads

NEEDS = ["g++"]
WEIGHT = 9


def run(stage):
    stage.write("t.cpp", workloads.TEMPLATES)
    for optimize in ("-O2", "-O3 -flto") if stage.long else ("-O0",):
        words = ["g++", "-std=c++17", "-frandom-seed=1", *optimize.split(), "-g", "-pthread"]
        words += ["-DLONG"] if stage.long else []
        stage.run([*words, "-save-temps", "-c", "t.cpp", "-o", "t.o"], limit=200)
        for name in ("t.ii", "t.s", "t.o"):
            stage.note(name, hashlib.sha256((stage.work / name).read_bytes()).hexdigest())
        if "lto" not in optimize:
            stage.run([*words, "t.o", "-o", "t"], limit=200)
            stage.note("t", hashlib.sha256((stage.work / "t").read_bytes()).hexdigest())
            stage.run(["./t"], limit=60)
    if not stage.long:
        return
    stage.write("bad.cpp", workloads.TEMPLATES.replace("std::sort(sorted", "std::sort(words"))
    stage.run(["g++", "-std=c++17", "-fsyntax-only", "bad.cpp"], expect=1, limit=120)
