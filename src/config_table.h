/*
 * config_table.h
 *		What the tables that users edit have in common.
 *
 * See config_table.c for what each function promises.
 */
#ifndef PLAT_CONFIG_TABLE_H
#define PLAT_CONFIG_TABLE_H

#include "access/htup.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/relcache.h"

/* What is done with a row that was found. */
typedef void (*PlatRowAction) (Relation rel, HeapTuple row, void *arg);

extern bool plat_config_read(Oid relid, const char *key, PlatRowAction action,
							 void *arg);
extern bool plat_column(Relation rel, HeapTuple row, const char *column,
						Datum *value);
extern double plat_column_float(Relation rel, HeapTuple row,
								const char *column);
extern int32 plat_column_number(Relation rel, HeapTuple row,
								const char *column, int32 min, int32 max);
extern char *plat_column_text(Relation rel, HeapTuple row, const char *column);
extern TriggerData *plat_trigger_data(FunctionCallInfo fcinfo);
extern HeapTuple plat_trigger_row(const TriggerData *trigger);
extern char *plat_row_text(const TriggerData *trigger, HeapTuple row,
						   const char *column);
extern double plat_row_number(const TriggerData *trigger, HeapTuple row,
							  const char *column);
extern HeapTuple plat_row_with(const TriggerData *trigger, HeapTuple row,
							   const char *column, Datum value);
extern void plat_refuse_value(const char *message, const char *detail);

extern Datum plat_config_changed(PG_FUNCTION_ARGS);

#endif							/* PLAT_CONFIG_TABLE_H */
