-- event: the event log, its readers, and commands

-- Positions come from one sequence, without a cache: readers rely on a number
-- being drawn while its transaction has a lock on the log.
CREATE SEQUENCE platpat.event_position AS bigint CACHE 1;
COMMENT ON SEQUENCE platpat.event_position IS 'Positions of events.';
SELECT pg_catalog.pg_extension_config_dump('platpat.event_position', '');

CREATE FUNCTION platpat.guard_events() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_guard';
COMMENT ON FUNCTION platpat.guard_events() IS 'Trigger: events are only appended, and only by append_event().';
CREATE FUNCTION platpat.projections_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_projections_changed';
COMMENT ON FUNCTION platpat.projections_changed() IS 'Trigger: sessions and the worker read the projections anew.';
REVOKE ALL ON FUNCTION platpat.guard_events(), platpat.projections_changed() FROM PUBLIC;

-- The columns that Debezium's outbox router looks for have its names.  There is
-- no key: a dump makes the partitions with keys of their own, and would make
-- one twice that this table had given them.
CREATE TABLE platpat.events (
    position bigint NOT NULL DEFAULT pg_catalog.nextval('platpat.event_position'),
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    aggregatetype text COLLATE "C" NOT NULL,
    aggregateid text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    tenant text COLLATE "C",
    metadata jsonb,
    created_at timestamptz NOT NULL
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE platpat.events IS 'The event log. append_event() adds to it, nothing changes it, controller "event_partitions" and maintain_events() drop partitions.';
COMMENT ON COLUMN platpat.events.position IS 'Where it stands in the log; numbers may be missing.';
COMMENT ON COLUMN platpat.events.id IS 'Unique, for receivers that recognise what they have seen.';
COMMENT ON COLUMN platpat.events.aggregatetype IS 'The kind of thing that it happened to: order.';
COMMENT ON COLUMN platpat.events.aggregateid IS 'Which of them.';
COMMENT ON COLUMN platpat.events.version IS 'The version that the thing has by it, from 1 on without gaps.';
COMMENT ON COLUMN platpat.events.type IS 'What happened: order.created.';
COMMENT ON COLUMN platpat.events.payload IS 'What there is to know of it.';
COMMENT ON COLUMN platpat.events.tenant IS 'The tenant that was set; null only from roles that bypass row security.';
COMMENT ON COLUMN platpat.events.metadata IS 'What the application adds: who, why, by which request.';
COMMENT ON COLUMN platpat.events.created_at IS 'When it was appended, by the time of day.';
ALTER TABLE platpat.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON platpat.events USING (tenant = platpat.current_tenant());
COMMENT ON POLICY own_tenant ON platpat.events IS 'Events of the current tenant; those of none are for roles that bypass row security.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.events
    EXECUTE FUNCTION platpat.guard_events();
COMMENT ON TRIGGER guard ON platpat.events IS 'Only append_event() writes.';

CREATE TABLE platpat.event_streams (
    tenant text COLLATE "C",
    aggregatetype text COLLATE "C" NOT NULL,
    aggregateid text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant, aggregatetype, aggregateid)
) WITH (fillfactor = 70);
COMMENT ON TABLE platpat.event_streams IS 'The version of each thing that has events; append_event() maintains it.';
COMMENT ON COLUMN platpat.event_streams.tenant IS 'The tenant of its events.';
COMMENT ON COLUMN platpat.event_streams.aggregatetype IS 'The kind of thing.';
COMMENT ON COLUMN platpat.event_streams.aggregateid IS 'Which of them.';
COMMENT ON COLUMN platpat.event_streams.version IS 'The version of its last event, for expected_version.';
ALTER TABLE platpat.event_streams ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON platpat.event_streams USING (tenant = platpat.current_tenant());
COMMENT ON POLICY own_tenant ON platpat.event_streams IS 'Those of the current tenant.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.event_streams
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.event_streams IS 'Only append_event() writes.';
SELECT pg_catalog.pg_extension_config_dump('platpat.event_streams', '');

-- Functions and tables are kept by name: pg_upgrade refuses columns of type
-- regprocedure, and a dump has a bare number for a table that is gone.
CREATE TABLE platpat.projections (
    projection text COLLATE "C" PRIMARY KEY,
    apply text NOT NULL,
    types text[],
    mode text NOT NULL CHECK (mode IN ('async', 'inline')),
    per_tenant boolean NOT NULL,
    batch_size int NOT NULL CHECK (batch_size > 0),
    on_error text NOT NULL CHECK (on_error IN ('park', 'stop')),
    read_models text[] NOT NULL,
    paused boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE platpat.projections IS 'The projections; create_projection(), alter_projection() and drop_projection() write it.';
COMMENT ON COLUMN platpat.projections.projection IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.projections.apply IS 'The function that is called with the first and the last position of a batch.';
COMMENT ON COLUMN platpat.projections.types IS 'The types of events that it wants; null for all.';
COMMENT ON COLUMN platpat.projections.mode IS 'async: in the background; inline: in the transaction that appends.';
COMMENT ON COLUMN platpat.projections.per_tenant IS 'Whether it is called for each tenant, under its context.';
COMMENT ON COLUMN platpat.projections.batch_size IS 'Most events of a batch.';
COMMENT ON COLUMN platpat.projections.on_error IS 'park puts an event that fails aside, stop waits for somebody to look.';
COMMENT ON COLUMN platpat.projections.read_models IS 'The tables that rebuild_projection() fills anew.';
COMMENT ON COLUMN platpat.projections.paused IS 'Whether it rests.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.projections
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.projections IS 'Only the functions of platpat write.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.projections
    EXECUTE FUNCTION platpat.projections_changed();
COMMENT ON TRIGGER changed ON platpat.projections IS 'Every session reads its projections anew.';
ALTER TABLE platpat.projections ENABLE ALWAYS TRIGGER changed;
SELECT pg_catalog.pg_extension_config_dump('platpat.projections', '');

-- Apart from the definitions, because it changes with each batch.
CREATE TABLE platpat.projection_positions (
    projection text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    applied bigint NOT NULL DEFAULT 0,
    applied_at timestamptz,
    stopped boolean NOT NULL DEFAULT false,
    failures int NOT NULL DEFAULT 0,
    next_attempt timestamptz,
    sqlstate text,
    error text,
    failed_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE platpat.projection_positions IS 'How far each projection has come; it changes in the transaction of its read model.';
COMMENT ON COLUMN platpat.projection_positions.projection IS 'The projection.';
COMMENT ON COLUMN platpat.projection_positions.position IS 'Everything up to here is applied or parked; inline ones are always up to date.';
COMMENT ON COLUMN platpat.projection_positions.applied IS 'Events that were applied, since it was created or rebuilt.';
COMMENT ON COLUMN platpat.projection_positions.applied_at IS 'When the last were.';
COMMENT ON COLUMN platpat.projection_positions.stopped IS 'Whether an event has stopped it.';
COMMENT ON COLUMN platpat.projection_positions.failures IS 'Attempts in a row that failed for a reason that is not an event''s.';
COMMENT ON COLUMN platpat.projection_positions.next_attempt IS 'When it is tried again.';
COMMENT ON COLUMN platpat.projection_positions.sqlstate IS 'SQLSTATE of the last error.';
COMMENT ON COLUMN platpat.projection_positions.error IS 'Its message.';
COMMENT ON COLUMN platpat.projection_positions.failed_at IS 'When that was.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.projection_positions
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.projection_positions IS 'Only the functions of platpat write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.projection_positions', '');

CREATE TABLE platpat.dead_events (
    projection text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    tenant text COLLATE "C",
    sqlstate text NOT NULL,
    error text NOT NULL,
    attempts int NOT NULL DEFAULT 1,
    failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (projection, position)
);
COMMENT ON TABLE platpat.dead_events IS 'Events that a projection could not apply and has put aside; see replay_dead_event().';
COMMENT ON COLUMN platpat.dead_events.projection IS 'The projection.';
COMMENT ON COLUMN platpat.dead_events.position IS 'The event.';
COMMENT ON COLUMN platpat.dead_events.tenant IS 'Its tenant.';
COMMENT ON COLUMN platpat.dead_events.sqlstate IS 'SQLSTATE of the error.';
COMMENT ON COLUMN platpat.dead_events.error IS 'The message of the error.';
COMMENT ON COLUMN platpat.dead_events.attempts IS 'How often it was tried.';
COMMENT ON COLUMN platpat.dead_events.failed_at IS 'When it failed last.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.dead_events
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.dead_events IS 'Only the functions of platpat write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.dead_events', '');

CREATE TABLE platpat.event_drops (
    partition text PRIMARY KEY,
    last_position bigint NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE platpat.event_drops IS 'Partitions of the log that were dropped: what a rebuilt projection would lack.';
COMMENT ON COLUMN platpat.event_drops.partition IS 'The partition.';
COMMENT ON COLUMN platpat.event_drops.last_position IS 'The last position in it.';
COMMENT ON COLUMN platpat.event_drops.dropped_at IS 'When it was dropped.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.event_drops
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.event_drops IS 'Only the functions of platpat write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.event_drops', '');

CREATE TABLE platpat.event_consumers (
    consumer text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    acked_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE platpat.event_consumers IS 'Consumers outside of the database, and what they have acknowledged.';
COMMENT ON COLUMN platpat.event_consumers.consumer IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.event_consumers.position IS 'Everything up to here is acknowledged.';
COMMENT ON COLUMN platpat.event_consumers.acked_at IS 'When it acknowledged last.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.event_consumers
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.event_consumers IS 'Only the functions of platpat write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.event_consumers', '');

CREATE TABLE platpat.commands (
    command text COLLATE "C" PRIMARY KEY,
    handler text NOT NULL,
    breaker text COLLATE "C",
    bulkhead text COLLATE "C",
    timeout interval NOT NULL,
    class text NOT NULL
);
COMMENT ON TABLE platpat.commands IS 'The commands; create_command(), alter_command() and drop_command() write it.';
COMMENT ON COLUMN platpat.commands.command IS 'The name, of at most 128 bytes.';
COMMENT ON COLUMN platpat.commands.handler IS 'The function that does it.';
COMMENT ON COLUMN platpat.commands.breaker IS 'The circuit breaker that it goes through; null for none.';
COMMENT ON COLUMN platpat.commands.bulkhead IS 'The bulkhead that it takes a slot of; null for none.';
COMMENT ON COLUMN platpat.commands.timeout IS 'How long it waits for the slot.';
COMMENT ON COLUMN platpat.commands.class IS 'As whom it waits: critical, standard or batch.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.commands
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.commands IS 'Only the functions of platpat write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.commands', '');
GRANT SELECT ON platpat.commands TO PUBLIC;

CREATE TABLE platpat.command_results (
    tenant text COLLATE "C",
    command text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    role_name name NOT NULL,
    payload_hash bigint NOT NULL,
    answered boolean NOT NULL DEFAULT false,
    response jsonb,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    UNIQUE NULLS NOT DISTINCT (tenant, command, idempotency_key)
);
CREATE INDEX ON platpat.command_results (created_at);
COMMENT ON TABLE platpat.command_results IS 'Answers to commands that had an idempotency key, for 24 hours.';
COMMENT ON COLUMN platpat.command_results.tenant IS 'The tenant that was set.';
COMMENT ON COLUMN platpat.command_results.command IS 'The command.';
COMMENT ON COLUMN platpat.command_results.idempotency_key IS 'The key.';
COMMENT ON COLUMN platpat.command_results.role_name IS 'Whose command it was: the answer is for nobody else.';
COMMENT ON COLUMN platpat.command_results.payload_hash IS 'Hash of the payload: the same key with another one is a mistake.';
COMMENT ON COLUMN platpat.command_results.answered IS 'Whether there is an answer; not while the command runs.';
COMMENT ON COLUMN platpat.command_results.response IS 'The answer.';
COMMENT ON COLUMN platpat.command_results.created_at IS 'When it was given.';
-- Without a policy nobody but superusers sees a row.
ALTER TABLE platpat.command_results ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.command_results
    EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.command_results IS 'Only execute_command() writes.';
SELECT pg_catalog.pg_extension_config_dump('platpat.command_results', '');

CREATE FUNCTION platpat.append_event(
    aggregatetype text, aggregateid text, type text, payload jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL)
    RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_append';
COMMENT ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb) IS
    'Appends an event and returns its position. Errors: 22004, 22023, 40001, 42501.';
CREATE FUNCTION platpat.append_event(
    aggregatetype text, aggregateid uuid, type text, payload jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL)
    RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_append_uuid';
COMMENT ON FUNCTION platpat.append_event(text, uuid, text, jsonb, bigint, jsonb) IS
    'Appends an event and returns its position. Errors: 22004, 22023, 40001, 42501.';
CREATE FUNCTION platpat.append_event(
    aggregatetype text, aggregateid bigint, type text, payload jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL)
    RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_append_bigint';
COMMENT ON FUNCTION platpat.append_event(text, bigint, text, jsonb, bigint, jsonb) IS
    'Appends an event and returns its position. Errors: 22004, 22023, 40001, 42501.';
CREATE FUNCTION platpat.event_watermark() RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_watermark';
COMMENT ON FUNCTION platpat.event_watermark() IS
    'The position up to which the log will not change any more. Errors: 25006, 0A000.';
CREATE FUNCTION platpat.last_position() RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_last_position';
COMMENT ON FUNCTION platpat.last_position() IS
    'The last position that was given to an event, committed or not; 0 for none.';
CREATE FUNCTION platpat.maintain_events(OUT object text, OUT action text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_maintain';
COMMENT ON FUNCTION platpat.maintain_events() IS
    'Makes partitions ahead, drops those that are over, and forgets old answers to commands; one row per action.';
CREATE FUNCTION platpat.list_event_partitions(desired boolean, OUT key text, OUT spec jsonb)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_partitions';
COMMENT ON FUNCTION platpat.list_event_partitions(boolean) IS
    'The partitions of the log that there should be, or those that there are, for the views. Errors: 22004.';
CREATE FUNCTION platpat.apply_event_partition(key text, desired jsonb, actual jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_apply_partition';
COMMENT ON FUNCTION platpat.apply_event_partition(text, jsonb, jsonb) IS
    'Makes or drops a partition of the log, for the controller. Errors: 22004, 2BP01, 55P03.';
CREATE FUNCTION platpat.fetch_events(
    consumer text, max_events int DEFAULT 100)
    RETURNS SETOF platpat.events
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_fetch';
COMMENT ON FUNCTION platpat.fetch_events(text, int) IS
    'The next events that a consumer has not acknowledged, in order; again and again until it does. Errors: 0A000, 22004, 22023, 25006, 42501.';
CREATE FUNCTION platpat.ack_events(consumer text, up_to bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_ack';
COMMENT ON FUNCTION platpat.ack_events(text, bigint) IS
    'Acknowledges all events up to a position; returns what is acknowledged then. Errors: 22004, 22023, 42704.';
CREATE FUNCTION platpat.drop_consumer(consumer text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_drop_consumer';
COMMENT ON FUNCTION platpat.drop_consumer(text) IS
    'Forgets a consumer, for which events are no longer kept then. Errors: 22004, 42704.';

CREATE FUNCTION platpat.create_projection(
    projection text,
    apply regprocedure,
    types text[] DEFAULT NULL,
    mode text DEFAULT 'async',
    per_tenant boolean DEFAULT false,
    batch_size int DEFAULT 1000,
    on_error text DEFAULT 'park',
    read_models regclass[] DEFAULT '{}')
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_create_projection';
COMMENT ON FUNCTION platpat.create_projection(text, regprocedure, text[], text, boolean, int, text, regclass[]) IS
    'Makes a projection, which begins with the first event there is. Errors: 22004, 22023, 42501, 42710, 42883.';
CREATE FUNCTION platpat.alter_projection(
    projection text,
    apply regprocedure DEFAULT NULL,
    types text[] DEFAULT NULL,
    mode text DEFAULT NULL,
    per_tenant boolean DEFAULT NULL,
    batch_size int DEFAULT NULL,
    on_error text DEFAULT NULL,
    read_models regclass[] DEFAULT NULL,
    paused boolean DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_alter_projection';
COMMENT ON FUNCTION platpat.alter_projection(text, regprocedure, text[], text, boolean, int, text, regclass[], boolean) IS
    'Changes a projection; null leaves a value as it is, types ''{}'' means all, and one that has stopped goes on. Errors: 22004, 22023, 42501, 42704.';
CREATE FUNCTION platpat.drop_projection(projection text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_drop_projection';
COMMENT ON FUNCTION platpat.drop_projection(text) IS
    'Drops a projection and its dead events; its read model stays. Errors: 22004, 42704.';
CREATE FUNCTION platpat.run_projections(
    projection text DEFAULT NULL,
    OUT name text, OUT up_to bigint, OUT applied bigint, OUT parked bigint)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_run_projections';
COMMENT ON FUNCTION platpat.run_projections(text) IS
    'Applies what there is to one projection or to all, in this transaction; one row for each. Errors: 0A000, 25006, 42704.';
CREATE FUNCTION platpat.rebuild_projection(projection text, partial boolean DEFAULT false) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_rebuild_projection';
COMMENT ON FUNCTION platpat.rebuild_projection(text, boolean) IS
    'Fills the read models anew from all events there are, beside those in use, and then replaces their rows; returns the events applied. Errors: 0A000, 25006, 42501, 42704, 55000, those of the function.';
CREATE FUNCTION platpat.wait_for_projection(projection text, up_to bigint, timeout interval DEFAULT '5 s') RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_wait_for_projection';
COMMENT ON FUNCTION platpat.wait_for_projection(text, bigint, interval) IS
    'Waits until a projection has come to a position; false if it has not in time. Errors: 22004, 22023, 42704, 55000.';
CREATE FUNCTION platpat.replay_dead_event(projection text, event_position bigint) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_replay_dead';
COMMENT ON FUNCTION platpat.replay_dead_event(text, bigint) IS
    'Applies an event that was put aside; false if it fails again. Errors: 22004, 42704, 55000.';
CREATE FUNCTION platpat.discard_dead_event(projection text, event_position bigint) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_discard_dead';
COMMENT ON FUNCTION platpat.discard_dead_event(text, bigint) IS
    'Gives an event up that was put aside. Errors: 22004, 42704.';

CREATE FUNCTION platpat.create_command(
    command text,
    handler regprocedure,
    breaker text DEFAULT NULL,
    bulkhead text DEFAULT NULL,
    timeout interval DEFAULT '5 s',
    class text DEFAULT 'standard')
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_create_command';
COMMENT ON FUNCTION platpat.create_command(text, regprocedure, text, text, interval, text) IS
    'Makes a command. Errors: 22004, 22023, 42704, 42710, 42883.';
CREATE FUNCTION platpat.alter_command(
    command text,
    handler regprocedure DEFAULT NULL,
    breaker text DEFAULT NULL,
    bulkhead text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    class text DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_alter_command';
COMMENT ON FUNCTION platpat.alter_command(text, regprocedure, text, text, interval, text) IS
    'Changes a command; null leaves a value as it is, the empty string takes a breaker or bulkhead away. Errors: 22004, 22023, 42501, 42704, 42883.';
CREATE FUNCTION platpat.drop_command(command text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_drop_command';
COMMENT ON FUNCTION platpat.drop_command(text) IS
    'Drops a command and what is remembered of its answers. Errors: 22004, 42704.';
CREATE FUNCTION platpat.execute_command(command text, payload jsonb, idempotency_key text DEFAULT NULL) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_event_execute_command';
COMMENT ON FUNCTION platpat.execute_command(text, jsonb, text) IS
    'Calls the handler of a command as the caller and returns its answer, or the one that was given for the key before. Errors: those of the handler, 22004, 22023, 40001, 42501, 42704, 55000, 55P03.';

REVOKE ALL ON FUNCTION
    platpat.append_event(text, text, text, jsonb, bigint, jsonb),
    platpat.append_event(text, uuid, text, jsonb, bigint, jsonb),
    platpat.append_event(text, bigint, text, jsonb, bigint, jsonb),
    platpat.event_watermark(),
    platpat.maintain_events(),
    platpat.list_event_partitions(boolean),
    platpat.apply_event_partition(text, jsonb, jsonb),
    platpat.fetch_events(text, int),
    platpat.ack_events(text, bigint),
    platpat.drop_consumer(text),
    platpat.create_projection(text, regprocedure, text[], text, boolean, int, text, regclass[]),
    platpat.alter_projection(text, regprocedure, text[], text, boolean, int, text, regclass[], boolean),
    platpat.drop_projection(text),
    platpat.run_projections(text),
    platpat.rebuild_projection(text, boolean),
    platpat.replay_dead_event(text, bigint),
    platpat.discard_dead_event(text, bigint),
    platpat.create_command(text, regprocedure, text, text, interval, text),
    platpat.alter_command(text, regprocedure, text, text, interval, text),
    platpat.drop_command(text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    platpat.last_position(),
    platpat.wait_for_projection(text, bigint, interval),
    platpat.execute_command(text, jsonb, text)
    TO PUBLIC;
GRANT EXECUTE ON FUNCTION platpat.list_event_partitions(boolean) TO pg_monitor;

-- Whoever writes the log keeps readers from going past what it may still draw.
CREATE VIEW platpat.event_writers AS
    SELECT l.pid, x.gid, a.xact_start AS since
      FROM pg_catalog.pg_locks l
      LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
      LEFT JOIN (pg_catalog.pg_locks t JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid)
             ON l.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid'
            AND t.mode = 'ExclusiveLock' AND t.virtualtransaction = l.virtualtransaction
     WHERE l.locktype = 'relation' AND l.granted
       AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
       AND l.relation = 'platpat.events'::regclass
       AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
     GROUP BY l.pid, x.gid, a.xact_start;
COMMENT ON VIEW platpat.event_writers IS 'Transactions that hold readers of the log back, because they may still write to it.';
COMMENT ON COLUMN platpat.event_writers.pid IS 'The process; null for a prepared transaction.';
COMMENT ON COLUMN platpat.event_writers.gid IS 'The name of a prepared transaction.';
COMMENT ON COLUMN platpat.event_writers.since IS 'When the transaction of the process began.';

CREATE VIEW platpat.stat_projections AS
    SELECT p.projection, p.mode,
           CASE WHEN p.paused THEN 'paused' WHEN s.stopped THEN 'stopped'
                WHEN s.failures > 0 THEN 'failing' ELSE 'running' END AS status,
           CASE p.mode WHEN 'inline' THEN h.position ELSE s.position END AS position,
           CASE p.mode WHEN 'inline' THEN 0 ELSE h.position - s.position END AS lag,
           CASE WHEN p.mode = 'async' AND s.position < h.position THEN
               pg_catalog.clock_timestamp() - (SELECT e.created_at FROM platpat.events e
                                    WHERE e.position > s.position ORDER BY e.position LIMIT 1)
           END AS lag_time,
           CASE WHEN p.mode = 'async' AND s.position < h.position THEN
               (SELECT w.pid FROM platpat.event_writers w ORDER BY w.since NULLS LAST LIMIT 1)
           END AS blocking_pid,
           CASE WHEN p.mode = 'async' AND s.position < h.position THEN
               (SELECT w.gid FROM platpat.event_writers w WHERE w.gid IS NOT NULL ORDER BY w.gid LIMIT 1)
           END AS blocking_gid,
           s.applied, s.applied_at,
           (SELECT pg_catalog.count(*) FROM platpat.dead_events d WHERE d.projection = p.projection) AS dead_events,
           s.failures, s.next_attempt, s.sqlstate, s.error, s.failed_at
      FROM platpat.projections p
      JOIN platpat.projection_positions s USING (projection)
     CROSS JOIN platpat.last_position() h(position);
COMMENT ON VIEW platpat.stat_projections IS 'The projections of this database, how far they are, and what holds them up.';
COMMENT ON COLUMN platpat.stat_projections.projection IS 'The projection.';
COMMENT ON COLUMN platpat.stat_projections.mode IS 'async or inline.';
COMMENT ON COLUMN platpat.stat_projections.status IS 'running, paused, stopped by an event, or failing and tried again.';
COMMENT ON COLUMN platpat.stat_projections.position IS 'How far it is.';
COMMENT ON COLUMN platpat.stat_projections.lag IS 'Positions that it is behind, those that were rolled back included.';
COMMENT ON COLUMN platpat.stat_projections.lag_time IS 'The age of the first event that it has not looked at.';
COMMENT ON COLUMN platpat.stat_projections.blocking_pid IS 'The process whose transaction holds it back longest; see event_writers.';
COMMENT ON COLUMN platpat.stat_projections.blocking_gid IS 'A prepared transaction that holds it back.';
COMMENT ON COLUMN platpat.stat_projections.applied IS 'Events that were applied, since it was created or rebuilt.';
COMMENT ON COLUMN platpat.stat_projections.applied_at IS 'When the last were.';
COMMENT ON COLUMN platpat.stat_projections.dead_events IS 'Events that were put aside.';
COMMENT ON COLUMN platpat.stat_projections.failures IS 'Attempts in a row that failed.';
COMMENT ON COLUMN platpat.stat_projections.next_attempt IS 'When it is tried again.';
COMMENT ON COLUMN platpat.stat_projections.sqlstate IS 'SQLSTATE of the last error.';
COMMENT ON COLUMN platpat.stat_projections.error IS 'Its message.';
COMMENT ON COLUMN platpat.stat_projections.failed_at IS 'When that was.';

CREATE VIEW platpat.stat_consumers AS
    SELECT c.consumer, c.position, h.position - c.position AS lag, c.acked_at
      FROM platpat.event_consumers c CROSS JOIN platpat.last_position() h(position);
COMMENT ON VIEW platpat.stat_consumers IS 'Consumers outside of the database. One that is gone for good keeps events from being dropped; see drop_consumer().';
COMMENT ON COLUMN platpat.stat_consumers.consumer IS 'The consumer.';
COMMENT ON COLUMN platpat.stat_consumers.position IS 'Everything up to here is acknowledged.';
COMMENT ON COLUMN platpat.stat_consumers.lag IS 'Positions that it is behind.';
COMMENT ON COLUMN platpat.stat_consumers.acked_at IS 'When it acknowledged last.';
GRANT SELECT ON platpat.event_writers, platpat.stat_projections, platpat.stat_consumers TO pg_monitor;

CREATE VIEW platpat.desired_event_partitions AS
    SELECT p.key COLLATE "C" AS key, p.spec FROM platpat.list_event_partitions(desired => true) p;
COMMENT ON VIEW platpat.desired_event_partitions IS 'What controller "event_partitions" wants to be: the partitions of the log that retention or a reader keeps, and those that are made ahead.';
COMMENT ON COLUMN platpat.desired_event_partitions.key IS 'The partition.';
COMMENT ON COLUMN platpat.desired_event_partitions.spec IS 'The time that it spans: from, and before to.';
CREATE VIEW platpat.actual_event_partitions AS
    SELECT p.key COLLATE "C" AS key, p.spec FROM platpat.list_event_partitions(desired => false) p;
COMMENT ON VIEW platpat.actual_event_partitions IS 'What is: the partitions of the log.';
COMMENT ON COLUMN platpat.actual_event_partitions.key IS 'The partition.';
COMMENT ON COLUMN platpat.actual_event_partitions.spec IS 'The time that it spans: from, and before to.';
GRANT SELECT ON platpat.desired_event_partitions, platpat.actual_event_partitions TO pg_monitor;
INSERT INTO platpat.controllers (controller, desired, actual, apply, mode, period, prune, builtin)
    VALUES ('event_partitions', 'platpat.desired_event_partitions', 'platpat.actual_event_partitions',
            'platpat.apply_event_partition(pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb)', 'enforce', '1 hour', true, true);
INSERT INTO platpat.controller_states (controller) VALUES ('event_partitions');
