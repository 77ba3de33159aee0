/*
 * metrics.h
 *		How modules add rows to platpat.metrics().
 */
#ifndef PLAT_METRICS_H
#define PLAT_METRICS_H

#include "module.h"

extern void plat_metrics_init(const PlatModule *const *modules);
extern void plat_put_metric(PlatMetrics *metrics, const char *name,
							const char *labels, const char *type,
							double value, const char *help);
extern char *plat_metric_labels(const char *kind, const char *name,
								const char *label, const char *value);

#endif							/* PLAT_METRICS_H */
