# SPDX-License-Identifier: MIT
"""redis-server under redis-benchmark: data checked by digest, saved by a forked child, reloaded."""

import random
import re

import harness

NEEDS = ["redis-server", "redis-benchmark", "redis-cli"]
WEIGHT = 7
KILLS = True  # the saving child ends with _exit

# What the benchmark and the server say depends on time; the exit statuses and the data do not.
ANY = [(r"(?s).+", "")]


def commands(count):
    """The same data in every run, as redis-cli reads it."""
    chance = random.Random(7)
    lines = []
    for i in range(count):
        size = chance.choice([1, 10, 44, 45, 200, 3000])
        kind = i % 6
        value = "v" * size + str(i)
        lines.append([
            f"SET s{i % 700} {value}", f"RPUSH l{i % 40} {value} {i}",
            f"HSET h{i % 50} f{chance.randrange(300)} {value}", f"SADD u{i % 30} {i} m{value[:20]}",
            f"ZADD z{i % 20} {chance.randrange(10000)} {value[:60]}", f"APPEND s{i % 97} {value[:50]}",
        ][kind])
        if i % 11 == 0:
            lines.append(f"DEL s{chance.randrange(700)}")
        if i % 17 == 0:
            lines.append(f"LPOP l{i % 40} 3")
    return ("\n".join(lines) + "\n").encode()


def start(stage):
    sock = stage.work / "r.sock"
    server = stage.start(
        ["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no",
         "--dir", stage.work, "--dbfilename", "d.rdb", "--io-threads", "2",
         "--enable-debug-command", "yes", "--lazyfree-lazy-user-del", "yes", "--jemalloc-bg-thread",
         "no", "--loglevel",
         "warning"], keep=True, scrub=ANY)
    stage.wait_for(sock.exists, 20, "the server's socket")
    return server, sock


def run(stage):
    server, sock = start(stage)

    def cli(*words, **settings):
        return stage.run(["redis-cli", "-s", sock, *words], **settings)

    cli(input=commands(60000 if stage.long else 12000), keep=True, limit=120)
    digest = cli("DEBUG", "DIGEST").out
    number = "40000" if stage.long else "8000"
    stage.run(["redis-benchmark", "-s", sock, "-q", "-n", number, "-c", "20", "-P", "4",
               "-r", "5000", "-d", "300", "--threads", "2", "--dbnum", "1",
               "-t", "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100,mset"],
              keep=True, limit=400)
    stage.look(server.pid, work=lambda: cli_quiet(stage, sock))
    cli("-n", "1", "FLUSHDB", "SYNC")
    stage.require(cli("DEBUG", "DIGEST").out == digest, "the benchmark changed other data")
    cli("EVAL", "local t = {} for i = 1, 20000 do t[i] = 'x' .. i end return #table.concat(t)", "0")
    cli("MEMORY", "DOCTOR", keep=True)
    cli("MEMORY", "PURGE")
    cli("BGSAVE", keep=True)
    stage.wait_for(lambda: b"rdb_bgsave_in_progress:0" in cli_quiet(stage, sock), 60, "BGSAVE")
    cli("FLUSHALL", "ASYNC")
    cli("DEBUG", "DIGEST")
    cli("SHUTDOWN", "NOSAVE")
    stage.finish(server)
    stage.run(["redis-check-rdb", "d.rdb"], keep=True)
    server, sock = start(stage)
    stage.require(cli("DEBUG", "DIGEST").out == digest, "the reloaded data differ")
    info = cli("INFO", "memory", keep=True).out
    stage.require(int(re.search(rb"used_memory:(\d+)", info)[1]) > 100000, "used_memory is wrong")
    stage.stop(server)


def cli_quiet(stage, sock):
    """INFO without a place in the transcript: how often it is asked depends on time."""
    import subprocess
    return subprocess.run(["redis-cli", "-s", sock, "INFO", "persistence"], timeout=60 * harness.LIMITS_SCALE,
                          stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}).stdout

