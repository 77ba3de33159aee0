/*
 * event_read.c
 *		How far the log may be read, and consumers outside of the database.
 *
 * A reader's watermark is computed from the locks on the log, by the rule of
 * event_core.c.  What a backend remembers of its last look is its own, and how
 * far it has come it tells others in shared memory, see event_wait.c.  Looking
 * takes the partition locks of the lock manager for as long as pg_locks would,
 * and waits for nobody.
 *
 * A transaction's locks go after it has become visible, or not, to snapshots
 * that are taken from then on.  So whoever reads by a watermark has to take
 * the snapshot after it, which transactions with a fixed one cannot.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/wait_event.h"

#include "array.h"
#include "compat.h"
#include "event.h"
#include "event_core.h"
#include "sql.h"

/* Milliseconds between two looks while it has patience with writers. */
#define NAP 2

PG_FUNCTION_INFO_V1(plat_event_watermark);
PG_FUNCTION_INFO_V1(plat_event_last_position);
PG_FUNCTION_INFO_V1(plat_event_fetch);
PG_FUNCTION_INFO_V1(plat_event_ack);
PG_FUNCTION_INFO_V1(plat_event_drop_consumer);

/* What this backend has seen at its last look, at the log of this database. */
static PlatWatermark seen;
static int	max_seen = 0;		/* room for writers */
static Oid	seen_log = InvalidOid;

/*
 * The last position that was drawn, committed or not; 0 for none.
 */
int64
plat_event_last(void)
{
	Oid			sequence = plat_our_table("event_position");

	LOCAL_FCINFO(fcinfo, 1);
	Oid			user;
	int			context;
	Datum		last;

	user = plat_sql_become_owner(sequence, &context);
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	last = pg_sequence_last_value(fcinfo);
	SetUserIdAndSecContext(user, context);
	return fcinfo->isnull ? 0 : DatumGetInt64(last);
}

/*
 * What is known to be decided when nothing else is: some reader has passed
 * it.  Everybody's positions come from marks.
 */
static int64
known_mark(Oid log)
{
	(void) plat_sql_as_owner("projection_positions",
							 "SELECT coalesce(max(position), 0)"
							 " FROM platpat.projection_positions",
							 0, NULL, NULL, NULL);
	return Max(pg_strtoint64(plat_sql_value(0, 1)), plat_event_told_mark(log));
}

/*
 * The transactions that may still write the log, in the current memory
 * context, but for this one.  A prepared transaction keeps the id that it
 * had, except over a restart, when it gets another.
 */
static PlatWriter *
list_writers(Oid log, int *count)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	PlatWriter *writers;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, log);
	holders = GetLockConflicts(&tag, ShareLock, count);
	writers = palloc(sizeof(PlatWriter) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		writers[i].id = (uint64) (uint32) plat_vxid_owner(holders[i]) << 32 |
			holders[i].localTransactionId;
		writers[i].is_renamed =
			VirtualTransactionIdIsRecoveredPreparedXact(holders[i]);
	}
	return writers;
}

/*
 * Remember a look for the next one.
 */
static void
remember(int64 drawn, int64 mark, const PlatWriter *writers, int nwriters)
{
	seen.nwriters = 0;
	for (int i = 0; i < nwriters; i++)
	{
		seen.writers = plat_array_reserve(seen.writers, seen.nwriters,
										  &max_seen, sizeof(PlatWriter));
		seen.writers[seen.nwriters++] = writers[i];
	}
	seen.drawn = drawn;
	seen.mark = mark;
}

/*
 * Look at the log once; returns the mark, and whether it is short of what was
 * drawn.
 *
 * This transaction's own events are visible to it, and so below the mark.  But
 * they are not decided, so such a look is not remembered.  Nor is one while
 * somebody makes a partition, whose events this session would not find.
 */
static int64
look(Oid log, bool *is_held)
{
	int64		drawn = plat_event_last();
	int			nwriters;
	PlatWriter *writers = list_writers(log, &nwriters);
	int64		mark = seen.mark;

	if (plat_event_knows_partitions(log))
	{
		mark = plat_watermark_mark(&seen, drawn, writers, nwriters);
		if (!plat_locks_relation(log, RowExclusiveLock))
		{
			remember(drawn, mark, writers, nwriters);
			plat_event_tell_mark(log, mark);
		}
	}
	pfree(writers);
	*is_held = mark < drawn;
	return mark;
}

/*
 * Raise unless the caller can read by a watermark: 25006 on a standby, which
 * does not know of the primary's locks, and 0A000 in a transaction whose
 * snapshot is older than the mark would be, and 55000 while the log is being
 * restored.
 */
void
plat_event_check_reader(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot read events by position during recovery"),
				 errhint("Call this on the primary.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read events by position at this isolation level"),
				 errdetail("The snapshot of the transaction is older than the positions that it would read up to."),
				 errhint("Use READ COMMITTED.")));
	if (!plat_event_log_is_whole(plat_our_table("events")))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event log is being restored"),
				 errdetail("A partition of platpat.events does not have its trigger yet.")));
}

/*
 * The position up to which the log is decided: whatever is at or below it is
 * visible to snapshots taken from now on, or never will be to anybody.
 *
 * A backend that looks for the first time does not know since when the
 * writers that it finds have been there.  It looks again until they are gone,
 * but for so many milliseconds at most.  What other readers know counts, too:
 * one that has not looked for long may know less.  SPI is connected.
 */
int64
plat_event_mark(long patience)
{
	Oid			log = plat_our_table("events");
	bool		is_first = seen_log != log;
	int64		mark;
	int64		goal = 0;
	bool		is_held;

	plat_event_check_reader();
	if (is_first)
	{
		seen.drawn = 0;
		seen.nwriters = 0;
		seen.mark = known_mark(log);
		seen_log = log;
		goal = plat_event_last();
	}
	mark = look(log, &is_held);
	for (; is_first && mark < goal && patience > 0; patience -= NAP)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 NAP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		mark = look(log, &is_held);
	}
	if (is_held)
		mark = Max(mark, known_mark(log));
	/* Who has told of a mark knew the partitions below it, and so must we. */
	AcceptInvalidationMessages();
	return mark;
}

/*
 * platpat.event_watermark() returns bigint: VOLATILE, for administrators.
 *
 * Raises 25006 and 0A000.
 */
Datum
plat_event_watermark(PG_FUNCTION_ARGS)
{
	int64		mark;

	SPI_connect();
	mark = plat_event_mark(100);
	SPI_finish();
	PG_RETURN_INT64(mark);
}

/*
 * platpat.last_position() returns bigint: VOLATILE, for PUBLIC. Never raises.
 */
Datum
plat_event_last_position(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(plat_event_last());
}

/*
 * What a consumer has acknowledged; a new one is made and has nothing. The
 * name is of type text.
 */
static int64
consumer_position(Datum consumer)
{
	Oid			types[] = {TEXTOID};

	if (plat_sql_as_owner("event_consumers",
						  "SELECT position FROM platpat.event_consumers WHERE consumer = $1",
						  1, types, &consumer, NULL) > 0)
		return pg_strtoint64(plat_sql_value(0, 1));
	(void) plat_sql_as_owner("event_consumers",
							 "INSERT INTO platpat.event_consumers VALUES ($1, 0)"
							 " ON CONFLICT DO NOTHING",
							 1, types, &consumer, NULL);
	return 0;
}

/*
 * Add the rows of the last query to the result of the function.
 */
static void
put_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
}

/*
 * platpat.fetch_events(consumer text, max_events int) returns a row per
 * event: VOLATILE, for roles that were granted EXECUTE.
 *
 * The events after what the consumer has acknowledged, in order, at most so
 * many; none is skipped, and none comes that an earlier one could still
 * precede.  It reads as the caller, so policies apply.  Raises 0A000, 22004,
 * 22023, 25006 and 42501.
 */
Datum
plat_event_fetch(PG_FUNCTION_ARGS)
{
	Oid			types[] = {INT8OID, INT8OID, INT4OID};
	Datum		values[3];
	char	   *consumer = plat_event_name(fcinfo, 0, "consumer");

	plat_refuse_null(fcinfo, 1, "max_events");
	if (PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be at least 1")));
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	values[0] = Int64GetDatum(consumer_position(CStringGetTextDatum(consumer)));
	values[1] = Int64GetDatum(plat_event_mark(100));
	values[2] = PG_GETARG_DATUM(1);
	(void) plat_sql_query("SELECT position, id, aggregatetype, aggregateid, version,"
						  " type, payload, tenant, metadata, created_at"
						  " FROM platpat.events"
						  " WHERE position > $1 AND position <= $2"
						  " ORDER BY position LIMIT $3",
						  3, types, values, NULL);
	put_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/*
 * platpat.ack_events(consumer text, up_to bigint) returns bigint: VOLATILE,
 * for roles that were granted EXECUTE.
 *
 * Acknowledging again, or less, changes nothing.  Raises 22004, 42704, and
 * 22023 for a position that nothing has been fetched from yet.
 */
Datum
plat_event_ack(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT8OID};
	char	   *consumer = plat_event_name(fcinfo, 0, "consumer");
	Datum		values[2];
	int64		position;

	plat_refuse_null(fcinfo, 1, "up_to");
	SPI_connect();
	/* Sessions tell each other their marks, so another one may have fetched. */
	if (PG_GETARG_INT64(1) > plat_event_mark(100))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position " INT64_FORMAT " cannot have been fetched",
						PG_GETARG_INT64(1))));
	values[0] = CStringGetTextDatum(consumer);
	values[1] = PG_GETARG_DATUM(1);
	if (plat_sql_as_owner("event_consumers",
						  "UPDATE platpat.event_consumers"
						  " SET position = greatest(position, $2), acked_at = clock_timestamp()"
						  " WHERE consumer = $1 RETURNING position",
						  2, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer \"%s\" does not exist", consumer),
				 errhint("The first platpat.fetch_events(consumer) makes it.")));
	position = pg_strtoint64(plat_sql_value(0, 1));
	SPI_finish();
	PG_RETURN_INT64(position);
}

/*
 * platpat.drop_consumer(consumer text) returns void: VOLATILE, for roles that
 * were granted EXECUTE. Raises 22004 and 42704.
 */
Datum
plat_event_drop_consumer(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID};
	char	   *consumer = plat_event_name(fcinfo, 0, "consumer");
	Datum		values[] = {CStringGetTextDatum(consumer)};

	SPI_connect();
	if (plat_sql_as_owner("event_consumers",
						  "DELETE FROM platpat.event_consumers WHERE consumer = $1",
						  1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer \"%s\" does not exist", consumer)));
	SPI_finish();
	PG_RETURN_VOID();
}
