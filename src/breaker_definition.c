/*
 * breaker_definition.c
 *		The rules of a circuit breaker, from a row of platpat.breakers.
 *
 * Nothing here is shared.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "config_table.h"
#include "sql.h"

/*
 * A time of a row: 22023 unless it is positive and at most 100 years.
 */
static uint64
time_of(Relation rel, HeapTuple row, const char *column, uint64 missing)
{
	Datum		value;
	double		ns;

	if (!plat_column(rel, row, column, &value))
		return missing;
	ns = plat_interval_ns(DatumGetIntervalP(value));
	if (!(ns > 0 && ns <= (double) PLAT_MAX_INTERVAL_NS))
		plat_refuse_value(psprintf("%s is out of range", column),
						  "It is a positive interval of at most 100 years.");
	return (uint64) ns;
}

/*
 * A rate of a row: 22023 unless it is a share; above 1 if there is none.
 */
static double
rate_of(Relation rel, HeapTuple row, const char *column)
{
	Datum		value;
	double		rate;

	if (!plat_column(rel, row, column, &value))
		return 2;
	rate = DatumGetFloat8(value);
	if (!(rate > 0 && rate <= 1))
		plat_refuse_value(psprintf("%s is %g", column, rate),
						  "It is a share of calls, above 0 and at most 1.");
	return rate;
}

/*
 * One element of failure_states: a class of two characters, or a whole
 * SQLSTATE. 22023 for anything else.
 */
static int
state_of(const char *state)
{
	size_t		len = strlen(state);

	if ((len != 2 && len != 5) ||
		strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != len)
		plat_refuse_value(psprintf("\"%s\" in failure_states is no SQLSTATE",
								   plat_clip(state)),
						  "It has five digits or upper case letters, or the first two of them for a class.");
	return len == 2 ? MAKE_SQLSTATE(state[0], state[1], '0', '0', '0') :
		MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

/*
 * Read failure_states of a row.
 */
static void
read_states(PlatBreakerDefinition *definition, Relation rel, HeapTuple row)
{
	Datum		value;
	Datum	   *elements;
	bool	   *nulls;

	if (!plat_column(rel, row, "failure_states", &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("failure_states must not be null")));
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &definition->nstates);
	if (definition->nstates > PLAT_FAILURE_STATES)
		plat_refuse_value("failure_states has too many elements",
						  psprintf("It has at most %d.", PLAT_FAILURE_STATES));
	for (int i = 0; i < definition->nstates; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("failure_states must not contain nulls")));
		definition->states[i] = state_of(TextDatumGetCString(elements[i]));
	}
}

/*
 * Raise 22023 for rules that do not go together.
 */
static void
check_rules(const PlatBreakerRules *rules, bool has_max_timeout)
{
	bool		has_rate = rules->failure_rate <= 1 || rules->slow_rate <= 1;

	if (has_rate && rules->window == 0)
		plat_refuse_value("a rate needs a failure_window",
						  "Without a window failures in a row are counted.");
	if (rules->slow_rate <= 1 && rules->slow_call == 0)
		plat_refuse_value("slow_rate needs a slow_call",
						  "That is the time from which on a call is slow.");
	if (!(rules->backoff >= 1 && rules->backoff <= 1000))
		plat_refuse_value(psprintf("backoff is %g", rules->backoff),
						  "It is a factor from 1 to 1000.");
	if (has_max_timeout && rules->max_timeout < rules->timeout)
		plat_refuse_value("max_timeout is less than timeout",
						  "It bounds what timeout grows to.");
}

/*
 * Raise 22004 for what must have a value and has none.
 */
static void
refuse_missing(Relation rel, HeapTuple row)
{
	static const char *const columns[] = {"timeout", "probe_timeout", "backoff"};
	Datum		unused;

	for (int i = 0; i < lengthof(columns); i++)
		if (!plat_column(rel, row, columns[i], &unused))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", columns[i])));
}

/*
 * Fill a definition from a row of platpat.breakers.
 */
void
plat_breaker_compile(PlatNamed *head, Relation rel, HeapTuple row)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *) head;
	PlatBreakerRules *rules = &definition->rules;
	Datum		unused;
	Datum		backoff;
	bool		has_max_timeout = plat_column(rel, row, "max_timeout", &unused);

	rules->failure_threshold = plat_column_number(rel, row, "failure_threshold", 1, PG_INT32_MAX);
	rules->timeout = time_of(rel, row, "timeout", 0);
	rules->window = time_of(rel, row, "failure_window", 0);
	rules->failure_rate = rate_of(rel, row, "failure_rate");
	rules->minimum_calls = plat_column_number(rel, row, "minimum_calls", 1, PG_INT32_MAX);
	rules->slow_call = time_of(rel, row, "slow_call", 0);
	rules->slow_rate = rate_of(rel, row, "slow_rate");
	rules->half_open_calls = plat_column_number(rel, row, "half_open_calls", 1, PLAT_BREAKER_LEASES);
	rules->success_threshold = plat_column_number(rel, row, "success_threshold", 1, PG_INT32_MAX);
	rules->probe_timeout = time_of(rel, row, "probe_timeout", 0);
	rules->backoff = plat_column(rel, row, "backoff", &backoff) ?
		DatumGetFloat8(backoff) : 0;
	rules->max_timeout = time_of(rel, row, "max_timeout", PLAT_MAX_INTERVAL_NS);
	refuse_missing(rel, row);
	check_rules(rules, has_max_timeout);
	read_states(definition, rel, row);
}
