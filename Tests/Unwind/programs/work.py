# SPDX-License-Identifier: MIT
"""Python: the interpreter, its C modules (json, re, zlib, hashlib, sqlite3, ctypes callbacks)."""
import ctypes
import hashlib
import json
import re
import sqlite3
import sys
import threading
import time
import zlib

END = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 2)
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
LIBC = ctypes.CDLL(None)


def recurse(depth):
    return {} if depth == 0 else {"a%d" % depth: recurse(depth - 1), "b": [depth] * 3}


def work(i):
    text = json.dumps(recurse(i % 60))
    data = zlib.compress(text.encode() * 20)
    hashlib.sha256(zlib.decompress(data)).hexdigest()
    re.sub(r"(a\d+)+|b", lambda m: m.group(0) * 2, text)
    numbers = (ctypes.c_int * 20)(*[(k * 7919 + i) % 101 for k in range(20)])
    LIBC.qsort(numbers, 20, 4, COMPARE(lambda a, b: a[0] - b[0]))
    with sqlite3.connect(":memory:") as base:
        base.execute("create table t (a int, b text)")
        base.executemany("insert into t values (?, ?)", [(k, text[:k]) for k in range(30)])
        base.execute("select a, max(b) from t group by a % 7 order by b").fetchall()


def run():
    i = 0
    while time.monotonic() < END:
        work(i)
        i += 1


thread = threading.Thread(target=run)
thread.start()
run()
thread.join()
