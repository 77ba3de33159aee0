/*
 * hash.h
 *		Hash functions whose results clients in other languages share.
 */
#ifndef PLAT_HASH_H
#define PLAT_HASH_H

#define PLAT_MD5_BYTES 16

extern void plat_md5(const void *data, size_t len, uint8 *digest);
extern uint64 plat_xxh64(const void *data, size_t len, uint64 seed);
extern uint64 plat_partition_text(const void *data, size_t len);
extern uint64 plat_partition_combine(uint64 hash);
extern int32 plat_jump(uint64 key, int32 buckets);

/*
 * Both halves of the product of two numbers, laid over each other.
 */
static inline uint64
plat_fold(uint64 a, uint64 b)
{
	uint128		product = (uint128) a * b;

	return (uint64) product ^ (uint64) (product >> 64);
}

static inline uint64
plat_fetch64(const char *bytes)
{
	uint64		value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static inline uint32
plat_fetch32(const char *bytes)
{
	uint32		value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Two secrets that nobody can tell from one another. */
typedef struct PlatSeed
{
	uint64		a;
	uint64		b;
} PlatSeed;

/*
 * A hash for tables in memory: quick for short keys, and not to be aimed at by
 * those who do not know the seed.  Multiplication and folding as in Go's
 * memhash and in wyhash; it is neither of them, and differs with byte order.
 * The product does not tell its operands apart, so each has a secret of its
 * own.
 */
static inline uint64
plat_hash_bytes(const char *bytes, size_t len, PlatSeed seed)
{
	const char *last = bytes + len;
	uint64		a = 0;
	uint64		b = 0;
	uint64		mixed = seed.a;

	for (; unlikely(last - bytes > 16); bytes += 16)
		mixed = plat_fold(plat_fetch64(bytes) ^ mixed,
						  plat_fetch64(bytes + 8) ^ seed.b);
	if (likely(last - bytes >= 8))
	{
		a = plat_fetch64(bytes);
		b = plat_fetch64(last - 8);
	}
	else if (last - bytes >= 4)
	{
		a = plat_fetch32(bytes);
		b = plat_fetch32(last - 4);
	}
	else if (last > bytes)
	{
		a = (uint8) bytes[0] | (uint32) (uint8) bytes[(last - bytes) / 2] << 8;
		b = (uint8) last[-1];
	}
	mixed = plat_fold(a ^ mixed, b ^ seed.b);
	return plat_fold(mixed ^ UINT64CONST(0x9E3779B97F4A7C15),
					 seed.a ^ (uint64) len);
}

#endif							/* PLAT_HASH_H */
