/*
 * breaker.c
 *		Circuit breakers that all backends share: settings of the module, and the
 *		SQL functions.
 *
 * A breaker's state is an entry of a directory in shared memory, guarded by
 * the entry's lock; breaker_state.c has what is done with it.  Nothing here is
 * undone by ROLLBACK: a call that failed has failed, and the transaction that
 * says so is likely to roll back.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "config_table.h"
#include "sql.h"
#include "worker.h"

/* platpat.breaker_entries */
static int	breaker_entries = 1024;

PG_FUNCTION_INFO_V1(plat_breaker_allow_call);
PG_FUNCTION_INFO_V1(plat_breaker_record_success);
PG_FUNCTION_INFO_V1(plat_breaker_record_failure);
PG_FUNCTION_INFO_V1(plat_breaker_get_state);
PG_FUNCTION_INFO_V1(plat_breaker_get_retry_after);
PG_FUNCTION_INFO_V1(plat_breaker_set_force);
PG_FUNCTION_INFO_V1(plat_breaker_create);
PG_FUNCTION_INFO_V1(plat_breaker_alter);
PG_FUNCTION_INFO_V1(plat_breaker_drop);
PG_FUNCTION_INFO_V1(plat_breaker_check_row);

/*
 * A channel is a name, or empty for none.
 */
static bool
check_channel(char **value, void **extra, GucSource source)
{
	if (*value == NULL || strlen(*value) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("Names of channels are shorter than %d bytes.",
						NAMEDATALEN);
	return false;
}

static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.breaker_entries",
							"Circuit breakers that shared memory has room for.",
							"2.3 kB each; breakers that are closed and have nothing to remember share.",
							&breaker_entries, 1024, 16, 1048576,
							preload ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("platpat.breaker_notify_channel",
							   "The channel that changes of circuit breakers are sent to.",
							   "Empty for none.",
							   &plat_breaker_channel, "", PGC_SUSET, 0,
							   check_channel, NULL, NULL);
}

static Size
shmem_size(void)
{
	return plat_named_size(&plat_breakers, breaker_entries);
}

static void
shmem_fill(void *part, Size size)
{
	plat_named_fill(&plat_breakers, part, size);
}

static void
shmem_adopt(void *part)
{
	plat_named_adopt(&plat_breakers, part);
	plat_breaker_watch_transactions();
}

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.create_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[])",
	"EXECUTE ON FUNCTION platpat.alter_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[])",
	"EXECUTE ON FUNCTION platpat.drop_breaker(text)",
	"EXECUTE ON FUNCTION platpat.force_breaker(text, text)",
	"EXECUTE ON FUNCTION platpat.breaker_stats()",
	"EXECUTE ON FUNCTION platpat.breaker_orphans()",
	"INSERT, UPDATE, DELETE ON platpat.breakers",
	"SELECT ON platpat.stat_breakers, platpat.desired_breakers, platpat.actual_breakers",
	NULL
};

const PlatModule plat_breaker_module = {
	.name = "breaker",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = shmem_size,
	.shmem_fill = shmem_fill,
	.shmem_adopt = shmem_adopt,
	.shmem_start = plat_breaker_start,
	.work = plat_breaker_work,
	.discard = plat_breaker_discard,
	.put_metrics = plat_breaker_put_metrics,
	.reset_stats = plat_breaker_reset_stats,
};

/*
 * platpat.allow_call(breaker text) returns boolean: VOLATILE, PARALLEL
 * RESTRICTED, for PUBLIC.
 *
 * Whether the call that the breaker guards may be made; in the half-open
 * state true is a lease. Raises 22004, 22023, 42704, 54000, 55000.
 */
Datum
plat_breaker_allow_call(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(plat_breaker_ask((PlatBreakerDefinition *)
									plat_named_arg(&plat_breakers, fcinfo)));
}

/*
 * Whether a call that took so long is slow; 22023 for a negative time.
 */
static bool
is_slow(FunctionCallInfo fcinfo, const PlatBreakerDefinition *definition)
{
	double		ns;

	if (PG_ARGISNULL(1))
		return false;
	ns = plat_interval_ns(PG_GETARG_INTERVAL_P(1));
	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("elapsed must not be negative")));
	return definition->rules.slow_call > 0 && ns >= definition->rules.slow_call;
}

/*
 * platpat.record_success(breaker text, elapsed interval) returns void: as
 * allow_call().
 *
 * The call was made and came back well, after so long. Without elapsed it was
 * not slow.
 */
Datum
plat_breaker_record_success(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);

	plat_breaker_tell(definition, is_slow(fcinfo, definition) ?
					  PLAT_CALL_PASSED_SLOWLY : PLAT_CALL_PASSED, NULL);
	PG_RETURN_VOID();
}

/*
 * platpat.record_failure(breaker text, error text) returns void: likewise.
 * The error is kept for people to read.
 */
Datum
plat_breaker_record_failure(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);

	plat_breaker_tell(definition, PLAT_CALL_FAILED, PG_ARGISNULL(1) ? NULL :
					  text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/*
 * platpat.breaker_state(breaker text) returns text: likewise. closed, open,
 * half_open or disabled, as it is now.
 */
Datum
plat_breaker_get_state(PG_FUNCTION_ARGS)
{
	const char *state;

	(void) plat_breaker_wait((PlatBreakerDefinition *)
							 plat_named_arg(&plat_breakers, fcinfo), &state);
	PG_RETURN_TEXT_P(cstring_to_text(state));
}

/*
 * platpat.breaker_retry_after(breaker text) returns interval: likewise. 0 if a
 * call would pass now, NULL if it is not up to time.
 */
Datum
plat_breaker_get_retry_after(PG_FUNCTION_ARGS)
{
	const char *state;
	uint64		wait = plat_breaker_wait((PlatBreakerDefinition *)
										 plat_named_arg(&plat_breakers, fcinfo), &state);

	if (wait == PLAT_BREAKER_NEVER)
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(plat_interval_from_ns(wait));
}

/*
 * The second argument as what a breaker can be forced to: 22004, 22023.
 */
static PlatBreakerForce
force_arg(FunctionCallInfo fcinfo)
{
	static const char *const words[] = {"auto", "open", "closed", "disabled"};
	char	   *word;

	plat_refuse_null(fcinfo, 1, "state");
	word = text_to_cstring(PG_GETARG_TEXT_PP(1));
	for (int i = 0; i < lengthof(words); i++)
		if (strcmp(word, words[i]) == 0)
			return (PlatBreakerForce) i;
	plat_refuse_value(psprintf("a breaker cannot be forced to \"%s\"",
							   plat_clip(word)),
					  "It is open, closed, disabled or auto.");
	return PLAT_FORCE_AUTO;
}

/*
 * platpat.force_breaker(breaker text, state text) returns void: for
 * administrators.
 *
 * Holds the breaker open or closed or disables it, until "auto" lets it go.
 * Raises 22004, 22023, 42704, 54000, 55000.
 */
Datum
plat_breaker_set_force(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);
	PlatBreakerForce force = force_arg(fcinfo);
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared = plat_breaker_lock_hard(definition, &moves);

	plat_breaker_force(&shared->breaker, force, plat_clock(), &moves);
	plat_breaker_unlock(definition, &moves);
	plat_worker_wake(&plat_breaker_module);
	PG_RETURN_VOID();
}

/*
 * platpat.create_breaker(...) returns void: for administrators; the arguments
 * are the columns of platpat.breakers. Raises 22004, 22023, 42710.
 */
Datum
plat_breaker_create(PG_FUNCTION_ARGS)
{
	plat_named_create(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.alter_breaker(...) returns void: likewise; NULL leaves a column as
 * it is. Raises 22004, 22023, 42704.
 */
Datum
plat_breaker_alter(PG_FUNCTION_ARGS)
{
	plat_named_alter(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.drop_breaker(breaker text) returns void: likewise. Raises 22004,
 * 22023, 42704.
 */
Datum
plat_breaker_drop(PG_FUNCTION_ARGS)
{
	plat_named_drop(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.breakers.
 */
Datum
plat_breaker_check_row(PG_FUNCTION_ARGS)
{
	(void) plat_named_check_row(&plat_breakers, fcinfo);
	return PointerGetDatum(plat_trigger_row(plat_trigger_data(fcinfo)));
}
