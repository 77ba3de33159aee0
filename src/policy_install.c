/*
 * policy_install.c
 *		Running a plan: protecting a table tree, or ceasing to.
 *
 * Every statement runs as the caller, who must own the tables; only the rows
 * of platpat.protections are written as their owner.  A first look without
 * lasting locks decides whether there is anything to do, so that repeating
 * protect() on a busy table disturbs nobody; then the whole tree is locked,
 * parents first, and looked at again.
 *
 * Nothing is shared between backends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "attempt.h"
#include "compat.h"
#include "policy.h"
#include "sql.h"
#include "worker.h"

#define NO_FOREIGN_ROWS \
	"Row security does not reach the rows of a foreign table."

/*
 * Set while our own DDL runs, which the event triggers leave alone: they
 * would protect a table in the middle of being protected. An error clears it
 * on its way.
 */
static bool installing = false;

/* A repair under way, for plat_attempt(). */
typedef struct Repair
{
	Oid			relid;
	const PlatProtection *known;
} Repair;

/*
 * Whether the running DDL is ours, for the event triggers.
 */
bool
plat_policy_installing(void)
{
	return installing;
}

/*
 * The column that policy platpat_tenant of the table compares, or NULL.  The
 * catalogs follow every way to rename a column, a recorded name does not.
 */
static char *
policed_column(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	if (plat_sql_query("SELECT DISTINCT a.attname FROM pg_policy p"
					   " JOIN pg_depend d ON d.classid = 'pg_policy'::regclass"
					   "  AND d.objid = p.oid"
					   "  AND d.refclassid = 'pg_class'::regclass"
					   "  AND d.refobjid = p.polrelid AND d.refobjsubid > 0"
					   " JOIN pg_attribute a ON a.attrelid = p.polrelid"
					   "  AND a.attnum = d.refobjsubid"
					   " WHERE p.polname = '" PLAT_TENANT_POLICY "'"
					   " AND p.polrelid = $1",
					   1, types, values, NULL) != 1)
		return NULL;
	return plat_sql_value(0, 1);
}

/*
 * Find the protection of the table or else of one of its ancestors.  Where
 * the recorded column is gone, the policy tells how it is called now.
 */
bool
plat_policy_lookup(Oid relid, PlatProtection *found)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	char	   *renamed;

	if (plat_sql_query("WITH RECURSIVE up(relid) AS ("
					   " SELECT $1 UNION"
					   " SELECT i.inhparent"
					   " FROM up JOIN pg_inherits i ON i.inhrelid = up.relid)"
					   " SELECT up.relid, p.tenant_column, p.access"
					   " FROM up JOIN platpat.protections p"
					   "  ON p.table_name = up.relid"
					   " ORDER BY up.relid <> $1 LIMIT 1",
					   1, types, values, NULL) == 0)
		return false;
	found->relid = atooid(plat_sql_value(0, 1));
	strlcpy(found->column, plat_sql_value(0, 2), NAMEDATALEN);
	found->access = plat_sql_value(0, 3)[0] == 't';
	found->is_stale = false;
	if (get_attnum(found->relid, found->column) == InvalidAttrNumber &&
		(renamed = policed_column(found->relid)) != NULL)
	{
		strlcpy(found->column, renamed, NAMEDATALEN);
		found->is_stale = true;
	}
	return true;
}

/*
 * Raise 0A000: the object cannot be protected for the reason given. what
 * completes "cannot protect", detail is a sentence.
 */
static void
refuse(const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot protect %s", what),
			 errdetail("%s", detail)));
}

/*
 * Warn about a foreign table among tables that are protected: it stays as
 * open as it is.
 */
void
plat_policy_warn_foreign(Oid relid)
{
	ereport(WARNING,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("foreign table \"%s\" is not protected",
					get_rel_name(relid)),
			 errdetail(NO_FOREIGN_ROWS)));
}

/* Raise 42P01 if the table is gone: others may drop what we hold no lock on. */
static void
check_exists(Oid relid)
{
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("table with OID %u does not exist", relid)));
}

/*
 * The owner of a table; 42P01 if it is gone.
 */
static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		check_exists(relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Refuse what is no table, is not the caller's, or cannot have policies:
 * 42P01, 42809, 42501, 0A000. Ownership counts and not a privilege, because
 * that is what each of the statements will want.
 */
static void
check_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	FormData_pg_class form;
	const char *name;

	if (!HeapTupleIsValid(tuple))
		check_exists(relid);
	form = *(Form_pg_class) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	name = psprintf("table \"%s\"", NameStr(form.relname));

	if (form.relkind == RELKIND_FOREIGN_TABLE)
		refuse(psprintf("foreign table \"%s\"", NameStr(form.relname)),
			   NO_FOREIGN_ROWS);
	if (form.relkind != RELKIND_RELATION &&
		form.relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", NameStr(form.relname))));
	if (form.relpersistence == RELPERSISTENCE_TEMP)
		refuse(name, "It is temporary.");
	if (IsCatalogRelationOid(relid) ||
		form.relnamespace == get_namespace_oid("platpat", false))
		refuse(name, "It belongs to the system or to platpat itself.");
	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE,
					   NameStr(form.relname));
}

/*
 * Refuse a column that is missing (42703) or cannot hold a tenant (0A000): of
 * a type without a reader, so that the policy would need a cast; generated or
 * identity, so that the default could not be the tenant; or of a collation
 * that calls different ids equal, which would make two tenants one.
 */
static void
check_column(Oid relid, const char *column)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	FormData_pg_attribute att;
	const char *what = psprintf("table \"%s\" by column \"%s\"",
								get_rel_name(relid), column);
	const char *reader;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						column, get_rel_name(relid)),
				 errhint("Name the column that holds the tenant: platpat.protect(table_name, tenant_column).")));
	att = *(Form_pg_attribute) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);

	if (!plat_policy_supports(att.atttypid, &reader))
		refuse(what, psprintf("Its type is %s; a tenant column is of type uuid, bigint, integer, text or varchar.",
							  format_type_be(att.atttypid)));
	if (att.attnum < 0 || att.attgenerated != '\0' || att.attidentity != '\0')
		refuse(what, "It is a system, generated or identity column.");
	if (OidIsValid(att.attcollation) &&
		!get_collation_isdeterministic(att.attcollation))
		refuse(what, "Its collation is nondeterministic, so that two tenants could compare as equal.");
}

/*
 * Refuse a column other than the one that protects the table already, through
 * whichever parent (55000): both policies would have the same name, and the
 * later one would win.
 */
static void
check_same_column(Oid relid, const char *column)
{
	PlatProtection known;

	if (!plat_policy_lookup(relid, &known) || strcmp(known.column, column) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is protected by column \"%s\" already",
					get_rel_name(relid), known.column),
			 errhint("Call platpat.unprotect(table_name) first.")));
}

/*
 * Whether rows of the table or its descendants have no tenant: a WARNING that
 * counts them if they may stay, otherwise the error 23502. Reads the heaps,
 * so it takes as long as a sequential scan.
 */
static bool
has_nulls(const PlatTable *table, const char *column, bool keep_nulls)
{
	List	   *tree = find_all_inheritors(table->relid, NoLock, NULL);
	ListCell   *cell;
	int64		count = 0;

	foreach(cell, tree)
	{
		Oid			relid = lfirst_oid(cell);

		/* A child may be another's, whose rows are not to be counted. */
		if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
			aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
		count += plat_policy_count_nulls(relid, get_attnum(relid, column));
	}
	if (count == 0)
		return false;
	ereport(keep_nulls ? WARNING : ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg_plural("%lld row of table %s has no tenant",
						   "%lld rows of table %s have no tenant",
						   (long) count, (long long) count, table->name),
			 errdetail("Column %s is null there; no tenant will see such a row.",
					   table->column),
			 errhint("UPDATE or DELETE these rows, under platpat.as_admin(reason) if the table is protected already, and call platpat.protect() again.")));
	return true;
}

/*
 * Whether the permissive policy is wanted on a table about which nothing was
 * said: not beside permissive policies of its own, and not where row security
 * without any permissive policy has denied everything so far.
 */
static bool
wants_access(const PlatTable *table, bool say)
{
	if (table->access_policy != PLAT_MISSING)
		return true;
	if (table->other_permissive)
		return false;
	if (!table->row_security || table->replaced_permissive ||
		table->tenant_policy != PLAT_MISSING)
		return true;
	if (say)
		ereport(WARNING,
				(errmsg("table %s stays closed", table->name),
				 errdetail("Row security was on without any permissive policy, which denies every access."),
				 errhint("Open it to the current tenant with platpat.protect(table_name, access => true).")));
	return false;
}

/*
 * Before anything is locked, refuse rows without a tenant: on a large table
 * the count takes long.
 */
static void
refuse_nulls(const PlatTable *table, const char *column, List *actions)
{
	ListCell   *cell;

	foreach(cell, actions)
	{
		if (((PlatAction *) lfirst(cell))->needs_tenants)
			(void) has_nulls(table, column, false);
	}
}

/*
 * Run the statement of an action.  One that may run functions which the owner
 * of the table has chosen is run with his rights and no more, whoever asks.
 */
static void
run_statement(const PlatTable *table, const PlatAction *action)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	if (action->as_owner)
		SetUserIdAndSecContext(owner_of(table->relid),
							   context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	plat_sql_run(action->statement);
	SetUserIdAndSecContext(user, context);
}

/*
 * Run what can be run at once; returns the actions done or left pending.  The
 * count that refuse_nulls made is made again, under the lock, where it is
 * quick; nobody has made it when NULLs are to be kept.
 */
static List *
run_actions(const PlatTable *table, const char *column, List *actions,
			bool keep_nulls)
{
	List	   *done = NIL;
	bool		skipped = false;
	ListCell   *cell;

	foreach(cell, actions)
	{
		PlatAction *action = lfirst(cell);

		if (action->follows && skipped)
			continue;
		skipped = action->needs_tenants && (action->is_quick || keep_nulls) &&
			has_nulls(table, column, keep_nulls);
		if (skipped)
			continue;
		if (!action->pending)
			run_statement(table, action);
		done = lappend(done, action);
	}
	return done;
}

/*
 * Plan one table of the tree and, unless looking only, run the plan.  access
 * is what is wanted on the root; unless that is decided for this table too,
 * its own policies may keep platpat_access away.
 */
static List *
protect_one(Oid relid, const char *column, bool access, bool decided,
			bool is_root, bool keep_nulls, bool run)
{
	PlatTable  *table = plat_policy_inspect(relid, column, false);
	PlatWish	wish;
	List	   *actions;

	wish.access = access && (decided || wants_access(table, run));
	wish.is_root = is_root;
	actions = plat_policy_plan(table, &wish);
	if (run)
		return run_actions(table, column, actions, keep_nulls);
	if (!keep_nulls)
		refuse_nulls(table, column, actions);
	return actions;
}

/*
 * Whether any of the actions would be run now, so that the tables have to be
 * locked.
 */
static bool
any_to_run(List *actions)
{
	ListCell   *cell;

	foreach(cell, actions)
	{
		if (!((PlatAction *) lfirst(cell))->pending)
			return true;
	}
	return false;
}

/*
 * Protect each table of the tree, or only look what that would take. Parents
 * come first: what recurses from them is done when their children are looked
 * at. for_all says that access was asked for and holds for children too.
 */
static List *
protect_tree(List *tree, const char *column, bool access, bool for_all,
			 bool keep_nulls, bool run)
{
	List	   *actions = NIL;
	ListCell   *cell;

	foreach(cell, tree)
	{
		Oid			relid = lfirst_oid(cell);
		bool		is_root = foreach_current_index(cell) == 0;

		check_table(relid);
		check_column(relid, column);
		check_same_column(relid, column);
		actions = list_concat(actions,
							  protect_one(relid, column, access,
										  is_root || for_all, is_root,
										  keep_nulls, run));
	}
	return actions;
}

/*
 * Remember what was asked for. Written as the owner of our table; the caller
 * has been found to own the protected one.
 */
static void
record_protection(Oid relid, const char *column, bool access)
{
	Oid			types[] = {OIDOID, NAMEOID, BOOLOID};
	Datum		values[3];

	values[0] = ObjectIdGetDatum(relid);
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
	values[2] = BoolGetDatum(access);
	plat_sql_as_owner("protections",
					  "INSERT INTO platpat.protections AS p"
					  " (table_name, tenant_column, access)"
					  " VALUES ($1, $2, $3)"
					  " ON CONFLICT (table_name) DO UPDATE"
					  " SET tenant_column = excluded.tenant_column,"
					  "  access = excluded.access"
					  " WHERE p.access <> excluded.access"
					  " OR p.tenant_column <> excluded.tenant_column",
					  3, types, values, NULL);
}

/*
 * Note that the protection of a table has been complete in this database, so
 * that what is missing of it from now on has been taken away.  A restore brings
 * the record of what shall be protected before the protection itself, and must
 * not be disturbed in between; this it does not bring.
 */
void
plat_policy_adopt(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	plat_sql_as_owner("adopted_tables",
					  "INSERT INTO platpat.adopted_tables VALUES ($1)"
					  " ON CONFLICT DO NOTHING",
					  1, types, values, NULL);
}

/*
 * Have a table that has left a parent be protected in its own right, if it was
 * through that one and is not otherwise: its rows are still those of tenants.
 * Either may be InvalidOid.
 */
void
plat_policy_keep(Oid relid, Oid parent)
{
	PlatProtection known;
	PlatTable  *table;
	char		kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		plat_policy_lookup(relid, &known) || !plat_policy_lookup(parent, &known))
		return;
	table = plat_policy_inspect(relid, known.column, false);
	record_protection(relid, known.column, table->access_policy != PLAT_MISSING);
	plat_policy_adopt(relid);
	plat_worker_wake_at_commit(PLAT_PROTECTIONS);
}

/*
 * Lock a table for a change of it; 42P01 if it was dropped while we waited,
 * or before.
 */
static void
lock_table(Oid relid)
{
	LockRelationOid(relid, AccessExclusiveLock);
	check_exists(relid);
}

/*
 * Warn about views that would read the table with their owner's eyes, at any
 * distance, and about materialized views. A warning and not more: such a view
 * is right where its owner is subject to the policies.
 */
static void
warn_views(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	const char *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid));
	uint64		rows;

	rows = plat_sql_query("WITH RECURSIVE above(relid) AS ("
						  " SELECT $1 UNION"
						  " SELECT r.ev_class FROM above"
						  " JOIN pg_catalog.pg_depend d"
						  "  ON d.refobjid = above.relid"
						  "  AND d.refclassid = 'pg_class'::regclass"
						  "  AND d.classid = 'pg_rewrite'::regclass"
						  " JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid)"
						  " SELECT c.oid::regclass::text, c.relkind"
						  " FROM above JOIN pg_catalog.pg_class c"
						  "  ON c.oid = above.relid"
						  " WHERE c.relkind = 'm' OR c.relkind = 'v'"
						  " AND NOT EXISTS (SELECT FROM"
						  "  pg_options_to_table(c.reloptions) o"
						  "  WHERE o.option_name = 'security_invoker'"
						  "  AND o.option_value::boolean)"
						  " ORDER BY 1",
						  1, types, values, NULL);
	for (uint64 i = 0; i < rows; i++)
	{
		const char *view = plat_sql_value(i, 1);
		bool		stored = plat_sql_value(i, 2)[0] == 'm';

		if (stored)
			ereport(WARNING,
					(errmsg("materialized view %s stores rows of table %s",
							view, table),
					 errdetail("No policy applies to them there."),
					 errhint("Let no application role read it.")));
		else
			ereport(WARNING,
					(errmsg("view %s reads table %s as its owner", view, table),
					 errdetail("The policies see that role, not the one that uses the view."),
					 errhint("ALTER VIEW %s SET (security_invoker = true)",
							 view)));
	}
}

/*
 * Decide on platpat_access for the tree: what was asked, else what was
 * recorded, else what the root's own policies suggest.
 */
static bool
resolve_access(Oid relid, const char *column, const bool *asked,
			   const PlatProtection *known)
{
	if (asked)
		return *asked;
	if (known)
		return known->access;
	return wants_access(plat_policy_inspect(relid, column, false), true);
}

/*
 * The work of plat_policy_install, in two rounds: a look that keeps no locks,
 * and, only if there is something to do, the same again under ACCESS
 * EXCLUSIVE on the whole tree, because anything may have changed in between.
 */
static List *
install_tree(Oid relid, const char *column, const bool *asked, bool keep_nulls)
{
	PlatProtection known;
	bool		is_known;
	bool		access;
	List	   *actions;

	check_table(relid);
	check_column(relid, column);
	is_known = plat_policy_lookup(relid, &known);
	access = resolve_access(relid, column, asked, is_known ? &known : NULL);

	actions = protect_tree(find_all_inheritors(relid, NoLock, NULL), column,
						   access, asked != NULL, keep_nulls, false);
	if (any_to_run(actions))
	{
		lock_table(relid);
		actions = protect_tree(find_all_inheritors(relid, AccessExclusiveLock,
												   NULL),
							   column, access, asked != NULL, keep_nulls,
							   true);
	}
	/* nobody drops it while its name goes into the record and the warnings */
	LockRelationOid(relid, AccessShareLock);
	check_exists(relid);
	if (!is_known || (known.relid == relid &&
					  (known.access != access || known.is_stale)))
		record_protection(relid, column, access);
	if (!is_known || known.relid == relid)
		plat_policy_adopt(relid);
	plat_worker_wake_at_commit(PLAT_PROTECTIONS);
	plat_worker_wake_at_commit(PLAT_FOREIGN_POLICIES);
	warn_views(relid);
	UnlockRelationOid(relid, AccessShareLock);
	return actions;
}

/*
 * Protect a table and everything that inherits from it.  asked is NULL when
 * nothing was said about platpat_access; keep_nulls makes rows without a
 * tenant a warning.  Returns the actions, done and pending.  SPI is connected.
 */
List *
plat_policy_install(Oid relid, const char *column, const bool *asked,
					bool keep_nulls)
{
	List	   *actions = NIL;

	installing = true;
	PG_TRY();
	{
		actions = install_tree(relid, column, asked, keep_nulls);
	}
	PG_FINALLY();
	{
		installing = false;
	}
	PG_END_TRY();
	return actions;
}

/*
 * What has to be done on one table to bring back what its protection wants.
 * Policies of others stay, also those that protect() would replace.  NOT NULL
 * that has gone from a child of a parent that has it is brought back on the
 * child.  One without its tenant column is closed.  *access is whether
 * platpat_access is wanted.
 */
List *
plat_policy_plan_repair(PlatTable *table, const PlatProtection *known,
						bool parent_not_null, bool *access)
{
	PlatWish	wish;

	*access = known->access;
	if (table->attnum == 0)
		return plat_policy_plan_closing(table);
	wish.is_root = table->relid == known->relid || parent_not_null;
	wish.access = known->access &&
		(table->relid == known->relid || wants_access(table, false));
	*access = wish.access;
	table->handwritten = NIL;
	return plat_policy_plan(table, &wish);
}

/*
 * Whether all parents of a table have the tenant column as NOT NULL, and there
 * is one.
 */
static bool
parents_are_not_null(Oid relid, const char *column)
{
	Oid			types[] = {OIDOID, NAMEOID};
	Datum		values[2];

	values[0] = ObjectIdGetDatum(relid);
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
	(void) plat_sql_query("SELECT coalesce(bool_and(a.attnotnull), false)"
						  " FROM pg_inherits i LEFT JOIN pg_attribute a"
						  "  ON a.attrelid = i.inhparent AND a.attname = $2"
						  " WHERE i.inhrelid = $1",
						  2, types, values, NULL);
	return plat_sql_value(0, 1)[0] == 't';
}

/*
 * What has to be done to one table.
 */
static List *
plan_table(PlatTable *table, const PlatProtection *known)
{
	bool		access;

	return plat_policy_plan_repair(table, known,
								   parents_are_not_null(table->relid, known->column),
								   &access);
}

/*
 * Those of the actions that isolation rests on, or the others.
 */
static List *
select_actions(List *actions, bool completing)
{
	List	   *selected = NIL;
	ListCell   *cell;

	foreach(cell, actions)
	{
		if (((PlatAction *) lfirst(cell))->completes == completing)
			selected = lappend(selected, lfirst(cell));
	}
	return selected;
}

/*
 * The second part of a repair, for plat_attempt(): what isolation does not rest
 * on, and an error for what protect() would refuse.
 */
static void
complete_table(void *arg)
{
	const PlatProtection *known = ((Repair *) arg)->known;
	Oid			relid = ((Repair *) arg)->relid;
	PlatTable  *table;

	check_column(relid, known->column);
	table = plat_policy_inspect(relid, known->column, false);
	(void) run_actions(table, known->column,
					   select_actions(plan_table(table, known), true), false);
}

/*
 * Bring one table back to what its protection wants.  Rows that keep it from
 * being complete do not keep it open: after a first part that did something the
 * second may fail, and then it is the next attempt that tells.
 */
static void
repair_table(Oid relid, PlatProtection *known)
{
	Repair		repair = {relid, known};
	PlatTable  *table;
	List	   *isolating;
	ErrorData  *error = NULL;

	lock_table(relid);
	/* unprotect() may have had it until now */
	if (!plat_policy_lookup(relid, known))
		return;
	check_table(relid);
	table = plat_policy_inspect(relid, known->column, false);
	isolating = select_actions(plan_table(table, known), false);
	(void) run_actions(table, known->column, isolating, false);
	if (isolating == NIL)
		complete_table(&repair);
	else
		error = plat_attempt(complete_table, &repair);
	plat_heed_cancel(error);
}

/*
 * Bring one table back to what its protection wants, as the current user, who
 * owns it or is a superuser: its children are others' turn.  Nothing if it is
 * not to be protected any more.  SPI is connected.  Locks the table only if
 * there is something to do.
 */
void
plat_policy_repair(Oid relid)
{
	PlatProtection known;

	if (!plat_policy_lookup(relid, &known))
		return;
	check_table(relid);
	if (!any_to_run(plan_table(plat_policy_inspect(relid, known.column, false), &known)))
	{
		check_column(relid, known.column);
		return;
	}
	installing = true;
	PG_TRY();
	{
		repair_table(relid, &known);
	}
	PG_FINALLY();
	{
		installing = false;
	}
	PG_END_TRY();
}

/*
 * Whether row security is off for anybody.
 */
static bool
is_open(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = !form->relrowsecurity || !form->relforcerowsecurity;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * Switch row security on, for the owner too, without looking at anything else:
 * for a table that cannot be looked at.  False if it is on, or the table is not
 * to be protected any more.
 */
bool
plat_policy_close(Oid relid)
{
	PlatProtection known;

	if (!is_open(relid))
		return false;
	lock_table(relid);
	if (!plat_policy_lookup(relid, &known))
		return false;
	plat_sql_run(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY,"
						  " FORCE ROW LEVEL SECURITY",
						  quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
													 get_rel_name(relid))));
	return true;
}

/*
 * Forget what was asked for; nothing if nothing was.
 */
static void
forget_protection(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	plat_sql_as_owner("protections",
					  "DELETE FROM platpat.protections WHERE table_name = $1",
					  1, types, values, NULL);
	plat_sql_as_owner("adopted_tables",
					  "DELETE FROM platpat.adopted_tables WHERE table_name = $1",
					  1, types, values, NULL);
	plat_worker_wake_at_commit(PLAT_PROTECTIONS);
}

/*
 * The work of plat_policy_remove. The record goes first, so that the lookups
 * for the members of the tree find what else protects them, and leave that
 * alone.
 */
static List *
remove_tree(Oid relid)
{
	PlatProtection known;
	const char *column = policed_column(relid);
	List	   *done = NIL;
	ListCell   *cell;

	check_table(relid);
	strlcpy(known.column, "tenant_id", NAMEDATALEN);
	if (plat_policy_lookup(relid, &known) && known.relid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is protected through its parent \"%s\"",
						get_rel_name(relid), get_rel_name(known.relid)),
				 errhint("Call platpat.unprotect() on the parent.")));
	column = column ? column : pstrdup(known.column);

	lock_table(relid);
	forget_protection(relid);
	foreach(cell, find_all_inheritors(relid, AccessExclusiveLock, NULL))
	{
		Oid			member = lfirst_oid(cell);
		PlatTable  *table;

		/* protected in its own right, or by another parent */
		if (plat_policy_lookup(member, &known))
			continue;
		table = plat_policy_inspect(member, column, false);
		done = list_concat(done,
						   run_actions(table, column,
									   plat_policy_plan_removal(table, member == relid),
									   false));
	}
	return done;
}

/*
 * Take our protection off a table and everything that inherits from it.
 * Returns the actions done. SPI is connected; takes and keeps ACCESS
 * EXCLUSIVE on the tree.
 */
List *
plat_policy_remove(Oid relid)
{
	List	   *actions = NIL;

	installing = true;
	PG_TRY();
	{
		actions = remove_tree(relid);
	}
	PG_FINALLY();
	{
		installing = false;
	}
	PG_END_TRY();
	return actions;
}
