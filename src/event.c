/*
 * event.c
 *		The event log: settings of the module, appending, and what keeps
 *		others from writing.
 *
 * An append locks the log, counts up the version of the thing that the event
 * is about, and inserts: so the events of one thing have their positions in
 * the order of their versions, which is that of the commits.  All is done as
 * the owner of the tables; who may call is a matter of EXECUTE.
 *
 * Of this module only what event_wait.c has is in shared memory, a condition
 * variable and marks.  What others may see of the log is a matter of locks and snapshots,
 * see event_read.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "config_table.h"
#include "event.h"
#include "sql.h"
#include "tenant.h"

/* Longest type, aggregatetype and aggregateid in bytes, as in Debezium. */
#define TEXT_MAX 255

PG_FUNCTION_INFO_V1(plat_event_append);
PG_FUNCTION_INFO_V1(plat_event_append_uuid);
PG_FUNCTION_INFO_V1(plat_event_append_bigint);
PG_FUNCTION_INFO_V1(plat_event_guard);

/*
 * What an append runs, planned once and leaving nothing to the search_path: it
 * counts up the version of the thing, and inserts the event if that was as
 * expected.  The last parameter is expected_version.  The position is drawn
 * last, when the thing is locked, and asked for by itself, because RETURNING
 * costs more than that.
 */
static PlatSavedPlan append_plan = {
	.command = "WITH head AS (INSERT INTO platpat.event_streams AS s"
	"  (tenant, aggregatetype, aggregateid, version) VALUES ($1, $2, $3, 1)"
	"  ON CONFLICT (tenant, aggregatetype, aggregateid) DO UPDATE"
	"  SET version = s.version OPERATOR(pg_catalog.+) 1"
	"  WHERE $8 IS NULL OR s.version OPERATOR(pg_catalog.=) $8"
	"  RETURNING version)"
	" INSERT INTO platpat.events (tenant, aggregatetype, aggregateid,"
	"  version, type, payload, metadata, created_at)"
	" SELECT $1, $2, $3, h.version, $4, $5, $6, $7 FROM head h"
	" WHERE $8 IS NULL OR h.version OPERATOR(pg_catalog.=) ($8 OPERATOR(pg_catalog.+) 1)",
	.nargs = 8,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID,
	TIMESTAMPTZOID, INT8OID},
};

static const struct config_enum_entry width_options[] = {
	{"day", PLAT_WIDTH_DAY, false},
	{"week", PLAT_WIDTH_WEEK, false},
	{"month", PLAT_WIDTH_MONTH, false},
	{"year", PLAT_WIDTH_YEAR, false},
	{NULL, 0, false}
};

static void
define_settings(bool preload)
{
	DefineCustomEnumVariable("platpat.event_partition",
							 "What time a partition of the event log spans: day, week, month or year.",
							 "It counts for partitions that are made from now on.",
							 &plat_event_partition_width, PLAT_WIDTH_MONTH,
							 width_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("platpat.event_retention",
							"How long events are kept.",
							"A partition is dropped when it is older and every projection and consumer is past it. -1 keeps all.",
							&plat_event_retention, -1, -1, INT_MAX,
							PGC_SUSET, GUC_UNIT_MIN, NULL, NULL, NULL);
}

static const char *const admin_grants[] = {
	"SELECT ON platpat.events, platpat.event_streams, platpat.projections,"
	" platpat.projection_positions, platpat.dead_events,"
	" platpat.event_consumers, platpat.event_drops, platpat.event_writers,"
	" platpat.stat_projections, platpat.stat_consumers,"
	" platpat.desired_event_partitions, platpat.actual_event_partitions",
	"EXECUTE ON FUNCTION"
	" platpat.append_event(text, text, text, jsonb, bigint, jsonb),"
	" platpat.append_event(text, uuid, text, jsonb, bigint, jsonb),"
	" platpat.append_event(text, bigint, text, jsonb, bigint, jsonb),"
	" platpat.event_watermark(), platpat.maintain_events(),"
	" platpat.list_event_partitions(boolean),"
	" platpat.fetch_events(text, int), platpat.ack_events(text, bigint),"
	" platpat.drop_consumer(text)",
	"EXECUTE ON FUNCTION"
	" platpat.create_projection(text, regprocedure, text[], text, boolean, int, text, regclass[]),"
	" platpat.alter_projection(text, regprocedure, text[], text, boolean, int, text, regclass[], boolean),"
	" platpat.drop_projection(text), platpat.run_projections(text),"
	" platpat.rebuild_projection(text, boolean),"
	" platpat.replay_dead_event(text, bigint),"
	" platpat.discard_dead_event(text, bigint)",
	"EXECUTE ON FUNCTION"
	" platpat.create_command(text, regprocedure, text, text, interval, text),"
	" platpat.alter_command(text, regprocedure, text, text, interval, text),"
	" platpat.drop_command(text)",
	NULL
};

const PlatModule plat_event_module = {
	.name = "event",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = plat_event_wait_size,
	.shmem_fill = plat_event_wait_fill,
	.shmem_adopt = plat_event_wait_adopt,
	.serve = plat_event_serve,
	.put_metrics = plat_event_put_metrics,
};

/*
 * Raise 40001: a thing, by its key of tenant, aggregatetype and aggregateid,
 * has another version than the caller has seen.  One that is new has version
 * 1 by now, but no event.
 */
pg_noreturn static void
refuse_version(const Datum *key, const char *nulls, int64 expected)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {key[0], key[1], key[2]};
	int64		found = 0;

	if (plat_sql_query("SELECT CASE WHEN s.version > 1 OR EXISTS"
					   "  (SELECT FROM platpat.events e"
					   "   WHERE e.tenant IS NOT DISTINCT FROM $1 AND e.aggregatetype = $2"
					   "   AND e.aggregateid = $3) THEN s.version ELSE 0 END"
					   " FROM platpat.event_streams s"
					   " WHERE s.tenant IS NOT DISTINCT FROM $1"
					   " AND s.aggregatetype = $2 AND s.aggregateid = $3",
					   3, types, values, nulls) > 0)
		found = pg_strtoint64(plat_sql_value(0, 1));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("%s \"%s\" does not have version " INT64_FORMAT,
					plat_clip(TextDatumGetCString(key[1])),
					plat_clip(TextDatumGetCString(key[2])), expected),
			 errdetail("It has version " INT64_FORMAT ".", found),
			 errhint("Read it again and repeat the command.")));
}

/*
 * Insert the event whose parameters are given, but for the time, which is
 * filled in; returns its position.  The log is locked by the caller.
 */
static int64
insert_event(Oid log, Datum *values, const char *nulls)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid			owner;
	int			context;
	int64		position;

	SPI_connect();
	owner = plat_sql_become_owner(log, &context);
	plat_event_need_partition(log, now);
	values[6] = TimestampTzGetDatum(now);
	if (plat_sql_execute_saved(&append_plan, values, nulls) == 0)
		refuse_version(values, nulls, DatumGetInt64(values[7]));
	position = DatumGetInt64(DirectFunctionCall1(currval_oid,
												 ObjectIdGetDatum(plat_our_table("event_position"))));
	SetUserIdAndSecContext(owner, context);
	SPI_finish();
	return position;
}

/*
 * Append the event that the arguments describe, with this aggregateid.
 */
static Datum
append(FunctionCallInfo fcinfo, text * aggregateid)
{
	text	   *aggregatetype = plat_text_arg(fcinfo, 0, "aggregatetype", TEXT_MAX);
	text	   *type = plat_text_arg(fcinfo, 2, "type", TEXT_MAX);
	const char *tenant = plat_event_tenant();
	Oid			log = plat_our_table("events");
	char		nulls[] = {tenant ? ' ' : 'n', ' ', ' ', ' ', ' ',
		PG_ARGISNULL(5) ? 'n' : ' ', ' ', PG_ARGISNULL(4) ? 'n' : ' ', '\0'
	};
	Datum		values[8] = {0};
	int64		position;

	plat_refuse_null(fcinfo, 3, "payload");
	if (!PG_ARGISNULL(4) && PG_GETARG_INT64(4) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expected_version must not be negative")));
	if (tenant)
		values[0] = CStringGetTextDatum(tenant);
	values[1] = PointerGetDatum(aggregatetype);
	values[2] = PointerGetDatum(aggregateid);
	values[3] = PointerGetDatum(type);
	values[4] = PG_GETARG_DATUM(3);
	values[5] = PG_GETARG_DATUM(5);
	values[7] = PG_GETARG_DATUM(4);
	/* Before the projections are looked at: who changes them locks, too. */
	LockRelationOid(log, RowExclusiveLock);
	position = insert_event(log, values, nulls);
	plat_event_appended(type, tenant, position);
	PG_RETURN_INT64(position);
}

/*
 * platpat.append_event(aggregatetype text, aggregateid text | uuid | bigint,
 * type text, payload jsonb, expected_version bigint, metadata jsonb) returns
 * bigint: VOLATILE, PARALLEL UNSAFE, for roles that were granted EXECUTE.
 *
 * Appends an event of the current tenant and returns its position, which
 * grows with each event but may skip numbers.  expected_version is what the
 * caller has seen last, 0 for a thing without events, NULL for whatever it
 * is.  Inline projections are applied before it returns.  Raises 22004,
 * 22023, 40001 and 42501, and what inline projections raise.
 */
Datum
plat_event_append(PG_FUNCTION_ARGS)
{
	return append(fcinfo, plat_text_arg(fcinfo, 1, "aggregateid", TEXT_MAX));
}

Datum
plat_event_append_uuid(PG_FUNCTION_ARGS)
{
	plat_refuse_null(fcinfo, 1, "aggregateid");
	return append(fcinfo, cstring_to_text(DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1)))));
}

Datum
plat_event_append_bigint(PG_FUNCTION_ARGS)
{
	plat_refuse_null(fcinfo, 1, "aggregateid");
	return append(fcinfo, cstring_to_text(DatumGetCString(DirectFunctionCall1(int8out, PG_GETARG_DATUM(1)))));
}

/*
 * Whether what runs is COPY, as in a restore, which fills partitions one by
 * one.
 */
static bool
is_copy(void)
{
	return ActivePortal && ActivePortal->commandTag == CMDTAG_COPY;
}

/*
 * BEFORE statement trigger of the log and of each of its partitions: raises
 * 42501 for whatever is not an append.
 *
 * Readers know of writers by their locks on the log itself, so nothing but a
 * restore may go to a partition directly.  The owner's own INSERT into the log
 * has that lock, and with it append_event() comes here.
 */
Datum
plat_event_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	Relation	rel = trigger->tg_relation;

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
		object_ownercheck(RelationRelationId, RelationGetRelid(rel), GetUserId()) &&
		(rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || is_copy()))
		return PointerGetDatum(NULL);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("events are only appended"),
			 errdetail("Table \"%s\" cannot be written otherwise.",
					   RelationGetRelationName(rel)),
			 errhint("Use platpat.append_event().")));
}
