/*
 * controller.h
 *		What the files of module controller share.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_CONTROLLER_H
#define PLAT_CONTROLLER_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "module.h"
#include "user_function.h"

/* Longest name of a controller, and longest key, in bytes. */
#define PLAT_CONTROLLER_NAME_MAX 128
#define PLAT_CONTROLLER_KEY_MAX 1000

/* A controller, as its row says. */
typedef struct PlatController
{
	char	   *name;
	char	   *desired;		/* relations, as they were named */
	char	   *actual;
	char	   *apply;			/* functions, likewise */
	char	   *plan;			/* NULL for none */
	bool		is_observing;
	bool		prunes;
	bool		is_paused;		/* or was restored and never resumed */
	bool		is_restored;
	bool		is_builtin;
	int64		generation;
} PlatController;

/* What is to happen to a key, as SQL calls it. */
#define PLAT_CREATE "create"
#define PLAT_UPDATE "update"
#define PLAT_DELETE "delete"

/* A key whose desired and actual state are not the same. */
typedef struct PlatDifference
{
	char	   *key;
	const char *kind;			/* one of those above */
	int64		hash;			/* of both states */
	bool		has_desired;	/* the Datums below; false if not read, too */
	bool		has_actual;
	Datum		desired;		/* of type jsonb */
	Datum		actual;
	bool		is_new;			/* nothing differed at the key before */
	int			attempt;		/* its number, if something is to be done */
	int64		waited;			/* since when it could be, 0 for a new one */
} PlatDifference;

/* What a comparison has found. */
typedef struct PlatComparison
{
	List	   *differences;	/* of PlatDifference, sorted by key */
	int64		keys;			/* that are desired */
	const char *complaint;		/* about rows that cannot be, or NULL */
} PlatComparison;

/* An action on a key, and what it came to. */
typedef struct PlatStep
{
	const char *action;
	const char *outcome;		/* done, failed, skipped, planned or waiting */
	ErrorData  *error;			/* if it has failed */
} PlatStep;

/* One reconciliation of one controller; lives in the context it was made in. */
typedef struct PlatPass
{
	char	   *name;
	bool		by_hand;		/* which waits for nothing but locks */
	TimestampTz started;
	PlatController *controller;
	PlatComparison comparison;
	List	   *due;			/* of differences, which something is done
								 * about */
	int			position;		/* of the next of them */
	uint64		turn_ends;		/* by plat_clock(), 0 for never */
	MemoryContext context;
	FunctionCallInfo result;	/* where rows go, or NULL */
} PlatPass;

/* What beginning a pass has come to. */
typedef enum PlatTurn
{
	PLAT_TURN_OURS,
	PLAT_TURN_NONE,				/* gone, paused, or failed, which is noted */
	PLAT_TURN_BUSY				/* another session is at it, or has changed it */
} PlatTurn;

/* controller.c */
extern const PlatModule plat_controller_module;

/* controller_definition.c */
pg_noreturn extern void plat_controller_missing(const char *name);
extern char *plat_controller_name(FunctionCallInfo fcinfo);
extern PlatController *plat_controller_get(const char *name, bool missing_ok);
extern List *plat_controller_list(void);
extern char *plat_controller_relation(const char *name, Oid reader);
extern char *plat_controller_check_relation(Oid oid, const char *what,
											Oid reader);
extern char *plat_controller_check_apply(Oid oid);
extern char *plat_controller_check_plan(Oid oid);
extern bool plat_controller_applies_actions(Oid apply);
extern char *plat_controller_plan_query(Oid plan);

/* controller_compare.c */
extern ErrorData *plat_controller_compare(const PlatController *controller,
										  bool with_states,
										  PlatComparison *comparison);
extern ErrorData *plat_controller_look(const PlatController *controller,
									   PlatDifference *difference,
									   bool *is_there);

/* controller_apply.c */
extern List *plat_controller_apply(const PlatController *controller,
								   PlatDifference *difference, bool is_dry);

/* controller_state.c */
extern PlatTurn plat_controller_lock(const char *name, bool wait);
extern void plat_controller_choose(PlatPass *pass);
extern void plat_controller_note_attempt(const PlatPass *pass);
extern void plat_controller_note_steps(const PlatPass *pass,
									   const PlatDifference *difference,
									   List *steps);
extern void plat_controller_note_pass(const PlatPass *pass,
									  const PlatComparison *left);
extern void plat_controller_note_failure(const char *name,
										 const ErrorData *error);
extern void plat_controller_start(const char *name);
extern void plat_controller_judge(const char *name);

/* controller_pass.c */
extern PlatTurn plat_controller_begin_pass(PlatPass *pass);
extern bool plat_controller_run_next(PlatPass *pass);
extern bool plat_controller_end_pass(PlatPass *pass);

/* controller_serve.c */
extern long plat_controller_serve(void);

/* controller_stat.c */
extern void plat_controller_put_metrics(PlatMetrics *metrics);

#endif							/* PLAT_CONTROLLER_H */
