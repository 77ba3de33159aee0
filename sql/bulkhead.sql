-- bulkhead: bounded concurrency

CREATE FUNCTION platpat.check_bulkhead() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_check_row';
COMMENT ON FUNCTION platpat.check_bulkhead() IS 'Trigger: checks the definition of a bulkhead.';
CREATE FUNCTION platpat.bulkheads_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_changed';
COMMENT ON FUNCTION platpat.bulkheads_changed() IS 'Trigger: sessions read their bulkheads anew, also those that wait.';
REVOKE ALL ON FUNCTION platpat.check_bulkhead(), platpat.bulkheads_changed() FROM PUBLIC;

-- As for platpat.breakers: collation C, and a state that belongs to the id.
CREATE TABLE platpat.bulkheads (
    bulkhead text COLLATE "C" PRIMARY KEY,
    size int NOT NULL,
    queue int NOT NULL DEFAULT 0,
    reserved jsonb,
    scope text NOT NULL DEFAULT 'transaction',
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE
);
COMMENT ON TABLE platpat.bulkheads IS 'The bulkheads, as create_bulkhead() makes them; you may also edit it.';
COMMENT ON COLUMN platpat.bulkheads.bulkhead IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.bulkheads.size IS 'Slots: how many sessions at a time.';
COMMENT ON COLUMN platpat.bulkheads.queue IS 'How many more may wait.';
COMMENT ON COLUMN platpat.bulkheads.reserved IS 'Slots that only a class may use, as {"critical": 2}.';
COMMENT ON COLUMN platpat.bulkheads.scope IS 'transaction or session: what a slot ends with.';
COMMENT ON COLUMN platpat.bulkheads.id IS 'What its state in shared memory belongs to.';

CREATE TRIGGER check_row BEFORE INSERT OR UPDATE ON platpat.bulkheads
    FOR EACH ROW EXECUTE FUNCTION platpat.check_bulkhead();
COMMENT ON TRIGGER check_row ON platpat.bulkheads IS 'Makes a bad bulkhead impossible.';
ALTER TABLE platpat.bulkheads ENABLE ALWAYS TRIGGER check_row;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.bulkheads
    EXECUTE FUNCTION platpat.bulkheads_changed();
COMMENT ON TRIGGER changed ON platpat.bulkheads IS 'Every session reads its bulkheads anew.';
ALTER TABLE platpat.bulkheads ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER changed_row AFTER INSERT OR UPDATE OR DELETE ON platpat.bulkheads
    FOR EACH ROW EXECUTE FUNCTION platpat.bulkheads_changed();
COMMENT ON TRIGGER changed_row ON platpat.bulkheads IS 'The same for rows that come by logical replication, which fires no statement triggers.';
ALTER TABLE platpat.bulkheads ENABLE REPLICA TRIGGER changed_row;
SELECT pg_catalog.pg_extension_config_dump('platpat.bulkheads', '');
GRANT SELECT ON platpat.bulkheads TO PUBLIC;

CREATE FUNCTION platpat.create_bulkhead(
    bulkhead text,
    size int,
    queue int DEFAULT 0,
    reserved jsonb DEFAULT NULL,
    scope text DEFAULT 'transaction')
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_create';
COMMENT ON FUNCTION platpat.create_bulkhead(text, int, int, jsonb, text) IS
    'Makes a bulkhead. Errors: 22004, 22023, 42710.';
CREATE FUNCTION platpat.alter_bulkhead(
    bulkhead text,
    size int DEFAULT NULL,
    queue int DEFAULT NULL,
    reserved jsonb DEFAULT NULL,
    scope text DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_alter';
COMMENT ON FUNCTION platpat.alter_bulkhead(text, int, int, jsonb, text) IS
    'Changes a bulkhead; null leaves a value as it is. Errors: 22004, 22023, 42704.';
CREATE FUNCTION platpat.drop_bulkhead(bulkhead text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_drop';
COMMENT ON FUNCTION platpat.drop_bulkhead(text) IS 'Drops a bulkhead. Errors: 22004, 22023, 42704.';

CREATE FUNCTION platpat.acquire_slot(bulkhead text, timeout interval DEFAULT '5 s', class text DEFAULT 'standard') RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_acquire';
COMMENT ON FUNCTION platpat.acquire_slot(text, interval, text) IS
    'Takes a slot, waiting for it if need be, or raises. Errors: 22004, 22023, 42704, 54000, 55000, 55P03, 57014.';
CREATE FUNCTION platpat.try_acquire_slot(bulkhead text, class text DEFAULT 'standard') RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_try_acquire';
COMMENT ON FUNCTION platpat.try_acquire_slot(text, text) IS
    'Takes a slot if there is one now. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.release_slot(bulkhead text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_release';
COMMENT ON FUNCTION platpat.release_slot(text) IS
    'Gives back what the session took last; false if it has none. Errors: 22004, 22023, 42704, 54000, 55000.';
CREATE FUNCTION platpat.bulkhead_call(
    bulkhead text,
    command text,
    timeout interval DEFAULT '5 s',
    class text DEFAULT 'standard',
    VARIADIC args text[] DEFAULT '{}')
    RETURNS SETOF jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_call';
COMMENT ON FUNCTION platpat.bulkhead_call(text, text, interval, text, text[]) IS
    'Runs a statement with a slot and returns its rows. Errors: those of the statement, 0A000, 22004, 22023, 42704, 42P02, 54000, 55000, 55P03, 57014.';
CREATE FUNCTION platpat.bulkhead_stats(
    OUT bulkhead text, OUT size int, OUT in_use int, OUT waiting int, OUT high_water int,
    OUT acquired bigint, OUT rejected bigint, OUT timed_out bigint,
    OUT wait_p50 interval, OUT wait_p95 interval, OUT wait_p99 interval, OUT queue int)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_stats';
COMMENT ON FUNCTION platpat.bulkhead_stats() IS 'The bulkheads of this database, for the view. Errors: 55000.';
CREATE FUNCTION platpat.bulkhead_places(
    OUT bulkhead text, OUT pid int, OUT tenant text, OUT since timestamptz, OUT waiting boolean, OUT class text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_list_places';
COMMENT ON FUNCTION platpat.bulkhead_places() IS 'Who has or waits for slots in this database, for the view. Errors: 55000.';

CREATE FUNCTION platpat.bulkhead_rules(installed boolean, OUT key text, OUT spec jsonb) RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_rules';
COMMENT ON FUNCTION platpat.bulkhead_rules(boolean) IS
    'The rules of the bulkheads of this database, as the table or as shared memory has them, for the views. Errors: 22004.';
CREATE FUNCTION platpat.bulkhead_orphans(OUT key text, OUT spec jsonb) RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_bulkhead_orphans';
COMMENT ON FUNCTION platpat.bulkhead_orphans() IS
    'What shared memory has of bulkheads that are gone and that nobody has a slot of, for the view.';
CREATE FUNCTION platpat.apply_bulkhead(key text, desired jsonb, actual jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_bulkhead_apply';
COMMENT ON FUNCTION platpat.apply_bulkhead(text, jsonb, jsonb) IS
    'Has a bulkhead go by its definition, or forgets one that is gone, for the controller. Errors: 22004, 22P02, 42704, 55000.';

REVOKE ALL ON FUNCTION
    platpat.create_bulkhead(text, int, int, jsonb, text),
    platpat.alter_bulkhead(text, int, int, jsonb, text),
    platpat.drop_bulkhead(text),
    platpat.bulkhead_stats(),
    platpat.bulkhead_places(),
    platpat.bulkhead_rules(boolean),
    platpat.bulkhead_orphans(),
    platpat.apply_bulkhead(text, jsonb, jsonb)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    platpat.acquire_slot(text, interval, text),
    platpat.try_acquire_slot(text, text),
    platpat.release_slot(text),
    platpat.bulkhead_call(text, text, interval, text, text[])
    TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    platpat.bulkhead_stats(),
    platpat.bulkhead_places(),
    platpat.bulkhead_rules(boolean),
    platpat.bulkhead_orphans()
    TO pg_monitor;

CREATE VIEW platpat.stat_bulkheads AS SELECT * FROM platpat.bulkhead_stats();
COMMENT ON VIEW platpat.stat_bulkheads IS 'The bulkheads of this database. Errors: 55000.';
COMMENT ON COLUMN platpat.stat_bulkheads.bulkhead IS 'The bulkhead.';
COMMENT ON COLUMN platpat.stat_bulkheads.size IS 'Its slots.';
COMMENT ON COLUMN platpat.stat_bulkheads.in_use IS 'Slots in use; more than the size while it is drained.';
COMMENT ON COLUMN platpat.stat_bulkheads.waiting IS 'Sessions that wait.';
COMMENT ON COLUMN platpat.stat_bulkheads.high_water IS 'Most slots that were in use, since its first use or the last reset_stats().';
COMMENT ON COLUMN platpat.stat_bulkheads.acquired IS 'Slots that were taken; once more by the same session does not count.';
COMMENT ON COLUMN platpat.stat_bulkheads.rejected IS 'Requests refused at once.';
COMMENT ON COLUMN platpat.stat_bulkheads.timed_out IS 'Requests that waited in vain.';
COMMENT ON COLUMN platpat.stat_bulkheads.wait_p50 IS 'The wait that half of those who got a slot did not exceed, rounded up by at most a quarter; 0 for those who did not wait.';
COMMENT ON COLUMN platpat.stat_bulkheads.wait_p95 IS 'The same for 95 of 100.';
COMMENT ON COLUMN platpat.stat_bulkheads.wait_p99 IS 'The same for 99 of 100.';
COMMENT ON COLUMN platpat.stat_bulkheads.queue IS 'How many may wait.';
CREATE VIEW platpat.bulkhead_holders AS SELECT * FROM platpat.bulkhead_places();
COMMENT ON VIEW platpat.bulkhead_holders IS 'Who has slots in this database, and who waits for one. Errors: 55000.';
COMMENT ON COLUMN platpat.bulkhead_holders.bulkhead IS 'The bulkhead.';
COMMENT ON COLUMN platpat.bulkhead_holders.pid IS 'The process, as in pg_stat_activity.';
COMMENT ON COLUMN platpat.bulkhead_holders.tenant IS 'The tenant that was set when it asked; null for none.';
COMMENT ON COLUMN platpat.bulkhead_holders.since IS 'When it got the slot, or began to wait.';
COMMENT ON COLUMN platpat.bulkhead_holders.waiting IS 'Whether it waits.';
COMMENT ON COLUMN platpat.bulkhead_holders.class IS 'critical, standard or batch.';
GRANT SELECT ON platpat.stat_bulkheads, platpat.bulkhead_holders TO pg_monitor;

CREATE VIEW platpat.desired_bulkheads AS
    SELECT r.key COLLATE "C" AS key, r.spec FROM platpat.bulkhead_rules(installed => false) r;
COMMENT ON VIEW platpat.desired_bulkheads IS 'What controller "bulkheads" wants to be: the rules that the definitions state.';
COMMENT ON COLUMN platpat.desired_bulkheads.key IS 'The bulkhead.';
COMMENT ON COLUMN platpat.desired_bulkheads.spec IS 'Its id, and its rules: size, queue, and slots that are reserved.';
CREATE VIEW platpat.actual_bulkheads AS
    SELECT r.key COLLATE "C" AS key, r.spec FROM platpat.bulkhead_rules(installed => true) r
    UNION ALL
    SELECT o.key COLLATE "C", o.spec FROM platpat.bulkhead_orphans() o;
COMMENT ON VIEW platpat.actual_bulkheads IS 'What is: the rules by which slots are given, and what shared memory has of bulkheads that are gone.';
COMMENT ON COLUMN platpat.actual_bulkheads.key IS 'The bulkhead, or the id of one that is gone.';
COMMENT ON COLUMN platpat.actual_bulkheads.spec IS 'Its id, and its rules; those of the definition if nobody has used it yet.';
GRANT SELECT ON platpat.desired_bulkheads, platpat.actual_bulkheads TO pg_monitor;
INSERT INTO platpat.controllers (controller, desired, actual, apply, mode, period, prune, builtin)
    VALUES ('bulkheads', 'platpat.desired_bulkheads', 'platpat.actual_bulkheads',
            'platpat.apply_bulkhead(pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb)', 'enforce', '5 min', true, true);
INSERT INTO platpat.controller_states (controller) VALUES ('bulkheads');
