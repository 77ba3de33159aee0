/*
 * policy.h
 *		What the files of module policy share.
 *
 * A table is read into a PlatTable, a pure function turns that and a wish
 * into a list of actions, and only then is anything run.  All of it lives in
 * the memory context that was current when it was made, usually SPI's, and is
 * gone at SPI_finish.
 */
#ifndef PLAT_POLICY_H
#define PLAT_POLICY_H

#include "access/attnum.h"
#include "nodes/pg_list.h"

#include "module.h"

/*
 * Names of what protect() installs.  They are found again by name, and then
 * judged by content.
 */
#define PLAT_TENANT_POLICY "platpat_tenant"
#define PLAT_ACCESS_POLICY "platpat_access"
#define PLAT_GUARD_TRIGGER "platpat_truncate"
#define PLAT_NOT_NULL_CHECK "platpat_tenant_not_null"

/*
 * A policy or trigger of ours: is it there, and is it what it should be?
 * PLAT_MISSING is 0, what palloc0 leaves.  PLAT_DIFFERENT has our name and
 * says something else, so it is dropped and made anew.
 */
typedef enum PlatPresence
{
	PLAT_MISSING, PLAT_DIFFERENT, PLAT_RIGHT
} PlatPresence;

/*
 * What is true of one table, as of the lock that the reader held.  Names are
 * as they stand in SQL: quoted where they need it.
 */
typedef struct PlatTable
{
	Oid			relid;
	char	   *name;			/* qualified and quoted */
	char		relkind;
	char	   *column;			/* the tenant column, quoted */
	AttrNumber	attnum;			/* 0 when it is gone or of another type */

	/* Both "" when attnum is 0. */
	char	   *reader;			/* call that reads the tenant in its type */
	char	   *predicate;		/* USING and WITH CHECK of platpat_tenant */

	/* pg_class.relrowsecurity and relforcerowsecurity, and the policies. */
	bool		row_security;
	bool		forced;
	PlatPresence tenant_policy;
	PlatPresence access_policy;
	char	   *tenant_policy_text; /* what they say; NULL if they are missing */
	char	   *access_policy_text;
	List	   *handwritten;	/* names of policies that ours replace */
	bool		replaced_permissive;	/* and a permissive one among them */
	bool		other_policies; /* has policies that are nobody's of these */
	bool		other_permissive;	/* and a permissive one among them */

	/* Of the tenant column; false or NULL when attnum is 0. */
	char	   *default_text;	/* deparsed default, or NULL */
	bool		not_null;
	bool		null_check_valid;	/* a CHECK says so, and is validated */
	bool		own_null_check; /* ours is there, valid or not */
	bool		indexed;		/* a usable index leads with the column */

	bool		may_index;		/* the caller may create one */
	PlatPresence guard;			/* the BEFORE TRUNCATE trigger */
	uint64		bytes;			/* size of its heap, partitions included */
} PlatTable;

/* What a plan is to reach on one table. */
typedef struct PlatWish
{
	bool		access;			/* install platpat_access */
	bool		is_root;		/* of the tree; its children follow it */
} PlatWish;

/* A row of platpat.protections, mended where its column has been renamed. */
typedef struct PlatProtection
{
	Oid			relid;
	char		column[NAMEDATALEN];
	bool		access;
	bool		is_stale;		/* column is another one than was recorded */
} PlatProtection;

/*
 * One step, done or to be done by the user.  object, action and statement are
 * what protect() returns; the flags are between planning and running.
 */
typedef struct PlatAction
{
	const char *object;
	const char *action;
	const char *statement;
	bool		pending;		/* left to the user, because it takes long */
	bool		needs_tenants;	/* every row must have a tenant first */
	bool		is_quick;		/* which may be looked up under the lock */
	bool		follows;		/* only if the action before it was run */
	bool		completes;		/* isolation does not rest on it */
	bool		as_owner;		/* of the table: it runs what others wrote */
} PlatAction;

/* policy_table.c */
extern char *plat_policy_describe(const PlatTable *table, bool permissive);
extern bool plat_policy_supports(Oid type, const char **reader);
extern PlatTable *plat_policy_inspect(Oid relid, const char *column,
									  bool missing_ok);
extern int64 plat_policy_count_nulls(Oid relid, AttrNumber attnum);

/* policy_plan.c */
extern List *plat_policy_plan(const PlatTable *table, const PlatWish *wish);
extern List *plat_policy_plan_closing(const PlatTable *table);
extern List *plat_policy_plan_removal(const PlatTable *table, bool is_root);
extern bool plat_policy_is_protected(const PlatTable *table);
extern bool plat_policy_has_default(const PlatTable *table);
extern bool plat_policy_runs(List *actions, const char *what);

/* policy_install.c */
extern bool plat_policy_installing(void);
extern bool plat_policy_lookup(Oid relid, PlatProtection *found);
extern List *plat_policy_install(Oid relid, const char *column,
								 const bool *access, bool keep_nulls);
extern List *plat_policy_remove(Oid relid);
extern void plat_policy_warn_foreign(Oid relid);
extern List *plat_policy_plan_repair(PlatTable *table,
									 const PlatProtection *known,
									 bool parent_not_null, bool *access);
extern void plat_policy_keep(Oid relid, Oid parent);
extern void plat_policy_repair(Oid relid);
extern bool plat_policy_close(Oid relid);
extern void plat_policy_adopt(Oid relid);

/* The controllers that look after protected tables. */
#define PLAT_PROTECTIONS "protections"
#define PLAT_FOREIGN_POLICIES "foreign_policies"

/* policy.c */
extern const PlatModule plat_policy_module;

/* policy_watch.c */
extern void plat_policy_define_settings(bool preload);

#endif							/* PLAT_POLICY_H */
