/*
 * ring_plan.c
 *		How much of all keys a shard owns, and what a change of a ring moves.
 *
 * Computed, not sampled: from the arcs of a circle, the entries of a table,
 * or the probabilities of the algorithm.  Pure functions of compiled rings.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "ring.h"

/*
 * More pairs of shards than this are not planned for: the matrix of moves
 * would take more than 80 MB.
 */
#define MAX_MODULO_PAIRS 10000000

/*
 * The place of a point as a part of the whole circle, from 0 up to but
 * without 1. long double has 64 bits of precision where it is the x87 type
 * and more elsewhere, so an arc is exact to about 1e-19.
 */
static long double
place_of(const PlatPoint *point)
{
	return ((long double) point->high +
			(long double) point->low / 18446744073709551616.0L) /
		18446744073709551616.0L;
}

/*
 * The length of the arc that ends at point i: keys strictly behind the point
 * before it and not behind it.  The first arc begins at the last point.
 */
static double
arc_of(const PlatRing *ring, int i)
{
	long double end = place_of(&ring->points[i]);

	if (i == 0)
		return (double) (end + 1.0L -
						 place_of(&ring->points[ring->npoints - 1]));
	return (double) (end - place_of(&ring->points[i - 1]));
}

/*
 * The share of all keys that each shard owns, in the order of the shards; the
 * shares of a ring that can own keys add up to 1.
 */
double *
plat_ring_shares(const PlatRing *ring)
{
	double	   *shares = palloc0(sizeof(double) * Max(ring->nshards, 1));

	if (ring->total_weight <= 0)
		return shares;
	switch (ring->algorithm)
	{
		case PLAT_RING_MD5:
		case PLAT_RING_KETAMA:
			for (int i = 0; i < ring->npoints; i++)
				shares[ring->points[i].shard] += arc_of(ring, i);
			break;
		case PLAT_RING_MAGLEV:
			for (int i = 0; i < ring->table_size; i++)
				shares[ring->table[i]] += 1.0 / ring->table_size;
			break;
		case PLAT_RING_RENDEZVOUS:
			for (int i = 0; i < ring->nshards; i++)
				shares[i] = ring->shards[i].weight / ring->total_weight;
			break;
		case PLAT_RING_JUMP:
		case PLAT_RING_MODULO:
			for (int i = 0; i < ring->nshards; i++)
				shares[i] = 1.0 / ring->nshards;
			break;
	}
	return shares;
}

/*
 * Moves under construction: the share that goes from each old shard to each
 * new one. Shares that stay are not kept.
 */
typedef struct MoveSum
{
	int			nafter;
	double	   *shares;			/* [from * nafter + to] */
	int		   *same;			/* index in the new ring of an old shard */
} MoveSum;

/*
 * Add a share that from owned before and to owns after, unless they are the
 * same shard.
 */
static void
add_move(MoveSum *sum, int from, int to, double share)
{
	if (sum->same[from] != to)
		sum->shares[(Size) from * sum->nafter + to] += share;
}

/*
 * Where each shard of the old ring is in the new one, -1 if it is not. The
 * names decide: a shard that is removed and added again stays.
 */
static int *
match_shards(const PlatRing *before, const PlatRing *after)
{
	int		   *same = palloc(sizeof(int) * Max(before->nshards, 1));

	for (int i = 0; i < before->nshards; i++)
	{
		same[i] = -1;
		for (int j = 0; j < after->nshards && same[i] < 0; j++)
		{
			if (strcmp(before->shards[i].name, after->shards[j].name) == 0)
				same[i] = j;
		}
	}
	return same;
}

/*
 * Whether point a stands before point b on the circle; not at the same place.
 */
static bool
is_before(const PlatPoint *a, const PlatPoint *b)
{
	return a->high < b->high || (a->high == b->high && a->low < b->low);
}

/*
 * Lay both circles over each other: between two neighbouring points of
 * either, every key has one owner before and one after.
 */
static void
move_circle(MoveSum *sum, const PlatRing *before, const PlatRing *after)
{
	long double last = 0;
	int			i = 0;
	int			j = 0;

	while (i < before->npoints || j < after->npoints)
	{
		const PlatPoint *old = &before->points[i < before->npoints ? i : 0];
		const PlatPoint *new = &after->points[j < after->npoints ? j : 0];
		bool		take_old;
		long double end;

		take_old = j >= after->npoints ||
			(i < before->npoints && !is_before(new, old));
		end = place_of(take_old ? old : new);
		add_move(sum, old->shard, new->shard, (double) (end - last));
		last = end;
		if (take_old)
			i++;
		else
			j++;
	}
	/* behind the last point of both, all belongs to the first ones */
	add_move(sum, before->points[0].shard, after->points[0].shard,
			 (double) (1.0L - last));
}

/*
 * Maglev: compare the tables entry by entry. Both have the same size, because
 * a plan does not change the settings of the ring.
 */
static void
move_table(MoveSum *sum, const PlatRing *before, const PlatRing *after)
{
	Assert(before->table_size == after->table_size);
	for (int i = 0; i < before->table_size; i++)
		add_move(sum, before->table[i], after->table[i],
				 1.0 / before->table_size);
}

/*
 * Rendezvous: each shard draws a time from an exponential distribution with
 * its weight as rate, and the first wins.  So a shard wins among others with
 * probability weight / sum of weights, whatever else happened later, which
 * gives the joint probability of two winners.
 */
static void
move_rendezvous(MoveSum *sum, const PlatRing *before, const PlatRing *after)
{
	double		all = after->total_weight;

	for (int i = 0; i < before->nshards; i++)
		all += sum->same[i] < 0 ? before->shards[i].weight : 0;
	for (int i = 0; i < before->nshards; i++)
	{
		double		old = before->shards[i].weight;

		for (int j = 0; j < after->nshards; j++)
		{
			double		new = after->shards[j].weight;
			double		old_second = old / before->total_weight;
			double		new_second = new / after->total_weight;
			bool		removed = sum->same[i] < 0;
			bool		added = true;

			for (int k = 0; k < before->nshards && added; k++)
				added = sum->same[k] != j;
			if (added)
				add_move(sum, i, j, new / all * old_second);
			if (removed)
				add_move(sum, i, j, old / all * new_second);
		}
	}
}

/*
 * Jump: growing from n to m buckets leaves a key where it is or sends it to
 * one of the new ones; by symmetry every old bucket gives every new one the
 * same share, 1/(n m). Shrinking is the same backwards.
 */
static void
move_jump(MoveSum *sum, const PlatRing *before, const PlatRing *after)
{
	int			kept = Min(before->nshards, after->nshards);
	double		share = 1.0 / before->nshards / after->nshards;

	for (int i = 0; i < before->nshards; i++)
	{
		for (int j = 0; j < after->nshards; j++)
		{
			if (i >= kept || j >= kept)
				add_move(sum, i, j, share);
		}
	}
}

/*
 * The greatest common divisor of two positive numbers (Euclid).
 */
static int64
greatest_divisor(int64 a, int64 b)
{
	while (b != 0)
	{
		int64		rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/*
 * Modulo: a hash that leaves i before and j after exists once in each common
 * multiple if i and j agree modulo the common divisor, otherwise never.
 */
static void
move_modulo(MoveSum *sum, const PlatRing *before, const PlatRing *after)
{
	int64		divisor = greatest_divisor(before->nshards, after->nshards);
	double		share = 1.0 / before->nshards / after->nshards * divisor;

	for (int i = 0; i < before->nshards; i++)
	{
		for (int64 j = i % divisor; j < after->nshards; j += divisor)
			add_move(sum, i, (int) j, share);
	}
}

/*
 * The moves from one ring to another of the same algorithm, as PlatMove in
 * the order of shards.  Both can own keys.  Raises 54000 if the pairs of
 * shards are too many to list.
 */
List *
plat_ring_moves(const PlatRing *before, const PlatRing *after)
{
	Size		pairs = (Size) before->nshards * after->nshards;
	List	   *moves = NIL;
	MoveSum		sum;

	Assert(before->algorithm == after->algorithm);
	if (pairs > MAX_MODULO_PAIRS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many shards to plan for")));
	sum.nafter = after->nshards;
	sum.same = match_shards(before, after);
	sum.shares = MemoryContextAllocExtended(CurrentMemoryContext,
											sizeof(double) * pairs,
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	switch (before->algorithm)
	{
		case PLAT_RING_MD5:
		case PLAT_RING_KETAMA:
			move_circle(&sum, before, after);
			break;
		case PLAT_RING_MAGLEV:
			move_table(&sum, before, after);
			break;
		case PLAT_RING_RENDEZVOUS:
			move_rendezvous(&sum, before, after);
			break;
		case PLAT_RING_JUMP:
			move_jump(&sum, before, after);
			break;
		case PLAT_RING_MODULO:
			move_modulo(&sum, before, after);
			break;
	}
	for (Size i = 0; i < pairs; i++)
	{
		PlatMove   *move;

		if (sum.shares[i] <= 0)
			continue;
		move = palloc(sizeof(PlatMove));
		move->from = (int) (i / after->nshards);
		move->to = (int) (i % after->nshards);
		move->share = sum.shares[i];
		moves = lappend(moves, move);
	}
	return moves;
}
