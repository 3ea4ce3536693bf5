# SPDX-License-Identifier: MIT
"""Which heaps are compared, and the proof that each is the one that answers."""
import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
OURS = "memctl"

KNOWN = [
    ("glibc", ""),
    ("jemalloc", f"{LIBRARIES}/libjemalloc.so.2"),
    ("mimalloc", f"{LIBRARIES}/libmimalloc.so.2.0"),
    ("tcmalloc", f"{LIBRARIES}/libtcmalloc_minimal.so.4"),
    (OURS, f"{ROOT}/build/lib/libmemctl.so"),
]


@dataclass(frozen=True)
class Heap:
    name: str
    path: str
    env: dict = field(default_factory=dict, hash=False)

    def preloaded(self):
        """The environment that a program has this heap in."""
        return environment({**self.env, **({"LD_PRELOAD": self.path} if self.path else {})})

    def around(self):
        """A context for one run; heaps that need a helper process override it. What it yields
        may hold `env` for the run, and after it `helper`, the figures of the helper."""
        return contextlib.nullcontext({})


@functools.cache
def region_folder():
    """Regions of measured processes: apart from those of other programs, gone at the end."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="memctl-bench-", dir=base)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def environment(extra=None):
    """The environment of a run: nothing of the caller's heap settings leaks in."""
    env = {key: value for key, value in os.environ.items()
           if key != "LD_PRELOAD" and not key.startswith("MEMCTL_")}
    env["MEMCTL_DIR"] = region_folder()
    env.update(extra or {})
    return env


def choose(given, only):
    """The known heaps that are installed, then NAME=[K=V,...]PATH ones; `only` keeps some of them."""
    heaps = []
    for name, path in KNOWN:
        if path and not os.path.exists(path):
            print(f"{name}: {path} is not there, left out", file=sys.stderr)
        else:
            heaps.append(Heap(name, path))
    for pair in given:
        name, separator, rest = pair.partition("=")
        *settings, path = rest.split(",")
        if not separator or not all("=" in setting for setting in settings) or \
                (path and not os.path.exists(path)):
            sys.exit(f"{pair}: not NAME=PATH or NAME=K=V,PATH of a file that exists")
        path = os.path.abspath(path) if path else ""
        env = dict(setting.split("=", 1) for setting in settings)
        heaps = [heap for heap in heaps if heap.name != name] + [Heap(name, path, env)]
    if only:
        names = only.split(",")
        missing = set(names) - {heap.name for heap in heaps}
        if missing:
            sys.exit(f"unknown allocators: {', '.join(sorted(missing))}")
        heaps = [heap for heap in heaps if heap.name in names]
    return heaps


def check_active(heaps):
    """Asks the loader in each environment whose malloc answers; a wrong preload is fatal."""
    probe = f"{ROOT}/build/bench/which_malloc"
    for heap in heaps:
        done = subprocess.run([probe], env=heap.preloaded(), capture_output=True, text=True,
                              check=False)
        answer = os.path.realpath(done.stdout.strip()) if done.stdout.strip() else ""
        wanted = os.path.realpath(heap.path) if heap.path else ""
        if done.returncode or (wanted and answer != wanted) or \
                (not wanted and "libc.so" not in answer):
            sys.exit(f"{heap.name}: malloc is answered by {answer or 'nobody'}, not by "
                     f"{heap.path or 'libc'}")
