/*
 * ring_core.c
 *		Which shard owns a key: md5 ring, ketama, rendezvous, maglev, jump,
 *		modulo.
 *
 * Pure functions of a compiled ring and a key: no catalog, no lock, nothing
 * shared.  Every rule here is exact to the bit, because clients in other
 * languages compute the same owner; docs/ring.md states the rules and golden
 * vectors.  Memory comes from the current context.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "port/pg_bswap.h"

#include "hash.h"
#include "ring.h"
#include "sql.h"
#include "tenant_id.h"

/*
 * Groups of four points that ketama gives a server of average weight: one md5
 * makes one group, 40 groups make its 160 points.
 */
#define KETAMA_GROUPS 40

/*
 * The names of algorithms and hashes as the tables and docs/ring.md spell
 * them. A name that is in use cannot change: it is in the tables of users.
 */
static const char *const algorithm_names[] = {
	[PLAT_RING_MD5] = "md5",
	[PLAT_RING_KETAMA] = "ketama",
	[PLAT_RING_RENDEZVOUS] = "rendezvous",
	[PLAT_RING_MAGLEV] = "maglev",
	[PLAT_RING_JUMP] = "jump",
	[PLAT_RING_MODULO] = "modulo",
};

static const char *const hash_names[] = {
	[PLAT_KEY_XXH64] = "xxh64",
	[PLAT_KEY_PARTITION] = "partition",
};

/*
 * Find an algorithm by its name, spelled exactly as in the table above.
 * Returns false, and leaves *found alone, if there is none.
 */
bool
plat_ring_parse_algorithm(const char *name, PlatAlgorithm *found)
{
	for (int i = 0; i < lengthof(algorithm_names); i++)
	{
		if (strcmp(name, algorithm_names[i]) != 0)
			continue;
		*found = (PlatAlgorithm) i;
		return true;
	}
	return false;
}

/*
 * Find a hash of keys by its name; like plat_ring_parse_algorithm().
 */
bool
plat_ring_parse_hash(const char *name, PlatKeyHash *found)
{
	for (int i = 0; i < lengthof(hash_names); i++)
	{
		if (strcmp(name, hash_names[i]) != 0)
			continue;
		*found = (PlatKeyHash) i;
		return true;
	}
	return false;
}

/*
 * Check the name of a ring or a shard: 22004 if it is NULL or empty, 22023 if
 * it is too long or has characters that cannot be seen. what says which.
 */
void
plat_ring_check_name(const char *what, const char *name)
{
	const char *problem = NULL;

	if (name == NULL || name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null or empty", what)));
	if (strlen(name) > PLAT_RING_NAME_MAX)
		problem = "have at most 255 bytes";
	else if (plat_text_has_control(name, strlen(name), GetDatabaseEncoding()))
		problem = "contain no control or invisible characters";
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%s\"", what, plat_clip(name)),
				 errdetail("Names %s.", problem)));
}

/*
 * Whether value is a prime number, by trial division: at most 2,048 steps for
 * the greatest table size. Maglev needs one, because only then does every
 * step from 1 to size - 1 visit all entries of the table.
 */
bool
plat_ring_is_prime(int value)
{
	if (value < 4)
		return value >= 2;
	if (value % 2 == 0)
		return false;
	for (int64 i = 3; i * i <= value; i += 2)
	{
		if (value % i == 0)
			return false;
	}
	return true;
}

/*
 * Whether the algorithm numbers shards by position instead of by name. Such
 * rings grow and shrink at the end only, and know no weights.
 */
bool
plat_ring_has_order(PlatAlgorithm algorithm)
{
	return algorithm == PLAT_RING_JUMP || algorithm == PLAT_RING_MODULO;
}

/*
 * The 64-bit hash of a key, for all algorithms but md5 and ketama, which have
 * their own. Keys are bytes: no collation and no encoding counts.
 */
static inline uint64
hash_key(const PlatRing *ring, const char *key, size_t len)
{
	if (ring->hash == PLAT_KEY_PARTITION)
		return plat_partition_text(key, len);
	return plat_xxh64(key, len, 0);
}

/*
 * Eight bytes of a digest as a big-endian number. The md5 ring compares
 * digests as numbers of 128 bits, of which this is one half.
 */
static inline uint64
big_endian64(const uint8 *bytes)
{
	uint64		value;

	memcpy(&value, bytes, sizeof(value));
	return pg_ntoh64(value);
}

/*
 * Four bytes of a digest as a little-endian number, which is how libketama
 * makes points and places of keys on every machine.
 */
static inline uint32
little_endian32(const uint8 *bytes)
{
	return (uint32) bytes[0] | (uint32) bytes[1] << 8 |
		(uint32) bytes[2] << 16 | (uint32) bytes[3] << 24;
}

/*
 * Where a key stands on the circle of md5 or ketama. A ketama place has 32
 * bits; they are the leading ones here, so that one lookup serves both.
 */
static void
locate(const PlatRing *ring, const char *key, size_t len, PlatPoint *place)
{
	uint8		digest[PLAT_MD5_BYTES];

	plat_md5(key, len, digest);
	if (ring->algorithm == PLAT_RING_KETAMA)
	{
		place->high = (uint64) little_endian32(digest) << 32;
		place->low = 0;
	}
	else
	{
		place->high = big_endian64(digest);
		place->low = big_endian64(digest + 8);
	}
}

/*
 * The order of points: by place, and on the same place by shard, whose order
 * is that of names, so that insertion order never counts.
 */
static int
compare_points(const void *left, const void *right)
{
	const PlatPoint *a = left;
	const PlatPoint *b = right;

	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return a->shard < b->shard ? -1 : a->shard > b->shard;
}

/*
 * How many points the md5 ring, or groups of them ketama, gives a shard. md5:
 * weight times virtual_nodes, rounded half to even as round(double precision)
 * does. ketama: the very arithmetic of libketama, floats, double constant and
 * all, because one point more or less is another continuum. Shards of weight
 * 0 get none and do not count as servers.
 */
static double
count_points(const PlatRing *ring, const PlatShard *shard)
{
	/* single precision where libketama has it, double where that has */
	float		fraction;

	if (ring->algorithm == PLAT_RING_MD5)
		return rint(shard->weight * ring->virtual_nodes);
	fraction = (float) shard->weight / (float) ring->total_weight;
	return floorf((float) (fraction * (double) KETAMA_GROUPS *
						   (double) (float) ring->nactive));
}

/*
 * Add the points of one shard of an md5 ring: the digests of "name:0",
 * "name:1" and so on.
 */
static void
add_md5_points(PlatRing *ring, uint32 shard, int count)
{
	const PlatShard *s = &ring->shards[shard];
	char		label[PLAT_RING_NAME_MAX + 16];
	uint8		digest[PLAT_MD5_BYTES];

	for (int i = 0; i < count; i++)
	{
		PlatPoint  *point = &ring->points[ring->npoints++];
		int			len = snprintf(label, sizeof(label), "%s:%d", s->name, i);

		plat_md5(label, len, digest);
		point->high = big_endian64(digest);
		point->low = big_endian64(digest + 8);
		point->shard = shard;
	}
}

/*
 * Add the points of one server of a ketama continuum: each digest of
 * "name-0", "name-1" and so on makes four.
 */
static void
add_ketama_points(PlatRing *ring, uint32 shard, int groups)
{
	const PlatShard *s = &ring->shards[shard];
	char		label[PLAT_RING_NAME_MAX + 16];
	uint8		digest[PLAT_MD5_BYTES];

	for (int i = 0; i < groups; i++)
	{
		int			len = snprintf(label, sizeof(label), "%s-%d", s->name, i);

		plat_md5(label, len, digest);
		for (int part = 0; part < 4; part++)
		{
			PlatPoint  *point = &ring->points[ring->npoints++];

			point->high = (uint64) little_endian32(digest + 4 * part) << 32;
			point->low = 0;
			point->shard = shard;
		}
	}
}

/*
 * Index the points by their leading bits, about one per point, so that a
 * lookup reads one entry and steps over hardly any point.
 */
static void
index_points(PlatRing *ring)
{
	int			bits = pg_leftmost_one_pos32(Max(ring->npoints, 2)) + 1;
	uint32		entries = (uint32) 1 << bits;
	uint32		point = 0;

	ring->prefix_shift = 64 - bits;
	ring->prefix = MemoryContextAllocHuge(CurrentMemoryContext,
										  sizeof(uint32) * entries);
	for (uint32 entry = 0; entry < entries; entry++)
	{
		while (point < ring->npoints &&
			   ring->points[point].high >> ring->prefix_shift < entry)
			point++;
		ring->prefix[entry] = point;
	}
}

/*
 * Put every shard of an md5 or ketama ring on the circle, sort the points and
 * index them. The triggers keep rings below the limit on points; it is
 * checked again, because plan_ring() and the immutable forms compile shards
 * that no table holds.
 */
static void
build_circle(PlatRing *ring)
{
	int			group = ring->algorithm == PLAT_RING_KETAMA ? 4 : 1;
	double		total = 0;

	for (int i = 0; i < ring->nshards; i++)
		total += count_points(ring, &ring->shards[i]) * group;
	if (total > PLAT_RING_MAX_POINTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("ring would have %.0f points", total),
				 errdetail("A ring has at most %d points.",
						   PLAT_RING_MAX_POINTS),
				 errhint("Use fewer virtual nodes or smaller weights.")));
	ring->points = MemoryContextAllocHuge(CurrentMemoryContext,
										  sizeof(PlatPoint) * Max((Size) total, 1));
	for (int i = 0; i < ring->nshards; i++)
	{
		int			count = (int) count_points(ring, &ring->shards[i]);

		CHECK_FOR_INTERRUPTS();
		if (ring->algorithm == PLAT_RING_KETAMA)
			add_ketama_points(ring, i, count);
		else
			add_md5_points(ring, i, count);
	}
	qsort(ring->points, ring->npoints, sizeof(PlatPoint), compare_points);
	index_points(ring);
}

/*
 * What one shard still has to fill into a maglev table: its permutation of
 * the entries is offset, offset + skip, offset + 2 skip and so on, modulo the
 * size; target is the number of turns, times the greatest weight, that it has
 * had.
 */
typedef struct MaglevTurn
{
	uint64		offset;
	uint64		skip;
	uint64		next;
	double		target;
} MaglevTurn;

/*
 * Take the next free entry of a shard's permutation. There is one: the size
 * is prime, so the permutation visits all entries, and the caller stops when
 * the table is full.
 */
static void
take_entry(PlatRing *ring, MaglevTurn *turn, uint32 shard)
{
	uint64		size = ring->table_size;
	uint64		entry;

	do
		entry = (turn->offset + turn->skip * turn->next++) % size;
	while (ring->table[entry] != PG_UINT32_MAX);
	ring->table[entry] = shard;
}

/*
 * Fill the lookup table as Envoy does (Eisenbud et al., "Maglev", NSDI 2016,
 * with Envoy's hashes and weights): shards take turns in the order of their
 * names, each the next free entry of its own permutation; a shard of half the
 * greatest weight takes every second turn.
 */
static void
build_table(PlatRing *ring)
{
	MaglevTurn *turns = palloc0(sizeof(MaglevTurn) * ring->nshards);
	double		greatest = 0;
	int			filled = 0;

	ring->table = MemoryContextAllocHuge(CurrentMemoryContext,
										 sizeof(uint32) * ring->table_size);
	memset(ring->table, 0xFF, sizeof(uint32) * ring->table_size);
	for (int i = 0; i < ring->nshards; i++)
	{
		const PlatShard *s = &ring->shards[i];

		turns[i].offset = plat_xxh64(s->name, s->len, 0) % ring->table_size;
		turns[i].skip = plat_xxh64(s->name, s->len, 1) %
			(ring->table_size - 1) + 1;
		greatest = Max(greatest, s->weight);
	}
	for (double round = 1; filled < ring->table_size && greatest > 0; round++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < ring->nshards && filled < ring->table_size; i++)
		{
			double		weight = ring->shards[i].weight;

			if (weight <= 0 || round * weight < turns[i].target)
				continue;
			turns[i].target += greatest;
			take_entry(ring, &turns[i], i);
			filled++;
		}
	}
	pfree(turns);
}

/*
 * Compile the ring: algorithm, hash, virtual_nodes, table_size, nshards and
 * shards are given, the shards in their order; the rest is computed.  Raises
 * 54000 if there would be too many points, 0A000 if MD5 is needed and not to
 * be had.
 */
void
plat_ring_build(PlatRing *ring)
{
	ring->total_weight = 0;
	ring->nactive = 0;
	ring->weighted = false;
	for (int i = 0; i < ring->nshards; i++)
	{
		PlatShard  *s = &ring->shards[i];

		s->hash = plat_xxh64(s->name, s->len, 0);
		ring->total_weight += s->weight;
		ring->nactive += s->weight > 0;
		ring->weighted |= s->weight != ring->shards[0].weight;
	}
	ring->npoints = 0;
	switch (ring->algorithm)
	{
		case PLAT_RING_MD5:
		case PLAT_RING_KETAMA:
			build_circle(ring);
			break;
		case PLAT_RING_MAGLEV:
			build_table(ring);
			break;
		case PLAT_RING_RENDEZVOUS:
		case PLAT_RING_JUMP:
		case PLAT_RING_MODULO:
			break;
	}
}

/*
 * The index of the first point not before place, wrapping to the first. The
 * prefix index leads to within a step or two of it on average; a key on a
 * point belongs to that point.
 */
static inline int
first_point(const PlatRing *ring, const PlatPoint *place)
{
	uint32		i = ring->prefix[place->high >> ring->prefix_shift];

	while (i < ring->npoints &&
		   (ring->points[i].high < place->high ||
			(ring->points[i].high == place->high &&
			 ring->points[i].low < place->low)))
		i++;
	return i < ring->npoints ? i : 0;
}

/*
 * Mix key and shard for rendezvous: one step of the xorshift64* generator, as
 * go-rendezvous has it. Zero stays zero, which only says that the key and the
 * shard have the same hash.
 */
static inline uint64
mix(uint64 x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x * UINT64CONST(2685821657736338717);
}

/*
 * The score of a weighted shard: -weight / ln(u), where u is the mixed hash
 * as a number between 0 and 1 (Schindelhauer and Schomaker, "Weighted
 * Distributed Hash Tables", 2005).
 */
static double
weighted_score(double weight, uint64 mixed)
{
	double		u = ((double) (mixed >> 11) + 0.5) / 9007199254740992.0;

	return -weight / log(u);
}

/*
 * The shard with the highest score; the first by name among equals. While all
 * weights are equal the mixed hashes are compared as they are, which is what
 * clients without weights compute, and spares a logarithm per shard. Takes
 * time proportional to the number of shards.
 */
static int
find_rendezvous(const PlatRing *ring, uint64 hash)
{
	int			best = -1;
	uint64		best_mixed = 0;
	double		best_score = 0;

	for (int i = 0; i < ring->nshards; i++)
	{
		const PlatShard *s = &ring->shards[i];
		uint64		mixed = mix(hash ^ s->hash);

		if (ring->weighted)
		{
			double		score = weighted_score(s->weight, mixed);

			if (s->weight > 0 && score > best_score)
			{
				best = i;
				best_score = score;
			}
		}
		else if (best < 0 || mixed > best_mixed)
		{
			best = i;
			best_mixed = mixed;
		}
	}
	return best;
}

/*
 * The index of the shard that owns key, or -1 if no shard can own any: there
 * is none, or all have weight 0.
 */
int
plat_ring_find(const PlatRing *ring, const char *key, size_t len)
{
	PlatPoint	place;

	if (ring->nshards == 0 || ring->total_weight <= 0)
		return -1;
	switch (ring->algorithm)
	{
		case PLAT_RING_MD5:
		case PLAT_RING_KETAMA:
			if (ring->npoints == 0)
				return -1;
			locate(ring, key, len, &place);
			return ring->points[first_point(ring, &place)].shard;
		case PLAT_RING_RENDEZVOUS:
			return find_rendezvous(ring, hash_key(ring, key, len));
		case PLAT_RING_MAGLEV:
			return ring->table[hash_key(ring, key, len) % ring->table_size];
		case PLAT_RING_JUMP:
			return plat_jump(hash_key(ring, key, len), ring->nshards);
		case PLAT_RING_MODULO:
			return (int) (hash_key(ring, key, len) % ring->nshards);
	}
	return -1;
}

/*
 * Append shard to ranked unless seen says that it is there; returns the new
 * count.
 */
static int
append_new(int *ranked, int count, bool *seen, int shard)
{
	if (seen[shard])
		return count;
	seen[shard] = true;
	ranked[count] = shard;
	return count + 1;
}

/*
 * Rank by walking the circle or the table from where the key stands: the next
 * other shard is the one that would own the key if the owner went, exactly on
 * a circle and nearly so in a maglev table.
 */
static int
rank_by_walk(const PlatRing *ring, const char *key, size_t len, int n,
			 int *ranked)
{
	bool	   *seen = palloc0(sizeof(bool) * ring->nshards);
	bool		circle = ring->points != NULL;
	int			size = circle ? ring->npoints : ring->table_size;
	int			start;
	int			count = 0;
	PlatPoint	place;

	if (circle)
	{
		locate(ring, key, len, &place);
		start = first_point(ring, &place);
	}
	else
		start = (int) (hash_key(ring, key, len) % size);
	for (int i = 0; i < size && count < n; i++)
	{
		int			at = (int) (((int64) start + i) % size);
		int			shard = circle ? ring->points[at].shard : ring->table[at];

		count = append_new(ranked, count, seen, shard);
	}
	pfree(seen);
	return count;
}

/*
 * Rank by score: take the winner out and let the rest compete again. The
 * scores of the others do not depend on it, so that this is their order; n
 * passes are cheaper than sorting for the few replicas that callers want.
 */
static int
rank_by_score(const PlatRing *ring, uint64 hash, int n, int *ranked)
{
	PlatRing	rest = *ring;
	int		   *original = palloc(sizeof(int) * ring->nshards);
	int			count = 0;

	rest.shards = palloc(sizeof(PlatShard) * ring->nshards);
	memcpy(rest.shards, ring->shards, sizeof(PlatShard) * ring->nshards);
	for (int i = 0; i < ring->nshards; i++)
		original[i] = i;
	while (count < n && rest.nshards > 0)
	{
		int			best = find_rendezvous(&rest, hash);
		int			behind;

		if (best < 0)
			break;
		ranked[count++] = original[best];
		behind = --rest.nshards - best;
		memmove(&rest.shards[best], &rest.shards[best + 1],
				sizeof(PlatShard) * behind);
		memmove(&original[best], &original[best + 1], sizeof(int) * behind);
	}
	pfree(rest.shards);
	pfree(original);
	return count;
}

/*
 * The first n shards in the order of preference for key, the owner first:
 * along the circle or table, by falling score, or by position after the
 * owner's.  Shards of weight 0 never appear.  Returns how many were found.
 */
int
plat_ring_rank(const PlatRing *ring, const char *key, size_t len, int n,
			   int *ranked)
{
	int			owner = plat_ring_find(ring, key, len);
	int			count;

	if (owner < 0)
		return 0;
	n = Min(n, ring->nshards);
	switch (ring->algorithm)
	{
		case PLAT_RING_MD5:
		case PLAT_RING_KETAMA:
		case PLAT_RING_MAGLEV:
			return rank_by_walk(ring, key, len, n, ranked);
		case PLAT_RING_RENDEZVOUS:
			return rank_by_score(ring, hash_key(ring, key, len), n, ranked);
		case PLAT_RING_JUMP:
		case PLAT_RING_MODULO:
			for (count = 0; count < n; count++)
				ranked[count] = (owner + count) % ring->nshards;
			return count;
	}
	return 0;
}
