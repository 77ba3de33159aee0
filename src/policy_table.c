/*
 * policy_table.c
 *		Reading what the catalogs say about the protection of one table.
 *
 * Only reads, under the caller's locks, and nothing is shared between
 * backends.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "policy.h"
#include "sql.h"

/*
 * Commands that a set of hand-written policies covers, as bits: SELECT,
 * INSERT, UPDATE, DELETE.
 */
#define COVERS_ALL 0x0F

/*
 * One row of pg_policy, decoded. Expressions are deparsed under the pinned
 * search_path, so that equal policies have equal text.
 */
typedef struct PolicyRow
{
	char	   *name;
	char		command;		/* '*' or one of ACL_*_CHR */
	bool		permissive;
	bool		to_public;
	char	   *qual;			/* deparsed, NULL if there is none */
	char	   *check;
	bool		handwritten;	/* compares our column with a setting */
} PolicyRow;

/*
 * What setting_walker has seen of an expression.
 */
typedef struct SettingSearch
{
	bool		found;			/* a call of current_setting() */
	bool		foreign;		/* anything that is not allowed beside it */
} SettingSearch;

/*
 * Whether a tenant column may have this type, and the call that reads the
 * tenant in it.  integer is compared with bigint: both are in one operator
 * family, so indexes and pruning work without a cast.
 */
bool
plat_policy_supports(Oid type, const char **reader)
{
	switch (type)
	{
		case UUIDOID:
			*reader = "platpat.current_tenant_uuid()";
			return true;
		case INT4OID:
		case INT8OID:
			*reader = "platpat.current_tenant_bigint()";
			return true;
		case TEXTOID:
		case VARCHAROID:
			*reader = "platpat.current_tenant()";
			return true;
		default:
			return false;
	}
}

/*
 * Whether a function call is one that may stand beside current_setting(): a
 * cast of core's. SQL syntax like SYSTEM_USER or TRIM is a function call in
 * the tree, too, some of it without arguments, and is none.
 */
static bool
is_core_cast(const FuncExpr *call)
{
	return call->funcid < FirstNormalObjectId && call->args != NIL &&
		(call->funcformat == COERCE_EXPLICIT_CAST ||
		 call->funcformat == COERCE_IMPLICIT_CAST);
}

/*
 * Look for current_setting() among constants, casts, operators of core and
 * sub-selects without tables.  Everything else is foreign: a function of the
 * user's may be a membership check, and current_user or CASE a condition.
 */
static bool
setting_walker(Node *node, SettingSearch *search)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_FuncExpr:
			if (((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT ||
				((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT_BOOL)
				search->found = true;
			else
				search->foreign |= !is_core_cast((FuncExpr *) node);
			break;
		case T_OpExpr:
			search->foreign |= ((OpExpr *) node)->opno >= FirstNormalObjectId;
			break;
		case T_Query:
			if (((Query *) node)->rtable != NIL)
				search->foreign = true;
			return search->foreign ||
				query_tree_walker((Query *) node, setting_walker, search, 0);
		case T_List:
		case T_TargetEntry:
		case T_FromExpr:
		case T_SubLink:
		case T_Const:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_NullIfExpr:
		case T_CoalesceExpr:
			break;
		default:
			search->foreign = true;
			break;
	}
	return search->foreign ||
		expression_tree_walker(node, setting_walker, search);
}

/*
 * Whether the expression depends on settings and on nothing else: no column,
 * no parameter, no function of a user.
 */
static bool
reads_only_settings(Node *node)
{
	SettingSearch search = {false, false};

	(void) setting_walker(node, &search);
	return search.found && !search.foreign;
}

/*
 * Whether node is the column, possibly under one cast. tenant_id::text =
 * current_setting(...) is a common way to write it.
 */
static bool
is_column(Node *node, AttrNumber attnum)
{
	if (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	else if (IsA(node, CoerceViaIO))
		node = (Node *) ((CoerceViaIO *) node)->arg;
	else if (IsA(node, FuncExpr) && is_core_cast((FuncExpr *) node))
		node = linitial(((FuncExpr *) node)->args);
	return IsA(node, Var) && ((Var *) node)->varattno == attnum;
}

/*
 * Whether a stored expression is "column = something from settings", either
 * way round, by an equality of core's: one of a user's own may mean anything.
 */
static bool
compares_with_setting(const char *stored, AttrNumber attnum)
{
	Node	   *node = stringToNode(stored);
	OpExpr	   *op = (OpExpr *) node;
	char	   *operator;

	if (attnum == 0 || !IsA(node, OpExpr) || list_length(op->args) != 2 ||
		op->opno >= FirstNormalObjectId)
		return false;
	operator = get_opname(op->opno);
	if (operator == NULL || strcmp(operator, "=") != 0)
		return false;
	return (is_column(linitial(op->args), attnum) &&
			reads_only_settings(lsecond(op->args))) ||
		(is_column(lsecond(op->args), attnum) &&
		 reads_only_settings(linitial(op->args)));
}

/*
 * Deparse an expression column of a catalog row, and give its stored form in
 * *stored; NULL for both if there is none.
 */
static char *
expression_text(Relation catalog, HeapTuple tuple, AttrNumber column,
				Oid relid, char **stored)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column,
									 RelationGetDescr(catalog), &isnull);

	*stored = isnull ? NULL : TextDatumGetCString(value);
	if (isnull)
		return NULL;
	return TextDatumGetCString(DirectFunctionCall2(pg_get_expr, value,
												   ObjectIdGetDatum(relid)));
}

/*
 * Whether the roles of a policy are just PUBLIC, which the catalog stores as
 * one oid 0.
 */
static bool
is_to_public(Relation catalog, HeapTuple tuple)
{
	bool		isnull;
	ArrayType  *roles = DatumGetArrayTypeP(heap_getattr(tuple,
														Anum_pg_policy_polroles,
														RelationGetDescr(catalog),
														&isnull));

	return ARR_DIMS(roles)[0] == 1 && ((Oid *) ARR_DATA_PTR(roles))[0] == ACL_ID_PUBLIC;
}

static PolicyRow *
decode_policy(Relation catalog, HeapTuple tuple, AttrNumber attnum)
{
	Form_pg_policy form = (Form_pg_policy) GETSTRUCT(tuple);
	PolicyRow  *row = palloc(sizeof(PolicyRow));
	char	   *qual;
	char	   *check;

	row->name = pstrdup(NameStr(form->polname));
	row->command = form->polcmd;
	row->permissive = form->polpermissive;
	row->to_public = is_to_public(catalog, tuple);
	row->qual = expression_text(catalog, tuple, Anum_pg_policy_polqual,
								form->polrelid, &qual);
	row->check = expression_text(catalog, tuple, Anum_pg_policy_polwithcheck,
								 form->polrelid, &check);
	row->handwritten = strcmp(row->name, PLAT_TENANT_POLICY) != 0 &&
		strcmp(row->name, PLAT_ACCESS_POLICY) != 0 &&
		row->to_public && (qual || check) &&
		(qual == NULL || compares_with_setting(qual, attnum)) &&
		(check == NULL || compares_with_setting(check, attnum));
	return row;
}

/*
 * All policies of a table, as PolicyRow, in the order of their names. Read
 * from the catalog, because the relcache has them only while row security is
 * on.
 */
static List *
read_policies(Oid relid, AttrNumber attnum)
{
	Relation	catalog = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	ScanKeyInit(&key, Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, PolicyPolrelidPolnameIndexId, true,
							  NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, decode_policy(catalog, tuple, attnum));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return rows;
}

/*
 * The bits of COVERS_ALL that a policy for this command covers; '*' is FOR
 * ALL.
 */
static int
covered_commands(char command)
{
	switch (command)
	{
		case ACL_SELECT_CHR:
			return 1;
		case ACL_INSERT_CHR:
			return 2;
		case ACL_UPDATE_CHR:
			return 4;
		case ACL_DELETE_CHR:
			return 8;
		default:
			return COVERS_ALL;
	}
}

/*
 * Whether text is the deparsed comparison of the column with our reader.  A
 * varchar column is relabelled as text, which costs nothing at run time.
 */
static bool
is_our_predicate(const PlatTable *table, const char *text)
{
	return text &&
		(strcmp(text, table->predicate) == 0 ||
		 strcmp(text, psprintf("((%s)::text = %s)",
							   table->column, table->reader)) == 0);
}

/*
 * What one of our two policies says, if it is right.
 */
char *
plat_policy_describe(const PlatTable *table, bool permissive)
{
	return psprintf("%s FOR ALL TO PUBLIC USING %s WITH CHECK %s",
					permissive ? "PERMISSIVE" : "RESTRICTIVE", table->predicate,
					permissive ? "(true)" : table->predicate);
}

/*
 * What is long is shown in part, and is never what it should be then.
 */
static char *
clip(char *text)
{
	char	   *part = plat_clip(text);

	return strlen(part) == strlen(text) ? text : psprintf("%s ...", part);
}

/*
 * What a policy of our name says otherwise.
 */
static char *
describe_row(const PolicyRow *row)
{
	return clip(psprintf("%s FOR %s TO %s USING (%s) WITH CHECK (%s)",
						 row->permissive ? "PERMISSIVE" : "RESTRICTIVE",
						 row->command == ACL_SELECT_CHR ? "SELECT" :
						 row->command == ACL_INSERT_CHR ? "INSERT" :
						 row->command == ACL_UPDATE_CHR ? "UPDATE" :
						 row->command == ACL_DELETE_CHR ? "DELETE" : "ALL",
						 row->to_public ? "PUBLIC" : "other roles",
						 row->qual ? row->qual : "", row->check ? row->check : ""));
}

/*
 * Judge one of our two policies, found by its name: it is right if every part
 * of it is, otherwise it is replaced.  *text is what it says.
 */
static PlatPresence
judge_ours(const PlatTable *table, const PolicyRow *row, bool permissive,
		   char **text)
{
	bool		right;

	if (permissive)
		right = row->check && strcmp(row->check, "true") == 0;
	else
		right = is_our_predicate(table, row->check);
	right = right && is_our_predicate(table, row->qual) &&
		row->permissive == permissive && row->to_public &&
		row->command == '*';
	*text = right ? plat_policy_describe(table, permissive) : describe_row(row);
	return right ? PLAT_RIGHT : PLAT_DIFFERENT;
}

/*
 * Sort the policies of a table: ours, hand-written ones that ours replace,
 * and the rest.  Permissive hand-written policies count as such only if
 * together they cover every command, because replacing a part of them would
 * open the other commands.
 */
static void
inspect_policies(PlatTable *table)
{
	List	   *rows = read_policies(table->relid, table->attnum);
	ListCell   *cell;
	int			covered = 0;

	foreach(cell, rows)
	{
		PolicyRow  *row = lfirst(cell);

		if (row->handwritten && row->permissive)
			covered |= covered_commands(row->command);
	}
	foreach(cell, rows)
	{
		PolicyRow  *row = lfirst(cell);

		if (strcmp(row->name, PLAT_TENANT_POLICY) == 0)
			table->tenant_policy = judge_ours(table, row, false, &table->tenant_policy_text);
		else if (strcmp(row->name, PLAT_ACCESS_POLICY) == 0)
			table->access_policy = judge_ours(table, row, true, &table->access_policy_text);
		else if (row->handwritten &&
				 (!row->permissive || covered == COVERS_ALL))
		{
			table->handwritten = lappend(table->handwritten, row->name);
			table->replaced_permissive |= row->permissive;
		}
		else
		{
			table->other_policies = true;
			table->other_permissive |= row->permissive;
		}
	}
}

/*
 * The deparsed default of the tenant column, or NULL. Implicit casts, as to
 * varchar(50), do not show, so that it compares with the reader's call.
 */
static char *
default_text(Relation rel, AttrNumber attnum)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr && i < constr->num_defval; i++)
		if (constr->defval[i].adnum == attnum)
			return TextDatumGetCString(DirectFunctionCall2(pg_get_expr,
														   CStringGetTextDatum(constr->defval[i].adbin),
														   ObjectIdGetDatum(RelationGetRelid(rel))));
	return NULL;
}

/*
 * Look for CHECK (column IS NOT NULL): any valid one lets SET NOT NULL skip
 * its scan, and ours is to be dropped again in the end.
 */
static void
inspect_null_check(PlatTable *table, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr && i < constr->num_check; i++)
	{
		ConstrCheck *check = &constr->check[i];
		NullTest   *test = stringToNode(check->ccbin);

		/*
		 * of the column itself and of its children, or core scans all the
		 * same
		 */
		if (!IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL ||
			!IsA(test->arg, Var) || check->ccnoinherit ||
			((Var *) test->arg)->varattno != table->attnum)
			continue;
		table->null_check_valid |= check->ccvalid;
		table->own_null_check |=
			strcmp(check->ccname, PLAT_NOT_NULL_CHECK) == 0;
	}
}

/*
 * Whether this is such an index; see below.  It is not opened, because one that
 * is being rebuilt is locked for long.
 */
static bool
leads_with(Oid oid, AttrNumber attnum)
{
	HeapTuple	class = SearchSysCache1(RELOID, ObjectIdGetDatum(oid));
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(oid));
	bool		leads = false;

	if (HeapTupleIsValid(class) && HeapTupleIsValid(tuple))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		leads = index->indisvalid &&
			((Form_pg_class) GETSTRUCT(class))->relam == BTREE_AM_OID &&
			index->indkey.values[0] == attnum &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
	}
	if (HeapTupleIsValid(class))
		ReleaseSysCache(class);
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return leads;
}

/*
 * Whether a whole, valid index leads with the column: a B-tree, because the
 * tenant is compared for equality in front of ranges; not partial, because it
 * has to serve every query; plain column, since expressions have attribute
 * number 0.
 */
static bool
has_tenant_index(Relation rel, AttrNumber attnum)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, indexes)
		found |= leads_with(lfirst_oid(cell), attnum);
	list_free(indexes);
	return found;
}

/*
 * Judge the BEFORE TRUNCATE trigger. One that is disabled, has a WHEN, or
 * calls another function is not the one we made.
 */
static PlatPresence
inspect_guard(Relation rel)
{
	List	   *name = list_make2(makeString("platpat"),
								  makeString("refuse_truncate"));
	Oid			function = LookupFuncName(name, 0, NULL, false);
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, PLAT_GUARD_TRIGGER) != 0)
			continue;
		return trigger->tgfoid == function && trigger->tgqual == NULL &&
			TRIGGER_FOR_TRUNCATE(trigger->tgtype) &&
			TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			(trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
			 trigger->tgenabled == TRIGGER_FIRES_ALWAYS) ?
			PLAT_RIGHT : PLAT_DIFFERENT;
	}
	return PLAT_MISSING;
}

/*
 * Bytes of heap of a table and its partitions; for the decision what is
 * quick. Locks nothing for longer than it looks, so a partition may come or
 * go meanwhile.  Who does not wait leaves out those that others have locked.
 */
static uint64
heap_bytes(Relation rel, bool wait)
{
	uint64		bytes = 0;
	ListCell   *cell;
	List	   *tree;

	if (rel->rd_rel->relkind == RELKIND_RELATION)
		return (uint64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return 0;
	tree = find_all_inheritors(RelationGetRelid(rel), NoLock, NULL);
	foreach(cell, tree)
	{
		Oid			oid = lfirst_oid(cell);
		Relation	child;

		if (!wait && !ConditionalLockRelationOid(oid, AccessShareLock))
			continue;
		child = try_relation_open(oid, AccessShareLock);
		if (!wait)
			UnlockRelationOid(oid, AccessShareLock);
		if (child && child->rd_rel->relkind == RELKIND_RELATION)
			bytes += (uint64) RelationGetNumberOfBlocks(child) * BLCKSZ;
		if (child)
			relation_close(child, AccessShareLock);
	}
	return bytes;
}

/*
 * Fill in what depends on the tenant column. A column that cannot hold a
 * tenant, for what protect() refuses it for, counts as missing.
 */
static void
inspect_column(PlatTable *table, Relation rel)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel),
										  table->attnum - 1);
	const char *reader;

	if (!plat_policy_supports(att->atttypid, &reader) ||
		att->attgenerated != '\0' || att->attidentity != '\0' ||
		(OidIsValid(att->attcollation) &&
		 !get_collation_isdeterministic(att->attcollation)))
	{
		table->attnum = 0;
		return;
	}
	table->reader = pstrdup(reader);
	table->predicate = psprintf("(%s = %s)", table->column, reader);
	table->default_text = default_text(rel, table->attnum);
	if (table->default_text)
		table->default_text = clip(table->default_text);
	table->not_null = plat_column_is_not_null(rel, table->attnum);
	inspect_null_check(table, rel);
	table->indexed = has_tenant_index(rel, table->attnum);
}

/*
 * Read the state of one table.  column is the plain name of the tenant
 * column; a table without it, or with another type there, has attnum 0.
 * A table that is gone is NULL, or an error 42P01.  Where it may be gone nobody
 * waits for its partitions, either.
 */
PlatTable *
plat_policy_inspect(Oid relid, const char *column, bool missing_ok)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	PlatTable  *table = palloc0(sizeof(PlatTable));
	int			level;

	if (rel == NULL && missing_ok)
		return NULL;
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid)));
	level = plat_sql_pin();
	table->relid = relid;
	table->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											 RelationGetRelationName(rel));
	table->relkind = rel->rd_rel->relkind;
	table->column = pstrdup(quote_identifier(column));
	table->attnum = get_attnum(relid, column);
	table->reader = table->predicate = "";
	table->row_security = rel->rd_rel->relrowsecurity;
	table->forced = rel->rd_rel->relforcerowsecurity;
	if (table->attnum > 0)
		inspect_column(table, rel);
	inspect_policies(table);
	table->guard = inspect_guard(rel);
	table->may_index = plat_may_create_in(RelationGetNamespace(rel));
	table->bytes = heap_bytes(rel, !missing_ok);
	plat_sql_unpin(level);
	relation_close(rel, AccessShareLock);
	return table;
}

/*
 * Count the rows of one table, without its children, whose column is NULL.
 * Reads the heap itself, because a query of the owner would see nothing
 * under FORCE ROW LEVEL SECURITY.
 */
int64
plat_policy_count_nulls(Oid relid, AttrNumber attnum)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64		count = 0;

	if (rel == NULL || rel->rd_rel->relkind != RELKIND_RELATION)
	{
		if (rel)
			relation_close(rel, AccessShareLock);
		return 0;
	}
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (slot_attisnull(slot, attnum))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(rel, AccessShareLock);
	return count;
}
