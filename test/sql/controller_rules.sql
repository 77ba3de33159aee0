-- Controllers: arguments, rights, what can go wrong, and what is remembered.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_other;
CREATE ROLE regress_admin;
-- All in one transaction, so that the worker sees nothing of it.
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT platpat.grant_admin('regress_owner');
SELECT platpat.grant_admin('regress_admin');
CREATE SCHEMA app AUTHORIZATION regress_owner;
SET ROLE regress_owner;
CREATE TABLE app.want (key text PRIMARY KEY, spec jsonb);
CREATE TABLE app.have (key text PRIMARY KEY, spec jsonb);
CREATE TABLE app.calls (number int GENERATED ALWAYS AS IDENTITY, what text, who text, path text, tenant text);
CREATE FUNCTION app.apply(key text, desired jsonb, actual jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO calls (what, who, path, tenant) VALUES (format('%s: %s, was %s', key, coalesce(desired::text, 'nothing'), coalesce(actual::text, 'nothing')),
        current_user, current_setting('search_path'), platpat.current_tenant_or_null());
    IF desired ? 'fail' THEN
        RAISE EXCEPTION USING ERRCODE = desired->>'fail', MESSAGE = 'as it was told';
    ELSIF desired ? 'lie' THEN
        RETURN;
    END IF;
    DELETE FROM have h WHERE h.key = apply.key;
    INSERT INTO have SELECT apply.key, desired WHERE desired IS NOT NULL;
END $$;

-- arguments
SELECT platpat.create_controller(NULL, 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller(repeat('x', 129), 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', NULL, 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', NULL, 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', NULL);
SELECT platpat.create_controller('c', 0, 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 0);
SELECT platpat.create_controller('c', 'app.calls', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want_pkey', 'app.have', 'app.apply(text,jsonb,jsonb)');
CREATE TEMP TABLE short_lived (key text, spec jsonb);
SELECT platpat.create_controller('c', 'short_lived', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'now()');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', mode => 'force');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', mode => NULL);
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', period => '0 s');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', period => '-1 s');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', period => '999 ms');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', period => '2 years');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', prune => NULL);
CREATE FUNCTION app.strict(text, jsonb, jsonb) RETURNS void STRICT LANGUAGE sql AS '';
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.strict(text,jsonb,jsonb)');
CREATE FUNCTION app.many(text, jsonb, jsonb) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.many(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', 'app.many(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)', 'now()');
SELECT platpat.create_controller('protections', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.create_controller('c', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.alter_controller('nobody', paused => true);
SELECT platpat.drop_controller('nobody');
SELECT platpat.reconcile('nobody');
SELECT platpat.reconcile('');
SELECT platpat.reconcile('c', NULL);
SELECT platpat.drift('nobody');
SELECT platpat.wake_controller('nobody');
SELECT platpat.wait_ready('nobody');
SELECT platpat.wait_ready('c', '-1 s');
SELECT platpat.wait_ready('c', NULL);
SELECT platpat.wait_ready('c', '0 s');

-- rights
RESET ROLE;
SET ROLE regress_other;
SELECT platpat.reconcile();
SELECT platpat.drift();
SELECT platpat.create_controller('d', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT status FROM platpat.controller_status;
SELECT platpat.wake_controller('c');
RESET ROLE;
GRANT USAGE ON SCHEMA app TO regress_admin;
SET ROLE regress_admin;
SELECT platpat.create_controller('d', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
SELECT platpat.alter_controller('c', prune => true);
SELECT platpat.alter_controller('c', period => '1 hour');
UPDATE platpat.controllers SET apply = 'pg_reload_conf()';
CREATE FUNCTION pg_temp.mine(key text, desired jsonb, actual jsonb) RETURNS void LANGUAGE sql AS '';
SELECT platpat.create_controller('d', 'app.want', 'app.have', 'pg_temp.mine(text,jsonb,jsonb)');
RESET ROLE;
SELECT platpat.drop_controller('protections');
SELECT platpat.alter_controller('protections', apply => 'app.apply(text,jsonb,jsonb)');
SET ROLE regress_owner;

-- create, update; the function runs as its owner, for no tenant, with its own path
INSERT INTO app.want VALUES ('new', '1'), ('same', '{"a": 1, "b": 2}'), ('other', '{"a": 1}'), ('null', NULL);
INSERT INTO app.have VALUES ('same', '{"b": 2, "a": 1}'), ('other', '{"a": 2}'), ('unlisted', '1');
RESET ROLE;
SET platpat.allow_bypass_role = on;
SELECT platpat.set_tenant('acme');
SELECT key, action, desired, actual, outcome FROM platpat.reconcile('c');
SELECT platpat.current_tenant();
SELECT what, who, path, tenant FROM app.calls ORDER BY number;
SELECT * FROM app.have ORDER BY key;
SET ROLE regress_owner;
SELECT status, keys, drift FROM platpat.controller_status WHERE controller = 'c';

-- delete, only with prune
DELETE FROM app.want WHERE key = 'new';
SELECT * FROM platpat.reconcile('c');
SELECT platpat.alter_controller('c', prune => true);
SELECT key, action, outcome FROM platpat.reconcile('c');
SELECT * FROM app.have ORDER BY key;

-- an error of one key, and one that says that it was done: no false Ready
TRUNCATE app.calls;
INSERT INTO app.want VALUES ('a', '{"fail": "22012"}'), ('b', '{"lie": true}'), ('c', '{}');
SELECT key, action, outcome, message FROM platpat.reconcile('c');
SELECT status, drift, failing, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
SELECT key, attempts, drifts, sqlstate, cardinality(repairs) AS repairs FROM platpat.controller_keys WHERE controller = 'c' ORDER BY key;
SELECT key, outcome FROM platpat.reconcile('c');
SELECT key, attempts FROM platpat.controller_keys WHERE controller = 'c' AND drifts ORDER BY key;
-- another difference is a new one
UPDATE app.want SET spec = '{"lie": 2}' WHERE key = 'b';
UPDATE app.want SET spec = '{"fail": "55P03"}' WHERE key = 'a';
SELECT key, outcome FROM platpat.reconcile('c');
SELECT key, attempts, sqlstate FROM platpat.controller_keys WHERE controller = 'c' AND drifts ORDER BY key;
DELETE FROM app.want WHERE key < 'c';
SELECT key, outcome FROM platpat.reconcile('c');
SELECT status, drift, error FROM platpat.controller_status WHERE controller = 'c';

-- repaired again and again: contested
DO $$
BEGIN
    FOR i IN 1..6 LOOP
        DELETE FROM app.have WHERE key = 'same';
        PERFORM platpat.reconcile('c');
    END LOOP;
END $$;
SELECT status, contested FROM platpat.controller_status WHERE controller = 'c';
SELECT status, reason, message FROM platpat.conditions WHERE controller = 'c' AND type = 'Contested';

-- rows that cannot be
CREATE TABLE app.strange (key text, spec jsonb);
SELECT platpat.alter_controller('c', desired => 'app.strange', prune => false);
INSERT INTO app.strange VALUES (NULL, '1'), (repeat('x', 1001), '1'), ('twice', '1'), ('twice', '2'), (E'\u202Ehostile''"\\', '1'), ('', '"empty"');
SELECT translate(left(key, 20), E'\u202E', '>') AS key, action FROM platpat.drift('c');
SELECT translate(left(key, 20), E'\u202E', '>') AS key, outcome, message FROM platpat.reconcile('c');
SELECT status, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
TRUNCATE app.strange;
SELECT key, outcome FROM platpat.reconcile('c');
SELECT status, error FROM platpat.controller_status WHERE controller = 'c';

-- what is missing: Failed with the reason, no harm to others, and healed
SELECT platpat.create_controller('d', 'app.want', 'app.have', 'app.apply(text,jsonb,jsonb)');
ALTER TABLE app.strange RENAME TO renamed;
UPDATE app.want SET spec = '2' WHERE key = 'same';
SELECT controller, key, outcome FROM platpat.reconcile();
SELECT controller, status, sqlstate, error FROM platpat.controller_status WHERE controller IN ('c', 'd') ORDER BY 1;
SELECT key FROM platpat.drift();
ALTER TABLE app.renamed RENAME TO strange;
ALTER FUNCTION app.apply RENAME TO renamed;
SELECT key FROM platpat.reconcile('c');
SELECT status, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
ALTER FUNCTION app.renamed RENAME TO apply;
ALTER TABLE app.strange ALTER spec TYPE text;
SELECT key FROM platpat.reconcile('c');
SELECT status, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
ALTER TABLE app.strange ALTER spec TYPE jsonb USING spec::jsonb;
SELECT key FROM platpat.reconcile('c');
SELECT status, error FROM platpat.controller_status WHERE controller = 'c';

-- rows that a policy would hide are an error, not something to delete
ALTER TABLE app.strange ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT key FROM platpat.reconcile('c');
SELECT status, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
ALTER TABLE app.strange DISABLE ROW LEVEL SECURITY;

-- nor is it read once it is another's, who could have it run what he likes
RESET ROLE;
ALTER TABLE app.strange OWNER TO regress_other;
SET ROLE regress_owner;
SELECT key FROM platpat.reconcile('c');
SELECT status, sqlstate, error FROM platpat.controller_status WHERE controller = 'c';
RESET ROLE;
ALTER TABLE app.strange OWNER TO regress_owner;
SET ROLE regress_owner;

-- a view that writes changes nothing by being compared
CREATE FUNCTION app.sneak() RETURNS boolean LANGUAGE sql AS $$ INSERT INTO app.calls (what) VALUES ('sneak'); SELECT true $$;
CREATE VIEW app.sneaky AS SELECT 'k' AS key, '1'::jsonb AS spec WHERE app.sneak();
SELECT platpat.alter_controller('c', desired => 'app.sneaky');
SELECT key FROM platpat.drift('c');
SELECT key FROM platpat.reconcile('c', dry_run => true);
SELECT count(*) FROM app.calls WHERE what = 'sneak';

-- observing; pausing
SELECT platpat.alter_controller('c', mode => 'observe');
SELECT key FROM platpat.reconcile('c');
SELECT status, mode, drift, found > 0 AS found FROM platpat.controller_status WHERE controller = 'c';
SELECT status, reason FROM platpat.conditions WHERE controller = 'c' AND type = 'Reconciling';
SELECT platpat.alter_controller('c', paused => true, mode => 'enforce');
SELECT key FROM platpat.reconcile('c');
SELECT key FROM platpat.drift('c');
SELECT platpat.wait_ready('c');
SELECT type, status, reason FROM platpat.conditions WHERE controller = 'c' ORDER BY type;
SELECT platpat.alter_controller('c', paused => false);
SELECT key, outcome FROM platpat.reconcile('c');

-- plans of every shape; a plan that waits; a plan that fails
CREATE FUNCTION app.plan_set(text, jsonb, jsonb) RETURNS SETOF text LANGUAGE sql AS $$ VALUES ('one'), ('two') $$;
CREATE FUNCTION app.plan_json(text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '["three"]'::jsonb $$;
CREATE FUNCTION app.plan_none(text, jsonb, jsonb) RETURNS text[] LANGUAGE sql AS $$ SELECT '{}'::text[] $$;
CREATE FUNCTION app.plan_fail(text, jsonb, jsonb) RETURNS text[] LANGUAGE plpgsql AS $$ BEGIN RAISE 'no plan'; END $$;
SELECT platpat.alter_controller('c', desired => 'app.want', plan => 'app.plan_set(text,jsonb,jsonb)');
UPDATE app.want SET spec = '3' WHERE key = 'same';
SELECT key, action, outcome FROM platpat.reconcile('c', true);
SELECT platpat.alter_controller('c', plan => 'app.plan_json(text,jsonb,jsonb)');
SELECT key, action, outcome FROM platpat.reconcile('c', true);
SELECT platpat.alter_controller('c', plan => 'app.plan_none(text,jsonb,jsonb)');
SELECT key, action, outcome FROM platpat.reconcile('c');
SELECT status FROM platpat.controller_status WHERE controller = 'c';
SELECT platpat.alter_controller('c', plan => 'app.plan_fail(text,jsonb,jsonb)');
SELECT key, action, outcome, message FROM platpat.reconcile('c');
SELECT platpat.alter_controller('c', plan => '-');
SELECT key, action, outcome FROM platpat.reconcile('c');

-- a function that reconciles, one that drops its controller
CREATE FUNCTION app.again(key text, desired jsonb, actual jsonb) RETURNS void LANGUAGE sql AS $$ SELECT platpat.reconcile() $$;
SELECT platpat.alter_controller('c', apply => 'app.again(text,jsonb,jsonb)');
UPDATE app.want SET spec = '4' WHERE key = 'same';
SELECT key, outcome, message FROM platpat.reconcile('c');
CREATE FUNCTION app.suicide(key text, desired jsonb, actual jsonb) RETURNS void LANGUAGE sql AS $$ SELECT platpat.drop_controller('c') $$;
SELECT platpat.alter_controller('c', apply => 'app.suicide(text,jsonb,jsonb)');
SELECT key, outcome, message FROM platpat.reconcile('c');
SELECT count(*) FROM platpat.controller_status WHERE controller = 'c';
RESET ROLE;
ROLLBACK;
DROP ROLE regress_owner, regress_other, regress_admin;
