/*
 * ring.h
 *		What the files of module ring share: the compiled ring.
 */
#ifndef PLAT_RING_H
#define PLAT_RING_H

#include "nodes/pg_list.h"

#include "module.h"

/* Longest name of a ring or a shard in bytes. */
#define PLAT_RING_NAME_MAX 255

/* Most points that a ring may have, 24 bytes each. */
#define PLAT_RING_MAX_POINTS (16 * 1024 * 1024)

/* Most shards of one ring. */
#define PLAT_RING_MAX_SHARDS 100000

typedef enum PlatAlgorithm
{
	PLAT_RING_MD5,
	PLAT_RING_KETAMA,
	PLAT_RING_RENDEZVOUS,
	PLAT_RING_MAGLEV,
	PLAT_RING_JUMP,
	PLAT_RING_MODULO
} PlatAlgorithm;

typedef enum PlatKeyHash
{
	PLAT_KEY_XXH64,
	PLAT_KEY_PARTITION
} PlatKeyHash;

/* One shard of a compiled ring. */
typedef struct PlatShard
{
	const char *name;
	size_t		len;
	double		weight;			/* >= 0, finite; 0 owns nothing */
	uint64		hash;			/* xxh64 of the name, for rendezvous */
} PlatShard;

/* A point of the circle and whose arc ends there. */
typedef struct PlatPoint
{
	uint64		high;			/* the more significant half */
	uint64		low;
	uint32		shard;
} PlatPoint;

/* What a ring is compiled from and into; all in one memory context. */
typedef struct PlatRing
{
	PlatAlgorithm algorithm;
	PlatKeyHash hash;
	int			virtual_nodes;	/* md5: points of a shard of weight 1 */
	int			table_size;		/* maglev: a prime */

	int			nshards;
	PlatShard  *shards;			/* by name, jump and modulo by position */
	int			nactive;		/* shards of positive weight */
	double		total_weight;
	bool		weighted;		/* rendezvous: weights differ */

	int			npoints;		/* md5 and ketama: the circle */
	PlatPoint  *points;
	int			prefix_shift;	/* high >> this is an index into prefix */
	uint32	   *prefix;			/* first point not below the index */

	uint32	   *table;			/* maglev: shard of each entry */
} PlatRing;

/* A share of all keys that goes from one shard to another. */
typedef struct PlatMove
{
	int			from;			/* index into the old ring's shards */
	int			to;				/* index into the new ring's shards */
	double		share;
} PlatMove;

/* ring_core.c */
extern bool plat_ring_parse_algorithm(const char *name, PlatAlgorithm *found);
extern bool plat_ring_parse_hash(const char *name, PlatKeyHash *found);
extern void plat_ring_check_name(const char *what, const char *name);
extern bool plat_ring_is_prime(int value);
extern bool plat_ring_has_order(PlatAlgorithm algorithm);
extern void plat_ring_build(PlatRing *ring);
extern int	plat_ring_find(const PlatRing *ring, const char *key, size_t len);
extern int	plat_ring_rank(const PlatRing *ring, const char *key, size_t len,
						   int n, int *ranked);

/* ring_plan.c */
extern double *plat_ring_shares(const PlatRing *ring);
extern List *plat_ring_moves(const PlatRing *before, const PlatRing *after);

/* ring_cache.c */
typedef struct PlatCachedRing PlatCachedRing;
extern PlatCachedRing *plat_ring_get(const char *name, size_t len);
extern const PlatRing *plat_ring_compiled(const PlatCachedRing *cached);
extern int	plat_ring_pin(const PlatCachedRing *cached, const char *key,
						  size_t len);
extern const char *plat_ring_server(const PlatCachedRing *cached, int shard);

/* ring.c */
extern const PlatModule plat_ring_module;

#endif							/* PLAT_RING_H */
