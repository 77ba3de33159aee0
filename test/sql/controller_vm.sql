-- The virtual machines of the catalogue of patterns: start, stop and resize.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- All in one transaction, so that the worker sees nothing of it.
BEGIN;
CREATE SCHEMA cloud;

-- what shall be, and what is
CREATE TABLE cloud.wanted (key text PRIMARY KEY, spec jsonb NOT NULL);
CREATE TABLE cloud.machines (id text PRIMARY KEY, state text NOT NULL, instance_type text NOT NULL);
CREATE VIEW cloud.found AS
    SELECT id AS key, jsonb_build_object('state', state, 'instance_type', instance_type) AS spec FROM cloud.machines;

-- what a difference takes
CREATE FUNCTION cloud.plan(key text, desired jsonb, actual jsonb) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    IF actual IS NULL THEN
        RETURN '{create}';
    ELSIF desired IS NULL THEN
        RETURN '{stop,delete}';
    END IF;
    RETURN array_remove(ARRAY[
        CASE WHEN desired->>'state' = 'running' AND actual->>'state' = 'stopped' THEN 'start' END,
        CASE WHEN desired->>'state' = 'stopped' AND actual->>'state' = 'running' THEN 'stop' END,
        CASE WHEN desired->>'instance_type' <> actual->>'instance_type' THEN 'resize' END], NULL);
END $$;

-- and how each of that is done; there is no machine of type huge
CREATE FUNCTION cloud.apply(key text, desired jsonb, actual jsonb, action text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE action
    WHEN 'create' THEN
        INSERT INTO machines VALUES (key, desired->>'state', desired->>'instance_type');
    WHEN 'start' THEN
        UPDATE machines SET state = 'running' WHERE id = key;
    WHEN 'stop' THEN
        UPDATE machines SET state = 'stopped' WHERE id = key;
    WHEN 'delete' THEN
        DELETE FROM machines WHERE id = key;
    WHEN 'resize' THEN
        IF desired->>'instance_type' = 'huge' THEN
            RAISE EXCEPTION 'there is no type %', desired->>'instance_type';
        END IF;
        UPDATE machines SET instance_type = desired->>'instance_type' WHERE id = key;
    END CASE;
END $$;

SELECT platpat.create_controller('machines', 'cloud.wanted', 'cloud.found',
    'cloud.apply(text,jsonb,jsonb,text)', plan => 'cloud.plan(text,jsonb,jsonb)');
SELECT status, drift, last_reconciled, error FROM platpat.controller_status WHERE controller = 'machines';

INSERT INTO cloud.wanted VALUES
    ('a', '{"state": "running", "instance_type": "small"}'),
    ('b', '{"state": "stopped", "instance_type": "small"}'),
    ('c', '{"state": "running", "instance_type": "large"}'),
    ('d', '{"state": "running", "instance_type": "small"}');
INSERT INTO cloud.machines VALUES
    ('a', 'stopped', 'small'), ('b', 'running', 'small'), ('c', 'stopped', 'small'), ('z', 'running', 'small');

-- what differs, and what would be done about it, which changes nothing
SELECT * FROM platpat.drift('machines');
SELECT key, action, outcome FROM platpat.reconcile('machines', dry_run => true);
TABLE cloud.machines;

-- start, stop, resize, and one that is missing; z is nobody's business
SELECT key, action, outcome, message FROM platpat.reconcile('machines');
TABLE cloud.machines ORDER BY id;
SELECT status, keys, drift, failing, repaired, last_reconciled IS NOT NULL AS reconciled, error
  FROM platpat.controller_status WHERE controller = 'machines';
SELECT * FROM platpat.reconcile('machines');

-- an action that fails: what came before it stays, what comes after is left out
UPDATE cloud.wanted SET spec = '{"state": "stopped", "instance_type": "huge"}' WHERE key = 'a';
UPDATE cloud.wanted SET spec = '{"state": "running", "instance_type": "small"}' WHERE key = 'b';
SELECT key, action, outcome, message FROM platpat.reconcile('machines');
TABLE cloud.machines ORDER BY id;
SELECT status, drift, failing, sqlstate, error FROM platpat.controller_status WHERE controller = 'machines';
SELECT key, attempts, next_attempt > now() AS waits, actions FROM platpat.controller_keys WHERE controller = 'machines' AND drifts;
SELECT type, status, reason, message FROM platpat.conditions WHERE controller = 'machines' ORDER BY type;

-- corrected
UPDATE cloud.wanted SET spec = '{"state": "stopped", "instance_type": "large"}' WHERE key = 'a';
SELECT key, action, outcome, message FROM platpat.reconcile('machines');
SELECT status, drift, failing, error FROM platpat.controller_status WHERE controller = 'machines';
SELECT type, status, reason, message FROM platpat.conditions WHERE controller = 'machines' ORDER BY type;

-- with prune, what is and shall not be goes
SELECT platpat.alter_controller('machines', prune => true);
SELECT generation, observed_generation, status FROM platpat.controller_status WHERE controller = 'machines';
DELETE FROM cloud.wanted WHERE key = 'd';
SELECT key, action, desired FROM platpat.drift('machines');
SELECT key, action, outcome FROM platpat.reconcile('machines');
TABLE cloud.machines ORDER BY id;
SELECT generation, observed_generation, status FROM platpat.controller_status WHERE controller = 'machines';

SELECT platpat.drop_controller('machines');
SELECT count(*) FROM platpat.conditions WHERE controller = 'machines';
DROP SCHEMA cloud CASCADE;
COMMIT;
