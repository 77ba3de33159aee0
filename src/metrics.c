/*
 * metrics.c
 *		platpat.metrics() and platpat.reset_stats(): figures for exporters.
 *
 * Which figures there are is up to the modules. Nothing here is shared.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "metrics.h"
#include "shmem.h"

/* The rows of one call. */
struct PlatMetrics
{
	ReturnSetInfo *result;
};

static const PlatModule *const *all_modules = NULL;

PG_FUNCTION_INFO_V1(plat_metrics);
PG_FUNCTION_INFO_V1(plat_reset_stats);

/*
 * Called once by the library's init with the table of modules, closed by
 * NULL; it is not copied.
 */
void
plat_metrics_init(const PlatModule *const *modules)
{
	all_modules = modules;
}

/*
 * Add a row: a name in the style of Prometheus, labels as a JSON object,
 * "counter" or "gauge", the value, and what it says.
 */
void
plat_put_metric(PlatMetrics *metrics, const char *name, const char *labels,
				const char *type, double value, const char *help)
{
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = CStringGetTextDatum(name);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(labels));
	values[2] = CStringGetTextDatum(type);
	values[3] = Float8GetDatum(value);
	values[4] = CStringGetTextDatum(help);
	tuplestore_putvalues(metrics->result->setResult, metrics->result->setDesc,
						 values, nulls);
}

/*
 * The labels of a figure about a thing that users have named: its kind and
 * name, and one more label unless that is NULL.
 */
char *
plat_metric_labels(const char *kind, const char *name,
				   const char *label, const char *value)
{
	StringInfoData labels;

	initStringInfo(&labels);
	appendStringInfo(&labels, "{\"%s\": ", kind);
	escape_json(&labels, name);
	if (label)
		appendStringInfo(&labels, ", \"%s\": \"%s\"", label, value);
	appendStringInfoChar(&labels, '}');
	return labels.data;
}

/*
 * platpat.metrics() returns table (name text, labels jsonb, type text, value
 * float8, help text): VOLATILE, for pg_monitor and administrators. Raises
 * 55000 without shared memory.
 */
Datum
plat_metrics(PG_FUNCTION_ARGS)
{
	PlatMetrics metrics;

	plat_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	metrics.result = (ReturnSetInfo *) fcinfo->resultinfo;
	for (int i = 0; all_modules[i]; i++)
		if (all_modules[i]->put_metrics)
			all_modules[i]->put_metrics(&metrics);
	return (Datum) 0;
}

/*
 * platpat.reset_stats() returns void: VOLATILE, for administrators.
 *
 * Sets what is counted for the current database to 0; limits go on as they
 * are. Raises 55000.
 */
Datum
plat_reset_stats(PG_FUNCTION_ARGS)
{
	plat_shmem_require();
	for (int i = 0; all_modules[i]; i++)
		if (all_modules[i]->reset_stats)
			all_modules[i]->reset_stats();
	PG_RETURN_VOID();
}
