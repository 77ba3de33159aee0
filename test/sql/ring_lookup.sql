-- Lookup by every algorithm, its errors, pins, replicas, shares and plans.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset null '(null)'

-- the shipped ring is there and empty
SELECT ring, algorithm, virtual_nodes, hash, table_size FROM platpat.rings;
SELECT platpat.shard_for('key');
SELECT platpat.add_shard('shard-0'), platpat.add_shard('shard-1'), platpat.add_shard('shard-2');
SELECT platpat.shard_for('tenant-1'), platpat.shard_for('tenant-2'), platpat.shard_for('tenant-3');

-- text, uuid and integer keys hash their text form
SELECT platpat.shard_for('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') =
       platpat.shard_for('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid) AS uuid,
       platpat.shard_for('-42') = platpat.shard_for(-42) AS int,
       platpat.shard_for('-9223372036854775808') = platpat.shard_for(-9223372036854775808) AS bigint,
       platpat.shard_for('7') = platpat.shard_for(7::smallint) AS smallint,
       platpat.shard_for('x') = platpat.shard_for('x'::varchar) AS varchar;
SELECT platpat.shard_for(repeat('x', 1000000)) IS NOT NULL AS long_key;
SELECT platpat.shard_for('');
SELECT platpat.shards_for('', 1);
SELECT platpat.server_for('');

-- every algorithm: the same answer as its immutable form, whatever the order of insertion
SELECT platpat.create_ring(a, a, shards => ARRAY['d', 'a', 'c', 'b'])
  FROM unnest('{ketama,rendezvous,maglev,jump,modulo}'::text[]) a;
SELECT platpat.create_ring('md5', shards => ARRAY['d', 'a', 'c', 'b']);
SELECT bool_and(platpat.shard_for(k, 'md5') = platpat.consistent_hash(k, '{a,b,c,d}')) AS md5,
       bool_and(platpat.shard_for(k, 'rendezvous') = platpat.rendezvous_hash(k, '{c,b,a,d}')) AS rendezvous,
       bool_and(platpat.shard_for(k, 'maglev') = platpat.maglev_hash(k, '{b,a,d,c}')) AS maglev,
       bool_and(platpat.shard_for(k, 'jump') = ('{d,a,c,b}'::text[])[1 + platpat.jump_hash(platpat.xxh64(k), 4)]) AS jump,
       bool_and(platpat.shard_for(k, 'modulo') = ('{d,a,c,b}'::text[])[1 + platpat.modulo_hash(k, 4)]) AS modulo
  FROM (SELECT 'key-' || i AS k FROM generate_series(1, 2000) i) s;
SELECT shard, count(*) BETWEEN 350 AND 650 AS fair
  FROM (SELECT platpat.shard_for('key-' || i, 'ketama') AS shard FROM generate_series(1, 2000) i) s GROUP BY 1 ORDER BY 1;
-- by PostgreSQL's partition hash
SELECT platpat.create_ring('partition', 'modulo', hash => 'partition', shards => '{p0,p1,p2,p3}');
CREATE TABLE parts (k text) PARTITION BY HASH (k);
CREATE TABLE p0 PARTITION OF parts FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE p1 PARTITION OF parts FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE p2 PARTITION OF parts FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE p3 PARTITION OF parts FOR VALUES WITH (MODULUS 4, REMAINDER 3);
INSERT INTO parts SELECT 'key-' || i FROM generate_series(1, 1000) i;
SELECT count(*) FROM parts WHERE platpat.shard_for(k, 'partition') <> tableoid::regclass::text;
SELECT count(*) FROM parts WHERE mod((platpat.partition_hash(k)::numeric + 18446744073709551616), 4)::text <> substr(tableoid::regclass::text, 2);
DROP TABLE parts;

-- weights
SELECT platpat.create_ring(a || 'w', a) FROM unnest('{md5,ketama,rendezvous,maglev}'::text[]) a;
SELECT platpat.add_shard(s, a || 'w', w) FROM unnest('{md5,ketama,rendezvous,maglev}'::text[]) a, (VALUES ('light', 1), ('heavy', 3), ('drained', 0)) v(s, w);
SELECT r, (SELECT round(share::numeric, 1) FROM platpat.ring_share(r) WHERE shard = 'heavy') AS heavy,
          (SELECT share FROM platpat.ring_share(r) WHERE shard = 'drained') AS drained,
          (SELECT round(sum(share)::numeric, 12) FROM platpat.ring_share(r)) AS total,
          (SELECT count(*) FILTER (WHERE platpat.shard_for('k' || i, r) = 'heavy') BETWEEN 1350 AND 1650
              AND count(*) FILTER (WHERE platpat.shard_for('k' || i, r) = 'drained') = 0 FROM generate_series(1, 2000) i) AS counted
  FROM unnest('{md5w,ketamaw,rendezvousw,maglevw}'::text[]) r;
SELECT platpat.alter_shard('light', 'md5w', 0), platpat.alter_shard('heavy', 'md5w', weight => 0);
SELECT platpat.shard_for('x', 'md5w');
SELECT * FROM platpat.ring_share('md5w') ORDER BY 1;

-- replicas: distinct, the owner first, all when there are fewer
SELECT r, array_length(s, 1) AS n, s[1] = platpat.shard_for('k', r) AS owner_first,
       (SELECT count(DISTINCT x) FROM unnest(s) x) AS different,
       array_length(platpat.shards_for('k', 100, r), 1) AS most
  FROM unnest('{md5,ketama,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.shards_for('k', 3, r) s;
SELECT r, platpat.shards_for('k', 5, r) FROM unnest('{ketamaw,rendezvousw,maglevw}'::text[]) r;
-- when the owner goes, the second becomes the owner
SELECT r, count(*) FROM unnest('{md5,rendezvous}'::text[]) r, generate_series(1, 300) i
 WHERE platpat.shard_for('k' || i, r) = 'b' GROUP BY r HAVING count(*) = 0;
CREATE TEMP TABLE second AS SELECT r, 'k' || i AS k, (platpat.shards_for('k' || i, 2, r))[2] AS shard
  FROM unnest('{md5,rendezvous}'::text[]) r, generate_series(1, 300) i WHERE platpat.shard_for('k' || i, r) = 'b';
BEGIN;
SELECT platpat.remove_shard('b', 'md5'), platpat.remove_shard('b', 'rendezvous');
SELECT count(*) FROM second WHERE platpat.shard_for(k, r) <> shard;
ROLLBACK;

-- pins
SELECT platpat.shard_for('big', 'md5') AS by_ring, platpat.shards_for('big', 2, 'md5');
SELECT platpat.pin_key('big', 'a', 'md5'), platpat.pin_key('small', 'c', 'md5');
SELECT platpat.pin_key('', 'c', 'md5');
SELECT platpat.shard_for('big', 'md5') AS pinned, platpat.shards_for('big', 2, 'md5'), platpat.shard_for('small', 'md5');
SELECT platpat.pin_key('big', 'd', 'md5');
SELECT platpat.shard_for('big', 'md5') AS pinned, platpat.shard_for('bi', 'md5') = platpat.consistent_hash('bi', '{a,b,c,d}') AS other;
SELECT platpat.unpin_key('big', 'md5');
SELECT platpat.shard_for('big', 'md5') = platpat.consistent_hash('big', '{a,b,c,d}') AS by_ring;
SELECT platpat.unpin_key('big', 'md5');
SELECT platpat.remove_shard('c', 'md5');
SELECT * FROM platpat.pins;
SELECT platpat.add_shard('c', 'md5');

-- plans: what the shares say, and nothing is changed
SELECT r, count(*) AS moves, bool_and(to_shard = 'e') AS only_to_new, round(sum(share)::numeric, 2) AS moved
  FROM unnest('{md5,ketama,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.plan_ring('{e}', ring => r) GROUP BY r ORDER BY r;
SELECT r, count(*) AS moves, bool_and(from_shard = 'b') AS only_from_removed, round(sum(share)::numeric, 2) AS moved
  FROM unnest('{md5,ketama,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.plan_ring(remove => '{b}', ring => r) GROUP BY r ORDER BY r;
SELECT abs(sum(share) - (SELECT share FROM platpat.ring_share('md5') WHERE shard = 'b')) < 1e-9 AS exact
  FROM platpat.plan_ring(remove => '{b}', ring => 'md5');
BEGIN;
CREATE TEMP TABLE before AS SELECT r, shard, share FROM unnest('{md5,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.ring_share(r);
CREATE TEMP TABLE plan AS SELECT r, p.* FROM unnest('{md5,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.plan_ring('{e,f}', ring => r) p;
SELECT platpat.add_shard(s, r) FROM unnest('{md5,rendezvous,maglev,jump,modulo}'::text[]) r, unnest('{e,f}'::text[]) s ORDER BY r, s;
SELECT a.r, bool_and(abs(a.share - (coalesce(b.share, 0)
         + coalesce((SELECT sum(share) FROM plan p WHERE p.r = a.r AND to_shard = a.shard), 0)
         - coalesce((SELECT sum(share) FROM plan p WHERE p.r = a.r AND from_shard = a.shard), 0))) < 1e-9) AS balances
  FROM (SELECT r, shard, share FROM unnest('{md5,rendezvous,maglev,jump,modulo}'::text[]) r, platpat.ring_share(r)) a
  LEFT JOIN before b USING (r, shard) GROUP BY a.r ORDER BY a.r;
ROLLBACK;
SELECT from_shard, to_shard, round(share::numeric, 6) FROM platpat.plan_ring('{x,y}', '{a}', 'rendezvous');
SELECT count(*) FROM platpat.plan_ring(ring => 'md5');

-- errors
\set VERBOSITY sqlstate
SELECT platpat.shard_for(NULL::text);
SELECT platpat.shard_for(NULL::uuid);
SELECT platpat.shard_for(NULL::bigint);
SELECT platpat.shard_for('k', NULL);
SELECT platpat.shard_for('k', 'nowhere');
SELECT platpat.shard_for('k', repeat('x', 1000));
SELECT platpat.shards_for(NULL, 1);
SELECT platpat.shards_for('k', NULL);
SELECT platpat.shards_for('k', 0);
SELECT platpat.shards_for('k', -1);
SELECT platpat.server_for(NULL);
SELECT platpat.server_for('k', 'md5');
SELECT * FROM platpat.ring_share(NULL);
SELECT * FROM platpat.ring_share('nowhere');
SELECT * FROM platpat.plan_ring(ring => 'nowhere');
SELECT * FROM platpat.plan_ring('{a}', ring => 'md5');
SELECT * FROM platpat.plan_ring(remove => '{zz}', ring => 'md5');
SELECT * FROM platpat.plan_ring(remove => '{d}', ring => 'jump');
SELECT * FROM platpat.plan_ring(remove => '{a,b,c,d}', ring => 'md5');
SELECT * FROM platpat.plan_ring('{NULL}', ring => 'md5');
SELECT * FROM platpat.plan_ring('{""}', ring => 'md5');
SELECT platpat.consistent_hash(NULL, '{a}');
SELECT platpat.consistent_hash('k', NULL);
SELECT platpat.consistent_hash('k', '{}');
SELECT platpat.consistent_hash('k', '{a,NULL}');
SELECT platpat.consistent_hash('k', '{a,a}');
SELECT platpat.consistent_hash('k', '{a}', 0);
SELECT platpat.consistent_hash('k', '{a}', 10001);
SELECT platpat.consistent_hash('k', '{a}', NULL);
SELECT platpat.rendezvous_hash('k', '{}');
SELECT platpat.maglev_hash('k', '{a}', 65536);
SELECT platpat.maglev_hash('k', '{a}', 1);
SELECT platpat.maglev_hash('k', '{a}', -7);
SELECT platpat.jump_hash(NULL, 1);
SELECT platpat.jump_hash(1, NULL);
SELECT platpat.jump_hash(1, 0);
SELECT platpat.jump_hash(1, -1);
SELECT platpat.modulo_hash('k', 0);
\set VERBOSITY default
SELECT platpat.shard_for('k', 'nowhere');
SELECT platpat.server_for('k', 'md5');
\set VERBOSITY terse
SELECT platpat.jump_hash(-1, 2147483647), platpat.jump_hash(-9223372036854775808, 10);

-- an array that changes from row to row
SELECT platpat.consistent_hash('k', s, v) FROM (VALUES ('{a,b}'::text[], 150), ('{a,b,c,d,e,f}', 150), ('{a,b}', 150), ('{a,b}', 1)) t(s, v);

-- in an expression index, a generated column, and as a partition key
CREATE TABLE users (tenant text PRIMARY KEY, shard text GENERATED ALWAYS AS (platpat.consistent_hash(tenant, '{s0,s1,s2}')) STORED);
CREATE INDEX ON users (platpat.rendezvous_hash(tenant, '{s0,s1,s2}'));
INSERT INTO users SELECT 't' || i FROM generate_series(1, 100) i;
SELECT count(*) FROM users WHERE shard <> platpat.consistent_hash(tenant, '{s2,s1,s0}');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM users WHERE platpat.rendezvous_hash(tenant, '{s0,s1,s2}') = 's1';
RESET enable_seqscan;
CREATE TABLE events (tenant text) PARTITION BY LIST (platpat.modulo_hash(tenant, 2));
CREATE TABLE events_0 PARTITION OF events FOR VALUES IN (0);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
INSERT INTO events SELECT 't' || i FROM generate_series(1, 100) i;
SELECT count(*) FROM events WHERE tableoid::regclass::text <> 'events_' || platpat.modulo_hash(tenant, 2);
DROP TABLE users, events;

-- the shard of the current tenant
CREATE ROLE regress_app;
SET ROLE regress_app;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.shard_for(platpat.current_tenant(), 'md5') = platpat.shard_for('acme', 'md5') AS same;
COMMIT;
RESET ROLE;
DROP ROLE regress_app;
SELECT platpat.drop_ring(ring) FROM platpat.rings WHERE ring <> 'default' ORDER BY ring;
SELECT platpat.remove_shard(shard) FROM platpat.shards ORDER BY shard;
