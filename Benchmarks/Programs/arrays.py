#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A program that computes with numpy as a heap sees it: for each expression a few arrays of 256 KiB to
16 MiB, which live until the next one is done.

Prints check=..., the same under every heap. Argument: rounds.
"""
import sys

import numpy


def expressions(a, b, c, times):
    """Each result replaces the last; what is in between is made and freed. Returns the mean of the last."""
    result = a
    for _ in range(times):
        result = (a * b + c) * c - result / b
    return float(numpy.sqrt(result * result).mean())


def main():
    check = 0.0
    for _ in range(int(sys.argv[1])):
        for kibibytes, times in ((256, 40), (1024, 20), (4096, 8), (9000, 4), (16000, 3)):
            a = numpy.arange(kibibytes * 128, dtype=numpy.float64) % 97 + 1
            check += expressions(a, a + 3, a[::-1] + 7, times)
    print(f"check={check:.6e}")


main()
