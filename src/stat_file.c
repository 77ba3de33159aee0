/*
 * stat_file.c
 *		What of the shared memory outlives the server, in files.
 *
 * A module's file is written by the worker from time to time, if its content
 * has changed, and once more by the postmaster when it ends; the postmaster
 * reads it when it starts and after a crash.  It is written whole, beside the
 * old one, which it then replaces.
 *
 * A file belongs to one server.  It says of which database system it is, and
 * a server that starts from a base backup, whose copy of the file it is not
 * to take for its own, finds backup_label beside it.  What is damaged or
 * foreign is renamed and left for people to look at.
 *
 * No function here raises.  Nothing here is shared.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "stat_file.h"

/* How a file begins; its content and the CRC of all before it follow. */
typedef struct FileHeader
{
	uint64		magic;
	uint64		system;			/* identifier of the database system */
} FileHeader;

/*
 * Write a piece of the content; for put.
 */
void
plat_file_put(PlatFileSink *sink, const void *data, size_t len)
{
	COMP_CRC32C(sink->crc, data, len);
	if (sink->file && !sink->failed && len > 0 &&
		fwrite(data, len, 1, sink->file) != 1)
		sink->failed = true;
}

/*
 * Log that the file could not be written; the next attempt may work.
 */
static void
log_failure(PlatStatFile *file, const char *temporary)
{
	if (!file->has_failed)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
	file->has_failed = true;
}

/*
 * Write the file whole: beside the old one, which it then replaces.
 */
static bool
write_file(PlatStatFile *file, bool locked)
{
	FileHeader	header = {file->magic, GetSystemIdentifier()};
	PlatFileSink sink = {0};
	char		temporary[MAXPGPATH];
	bool		is_complete;

	snprintf(temporary, sizeof(temporary), "%s.tmp", file->name);
	INIT_CRC32C(sink.crc);
	sink.file = AllocateFile(temporary, PG_BINARY_W);
	if (sink.file == NULL)
	{
		log_failure(file, temporary);
		return false;
	}
	plat_file_put(&sink, &header, sizeof(header));
	is_complete = file->put(&sink, locked);
	FIN_CRC32C(sink.crc);
	if (fwrite(&sink.crc, sizeof(sink.crc), 1, sink.file) != 1)
		sink.failed = true;
	if (FreeFile(sink.file) != 0 || sink.failed || !is_complete)
	{
		log_failure(file, temporary);
		(void) unlink(temporary);
		return false;
	}
	if (durable_rename(temporary, file->name, file->has_failed ? DEBUG1 : LOG) != 0)
	{
		file->has_failed = true;
		(void) unlink(temporary);
		return false;
	}
	file->has_failed = false;
	return true;
}

/*
 * Write the file if what is to be in it has changed since the last time.
 */
void
plat_file_flush(PlatStatFile *file, bool locked)
{
	PlatFileSink sink = {0};

	INIT_CRC32C(sink.crc);
	if (!file->put(&sink, locked) || sink.crc == file->last_crc)
		return;
	if (write_file(file, locked))
		file->last_crc = sink.crc;
}

/*
 * Callback of the postmaster's exit. After a crash of the postmaster itself
 * nothing in shared memory is to be trusted.
 */
static void
flush_at_exit(int code, Datum file)
{
	if (code == 0)
		plat_file_flush((PlatStatFile *) DatumGetPointer(file), false);
}

/*
 * What is wrong with what a file holds, or NULL: a clause without a subject.
 */
static const char *
find_fault(const PlatStatFile *file, const char *data, Size size)
{
	FileHeader	header;
	pg_crc32c	crc;
	pg_crc32c	stored;

	if (size < sizeof(header) + sizeof(crc))
		return "is damaged";
	memcpy(&header, data, sizeof(header));
	if (header.magic != file->magic)
		return "is of another kind or version";
	if (header.system != GetSystemIdentifier())
		return "belongs to another database system";
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, size - sizeof(crc));
	FIN_CRC32C(crc);
	memcpy(&stored, data + size - sizeof(crc), sizeof(stored));
	if (!EQ_CRC32C(crc, stored))
		return "is damaged";
	if (access("backup_label", F_OK) == 0)
		return "is a copy in a base backup";
	return NULL;
}

/*
 * Read an open file and restore what it holds; returns what is wrong with it,
 * or NULL.
 */
static const char *
read_file(PlatStatFile *file, FILE *in)
{
	struct stat status;
	Size		frame = sizeof(FileHeader) + sizeof(pg_crc32c);
	char	   *data;
	const char *fault;

	if (fstat(fileno(in), &status) != 0)
		return "cannot be read";
	data = MemoryContextAllocExtended(TopMemoryContext, status.st_size + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (data == NULL)
		return "does not fit into memory";
	if (fread(data, 1, status.st_size, in) != status.st_size)
		fault = "cannot be read";
	else
		fault = find_fault(file, data, status.st_size);
	if (fault == NULL &&
		!file->restore(data + sizeof(FileHeader), status.st_size - frame))
		fault = "is damaged";
	pfree(data);
	return fault;
}

/*
 * Put aside a file that is not to be read.
 */
static void
reject_file(const PlatStatFile *file, const char *fault)
{
	char		rejected[MAXPGPATH];

	snprintf(rejected, sizeof(rejected), "%s.rejected", file->name);
	ereport(LOG,
			(errmsg("file \"%s\" %s; %s", file->name, fault, file->lost),
			 errdetail("It is renamed to \"%s\".", rejected)));
	(void) durable_rename(file->name, rejected, LOG);
}

/*
 * In the postmaster, when the shared memory is new: read the file, and see to
 * it that it is written at the end.
 */
void
plat_file_start(PlatStatFile *file)
{
	FILE	   *in = AllocateFile(file->name, PG_BINARY_R);
	const char *fault = NULL;

	on_shmem_exit(flush_at_exit, PointerGetDatum(file));
	if (in)
	{
		fault = read_file(file, in);
		FreeFile(in);
	}
	else if (errno != ENOENT)
		fault = "cannot be opened";
	if (fault)
		reject_file(file, fault);
}
