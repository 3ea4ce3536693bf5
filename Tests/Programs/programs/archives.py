# SPDX-License-Identifier: MIT
"""tar, gzip, bzip2, xz and zstd: a tree packed and unpacked again, archives equal byte for byte."""

import hashlib
import random

NEEDS = ["tar", "gzip", "bzip2", "xz", "zstd"]
WEIGHT = 4

PACKERS = [
    ("gz", ["gzip", "-9n"]), ("bz2", ["bzip2", "-9"]), ("xz", ["xz", "-6", "-T1"]),
    ("xz2", ["xz", "-3", "-T2", "--block-size=300000"]), ("zst", ["zstd", "-q", "-T2", "-9"]),
]


def run(stage):
    chance = random.Random(11)
    words = [bytes(chance.choices(b"abcdefghij klmnop\n", k=chance.randint(2, 12)))
             for _ in range(2000)]
    for number in range(60 if stage.long else 25):
        size = chance.choice([0, 1, 500, 40000, 200000])
        body = b" ".join(chance.choices(words, k=size // 6))
        if number % 5 == 0:
            body += chance.randbytes(size // 2)
        stage.write(f"tree/d{number % 7}/f{number}", body)
    stage.run(["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", "t.tar", "tree"])
    plain = (stage.work / "t.tar").read_bytes()
    for suffix, command in PACKERS:
        packed = stage.run([*command, "-c", "t.tar"], keep=True, limit=120).out
        stage.note(f"{suffix}: packed", hashlib.sha256(packed).hexdigest())
        stage.write(f"t.{suffix}", packed)
        back = stage.run([command[0], "-dc"], input=packed, keep=True).out
        stage.require(back == plain, f"{suffix}: unpacked bytes differ")
        (stage.work / "out").mkdir(exist_ok=True)
        stage.run(["tar", "-I", command[0], "-C", "out", "-xf", f"t.{suffix}"]
                  if suffix != "zst" else ["tar", "--zstd", "-C", "out", "-xf", "t.zst"])
        for path in sorted((stage.work / "tree").rglob("*")):
            other = stage.work / "out" / path.relative_to(stage.work)
            if path.is_file() and path.read_bytes() != other.read_bytes():
                stage.require(False, f"{suffix}: {other} differs")
    damaged = bytearray((stage.work / "t.xz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    stage.run(["xz", "-dc"], input=bytes(damaged), expect=1, keep=True)
