-- breaker: circuit breakers

CREATE FUNCTION platpat.check_breaker() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_check_row';
COMMENT ON FUNCTION platpat.check_breaker() IS 'Trigger: checks the definition of a circuit breaker.';
REVOKE ALL ON FUNCTION platpat.check_breaker() FROM PUBLIC;

-- The key has collation C, because it is read as catalogs are.  The state in
-- shared memory belongs to the id: one that is dropped and made again is new.
CREATE TABLE platpat.breakers (
    breaker text COLLATE "C" PRIMARY KEY,
    failure_threshold int NOT NULL DEFAULT 5,
    timeout interval NOT NULL DEFAULT '60 s',
    failure_window interval,
    failure_rate float8,
    minimum_calls int NOT NULL DEFAULT 10,
    slow_call interval,
    slow_rate float8,
    half_open_calls int NOT NULL DEFAULT 1,
    success_threshold int NOT NULL DEFAULT 1,
    probe_timeout interval NOT NULL DEFAULT '30 s',
    backoff float8 NOT NULL DEFAULT 1,
    max_timeout interval,
    failure_states text[] NOT NULL DEFAULT '{08,53,57,58,HV}',
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE
);
COMMENT ON TABLE platpat.breakers IS 'The circuit breakers, as create_breaker() makes them; you may also edit it.';
COMMENT ON COLUMN platpat.breakers.breaker IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.breakers.failure_threshold IS 'Failures that open it: in a row, or within failure_window if that is set and no rate is.';
COMMENT ON COLUMN platpat.breakers.timeout IS 'How long it stays open.';
COMMENT ON COLUMN platpat.breakers.failure_window IS 'The sliding window that failures and rates are counted in; null to count failures in a row.';
COMMENT ON COLUMN platpat.breakers.failure_rate IS 'The share of failures in the window, above 0 and at most 1, that opens it.';
COMMENT ON COLUMN platpat.breakers.minimum_calls IS 'Calls in the window before a rate counts.';
COMMENT ON COLUMN platpat.breakers.slow_call IS 'The time from which on a call is slow.';
COMMENT ON COLUMN platpat.breakers.slow_rate IS 'The share of slow calls in the window that opens it.';
COMMENT ON COLUMN platpat.breakers.half_open_calls IS 'Probes that may be under way at a time, 1 to 64.';
COMMENT ON COLUMN platpat.breakers.success_threshold IS 'Successful probes that close it.';
COMMENT ON COLUMN platpat.breakers.probe_timeout IS 'How long a probe may take before it counts as failed.';
COMMENT ON COLUMN platpat.breakers.backoff IS 'The factor by which timeout grows each time that it opens without having been closed, 1 to 1000.';
COMMENT ON COLUMN platpat.breakers.max_timeout IS 'What timeout grows to at most; null for 100 years.';
COMMENT ON COLUMN platpat.breakers.failure_states IS 'SQLSTATEs, or classes of two characters, that breaker_call() takes for failures.';
COMMENT ON COLUMN platpat.breakers.id IS 'What its state in shared memory belongs to.';

CREATE TRIGGER check_row BEFORE INSERT OR UPDATE ON platpat.breakers
    FOR EACH ROW EXECUTE FUNCTION platpat.check_breaker();
COMMENT ON TRIGGER check_row ON platpat.breakers IS 'Makes a bad breaker impossible.';
ALTER TABLE platpat.breakers ENABLE ALWAYS TRIGGER check_row;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.breakers
    EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed ON platpat.breakers IS 'Every session reads its breakers anew.';
ALTER TABLE platpat.breakers ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER changed_row AFTER INSERT OR UPDATE OR DELETE ON platpat.breakers
    FOR EACH ROW EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed_row ON platpat.breakers IS 'The same for rows that come by logical replication, which fires no statement triggers.';
ALTER TABLE platpat.breakers ENABLE REPLICA TRIGGER changed_row;
CREATE TRIGGER wake AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.breakers
    EXECUTE FUNCTION platpat.wake_controller('breakers');
COMMENT ON TRIGGER wake ON platpat.breakers IS 'Controller "breakers" looks at what has changed.';
ALTER TABLE platpat.breakers ENABLE ALWAYS TRIGGER wake;
CREATE TRIGGER wake_row AFTER INSERT OR UPDATE OR DELETE ON platpat.breakers
    FOR EACH ROW EXECUTE FUNCTION platpat.wake_controller('breakers');
COMMENT ON TRIGGER wake_row ON platpat.breakers IS 'The same for rows that come by logical replication.';
ALTER TABLE platpat.breakers ENABLE REPLICA TRIGGER wake_row;
SELECT pg_catalog.pg_extension_config_dump('platpat.breakers', '');
GRANT SELECT ON platpat.breakers TO PUBLIC;

CREATE FUNCTION platpat.create_breaker(
    breaker text,
    failure_threshold int DEFAULT 5,
    timeout interval DEFAULT '60 s',
    failure_window interval DEFAULT NULL,
    failure_rate float8 DEFAULT NULL,
    minimum_calls int DEFAULT 10,
    slow_call interval DEFAULT NULL,
    slow_rate float8 DEFAULT NULL,
    half_open_calls int DEFAULT 1,
    success_threshold int DEFAULT 1,
    probe_timeout interval DEFAULT '30 s',
    backoff float8 DEFAULT 1,
    max_timeout interval DEFAULT NULL,
    failure_states text[] DEFAULT '{08,53,57,58,HV}')
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_create';
COMMENT ON FUNCTION platpat.create_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[]) IS
    'Makes a circuit breaker, which begins closed. Errors: 22004, 22023, 42710.';
CREATE FUNCTION platpat.alter_breaker(
    breaker text,
    failure_threshold int DEFAULT NULL,
    timeout interval DEFAULT NULL,
    failure_window interval DEFAULT NULL,
    failure_rate float8 DEFAULT NULL,
    minimum_calls int DEFAULT NULL,
    slow_call interval DEFAULT NULL,
    slow_rate float8 DEFAULT NULL,
    half_open_calls int DEFAULT NULL,
    success_threshold int DEFAULT NULL,
    probe_timeout interval DEFAULT NULL,
    backoff float8 DEFAULT NULL,
    max_timeout interval DEFAULT NULL,
    failure_states text[] DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_alter';
COMMENT ON FUNCTION platpat.alter_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[]) IS
    'Changes a circuit breaker, which keeps its state; null leaves a value as it is. Errors: 22004, 22023, 42704.';
CREATE FUNCTION platpat.drop_breaker(breaker text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_drop';
COMMENT ON FUNCTION platpat.drop_breaker(text) IS 'Drops a circuit breaker. Errors: 22004, 22023, 42704.';

CREATE FUNCTION platpat.allow_call(breaker text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_allow_call';
COMMENT ON FUNCTION platpat.allow_call(text) IS
    'Whether the call that a breaker guards may be made. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.record_success(breaker text, elapsed interval DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_record_success';
COMMENT ON FUNCTION platpat.record_success(text, interval) IS
    'A call that was allowed came back well. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.record_failure(breaker text, error text DEFAULT NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_record_failure';
COMMENT ON FUNCTION platpat.record_failure(text, text) IS
    'A call that was allowed failed. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.breaker_state(breaker text) RETURNS text
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_get_state';
COMMENT ON FUNCTION platpat.breaker_state(text) IS
    'closed, open, half_open or disabled. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.breaker_retry_after(breaker text) RETURNS interval
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_get_retry_after';
COMMENT ON FUNCTION platpat.breaker_retry_after(text) IS
    'The time until a call may pass; null if it is not up to time. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.force_breaker(breaker text, state text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_set_force';
COMMENT ON FUNCTION platpat.force_breaker(text, text) IS
    'Holds a breaker open, closed or disabled, until auto. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.breaker_call(breaker text, command text, VARIADIC args text[] DEFAULT '{}') RETURNS SETOF jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_call';
COMMENT ON FUNCTION platpat.breaker_call(text, text, text[]) IS
    'Runs a statement through a breaker and returns its rows. Errors: those of the statement, 0A000, 22004, 22023, 42704, 42P02, 54000, 55000.';
CREATE FUNCTION platpat.breaker_stats(
    OUT breaker text, OUT state text, OUT forced boolean, OUT since timestamptz, OUT time_in_state interval,
    OUT retry_after interval, OUT failures_in_row int, OUT probes int, OUT failure_rate float8, OUT slow_rate float8,
    OUT allowed bigint, OUT rejected bigint, OUT rejection_rate float8, OUT passed bigint, OUT failed bigint,
    OUT slow bigint, OUT ignored bigint, OUT transitions bigint, OUT openings bigint, OUT last_recovery interval,
    OUT longest_recovery interval, OUT last_failure timestamptz, OUT last_error text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_stats';
COMMENT ON FUNCTION platpat.breaker_stats() IS 'The circuit breakers of this database, for the view. Errors: 55000.';
CREATE FUNCTION platpat.breaker_orphans(OUT key text, OUT spec jsonb) RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_breaker_orphans';
COMMENT ON FUNCTION platpat.breaker_orphans() IS
    'What shared memory has of circuit breakers that are gone, for the view.';
CREATE FUNCTION platpat.apply_breaker(key text, desired jsonb, actual jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_breaker_apply';
COMMENT ON FUNCTION platpat.apply_breaker(text, jsonb, jsonb) IS
    'Forgets the state of a circuit breaker that is gone, for the controller. Errors: 22004, 22P02.';

REVOKE ALL ON FUNCTION
    platpat.create_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[]),
    platpat.alter_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[]),
    platpat.drop_breaker(text),
    platpat.force_breaker(text, text),
    platpat.breaker_stats(),
    platpat.breaker_orphans(),
    platpat.apply_breaker(text, jsonb, jsonb)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    platpat.allow_call(text),
    platpat.record_success(text, interval),
    platpat.record_failure(text, text),
    platpat.breaker_state(text),
    platpat.breaker_retry_after(text),
    platpat.breaker_call(text, text, text[])
    TO PUBLIC;
GRANT EXECUTE ON FUNCTION platpat.breaker_stats(), platpat.breaker_orphans() TO pg_monitor;

CREATE VIEW platpat.stat_breakers AS SELECT * FROM platpat.breaker_stats();
COMMENT ON VIEW platpat.stat_breakers IS 'The circuit breakers of this database. Errors: 55000.';
COMMENT ON COLUMN platpat.stat_breakers.breaker IS 'The breaker.';
COMMENT ON COLUMN platpat.stat_breakers.state IS 'closed, open, half_open or disabled.';
COMMENT ON COLUMN platpat.stat_breakers.forced IS 'Whether force_breaker() holds it there.';
COMMENT ON COLUMN platpat.stat_breakers.since IS 'When it came into this state; null if it was never used.';
COMMENT ON COLUMN platpat.stat_breakers.time_in_state IS 'How long ago that was.';
COMMENT ON COLUMN platpat.stat_breakers.retry_after IS 'The time until a call may pass; null if it is not up to time.';
COMMENT ON COLUMN platpat.stat_breakers.failures_in_row IS 'Failures in a row, while it is closed.';
COMMENT ON COLUMN platpat.stat_breakers.probes IS 'Probes under way, while it is half-open.';
COMMENT ON COLUMN platpat.stat_breakers.failure_rate IS 'Failures of all calls, of the window if it has one.';
COMMENT ON COLUMN platpat.stat_breakers.slow_rate IS 'Slow calls of all calls, likewise.';
COMMENT ON COLUMN platpat.stat_breakers.allowed IS 'Calls that were let through, since its first use or the last reset_stats().';
COMMENT ON COLUMN platpat.stat_breakers.rejected IS 'Calls that were not.';
COMMENT ON COLUMN platpat.stat_breakers.rejection_rate IS 'The share of these in all calls asked for.';
COMMENT ON COLUMN platpat.stat_breakers.passed IS 'Outcomes that were successes.';
COMMENT ON COLUMN platpat.stat_breakers.failed IS 'Outcomes that were failures.';
COMMENT ON COLUMN platpat.stat_breakers.slow IS 'Outcomes that were slow.';
COMMENT ON COLUMN platpat.stat_breakers.ignored IS 'Outcomes that came too late, or that nobody waited for.';
COMMENT ON COLUMN platpat.stat_breakers.transitions IS 'Changes of its state.';
COMMENT ON COLUMN platpat.stat_breakers.openings IS 'How often it opened.';
COMMENT ON COLUMN platpat.stat_breakers.last_recovery IS 'How long the last outage took, from open to closed.';
COMMENT ON COLUMN platpat.stat_breakers.longest_recovery IS 'How long the longest took.';
COMMENT ON COLUMN platpat.stat_breakers.last_failure IS 'When the last failure was recorded.';
COMMENT ON COLUMN platpat.stat_breakers.last_error IS 'What it failed with, the first 255 bytes.';
GRANT SELECT ON platpat.stat_breakers TO pg_monitor;

CREATE VIEW platpat.desired_breakers AS
    SELECT b.breaker AS key, pg_catalog.to_jsonb(b) - 'breaker' AS spec FROM platpat.breakers b;
COMMENT ON VIEW platpat.desired_breakers IS 'What controller "breakers" wants to be: the definitions.';
COMMENT ON COLUMN platpat.desired_breakers.key IS 'The breaker.';
COMMENT ON COLUMN platpat.desired_breakers.spec IS 'Its definition.';
CREATE VIEW platpat.actual_breakers AS
    SELECT d.key, d.spec FROM platpat.desired_breakers d
    UNION ALL
    SELECT o.key COLLATE "C", o.spec FROM platpat.breaker_orphans() o;
COMMENT ON VIEW platpat.actual_breakers IS 'What is: the definitions, which every session goes by, and what shared memory has of breakers that are gone.';
COMMENT ON COLUMN platpat.actual_breakers.key IS 'The breaker, or the id of one that is gone.';
COMMENT ON COLUMN platpat.actual_breakers.spec IS 'Its definition, or the id.';
GRANT SELECT ON platpat.desired_breakers, platpat.actual_breakers TO pg_monitor;
INSERT INTO platpat.controllers (controller, desired, actual, apply, mode, period, prune, builtin)
    VALUES ('breakers', 'platpat.desired_breakers', 'platpat.actual_breakers',
            'platpat.apply_breaker(pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb)', 'enforce', '5 min', true, true);
INSERT INTO platpat.controller_states (controller) VALUES ('breakers');
