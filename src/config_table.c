/*
 * config_table.c
 *		What the tables that users edit have in common: reading rows, in
 *		triggers too, and rows that come with the extension.
 *
 * CREATE EXTENSION ships some rows, users may edit and delete them, and a
 * dump brings the tables back after CREATE EXTENSION has shipped the rows
 * anew.  So a row that is inserted over a shipped one updates it, and the
 * deletion of a shipped one is remembered in removed_defaults, which is
 * dumped, too.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "compat.h"
#include "config_table.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(plat_config_merge_row);
PG_FUNCTION_INFO_V1(plat_config_remember_removal);
PG_FUNCTION_INFO_V1(plat_config_apply_removal);
PG_FUNCTION_INFO_V1(plat_config_changed);

/*
 * Raise 22023: message quotes the value, detail says what is allowed. Both
 * are built by the caller and taken as they are, never as formats.
 */
void
plat_refuse_value(const char *message, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message), errdetail("%s", detail)));
}

/*
 * The value of a column, by name, of a row of one of our tables; false for
 * SQL NULL and where the table has no such column.
 */
bool
plat_column(Relation rel, HeapTuple row, const char *column, Datum *value)
{
	int			number = SPI_fnumber(RelationGetDescr(rel), column);
	bool		isnull;

	if (number <= 0)
		return false;
	*value = heap_getattr(row, number, RelationGetDescr(rel), &isnull);
	return !isnull;
}

/*
 * The same of a column of type float8; NaN where there is no value.
 */
double
plat_column_float(Relation rel, HeapTuple row, const char *column)
{
	Datum		value;

	return plat_column(rel, row, column, &value) ? DatumGetFloat8(value) :
		get_float8_nan();
}

/*
 * The same of a column of type text, as a palloc'd string; NULL where there
 * is no value.
 */
char *
plat_column_text(Relation rel, HeapTuple row, const char *column)
{
	Datum		value;

	return plat_column(rel, row, column, &value) ? TextDatumGetCString(value) :
		NULL;
}

/*
 * The same of a column of type int that must have a value within bounds: 22004
 * for NULL, 22023 outside of them.
 */
int32
plat_column_number(Relation rel, HeapTuple row, const char *column, int32 min,
				   int32 max)
{
	Datum		value;
	int32		number;

	if (!plat_column(rel, row, column, &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", column)));
	number = DatumGetInt32(value);
	if (number < min || number > max)
		plat_refuse_value(psprintf("%s is %d", column, number),
						  psprintf("It is a number from %d to %d.", min, max));
	return number;
}

/*
 * Find the row with this primary key as catalogs are read, under a snapshot
 * of its own: what is committed now, or written by this transaction.  The key
 * column has collation "C", as those of catalogs do.  False if there is none.
 */
bool
plat_config_read(Oid relid, const char *key, PlatRowAction action, void *arg)
{
	Relation	rel = table_open(relid, AccessShareLock);
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	row;
	bool		found;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(key));
	scan = systable_beginscan(rel, plat_primary_key(rel), true, NULL, 1,
							  &scankey);
	row = systable_getnext(scan);
	found = HeapTupleIsValid(row);
	if (found)
		action(rel, row, arg);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The trigger data; an error if a function is called as anything else, which
 * PostgreSQL itself rules out by the result type, except from C.
 */
TriggerData *
plat_trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called by the trigger manager")));
	return (TriggerData *) fcinfo->context;
}

/*
 * The row that a trigger is about: the new one, or the old one of a DELETE.
 * tg_trigtuple is the new row of an INSERT and the old one otherwise.
 */
HeapTuple
plat_trigger_row(const TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
}

/*
 * The text of a column of a row, in the current memory context, or NULL for
 * SQL NULL.
 */
char *
plat_row_text(const TriggerData *trigger, HeapTuple row, const char *column)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			number = SPI_fnumber(desc, column);

	return SPI_getvalue(row, desc, number);
}

/*
 * The same as a number. SQL NULL is NaN, which passes no check written as
 * "within these bounds".
 */
double
plat_row_number(const TriggerData *trigger, HeapTuple row, const char *column)
{
	char	   *text = plat_row_text(trigger, row, column);

	return text ? strtod(text, NULL) : get_float8_nan();
}

/*
 * A copy of the row with another value, not NULL, in a column. BEFORE
 * triggers return such a copy to have it stored.
 */
HeapTuple
plat_row_with(const TriggerData *trigger, HeapTuple row, const char *column,
			  Datum value)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			number = SPI_fnumber(desc, column);
	bool		isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &number, &value, &isnull);
}

/*
 * The key of a row: the trigger's first argument names the column.
 */
static char *
key_of(const TriggerData *trigger, HeapTuple row)
{
	return plat_row_text(trigger, row, trigger->tg_trigger->tgargs[0]);
}

/*
 * Whether a row has the key of one that is shipped: the trigger's other
 * arguments are these keys.
 */
static bool
is_shipped(const TriggerData *trigger, HeapTuple row)
{
	const Trigger *definition = trigger->tg_trigger;
	char	   *key = key_of(trigger, row);

	for (int i = 1; key && i < definition->tgnargs; i++)
		if (strcmp(key, definition->tgargs[i]) == 0)
			return true;
	return false;
}

/*
 * Update the row with the key of this one, if there is any, to be this one.
 * Returns whether there was.
 */
static bool
update_in_place(const TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	const char *table = RelationGetRelationName(trigger->tg_relation);
	const char *key = trigger->tg_trigger->tgargs[0];
	Oid		   *types = palloc(sizeof(Oid) * desc->natts);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	char	   *nulls = palloc(desc->natts);
	StringInfoData command;
	uint64		updated;

	initStringInfo(&command);
	appendStringInfo(&command, "UPDATE platpat.%s SET ", quote_identifier(table));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		bool		isnull;

		types[i] = column->atttypid;
		values[i] = heap_getattr(row, i + 1, desc, &isnull);
		nulls[i] = isnull ? 'n' : ' ';
		appendStringInfo(&command, "%s%s = $%d", i > 0 ? ", " : "",
						 quote_identifier(NameStr(column->attname)), i + 1);
	}
	appendStringInfo(&command, " WHERE %s = $%d", quote_identifier(key),
					 SPI_fnumber(desc, key));
	SPI_connect();
	updated = plat_sql_as_owner(table, command.data, desc->natts, types,
								values, nulls);
	SPI_finish();
	return updated > 0;
}

/*
 * BEFORE INSERT row trigger, with the key column and the shipped keys as
 * arguments: a row that is inserted over a shipped one, as a restore does,
 * updates that instead.
 */
Datum
plat_config_merge_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);

	if (is_shipped(trigger, row) && update_in_place(trigger, row))
		return PointerGetDatum(NULL);
	return PointerGetDatum(row);
}

/*
 * Write or take back the note that a shipped row is gone.
 */
static void
note_removal(const TriggerData *trigger, HeapTuple row, bool is_gone)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(RelationGetRelationName(trigger->tg_relation));
	values[1] = CStringGetTextDatum(key_of(trigger, row));
	SPI_connect();
	plat_sql_as_owner("removed_defaults", is_gone ?
					  "INSERT INTO platpat.removed_defaults VALUES ($1, $2)"
					  " ON CONFLICT DO NOTHING" :
					  "DELETE FROM platpat.removed_defaults"
					  " WHERE table_name = $1 AND key = $2",
					  2, types, values, NULL);
	SPI_finish();
}

/*
 * AFTER INSERT OR UPDATE OR DELETE row trigger, with the same arguments: a
 * dump of a database whose shipped row was dropped or renamed must say so.
 */
Datum
plat_config_remember_removal(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	TriggerEvent event = trigger->tg_event;
	HeapTuple	row = plat_trigger_row(trigger);

	if (TRIGGER_FIRED_BY_UPDATE(event) &&
		strcmp(key_of(trigger, trigger->tg_trigtuple), key_of(trigger, row)) == 0)
		return PointerGetDatum(NULL);
	if (!TRIGGER_FIRED_BY_INSERT(event) &&
		is_shipped(trigger, trigger->tg_trigtuple))
		note_removal(trigger, trigger->tg_trigtuple, true);
	if (!TRIGGER_FIRED_BY_DELETE(event) && is_shipped(trigger, row))
		note_removal(trigger, row, false);
	return PointerGetDatum(NULL);
}

/*
 * AFTER INSERT row trigger of platpat.removed_defaults: a restore brings the
 * note back after CREATE EXTENSION has shipped the row, and this drops it
 * again.  When the note is written because the row was dropped, there is
 * nothing left to drop.  The key column is the first argument of the table's
 * trigger remember_removal.
 */
Datum
plat_config_apply_removal(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);
	const char *table = plat_row_text(trigger, row, "table_name");
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	Relation	rel = RelationIdGetRelation(plat_our_table(table));
	const char *column = NULL;

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		if (strcmp(rel->trigdesc->triggers[i].tgname, "remember_removal") == 0)
			column = pstrdup(rel->trigdesc->triggers[i].tgargs[0]);
	RelationClose(rel);
	if (column == NULL)
		elog(ERROR, "table platpat.%s ships no rows", table);

	values[0] = CStringGetTextDatum(plat_row_text(trigger, row, "key"));
	SPI_connect();
	plat_sql_as_owner(table,
					  psprintf("DELETE FROM platpat.%s WHERE %s = $1",
							   quote_identifier(table),
							   quote_identifier(column)),
					  1, types, values, NULL);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/*
 * AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE statement trigger: tells every
 * session that the table has changed, by a relcache invalidation.
 */
Datum
plat_config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);

	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
