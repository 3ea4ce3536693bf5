# SPDX-License-Identifier: MIT
"""python3: its own tests with PYTHONMALLOC=malloc, and a script of threads, ctypes and children."""

import os

NEEDS = ["/usr/bin/python3"]
WEIGHT = 9
KILLS = True

TESTS = ["test_re", "test_ctypes", "test_zlib", "test_mmap", "test_thread", "test_struct",
         "test_xml_etree", "test_tracemalloc", "test_embed", "test_list"]
# test_threading comes last: it leaves a trace function to all later threads, with which Python 3.11
# spins for ever when a signal arrives just before its main thread begins to wait for a lock.
LONG_TESTS = TESTS + [
    "test_fork1", "test_json", "test_unicode", "test_dict", "test_decimal",
    "test_deque", "test_array", "test_subprocess",
    "test_multiprocessing_fork", "test_asyncio", "test_ssl",
    "test_bz2", "test_lzma", "test_hashlib", "test_gc", "test_pickle", "test_os", "test_weakref",
    "test_signal", "test_queue", "test_io", "test_bytes", "test_set", "test_itertools",
    "test_collections", "test_generators", "test_sys", "test_tarfile", "test_zipfile",
    "test_faulthandler", "test_threading"]

SCRIPT = r"""
import concurrent.futures, ctypes, gc, hashlib, multiprocessing, os, subprocess, sys, threading
libc = ctypes.CDLL(None)
for name in ("malloc", "calloc", "realloc", "memalign", "aligned_alloc", "valloc", "strdup"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc_usable_size.argtypes = [ctypes.c_void_p]
libc.malloc_usable_size.restype = ctypes.c_size_t

def work(seed):
    kept, total = {}, 0
    for i in range(6000):
        size = (i * 7919 + seed) % 5000 + 1
        p = libc.malloc(size)
        assert p % 16 == 0 and libc.malloc_usable_size(p) >= size
        ctypes.memset(p, seed & 255, size)
        if i % 3 == 0:
            p = libc.realloc(ctypes.c_void_p(p), size * 2)
            assert ctypes.string_at(p, 1)[0] == seed & 255
        old = kept.pop(i % 64, None)
        if old: libc.free(old)
        kept[i % 64] = p
        total += size
    for p in kept.values(): libc.free(p)
    return total

def child(n):
    return hashlib.sha256(b"".join(b"%d" % i * n for i in range(20000))).hexdigest()

compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def sort():
    a = (ctypes.c_int * 20000)(*[(i * 7919) % 20011 for i in range(20000)])
    libc.qsort(a, 20000, 4, compare(lambda x, y: x[0] - y[0]))
    return a[0], a[19999], all(a[i] <= a[i + 1] for i in range(19999))

if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        print(list(pool.map(work, range(12))))
    for alignment in (16, 64, 4096, 1 << 20):
        p = libc.memalign(ctypes.c_size_t(alignment), ctypes.c_size_t(100)); print(p % alignment); libc.free(p)
    print(sort())
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(child, range(1, 7)))
    ended = []
    def ring(n):
        class Node: pass
        for _ in range(3000):
            a, b = Node(), Node(); a.other, b.other = b, a; a.data = bytearray(n)
        ended.append(n)
    threads = [threading.Thread(target=ring, args=(n,)) for n in range(1, 900, 100)]
    [t.start() for t in threads]; [t.join() for t in threads]
    print(sorted(ended), gc.collect() >= 0)
    pids = []
    for n in range(20):                        # forks while other threads allocate
        t = threading.Thread(target=work, args=(n,)); t.start()
        pid = os.fork()
        if pid == 0:
            x = [str(i) * 3 for i in range(5000)]; os._exit(len(x) % 256)
        pids.append(pid); t.join()
    print([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids])
    print(subprocess.run(["sh", "-c", "echo sub; echo err >&2"], capture_output=True))
    big = "x" * 50_000_000; print(len(big + "y")); del big
    print(sum(len(f"{i:x}") for i in range(200000)), file=sys.stderr)
"""


def run(stage):
    python = "/usr/bin/python3"
    env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    script = stage.write("s.py", SCRIPT)
    stage.run([python, script], env=env, limit=120)
    if stage.long:
        stage.run([python, "-X", "dev", script], env=env | {"PYTHONMALLOC": "malloc_debug"},
                  limit=120)
    tests = LONG_TESTS if stage.long else TESTS
    known = stage.run([python, "-c", f"import test.support, test.{tests[0]}"], env=env,
                      expect=None).status == 0
    if known:
        # Times and the counts of what was skipped for want of a resource are not compared.
        done = stage.run([python, "-m", "test", "--timeout", "300", *tests], env=env, keep=True,
                         limit=1200, scrub=[(r"(?s).+", "")], expect=None)
        text = done.out.decode(errors="replace")
        if done.status != 0:
            stage.require(False, f"python's tests fail: status {done.status}\n" + text[-3000:]
                          + done.err[-2000:].decode(errors="replace"))
        stage.note("verdict", "\n".join(line for line in text.splitlines()
                                        if line.startswith(("Tests result", "All", "== Tests"))
                                        or " failed" in line or "tests OK" in line))
    elif os.path.exists("/etc/debian_version"):
        stage.note("python's tests", "not installed (libpython3.11-testsuite)")


IGNORED_FILES = [r"^test_python_", r"__pycache__"]
