/*
 * ring.c
 *		Shard lookup: the SQL functions that read rings.
 *
 * shard_for() and its kin answer from the compiled ring of the backend; the
 * immutable forms get their shards as an argument and compile them once per
 * call site.  Nothing is shared between backends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "compat.h"
#include "hash.h"
#include "ring.h"
#include "sql.h"
#include "tenant_id.h"

PG_FUNCTION_INFO_V1(plat_ring_shard_for_text);
PG_FUNCTION_INFO_V1(plat_ring_shard_for_uuid);
PG_FUNCTION_INFO_V1(plat_ring_shard_for_bigint);
PG_FUNCTION_INFO_V1(plat_ring_shards_for);
PG_FUNCTION_INFO_V1(plat_ring_server_for);
PG_FUNCTION_INFO_V1(plat_ring_share);
PG_FUNCTION_INFO_V1(plat_ring_plan);
PG_FUNCTION_INFO_V1(plat_ring_consistent_hash);
PG_FUNCTION_INFO_V1(plat_ring_rendezvous_hash);
PG_FUNCTION_INFO_V1(plat_ring_maglev_hash);
PG_FUNCTION_INFO_V1(plat_ring_jump_hash);
PG_FUNCTION_INFO_V1(plat_ring_modulo_hash);
PG_FUNCTION_INFO_V1(plat_ring_xxh64);
PG_FUNCTION_INFO_V1(plat_ring_partition_text);
PG_FUNCTION_INFO_V1(plat_ring_partition_uuid);
PG_FUNCTION_INFO_V1(plat_ring_partition_bigint);
PG_FUNCTION_INFO_V1(plat_ring_partition_int);

/*
 * What administrators get. The tables are among it, because editing them is
 * as good as calling the functions; TRUNCATE is not, because a foreign key
 * would refuse it alone.
 */
static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.create_ring(text, text, int, text, text[], int)",
	"EXECUTE ON FUNCTION platpat.drop_ring(text)",
	"EXECUTE ON FUNCTION platpat.add_shard(text, text, float8, name)",
	"EXECUTE ON FUNCTION platpat.remove_shard(text, text)",
	"EXECUTE ON FUNCTION platpat.alter_shard(text, text, float8, name)",
	"EXECUTE ON FUNCTION platpat.pin_key(text, text, text)",
	"EXECUTE ON FUNCTION platpat.unpin_key(text, text)",
	"INSERT, UPDATE, DELETE ON platpat.rings, platpat.shards",
	"SELECT, INSERT, UPDATE, DELETE ON platpat.pins",
	NULL
};

const PlatModule plat_ring_module = {
	.name = "ring",
	.admin_grants = admin_grants,
};

/*
 * Raise 22004 for an argument that must not be NULL. The functions are not
 * STRICT: a NULL key would give a NULL shard, and an application would go on
 * with it.
 */
static void
refuse_null(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
}

/*
 * The key of a lookup by text; raises 22004 for NULL and for the empty string,
 * which is a tenant that somebody forgot and not one that has a shard.
 */
static text *
key_arg(FunctionCallInfo fcinfo)
{
	text	   *key;

	refuse_null(fcinfo, 0, "key");
	key = PG_GETARG_TEXT_PP(0);
	if (VARSIZE_ANY_EXHDR(key) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be empty")));
	return key;
}

/*
 * The ring that an argument names, compiled for the active snapshot; good
 * until the next call. Raises 22004, 42704.
 */
static PlatCachedRing *
ring_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	refuse_null(fcinfo, argno, "ring");
	name = PG_GETARG_TEXT_PP(argno);
	return plat_ring_get(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

/*
 * Raise 55000: no shard of the ring can own a key, because there is none or
 * all have weight 0.
 */
static void
no_owner(const char *ring)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("ring \"%s\" has no shard that can own keys", ring),
			 errhint("Add one with platpat.add_shard(shard, ring).")));
}

/*
 * The owner of a key: where it is pinned, or what the algorithm says.
 * ring_argno is the argument that named the ring, for the error.
 */
static int
find_owner(FunctionCallInfo fcinfo, int ring_argno, const PlatCachedRing *ring,
		   const char *key, size_t len)
{
	int			shard = plat_ring_pin(ring, key, len);

	if (shard < 0)
		shard = plat_ring_find(plat_ring_compiled(ring), key, len);
	if (shard < 0)
		no_owner(text_to_cstring(PG_GETARG_TEXT_PP(ring_argno)));
	return shard;
}

/*
 * The name of the owner of a key, as a new text in the caller's memory: a
 * pointer into the ring would not outlive its next compilation.
 */
static Datum
shard_for(FunctionCallInfo fcinfo, const char *key, size_t len)
{
	PlatCachedRing *ring = ring_arg(fcinfo, 1);
	int			shard = find_owner(fcinfo, 1, ring, key, len);
	const PlatShard *s = &plat_ring_compiled(ring)->shards[shard];

	return PointerGetDatum(cstring_to_text_with_len(s->name, (int) s->len));
}

/*
 * platpat.shard_for(key text, ring text) returns text: STABLE, PARALLEL SAFE,
 * PUBLIC.
 *
 * The shard that owns a key. Raises 22004 for NULL or an empty key, 42704 for an unknown
 * ring, 55000 for one without shards, 0A000 if it needs MD5 and OpenSSL has
 * none.
 */
Datum
plat_ring_shard_for_text(PG_FUNCTION_ARGS)
{
	text	   *key;

	key = key_arg(fcinfo);
	return shard_for(fcinfo, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
}

/*
 * platpat.shard_for(key uuid, ring text) returns text: the same by the text
 * form of the key, lower case with hyphens, without allocating it.
 */
Datum
plat_ring_shard_for_uuid(PG_FUNCTION_ARGS)
{
	char		key[37];

	refuse_null(fcinfo, 0, "key");
	plat_print_uuid(PG_GETARG_UUID_P(0), key);
	return shard_for(fcinfo, key, 36);
}

/*
 * platpat.shard_for(key bigint, ring text) returns text: the same by the
 * decimal digits of the key. Smaller integer types come here, too.
 */
Datum
plat_ring_shard_for_bigint(PG_FUNCTION_ARGS)
{
	char		key[MAXINT8LEN + 1];

	refuse_null(fcinfo, 0, "key");
	return shard_for(fcinfo, key, pg_lltoa(PG_GETARG_INT64(0), key));
}

/*
 * platpat.shards_for(key text, n int, ring text) returns text[]
 *
 * The owner and the next n - 1 shards in the order of preference, for
 * replicas; fewer if the ring has fewer.
 */
Datum
plat_ring_shards_for(PG_FUNCTION_ARGS)
{
	text	   *key;
	PlatCachedRing *cached;
	const PlatRing *ring;
	int			n;
	int			pin;
	int			count = 0;
	int			found;
	int		   *ranked;
	Datum	   *names;

	refuse_null(fcinfo, 1, "n");
	key = key_arg(fcinfo);
	n = PG_GETARG_INT32(1);
	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n is %d", n),
				 errdetail("It is a number from 1 on.")));
	cached = ring_arg(fcinfo, 2);
	ring = plat_ring_compiled(cached);
	pin = find_owner(fcinfo, 2, cached, VARDATA_ANY(key),
					 VARSIZE_ANY_EXHDR(key));
	ranked = palloc(sizeof(int) * ring->nshards);
	names = palloc(sizeof(Datum) * ring->nshards);
	found = plat_ring_rank(ring, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key),
						   ring->nshards, ranked);

	names[count++] = CStringGetTextDatum(ring->shards[pin].name);
	for (int i = 0; i < found && count < n; i++)
	{
		if (ranked[i] != pin)
			names[count++] = CStringGetTextDatum(ring->shards[ranked[i]].name);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(names, count, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

/*
 * platpat.server_for(key text, ring text) returns name: the foreign server of
 * the owner.  55000 if it has none.
 */
Datum
plat_ring_server_for(PG_FUNCTION_ARGS)
{
	text	   *key;
	PlatCachedRing *ring;
	int			shard;
	const char *server;

	key = key_arg(fcinfo);
	ring = ring_arg(fcinfo, 1);
	shard = find_owner(fcinfo, 1, ring, VARDATA_ANY(key),
					   VARSIZE_ANY_EXHDR(key));
	server = plat_ring_server(ring, shard);
	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("shard \"%s\" has no server",
						plat_ring_compiled(ring)->shards[shard].name),
				 errhint("Name one with platpat.alter_shard(shard, ring, server => name).")));
	return DirectFunctionCall1(namein, CStringGetDatum(server));
}

/*
 * platpat.ring_share(ring text) returns setof (shard text, share float8):
 * STABLE, PARALLEL SAFE, PUBLIC.
 *
 * The share of all keys that each shard owns, between 0 and 1; pins are left
 * out. All are 0 in a ring that cannot own keys. Raises 22004, 42704.
 */
Datum
plat_ring_share(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const PlatRing *ring = plat_ring_compiled(ring_arg(fcinfo, 0));
	double	   *shares = plat_ring_shares(ring);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < ring->nshards; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false, false};

		values[0] = CStringGetTextDatum(ring->shards[i].name);
		values[1] = Float8GetDatum(shares[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * The names in a text array, none of them NULL or empty; a NULL array has
 * none.
 */
static int
names_arg(FunctionCallInfo fcinfo, int argno, char ***names)
{
	Datum	   *elements;
	bool	   *missing;
	int			count;

	*names = NULL;
	if (PG_ARGISNULL(argno))
		return 0;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &missing, &count);
	*names = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		(*names)[i] = missing[i] ? NULL : TextDatumGetCString(elements[i]);
		plat_ring_check_name("shard", (*names)[i]);
	}
	return count;
}

/*
 * Order shards by the bytes of their names, as COLLATE "C" does in the cache.
 */
static int
compare_shards(const void *left, const void *right)
{
	return strcmp(((const PlatShard *) left)->name,
				  ((const PlatShard *) right)->name);
}

/*
 * Index of the shard of this name among the first count, or -1.
 */
static int
find_shard(const PlatShard *shards, int count, const char *name)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(shards[i].name, name) == 0)
			return i;
	}
	return -1;
}

/*
 * Take one shard out of a planned ring; 42704 if it has none of this name,
 * 55000 if the algorithm lets only the last one go.
 */
static void
plan_removal(PlatRing *ring, const char *name)
{
	int			at = find_shard(ring->shards, ring->nshards, name);

	if (at < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("shard \"%s\" does not exist", plat_clip(name))));
	if (plat_ring_has_order(ring->algorithm) && at != ring->nshards - 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot remove shard \"%s\"", name),
				 errdetail("Algorithms jump and modulo number the shards: only the last can go."),
				 errhint("Rings by md5, ketama, rendezvous and maglev can lose any shard.")));
	ring->nshards--;
	memmove(&ring->shards[at], &ring->shards[at + 1],
			sizeof(PlatShard) * (ring->nshards - at));
}

/*
 * Take shards out of a planned ring, those behind first: in whatever order
 * they are named, the last few of a jump or modulo ring can go together.
 */
static void
plan_removals(PlatRing *ring, char **names, int count)
{
	for (; count > 0; count--)
	{
		int			at = 0;
		char	   *name;

		for (int i = 1; i < count; i++)
		{
			if (find_shard(ring->shards, ring->nshards, names[i]) >
				find_shard(ring->shards, ring->nshards, names[at]))
				at = i;
		}
		name = names[at];
		names[at] = names[count - 1];
		plan_removal(ring, name);
	}
}

/*
 * Put one shard of weight 1 into a planned ring, whose array has room for it;
 * 42710 if there is one of this name. name is not copied.
 */
static void
plan_addition(PlatRing *ring, const char *name)
{
	PlatShard  *shard;

	if (find_shard(ring->shards, ring->nshards, name) >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("shard \"%s\" already exists", plat_clip(name))));
	shard = &ring->shards[ring->nshards++];
	memset(shard, 0, sizeof(PlatShard));
	shard->name = name;
	shard->len = strlen(name);
	shard->weight = 1;
}

/*
 * platpat.plan_ring(add text[], remove text[], ring text)
 * returns setof (from_shard text, to_shard text, share float8)
 *
 * What a change would move, as shares of all keys; nothing is changed.  Added
 * shards have weight 1; pins are left out.
 */
Datum
plat_ring_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	  **added;
	char	  **removed;
	int			nadded = names_arg(fcinfo, 0, &added);
	int			nremoved = names_arg(fcinfo, 1, &removed);
	const PlatRing *before = plat_ring_compiled(ring_arg(fcinfo, 2));
	PlatRing	after = *before;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	after.shards = palloc(sizeof(PlatShard) * (before->nshards + nadded + 1));
	memcpy(after.shards, before->shards, sizeof(PlatShard) * before->nshards);
	plan_removals(&after, removed, nremoved);
	for (int i = 0; i < nadded; i++)
		plan_addition(&after, added[i]);
	if (!plat_ring_has_order(after.algorithm))
		qsort(after.shards, after.nshards, sizeof(PlatShard), compare_shards);
	plat_ring_build(&after);
	if (plat_ring_find(before, "", 0) < 0 || plat_ring_find(&after, "", 0) < 0)
		no_owner(text_to_cstring(PG_GETARG_TEXT_PP(2)));

	foreach(cell, plat_ring_moves(before, &after))
	{
		PlatMove   *move = lfirst(cell);
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		values[0] = CStringGetTextDatum(before->shards[move->from].name);
		values[1] = CStringGetTextDatum(after.shards[move->to].name);
		values[2] = Float8GetDatum(move->share);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * A ring compiled from arguments, kept at the call site in fn_extra: a query
 * calls with the same array for row after row.
 */
typedef struct ArgumentRing
{
	MemoryContext context;
	ArrayType  *shards;			/* what it was compiled from */
	int			parameter;
	PlatRing	ring;
} ArgumentRing;

/*
 * Compile the shards of argument 1 into the memory context of the call site.
 * An error leaves kept->shards NULL, so that the next call compiles anew.
 * Raises 22004, 22023, 42710, 54000.
 */
static void
compile_arguments(FunctionCallInfo fcinfo, ArgumentRing *kept,
				  PlatAlgorithm algorithm, int parameter)
{
	MemoryContext caller = MemoryContextSwitchTo(kept->context);
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	char	  **names;
	int			count = names_arg(fcinfo, 1, &names);
	PlatRing   *ring = &kept->ring;

	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shards must not be empty")));
	memset(ring, 0, sizeof(PlatRing));
	ring->algorithm = algorithm;
	ring->hash = PLAT_KEY_XXH64;
	ring->virtual_nodes = parameter;
	ring->table_size = parameter;
	ring->shards = palloc0(sizeof(PlatShard) * count);
	for (int i = 0; i < count; i++)
		plan_addition(ring, names[i]);
	qsort(ring->shards, ring->nshards, sizeof(PlatShard), compare_shards);
	plat_ring_build(ring);
	kept->parameter = parameter;
	kept->shards = (ArrayType *) DatumGetPointer(datumCopy(PointerGetDatum(array), false, -1));
	MemoryContextSwitchTo(caller);
}

/*
 * The owner of key, argument 0, among the shards of argument 1. parameter is
 * virtual_nodes or table_size, checked by the caller.
 */
static Datum
hash_among(FunctionCallInfo fcinfo, PlatAlgorithm algorithm, int parameter)
{
	ArgumentRing *kept = fcinfo->flinfo->fn_extra;
	ArrayType  *array;
	text	   *key;
	int			shard;

	refuse_null(fcinfo, 0, "key");
	refuse_null(fcinfo, 1, "shards");
	array = PG_GETARG_ARRAYTYPE_P(1);
	if (kept == NULL || kept->shards == NULL ||
		kept->parameter != parameter ||
		VARSIZE(kept->shards) != VARSIZE(array) ||
		memcmp(kept->shards, array, VARSIZE(array)) != 0)
	{
		if (kept == NULL)
		{
			kept = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
										  sizeof(ArgumentRing));
			kept->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
												  "platpat argument ring",
												  ALLOCSET_DEFAULT_SIZES);
			fcinfo->flinfo->fn_extra = kept;
		}
		kept->shards = NULL;
		MemoryContextReset(kept->context);
		compile_arguments(fcinfo, kept, algorithm, parameter);
	}
	key = PG_GETARG_TEXT_PP(0);
	shard = plat_ring_find(&kept->ring, VARDATA_ANY(key),
						   VARSIZE_ANY_EXHDR(key));
	return CStringGetTextDatum(kept->ring.shards[shard].name);
}

/*
 * platpat.consistent_hash(key text, shards text[], virtual_nodes int) returns
 * text: IMMUTABLE, PARALLEL SAFE, PUBLIC.
 *
 * The md5 ring over these shards, all of weight 1. Immutable means what it
 * says: the list of shards is part of an index or a generated column, and
 * another list is another expression. Raises 22004, 22023, 42710.
 */
Datum
plat_ring_consistent_hash(PG_FUNCTION_ARGS)
{
	refuse_null(fcinfo, 2, "virtual_nodes");
	if (PG_GETARG_INT32(2) < 1 || PG_GETARG_INT32(2) > 10000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("virtual_nodes is %d", PG_GETARG_INT32(2)),
				 errdetail("It is a number from 1 to 10000.")));
	return hash_among(fcinfo, PLAT_RING_MD5, PG_GETARG_INT32(2));
}

/*
 * platpat.rendezvous_hash(key text, shards text[]) returns text: IMMUTABLE,
 * PARALLEL SAFE, PUBLIC. Raises 22004, 22023, 42710.
 */
Datum
plat_ring_rendezvous_hash(PG_FUNCTION_ARGS)
{
	return hash_among(fcinfo, PLAT_RING_RENDEZVOUS, 0);
}

/*
 * platpat.maglev_hash(key text, shards text[], table_size int) returns text:
 * IMMUTABLE, PARALLEL SAFE, PUBLIC.
 *
 * Any prime will do as table_size here, so that published tables can be
 * checked; rings want 65537 and more. Raises 22004, 22023, 42710.
 */
Datum
plat_ring_maglev_hash(PG_FUNCTION_ARGS)
{
	refuse_null(fcinfo, 2, "table_size");
	if (PG_GETARG_INT32(2) > PLAT_RING_MAX_POINTS ||
		!plat_ring_is_prime(PG_GETARG_INT32(2)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table_size is %d", PG_GETARG_INT32(2)),
				 errdetail("It is a prime number up to 16777216.")));
	return hash_among(fcinfo, PLAT_RING_MAGLEV, PG_GETARG_INT32(2));
}

/*
 * The number of buckets, argument 1, after a key that is not NULL either;
 * 22004 or 22023.
 */
static int32
buckets_arg(FunctionCallInfo fcinfo)
{
	refuse_null(fcinfo, 0, "key");
	refuse_null(fcinfo, 1, "buckets");
	if (PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("buckets is %d", PG_GETARG_INT32(1)),
				 errdetail("It is a number from 1 on.")));
	return PG_GETARG_INT32(1);
}

/*
 * platpat.jump_hash(key bigint, buckets int) returns int: IMMUTABLE, PARALLEL
 * SAFE, PUBLIC.
 *
 * The key is taken as it is, as an unsigned number, and not hashed:
 * sequential numbers are fine, jump hash mixes them. Raises 22004, 22023.
 */
Datum
plat_ring_jump_hash(PG_FUNCTION_ARGS)
{
	int32		buckets = buckets_arg(fcinfo);

	PG_RETURN_INT32(plat_jump((uint64) PG_GETARG_INT64(0), buckets));
}

/*
 * platpat.modulo_hash(key text, buckets int) returns int: IMMUTABLE, PARALLEL
 * SAFE, PUBLIC. The unsigned XXH64 of the key modulo buckets. Raises 22004,
 * 22023.
 */
Datum
plat_ring_modulo_hash(PG_FUNCTION_ARGS)
{
	int32		buckets = buckets_arg(fcinfo);
	text	   *key = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT32((int32) (plat_xxh64(VARDATA_ANY(key),
										VARSIZE_ANY_EXHDR(key), 0) % buckets));
}

/*
 * platpat.xxh64(key text, seed bigint) returns bigint: IMMUTABLE, PARALLEL
 * SAFE, STRICT, PUBLIC. The 64 bits as a signed number, SQL having no other;
 * to_hex() shows them.
 */
Datum
plat_ring_xxh64(PG_FUNCTION_ARGS)
{
	text	   *key = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64((int64) plat_xxh64(VARDATA_ANY(key),
									   VARSIZE_ANY_EXHDR(key),
									   (uint64) PG_GETARG_INT64(1)));
}

/*
 * platpat.partition_hash(key text) returns bigint: IMMUTABLE, PARALLEL SAFE,
 * STRICT, PUBLIC.
 *
 * What HASH partitioning by a text column computes, so that a client finds
 * the partition without asking: the number, unsigned, modulo the modulus is
 * the remainder.
 */
Datum
plat_ring_partition_text(PG_FUNCTION_ARGS)
{
	text	   *key = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64((int64) plat_partition_text(VARDATA_ANY(key),
												VARSIZE_ANY_EXHDR(key)));
}

/*
 * The partition hash of a value whose type has this extended hash function;
 * the seed is core's for partitioning and part of every partitioned table, so
 * it cannot change.
 */
static Datum
partition_value(PGFunction function, Datum value)
{
	Datum		seed = UInt64GetDatum(HASH_PARTITION_SEED);
	uint64		hash = DatumGetUInt64(DirectFunctionCall2(function, value, seed));

	return Int64GetDatum((int64) plat_partition_combine(hash));
}

/*
 * The same for a uuid column.
 */
Datum
plat_ring_partition_uuid(PG_FUNCTION_ARGS)
{
	return partition_value(uuid_hash_extended, PG_GETARG_DATUM(0));
}

/*
 * The same for a bigint column.
 */
Datum
plat_ring_partition_bigint(PG_FUNCTION_ARGS)
{
	return partition_value(hashint8extended, PG_GETARG_DATUM(0));
}

/*
 * The same for an integer column; equal numbers hash alike as integer and
 * bigint, as they must within one operator family.
 */
Datum
plat_ring_partition_int(PG_FUNCTION_ARGS)
{
	return partition_value(hashint4extended, PG_GETARG_DATUM(0));
}
