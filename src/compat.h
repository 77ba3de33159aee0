/*
 * compat.h
 *		Every difference between PostgreSQL 15 and 18 that platpat meets.
 *
 * Code is written for the newest release; this header gives older ones the
 * same names.  One block per symbol, and no version test anywhere else.  What
 * has core's name behaves as in the newest release; what is named plat_ has
 * no counterpart there.
 */
#ifndef PLAT_COMPAT_H
#define PLAT_COMPAT_H

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error platpat needs PostgreSQL 15 or newer
#endif

/* 16: VARDATA_ANY and friends moved out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * 15.4: what a DROP DATABASE that was interrupted leaves behind has this
 * limit of connections.
 */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB -2
#endif

/*
 * 16: one ownership check for every kind of object.  Ours knows relations,
 * schemas and functions only.  Superusers own everything.
 */
#if PG_VERSION_NUM < 160000
static inline bool
object_ownercheck(Oid classid, Oid objectid, Oid roleid)
{
	if (classid == RelationRelationId)
		return pg_class_ownercheck(objectid, roleid);
	if (classid == ProcedureRelationId)
		return pg_proc_ownercheck(objectid, roleid);
	Assert(classid == NamespaceRelationId);
	return pg_namespace_ownercheck(objectid, roleid);
}
#endif

/*
 * 16: one privilege check for every kind of object, too.  Whether the current
 * user has CREATE on the schema, or EXECUTE on the function; never raises for
 * want of it.
 */
#if PG_VERSION_NUM >= 160000
#define plat_may_create_in(schema) \
	(object_aclcheck(NamespaceRelationId, (schema), GetUserId(), \
					 ACL_CREATE) == ACLCHECK_OK)
#define plat_may_execute(function) \
	(object_aclcheck(ProcedureRelationId, (function), GetUserId(), \
					 ACL_EXECUTE) == ACLCHECK_OK)
#else
#define plat_may_execute(function) \
	(pg_proc_aclcheck((function), GetUserId(), ACL_EXECUTE) == ACLCHECK_OK)
#define plat_may_create_in(schema) \
	(pg_namespace_aclcheck((schema), GetUserId(), ACL_CREATE) == ACLCHECK_OK)
#endif

/*
 * 16: values of settings live in a memory context of their own; a check hook
 * that replaces a value must use the allocator that guc.c frees it with.  The
 * copy is NULL when memory is out.
 */
#if PG_VERSION_NUM >= 160000
#define plat_setting_strdup(text) guc_strdup(LOG, (text))
#define plat_setting_free(text) guc_free(text)
#else
#define plat_setting_strdup(text) strdup(text)
#define plat_setting_free(text) free(text)
#endif

/*
 * 17: the local transaction id moved into PGPROC.vxid.  The same in all
 * subtransactions of a top-level transaction, and invalid outside of one and
 * in the postmaster, which has no PGPROC.
 */
#if PG_VERSION_NUM >= 170000
#define plat_current_lxid() \
	(MyProc ? MyProc->vxid.lxid : InvalidLocalTransactionId)
#else
#define plat_current_lxid() \
	(MyProc ? MyProc->lxid : InvalidLocalTransactionId)
#endif

/*
 * 17: segments of dynamic shared memory have names, under which every backend
 * finds the one that the first has made.
 */
#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#define plat_has_named_segments() true
#define plat_named_segment(name, size, fill, found) \
	GetNamedDSMSegment((name), (size), (fill), (found))
#else
#define plat_has_named_segments() false
#define plat_named_segment(name, size, fill, found) \
	((void) (fill), *(found) = false, (void *) NULL)
#endif

/* 17: the number of a backend, below MaxBackends, got a variable of its own. */
#if PG_VERSION_NUM >= 170000
#define plat_proc_number() ((int) MyProcNumber)
#else
#define plat_proc_number() (MyProc->pgprocno)
#endif

/* 17: so did the owner of a virtual transaction; no owner is -1 in both. */
#if PG_VERSION_NUM >= 170000
#define plat_vxid_owner(vxid) ((vxid).procNumber)
#else
#define plat_vxid_owner(vxid) ((vxid).backendId)
#endif

/*
 * 17: core can say whether this transaction has a lock of a mode, or of one
 * that is stronger; late minor releases of older ones can, too.
 */
#include "storage/lock.h"
static inline bool
plat_locks_relation(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(&tag, mode, true);
#else
	while (mode < MaxLockMode && !LockHeldByMe(&tag, mode))
		mode++;
	return LockHeldByMe(&tag, mode);
#endif
}

/*
 * 17: extensions can name what they wait for.  Before, the only names of
 * theirs that pg_stat_activity shows are those of tranches of locks, so a wait
 * is shown as one for a lock of a tranche that has no lock.
 */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define plat_wait_event(tranche, name) WaitEventExtensionNew(name)
#else
#define plat_wait_event(tranche, name) (PG_WAIT_LWLOCK | (uint32) (tranche))
#endif

/* 17: intervals may be infinite. */
#if PG_VERSION_NUM < 170000
#define INTERVAL_NOT_FINITE(interval) false
#endif

/* 18: NOT NULL may be there and not valid yet; that does not count as NOT NULL. */
#if PG_VERSION_NUM >= 180000
#define plat_column_is_not_null(rel, attnum) \
	(TupleDescCompactAttr(RelationGetDescr(rel), \
						  (attnum) - 1)->attnullability == ATTNULLABLE_VALID)
#else
#define plat_column_is_not_null(rel, attnum) \
	(TupleDescAttr(RelationGetDescr(rel), (attnum) - 1)->attnotnull)
#endif

/* 18: a primary key may be looked for among deferrable ones, too; ours is not. */
#if PG_VERSION_NUM >= 180000
#define plat_primary_key(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define plat_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* 18: ALTER CONSTRAINT got a node of its own; step is an AlterTableCmd. */
#if PG_VERSION_NUM >= 180000
#define plat_altered_constraint(step) \
	(((ATAlterConstraint *) (step)->def)->conname)
#else
#define plat_altered_constraint(step) \
	(((Constraint *) (step)->def)->conname)
#endif

/* 18: ExecutorRun lost its parameter execute_once. */
#if PG_VERSION_NUM >= 180000
#define PLAT_EXECUTE_ONCE_PARAM
#define PLAT_EXECUTE_ONCE_ARG
#else
#define PLAT_EXECUTE_ONCE_PARAM , bool execute_once
#define PLAT_EXECUTE_ONCE_ARG , execute_once
#endif

/* 18: what says that a function does not return comes before it. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18: a module may carry its name and version in the magic block. */
#if PG_VERSION_NUM >= 180000
#define PLAT_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "platpat", .version = PLAT_VERSION)
#else
#define PLAT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* 19: a worker may say that it can be ended for the sake of a DROP DATABASE. */
#ifndef BGWORKER_INTERRUPTIBLE
#define BGWORKER_INTERRUPTIBLE 0
#endif

#endif							/* PLAT_COMPAT_H */
