# SPDX-License-Identifier: MIT
"""git: a generated repository through import, log, blame, merge, repack with threads, gc, fsck."""

import random

NEEDS = ["git"]
WEIGHT = 5
KILLS = True  # children end with _exit


def stream(commits):
    chance = random.Random(5)
    out, files = [b"feature done\n"], {}
    for number in range(1, commits + 1):
        out.append(b"commit refs/heads/main\nmark :%d\n" % number)
        out.append(b"committer T Est <t@example.org> %d +0000\n" % (1600000000 + number * 60))
        message = b"change %d\n" % number
        out.append(b"data %d\n%s" % (len(message), message))
        if number > 1:
            out.append(b"from :%d\n" % (number - 1))
        for _ in range(3):
            name = b"d%d/f%d.txt" % (chance.randrange(8), chance.randrange(20))
            lines = files.setdefault(name, [b"line %d of %s\n" % (i, name) for i in range(200)])
            lines[chance.randrange(len(lines))] = b"edited in %d\n" % number
            body = b"".join(lines)
            out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name, len(body), body))
    out.append(b"done\n")
    return b"".join(out)


def run(stage):
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "T", f"GIT_{who}_EMAIL": "t@example.org",
                f"GIT_{who}_DATE": "1700000000 +0000"}
    repository = stage.work / "r"
    repository.mkdir()

    def git(*words, **settings):
        return stage.run(["git", "-c", "gc.autoDetach=false", "-c", "pack.threads=2", *words],
                         cwd=repository, env=env, limit=120, **settings)

    git("init", "-q", "-b", "main")
    git("fast-import", "--quiet", "--done", input=stream(1500 if stage.long else 350))
    git("checkout", "-q", "-f", "main")
    git("log", "--stat", "--format=%H %an %ad %s", "-n", "60")
    git("log", "--all", "--graph", "--oneline")
    git("blame", "d1/f1.txt")
    git("checkout", "-q", "-b", "side", "main~40")
    stage.write("r/new.txt", "x\n" * 5000)
    git("add", ".")
    git("commit", "-q", "-m", "side")
    git("merge", "-q", "-m", "merged", "main")
    git("diff", "main~100", "main", "--stat", "-M", "-C", "--find-copies-harder")
    git("grep", "-n", "--threads=2", "edited in 1[0-9][0-9]")
    git("repack", "-a", "-d", "-q", "-f", "--depth=50", "--window=50")
    git("gc", "-q", "--aggressive", "--prune=now")
    git("fsck", "--full", "--strict", "--no-progress")
    git("clone", "-q", "--no-hardlinks", "--bare", ".", "../copy.git")
    git("bundle", "create", "-q", "../b.bundle", "--all")
    git("rev-list", "--objects", "--all")
    git("archive", "--format=tar", "HEAD", keep=True)
    git("show", "no-such-thing", expect=128)


# Packs made by threads differ from run to run in what is a delta of what.
IGNORED_FILES = [r"\.(pack|idx|rev|bitmap)$"]
