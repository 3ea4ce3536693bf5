#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The name by which `make bench-trace` knows Trace/compare.py."""
import os
import runpy

runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "Trace", "compare.py"),
               run_name="__main__")
