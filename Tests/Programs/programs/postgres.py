# SPDX-License-Identifier: MIT
"""PostgreSQL: initdb, pgbench, queries (parallel, sorted, hashed, compiled), dump, amcheck."""

import glob
import os
import shutil
import signal

import harness

NEEDS = ["psql"]
WEIGHT = 10
KILLS = True

QUERIES = """
SET max_parallel_workers_per_gather = 2; SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET work_mem = '2MB';
CREATE TABLE t AS SELECT i, (i * 7919) % 100003 AS k, md5(i::text) AS m, repeat('x', i % 300) AS r
  FROM generate_series(1, ROWS) i;
CREATE INDEX t_k ON t(k); CREATE INDEX t_m ON t USING hash(m); ANALYZE t;
SELECT count(*), sum(k), max(m), sum(length(r)) FROM t;
SELECT k % 10 AS d, count(*), min(m) FROM t GROUP BY d ORDER BY d;
SELECT md5(string_agg(m, ',' ORDER BY k DESC, i)) FROM t WHERE i % 3 = 0;
SELECT count(*) FROM t a JOIN t b ON a.k = b.i WHERE b.m LIKE '%a%';
SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0;
SELECT sum(k * 2 + length(m)), avg(i)::numeric(20, 6) FROM t WHERE k > 500 AND m > '1';
SET jit = off;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT sum(i) FROM n;
SELECT jsonb_object_agg(k, m) -> '77' IS NULL, length(jsonb_agg(t)::text) > 100 FROM t WHERE i < 3000;
SELECT regexp_replace(repeat('ab12', 5000), '[a-z]+(\\d)', '<\\1>', 'g') ~ '^(<1>2)+$';
DO $$ DECLARE s text := ''; BEGIN FOR i IN 1..5000 LOOP s := s || i; BEGIN
  IF i % 100 = 0 THEN RAISE EXCEPTION 'e'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP;
  RAISE NOTICE '%', length(s); END $$;
UPDATE t SET r = r || 'y' WHERE k % 2 = 0; DELETE FROM t WHERE i % 7 = 0; VACUUM FULL t;
CREATE EXTENSION amcheck; SELECT bt_index_check('t_k', true);
SELECT * FROM no_such_table;
SELECT a.abalance = t.tbalance AND t.tbalance = b.bbalance AND b.bbalance = h.delta FROM
  (SELECT sum(abalance) abalance FROM pgbench_accounts) a, (SELECT sum(tbalance) tbalance FROM pgbench_tellers) t,
  (SELECT sum(bbalance) bbalance FROM pgbench_branches) b, (SELECT sum(delta) delta FROM pgbench_history) h;
SELECT count(*) FROM pgbench_history;
"""


def binaries():
    """Where this distribution keeps the server programs."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    found = shutil.which("postgres")
    return places[-1] if places else os.path.dirname(found) if found else None


def run(stage):
    where = binaries()
    if not where:
        raise harness.Skip("no postgres server programs here")
    user = "postgres"
    home = stage.work / "home"
    home.mkdir()
    if os.geteuid() == 0:
        shutil.chown(home, user, user)
        shutil.chown(stage.regions, user, user)

    def pg(program, *words, **settings):
        return stage.run([f"{where}/{program}", *words], user=user, cwd=home, **settings)

    data = home / "data"
    pg("initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync", "--locale=C.UTF-8",
       keep=True, limit=120)
    server = stage.start(
        [f"{where}/postgres", "-D", data, "-k", home, "-c", "listen_addresses=", "-c", "fsync=off",
         "-c", "max_parallel_workers=2", "-c", "logging_collector=off", "-c",
         "log_min_messages=fatal", "-c", "shared_buffers=16MB"], user=user, cwd=home, limit=60,
        scrub=[(r"^.*(LOG|FATAL):.*\n", "")])
    stage.wait_for(lambda: (home / ".s.PGSQL.5432").exists() and ready(where, home), 60, "postgres")
    common = ["-h", home, "-U", "tester", "postgres"]
    pg("pgbench", "-i", "-q", "-s", "5" if stage.long else "1", *common, keep=True, limit=120,
       scrub=[(r"[\d.]+ s\b", "T"), (r"^done in.*", "done"), (r"^.*tuples.*\n", "")])
    for words in (["-t", "4000" if stage.long else "150"], ["-S", "-M", "prepared", "-t", "1000"],
                  ["-N", "-C", "-t", "15"]):
        pg("pgbench", "-n", "-c", "4", "-j", "2", *words, *common, keep=True, limit=300)
    stage.look(server.pid)
    psql = ["psql", "-X", "-q", "-A", "-h", home, "-U", "tester", "postgres"]
    queries = QUERIES.replace("ROWS", "400000" if stage.long else "40000").encode()
    stage.run(psql, input=queries, user=user, cwd=home, limit=200)
    pg("pg_dump", "--no-comments", "-T", "pgbench_history", "-T", "pgbench_accounts",
       "-T", "pgbench_tellers", "-T", "pgbench_branches", *common, limit=100, scrub=[(r"^(.(un)?restrict) \w+", r"\1 KEY")])
    pg("vacuumdb", "--analyze", "-j", "2", *common, keep=True, limit=100)
    stage.stop(server, signal.SIGINT)
    pg("pg_controldata", data, keep=True)


def ready(where, home):
    import subprocess
    return subprocess.run([f"{where}/pg_isready", "-q", "-h", home], timeout=60 * harness.LIMITS_SCALE).returncode == 0


IGNORED_FILES = [r"^home/data/"]
