# SPDX-License-Identifier: MIT
"""sqlite3: a script of inserts, indexes, joins, updates and deletes, and the dump it leaves."""

NEEDS = ["sqlite3"]
WEIGHT = 4

SCRIPT = """
PRAGMA journal_mode=WAL;
PRAGMA threads=2;
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, city TEXT, born INTEGER, note BLOB);
CREATE TABLE visit(person INTEGER REFERENCES person, day INTEGER, cost REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {people})
  INSERT INTO person SELECT i, printf('name-%06d', (i*7919) % 1000003),
    'city-' || ((i*31) % 97), 1900 + (i*17) % 120, zeroblob((i*13) % 300) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {visits})
  INSERT INTO visit SELECT 1 + (i*104729) % {people}, (i*37) % 3650, ((i*53) % 10007) / 8.0 FROM n;
CREATE INDEX person_city ON person(city, born);
CREATE INDEX visit_person ON visit(person, day);
ANALYZE;
SELECT city, count(*), sum(cost), max(day) FROM person JOIN visit ON visit.person = person.id
  GROUP BY city ORDER BY city;
SELECT born, group_concat(name, ',') FROM (SELECT born, name FROM person ORDER BY name)
  WHERE born % 40 = 0 GROUP BY born;
BEGIN;
UPDATE person SET name = upper(name) || hex(substr(note, 1, 8)) WHERE id % 3 = 0;
DELETE FROM visit WHERE day % 5 = 2;
SAVEPOINT s; DELETE FROM person; ROLLBACK TO s;
COMMIT;
SELECT sum(length(x)) FROM (SELECT json_group_array(json_object('d', day, 'c', cost)) x
  FROM visit GROUP BY person);
SELECT person, day, rank() OVER (PARTITION BY person ORDER BY cost DESC, day) r
  FROM visit WHERE person < 60 ORDER BY person, r, day;
VACUUM;
PRAGMA integrity_check;
PRAGMA foreign_key_check;
"""


def run(stage):
    people, visits = (60000, 400000) if stage.long else (15000, 90000)
    script = SCRIPT.format(people=people, visits=visits).encode()
    result = stage.run(["sqlite3", "-batch", "test.db"], input=script, limit=300)
    stage.require(b"\nok\n" in result.out, "integrity_check is not ok")
    stage.run(["sqlite3", "-batch", "test.db", ".dump"], limit=120)
    many = b"".join(b"SELECT %d, count(*) FROM person WHERE id %% %d = 1;\n" % (i, i + 2)
                    for i in range(300))
    stage.run(["sqlite3", "-batch", "test.db"], input=many, limit=120)
