-- controller: desired state, and functions that bring it about

CREATE TABLE platpat.controllers (
    controller text COLLATE "C" PRIMARY KEY,
    desired text NOT NULL,
    actual text NOT NULL,
    apply text NOT NULL,
    plan text,
    mode text NOT NULL DEFAULT 'enforce' CHECK (mode IN ('enforce', 'observe')),
    period interval NOT NULL DEFAULT '30 s',
    prune boolean NOT NULL DEFAULT false,
    paused boolean NOT NULL DEFAULT false,
    generation bigint NOT NULL DEFAULT 1,
    builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE platpat.controllers IS 'The controllers; create_controller(), alter_controller() and drop_controller() write it.';
COMMENT ON COLUMN platpat.controllers.controller IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.controllers.desired IS 'The relation (key text, spec jsonb) of what shall be.';
COMMENT ON COLUMN platpat.controllers.actual IS 'The relation (key text, spec jsonb) of what is.';
COMMENT ON COLUMN platpat.controllers.apply IS 'The function that is called with a key and both states to bring them together.';
COMMENT ON COLUMN platpat.controllers.plan IS 'The function that names the actions which that takes; null for none.';
COMMENT ON COLUMN platpat.controllers.mode IS 'enforce repairs, observe only reports.';
COMMENT ON COLUMN platpat.controllers.period IS 'How often the states are compared when nobody asks for it.';
COMMENT ON COLUMN platpat.controllers.prune IS 'Whether what is and shall not be is deleted; otherwise it is nobody''s business.';
COMMENT ON COLUMN platpat.controllers.paused IS 'Whether it rests.';
COMMENT ON COLUMN platpat.controllers.generation IS 'Counts the changes of the definition.';
COMMENT ON COLUMN platpat.controllers.builtin IS 'Whether it came with platpat.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.controllers
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.controllers IS 'Only the functions of platpat write.';
CREATE TRIGGER merge_row BEFORE INSERT ON platpat.controllers
    FOR EACH ROW EXECUTE FUNCTION platpat.merge_row('controller', 'protections', 'foreign_policies', 'event_partitions', 'breakers', 'bulkheads');
COMMENT ON TRIGGER merge_row ON platpat.controllers IS 'A restore updates the controllers that came with platpat.';
SELECT pg_catalog.pg_extension_config_dump('platpat.controllers', '');

-- Not dumped: a controller that comes with a restore rests until somebody says
-- that it shall act here, too.
CREATE TABLE platpat.controller_states (
    controller text COLLATE "C" PRIMARY KEY,
    observed_generation bigint NOT NULL DEFAULT 0,
    started_at timestamptz,
    last_reconciled timestamptz,
    next_reconcile timestamptz DEFAULT pg_catalog.clock_timestamp(),
    keys bigint NOT NULL DEFAULT 0,
    drift bigint NOT NULL DEFAULT 0,
    failing bigint NOT NULL DEFAULT 0,
    contested bigint NOT NULL DEFAULT 0,
    found bigint NOT NULL DEFAULT 0,
    repaired bigint NOT NULL DEFAULT 0,
    failures int NOT NULL DEFAULT 0,
    sqlstate text,
    error text,
    failed_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE platpat.controller_states IS 'What the last pass of each controller has found.';
COMMENT ON COLUMN platpat.controller_states.controller IS 'The controller.';
COMMENT ON COLUMN platpat.controller_states.observed_generation IS 'The generation of its definition then.';
COMMENT ON COLUMN platpat.controller_states.started_at IS 'When the last pass that came to its end began.';
COMMENT ON COLUMN platpat.controller_states.last_reconciled IS 'When it came there.';
COMMENT ON COLUMN platpat.controller_states.next_reconcile IS 'When the next one is due; null when there is nothing to look after.';
COMMENT ON COLUMN platpat.controller_states.keys IS 'Keys that are desired.';
COMMENT ON COLUMN platpat.controller_states.drift IS 'Keys that differed at its end.';
COMMENT ON COLUMN platpat.controller_states.failing IS 'Those of them that could not be repaired.';
COMMENT ON COLUMN platpat.controller_states.contested IS 'Keys that differ again and again.';
COMMENT ON COLUMN platpat.controller_states.found IS 'Differences that were found, ever.';
COMMENT ON COLUMN platpat.controller_states.repaired IS 'Differences that were repaired, ever.';
COMMENT ON COLUMN platpat.controller_states.failures IS 'Passes in a row that could not compare.';
COMMENT ON COLUMN platpat.controller_states.sqlstate IS 'SQLSTATE of the error that kept them from it.';
COMMENT ON COLUMN platpat.controller_states.error IS 'Its message.';
COMMENT ON COLUMN platpat.controller_states.failed_at IS 'When that was.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.controller_states
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.controller_states IS 'Only the functions of platpat write.';

-- Of keys that differ, and for an hour of those that were repaired.
CREATE TABLE platpat.controller_keys (
    controller text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('create', 'update', 'delete')),
    drifts boolean NOT NULL,
    since timestamptz NOT NULL,
    difference bigint NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    next_attempt timestamptz,
    actions jsonb NOT NULL DEFAULT '[]',
    sqlstate text,
    error text,
    repairs timestamptz[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (controller, key)
) WITH (fillfactor = 50);
COMMENT ON TABLE platpat.controller_keys IS 'Keys that differ, and keys that were repaired within the last hour.';
COMMENT ON COLUMN platpat.controller_keys.controller IS 'The controller.';
COMMENT ON COLUMN platpat.controller_keys.key IS 'The key.';
COMMENT ON COLUMN platpat.controller_keys.kind IS 'create: only desired; delete: only actual; update: different.';
COMMENT ON COLUMN platpat.controller_keys.drifts IS 'Whether it differed at the end of the last pass.';
COMMENT ON COLUMN platpat.controller_keys.since IS 'Since when it has, or had.';
COMMENT ON COLUMN platpat.controller_keys.difference IS 'Hash of the two states, to recognise them.';
COMMENT ON COLUMN platpat.controller_keys.attempts IS 'Attempts in a row that did not bring them together.';
COMMENT ON COLUMN platpat.controller_keys.next_attempt IS 'When it is tried again.';
COMMENT ON COLUMN platpat.controller_keys.actions IS 'The actions of the last attempt, each with its outcome.';
COMMENT ON COLUMN platpat.controller_keys.sqlstate IS 'SQLSTATE of the error of the last attempt.';
COMMENT ON COLUMN platpat.controller_keys.error IS 'Its message.';
COMMENT ON COLUMN platpat.controller_keys.repairs IS 'When it was repaired within the last hour.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.controller_keys
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.controller_keys IS 'Only the functions of platpat write.';

CREATE TABLE platpat.conditions (
    controller text COLLATE "C" NOT NULL,
    type text NOT NULL,
    status text NOT NULL CHECK (status IN ('True', 'False', 'Unknown')),
    reason text NOT NULL,
    message text,
    last_transition_time timestamptz NOT NULL,
    observed_generation bigint NOT NULL,
    PRIMARY KEY (controller, type)
) WITH (fillfactor = 50);
COMMENT ON TABLE platpat.conditions IS 'What is true of each controller, and since when.';
COMMENT ON COLUMN platpat.conditions.controller IS 'The controller.';
COMMENT ON COLUMN platpat.conditions.type IS 'Ready, Reconciling, Failed, Paused or Contested.';
COMMENT ON COLUMN platpat.conditions.status IS 'True, False, or Unknown before the first pass.';
COMMENT ON COLUMN platpat.conditions.reason IS 'Why, in a word.';
COMMENT ON COLUMN platpat.conditions.message IS 'Why, for people.';
COMMENT ON COLUMN platpat.conditions.last_transition_time IS 'When the status has become what it is.';
COMMENT ON COLUMN platpat.conditions.observed_generation IS 'The generation of the definition that it was found of.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.conditions
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.conditions IS 'Only the functions of platpat write.';

CREATE VIEW platpat.controller_status AS
    SELECT c.controller,
           CASE WHEN c.paused OR s.controller IS NULL THEN 'Paused'
                WHEN s.failures > 0 OR s.failing > 0 THEN 'Failed'
                WHEN s.observed_generation OPERATOR(pg_catalog.=) c.generation AND s.drift = 0 THEN 'Ready'
                ELSE 'Reconciling' END AS status,
           c.mode, coalesce(s.keys, 0) AS keys, coalesce(s.drift, 0) AS drift, coalesce(s.failing, 0) AS failing,
           coalesce(s.contested, 0) AS contested, s.last_reconciled,
           CASE WHEN NOT c.paused THEN s.next_reconcile END AS next_reconcile,
           c.generation, coalesce(s.observed_generation, 0) AS observed_generation,
           coalesce(s.sqlstate, k.sqlstate) AS sqlstate,
           coalesce(s.error, k.key OPERATOR(pg_catalog.||) ': ' OPERATOR(pg_catalog.||) k.error) AS error,
           coalesce(s.found, 0) AS found, coalesce(s.repaired, 0) AS repaired
      FROM platpat.controllers c
      LEFT JOIN platpat.controller_states s USING (controller)
      LEFT JOIN LATERAL (
           SELECT k.key, k.sqlstate, k.error FROM platpat.controller_keys k
            WHERE k.controller = c.controller AND k.drifts AND k.error IS NOT NULL AND s.failing > 0 AND s.error IS NULL
            ORDER BY k.key LIMIT 1) k ON true;
COMMENT ON VIEW platpat.controller_status IS 'The controllers of this database, and how they do.';
COMMENT ON COLUMN platpat.controller_status.controller IS 'The controller.';
COMMENT ON COLUMN platpat.controller_status.status IS 'Ready: what is, is as it shall be. Reconciling: not yet. Failed: it could not be made so; see error. Paused: it rests.';
COMMENT ON COLUMN platpat.controller_status.mode IS 'enforce or observe.';
COMMENT ON COLUMN platpat.controller_status.keys IS 'Keys that are desired.';
COMMENT ON COLUMN platpat.controller_status.drift IS 'Keys that differed at the end of the last pass.';
COMMENT ON COLUMN platpat.controller_status.failing IS 'Those of them whose repair has failed.';
COMMENT ON COLUMN platpat.controller_status.contested IS 'Keys that were repaired more than five times within an hour.';
COMMENT ON COLUMN platpat.controller_status.last_reconciled IS 'When the last pass came to its end.';
COMMENT ON COLUMN platpat.controller_status.next_reconcile IS 'When the next one is due, if nobody asks before.';
COMMENT ON COLUMN platpat.controller_status.generation IS 'Counts the changes of the definition.';
COMMENT ON COLUMN platpat.controller_status.observed_generation IS 'The generation that the last pass has seen.';
COMMENT ON COLUMN platpat.controller_status.sqlstate IS 'SQLSTATE of the error.';
COMMENT ON COLUMN platpat.controller_status.error IS 'What keeps it from being Ready, of the first key that has an error.';
COMMENT ON COLUMN platpat.controller_status.found IS 'Differences that were found, ever.';
COMMENT ON COLUMN platpat.controller_status.repaired IS 'Differences that were repaired, ever.';
GRANT SELECT ON platpat.controller_status, platpat.conditions TO pg_monitor;

CREATE FUNCTION platpat.create_controller(
    controller text,
    desired regclass,
    actual regclass,
    apply regprocedure,
    plan regprocedure DEFAULT NULL,
    mode text DEFAULT 'enforce',
    period interval DEFAULT '30 s',
    prune boolean DEFAULT false)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_create';
COMMENT ON FUNCTION platpat.create_controller(text, regclass, regclass, regprocedure, regprocedure, text, interval, boolean) IS
    'Has the actual state follow the desired one: apply(key, desired, actual) is called, with the rights of its owner, for each key that differs. Errors: 22004, 22023, 42501, 42703, 42710.';
CREATE FUNCTION platpat.alter_controller(
    controller text,
    paused boolean DEFAULT NULL,
    mode text DEFAULT NULL,
    period interval DEFAULT NULL,
    prune boolean DEFAULT NULL,
    desired regclass DEFAULT NULL,
    actual regclass DEFAULT NULL,
    apply regprocedure DEFAULT NULL,
    plan regprocedure DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_alter';
COMMENT ON FUNCTION platpat.alter_controller(text, boolean, text, interval, boolean, regclass, regclass, regprocedure, regprocedure) IS
    'Changes a controller; null leaves a value as it is, plan ''-'' takes the plan away. Errors: 22004, 22023, 42501, 42703, 42704, 55000.';
CREATE FUNCTION platpat.drop_controller(controller text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_drop';
COMMENT ON FUNCTION platpat.drop_controller(text) IS
    'Drops a controller; what it has brought about stays. Errors: 22004, 42704, 55000.';
CREATE FUNCTION platpat.drift(
    INOUT controller text DEFAULT NULL,
    OUT key text, OUT action text, OUT desired jsonb, OUT actual jsonb)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_drift';
COMMENT ON FUNCTION platpat.drift(text) IS
    'What differs now, of one controller or of all; changes nothing. Errors: 42704; what cannot be compared is a WARNING.';
CREATE FUNCTION platpat.reconcile(
    INOUT controller text DEFAULT NULL,
    dry_run boolean DEFAULT false,
    OUT key text, OUT action text, OUT desired jsonb, OUT actual jsonb,
    OUT outcome text, OUT message text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_reconcile';
COMMENT ON FUNCTION platpat.reconcile(text, boolean) IS
    'Repairs what differs now, of one controller or of all, in this transaction; one row per action. Errors: 22004, 42704, 55000; what fails is in the rows.';
CREATE FUNCTION platpat.wait_ready(controller text, timeout interval DEFAULT '10 s') RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_wait_ready';
COMMENT ON FUNCTION platpat.wait_ready(text, interval) IS
    'Waits until a pass of the background worker, begun after the call, finds the controller Ready; false when the time is over. Errors: 22004, 22023, 42704, 55000.';
CREATE FUNCTION platpat.wake_controller(controller text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_wake';
COMMENT ON FUNCTION platpat.wake_controller(text) IS
    'Has the background worker reconcile at once when this transaction commits. Errors: 22004, 42704.';
CREATE FUNCTION platpat.wake_controller() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_controller_wake_trigger';
COMMENT ON FUNCTION platpat.wake_controller() IS
    'Trigger: a change of the table wakes the controllers that its arguments name.';

REVOKE ALL ON FUNCTION
    platpat.create_controller(text, regclass, regclass, regprocedure, regprocedure, text, interval, boolean),
    platpat.alter_controller(text, boolean, text, interval, boolean, regclass, regclass, regprocedure, regprocedure),
    platpat.drop_controller(text),
    platpat.drift(text),
    platpat.reconcile(text, boolean),
    platpat.wait_ready(text, interval),
    platpat.wake_controller(text),
    platpat.wake_controller()
    FROM PUBLIC;
