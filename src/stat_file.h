/*
 * stat_file.h
 *		Files of modules that want something of their shared memory to outlive
 *		the server.
 *
 * See stat_file.c for what each function promises.
 */
#ifndef PLAT_STAT_FILE_H
#define PLAT_STAT_FILE_H

#include "port/pg_crc32c.h"

/* Where the content of a file goes. */
typedef struct PlatFileSink
{
	FILE	   *file;			/* NULL to find out the CRC only */
	pg_crc32c	crc;
	bool		failed;
} PlatFileSink;

/*
 * A file.  put writes the content with plat_file_put(), the same for the same
 * state, and returns false for want of memory; locked is whether other
 * processes may be using the shared memory.  restore gets a content that was
 * written by put in the same place, and returns false if it makes no sense of
 * it.  Neither may raise.
 */
typedef struct PlatStatFile
{
	const char *name;
	uint64		magic;			/* of this kind of content */
	const char *lost;			/* what happens without it, for the log */
	bool		(*put) (PlatFileSink *sink, bool locked);
	bool		(*restore) (const char *content, Size size);

	/* stat_file.c's own, zero at first */
	pg_crc32c	last_crc;
	bool		has_failed;
} PlatStatFile;

extern void plat_file_put(PlatFileSink *sink, const void *data, size_t len);
extern void plat_file_flush(PlatStatFile *file, bool locked);
extern void plat_file_start(PlatStatFile *file);

#endif							/* PLAT_STAT_FILE_H */
