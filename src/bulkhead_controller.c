/*
 * bulkhead_controller.c
 *		Bulkheads as controller "bulkheads" sees them: the rules that the table
 *		has, and those that shared memory goes by.
 *
 * A change is installed by whoever commits it.  What comes by no such commit,
 * as with a prepared transaction, a restore of the table's rows or on a
 * standby, waits for who asks next, and until then slots are handed on by the
 * old rules.  Here that is found without anybody asking.
 *
 * An entry's rules are read under its lock, and written by bulkhead_queue.c.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "bulkhead.h"
#include "shmem.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(plat_bulkhead_rules);
PG_FUNCTION_INFO_V1(plat_bulkhead_orphans);
PG_FUNCTION_INFO_V1(plat_bulkhead_apply);

/* The definitions that are listed. */
typedef struct Listing
{
	ReturnSetInfo *result;
	bool		is_installed;	/* what shared memory has, or the table */
} Listing;

/*
 * The rules that shared memory has for a definition.  For one that nobody has
 * used, those are its own.
 */
static PlatBulkheadRules
installed_rules(PlatBulkheadDefinition *definition)
{
	PlatBulkheadRules rules = definition->rules;
	PlatSharedBulkhead *shared;

	if (!plat_shmem_attach() ||
		!plat_named_peek(&plat_bulkheads, &definition->head))
		return rules;
	shared = (PlatSharedBulkhead *) definition->head.entry;
	LWLockAcquire(&shared->head.lock, LW_SHARED);
	if (plat_named_holds(&definition->head) && shared->bulkhead.rules.size > 0)
		rules = shared->bulkhead.rules;
	LWLockRelease(&shared->head.lock);
	return rules;
}

/*
 * The rules of a bulkhead as jsonb.
 */
static Datum
rules_to_jsonb(const pg_uuid_t *id, const PlatBulkheadRules *rules)
{
	StringInfoData json;
	const char *comma = "";

	initStringInfo(&json);
	appendStringInfo(&json, "{\"id\": \"%s\", \"size\": %d, \"queue\": %d, \"reserved\": {",
					 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))),
					 rules->size, rules->queue);
	for (int class = 0; class < PLAT_CLASSES; class++)
	{
		if (rules->reserved[class] == 0)
			continue;
		appendStringInfo(&json, "%s\"%s\": %d", comma, plat_class_name(class),
						 rules->reserved[class]);
		comma = ", ";
	}
	appendStringInfoString(&json, "}}");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/*
 * Add a row of bulkhead_rules().
 */
static void
put_rules(PlatNamed *head, void *arg)
{
	PlatBulkheadDefinition *definition = (PlatBulkheadDefinition *) head;
	Listing    *listing = arg;
	PlatBulkheadRules rules = listing->is_installed ?
	installed_rules(definition) : definition->rules;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = CStringGetTextDatum(head->name);
	values[1] = rules_to_jsonb(&head->id, &rules);
	tuplestore_putvalues(listing->result->setResult, listing->result->setDesc,
						 values, nulls);
}

/*
 * platpat.bulkhead_rules(installed boolean) returns table (key text, spec
 * jsonb): VOLATILE, for pg_monitor and administrators.
 *
 * The rules of the bulkheads of the current database: those that shared memory
 * has, or those of the table.  Without shared memory they are the same. Raises
 * 22004.
 */
Datum
plat_bulkhead_rules(PG_FUNCTION_ARGS)
{
	Listing		listing = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	plat_refuse_null(fcinfo, 0, "installed");
	listing.is_installed = PG_GETARG_BOOL(0);
	InitMaterializedSRF(fcinfo, 0);
	plat_named_list(&plat_bulkheads, put_rules, &listing);
	return (Datum) 0;
}

/*
 * platpat.bulkhead_orphans() returns table (key text, spec jsonb): likewise.
 *
 * The ids in shared memory whose bulkheads are gone, and of which nobody has a
 * slot; none without shared memory.
 */
Datum
plat_bulkhead_orphans(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	plat_named_put_orphans(&plat_bulkheads, fcinfo);
	return (Datum) 0;
}

/*
 * platpat.apply_bulkhead(key text, desired jsonb, actual jsonb) returns void:
 * VOLATILE, for controller "bulkheads".
 *
 * Has a bulkhead go by the rules that the table has now, or forgets one that is
 * gone.  Raises 22004, 22P02, and 55000 in a transaction that has changed a
 * bulkhead.
 */
Datum
plat_bulkhead_apply(PG_FUNCTION_ARGS)
{
	char	   *key;
	PlatNamed  *definition;

	plat_refuse_null(fcinfo, 0, "key");
	key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (PG_ARGISNULL(1))
		plat_named_free_orphan(&plat_bulkheads, key);
	else if (plat_shmem_attach() &&
			 (definition = plat_named_get(&plat_bulkheads, key, true)) != NULL)
		plat_bulkhead_install((PlatBulkheadDefinition *) definition);
	PG_RETURN_VOID();
}
