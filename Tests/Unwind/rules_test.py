#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rows and compact rules against readelf's independent reading of the same .eh_frame.

rules_test.py RULES_DUMP SCALE: takes every row of every function of the system's most used
libraries (of every 8th function in a quick run), asks rules_dump at its first and last
address, and compares CFA, return address and callee-saved registers; then checks that the
compact rule says the same as the row.
"""
import os
import re
import subprocess
import sys

LIBRARIES = ["libc.so.6", "ld-linux-x86-64.so.2", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1",
             "libcrypto.so.3", "libz.so.1", "libunwind.so.8"]
FOLDERS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"]
NUMBERS = {"rax": 0, "rdx": 1, "rcx": 2, "rbx": 3, "rsi": 4, "rdi": 5, "rbp": 6, "rsp": 7,
           **{"r%d" % i: i for i in range(8, 16)}}
SHOWN = ["ra", "rbx", "rbp", "r12", "r13", "r14", "r15"]
SP, BP, DEREF, OUTERMOST, EXACT = 1, 2, 3, 4, 5


def readelf_rows(path, every):
    """Yields (first, last, cfa, {register: where}) for each row of each `every`th function."""
    text = subprocess.run(["readelf", "-wF", path], capture_output=True, text=True).stdout
    functions = 0
    for part in re.split(r"\n(?=[0-9a-f]{8} )", text):
        lines = part.split("\n")
        head = re.search(r"FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", lines[0])
        if not head or int(head[1], 16) == int(head[2], 16):
            continue
        functions += 1
        if functions % every:
            continue
        columns, rows = None, []
        for line in lines[1:]:
            words = re.sub(r" \(\w+\)", "", line).split()  # a register is "r1 (rdx)"
            if words[:2] == ["LOC", "CFA"]:
                columns = words[2:]
            elif columns is not None and words and re.fullmatch("[0-9a-f]{16}", words[0]):
                rows.append((int(words[0], 16), words[1], dict(zip(columns, words[2:]))))
        for i, (first, cfa, where) in enumerate(rows):
            last = (rows[i + 1][0] if i + 1 < len(rows) else int(head[2], 16)) - 1
            if last >= first:
                yield first, last, cfa, where


def expected(cfa, where):
    """readelf's row in rules_dump's words. A column that is not there is unchanged."""
    match = re.fullmatch(r"([a-z0-9]+)([+-]\d+)", cfa)
    result = {"cfa": "exp" if cfa == "exp" else str(NUMBERS[match[1]]) + match[2]}
    for name in SHOWN:
        word = where.get(name, "u")
        if word in NUMBERS:
            word = "r%d" % NUMBERS[word]
        result[name] = {"u": "uU", "s": "u"}.get(word, word) # readelf says u for both
    return result


def rule_agrees(row, kind, cfa, bp):
    """Does the compact rule say what the row says?"""
    if kind == OUTERMOST:
        return row["ra"] == "U"
    if row["ra"] == "U":
        return False
    if kind in (SP, BP):
        saved = "u" if bp == 0 else "c-%d" % bp
        return row["cfa"] == "%d%+d" % (7 if kind == SP else 6, cfa) and \
            row["ra"] == "c-8" and row["rbp"] == saved
    if kind == DEREF:
        return row["cfa"] == "exp" and row["rbp"] == "exp" and row["ra"] == "c-8"
    # Only what is out of the ordinary may be left to the interpreter.
    plain = re.fullmatch(r"[67]\+\d+", row["cfa"]) and row["ra"] == "c-8" and \
        re.fullmatch(r"u|c-\d+", row["rbp"]) and int(row["cfa"][2:]) % 8 == 0
    return kind == EXACT and not plain


def compare(dump, path, every):
    """Returns (rows, rules that need the interpreter, list of complaints)."""
    wanted = {}
    for first, last, cfa, where in readelf_rows(path, every):
        row = expected(cfa, where)
        wanted[first] = wanted[last] = row
    answer = subprocess.run([dump, path], input="\n".join("%x" % a for a in wanted),
                            capture_output=True, text=True)
    complaints, exact, answered = [], 0, 0
    for line in answer.stdout.splitlines():
        head, _, tail = line.partition(" | ")
        address = int(head.split()[0], 16)
        row = dict(word.split("=") for word in head.split()[1:] if "=" in word)
        answered += 1
        if not tail:
            complaints.append("%s: %s" % (path, head))
            continue
        kind, cfa, bp = map(int, tail.split())
        exact += kind == EXACT
        for name, word in wanted[address].items():
            if row[name] != word and not (word == "uU" and row[name] in "uU"):
                complaints.append("%s %x: %s is %s, readelf says %s" %
                                  (path, address, name, row[name], word))
        if not rule_agrees(row, kind, cfa, bp):
            complaints.append("%s %x: rule %s for %s" % (path, address, tail, head))
    if answered != len(wanted):
        complaints.append("%s: %d answers for %d questions %s" %
                          (path, answered, len(wanted), answer.stderr))
    return len(wanted), exact, complaints


def main():
    dump, scale = sys.argv[1], int(sys.argv[2])
    if subprocess.run(["which", "readelf"], capture_output=True).returncode:
        print("skip rules_agree_with_readelf: no readelf here")
        return 0
    failed = 0
    for library in LIBRARIES:
        path = next((os.path.join(f, library) for f in FOLDERS
                     if os.path.exists(os.path.join(f, library))), None)
        name = "rules_agree_with_readelf_" + re.split(r"[.-]", library)[0].replace("+", "x")
        if not path:
            print("skip %s: no %s here" % (name, library))
            continue
        rows, exact, complaints = compare(dump, path, 1 if scale > 1 else 8)
        for complaint in complaints[:60] if os.environ.get("RULES_ALL") else []:
            print("#   " + complaint)
        if complaints or rows < 10:
            failed = 1
            print("not ok %s: %d complaints, first: %s" %
                  (name, len(complaints), complaints[0] if complaints else "too few rows"))
        else:
            print("ok %s" % name)
        print("# %s: %d addresses, %d need the interpreter" % (name, rows, exact))
    return failed


sys.exit(main())
