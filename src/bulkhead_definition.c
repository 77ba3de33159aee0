/*
 * bulkhead_definition.c
 *		The rules of a bulkhead, from a row of platpat.bulkheads.
 *
 * Nothing here is shared.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "compat.h"
#include "bulkhead.h"
#include "config_table.h"
#include "sql.h"

#define MAX_SIZE 1000000

static const char *const class_names[PLAT_CLASSES] = {
	[PLAT_CRITICAL] = "critical",
	[PLAT_STANDARD] = "standard",
	[PLAT_BATCH] = "batch",
};

/*
 * The class in a word.
 */
const char *
plat_class_name(PlatClass class)
{
	return class_names[class];
}

/*
 * The class of this name: 22023 if there is none.
 */
PlatClass
plat_class_of(const char *name)
{
	for (int class = 0; class < PLAT_CLASSES; class++)
		if (strcmp(name, class_names[class]) == 0)
			return (PlatClass) class;
	plat_refuse_value(psprintf("unknown class \"%s\"", plat_clip(name)),
					  "Classes are critical, standard and batch.");
	return PLAT_STANDARD;
}

/*
 * A value of reserved: 22023 unless it is a number of slots.
 */
static int32
reserve_of(const JsonbValue *value, const PlatBulkheadRules *rules)
{
	Datum		number;
	double		slots;

	if (value->type != jbvNumeric)
		plat_refuse_value("reserved must be an object of numbers",
						  "For example {\"critical\": 2}.");
	number = DirectFunctionCall1(numeric_float8_no_overflow,
								 NumericGetDatum(value->val.numeric));
	slots = DatumGetFloat8(number);
	if (!(slots >= 0 && slots <= rules->size) || slots != (int32) slots)
		plat_refuse_value(psprintf("%g slots cannot be reserved", slots),
						  psprintf("It is a whole number from 0 to the size, %d.",
								   rules->size));
	return (int32) slots;
}

/*
 * Read reserved of a row: 22023 unless it is an object of classes and numbers,
 * which are not more than the size together.
 */
static void
read_reserved(PlatBulkheadRules *rules, Relation rel, HeapTuple row)
{
	Datum		value;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	PlatClass	class = PLAT_STANDARD;
	int64		total = 0;

	if (!plat_column(rel, row, "reserved", &value))
		return;
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(value)))
		plat_refuse_value("reserved must be an object of numbers",
						  "For example {\"critical\": 2}.");
	iterator = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			class = plat_class_of(pnstrdup(element.val.string.val,
										   element.val.string.len));
		else if (token == WJB_VALUE)
			total += rules->reserved[class] = reserve_of(&element, rules);
	}
	if (total > rules->size)
		plat_refuse_value(psprintf(INT64_FORMAT " slots cannot be reserved of %d",
								   total, rules->size),
						  "The classes together cannot have more than all.");
}

/*
 * Fill a definition from a row of platpat.bulkheads.
 */
void
plat_bulkhead_compile(PlatNamed *head, Relation rel, HeapTuple row)
{
	PlatBulkheadDefinition *definition = (PlatBulkheadDefinition *) head;
	PlatBulkheadRules *rules = &definition->rules;
	char	   *scope = plat_column_text(rel, row, "scope");

	memset(rules, 0, sizeof(*rules));
	rules->size = plat_column_number(rel, row, "size", 1, MAX_SIZE);
	rules->queue = plat_column_number(rel, row, "queue", 0, MAX_SIZE);
	read_reserved(rules, rel, row);
	if (scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("scope must not be null")));
	definition->scope = strcmp(scope, "session") == 0 ? PLAT_SCOPE_SESSION :
		PLAT_SCOPE_TRANSACTION;
	if (definition->scope != PLAT_SCOPE_SESSION &&
		strcmp(scope, "transaction") != 0)
		plat_refuse_value(psprintf("unknown scope \"%s\"", plat_clip(scope)),
						  "Scopes are transaction and session.");
}
