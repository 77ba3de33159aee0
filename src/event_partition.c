/*
 * event_partition.c
 *		Partitions of the event log: made in time, dropped when they are over.
 *
 * A partition is an ordinary table, which a dump contains as such: only the
 * log that it hangs on belongs to the extension.  So it brings its own key,
 * index, policy and trigger.  It is made beside the log and then attached,
 * which lets others go on appending; dropping one needs the log for a moment.
 *
 * Times are cut in UTC.  Nothing here is shared.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "attempt.h"
#include "compat.h"
#include "event.h"
#include "sql.h"
#include "worker.h"

/* Partitions that are there before they are needed, the present one included. */
#define AHEAD 2

/* What the lock of who makes a partition is called: it is no column. */
#define MAKER 1000

/* Setting platpat.event_partition. */
int			plat_event_partition_width;

/* Setting platpat.event_retention, in minutes; -1 for ever. */
int			plat_event_retention;

PG_FUNCTION_INFO_V1(plat_event_maintain);

/*
 * Whether a bound is at or before a moment. Bounds without an end are for
 * superusers who make partitions of their own.
 */
static bool
is_reached(PartitionBoundInfo bounds, int i, TimestampTz when)
{
	if (bounds->kind[i][0] != PARTITION_RANGE_DATUM_VALUE)
		return bounds->kind[i][0] == PARTITION_RANGE_DATUM_MINVALUE;
	return DatumGetTimestampTz(bounds->datums[i][0]) <= when;
}

/*
 * The moment of a bound.
 */
static TimestampTz
moment_of(PartitionBoundInfo bounds, int i)
{
	if (bounds->kind[i][0] != PARTITION_RANGE_DATUM_VALUE)
		return bounds->kind[i][0] == PARTITION_RANGE_DATUM_MINVALUE ?
			DT_NOBEGIN : DT_NOEND;
	return DatumGetTimestampTz(bounds->datums[i][0]);
}

/*
 * Whether there is a partition for a moment, and otherwise how far the gap
 * reaches that it is in.  Bounds are sorted, and indexes[i] is the partition
 * below bound i.
 */
static bool
find_span(Oid log, TimestampTz when, PlatSpan *gap)
{
	Relation	rel = table_open(log, NoLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, false);
	PartitionBoundInfo bounds = desc->boundinfo;
	int			i = 0;
	bool		found = false;

	gap->start = DT_NOBEGIN;
	gap->end = DT_NOEND;
	if (desc->nparts > 0)
	{
		while (i < bounds->ndatums && is_reached(bounds, i, when))
			i++;
		found = bounds->indexes[i] >= 0;
		if (i > 0)
			gap->start = moment_of(bounds, i - 1);
		if (i < bounds->ndatums)
			gap->end = moment_of(bounds, i);
	}
	table_close(rel, NoLock);
	return found;
}

/*
 * The time that a new partition for a moment is to span, within a gap, and
 * what it is to be called.  SPI is connected.
 */
static char *
plan_span(TimestampTz when, PlatSpan *span)
{
	static const char *const widths[] = {"day", "week", "month", "year"};
	const char *width = widths[plat_event_partition_width];
	Oid			types[] = {TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[4];
	bool		isnull;

	values[0] = TimestampTzGetDatum(when);
	values[1] = CStringGetTextDatum(width);
	values[2] = TimestampTzGetDatum(span->start);
	values[3] = TimestampTzGetDatum(span->end);
	(void) plat_sql_query("SELECT b.start, b.finish, n.name FROM (SELECT date_trunc($2, $1, 'UTC') AS start) c,"
						  " LATERAL (SELECT greatest(c.start, $3) AS start,"
						  "  least((c.start AT TIME ZONE 'UTC' + ('1 ' || $2)::interval) AT TIME ZONE 'UTC', $4) AS finish) b,"
						  " LATERAL (SELECT 'events_p' || to_char(b.start AT TIME ZONE 'UTC', 'YYYYMMDD') ||"
						  "  CASE WHEN b.start = c.start THEN '' ELSE to_char(b.start AT TIME ZONE 'UTC', 'HH24MISS') END AS name) n",
						  4, types, values, NULL);
	span->start = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
													SPI_tuptable->tupdesc, 1, &isnull));
	span->end = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 2, &isnull));
	return plat_sql_value(0, 3);
}

/*
 * The name, or one like it if it is taken: a partition that was detached may
 * have kept its own.
 */
static char *
free_name(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	(void) plat_sql_query("SELECT $1 || CASE WHEN to_regclass('platpat.' || $1) IS NULL THEN '' ELSE"
						  "  to_char(clock_timestamp() AT TIME ZONE 'UTC', '_YYYYMMDDHH24MISSUS') END",
						  1, types, values, NULL);
	return plat_sql_value(0, 1);
}

/*
 * A moment as a literal of SQL, the same in every time zone.
 */
static char *
literal(TimestampTz when)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(when)};

	(void) plat_sql_query("SELECT quote_literal(to_char($1 AT TIME ZONE 'UTC',"
						  " 'YYYY-MM-DD HH24:MI:SS.US\"+00\"'))",
						  1, types, values, NULL);
	return plat_sql_value(0, 1);
}

/*
 * Make a partition and attach it, as the owner of the log. The name and the
 * literals come from dates.  Where it is put is not up to the session that
 * happens to make it.
 */
static void
make_partition(const char *name, const PlatSpan *span)
{
	const char *table = psprintf("platpat.%s", quote_identifier(name));
	int			level = NewGUCNestLevel();

	(void) set_config_option("default_tablespace", "", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("default_table_access_method", "heap", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	plat_sql_run(psprintf("CREATE TABLE %s (LIKE platpat.events INCLUDING COMMENTS,"
						  " PRIMARY KEY (position))", table));
	plat_sql_run(psprintf("CREATE INDEX ON %s (tenant, aggregatetype, aggregateid, version)", table));
	plat_sql_run(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table));
	plat_sql_run(psprintf("CREATE POLICY own_tenant ON %s"
						  " USING (tenant = platpat.current_tenant())", table));
	plat_sql_run(psprintf("CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
						  " ON %s EXECUTE FUNCTION platpat.guard_events()", table));
	plat_sql_run(psprintf("ALTER TABLE platpat.events ATTACH PARTITION %s"
						  " FOR VALUES FROM (%s) TO (%s)",
						  table, literal(span->start), literal(span->end)));
	AtEOXact_GUC(false, level);
}

/*
 * Whether the log is whole.  A restore makes partitions, fills them one by one
 * without a lock on the log, and gives each its trigger when it is full, so
 * what has none may be waiting for events that are below any mark.
 */
bool
plat_event_log_is_whole(Oid log)
{
	Relation	rel = table_open(log, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	bool		is_whole = true;

	for (int i = 0; i < desc->nparts && is_whole; i++)
	{
		Relation	partition = try_relation_open(desc->oids[i], AccessShareLock);

		if (partition == NULL)
			continue;
		is_whole = partition->trigdesc != NULL;
		relation_close(partition, NoLock);
	}
	table_close(rel, NoLock);
	return is_whole;
}

/*
 * Whether nobody is making a partition, so that this session knows all that
 * there are.
 *
 * A transaction that commits is visible and no holder of locks any more, as
 * GetLockConflicts sees it, a moment before it has told others of its
 * partition.  But it still has the lock that makers take.
 */
bool
plat_event_knows_partitions(Oid log)
{
	if (!ConditionalLockDatabaseObject(RelationRelationId, log, MAKER,
									   AccessShareLock))
		return false;
	UnlockDatabaseObject(RelationRelationId, log, MAKER, AccessShareLock);
	return true;
}

/*
 * Have a partition for a moment; returns the name of a new one, or NULL.  Who
 * makes one keeps others from doing the same until the transaction ends. SPI
 * is connected, and the user is the owner of the log.
 */
static char *
ensure_partition(Oid log, TimestampTz when)
{
	PlatSpan	span;
	char	   *name;

	if (find_span(log, when, &span))
		return NULL;
	LockRelationOid(log, ShareUpdateExclusiveLock);
	LockDatabaseObject(RelationRelationId, log, MAKER, AccessExclusiveLock);
	if (find_span(log, when, &span))
		return NULL;
	name = free_name(plan_span(when, &span));
	make_partition(name, &span);
	plat_worker_wake_at_commit("event_partitions");
	return name;
}

/*
 * Have a partition for an event that is appended now. Without a worker, or
 * with the very first event, the appending transaction makes it. SPI is
 * connected, and the user is the owner of the log.
 */
void
plat_event_need_partition(Oid log, TimestampTz when)
{
	(void) ensure_partition(log, when);
}

/*
 * The partitions that there are, as PlatPartition, in the order of their times.
 * One in another schema is not ours.  The log is locked.
 */
List *
plat_event_list_partitions(Oid log)
{
	Relation	rel = table_open(log, NoLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, false);
	PartitionBoundInfo bounds = desc->boundinfo;
	Oid			schema = RelationGetNamespace(rel);
	List	   *partitions = NIL;

	for (int i = 0; desc->nparts > 0 && i < bounds->ndatums; i++)
	{
		Oid			oid = bounds->indexes[i] < 0 ? InvalidOid : desc->oids[bounds->indexes[i]];
		PlatPartition *partition;

		if (get_rel_namespace(oid) != schema)
			continue;
		partition = palloc0(sizeof(PlatPartition));
		partition->name = get_rel_name(oid);
		partition->span.start = i > 0 ? moment_of(bounds, i - 1) : DT_NOBEGIN;
		partition->span.end = moment_of(bounds, i);
		if (partition->name)
			partitions = lappend(partitions, partition);
	}
	table_close(rel, NoLock);
	return partitions;
}

/*
 * The partitions that have to be made ahead of time, so that no append has to.
 * SPI is connected, and the log is locked.
 */
static List *
plan_ahead(Oid log)
{
	TimestampTz when = GetCurrentTimestamp();
	List	   *partitions = NIL;

	for (int i = 0; i < AHEAD && when != DT_NOEND; i++)
	{
		PlatPartition *partition = palloc0(sizeof(PlatPartition));

		partition->is_planned = !find_span(log, when, &partition->span);
		if (partition->is_planned)
		{
			partition->name = plan_span(when, &partition->span);
			partitions = lappend(partitions, partition);
		}
		/* Where it ends, the next one begins. */
		when = partition->span.end;
	}
	return partitions;
}

/*
 * Make a partition that was planned; returns what it is called, or NULL if
 * somebody has made it meanwhile.  SPI is connected, and the user is the owner
 * of the log.
 */
char *
plat_event_make_partition(Oid log, const PlatPartition *partition)
{
	return ensure_partition(log, partition->span.start);
}

/*
 * Whether a partition is older than events are kept.
 */
static bool
is_over(const PlatPartition *partition)
{
	return plat_event_retention >= 0 &&
		partition->span.end <= GetCurrentTimestamp() -
		plat_event_retention * USECS_PER_MINUTE;
}

/*
 * Whether a reader has yet to see events of a partition, as far as they are
 * committed now.  Events of earlier partitions may have later positions.
 */
static bool
is_unread(const char *name)
{
	const char *query = psprintf("SELECT FROM platpat.%s WHERE position >"
								 " (SELECT min(position) FROM"
								 "  (SELECT s.position FROM platpat.projection_positions s"
								 "    JOIN platpat.projections p USING (projection) WHERE p.mode = 'async'"
								 "   UNION ALL SELECT position FROM platpat.event_consumers) r) LIMIT 1",
								 quote_identifier(name));
	bool		found;

	PushActiveSnapshot(GetLatestSnapshot());
	found = plat_sql_read("events", query, 0, NULL, NULL) > 0;
	PopActiveSnapshot();
	return found;
}

/*
 * The partitions that there should be, those among them that are to be made
 * marked as planned.
 *
 * Those that there are stay while retention or a reader keeps them, all of them
 * while a restore fills the log.  For a log without events none is made: it may
 * be one whose partitions a restore is about to bring.  SPI is connected, the
 * user is the owner of the log, and the log is locked.
 */
List *
plat_event_desired_partitions(Oid log)
{
	List	   *present = plat_event_list_partitions(log);
	List	   *desired = NIL;
	ListCell   *cell;

	if (!plat_event_log_is_whole(log))
		return present;
	foreach(cell, present)
	{
		PlatPartition *partition = lfirst(cell);

		if (!is_over(partition) || is_unread(partition->name))
			desired = lappend(desired, partition);
	}
	if (plat_sql_query("SELECT FROM platpat.events LIMIT 1", 0, NULL, NULL, NULL) > 0)
		desired = list_concat(desired, plan_ahead(log));
	return desired;
}

/* A partition that is dropped, for plat_attempt(). */
typedef struct Dropping
{
	const char *name;
	bool		is_kept;
} Dropping;

/*
 * Drop a partition, and note that, unless it cannot be after all, because a
 * transaction has committed events that it had appended long ago.
 */
static void
drop_partition(Dropping *dropping)
{
	const char *table = psprintf("platpat.%s", quote_identifier(dropping->name));

	plat_sql_run("LOCK TABLE ONLY platpat.events IN ACCESS EXCLUSIVE MODE");
	dropping->is_kept = is_unread(dropping->name);
	if (dropping->is_kept)
		return;
	(void) plat_sql_query(psprintf("INSERT INTO platpat.event_drops"
								   " SELECT %s, coalesce(max(position), 0) FROM %s",
								   quote_literal_cstr(dropping->name), table),
						  0, NULL, NULL, NULL);
	plat_sql_run(psprintf("DROP TABLE %s", table));
}

/*
 * The same, but give up at once if somebody uses the log, because appending
 * would have to wait behind us.
 */
static void
drop_at_once(void *arg)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", "100ms", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	drop_partition(arg);
	AtEOXact_GUC(false, level);
}

/*
 * Drop a partition that is over, unless that needs somebody to be waited for:
 * then the result is an error with 55P03, and NULL without one.  *is_kept is
 * whether it was left for readers.  SPI is connected, and the user is the
 * owner of the log.
 */
ErrorData *
plat_event_drop_partition(const char *name, bool *is_kept)
{
	Dropping	dropping = {.name = name};
	ErrorData  *error = plat_attempt(drop_at_once, &dropping);

	plat_heed_cancel(error);
	*is_kept = dropping.is_kept;
	return error;
}

/*
 * Add a row to the result of maintain_events().
 */
static void
put_action(FunctionCallInfo fcinfo, const char *object, const char *action)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = CStringGetTextDatum(object);
	values[1] = CStringGetTextDatum(action);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Make partitions ahead of time, also for a log without events.
 */
static void
make_ahead(Oid log, FunctionCallInfo fcinfo)
{
	ListCell   *cell;

	foreach(cell, plan_ahead(log))
	{
		char	   *name = plat_event_make_partition(log, lfirst(cell));

		if (name)
			put_action(fcinfo, name, "create partition");
	}
}

/*
 * Drop a partition; returns what has become of it.
 */
static const char *
try_drop(const char *name)
{
	bool		is_kept;
	ErrorData  *error = plat_event_drop_partition(name, &is_kept);

	if (error == NULL)
		return is_kept ? "keep for readers" : "drop partition";
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ?
		"in use, left for later" :
		psprintf("cannot be dropped: %s", error->message);
}

/*
 * Drop the partitions that retention no longer keeps: older, and of which
 * every projection and consumer has seen all events.
 */
static void
drop_old(Oid log, FunctionCallInfo fcinfo)
{
	ListCell   *cell;

	foreach(cell, plat_event_list_partitions(log))
	{
		PlatPartition *partition = lfirst(cell);

		if (is_over(partition))
			put_action(fcinfo, partition->name, is_unread(partition->name) ?
					   "keep for readers" : try_drop(partition->name));
	}
}

/*
 * Forget the answers to commands that are older than a day; returns how many
 * there were.  SPI is connected.
 */
uint64
plat_event_forget_answers(void)
{
	return plat_sql_as_owner("command_results",
							 "DELETE FROM platpat.command_results"
							 " WHERE created_at < now() - interval '24 hours'",
							 0, NULL, NULL, NULL);
}

/*
 * platpat.maintain_events() returns table (object text, action text):
 * VOLATILE, for administrators.
 *
 * What the worker does by itself; without one call it every day.
 */
Datum
plat_event_maintain(PG_FUNCTION_ARGS)
{
	Oid			log = plat_our_table("events");
	Oid			user;
	int			context;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	user = plat_sql_become_owner(log, &context);
	LockRelationOid(log, AccessShareLock);
	if (plat_event_log_is_whole(log))
	{
		make_ahead(log, fcinfo);
		drop_old(log, fcinfo);
	}
	SetUserIdAndSecContext(user, context);
	if (plat_event_forget_answers() > 0)
		put_action(fcinfo, "command_results", "forget answers");
	SPI_finish();
	return (Datum) 0;
}
