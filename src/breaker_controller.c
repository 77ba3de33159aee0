/*
 * breaker_controller.c
 *		Circuit breakers as controller "breakers" sees them.
 *
 * Shared memory knows nothing of a breaker's rules, so all that can differ is
 * that it has a state for one that is gone.  Its entry is found and freed by
 * named.c, which has the locks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "breaker.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(plat_breaker_orphans);
PG_FUNCTION_INFO_V1(plat_breaker_apply);

/*
 * platpat.breaker_orphans() returns table (key text, spec jsonb): VOLATILE, for
 * pg_monitor and administrators.
 *
 * The ids in shared memory whose breakers are gone; none without shared
 * memory.
 */
Datum
plat_breaker_orphans(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	plat_named_put_orphans(&plat_breakers, fcinfo);
	return (Datum) 0;
}

/*
 * platpat.apply_breaker(key text, desired jsonb, actual jsonb) returns void:
 * VOLATILE, for controller "breakers".
 *
 * Forgets the state of a breaker that is gone.  Raises 22004 and 22P02.
 */
Datum
plat_breaker_apply(PG_FUNCTION_ARGS)
{
	plat_refuse_null(fcinfo, 0, "key");
	if (PG_ARGISNULL(1))
		plat_named_free_orphan(&plat_breakers,
							   text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}
