/*
 * event_definition.c
 *		What rows of platpat.projections say, and the functions of users that
 *		they name.
 *
 * Functions are stored by name, so what one is now is found out each time, and
 * whose it is with it.  Nothing here is shared.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "event.h"
#include "sql.h"

/*
 * Raise 42704: there is no projection of that name.
 */
void
plat_event_no_projection(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("projection \"%s\" does not exist", plat_clip(name))));
}

/*
 * Whether a value is in the current row of the last query; *value is it.
 */
static bool
column(uint64 row, int number, Datum *value)
{
	bool		isnull;

	*value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						   number, &isnull);
	return !isnull;
}

#define PROJECTION_COLUMNS \
	"projection, apply, types, mode = 'inline', per_tenant," \
	" on_error = 'park', paused, batch_size, read_models"

/*
 * The projection in a row of the last query, whose columns are those above, in
 * the current memory context. Its function is yet to be found.
 */
static PlatProjection *
read_projection(uint64 row)
{
	PlatProjection *projection = palloc0(sizeof(PlatProjection));
	Datum		value;
	Datum	   *tables;

	projection->name = plat_sql_value(row, 1);
	projection->apply.signature = plat_sql_value(row, 2);
	projection->has_types = column(row, 3, &value);
	if (projection->has_types)
		projection->types = datumCopy(value, false, -1);
	projection->is_inline = column(row, 4, &value) && DatumGetBool(value);
	projection->is_per_tenant = column(row, 5, &value) && DatumGetBool(value);
	projection->is_parking = column(row, 6, &value) && DatumGetBool(value);
	projection->is_paused = column(row, 7, &value) && DatumGetBool(value);
	(void) column(row, 8, &value);
	projection->batch_size = DatumGetInt32(value);
	(void) column(row, 9, &value);
	deconstruct_array(DatumGetArrayTypePCopy(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &tables, NULL, &projection->nread_models);
	projection->read_models = palloc(sizeof(char *) * Max(projection->nread_models, 1));
	for (int i = 0; i < projection->nread_models; i++)
		projection->read_models[i] = TextDatumGetCString(tables[i]);
	return projection;
}

/*
 * A projection as it is now: 42704 if there is none, unless missing_ok, when
 * the result is NULL. SPI is connected.
 */
PlatProjection *
plat_event_get_projection(const char *name, bool missing_ok)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	if (plat_sql_as_owner("projections",
						  "SELECT " PROJECTION_COLUMNS
						  " FROM platpat.projections WHERE projection = $1",
						  1, types, values, NULL) > 0)
		return read_projection(0);
	if (!missing_ok)
		plat_event_no_projection(name);
	return NULL;
}

/*
 * All projections in the order of their names, in a memory context, as they
 * are committed now and not when the transaction took its snapshot.
 */
List *
plat_event_all_projections(MemoryContext context)
{
	List	   *projections = NIL;
	uint64		rows;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	rows = plat_sql_read("projections",
						 "SELECT " PROJECTION_COLUMNS
						 " FROM platpat.projections ORDER BY projection",
						 0, NULL, NULL);
	PopActiveSnapshot();
	context = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < rows; i++)
		projections = lappend(projections, read_projection(i));
	MemoryContextSwitchTo(context);
	SPI_finish();
	return projections;
}

/*
 * Raise 42501 if policies would hide events from the owner of a projection's
 * function, who is to see those of all tenants.
 */
void
plat_event_check_sight(const PlatProjection *projection, Oid owner)
{
	if (projection->is_per_tenant || has_bypassrls_privilege(owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" would not see the events of all tenants",
					GetUserNameFromId(owner, false)),
			 errdetail("It owns the function, and policies apply to it."),
			 errhint("Set per_tenant to true, or let a role with BYPASSRLS own the function.")));
}
