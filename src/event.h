/*
 * event.h
 *		What the files of module event share.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_EVENT_H
#define PLAT_EVENT_H

#include "fmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "module.h"
#include "user_function.h"

/* Longest name of a projection, a consumer or a command, in bytes. */
#define PLAT_EVENT_NAME_MAX 128

/*
 * Milliseconds that a session which looks at the log for the first time has
 * patience with writers that it finds there.
 */
#define PLAT_EVENT_PATIENCE 1000

/* What time a partition spans. */
typedef enum PlatWidth
{
	PLAT_WIDTH_DAY,
	PLAT_WIDTH_WEEK,
	PLAT_WIDTH_MONTH,
	PLAT_WIDTH_YEAR
} PlatWidth;

/* The time that a partition spans: from start on, before end. */
typedef struct PlatSpan
{
	TimestampTz start;
	TimestampTz end;
} PlatSpan;

/* A partition of the log, or one that is to be made. */
typedef struct PlatPartition
{
	char	   *name;
	PlatSpan	span;
	bool		is_planned;
} PlatPartition;

/* A projection, as its row says. */
typedef struct PlatProjection
{
	char	   *name;
	PlatUserFunction apply;
	Datum		types;			/* of type text[] */
	bool		has_types;		/* or else it wants all events */
	bool		is_inline;
	bool		is_per_tenant;
	bool		is_parking;		/* what fails; otherwise it stops */
	bool		is_paused;
	int			batch_size;
	char	  **read_models;	/* qualified names */
	int			nread_models;
} PlatProjection;

/* What a run of a projection has come to. */
typedef struct PlatRun
{
	int64		position;
	int64		applied;		/* events */
	int64		parked;
	bool		is_behind;		/* there is more to do at once */
	bool		is_busy;		/* another session is at it */
	const char *error;			/* why it did not go on, or NULL */
} PlatRun;

/* event.c */
extern const PlatModule plat_event_module;

/* event_arg.c */
extern char *plat_event_name(FunctionCallInfo fcinfo, int argno,
							 const char *what);
extern const char *plat_event_tenant(void);

/* event_definition.c */
pg_noreturn extern void plat_event_no_projection(const char *name);
extern PlatProjection *plat_event_get_projection(const char *name,
												 bool missing_ok);
extern List *plat_event_all_projections(MemoryContext context);
extern void plat_event_check_sight(const PlatProjection *projection,
								   Oid owner);

/* event_partition.c */
extern int	plat_event_partition_width;
extern int	plat_event_retention;
extern bool plat_event_log_is_whole(Oid log);
extern bool plat_event_knows_partitions(Oid log);
extern void plat_event_need_partition(Oid log, TimestampTz when);
extern List *plat_event_list_partitions(Oid log);
extern List *plat_event_desired_partitions(Oid log);
extern char *plat_event_make_partition(Oid log,
									   const PlatPartition *partition);
extern ErrorData *plat_event_drop_partition(const char *name, bool *is_kept);
extern uint64 plat_event_forget_answers(void);

/* event_read.c */
extern int64 plat_event_last(void);
extern int64 plat_event_mark(long patience);
extern void plat_event_check_reader(void);

/* event_projection.c */
extern void plat_event_appended(const text * type, const char *tenant,
								int64 position);

/* event_run.c */
extern void plat_event_call_apply(const PlatUserFunction *apply,
								  const char *search_path,
								  const char *tenant, int64 first, int64 last);
extern void plat_event_lock_projection(const char *name);
extern bool plat_event_run_once(const char *name, int64 mark, bool force,
								PlatRun *run);
extern int64 plat_event_replay(PlatProjection *projection,
							   const char *search_path, const char *tenant,
							   int64 after, int64 last);
extern List *plat_event_list_projections(const char *only,
										 MemoryContext context);
extern void plat_event_store_failure(const char *name,
									 const ErrorData *error);

/* event_serve.c */
extern long plat_event_serve(void);

/* event_wait.c */
extern Size plat_event_wait_size(void);
extern void plat_event_wait_fill(void *part, Size size);
extern void plat_event_wait_adopt(void *part);
extern void plat_event_tell_waiting(void);
extern int64 plat_event_told_mark(Oid log);
extern void plat_event_tell_mark(Oid log, int64 mark);

/* event_stat.c */
extern void plat_event_put_metrics(PlatMetrics *metrics);

#endif							/* PLAT_EVENT_H */
