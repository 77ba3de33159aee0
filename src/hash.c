/*
 * hash.c
 *		Hash functions whose results clients in other languages share.
 *
 * Pure functions of their arguments.  MD5 is OpenSSL's, the others are short
 * and their own specification.  Nothing is shared between backends.
 */
#include "postgres.h"

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/md5.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error platpat needs OpenSSL 3 or newer
#endif

#include "catalog/partition.h"
#include "common/hashfn.h"
#include "partitioning/partbounds.h"
#include "port/pg_bitutils.h"
#include "port/pg_bswap.h"

#include "hash.h"

/*
 * The five primes of XXH64, from the specification of the xxHash project; the
 * algorithm is defined by them and by the rotations below.
 */
#define PRIME64_1 UINT64CONST(0x9E3779B185EBCA87)
#define PRIME64_2 UINT64CONST(0xC2B2AE3D27D4EB4F)
#define PRIME64_3 UINT64CONST(0x165667B19E3779F9)
#define PRIME64_4 UINT64CONST(0x85EBCA77C2B2AE63)
#define PRIME64_5 UINT64CONST(0x27D4EB2F165667C5)

/*
 * Raise 0A000 if OpenSSL would not give us MD5, as in FIPS mode.  Asked once
 * per backend.
 */
static void
require_md5(void)
{
	static bool allowed = false;
	EVP_MD	   *md5;

	if (likely(allowed))
		return;
	md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	if (md5 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("MD5 is not available"),
				 errdetail("OpenSSL refuses it, as it does in FIPS mode."),
				 errhint("Use a ring with algorithm rendezvous, maglev or jump: they hash with xxh64.")));
	EVP_MD_free(md5);
	allowed = true;
}

/*
 * MD5 of data (RFC 1321) into 16 bytes.  Raises 0A000 in FIPS mode.
 *
 * The digest interface of OpenSSL 3 allocates memory for every digest, which
 * costs more than hashing a short key, hence the old functions; whether MD5
 * is allowed at all, the new interface has to say first.
 */
void
plat_md5(const void *data, size_t len, uint8 *digest)
{
	MD5_CTX		context;

	require_md5();
	MD5_Init(&context);
	MD5_Update(&context, data, len);
	MD5_Final(digest, &context);
}

/*
 * Eight bytes as XXH64 reads them: little endian on every machine, so that
 * the hash is the same everywhere; memcpy, because keys are not aligned.
 */
static inline uint64
read64(const uint8 *p)
{
	uint64		value;

	memcpy(&value, p, sizeof(value));
#ifdef WORDS_BIGENDIAN
	value = pg_bswap64(value);
#endif
	return value;
}

/*
 * The same for four bytes.
 */
static inline uint32
read32(const uint8 *p)
{
	uint32		value;

	memcpy(&value, p, sizeof(value));
#ifdef WORDS_BIGENDIAN
	value = pg_bswap32(value);
#endif
	return value;
}

/*
 * Rotate left by 1 to 63 bits; compilers make one instruction of it.
 */
static inline uint64
rotate64(uint64 value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

/*
 * The round function: mix eight bytes of input into a lane.
 */
static inline uint64
xxh64_round(uint64 lane, uint64 input)
{
	return rotate64(lane + input * PRIME64_2, 31) * PRIME64_1;
}

/*
 * Mix a finished lane into the hash.
 */
static inline uint64
xxh64_merge(uint64 hash, uint64 lane)
{
	return (hash ^ xxh64_round(0, lane)) * PRIME64_1 + PRIME64_4;
}

/*
 * The stripes of 32 bytes that input of at least that length begins with, in
 * four lanes that a processor works on side by side. Moves *p behind them;
 * what is left is shorter than a stripe.
 */
static uint64
xxh64_stripes(const uint8 **p, const uint8 *end, uint64 seed)
{
	uint64		a = seed + PRIME64_1 + PRIME64_2;
	uint64		b = seed + PRIME64_2;
	uint64		c = seed;
	uint64		d = seed - PRIME64_1;
	uint64		hash;

	for (; end - *p >= 32; *p += 32)
	{
		a = xxh64_round(a, read64(*p));
		b = xxh64_round(b, read64(*p + 8));
		c = xxh64_round(c, read64(*p + 16));
		d = xxh64_round(d, read64(*p + 24));
	}
	hash = rotate64(a, 1) + rotate64(b, 7) + rotate64(c, 12) + rotate64(d, 18);
	hash = xxh64_merge(hash, a);
	hash = xxh64_merge(hash, b);
	hash = xxh64_merge(hash, c);
	return xxh64_merge(hash, d);
}

/*
 * XXH64 of len bytes with a seed, after the specification of the xxHash
 * project. len may be 0 and data anything then. Not a cryptographic hash: who
 * chooses keys can choose their owner, which is why pins and plans exist, and
 * why nothing here decides about access.
 */
uint64
plat_xxh64(const void *data, size_t len, uint64 seed)
{
	const uint8 *p = data;
	const uint8 *end = p + len;
	uint64		hash;

	hash = len >= 32 ? xxh64_stripes(&p, end, seed) : seed + PRIME64_5;
	hash += (uint64) len;
	for (; end - p >= 8; p += 8)
		hash = rotate64(hash ^ xxh64_round(0, read64(p)), 27) * PRIME64_1 +
			PRIME64_4;
	for (; end - p >= 4; p += 4)
		hash = rotate64(hash ^ read32(p) * PRIME64_1, 23) * PRIME64_2 +
			PRIME64_3;
	for (; p < end; p++)
		hash = rotate64(hash ^ *p * PRIME64_5, 11) * PRIME64_1;

	hash = (hash ^ (hash >> 33)) * PRIME64_2;
	hash = (hash ^ (hash >> 29)) * PRIME64_3;
	return hash ^ (hash >> 32);
}

/*
 * What HASH partitioning by one column makes of the extended hash of its
 * value; modulo the modulus of the partitions it is the remainder.
 */
uint64
plat_partition_combine(uint64 hash)
{
	return hash_combine64(0, hash);
}

/*
 * The partition hash of a text, as in a column with a deterministic
 * collation, whose hash is that of its bytes.
 */
uint64
plat_partition_text(const void *data, size_t len)
{
	return plat_partition_combine(hash_bytes_extended(data, (int) len,
													  HASH_PARTITION_SEED));
}

/*
 * Jump consistent hash: the bucket of key among 0 .. buckets - 1, after
 * Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm"
 * (2014).  Going from n to n + 1 buckets moves 1/(n + 1) of the keys, all of
 * them to the new bucket.
 */
int32
plat_jump(uint64 key, int32 buckets)
{
	int64		bucket = -1;
	int64		next = 0;

	Assert(buckets > 0);
	while (next < buckets)
	{
		bucket = next;
		key = key * UINT64CONST(2862933555777941757) + 1;
		next = (int64) ((bucket + 1) *
						((double) (INT64CONST(1) << 31) /
						 (double) ((key >> 33) + 1)));
	}
	return (int32) bucket;
}
