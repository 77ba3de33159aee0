/*
 * event_controller.c
 *		The partitions of the event log as controller "event_partitions" sees
 *		them.
 *
 * What there should be, and how it is made and dropped, is up to
 * event_partition.c.  Nothing here is shared.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "event.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(plat_event_partitions);
PG_FUNCTION_INFO_V1(plat_event_apply_partition);

/* Whom to be again. */
typedef struct Caller
{
	Oid			user;
	int			context;
} Caller;

/*
 * Become the owner of the log and lock it, so that none of its partitions
 * goes; returns the log.
 */
static Oid
open_log(Caller *caller)
{
	Oid			log = plat_our_table("events");

	SPI_connect();
	caller->user = plat_sql_become_owner(log, &caller->context);
	LockRelationOid(log, AccessShareLock);
	return log;
}

/*
 * Be who we were. The lock stays until the transaction ends.
 */
static void
close_log(const Caller *caller)
{
	SetUserIdAndSecContext(caller->user, caller->context);
	SPI_finish();
}

/*
 * A moment as JSON has it, in UTC whatever the session's time zone.
 */
static char *
moment_text(TimestampTz when)
{
	static const int utc = 0;
	char		buffer[MAXDATELEN + 1];

	(void) JsonEncodeDateTime(buffer, TimestampTzGetDatum(when), TIMESTAMPTZOID, &utc);
	return pstrdup(buffer);
}

/*
 * Add a row of list_event_partitions().
 */
static void
put_partition(FunctionCallInfo fcinfo, const PlatPartition *partition)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *json = psprintf("{\"from\": \"%s\", \"to\": \"%s\"}",
								moment_text(partition->span.start),
								moment_text(partition->span.end));
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = CStringGetTextDatum(partition->name);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.list_event_partitions(desired boolean) returns table (key text, spec
 * jsonb): VOLATILE, for pg_monitor and administrators.
 *
 * The partitions of the log, those that there should be or those that there
 * are.  Raises 22004.
 */
Datum
plat_event_partitions(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Oid			log;
	List	   *partitions;
	ListCell   *cell;

	plat_refuse_null(fcinfo, 0, "desired");
	InitMaterializedSRF(fcinfo, 0);
	log = open_log(&caller);
	partitions = PG_GETARG_BOOL(0) ? plat_event_desired_partitions(log) :
		plat_event_list_partitions(log);
	foreach(cell, partitions)
		put_partition(fcinfo, lfirst(cell));
	close_log(&caller);
	return (Datum) 0;
}

/*
 * The partition of that name in a list, or NULL.
 */
static PlatPartition *
find_partition(List *partitions, const char *name)
{
	ListCell   *cell;

	foreach(cell, partitions)
	{
		PlatPartition *partition = lfirst(cell);

		if (strcmp(partition->name, name) == 0)
			return partition;
	}
	return NULL;
}

/*
 * Drop a partition that there should not be any more: 55P03 if somebody uses
 * the log.
 */
static void
drop(const char *name)
{
	bool		is_kept;
	ErrorData  *error = plat_event_drop_partition(name, &is_kept);

	if (error && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partition \"%s\" is in use", name),
				 errdetail("To drop it takes the whole log for a moment."),
				 errhint("It is tried again.")));
	if (error)
		ReThrowError(error);
}

/*
 * platpat.apply_event_partition(key text, desired jsonb, actual jsonb) returns
 * void: VOLATILE, for controller "event_partitions".
 *
 * Makes or drops the partition of that name, if it is to be made or dropped
 * still.  Raises 22004, 55P03, and what keeps a table from being dropped.
 */
Datum
plat_event_apply_partition(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Oid			log;
	char	   *name;
	List	   *desired;
	PlatPartition *planned = NULL;
	ListCell   *cell;

	plat_refuse_null(fcinfo, 0, "key");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	log = open_log(&caller);
	desired = plat_event_desired_partitions(log);
	foreach(cell, desired)
	{
		PlatPartition *partition = lfirst(cell);

		if (partition->is_planned && strcmp(partition->name, name) == 0)
			planned = partition;
	}
	if (planned)
		(void) plat_event_make_partition(log, planned);
	else if (!find_partition(desired, name) &&
			 find_partition(plat_event_list_partitions(log), name))
		drop(name);
	close_log(&caller);
	PG_RETURN_VOID();
}
