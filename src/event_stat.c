/*
 * event_stat.c
 *		Figures of the event log for metrics().
 *
 * They are read from the tables of the current database; nothing is shared.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"

#include "compat.h"
#include "event.h"
#include "metrics.h"
#include "sql.h"

/*
 * Add the rows of a query: the name of a figure, of a projection or consumer,
 * and the value.  kind is the label.
 */
static void
put_query(PlatMetrics *metrics, const char *table, const char *query,
		  const char *kind, const char *name, const char *help)
{
	uint64		rows = plat_sql_as_owner(table, query, 0, NULL, NULL, NULL);

	for (uint64 i = 0; i < rows; i++)
		plat_put_metric(metrics, name,
						plat_metric_labels(kind, plat_sql_value(i, 1), NULL, NULL),
						"gauge", strtod(plat_sql_value(i, 2), NULL), help);
}

/*
 * Add this module's figures to metrics(), for the current database.
 */
void
plat_event_put_metrics(PlatMetrics *metrics)
{
	SPI_connect();
	plat_put_metric(metrics, "platpat_event_position", "{}", "counter",
					(double) plat_event_last(),
					"Last position given to an event.");
	put_query(metrics, "projections",
			  "SELECT projection, lag FROM platpat.stat_projections ORDER BY 1",
			  "projection", "platpat_projection_lag",
			  "Positions that a projection is behind.");
	put_query(metrics, "projections",
			  "SELECT projection, coalesce(extract(epoch FROM lag_time), 0)"
			  " FROM platpat.stat_projections ORDER BY 1",
			  "projection", "platpat_projection_lag_seconds",
			  "Age of the first event that a projection has not looked at.");
	put_query(metrics, "projections",
			  "SELECT projection, (status = 'running')::int FROM platpat.stat_projections ORDER BY 1",
			  "projection", "platpat_projection_running",
			  "1 unless a projection is paused, has stopped or fails.");
	put_query(metrics, "projections",
			  "SELECT projection, dead_events FROM platpat.stat_projections ORDER BY 1",
			  "projection", "platpat_dead_events",
			  "Events that a projection has put aside.");
	put_query(metrics, "event_consumers",
			  "SELECT consumer, lag FROM platpat.stat_consumers ORDER BY 1",
			  "consumer", "platpat_consumer_lag",
			  "Positions that a consumer is behind.");
	SPI_finish();
}
