#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A Python program as a heap sees it: objects, strings, dicts, JSON, sorting, a small class tree.

Run with PYTHONMALLOC=malloc every object comes from malloc. Prints check=..., the same under
every heap. Argument: rounds.
"""
import json
import re
import sys
import zlib


class Node:
    """A tree with attributes in dicts: many small, long-lived objects."""

    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        node = self
        while True:
            side = "left" if key < node.key else "right"
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(key))
                return
            node = child


def numbers(count, seed):
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        yield seed >> 33


def one_round(index):
    keys = list(numbers(4000, index + 1))
    root = Node(keys[0])
    for key in keys[1:]:
        root.insert(key)
    words = [f"{key:x}-{index}" for key in keys]
    counts = {}
    for word in re.findall(r"[a-f]+|[0-9]+", " ".join(words)):
        counts[word] = counts.get(word, 0) + 1
    rows = [{"id": key, "name": word, "tags": [word[:2], word[2:4]], "score": key / 7}
            for key, word in zip(keys, words)]
    text = json.dumps(sorted(rows, key=lambda row: row["name"]))
    again = json.loads(text)
    joined = ",".join(f"{row['name']}:{row['score']:.3f}" for row in again)
    return zlib.crc32((joined + json.dumps(counts, sort_keys=True)).encode(), root.key & 0xffff)


def main():
    check = 0
    for index in range(int(sys.argv[1])):
        check = (check * 31 + one_round(index)) % (1 << 64)
    print(f"check={check:016x}")


main()
