/*
 * limit.h
 *		What the files of module limit share.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_LIMIT_H
#define PLAT_LIMIT_H

#include "fmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "limit_core.h"
#include "module.h"
#include "slots.h"
#include "tenant_id.h"

/*
 * The spaces of keys in the shared table.  Callers name keys in the first;
 * the others are keyed by tenant, and only our functions charge them.
 */
#define PLAT_SPACE_KEY 1
#define PLAT_SPACE_TENANT 2
#define PLAT_SPACE_QUOTA(unit) (3 + (unit))

/*
 * What the epochs of entries say: that it is the bucket of a key, that it is
 * the bucket of a tenant, or the end of a quota's window, in microseconds
 * since 2000.
 */
#define PLAT_EPOCH_KEY 0
#define PLAT_EPOCH_TENANT 1
#define PLAT_EPOCH_IS_QUOTA(epoch) ((epoch) > PLAT_EPOCH_TENANT)

/*
 * One thing to be charged, and what came of it.  For a bucket cost, limit and
 * level are nanoseconds, for a quota they are thousandths of tokens.
 */
typedef struct PlatCharge
{
	PlatSlotKey key;
	uint64		cost;
	uint64		limit;
	uint64		epoch;

	PlatSlot   *slot;			/* where it was charged; NULL if nowhere */
	uint64		taken;			/* the state that it left there */
	uint64		level;			/* debt or use, with the charge if it passed */
	uint64		wait;			/* nanoseconds until it passes, 0 if it did */
	bool		no_place;		/* the table was full */
} PlatCharge;

/* What a caller who is refused gets to know. */
typedef struct PlatRefusal
{
	const char *what;			/* "rate limit" or "daily quota", for example */
	const char *key_label;		/* "key" or "tenant" */
	const char *key;			/* short enough for a message */
	const char *policy;			/* its name in headers */
	double		limit;			/* tokens */
	double		remaining;		/* tokens */
	uint64		window;			/* nanoseconds that limit is for */
	uint64		wait;			/* nanoseconds */
	bool		no_place;
} PlatRefusal;

/* A quota of a tenant, and the window that is now or was at the last look. */
typedef struct PlatQuota
{
	PlatWindowUnit unit;
	int64		tokens;
	uint64		hash;
	TimestampTz start;
	TimestampTz end;
} PlatQuota;

/* What holds for one tenant: its tier with its own values over it. */
typedef struct PlatTenantLimits
{
	char		tenant[PLAT_TENANT_MAX + 1];	/* hash key */
	uint64		generation;		/* of the tables when it was read */
	char		tier[NAMEDATALEN * 4];
	bool		has_rate;		/* otherwise unlimited */
	PlatRate	rate;
	uint64		burst_ns;
	uint64		hash;			/* of its bucket */
	pg_tz	   *zone;
	int			nquotas;
	PlatQuota	quotas[PLAT_WINDOW_UNITS];

	/* The cost that was last asked for, and what it is. */
	double		cost;
	uint64		cost_ns;
	uint64		cost_units;
} PlatTenantLimits;

/* limit.c */
extern const PlatModule plat_limit_module;
extern int	plat_limit_flush_interval;
extern int	plat_limit_slots;

/* limit_charge.c */
typedef enum PlatOnFull
{
	PLAT_ON_FULL_EVICT,
	PLAT_ON_FULL_DENY,
	PLAT_ON_FULL_ALLOW
} PlatOnFull;
extern int	plat_limit_on_full;
extern bool plat_charge(PlatCharge *charge, uint64 now, TimestampTz wall);
extern bool plat_charge_all(PlatCharge *charges, int n, uint64 now,
							TimestampTz wall);
extern void plat_charge_peek(PlatCharge *charge, uint64 now, TimestampTz wall);
extern void plat_charge_reserve(PlatCharge *charge, uint64 now);
extern void plat_charge_undo(PlatCharge *charge, uint64 now);
extern void plat_charge_refund(PlatCharge *charge, uint64 now);

/* limit_tenant.c */
extern PlatTenantLimits *plat_limits_of(const char *tenant);
extern void plat_limit_define_tier_setting(void);

/* limit_error.c */
extern void plat_limit_define_error_setting(void);
pg_noreturn extern void plat_limit_raise(const PlatRefusal *refusal);

/* limit_stat.c */
extern void plat_limit_put_metrics(PlatMetrics *metrics);
extern void plat_limit_reset_stats(void);

/* limit_statement.c */
extern void plat_limit_watch_executor(void);

/* limit_file.c */
extern void plat_limit_start(void);
extern long plat_limit_work(void);

#endif							/* PLAT_LIMIT_H */
