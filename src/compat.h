/*
 * compat.h
 *		Every difference between PostgreSQL 15 and 18 that platpat meets.
 *
 * Code is written for the newest release; this header gives older ones the
 * same names.  One block per symbol, and no version test anywhere else.
 */
#ifndef PLAT_COMPAT_H
#define PLAT_COMPAT_H

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"

#if PG_VERSION_NUM < 150000
#error platpat needs PostgreSQL 15 or newer
#endif

/* 16: VARDATA_ANY and friends moved out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16: one ownership check for every kind of object. */
#if PG_VERSION_NUM < 160000
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
static inline bool
object_ownercheck(Oid classid, Oid objectid, Oid roleid)
{
	Assert(classid == RelationRelationId || classid == NamespaceRelationId);
	return classid == RelationRelationId ?
		pg_class_ownercheck(objectid, roleid) :
		pg_namespace_ownercheck(objectid, roleid);
}
#endif

/* 17: the local transaction id moved into PGPROC.vxid. */
#if PG_VERSION_NUM >= 170000
#define plat_current_lxid() \
	(MyProc ? MyProc->vxid.lxid : InvalidLocalTransactionId)
#else
#define plat_current_lxid() \
	(MyProc ? MyProc->lxid : InvalidLocalTransactionId)
#endif

/* 18: a module may carry its name and version in the magic block. */
#if PG_VERSION_NUM >= 180000
#define PLAT_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "platpat", .version = PLAT_VERSION)
#else
#define PLAT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif							/* PLAT_COMPAT_H */
