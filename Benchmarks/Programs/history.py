#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a git history for `git fast-import`: generated text files, edited a little per commit.

Argument: commits. The same count always gives the same history.
"""
import sys

FILES = 40
LINES = 120


def line(seed):
    return f"{seed * 2654435761 % (1 << 32):08x} {'abcdefgh' * (seed % 5)} {seed}\n"


def main():
    out = sys.stdout.buffer
    files = [[line(file * LINES + i) for i in range(LINES)] for file in range(FILES)]
    for commit in range(int(sys.argv[1])):
        message = f"Change {commit}\n".encode()
        out.write(b"commit refs/heads/main\n")
        when = 1700000000 + commit * 60
        out.write(f"committer Bench <bench@example.org> {when} +0000\n".encode())
        out.write(f"data {len(message)}\n".encode() + message)
        changed = range(FILES) if commit == 0 else {commit * 7 % FILES, commit * 11 % FILES}
        for file in changed:
            files[file][commit * 13 % LINES] = line(commit * 1000 + file)
            text = "".join(files[file]).encode()
            out.write(f"M 100644 inline folder{file % 6}/file{file}.txt\n".encode())
            out.write(f"data {len(text)}\n".encode() + text + b"\n")
    out.write(b"done\n")


main()
