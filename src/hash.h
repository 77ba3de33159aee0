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

#endif							/* PLAT_HASH_H */
