/*
 * controller_wait.c
 *		Waiting for a controller to be Ready.
 *
 * Nothing here is shared: who waits wakes the worker, and looks at what it has
 * committed from time to time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "controller.h"
#include "sql.h"
#include "worker.h"

/* Milliseconds between two looks: first, and most. */
#define FIRST_LOOK_MS 1
#define LAST_LOOK_MS 50

PG_FUNCTION_INFO_V1(plat_controller_wait_ready);

/*
 * Whether a pass that began after a moment has found a controller Ready, by
 * what is committed now.  42704 if there is none, 55000 if it rests and so
 * will not be Ready by itself.
 */
static bool
is_ready(const char *name, TimestampTz since)
{
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {CStringGetTextDatum(name), TimestampTzGetDatum(since)};
	char	   *status = NULL;
	bool		is_new = false;

	PushActiveSnapshot(GetLatestSnapshot());
	if (plat_sql_read("controllers",
					  "SELECT v.status, coalesce(s.started_at >= $2, false) FROM platpat.controller_status v"
					  " LEFT JOIN platpat.controller_states s USING (controller) WHERE v.controller = $1",
					  2, types, values) > 0)
	{
		status = plat_sql_value(0, 1);
		is_new = plat_sql_value(0, 2)[0] == 't';
	}
	PopActiveSnapshot();
	if (status == NULL)
		plat_controller_missing(name);
	if (strcmp(status, "Paused") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("controller \"%s\" is paused", plat_clip(name)),
				 errhint("platpat.alter_controller(controller, paused => false) has it go on.")));
	SPI_freetuptable(SPI_tuptable);
	return is_new && strcmp(status, "Ready") == 0;
}

/*
 * platpat.wait_ready(controller text, timeout interval) returns boolean:
 * VOLATILE, for administrators.
 *
 * What the caller has not committed yet nobody can wait for. Raises 22004,
 * 22023, 42704, and 55000 for a controller that is paused.
 */
Datum
plat_controller_wait_ready(PG_FUNCTION_ARGS)
{
	char	   *name = plat_controller_name(fcinfo);
	TimestampTz since = GetCurrentTimestamp();
	uint64		start = plat_clock();
	long		pause = FIRST_LOOK_MS;
	double		timeout;
	bool		ready;

	plat_refuse_null(fcinfo, 1, "timeout");
	timeout = plat_interval_ns(PG_GETARG_INTERVAL_P(1));
	if (!(timeout >= 0) || timeout > (double) PLAT_MAX_INTERVAL_NS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be between 0 and 100 years")));
	SPI_connect();
	plat_worker_wake_database(name);
	while (!(ready = is_ready(name, since)) && plat_clock() - start < timeout)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause = Min(pause * 2, LAST_LOOK_MS);
	}
	SPI_finish();
	PG_RETURN_BOOL(ready);
}
