/*
 * policy_watch.c
 *		Event triggers that keep protection and DDL in step.
 *
 * At the start of a command: refuse to drop what the policies stand on, refuse
 * DDL under as_admin(), and let a foreign key be validated over all rows.  At its end: protect new
 * partitions of protected tables and new tables of protected schemas, follow
 * renames, warn about policies that do not do what they seem to.  After a
 * drop: forget.  What may have weakened a protection wakes the controllers that
 * look after it.
 *
 * Nothing is shared between backends.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rls.h"

#include "admin.h"
#include "compat.h"
#include "policy.h"
#include "sql.h"
#include "tenant.h"
#include "worker.h"

/*
 * How a step of ALTER TABLE meets foreign keys, from harmless to not.
 */
typedef enum ForeignKeyStep
{
	NO_FOREIGN_KEY,				/* not at all */
	ONLY_FOREIGN_KEY,			/* checks one, and runs no user's expression */
	WITH_FOREIGN_KEY			/* may check one beside other things */
} ForeignKeyStep;

/*
 * What to do with a command that checks a foreign key beside other things; a
 * hint of two different errors.
 */
#define FOREIGN_KEY_HINT \
	"Add a foreign key in an ALTER TABLE of its own, to a partition before it is attached; drop it while the type of its column changes."

/* Setting platpat.allow_drop. */
static bool allow_drop = false;

/*
 * Whether row security does not force the owner until the command ends. Set
 * only by us: core sets the same flag of the context around its own queries,
 * and takes it back itself.
 */
static bool unforced = false;
static bool callback_registered = false;

PG_FUNCTION_INFO_V1(plat_policy_on_command_start);
PG_FUNCTION_INFO_V1(plat_policy_on_command_end);
PG_FUNCTION_INFO_V1(plat_policy_on_drop);

/*
 * Define the settings of this module; called once from _PG_init.
 */
void
plat_policy_define_settings(bool preload)
{
	DefineCustomBoolVariable("platpat.allow_drop",
							 "Whether the extension may be dropped while tables are protected.",
							 "Its policies go with it: tables with permissive policies of their own are open then.",
							 &allow_drop, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

/*
 * The event data, or an error if not called as an event trigger, which the
 * result type rules out except from C.
 */
static EventTriggerData *
event_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called by the event trigger manager")));
	return (EventTriggerData *) fcinfo->context;
}

/*
 * Whether a list of names, as in DROP EXTENSION a, b, has this one. Names of
 * extensions and schemas are single strings there.
 */
static bool
names_include(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (IsA(lfirst(cell), String) &&
			strcmp(strVal(lfirst(cell)), name) == 0)
			return true;
	}
	return false;
}

/*
 * Whether one of the roles owns the extension or its schema, so that DROP
 * OWNED would take them. A role that does not exist owns nothing; core will
 * say so.
 */
static bool
roles_own_platpat(List *roles)
{
	ListCell   *cell;

	foreach(cell, roles)
	{
		Oid			types[] = {OIDOID};
		Datum		values[] = {ObjectIdGetDatum(get_rolespec_oid(lfirst(cell), true))};

		if (plat_sql_query("SELECT FROM pg_extension"
						   " WHERE extname = 'platpat' AND extowner = $1"
						   " UNION ALL SELECT FROM pg_namespace"
						   " WHERE nspname = 'platpat' AND nspowner = $1",
						   1, types, values, NULL) > 0)
			return true;
	}
	return false;
}

/*
 * Whether the command would take platpat away, as its parse tree says.
 * Dropping a member of the extension alone is refused by core, and nothing
 * else that can be dropped contains it.
 */
static bool
drops_platpat(Node *command)
{
	if (IsA(command, DropOwnedStmt))
		return roles_own_platpat(((DropOwnedStmt *) command)->roles);
	if (!IsA(command, DropStmt))
		return false;
	if (((DropStmt *) command)->removeType != OBJECT_EXTENSION &&
		((DropStmt *) command)->removeType != OBJECT_SCHEMA)
		return false;
	return names_include(((DropStmt *) command)->objects, "platpat");
}

/*
 * The number of tables of this database that would lose a policy with us, or
 * that are recorded as protected.  Our own tables go with us.
 */
static uint64
count_protected(void)
{
	return plat_sql_query("SELECT p.polrelid FROM pg_policy p"
						  " JOIN pg_depend d ON d.classid = 'pg_policy'::regclass"
						  "  AND d.objid = p.oid"
						  "  AND d.refclassid = 'pg_proc'::regclass"
						  " JOIN pg_proc f ON f.oid = d.refobjid"
						  " JOIN pg_class r ON r.oid = p.polrelid"
						  " WHERE f.pronamespace = 'platpat'::regnamespace"
						  " AND r.relnamespace <> f.pronamespace"
						  " UNION SELECT c.oid FROM platpat.protections t"
						  " JOIN pg_class c ON c.oid = t.table_name",
						  0, NULL, NULL, NULL);
}

/*
 * Refuse to drop platpat while tables rely on it (2BP01), and to rename its
 * schema (0A000), whose name is in our C code and in the policies.
 */
static void
guard_platpat(Node *command)
{
	uint64		count;

	if (IsA(command, RenameStmt) &&
		((RenameStmt *) command)->renameType == OBJECT_SCHEMA &&
		strcmp(((RenameStmt *) command)->subname, "platpat") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot rename schema platpat")));
	if (allow_drop || !drops_platpat(command))
		return;
	count = count_protected();
	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg_plural("cannot drop platpat while %llu table relies on it",
							   "cannot drop platpat while %llu tables rely on it",
							   (unsigned long) count,
							   (unsigned long long) count),
				 errdetail("Policies that call its functions would go with it."),
				 errhint("Call platpat.unprotect() for each of platpat.protected_tables and drop other policies that call its functions, or turn on platpat.allow_drop.")));
}

/*
 * Whether one of the constraints of a new column is a foreign key. Without a
 * default core has nothing to check and does not; what counts as a default,
 * serial types and domains with one, is core's business.
 */
static bool
column_has_foreign_key(const ColumnDef *column)
{
	ListCell   *cell;

	foreach(cell, column->constraints)
	{
		if (((Constraint *) lfirst(cell))->contype == CONSTR_FOREIGN)
			return true;
	}
	return false;
}

/*
 * Whether the table has a foreign key, or one that this column of it is part
 * of at either end.
 */
static bool
has_foreign_key(Oid relid, const char *column)
{
	Oid			types[] = {OIDOID, INT2OID};
	Datum		values[2];
	char		nulls[2] = {' ', column ? ' ' : 'n'};

	values[0] = ObjectIdGetDatum(relid);
	values[1] = column ? Int16GetDatum(get_attnum(relid, column)) : (Datum) 0;
	return plat_sql_query("SELECT FROM pg_constraint WHERE contype = 'f' AND ("
						  " conrelid = $1 AND ($2 IS NULL OR $2 = ANY (conkey))"
						  " OR confrelid = $1 AND $2 = ANY (confkey))",
						  2, types, values, nulls) > 0;
}

/*
 * Whether a column has a type that is not core's.  A cast to or from such a
 * type may be a function of a user, domains excepted, which are compared as
 * what they are made of.
 */
static bool
has_own_type(Oid relid, AttrNumber attnum)
{
	Oid			type = get_atttype(relid, attnum);

	return OidIsValid(type) && getBaseType(type) >= FirstNormalObjectId;
}

/*
 * The same for the columns (relid, attnum) that the last query returned, rows
 * of them.
 */
static bool
any_own_type(uint64 rows)
{
	for (uint64 i = 0; i < rows; i++)
	{
		if (has_own_type(atooid(plat_sql_value(i, 1)),
						 (AttrNumber) atoi(plat_sql_value(i, 2))))
			return true;
	}
	return false;
}

/*
 * Classify ADD FOREIGN KEY by the types of the columns at both ends. The
 * columns that are referenced may be left out of the command; any unique
 * index may be meant then, and all of them are looked at.
 */
static ForeignKeyStep
classify_new_key(const Constraint *constraint, Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(RangeVarGetRelid(constraint->pktable,
															  NoLock, true))};
	ListCell   *cell;

	foreach(cell, constraint->fk_attrs)
	{
		if (has_own_type(relid, get_attnum(relid, strVal(lfirst(cell)))))
			return WITH_FOREIGN_KEY;
	}
	return any_own_type(plat_sql_query("SELECT i.indrelid, k FROM pg_index i,"
									   " unnest(i.indkey) k"
									   " WHERE i.indrelid = $1 AND i.indisunique",
									   1, types, values, NULL)) ?
		WITH_FOREIGN_KEY : ONLY_FOREIGN_KEY;
}

/*
 * Classify a step on the constraint of this name, which may be no foreign
 * key, or not there: core will say so.
 */
static ForeignKeyStep
classify_old_key(const char *name, Oid relid)
{
	Oid			types[] = {OIDOID, TEXTOID};
	Datum		values[2];
	uint64		rows;

	values[0] = ObjectIdGetDatum(relid);
	values[1] = CStringGetTextDatum(name);
	rows = plat_sql_query("WITH keys AS (SELECT * FROM pg_constraint"
						  "  WHERE conrelid = $1 AND contype = 'f'"
						  "  AND conname = $2)"
						  " SELECT conrelid, unnest(conkey) FROM keys"
						  " UNION SELECT confrelid, unnest(confkey) FROM keys",
						  2, types, values, NULL);
	if (rows == 0)
		return NO_FOREIGN_KEY;
	return any_own_type(rows) ? WITH_FOREIGN_KEY : ONLY_FOREIGN_KEY;
}

/*
 * check_functions_in_node callback: a function that is not core's. Functions
 * made by initdb have lower oids than any that a user makes.
 */
static bool
is_own_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

static bool
own_function_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_own_function, context) ||
		expression_tree_walker(node, own_function_walker, context);
}

/*
 * Whether a partition's constraint calls functions that are not core's. It is
 * part of the query by which core looks for keys that still refer to a
 * partition that is to be detached.
 */
static bool
has_own_functions(const RangeVar *partition)
{
	Oid			relid = RangeVarGetRelid(partition, NoLock, true);
	Relation	rel;
	bool		found;

	if (!OidIsValid(relid))
		return false;
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		return false;
	found = own_function_walker((Node *) RelationGetPartitionQual(rel), NULL);
	relation_close(rel, AccessShareLock);
	return found;
}

/*
 * What one step of ALTER TABLE has to do with foreign keys. A step that is
 * not named here runs no query over the rows.
 */
static ForeignKeyStep
classify_step(const AlterTableCmd *step, Oid relid)
{
	bool		mixed;

	switch (step->subtype)
	{
		case AT_AddConstraint:
			if (((Constraint *) step->def)->contype != CONSTR_FOREIGN)
				return NO_FOREIGN_KEY;
			return classify_new_key((Constraint *) step->def, relid);
		case AT_ValidateConstraint:
			return classify_old_key(step->name, relid);
		case AT_AlterConstraint:
			return classify_old_key(plat_altered_constraint(step), relid);
		case AT_DetachPartition:
			mixed = has_own_functions(((PartitionCmd *) step->def)->name);
			return mixed ? WITH_FOREIGN_KEY : ONLY_FOREIGN_KEY;
		case AT_AddColumn:
			mixed = column_has_foreign_key((ColumnDef *) step->def);
			return mixed ? WITH_FOREIGN_KEY : NO_FOREIGN_KEY;
		case AT_AlterColumnType:
			mixed = has_foreign_key(relid, step->name);
			return mixed ? WITH_FOREIGN_KEY : NO_FOREIGN_KEY;
		case AT_AttachPartition:
			mixed = has_foreign_key(relid, NULL);
			return mixed ? WITH_FOREIGN_KEY : NO_FOREIGN_KEY;
		default:
			return NO_FOREIGN_KEY;
	}
}

/*
 * The same for the whole command: a mixture counts as WITH_FOREIGN_KEY,
 * because a default or a CHECK of another step would be evaluated in the same
 * window.
 */
static ForeignKeyStep
classify_command(const AlterTableStmt *command, Oid relid)
{
	ForeignKeyStep result = NO_FOREIGN_KEY;
	bool		others = false;
	ListCell   *cell;

	foreach(cell, command->cmds)
	{
		ForeignKeyStep step = classify_step(lfirst(cell), relid);

		others |= step == NO_FOREIGN_KEY;
		result = Max(result, step);
	}
	return result == ONLY_FOREIGN_KEY && others ? WITH_FOREIGN_KEY : result;
}

/*
 * Force the owner again, if we stopped that, and keep the rest of the
 * security context.
 */
static void
force_owner(void)
{
	Oid			user;
	int			context;

	if (!unforced)
		return;
	unforced = false;
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(user, context & ~SECURITY_NOFORCE_RLS);
}

/*
 * Whatever was prepared for a command ends with it. Nested DDL, from another
 * event trigger, ends it early, and then core checks as ever: with an error
 * or for one tenant, but never for too many.
 */
static void
finish_command(void)
{
	force_owner();
	plat_tenant_explain_missing(NULL);
}

/*
 * The net under finish_command: an error, after which core has restored the
 * context, or an end trigger that a superuser has disabled.
 */
static void
finish_at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		unforced = false;		/* the context is restored already */
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT ||
		event == XACT_EVENT_PREPARE)
		finish_command();
}

/* The same for a subtransaction: its commands are over. */
static void
finish_at_rollback(SubXactEvent event, SubTransactionId subid,
				   SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	unforced = false;			/* the context is restored already */
	finish_command();
}

/*
 * Until the command ends, run it the way core runs its own foreign key
 * queries: FORCE ROW LEVEL SECURITY does not force an owner.  An error
 * restores the context with the transaction.
 */
static void
unforce_owner(void)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	if (context & SECURITY_NOFORCE_RLS)
		return;
	unforced = true;
	SetUserIdAndSecContext(user, context | SECURITY_NOFORCE_RLS);
}

/*
 * Core checks a new foreign key by a query as the current user, and under
 * FORCE ROW LEVEL SECURITY that query sees one tenant's rows or none.
 *
 * A command that does nothing else is run unforced.  Whoever does not own the
 * tables stays subject to their policies.  Nothing that a user without
 * privileges could have written runs meanwhile: a SECURITY DEFINER function
 * of the owner would be unforced too, and hand out what it sees.  Therefore a
 * command that mixes a foreign key with other things, or that may call a
 * user's cast, is left alone where it fails for want of a tenant, and refused
 * where it would pass half checked.
 */
static void
prepare_foreign_keys(const AlterTableStmt *alter)
{
	Oid			relid;

	if (alter->objtype != OBJECT_TABLE)
		return;
	relid = RangeVarGetRelid(alter->relation, NoLock, true);
	if (!OidIsValid(relid) ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()))
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(finish_at_end, NULL);
		RegisterSubXactCallback(finish_at_rollback, NULL);
		callback_registered = true;
	}

	switch (classify_command(alter, relid))
	{
		case NO_FOREIGN_KEY:
			break;
		case ONLY_FOREIGN_KEY:
			unforce_owner();
			break;
		case WITH_FOREIGN_KEY:
			plat_tenant_explain_missing(FOREIGN_KEY_HINT);
			if (!plat_tenant_missing_is_error() &&
				check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("cannot check a foreign key over the rows of one tenant"),
						 errdetail("Table \"%s\" is under row security.",
								   get_rel_name(relid)),
						 errhint(FOREIGN_KEY_HINT)));
			break;
	}
}

/*
 * Event trigger for ddl_command_start, of every command. Runs as whoever gave
 * it; most commands leave at the switch.
 */
Datum
plat_policy_on_command_start(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_data(fcinfo);

	plat_admin_refuse_ddl();
	switch (nodeTag(event->parsetree))
	{
		case T_DropStmt:
		case T_DropOwnedStmt:
		case T_RenameStmt:
			SPI_connect();
			guard_platpat(event->parsetree);
			SPI_finish();
			break;
		case T_AlterTableStmt:
			SPI_connect();
			prepare_foreign_keys((AlterTableStmt *) event->parsetree);
			SPI_finish();
			break;
		default:
			break;
	}
	return (Datum) 0;
}

/*
 * Whether the command may have made a table that needs protection: a new one,
 * or one that has got a column, a parent or a schema. Other forms of ALTER
 * TABLE are left alone, so that an owner who weakens a protection on purpose
 * is not overruled by the next unrelated command.
 */
static bool
may_need_protection(Node *command)
{
	ListCell   *cell;

	if (IsA(command, RenameStmt))
		return ((RenameStmt *) command)->renameType == OBJECT_COLUMN;
	if (!IsA(command, AlterTableStmt))
		return true;
	foreach(cell, ((AlterTableStmt *) command)->cmds)
	{
		AlterTableType type = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (type == AT_AddColumn || type == AT_AttachPartition ||
			type == AT_AddInherit)
			return true;
	}
	return false;
}

/*
 * The tables, temporary ones excepted, that the command has touched, those of
 * extension scripts excepted, too: what an extension makes is its own
 * business, and a restore makes it so.
 */
static List *
touched_tables(void)
{
	uint64		rows;
	List	   *tables = NIL;

	rows = plat_sql_query("SELECT DISTINCT c.oid"
						  " FROM pg_catalog.pg_event_trigger_ddl_commands() d"
						  " JOIN pg_catalog.pg_class c ON c.oid = d.objid"
						  " WHERE d.classid = 'pg_class'::regclass"
						  " AND NOT d.in_extension"
						  " AND c.relkind IN ('r', 'p', 'f')"
						  " AND c.relpersistence <> 't'",
						  0, NULL, NULL, NULL);
	for (uint64 i = 0; i < rows; i++)
		tables = lappend_oid(tables, atooid(plat_sql_value(i, 1)));
	return tables;
}

/*
 * The tenant column that the table's schema is protected by, or NULL if it is
 * not protected or the table has no such column. Good until the next query.
 */
static char *
schema_column(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	if (plat_sql_query("SELECT s.tenant_column"
					   " FROM platpat.protected_schemas s"
					   " JOIN pg_catalog.pg_namespace n"
					   "  ON n.nspname = s.schema_name"
					   " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
					   " JOIN pg_catalog.pg_attribute a"
					   "  ON a.attrelid = c.oid AND a.attname = s.tenant_column"
					   "  AND NOT a.attisdropped"
					   " WHERE c.oid = $1",
					   1, types, values, NULL) == 0)
		return NULL;
	return plat_sql_value(0, 1);
}

/*
 * Protect a table if its parent or its schema is protected.  A foreign table
 * is refused below a protected parent, where its rows would be served, and
 * only warned about beside protected tables.
 */
static void
protect_touched(Oid relid)
{
	PlatProtection known;
	const char *column;

	if (plat_policy_lookup(relid, &known))
		column = known.column;
	else if ((column = schema_column(relid)) != NULL &&
			 get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE)
	{
		plat_policy_warn_foreign(relid);
		return;
	}
	if (column == NULL)
		return;
	if (get_attnum(relid, column) == InvalidAttrNumber)
		ereport(WARNING,
				(errmsg("table \"%s\" cannot be protected: it has no column \"%s\"",
						get_rel_name(relid), column),
				 errhint("Call platpat.unprotect(table_name), and platpat.protect(table_name, tenant_column) with its tenant column.")));
	else
		(void) plat_policy_install(relid, column, NULL, true);
}

/*
 * Follow the renaming of a tenant column or of a protected schema. Policies
 * follow by themselves: they store attribute numbers.
 */
static void
follow_rename(const RenameStmt *rename, List *tables)
{
	Oid			types[] = {NAMEOID, NAMEOID, OIDOID};
	Datum		values[3];
	ListCell   *cell;

	if (rename->renameType != OBJECT_SCHEMA &&
		rename->renameType != OBJECT_COLUMN)
		return;
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(rename->newname));
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(rename->subname));
	if (rename->renameType == OBJECT_SCHEMA)
	{
		plat_sql_as_owner("protected_schemas",
						  "UPDATE platpat.protected_schemas"
						  " SET schema_name = $1 WHERE schema_name = $2",
						  2, types, values, NULL);
		return;
	}
	foreach(cell, tables)
	{
		values[2] = ObjectIdGetDatum(lfirst_oid(cell));
		plat_sql_as_owner("protections",
						  "WITH RECURSIVE tree(relid) AS (SELECT $3 UNION"
						  "  SELECT i.inhrelid FROM tree"
						  "  JOIN pg_inherits i ON i.inhparent = tree.relid)"
						  " UPDATE platpat.protections SET tenant_column = $1"
						  " WHERE tenant_column = $2"
						  " AND table_name IN (SELECT relid FROM tree)",
						  3, types, values, NULL);
	}
}

/*
 * Tell who adds a permissive policy to a protected table that it narrows
 * nothing while ours opens the table inside the tenant.
 */
static void
warn_policy(const CreatePolicyStmt *policy)
{
	Oid			relid = RangeVarGetRelid(policy->table, NoLock, true);
	PlatProtection known;
	PlatTable  *table;

	if (!policy->permissive || !OidIsValid(relid) ||
		strncmp(policy->policy_name, "platpat_", 8) == 0 ||
		!plat_policy_lookup(relid, &known))
		return;
	table = plat_policy_inspect(relid, known.column, false);
	if (table->access_policy == PLAT_MISSING)
		return;
	ereport(WARNING,
			(errmsg("policy \"%s\" narrows nothing", policy->policy_name),
			 errdetail("Policy \"" PLAT_ACCESS_POLICY "\" still opens table %s inside the tenant.",
					   table->name),
			 errhint("SELECT platpat.protect(%s, access => false) drops it for good.",
					 quote_literal_cstr(table->name))));
}

/*
 * A table that has left its parent stays protected, and from now on in its own
 * right.
 */
static void
follow_detached(const AlterTableStmt *alter)
{
	ListCell   *cell;

	foreach(cell, alter->cmds)
	{
		const AlterTableCmd *step = lfirst(cell);

		if (step->subtype == AT_DetachPartition)
			plat_policy_keep(RangeVarGetRelid(((PartitionCmd *) step->def)->name, NoLock, true),
							 RangeVarGetRelid(alter->relation, NoLock, true));
		else if (step->subtype == AT_DropInherit)
			plat_policy_keep(RangeVarGetRelid(alter->relation, NoLock, true),
							 RangeVarGetRelid((RangeVar *) step->def, NoLock, true));
	}
}

/*
 * Refuse to put a protected table below one that is not: whoever reads the
 * latter reads its rows, past all of its policies.
 */
static void
refuse_open_parent(Oid child, Oid parent)
{
	PlatProtection known;

	if (!OidIsValid(child) || !OidIsValid(parent) ||
		!plat_policy_lookup(child, &known) || plat_policy_lookup(parent, &known))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is protected, and its new parent \"%s\" is not",
					get_rel_name(child), get_rel_name(parent)),
			 errdetail("Its rows would be read through the parent, whose policies alone count then."),
			 errhint("Call platpat.protect() on the parent first.")));
}

/*
 * The same for every step of the command.
 */
static void
check_parents(const AlterTableStmt *alter)
{
	ListCell   *cell;

	foreach(cell, alter->cmds)
	{
		const AlterTableCmd *step = lfirst(cell);

		if (step->subtype == AT_AttachPartition)
			refuse_open_parent(RangeVarGetRelid(((PartitionCmd *) step->def)->name, NoLock, true),
							   RangeVarGetRelid(alter->relation, NoLock, true));
		else if (step->subtype == AT_AddInherit)
			refuse_open_parent(RangeVarGetRelid(alter->relation, NoLock, true),
							   RangeVarGetRelid((RangeVar *) step->def, NoLock, true));
	}
}

/*
 * Protect what the command has made, and follow what it has renamed. An error
 * here undoes the command: a table that has to be protected and cannot be is
 * not made.
 */
static void
follow_command(Node *command)
{
	List	   *tables = touched_tables();
	ListCell   *cell;

	if (IsA(command, RenameStmt))
		follow_rename((RenameStmt *) command, tables);
	if (IsA(command, AlterTableStmt))
	{
		check_parents((AlterTableStmt *) command);
		follow_detached((AlterTableStmt *) command);
	}
	if (!may_need_protection(command))
		return;
	foreach(cell, tables)
		protect_touched(lfirst_oid(cell));
}

/*
 * Whether the command has touched a protected table or one of its policies and
 * triggers.
 */
static bool
touches_protected(void)
{
	return plat_sql_query("WITH RECURSIVE up(relid) AS ("
						  " SELECT coalesce(p.polrelid, t.tgrelid, d.objid)"
						  "  FROM pg_event_trigger_ddl_commands() d"
						  "  LEFT JOIN pg_policy p ON p.oid = d.objid"
						  "   AND d.classid = 'pg_policy'::regclass"
						  "  LEFT JOIN pg_trigger t ON t.oid = d.objid"
						  "   AND d.classid = 'pg_trigger'::regclass"
						  " UNION SELECT i.inhparent"
						  "  FROM up JOIN pg_inherits i ON i.inhrelid = up.relid)"
						  " SELECT FROM up JOIN platpat.protections t"
						  "  ON t.table_name = up.relid LIMIT 1",
						  0, NULL, NULL, NULL) > 0;
}

/*
 * Event trigger for ddl_command_end. Silent during our own DDL, in extension
 * scripts and in pg_upgrade, which restores catalogs as they were.
 */
Datum
plat_policy_on_command_end(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_data(fcinfo);

	finish_command();
	if (plat_policy_installing() || creating_extension || IsBinaryUpgrade)
		return (Datum) 0;
	SPI_connect();
	if (IsA(event->parsetree, CreatePolicyStmt))
		warn_policy((CreatePolicyStmt *) event->parsetree);
	else
		follow_command(event->parsetree);
	if (touches_protected())
	{
		plat_worker_wake_at_commit(PLAT_PROTECTIONS);
		if (IsA(event->parsetree, CreatePolicyStmt) || IsA(event->parsetree, AlterPolicyStmt))
			plat_worker_wake_at_commit(PLAT_FOREIGN_POLICIES);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * Whether something was dropped that protection is made of, while there are
 * protected tables.  Whose it was is not found out: drops are rare.
 */
static bool
takes_protection(void)
{
	return plat_sql_query("SELECT FROM pg_event_trigger_dropped_objects() d"
						  " WHERE NOT d.is_temporary AND d.object_type IN"
						  "  ('policy', 'trigger', 'index', 'default value', 'table constraint')"
						  " AND EXISTS (SELECT FROM platpat.protections) LIMIT 1",
						  0, NULL, NULL, NULL) > 0;
}

/*
 * Event trigger for sql_drop: forget tables and schemas that are gone,
 * whatever command took them along. A row for a table that is gone would be
 * dumped as a bare number and stop a restore.
 */
Datum
plat_policy_on_drop(PG_FUNCTION_ARGS)
{
	(void) event_data(fcinfo);
	if (!OidIsValid(get_extension_oid("platpat", true)))
		return (Datum) 0;
	SPI_connect();
	plat_sql_as_owner("protections",
					  "DELETE FROM platpat.protections p"
					  " USING pg_catalog.pg_event_trigger_dropped_objects() d"
					  " WHERE d.classid = 'pg_class'::regclass"
					  " AND d.objsubid = 0 AND p.table_name = d.objid",
					  0, NULL, NULL, NULL);
	plat_sql_as_owner("adopted_tables",
					  "DELETE FROM platpat.adopted_tables p"
					  " USING pg_catalog.pg_event_trigger_dropped_objects() d"
					  " WHERE d.classid = 'pg_class'::regclass"
					  " AND d.objsubid = 0 AND p.table_name = d.objid",
					  0, NULL, NULL, NULL);
	plat_sql_as_owner("protected_schemas",
					  "DELETE FROM platpat.protected_schemas s"
					  " USING pg_catalog.pg_event_trigger_dropped_objects() d"
					  " WHERE d.classid = 'pg_namespace'::regclass"
					  " AND s.schema_name = d.object_name",
					  0, NULL, NULL, NULL);
	if (!plat_policy_installing() && takes_protection())
	{
		plat_worker_wake_at_commit(PLAT_PROTECTIONS);
		plat_worker_wake_at_commit(PLAT_FOREIGN_POLICIES);
	}
	SPI_finish();
	return (Datum) 0;
}
