# SPDX-License-Identifier: MIT
"""swiftc: compiling and running a Swift program with generics, existentials and tasks."""

import hashlib

import workloads

NEEDS = ["swiftc"]
WEIGHT = 9


def run(stage):
    stage.write("p.swift", workloads.SWIFT)
    for optimize in ("-Onone", "-O") if stage.long else ("-O",):
        stage.run(["swiftc", "-parse-as-library", optimize, "-emit-object", "p.swift", "-o", "p.o"],
                  limit=200)
        stage.note(f"{optimize} p.o", hashlib.sha256((stage.work / "p.o").read_bytes()).hexdigest())
        stage.run(["swiftc", "p.o", "-o", "p"], limit=200)
        stage.run(["./p"], limit=60)
    stage.write("bad.swift", workloads.SWIFT.replace("Double(i % 13)", "i % 13"))
    stage.run(["swiftc", "-parse-as-library", "-typecheck", "bad.swift"], expect=1, limit=120)


IGNORED_FILES = [r"^TemporaryDirectory", r"^\.cache", r"ModuleCache", r"^\.config"]
