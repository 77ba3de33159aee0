/*
 * controller_stat.c
 *		Figures of controllers for metrics().
 *
 * They are read from the tables of the current database; nothing is shared.
 */
#include "postgres.h"

#include "executor/spi.h"

#include "controller.h"
#include "metrics.h"
#include "sql.h"

/* The figures, in the order of the query's columns. */
static const struct
{
	const char *name;
	const char *type;
	const char *help;
}			figures[] = {
	{"platpat_controller_ready", "gauge", "1 if what is, is as a controller wants it."},
	{"platpat_controller_failed", "gauge", "1 if a controller cannot make it so."},
	{"platpat_controller_paused", "gauge", "1 if a controller rests."},
	{"platpat_controller_keys", "gauge", "Keys that a controller looks after."},
	{"platpat_controller_drift", "gauge", "Keys that differ."},
	{"platpat_controller_failing", "gauge", "Keys whose repair has failed."},
	{"platpat_controller_contested", "gauge", "Keys that are repaired again and again."},
	{"platpat_controller_found_total", "counter", "Differences that were found."},
	{"platpat_controller_repaired_total", "counter", "Differences that were repaired."},
	{"platpat_controller_age_seconds", "gauge", "Time since a controller has compared, -1 for never."},
};

/*
 * Add this module's figures to metrics(), for the current database.
 */
void
plat_controller_put_metrics(PlatMetrics *metrics)
{
	uint64		rows;

	SPI_connect();
	rows = plat_sql_as_owner("controllers",
							 "SELECT controller, (status = 'Ready')::int, (status = 'Failed')::int,"
							 " (status = 'Paused')::int, keys, drift, failing, contested, found, repaired,"
							 " coalesce(extract(epoch FROM clock_timestamp() - last_reconciled), -1)"
							 " FROM platpat.controller_status ORDER BY controller",
							 0, NULL, NULL, NULL);
	for (int figure = 0; figure < lengthof(figures); figure++)
		for (uint64 i = 0; i < rows; i++)
			plat_put_metric(metrics, figures[figure].name,
							plat_metric_labels("controller", plat_sql_value(i, 1), NULL, NULL),
							figures[figure].type,
							strtod(plat_sql_value(i, figure + 2), NULL),
							figures[figure].help);
	SPI_finish();
}
