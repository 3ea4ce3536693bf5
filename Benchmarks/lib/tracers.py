# SPDX-License-Identifier: MIT
"""Tracers as pairs of heaps: one that records backtraces, and the same one at rest."""
import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass

import allocators
import measure
from allocators import Heap, LIBRARIES

HEAPTRACK = "/usr/lib/heaptrack"  # lib/heaptrack of another installation: choose(heaptrack=)
JEMALLOC_ON = "prof:true,prof_active:true,lg_prof_sample:0"


class Heaptrack(Heap):
    """heaptrack as its own start script runs it: the preload writes to a pipe, its interpreter
    reads that and a compressor packs the result. Interpreter and compressor are measured apart.
    A name that ends in "raw" leaves the interpreter out, as `heaptrack --raw` does."""

    @contextlib.contextmanager
    def around(self):
        folder = tempfile.mkdtemp(prefix="memctl-bench-")
        pipe = f"{folder}/pipe"
        os.mkfifo(pipe)
        pack = "zstd -c" if shutil.which("zstd") else "gzip -c"
        home = os.path.dirname(self.path)
        reader = f"{home}/libexec/heaptrack_interpret < {pipe} | {pack} > {folder}/out"
        if self.name.endswith("raw"):
            reader = f"{pack} < {pipe} > {folder}/out"
        helper, costs = measure.begin(["sh", "-c", reader], Heap("none", ""),
                                      allocators.environment(), stdout=None)
        around = {"env": {"DUMP_HEAPTRACK_OUTPUT": pipe}}
        try:
            yield around
        finally:
            # If the program never opened the pipe, the reader still waits for a writer.
            with contextlib.suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            around["helper"] = measure.finish(helper, costs)
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Tracer:
    name: str
    off: Heap
    on: Heap
    share: float = 1.0  # of the pairs: slow tracers get fewer
    programs: bool = True  # also measured with real programs when not asked for


def jemalloc_profiles(path):
    """True when this build has its profiler: it writes a profile at exit when told to."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"MALLOC_CONF": f"{JEMALLOC_ON},prof_final:true,prof_prefix:{folder}/profile"}
        measure.run_once(["/bin/true"], Heap("jemalloc", path),
                         allocators.environment(env))
        return bool(os.listdir(folder))


def choose(jemalloc, ours, raw, heaptrack=None):
    """(tracers that can be measured, what to say of those that can't)."""
    found, said = [], []
    if os.path.exists(ours):
        found.append(Tracer(allocators.OURS, Heap("memctl off", ours),
                            Heap("memctl on", ours, {"MEMCTL_TRACE": "on"})))
    else:
        said.append(f"memctl: {ours} is not there, left out")
    preload = f"{heaptrack or HEAPTRACK}/libheaptrack_preload.so"
    if os.path.exists(preload):
        found.append(Tracer("heaptrack", Heap("glibc", ""),
                            Heaptrack("heaptrack raw" if raw else "heaptrack", preload)))
    else:
        said.append("heaptrack: not installed, left out")
    path = jemalloc or f"{LIBRARIES}/libjemalloc.so.2"
    if not os.path.exists(path):
        said.append(f"jemalloc: {path} is not there, left out")
    elif not jemalloc_profiles(path):
        said.append(f"jemalloc: {path} is built without its profiler, left out")
    else:
        found.append(Tracer("jemalloc", Heap("jemalloc off", path),
                            Heap("jemalloc on", path, {"MALLOC_CONF": JEMALLOC_ON}),
                            share=0.03, programs=False))
    return found, said
