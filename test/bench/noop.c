/*
 * noop.c
 *		Functions that do nothing, with the signatures of those that are
 *		measured: what a call costs by itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(noop);
PG_FUNCTION_INFO_V1(noop_row);

Datum
noop(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/*
 * Returns a row with all columns of its result, each NULL: always the same
 * one, which the first call of the statement makes.
 */
Datum
noop_row(PG_FUNCTION_ARGS)
{
	HeapTuple	row = fcinfo->flinfo->fn_extra;

	if (row == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		Datum		values[4] = {0};
		bool		nulls[4] = {true, true, true, true};
		TupleDesc	desc;

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
			desc->natts != lengthof(nulls))
			elog(ERROR, "noop_row() must return four columns");
		row = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
		fcinfo->flinfo->fn_extra = row;
		MemoryContextSwitchTo(old);
	}
	return HeapTupleGetDatum(row);
}
