/*
 * limit_file.c
 *		Quotas on disk, so that a crash does not give a day's quota again.
 *
 * The worker writes all quotas whose window is not over to one file, if they
 * have changed, every platpat.limit_flush_interval; the postmaster writes it
 * once more when it ends, and reads it when it starts and after a crash.
 * Buckets are not in it: their debts are over in seconds.
 *
 * The file belongs to one server.  It says of which database system it is,
 * and a server that starts from a base backup, whose copy of the file it is
 * not to take for its own, finds backup_label beside it.  What is damaged or
 * foreign is renamed and left for people to look at.
 *
 * Entries are written with the hash of their key, so the seed of the hashes
 * is in the file, too.  No function here raises.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "limit.h"
#include "shmem.h"

#define FILE_NAME "pg_stat/platpat_limit.stat"
#define FILE_TEMPORARY FILE_NAME ".tmp"
#define FILE_REJECTED FILE_NAME ".rejected"
#define FILE_MAGIC UINT64CONST(0x32746D696C746C70)	/* "pltlimt2" */

/* How the file begins; entries and the CRC of all before it follow. */
typedef struct FileHeader
{
	uint64		magic;
	uint64		system;			/* identifier of the database system */
	PlatSeed	seed;			/* of the hashes */
} FileHeader;

/* An entry, followed by the len bytes of its name; hash is 0 at the end. */
typedef struct FileEntry
{
	uint64		hash;
	uint64		state;
	uint64		epoch;
	uint64		other_state;
	uint64		other_epoch;
	Oid			database;
	uint8		space;
	uint8		len;
	uint16		unused;
} FileEntry;

/* Where bytes go: a file, or NULL to find out their CRC only. */
typedef struct Sink
{
	FILE	   *file;
	pg_crc32c	crc;
	bool		failed;
} Sink;

/* CRC of the entries that were written last; 0 before the first time. */
static pg_crc32c last_crc = 0;

/* Whether the last attempt to write failed, which is logged once. */
static bool has_failed = false;

static void
put_bytes(Sink *sink, const void *data, size_t len)
{
	COMP_CRC32C(sink->crc, data, len);
	if (sink->file && !sink->failed && fwrite(data, len, 1, sink->file) != 1)
		sink->failed = true;
}

/*
 * Whether an epoch of a quota says something that the next start must know.
 */
static bool
is_live(uint64 state, uint64 epoch, TimestampTz wall)
{
	return state > 0 && (TimestampTz) epoch > wall;
}

static void
put_entry(Sink *sink, const PlatSlotCopy *copy)
{
	FileEntry	entry = {
		.hash = copy->hash,
		.state = copy->state,
		.epoch = copy->epoch,
		.other_state = copy->other_state,
		.other_epoch = copy->other_epoch,
		.database = copy->database,
		.space = copy->space,
		.len = copy->len,
	};

	put_bytes(sink, &entry, sizeof(entry));
	put_bytes(sink, copy->name, copy->len);
}

/*
 * Put all live quotas; false without memory to do so. lock is whether other
 * processes may be using the table.
 */
static bool
put_entries(Sink *sink, bool lock)
{
	FileEntry	end = {0};
	TimestampTz wall = GetCurrentTimestamp();
	PlatSlotCopy *copies = MemoryContextAllocExtended(TopMemoryContext,
													  plat_slots_stripe_size() * sizeof(PlatSlotCopy),
													  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);

	if (copies == NULL)
		return false;
	for (int stripe = 0; stripe < plat_slots_stripes(); stripe++)
	{
		int			count = plat_slots_copy_stripe(stripe, copies,
												   PLAT_EPOCH_TENANT + 1, lock);

		for (int i = 0; i < count; i++)
			if (is_live(copies[i].state, copies[i].epoch, wall) ||
				is_live(copies[i].other_state, copies[i].other_epoch, wall))
				put_entry(sink, &copies[i]);
	}
	put_bytes(sink, &end, sizeof(end));
	pfree(copies);
	return true;
}

/*
 * Log that the file could not be written; the next attempt may work.
 */
static void
log_failure(void)
{
	if (!has_failed)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", FILE_TEMPORARY)));
	has_failed = true;
}

/*
 * Write the file whole: beside the old one, which it then replaces.
 */
static bool
write_file(bool lock)
{
	FileHeader	header = {
		.magic = FILE_MAGIC,
		.system = GetSystemIdentifier(),
		.seed = plat_slots.seed,
	};
	Sink		sink = {0};
	bool		is_complete;

	INIT_CRC32C(sink.crc);
	sink.file = AllocateFile(FILE_TEMPORARY, PG_BINARY_W);
	if (sink.file == NULL)
	{
		log_failure();
		return false;
	}
	put_bytes(&sink, &header, sizeof(header));
	is_complete = put_entries(&sink, lock);
	FIN_CRC32C(sink.crc);
	if (fwrite(&sink.crc, sizeof(sink.crc), 1, sink.file) != 1)
		sink.failed = true;
	if (FreeFile(sink.file) != 0 || sink.failed || !is_complete)
	{
		log_failure();
		(void) unlink(FILE_TEMPORARY);
		return false;
	}
	if (durable_rename(FILE_TEMPORARY, FILE_NAME, has_failed ? DEBUG1 : LOG) != 0)
	{
		has_failed = true;
		(void) unlink(FILE_TEMPORARY);
		return false;
	}
	has_failed = false;
	return true;
}

/*
 * Write the file if what is to be in it has changed since the last time.
 */
static void
flush(bool lock)
{
	Sink		sink = {0};

	INIT_CRC32C(sink.crc);
	if (!put_entries(&sink, lock) || sink.crc == last_crc)
		return;
	if (write_file(lock))
		last_crc = sink.crc;
}

/*
 * What is due in the worker.
 */
long
plat_limit_work(void)
{
	flush(true);
	return plat_limit_flush_interval;
}

/*
 * Callback of the postmaster's exit. After a crash of the postmaster itself
 * nothing in shared memory is to be trusted.
 */
static void
flush_at_exit(int code, Datum arg)
{
	if (code == 0)
		flush(false);
}

/*
 * Read an entry and its name; false at the end of the entries and where the
 * file ends early.
 */
static bool
get_entry(FILE *file, PlatSlotCopy *copy, pg_crc32c *crc)
{
	FileEntry	entry;

	if (fread(&entry, sizeof(entry), 1, file) != 1)
		return false;
	COMP_CRC32C(*crc, &entry, sizeof(entry));
	if (entry.hash == 0 || entry.len > PLAT_SLOT_NAME_MAX ||
		fread(copy->name, 1, entry.len, file) != entry.len)
		return false;
	COMP_CRC32C(*crc, copy->name, entry.len);
	copy->hash = entry.hash;
	copy->state = entry.state;
	copy->epoch = entry.epoch;
	copy->other_state = entry.other_state;
	copy->other_epoch = entry.other_epoch;
	copy->database = entry.database;
	copy->space = entry.space;
	copy->len = entry.len;
	return true;
}

/*
 * What is wrong with the file, or NULL: a clause without a subject. Leaves it
 * at its first entry.
 */
static const char *
find_fault(FILE *file)
{
	FileHeader	header;
	PlatSlotCopy copy;
	pg_crc32c	crc;
	pg_crc32c	stored;

	INIT_CRC32C(crc);
	if (fread(&header, sizeof(header), 1, file) != 1 ||
		header.magic != FILE_MAGIC)
		return "is not a file of quotas";
	if (header.system != GetSystemIdentifier())
		return "belongs to another database system";
	COMP_CRC32C(crc, &header, sizeof(header));
	while (get_entry(file, &copy, &crc))
		;
	FIN_CRC32C(crc);
	if (fread(&stored, sizeof(stored), 1, file) != 1 || !EQ_CRC32C(crc, stored) ||
		fgetc(file) != EOF)
		return "is damaged";
	if (access("backup_label", F_OK) == 0)
		return "is a copy in a base backup";
	plat_slots_set_seed(header.seed);
	(void) fseek(file, sizeof(header), SEEK_SET);
	return NULL;
}

/*
 * Bring the entries of a good file back into the table.
 */
static void
restore_entries(FILE *file)
{
	PlatSlotCopy copy;
	pg_crc32c	unused;
	int			lost = 0;

	INIT_CRC32C(unused);
	memset(&copy, 0, sizeof(copy));
	while (get_entry(file, &copy, &unused))
		if (!plat_slots_restore(&copy))
			lost++;
	if (lost > 0)
		ereport(LOG,
				(errmsg("%d quotas found no place in the shared table", lost),
				 errhint("Raise platpat.limit_slots.")));
}

/*
 * Put aside a file that is not to be read.
 */
static void
reject_file(const char *fault)
{
	ereport(LOG,
			(errmsg("file \"%s\" %s; all quotas begin anew", FILE_NAME, fault),
			 errdetail("It is renamed to \"%s\".", FILE_REJECTED)));
	(void) durable_rename(FILE_NAME, FILE_REJECTED, LOG);
}

/*
 * In the postmaster, when the shared memory is new: read the file, and see to
 * it that it is written at the end.
 */
void
plat_limit_start(void)
{
	FILE	   *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	const char *fault = NULL;

	on_shmem_exit(flush_at_exit, (Datum) 0);
	if (file)
	{
		fault = find_fault(file);
		if (fault == NULL)
			restore_entries(file);
		FreeFile(file);
	}
	else if (errno != ENOENT)
		fault = "cannot be opened";
	if (fault)
		reject_file(fault);
}
