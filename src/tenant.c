/*
 * tenant.c
 *		Who the current tenant is.
 *
 * The context is the setting platpat.tenant: guc.c gives it rollback,
 * savepoints, SET LOCAL and parallel workers for free, and PGC_SUSET keeps
 * application roles from setting it by any means but our functions.  Its
 * assign hook keeps a parsed copy, so that reading the tenant in a policy
 * costs one load and one branch.
 *
 * Two things are deliberately outside of guc.c, because they must outlive
 * what a user can undo: the tenant that a transaction is bound to, and the
 * tenant that it has left.  Both are plain statics, stamped with the
 * transaction they belong to.
 *
 * Nothing here is shared between backends and no lock is taken.  Every piece
 * of state is written by the backend itself, outside of signal handlers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/execdesc.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/portal.h"

#include "compat.h"
#include "sql.h"
#include "tenant.h"
#include "tenant_id.h"

/*
 * The setting that is the context; written by set_tenant() and
 * reset_tenant().
 */
#define TENANT_SETTING "platpat.tenant"

/*
 * A parsed tenant.  Readers hand out pointers into it, so a node that is no
 * longer current keeps its contents until nobody can hold such a pointer any
 * more: until the transaction is over and, because the arguments of a CALL
 * outlive the transactions inside it, the client's statement, too.
 *
 * Allocated with malloc: an assign hook must not fail, and palloc would.
 */
typedef struct TenantNode
{
	/* In the list of retired nodes; undefined while the node is current. */
	dlist_node	link;

	/* When it was retired: transaction, and start of the client's statement. */
	LocalTransactionId retired_in;
	TimestampTz retired_at;

	/* False in no_tenant only. */
	bool		is_set;

	/* Whether id is the canonical spelling of one, and which. */
	bool		has_uuid;
	bool		has_bigint;
	pg_uuid_t	uuid;
	int64		bigint;

	/* The id, closed by a zero; empty in no_tenant. */
	char		id[PLAT_TENANT_MAX + 1];

	/* The same as a text value with a four-byte header, never toasted. */
	union
	{
		int32		align;
		char		data[VARHDRSZ + PLAT_TENANT_MAX];
	}			text;
} TenantNode;

/*
 * platpat.tenant_type: what every id must parse as.  The setting is judged
 * when a tenant is set; a tenant that is set already stays as it is.
 */
typedef enum TenantType
{
	TENANT_TEXT, TENANT_UUID, TENANT_BIGINT
} TenantType;

/*
 * platpat.on_missing_tenant: what the readers do when no tenant is set, raise
 * 42501 or return NULL, with which a policy's comparison is not true.
 */
typedef enum MissingTenant
{
	MISSING_ERROR, MISSING_EMPTY
} MissingTenant;

/* platpat.tenant_switching: whether check_switch() does its work. */
typedef enum TenantSwitching
{
	SWITCHING_LOCKED, SWITCHING_FREE
} TenantSwitching;

static const struct config_enum_entry tenant_type_options[] = {
	{"text", TENANT_TEXT, false},
	{"uuid", TENANT_UUID, false},
	{"bigint", TENANT_BIGINT, false},
	{NULL, 0, false}
};

static const struct config_enum_entry missing_options[] = {
	{"error", MISSING_ERROR, false},
	{"empty", MISSING_EMPTY, false},
	{NULL, 0, false}
};

static const struct config_enum_entry switching_options[] = {
	{"locked", SWITCHING_LOCKED, false},
	{"free", SWITCHING_FREE, false},
	{NULL, 0, false}
};

/*
 * Settings, all PGC_SUSET: an application role can change none of them.
 * docs/settings.md describes them.
 */
/* Settings; docs/settings.md describes them. */
static char *tenant_setting = NULL;
static int	tenant_type = TENANT_TEXT;
static int	on_missing_tenant = MISSING_ERROR;
static int	tenant_switching = SWITCHING_LOCKED;
static bool session_tenant = true;
static bool allow_bypass_role = false;

/*
 * Whose function runs that we call ourselves, between plat_tenant_clear() and
 * plat_tenant_leave().
 */
static Oid	acting = InvalidOid;

/*
 * The current tenant; never NULL, no_tenant when there is none.  no_tenant is
 * all zeros for ever and is never retired.
 */
static TenantNode no_tenant;
static TenantNode *current = &no_tenant;

/*
 * Nodes that were current once, by a hash of their ids.  Few: a node that
 * nobody can point into any more is used again for the next tenant of its
 * list.
 */
#define RETIRED_LISTS 64
static dlist_head retired[RETIRED_LISTS];

/*
 * The tenant that this top-level transaction is bound to.  Deliberately not
 * transactional: it survives ROLLBACK TO, RESET ALL and reset_tenant().
 */
static LocalTransactionId locked_in = InvalidLocalTransactionId;
static char locked_id[PLAT_TENANT_MAX + 1];

/*
 * The tenant that was current last, and the transaction that left it.  A
 * cursor may still be open on its rows when no tenant is set any more.
 */
static LocalTransactionId left_in = InvalidLocalTransactionId;
static char left_id[PLAT_TENANT_MAX + 1];

/*
 * What "no tenant is set" hints at, or NULL for set_tenant().  See
 * plat_tenant_explain_missing().
 */
static const char *missing_hint = NULL;

/*
 * Whether the settings of the role or the database name a tenant that was
 * refused at the start of the session: PostgreSQL warns and goes on without,
 * but a session that was to be bound must not be free.
 */
static bool binding_is_broken = false;

PG_FUNCTION_INFO_V1(plat_tenant_set_text);
PG_FUNCTION_INFO_V1(plat_tenant_set_uuid);
PG_FUNCTION_INFO_V1(plat_tenant_set_bigint);
PG_FUNCTION_INFO_V1(plat_tenant_reset);
PG_FUNCTION_INFO_V1(plat_tenant_current_text);
PG_FUNCTION_INFO_V1(plat_tenant_current_uuid);
PG_FUNCTION_INFO_V1(plat_tenant_current_bigint);
PG_FUNCTION_INFO_V1(plat_tenant_current_or_null);

/*
 * The current tenant's id, or NULL.  Never raises.  The pointer is good as
 * long as a reader's Datum: see TenantNode.
 */
const char *
plat_tenant_current(void)
{
	return current->is_set ? current->id : NULL;
}

/*
 * Whether reading the tenant would raise now: none is set, and
 * platpat.on_missing_tenant makes that an error.
 */
bool
plat_tenant_missing_is_error(void)
{
	return !current->is_set && on_missing_tenant == MISSING_ERROR;
}

/*
 * Replace the hint of "no tenant is set" while a command runs that its author
 * would not expect to need one; NULL goes back.  hint is not copied: pass a
 * constant.  Nothing undoes it on error, which is the caller's to see to.
 */
void
plat_tenant_explain_missing(const char *hint)
{
	missing_hint = hint;
}

/*
 * Whether nobody can hold a pointer into a retired node any more.  Outside of
 * transactions the local transaction id is invalid, and a node that was
 * retired there waits for the next transaction: late, but never too early.
 */
static bool
node_is_idle(const TenantNode *node)
{
	return node->retired_in != plat_current_lxid() &&
		node->retired_at != GetCurrentStatementStartTimestamp();
}

/* The list of retired nodes that a tenant's belong to. */
static dlist_head *
retired_list(const char *id)
{
	return &retired[hash_bytes((const unsigned char *) id,
							   (int) strlen(id)) % RETIRED_LISTS];
}

/*
 * A node for id: the tenant's own of before, whatever still points into it,
 * because it says the same; otherwise an idle one, or new memory, which is_new
 * says is yet to be filled.  NULL when memory is out.  Idle nodes that are met
 * on the way are freed, so that a session which serves many tenants, even
 * within one CALL, keeps a node for each of the present statement at most.
 */
static TenantNode *
node_take(const char *id, bool *is_new)
{
	dlist_mutable_iter iter;
	TenantNode *idle = NULL;

	*is_new = false;
	dlist_foreach_modify(iter, retired_list(id))
	{
		TenantNode *node = dlist_container(TenantNode, link, iter.cur);

		if (strcmp(node->id, id) == 0)
		{
			dlist_delete(&node->link);
			free(idle);
			return node;
		}
		if (!node_is_idle(node))
			continue;
		dlist_delete(&node->link);
		free(idle);
		idle = node;
	}
	*is_new = true;
	return idle ? idle : malloc(sizeof(TenantNode));
}

/* Put the node aside until its readers are gone.  Does not allocate. */
static void
node_retire(TenantNode *node)
{
	if (node == &no_tenant)
		return;
	node->retired_in = plat_current_lxid();
	node->retired_at = GetCurrentStatementStartTimestamp();
	dlist_push_tail(retired_list(node->id), &node->link);
}

/* Note the tenant that the session leaves, for open cursors of its. */
static void
remember_left(const char *id)
{
	left_in = plat_current_lxid();
	strlcpy(left_id, id, sizeof(left_id));
}

/*
 * Parse id, which check_tenant() has made canonical, once into every form
 * that a reader may ask for.
 */
static void
node_fill(TenantNode *node, const char *id)
{
	size_t		len = strlen(id);

	Assert(len <= PLAT_TENANT_MAX);
	node->is_set = true;
	node->has_uuid = plat_is_canonical_uuid(id, &node->uuid);
	node->has_bigint = plat_is_canonical_bigint(id, &node->bigint);
	memcpy(node->id, id, len + 1);
	SET_VARSIZE(node->text.data, VARHDRSZ + len);
	memcpy(VARDATA(node->text.data), id, len);
}

/*
 * Write the canonical spelling of value, which is not empty, to id, which has
 * room for PLAT_TENANT_MAX bytes and the closing zero.  Returns why value
 * cannot be a tenant id, a constant that completes "Tenant ids ...", or NULL
 * if it can; in the first case id is undefined.  Raises nothing and allocates
 * nothing.
 */
static const char *
canonical_id(const char *value, char *id)
{
	const char *problem = plat_tenant_id_problem(value, strlen(value),
												 GetDatabaseEncoding());
	pg_uuid_t	uuid;
	int64		bigint;

	if (problem)
		return problem;
	switch ((TenantType) tenant_type)
	{
		case TENANT_TEXT:
			strlcpy(id, value, PLAT_TENANT_MAX + 1);
			return NULL;
		case TENANT_UUID:
			if (!plat_parse_uuid(value, &uuid))
				return "are uuids: platpat.tenant_type is uuid";
			plat_print_uuid(&uuid, id);
			return NULL;
		case TENANT_BIGINT:
			if (!plat_parse_bigint(value, &bigint))
				return "are numbers: platpat.tenant_type is bigint";
			snprintf(id, PLAT_TENANT_MAX + 1, INT64_FORMAT, bigint);
			return NULL;
	}
	return "are of no type";
}

/*
 * GUC check hook of platpat.tenant: empty means no tenant, anything else must
 * be an id, and is kept in its canonical spelling.  Runs in every backend
 * that takes the value over, parallel workers included, and before there is a
 * database where the setting comes from the command line.
 *
 * The replacement of *newval must come from the allocator that guc.c frees it
 * with, malloc in PostgreSQL 15 and guc_malloc since 16: see compat.h.
 */
static bool
check_tenant(char **newval, void **extra, GucSource source)
{
	const char *problem;
	char		id[PLAT_TENANT_MAX + 1];
	char	   *copy;

	if (*newval == NULL || (*newval)[0] == '\0')
		return true;
	/* the stored value may have been written in another encoding */
	if (pg_verifymbstr(*newval, strlen(*newval), true))
		problem = canonical_id(*newval, id);
	else
		problem = "are text in the encoding of the database";
	if (problem)
	{
		if (source >= PGC_S_GLOBAL && source <= PGC_S_DATABASE_USER)
			binding_is_broken = true;
		GUC_check_errdetail("Tenant ids %s.", problem);
		return false;
	}
	if (strcmp(*newval, id) == 0)
		return true;
	copy = plat_setting_strdup(id);
	if (copy == NULL)
		return false;
	plat_setting_free(*newval);
	*newval = copy;
	return true;
}

/*
 * GUC assign hook of platpat.tenant: make newval current.  Also called by
 * guc.c when it undoes a setting at the end of a (sub)transaction, where no
 * catalog may be read and nothing may fail: without memory for a node the
 * session has no tenant, which shows nothing rather than too much.
 */
static void
assign_tenant(const char *newval, void *extra)
{
	TenantNode *node = &no_tenant;
	bool		is_new = false;

	if (newval && strcmp(newval, current->id) == 0)
		return;
	if (newval && newval[0] != '\0')
		node = node_take(newval, &is_new);
	if (node && is_new)
		node_fill(node, newval);
	if (current->is_set)
		remember_left(current->id);
	node_retire(current);
	current = node ? node : &no_tenant;
}

/*
 * Define the settings of this module; called once by _PG_init, must not
 * raise.  All are PGC_SUSET: roles and databases can carry them, and only
 * superusers say so.  GUC_DISALLOW_IN_FILE keeps one tenant for a whole
 * server out of postgresql.conf and ALTER SYSTEM.
 */
static void
define_settings(bool preload)
{
	DefineCustomStringVariable(TENANT_SETTING,
							   "The current tenant.",
							   "Set it with platpat.set_tenant(); only a superuser can SET it.",
							   &tenant_setting, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   check_tenant, assign_tenant, NULL);
	DefineCustomEnumVariable("platpat.tenant_type",
							 "What every tenant id must be: text, uuid or bigint.",
							 "With uuid or bigint an id must parse and is kept in its canonical spelling.",
							 &tenant_type, TENANT_TEXT, tenant_type_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("platpat.on_missing_tenant",
							 "What reading the tenant does when none is set: error or empty.",
							 "With empty the readers return NULL, and policies show no rows.",
							 &on_missing_tenant, MISSING_ERROR, missing_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("platpat.tenant_switching",
							 "Whether a transaction may change its tenant: locked or free.",
							 "With locked the first tenant that a transaction sets stays until its end.",
							 &tenant_switching, SWITCHING_LOCKED, switching_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("platpat.session_tenant",
							 "Whether set_tenant(tenant, false) may set the tenant of the whole session.",
							 "Turn it off for roles that connect through a pool.",
							 &session_tenant, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("platpat.allow_bypass_role",
							 "Whether a role that bypasses row security may set a tenant.",
							 "Such a role sees every tenant's rows whatever tenant it sets.",
							 &allow_bypass_role, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

const PlatModule plat_tenant_module = {
	.name = "tenant",
	.define_settings = define_settings,
};

/*
 * Check a tenant given by a caller, NULL for SQL NULL, and write its
 * canonical spelling to id.  Raises 22004 for NULL and the empty string,
 * 22023 for what cannot be an id; the message repeats a clipped value.
 */
void
plat_tenant_id_arg(const char *value, char *id)
{
	const char *problem;

	if (value == NULL || value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("tenant must not be null or empty")));
	problem = canonical_id(value, id);
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid tenant \"%s\"", plat_clip(value)),
				 errdetail("Tenant ids %s.", problem)));
}

/*
 * Refuse, with 42501, a caller to whom policies do not apply: a superuser or
 * a role with BYPASSRLS, unless platpat.allow_bypass_role is on.  The outer
 * user counts: a SECURITY DEFINER wrapper changes only the current user, and
 * its caller goes on querying as the outer one.  So does the owner of a
 * function that we call ourselves.
 */
static void
check_caller(void)
{
	Oid			caller = OidIsValid(acting) ? acting : GetOuterUserId();

	if (allow_bypass_role || !has_bypassrls_privilege(caller))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" bypasses row security and cannot act for a tenant",
					GetUserNameFromId(caller, false)),
			 errdetail("Policies do not apply to superusers and to roles with BYPASSRLS."),
			 errhint("SET ROLE to an application role first, or turn on platpat.allow_bypass_role.")));
}

/*
 * Refuse, with 42501, session-wide use while platpat.session_tenant is off:
 * behind a pool the next client would inherit the tenant.
 */
static void
check_session_use(bool is_local)
{
	if (is_local || session_tenant)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot set the tenant of the session"),
			 errdetail("platpat.session_tenant is off."),
			 errhint("Call platpat.set_tenant(tenant) inside each transaction.")));
}

/*
 * Refuse, with 42501, to leave the tenant that this transaction has set, and
 * to change tenants under an open cursor, which would mix the rows of both.
 * id is canonical, or else two spellings would count as two tenants.
 * platpat.tenant_switching = free lifts both rules.
 */
static void
check_switch(const char *id)
{
	const char *former = NULL;

	if (tenant_switching == SWITCHING_FREE)
		return;
	if (locked_in == plat_current_lxid() && strcmp(locked_id, id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot change the tenant inside a transaction"),
				 errdetail("This transaction acts for tenant \"%s\".", locked_id),
				 errhint("COMMIT or ROLLBACK first.")));
	/* Reset is no way around: the tenant that was left counts as well. */
	if (current->is_set)
		former = current->id;
	else if (left_in == plat_current_lxid())
		former = left_id;
	if (former && strcmp(former, id) != 0 && !ThereAreNoReadyPortals())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot change the tenant while a cursor is open"),
				 errdetail("The transaction has acted for tenant \"%s\".", former),
				 errhint("CLOSE the cursor first.")));
}

/*
 * Whether the session is bound to a tenant, in which case nothing is left to
 * set; raises 42501 if that is another one than id.
 *
 * The reset value tells.  This setting can get one only from who may set it
 * before the session begins: a setting of the role or the database, a
 * superuser's connection option, or the command line of the server.
 */
static bool
check_binding(const char *id)
{
	const char *bound = GetConfigOptionResetString(TENANT_SETTING);

	if (binding_is_broken)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("no tenant can be set"),
				 errdetail("A setting of the role or the database binds this session to a tenant with an invalid id."),
				 errhint("Change the setting by ALTER ROLE or ALTER DATABASE and connect again.")));
	if (bound == NULL || bound[0] == '\0')
		return false;
	if (strcmp(bound, id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot leave tenant \"%s\"", bound),
				 errdetail("A setting of the role or the database binds this session to it.")));
	return true;
}

/*
 * Warn, with 25P01, when a transaction-local setting is made by a statement
 * of its own outside a transaction block, where it ends with that statement.
 * what begins the message, which is that of SET LOCAL.
 *
 * A call from a function or a DO block is not meant, nor is a statement which
 * also reads tables.  The portal's executor tells the calls apart: only a
 * function that the top-level statement calls itself was looked up in its
 * query context.
 */
void
plat_warn_if_statement_local(FunctionCallInfo fcinfo, const char *what)
{
	QueryDesc  *query = ActivePortal ? ActivePortal->queryDesc : NULL;

	if (IsTransactionBlock() || query == NULL || query->estate == NULL)
		return;
	if (fcinfo->flinfo->fn_mcxt != query->estate->es_query_cxt ||
		query->plannedstmt->relationOids != NIL)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
			 errmsg("%s can only be used in transaction blocks", what)));
}

/*
 * Note what the transaction is bound to, to undo plat_tenant_enter() after an
 * error.
 */
void
plat_tenant_note(PlatTenantScope *scope)
{
	scope->locked_in = locked_in;
	strlcpy(scope->locked_id, locked_id, sizeof(scope->locked_id));
	scope->acting = acting;
}

/*
 * Act for a tenant for a while, whatever the transaction is bound to: for code
 * of ours that serves one tenant after the other.  What runs meanwhile cannot
 * become another one.  The caller has opened a nest level of settings, closes
 * it, and calls plat_tenant_leave() with the scope, after errors as well.
 * Raises 22023 for what cannot be an id.
 */
void
plat_tenant_enter(const char *id, PlatTenantScope *scope)
{
	plat_tenant_note(scope);
	(void) set_config_option(TENANT_SETTING, id, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	locked_in = plat_current_lxid();
	strlcpy(locked_id, id, sizeof(locked_id));
}

/*
 * Act for no tenant for a while, and likewise: what runs meanwhile may set one,
 * if the current user may.
 */
void
plat_tenant_clear(PlatTenantScope *scope)
{
	plat_tenant_note(scope);
	(void) set_config_option(TENANT_SETTING, "", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	locked_in = InvalidLocalTransactionId;
	acting = GetUserId();
}

/*
 * Be bound again to what the transaction was bound to before.
 */
void
plat_tenant_leave(const PlatTenantScope *scope)
{
	locked_in = scope->locked_in;
	strlcpy(locked_id, scope->locked_id, sizeof(locked_id));
	acting = scope->acting;
}

/*
 * Make value, NULL for SQL NULL, the tenant for the transaction or, if the
 * second argument is false, for the session.  Returns the tenant as stored, a
 * text in the caller's memory context.  All the checks come first, the
 * setting last, so that an error leaves the tenant and the lock as they were.
 *
 * Errors: 22004 for NULL and for an empty tenant, 22023 for what cannot be an
 * id, 42501 for a caller, a use or a change that is not allowed.
 */
static Datum
set_tenant(FunctionCallInfo fcinfo, const char *value)
{
	char		id[PLAT_TENANT_MAX + 1];
	bool		is_local;

	plat_tenant_id_arg(value, id);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("is_local must not be null")));
	is_local = PG_GETARG_BOOL(1);
	check_caller();
	check_session_use(is_local);
	check_switch(id);

	if (!check_binding(id))
		(void) set_config_option(TENANT_SETTING, id,
								 PGC_SUSET, PGC_S_SESSION,
								 is_local ? GUC_ACTION_LOCAL : GUC_ACTION_SET,
								 true, 0, false);

	/*
	 * Bound only now that the value is in force.  A tenant that the session
	 * is bound to locks its transaction as well.
	 */
	locked_in = plat_current_lxid();
	strlcpy(locked_id, id, sizeof(locked_id));

	if (is_local)
		plat_warn_if_statement_local(fcinfo, "platpat.set_tenant(tenant)");
	return PointerGetDatum(cstring_to_text(id));
}

/*
 * platpat.set_tenant(tenant text, is_local boolean DEFAULT true) returns text
 *
 * VOLATILE, PARALLEL UNSAFE, for PUBLIC; not STRICT, because NULL must never
 * read as "allowed".  Errors as in set_tenant().
 */
Datum
plat_tenant_set_text(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		return set_tenant(fcinfo, NULL);
	return set_tenant(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)));
}

/*
 * platpat.set_tenant(tenant uuid, is_local boolean DEFAULT true) returns text
 *
 * The same for a uuid, which is stored canonically under any tenant_type but
 * bigint, where it raises 22023.
 */
Datum
plat_tenant_set_uuid(PG_FUNCTION_ARGS)
{
	char		value[37];

	if (PG_ARGISNULL(0))
		return set_tenant(fcinfo, NULL);
	plat_print_uuid(PG_GETARG_UUID_P(0), value);
	return set_tenant(fcinfo, value);
}

/*
 * platpat.set_tenant(tenant bigint, is_local boolean DEFAULT true) returns
 * text
 *
 * The same for a number, which is stored canonically under any tenant_type
 * but uuid, where it raises 22023.
 */
Datum
plat_tenant_set_bigint(PG_FUNCTION_ARGS)
{
	char		value[32];

	if (PG_ARGISNULL(0))
		return set_tenant(fcinfo, NULL);
	snprintf(value, sizeof(value), INT64_FORMAT, PG_GETARG_INT64(0));
	return set_tenant(fcinfo, value);
}

/*
 * platpat.reset_tenant() returns void
 *
 * Takes the tenant of the transaction and of the session away, or goes back
 * to the one that a role or database setting binds the session to.  The
 * transaction's lock stays.  VOLATILE, PARALLEL UNSAFE, for PUBLIC.  Like
 * RESET it is undone when the transaction is rolled back.
 */
Datum
plat_tenant_reset(PG_FUNCTION_ARGS)
{
	(void) set_config_option(TENANT_SETTING, NULL,
							 PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, 0, false);
	PG_RETURN_VOID();
}

/*
 * Raise 42501: no tenant is set.
 */
static void
no_tenant_set(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("no tenant is set"),
			 missing_hint ? errhint("%s", missing_hint) :
			 errhint("Call platpat.set_tenant(tenant) at the start of the transaction.")));
}

/*
 * The current tenant's id; raises 42501 without one, whatever
 * platpat.on_missing_tenant says: for functions that charge or allow.  Good
 * as long as that of plat_tenant_current().
 */
const char *
plat_tenant_required(void)
{
	if (unlikely(!current->is_set))
		no_tenant_set();
	return current->id;
}

/*
 * The slow way out of a reader: no tenant, or one that type, a constant,
 * cannot spell.  Raises 22023 for the latter.  Without a tenant raises 42501,
 * or returns SQL NULL where platpat.on_missing_tenant is "empty".
 */
static Datum
no_value(FunctionCallInfo fcinfo, const char *type)
{
	if (current->is_set)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tenant \"%s\" is not a canonical %s",
						current->id, type),
				 errhint("Set platpat.tenant_type to %s, so that set_tenant stores the canonical spelling.",
						 type)));
	if (on_missing_tenant == MISSING_ERROR)
		no_tenant_set();
	PG_RETURN_NULL();
}

/*
 * platpat.current_tenant() returns text
 *
 * The readers are STABLE, PARALLEL SAFE and LEAKPROOF, without arguments, and
 * for PUBLIC.  STABLE, not IMMUTABLE, which would fold the tenant into cached
 * plans; LEAKPROOF is true, though they raise: they have no argument that a
 * message could leak.
 *
 * The value is not copied: see TenantNode for how long it stays.  Errors as
 * in no_value(), 22023 excepted.
 */
Datum
plat_tenant_current_text(PG_FUNCTION_ARGS)
{
	if (likely(current->is_set))
		return PointerGetDatum(current->text.data);
	return no_value(fcinfo, "text");
}

/*
 * platpat.current_tenant_uuid() returns uuid
 *
 * As current_tenant(); 22023 if the tenant is not the canonical spelling of a
 * uuid, so that two spellings never are one tenant here and two there.
 */
Datum
plat_tenant_current_uuid(PG_FUNCTION_ARGS)
{
	if (likely(current->has_uuid))
		return UUIDPGetDatum(&current->uuid);
	return no_value(fcinfo, "uuid");
}

/*
 * platpat.current_tenant_bigint() returns bigint
 *
 * As current_tenant_uuid(), for bigint; integer columns are compared with it,
 * too.
 */
Datum
plat_tenant_current_bigint(PG_FUNCTION_ARGS)
{
	if (likely(current->has_bigint))
		return Int64GetDatum(current->bigint);
	return no_value(fcinfo, "bigint");
}

/*
 * platpat.current_tenant_or_null() returns text
 *
 * As current_tenant(), but NULL without a tenant whatever
 * platpat.on_missing_tenant says; for applications that want to look, not for
 * policies.
 */
Datum
plat_tenant_current_or_null(PG_FUNCTION_ARGS)
{
	if (!current->is_set)
		PG_RETURN_NULL();
	return PointerGetDatum(current->text.data);
}
