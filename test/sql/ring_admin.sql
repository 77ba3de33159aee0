-- Changing rings: by functions and by SQL, who may, and what cannot be.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_ops;
CREATE ROLE regress_app;
SET client_min_messages = warning;
SELECT platpat.grant_admin('regress_ops');
RESET client_min_messages;

-- an application role reads and changes nothing
SET ROLE regress_app;
SELECT ring FROM platpat.rings;
\set VERBOSITY sqlstate
SELECT platpat.create_ring('r');
SELECT platpat.drop_ring('default');
SELECT platpat.add_shard('s');
SELECT platpat.remove_shard('s');
SELECT platpat.alter_shard('s');
SELECT platpat.pin_key('k', 's');
SELECT platpat.unpin_key('k');
INSERT INTO platpat.rings VALUES ('r');
DELETE FROM platpat.shards;
TRUNCATE platpat.pins;
SELECT * FROM platpat.removed_defaults;
RESET ROLE;

-- bad values never get in, by either way
SET ROLE regress_ops;
SELECT platpat.create_ring(NULL);
SELECT platpat.create_ring('');
SELECT platpat.create_ring(E'a\nb');
SELECT platpat.create_ring(repeat('x', 256));
SELECT platpat.create_ring('default');
SELECT platpat.create_ring('r', 'sha1');
SELECT platpat.create_ring('r', NULL);
SELECT platpat.create_ring('r', hash => 'crc32');
SELECT platpat.create_ring('r', hash => NULL);
SELECT platpat.create_ring('r', virtual_nodes => 0);
SELECT platpat.create_ring('r', virtual_nodes => 10001);
SELECT platpat.create_ring('r', virtual_nodes => NULL);
SELECT platpat.create_ring('r', 'maglev', table_size => 65536);
SELECT platpat.create_ring('r', 'maglev', table_size => 7);
SELECT platpat.create_ring('r', shards => '{a,NULL}');
SELECT platpat.create_ring('r', shards => '{a,""}');
SELECT platpat.create_ring('r', shards => '{a,a}');
SELECT count(*) FROM platpat.rings WHERE ring = 'r';
SELECT platpat.create_ring('r', shards => '{a,b}');
SELECT platpat.add_shard(NULL, 'r');
SELECT platpat.add_shard('', 'r');
SELECT platpat.add_shard('a', 'r');
SELECT platpat.add_shard('c', NULL);
SELECT platpat.add_shard('c', 'nowhere');
SELECT platpat.add_shard(E'c\t', 'r');
SELECT platpat.add_shard('c', 'r', -1);
SELECT platpat.add_shard('c', 'r', 'NaN');
SELECT platpat.add_shard('c', 'r', 'infinity');
SELECT platpat.add_shard('c', 'r', 1e7);
SELECT platpat.add_shard('c', 'r', 1e6);
SELECT platpat.add_shard('c', 'r', NULL);
SELECT platpat.add_shard('c', 'r', server => 'nowhere');
SELECT platpat.alter_shard('c', 'r', 2);
SELECT platpat.alter_shard('a', 'nowhere', 2);
SELECT platpat.alter_shard('a', 'r', -2);
SELECT platpat.remove_shard('c', 'r');
SELECT platpat.remove_shard('a', 'nowhere');
SELECT platpat.drop_ring('nowhere');
SELECT platpat.drop_ring(NULL);
SELECT platpat.pin_key(NULL, 'a', 'r');
SELECT platpat.pin_key('k', 'zz', 'r');
SELECT platpat.pin_key('k', 'a', 'nowhere');
SELECT platpat.unpin_key('k', 'nowhere');
INSERT INTO platpat.rings VALUES ('q', 'sha1');
INSERT INTO platpat.rings VALUES ('');
UPDATE platpat.rings SET virtual_nodes = 0 WHERE ring = 'r';
INSERT INTO platpat.shards VALUES ('r', 'c', -1, 7);
INSERT INTO platpat.shards VALUES ('r', '', 1, 7);
INSERT INTO platpat.shards VALUES ('r', 'c', 1, -7);
INSERT INTO platpat.shards VALUES ('r', 'c', 1, 0);
INSERT INTO platpat.shards VALUES ('nowhere', 'c', 1, 0);
INSERT INTO platpat.pins VALUES ('r', NULL, 'a');
INSERT INTO platpat.pins VALUES ('r', 'k', 'zz');
-- what belongs to nothing counts for nothing, until that comes
SELECT platpat.shard_for('k', 'r') IS NULL AS pinned_to_nothing;
SELECT platpat.shard_for('k', 'nowhere');
INSERT INTO platpat.rings (ring) VALUES ('nowhere');
SELECT platpat.shard_for('k', 'nowhere');
SELECT platpat.drop_ring('nowhere');
SELECT count(*) FROM platpat.shards WHERE ring = 'nowhere';
DELETE FROM platpat.pins WHERE shard = 'zz';
BEGIN;
SELECT platpat.pin_key('k', 'a', 'r');
RESET ROLE;
TRUNCATE platpat.rings;
SELECT (SELECT count(*) FROM platpat.shards) AS shards, (SELECT count(*) FROM platpat.pins) AS pins;
ROLLBACK;
SET ROLE regress_ops;
\set VERBOSITY default
SELECT platpat.create_ring('q', 'sha1');
SELECT platpat.create_ring('q', 'maglev', table_size => 65536);
SELECT platpat.add_shard('c', 'r', -1);
\set VERBOSITY terse

-- editing the tables is as good: the next statement sees it
SELECT platpat.shard_for('key', 'r');
INSERT INTO platpat.shards (ring, shard, weight) VALUES ('r', 'c', 1000);
SELECT platpat.shard_for('key', 'r'), position FROM platpat.shards WHERE ring = 'r' AND shard = 'c';
UPDATE platpat.shards SET shard = 'renamed' WHERE ring = 'r' AND shard = 'c';
SELECT platpat.shard_for('key', 'r');
UPDATE platpat.shards SET weight = 0 WHERE shard = 'renamed';
SELECT platpat.shard_for('key', 'r') = platpat.consistent_hash('key', '{a,b}') AS as_before;
INSERT INTO platpat.pins VALUES ('r', 'key', 'renamed');
SELECT platpat.shard_for('key', 'r');
DELETE FROM platpat.shards WHERE shard = 'renamed';
SELECT platpat.shard_for('key', 'r') = platpat.consistent_hash('key', '{a,b}') AS as_before;
UPDATE platpat.rings SET algorithm = 'rendezvous' WHERE ring = 'r';
SELECT bool_and(platpat.shard_for('k' || i, 'r') = platpat.rendezvous_hash('k' || i, '{a,b}')) FROM generate_series(1, 100) i;
SELECT platpat.alter_shard('a', 'r', 2);
UPDATE platpat.rings SET algorithm = 'modulo' WHERE ring = 'r';
SELECT platpat.alter_shard('a', 'r', 1);
UPDATE platpat.rings SET ring = 's' WHERE ring = 'r';
SELECT bool_and(platpat.shard_for('k' || i, 's') = platpat.rendezvous_hash('k' || i, '{a,b}')) FROM generate_series(1, 100) i;
SELECT platpat.shard_for('key', 'r');
DELETE FROM platpat.rings WHERE ring = 's';
SELECT count(*) FROM platpat.shards WHERE ring = 's';
SELECT platpat.shard_for('key', 's');

-- a transaction sees its own changes, and ROLLBACK undoes them
SELECT platpat.create_ring('r', shards => '{a}');
BEGIN;
SELECT platpat.shard_for('key', 'r');
SAVEPOINT x;
SELECT platpat.add_shard('b', 'r', 1000);
SELECT platpat.shard_for('key', 'r');
ROLLBACK TO x;
SELECT platpat.shard_for('key', 'r');
DO $$
BEGIN
    PERFORM platpat.add_shard('b', 'r', 1000);
    ASSERT platpat.shard_for('key', 'r') = 'b';
    PERFORM platpat.remove_shard('b', 'r');
    ASSERT platpat.shard_for('key', 'r') = 'a';
END $$;
ROLLBACK;
-- one statement answers for its own snapshot
WITH changed AS (INSERT INTO platpat.shards (ring, shard, weight) VALUES ('r', 'b', 1000) RETURNING shard)
SELECT shard, platpat.shard_for('key', 'r') FROM changed;
SELECT platpat.shard_for('key', 'r');
TRUNCATE platpat.pins;
RESET ROLE;
TRUNCATE platpat.shards, platpat.pins;
SELECT platpat.shard_for('key', 'r');
SET ROLE regress_ops;

-- jump and modulo number their shards: only the last can go
SELECT platpat.create_ring('j', 'jump', shards => '{c,b,a}');
SELECT shard, position FROM platpat.shards WHERE ring = 'j' ORDER BY position;
\set VERBOSITY default
SELECT platpat.remove_shard('c', 'j');
SELECT platpat.add_shard('d', 'j', 2);
\set VERBOSITY sqlstate
DELETE FROM platpat.shards WHERE ring = 'j' AND shard = 'b';
UPDATE platpat.shards SET position = 10 WHERE ring = 'j' AND shard = 'b';
UPDATE platpat.shards SET weight = 0 WHERE ring = 'j' AND shard = 'b';
\set VERBOSITY terse
SELECT platpat.remove_shard('a', 'j'), platpat.add_shard('z', 'j');
SELECT shard, position FROM platpat.shards WHERE ring = 'j' ORDER BY position;
SELECT platpat.drop_ring('j');

-- servers
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_server FOREIGN DATA WRAPPER regress_dummy;
SET ROLE regress_ops;
SELECT platpat.add_shard('only', 'r', server => 'regress_server');
SELECT platpat.server_for('key', 'r');
SELECT platpat.alter_shard('only', 'r');
SELECT platpat.server_for('key', 'r');
SELECT platpat.alter_shard('only', 'r', server => '');
SELECT platpat.server_for('key', 'r');
SELECT platpat.alter_shard('only', 'r', server => 'regress_server');
SELECT platpat.drop_ring('r');

-- the shipped ring: what is inserted over it updates it, and its removal is remembered
INSERT INTO platpat.rings (ring, virtual_nodes) VALUES ('default', 99);
SELECT virtual_nodes FROM platpat.rings;
RESET ROLE;
SELECT platpat.drop_ring('default');
SELECT * FROM platpat.removed_defaults;
SELECT platpat.shard_for('key');
SELECT platpat.create_ring('default');
SELECT * FROM platpat.removed_defaults;
INSERT INTO platpat.removed_defaults VALUES ('rings', 'default');
SELECT count(*) FROM platpat.rings;
SELECT platpat.create_ring('default');
SELECT ring, algorithm, virtual_nodes, hash, table_size FROM platpat.rings;

DROP FOREIGN DATA WRAPPER regress_dummy CASCADE;
SELECT platpat.revoke_admin('regress_ops');
DROP OWNED BY regress_ops, regress_app, platpat_admin;
DROP ROLE regress_ops, regress_app;
DO $$ BEGIN DROP ROLE platpat_admin; EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$;
