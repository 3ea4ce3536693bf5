# SPDX-License-Identifier: MIT
"""clang++: the same template-heavy file as for g++; assembly and object equal byte for byte."""

import hashlib

import workloads

NEEDS = ["clang++"]
WEIGHT = 9


def run(stage):
    stage.write("t.cpp", workloads.TEMPLATES)
    words = ["clang++", "-std=c++17", "-g", "-pthread"] + (["-DLONG"] if stage.long else [])
    for optimize in ("-O0", "-O3") if stage.long else ("-O0",):
        stage.run([*words, optimize, "-c", "t.cpp", "-o", "t.o"], limit=200)
        stage.note(f"{optimize} t.o", hashlib.sha256((stage.work / "t.o").read_bytes()).hexdigest())
        if stage.long:
            stage.run([*words, optimize, "-S", "t.cpp", "-o", "t.s"], limit=200)
            stage.note(f"{optimize} t.s",
                       hashlib.sha256((stage.work / "t.s").read_bytes()).hexdigest())
        stage.run([*words, "t.o", "-o", "t"], limit=200)
        stage.run(["./t"], limit=60)
    if not stage.long:
        return
    stage.write("bad.cpp", workloads.TEMPLATES.replace("std::sort(sorted", "std::sort(words"))
    stage.run(["clang++", "-std=c++17", "-fsyntax-only", "bad.cpp"], expect=1, limit=120)
