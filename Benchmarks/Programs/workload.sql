-- SPDX-License-Identifier: MIT
-- A database as a heap sees it: a bulk insert in one transaction, two indexes, queries and deletes.
-- ROWS is replaced by the number of rows. Prints check=..., the same under every heap.
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, kind INTEGER, data BLOB);
CREATE INDEX item_name ON item (name);
CREATE INDEX item_kind ON item (kind, id);
BEGIN;
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ROWS)
INSERT INTO item SELECT n, 'name-' || (n * 7919 % ROWS), n % 97, zeroblob(n % 200) FROM number;
COMMIT;
CREATE TABLE total AS SELECT kind, count(*) AS count, sum(length(data)) AS size,
    group_concat(substr(name, 6, 3)) AS names FROM item GROUP BY kind;
UPDATE item SET data = zeroblob(300) WHERE kind < 30;
DELETE FROM item WHERE kind % 3 = 0;
SELECT 'check=' || (SELECT sum(size * kind + length(names)) FROM total) || '-' ||
    (SELECT sum(id * length(name)) FROM item) || '-' ||
    (SELECT count(DISTINCT substr(name, 1, 8)) FROM item);
