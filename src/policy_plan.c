/*
 * policy_plan.c
 *		What has to be done to protect a table, or to stop protecting it.
 *
 * Pure functions from the state of a table to a list of actions: no catalog,
 * no lock, nothing run.  An empty list means that all is as it should be.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "utils/builtins.h"

#include "policy.h"

/*
 * Up to this size of the heap an index is built and NULLs are ruled out at
 * once: a scan of this much takes a fraction of a second, which a table can
 * be locked for.
 */
#define QUICK_BYTES ((uint64) 64 * 1024 * 1024)

/*
 * Add an action on table to the list and return it, to set its flags. what is
 * a constant that callers of protect() may compare with.
 */
static PlatAction *
add(List **actions, const PlatTable *table, const char *what,
	const char *statement)
{
	PlatAction *action = palloc0(sizeof(PlatAction));

	action->object = table->name;
	action->action = what;
	action->statement = statement;
	*actions = lappend(*actions, action);
	return action;
}

/*
 * Row security, on and for the owner too. The owner is often the role that
 * migrations and backfills connect as, and must not be the hole.
 */
static void
plan_row_security(const PlatTable *table, List **actions)
{
	if (!table->row_security)
		add(actions, table, "enable row security",
			psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table->name));
	if (!table->forced)
		add(actions, table, "force row security",
			psprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", table->name));
}

/*
 * Drop a policy, ours or one that ours replace.
 */
static void
plan_drop_policy(const PlatTable *table, const char *policy, List **actions)
{
	add(actions, table, "drop policy",
		psprintf("DROP POLICY %s ON %s",
				 quote_identifier(policy), table->name));
}

/*
 * The restrictive floor, the permissive door, and what they replace. Ours are
 * made before the hand-written ones are dropped, though nobody could see the
 * difference: it is all one transaction.
 */
static void
plan_policies(const PlatTable *table, const PlatWish *wish, List **actions)
{
	ListCell   *cell;

	if (table->tenant_policy == PLAT_DIFFERENT)
		plan_drop_policy(table, PLAT_TENANT_POLICY, actions);
	if (table->tenant_policy != PLAT_RIGHT)
		add(actions, table, "create policy",
			psprintf("CREATE POLICY " PLAT_TENANT_POLICY " ON %s"
					 " AS RESTRICTIVE USING %s WITH CHECK %s",
					 table->name, table->predicate, table->predicate));

	if (table->access_policy == PLAT_DIFFERENT ||
		(table->access_policy == PLAT_RIGHT && !wish->access))
		plan_drop_policy(table, PLAT_ACCESS_POLICY, actions);
	if (table->access_policy != PLAT_RIGHT && wish->access)
		add(actions, table, "create policy",
			psprintf("CREATE POLICY " PLAT_ACCESS_POLICY " ON %s"
					 " AS PERMISSIVE USING %s WITH CHECK (true)",
					 table->name, table->predicate));

	foreach(cell, table->handwritten)
		plan_drop_policy(table, lfirst(cell), actions);
}

/*
 * The default of the tenant column. It recurses to children, each of which
 * has its own; a default that was there before is replaced, because an INSERT
 * that leaves the column out means the current tenant.
 */
static void
plan_default(const PlatTable *table, List **actions)
{
	if (plat_policy_has_default(table))
		return;
	add(actions, table, "set default",
		psprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s",
				 table->name, table->column, table->reader));
}

/*
 * Drop the CHECK that stood in for NOT NULL, when NOT NULL is there.
 */
static PlatAction *
plan_drop_check(const PlatTable *table, List **actions)
{
	return add(actions, table, "drop check",
			   psprintf("ALTER TABLE %s DROP CONSTRAINT " PLAT_NOT_NULL_CHECK,
						table->name));
}

/*
 * NOT NULL.  The scan that it takes holds the table's strongest lock, so for
 * a large table a CHECK takes its place at once for new rows, the user
 * validates that under a weak lock, and the next protect() finishes without
 * a scan.  Children follow their parent.
 */
static void
plan_not_null(const PlatTable *table, const PlatWish *wish, List **actions)
{
	bool		quick = table->bytes < QUICK_BYTES || table->null_check_valid;
	PlatAction *action;

	if (!wish->is_root)
		return;
	if (!table->not_null && quick)
	{
		action = add(actions, table, "set not null",
					 psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL",
							  table->name, table->column));
		action->needs_tenants = action->is_quick = !table->null_check_valid;
		/* Core looks whether a CHECK implies it, and folds what that calls. */
		action->as_owner = true;
	}
	if (!table->not_null && !quick && !table->own_null_check)
	{
		action = add(actions, table, "add check",
					 psprintf("ALTER TABLE %s ADD CONSTRAINT " PLAT_NOT_NULL_CHECK
							  " CHECK (%s IS NOT NULL) NOT VALID",
							  table->name, table->column));
		action->needs_tenants = true;
	}
	if (!table->not_null && !quick)
		add(actions, table, "validate check, then protect again",
			psprintf("ALTER TABLE %s VALIDATE CONSTRAINT " PLAT_NOT_NULL_CHECK,
					 table->name))->pending = true;
	if (table->own_null_check && (table->not_null || quick))
		plan_drop_check(table, actions)->follows = !table->not_null;
}

/*
 * An index that leads with the tenant.  A large partitioned table has none of
 * its own: each partition gets or is told one.  So is the owner who may not
 * create anything in the schema.
 */
static void
plan_index(const PlatTable *table, List **actions)
{
	if (table->indexed)
		return;
	if (table->bytes < QUICK_BYTES && table->may_index)
		add(actions, table, "create index",
			psprintf("CREATE INDEX ON %s (%s)", table->name, table->column));
	else if (table->relkind == RELKIND_RELATION)
		add(actions, table, "create index when convenient",
			psprintf("CREATE INDEX CONCURRENTLY ON %s (%s)",
					 table->name, table->column))->pending = true;
}

/*
 * The trigger that refuses TRUNCATE. Statement triggers of a parent do not
 * fire for its partitions, so each table has its own.
 */
static void
plan_guard(const PlatTable *table, List **actions)
{
	if (table->guard == PLAT_RIGHT)
		return;
	if (table->guard == PLAT_DIFFERENT)
		add(actions, table, "drop trigger",
			psprintf("DROP TRIGGER " PLAT_GUARD_TRIGGER " ON %s",
					 table->name));
	add(actions, table, "create trigger",
		psprintf("CREATE TRIGGER " PLAT_GUARD_TRIGGER " BEFORE TRUNCATE ON %s"
				 " EXECUTE FUNCTION platpat.refuse_truncate()", table->name));
}

/*
 * The actions that make the table what wish asks for, in the order in which
 * they are to be run. The tenant column is there and of a supported type.
 */
List *
plat_policy_plan(const PlatTable *table, const PlatWish *wish)
{
	List	   *actions = NIL;
	int			isolating;

	Assert(table->attnum > 0);
	plan_row_security(table, &actions);
	plan_policies(table, wish, &actions);
	isolating = list_length(actions);
	plan_default(table, &actions);
	plan_not_null(table, wish, &actions);
	plan_index(table, &actions);
	for (int i = isolating; i < list_length(actions); i++)
		((PlatAction *) list_nth(actions, i))->completes = true;
	plan_guard(table, &actions);
	return actions;
}

/*
 * The actions that close a table whose tenant column is gone, as far as row
 * security alone can.
 */
List *
plat_policy_plan_closing(const PlatTable *table)
{
	List	   *actions = NIL;

	plan_row_security(table, &actions);
	return actions;
}

/*
 * The actions that take our protection away.  Row security stays on where
 * the table has policies of its own; NOT NULL and the index stay in any case.
 */
List *
plat_policy_plan_removal(const PlatTable *table, bool is_root)
{
	List	   *actions = NIL;
	bool		ours;

	ours = table->tenant_policy != PLAT_MISSING ||
		table->access_policy != PLAT_MISSING;
	if (table->access_policy != PLAT_MISSING)
		plan_drop_policy(table, PLAT_ACCESS_POLICY, &actions);
	if (table->tenant_policy != PLAT_MISSING)
		plan_drop_policy(table, PLAT_TENANT_POLICY, &actions);
	if (table->guard != PLAT_MISSING)
		add(&actions, table, "drop trigger",
			psprintf("DROP TRIGGER " PLAT_GUARD_TRIGGER " ON %s", table->name));
	if (plat_policy_has_default(table))
		add(&actions, table, "drop default",
			psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT",
					 table->name, table->column));
	if (table->own_null_check && is_root)
		plan_drop_check(table, &actions);
	if (ours && !table->other_policies && table->forced)
		add(&actions, table, "stop forcing row security",
			psprintf("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", table->name));
	if (ours && !table->other_policies && table->row_security)
		add(&actions, table, "disable row security",
			psprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", table->name));
	return actions;
}

/*
 * Whether the default of the tenant column is the current tenant, spelled as
 * it deparses.
 */
bool
plat_policy_has_default(const PlatTable *table)
{
	return table->default_text &&
		strcmp(table->default_text, table->reader) == 0;
}

/*
 * Whether the parts that isolation rests on are all there. The default, NOT
 * NULL and the index are for convenience and speed; without platpat_access
 * the table is closed or opened by policies of its own, both inside the
 * tenant.
 */
bool
plat_policy_is_protected(const PlatTable *table)
{
	return table->attnum > 0 && table->row_security && table->forced &&
		table->tenant_policy == PLAT_RIGHT && table->guard == PLAT_RIGHT;
}

/*
 * Whether an action of that name is among those that are run at once.
 */
bool
plat_policy_runs(List *actions, const char *what)
{
	ListCell   *cell;

	foreach(cell, actions)
	{
		const PlatAction *action = lfirst(cell);

		if (!action->pending && strcmp(action->action, what) == 0)
			return true;
	}
	return false;
}
