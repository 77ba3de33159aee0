/*
 * ring_table.c
 *		The tables of rings: triggers that keep them sound, and the functions
 *		that write them.
 *
 * Editing the tables by SQL is as good as calling the functions, so all the
 * rules are in the triggers.  A change of a shard or a pin first updates the
 * version of its ring, which makes writers of one ring wait for each other
 * and tells readers whether they have the latest.  The statement triggers
 * send the relcache invalidation that the cache of every backend waits for.
 *
 * Rows are written as the owner of the tables: EXECUTE on the functions, or a
 * grant on the tables, is what decides who may.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "compat.h"
#include "config_table.h"
#include "ring.h"
#include "sql.h"

/*
 * Greatest weight. Weights are ratios, and a million to one leaves the others
 * nothing that a ring could show.
 */
#define MAX_WEIGHT 1000000.0

#define MAX_VIRTUAL_NODES 10000
#define MIN_TABLE_SIZE 65537
#define MAX_TABLE_SIZE PLAT_RING_MAX_POINTS

/*
 * The ring whose change the running statement has noted already. The
 * subtransaction tells a statement that failed and was rolled back from the
 * one after it.
 */
static struct
{
	LocalTransactionId lxid;
	SubTransactionId subid;
	PlatAlgorithm algorithm;
	char		ring[PLAT_RING_NAME_MAX + 1];
}			touched;

PG_FUNCTION_INFO_V1(plat_ring_check_ring);
PG_FUNCTION_INFO_V1(plat_ring_check_shard);
PG_FUNCTION_INFO_V1(plat_ring_check_pin);
PG_FUNCTION_INFO_V1(plat_ring_changed);
PG_FUNCTION_INFO_V1(plat_ring_cascade);
PG_FUNCTION_INFO_V1(plat_ring_create);
PG_FUNCTION_INFO_V1(plat_ring_drop);
PG_FUNCTION_INFO_V1(plat_ring_add_shard);
PG_FUNCTION_INFO_V1(plat_ring_remove_shard);
PG_FUNCTION_INFO_V1(plat_ring_alter_shard);
PG_FUNCTION_INFO_V1(plat_ring_pin_key);
PG_FUNCTION_INFO_V1(plat_ring_unpin_key);

/*
 * Check the settings of a ring; raises 22023 for the first that is wrong.
 * Numbers come as double, so that NULL and values beyond int are out of
 * bounds like any other. table_size is checked for every algorithm: the ring
 * may become maglev by an UPDATE.
 */
static void
check_settings(const char *algorithm, const char *hash, double virtual_nodes,
			   double table_size)
{
	PlatAlgorithm parsed_algorithm;
	PlatKeyHash parsed_hash;

	if (algorithm == NULL || !plat_ring_parse_algorithm(algorithm,
														&parsed_algorithm))
		plat_refuse_value(psprintf("unknown algorithm \"%s\"",
								   algorithm ? plat_clip(algorithm) : "null"),
						  "Algorithms are md5, ketama, rendezvous, maglev, jump and modulo.");
	if (hash == NULL || !plat_ring_parse_hash(hash, &parsed_hash))
		plat_refuse_value(psprintf("unknown hash \"%s\"",
								   hash ? plat_clip(hash) : "null"),
						  "Hashes are xxh64 and partition.");
	if (!(virtual_nodes >= 1 && virtual_nodes <= MAX_VIRTUAL_NODES))
		plat_refuse_value(psprintf("virtual_nodes is %g", virtual_nodes),
						  "It is a number from 1 to 10000.");
	if (!(table_size >= MIN_TABLE_SIZE && table_size <= MAX_TABLE_SIZE) ||
		!plat_ring_is_prime((int) table_size))
		plat_refuse_value(psprintf("table_size is %g", table_size),
						  "It is a prime number from 65537 to 16777216.");
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.rings.
 */
Datum
plat_ring_check_ring(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);

	plat_ring_check_name("ring", plat_row_text(trigger, row, "ring"));
	check_settings(plat_row_text(trigger, row, "algorithm"),
				   plat_row_text(trigger, row, "hash"),
				   plat_row_number(trigger, row, "virtual_nodes"),
				   plat_row_number(trigger, row, "table_size"));
	return PointerGetDatum(row);
}

/*
 * Whether a ring of this name exists, as far as this statement sees; another
 * session may make or drop it right afterwards, and then the tables decide.
 */
static bool
ring_exists(const char *ring)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(ring)};

	return plat_sql_as_owner("rings", "SELECT FROM platpat.rings"
							 " WHERE ring = $1", 1, types, values, NULL) > 0;
}

/*
 * Note a change of a ring, and wait for those who are changing it.  Returns
 * whether there is such a ring, and what it is.  A statement that changes
 * many rows of one ring notes that once: ring_changed() forgets it.  A ring
 * that is gone is not even updated, which would fire its triggers for each of
 * the shards that go with it.
 */
static bool
touch_ring(const char *ring, PlatAlgorithm *algorithm)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(ring)};

	if (touched.lxid == plat_current_lxid() &&
		touched.subid == GetCurrentSubTransactionId() &&
		strcmp(touched.ring, ring) == 0)
	{
		*algorithm = touched.algorithm;
		return true;
	}
	if (!ring_exists(ring) ||
		plat_sql_as_owner("rings",
						  "UPDATE platpat.rings SET algorithm = algorithm"
						  " WHERE ring = $1 RETURNING algorithm",
						  1, types, values, NULL) == 0)
		return false;
	if (!plat_ring_parse_algorithm(plat_sql_value(0, 1), algorithm))
		elog(ERROR, "ring \"%s\" has an unknown algorithm", ring);
	touched.lxid = plat_current_lxid();
	touched.subid = GetCurrentSubTransactionId();
	touched.algorithm = *algorithm;
	strlcpy(touched.ring, ring, sizeof(touched.ring));
	return true;
}

/*
 * The same for the ring that an updated row leaves, if it goes to another:
 * readers of both must learn of it.  Returns whether it does, and what that
 * ring is.  A ring that is renamed or gone is not left.
 */
static bool
touch_left_ring(const TriggerData *trigger, const char *ring,
				PlatAlgorithm *algorithm)
{
	char	   *left;

	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		return false;
	left = plat_row_text(trigger, trigger->tg_trigtuple, "ring");
	return strcmp(left, ring) != 0 && touch_ring(left, algorithm);
}

/*
 * Raise 42704: there is no ring of this name.
 */
static void
no_such_ring(const char *ring)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("ring \"%s\" does not exist", plat_clip(ring)),
			 errhint("Make it with platpat.create_ring(ring).")));
}

/*
 * Warn of a row that was inserted for something that does not exist.  It is no
 * error, because pg_restore -j may be about to bring that; until then the row
 * counts for nothing.
 */
static void
warn_of_orphan(const char *what, const char *name, const char *ring)
{
	if (name == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("ring \"%s\" of a %s does not exist", plat_clip(ring),
						what)));
	else
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s \"%s\" does not exist in ring \"%s\"", what,
						plat_clip(name), plat_clip(ring))));
}

/*
 * Whether a ring has a shard of this name.
 */
static bool
shard_exists(const char *shard, const char *ring)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(shard);
	values[1] = CStringGetTextDatum(ring);
	return plat_sql_as_owner("shards", "SELECT FROM platpat.shards"
							 " WHERE shard = $1 AND ring = $2",
							 2, types, values, NULL) > 0;
}

/*
 * The position behind all shards of a ring, 0 in an empty one. Two callers
 * cannot get the same: touch_ring() made them wait for each other.
 */
static int32
next_position(const char *ring)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(ring)};

	plat_sql_as_owner("shards",
					  "SELECT coalesce(max(position) + 1, 0)"
					  " FROM platpat.shards WHERE ring = $1",
					  1, types, values, NULL);
	return atoi(plat_sql_value(0, 1));
}

/*
 * Raise 55000 unless the shard is the last of its ring: taking one out of the
 * middle would renumber those behind it, and move nearly all keys instead of
 * a few.
 */
static void
check_is_last(const char *ring, const char *shard, int32 position)
{
	if (position + 1 >= next_position(ring))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot remove or move shard \"%s\" of ring \"%s\"",
					shard, ring),
			 errdetail("Algorithms jump and modulo number the shards: only the last can go."),
			 errhint("Rings by md5, ketama, rendezvous and maglev can lose any shard.")));
}

/*
 * Check a new or changed row of a shard; returns the row to store, which has
 * a position where none was given. Runs under SPI.
 */
static HeapTuple
check_shard_row(const TriggerData *trigger, HeapTuple row,
				PlatAlgorithm algorithm)
{
	double		weight = plat_row_number(trigger, row, "weight");
	char	   *position = plat_row_text(trigger, row, "position");

	plat_ring_check_name("shard", plat_row_text(trigger, row, "shard"));
	if (!(weight >= 0 && weight <= MAX_WEIGHT))
		plat_refuse_value(psprintf("weight is %g", weight),
						  "It is a number from 0 to 1000000.");
	if (weight != 1 && plat_ring_has_order(algorithm))
		plat_refuse_value(psprintf("weight is %g", weight),
						  "Algorithms jump and modulo know no weights; md5, ketama, rendezvous and maglev do.");
	if (position == NULL)
		return plat_row_with(trigger, row, "position",
							 Int32GetDatum(next_position(plat_row_text(trigger, row, "ring"))));
	if (atoi(position) < 0)
		plat_refuse_value(psprintf("position is %s", position),
						  "Positions begin with 0.");
	return row;
}

/*
 * BEFORE INSERT OR UPDATE OR DELETE row trigger of platpat.shards. Locks the
 * row of the ring first, so that what is read afterwards stays true until the
 * end of the transaction. Raises 22004, 22023, 42704, 55000.
 */
Datum
plat_ring_check_shard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);
	HeapTuple	old = trigger->tg_trigtuple;
	bool		is_new = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
	char	   *ring = plat_row_text(trigger, row, "ring");
	PlatAlgorithm algorithm = PLAT_RING_MD5;
	PlatAlgorithm old_algorithm;
	bool		exists;
	bool		leaves;

	plat_ring_check_name("ring", ring);
	SPI_connect();
	leaves = touch_left_ring(trigger, ring, &old_algorithm);
	exists = touch_ring(ring, &algorithm);
	/* a ring that is gone takes its shards along */
	if (!exists && is_new)
		warn_of_orphan("shard", NULL, ring);
	if (!leaves)
	{
		old_algorithm = algorithm;
		leaves = exists && !is_new &&
			(TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
			 plat_row_number(trigger, row, "position") !=
			 plat_row_number(trigger, old, "position"));
	}
	if (leaves && plat_ring_has_order(old_algorithm))
		check_is_last(plat_row_text(trigger, old, "ring"),
					  plat_row_text(trigger, old, "shard"),
					  (int32) plat_row_number(trigger, old, "position"));
	SPI_finish();
	if ((!exists && !is_new) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return PointerGetDatum(row);
	SPI_connect();
	row = check_shard_row(trigger, row, algorithm);
	row = SPI_copytuple(row);
	SPI_finish();
	return PointerGetDatum(row);
}

/*
 * Raise 22004 for a key that no lookup can ask for.
 */
static void
check_key(const char *key)
{
	if (key == NULL || key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be null or empty")));
}

/*
 * BEFORE INSERT OR UPDATE OR DELETE row trigger of platpat.pins. Raises 22004.
 */
Datum
plat_ring_check_pin(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);
	char	   *ring = plat_row_text(trigger, row, "ring");
	char	   *key = plat_row_text(trigger, row, "key");
	char	   *shard = plat_row_text(trigger, row, "shard");
	PlatAlgorithm algorithm;
	bool		exists;

	plat_ring_check_name("ring", ring);
	plat_ring_check_name("shard", shard);
	check_key(key);
	SPI_connect();
	(void) touch_left_ring(trigger, ring, &algorithm);
	exists = touch_ring(ring, &algorithm);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) && !exists)
		warn_of_orphan("pin", NULL, ring);
	else if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && exists &&
			 !shard_exists(shard, ring))
		warn_of_orphan("shard", shard, ring);
	SPI_finish();
	return PointerGetDatum(row);
}

/*
 * AFTER UPDATE OR DELETE row trigger of platpat.rings and platpat.shards: what
 * belongs to a row follows it.
 */
Datum
plat_ring_cascade(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	old = trigger->tg_trigtuple;
	HeapTuple	row = plat_trigger_row(trigger);
	bool		is_ring = RelationGetRelid(trigger->tg_relation) ==
	plat_our_table("rings");
	bool		is_deleted = TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4];

	values[0] = CStringGetTextDatum(plat_row_text(trigger, old, "ring"));
	values[1] = CStringGetTextDatum(plat_row_text(trigger, row, "ring"));
	SPI_connect();
	if (is_ring)
		plat_sql_as_owner("shards", is_deleted ?
						  "DELETE FROM platpat.shards WHERE ring = $1" :
						  "UPDATE platpat.shards SET ring = $2"
						  " WHERE ring = $1 AND ring <> $2",
						  2, types, values, NULL);
	else
	{
		values[2] = CStringGetTextDatum(plat_row_text(trigger, old, "shard"));
		values[3] = CStringGetTextDatum(plat_row_text(trigger, row, "shard"));
		plat_sql_as_owner("pins", is_deleted ?
						  "DELETE FROM platpat.pins WHERE ring = $1 AND shard = $3" :
						  "UPDATE platpat.pins SET ring = $2, shard = $4"
						  " WHERE ring = $1 AND shard = $3"
						  " AND (ring, shard) <> ($2, $4)",
						  4, types, values, NULL);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}

/*
 * Refuse what no row is to blame for alone: rings with too many shards or
 * points (54000), and weights in a ring that became jump or modulo (22023).
 */
static void
check_rings(void)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2];
	const char *ring;

	values[0] = Int32GetDatum(PLAT_RING_MAX_SHARDS);
	values[1] = Int32GetDatum(PLAT_RING_MAX_POINTS);
	if (plat_sql_as_owner("shards",
						  "SELECT r.ring, r.algorithm FROM platpat.rings r"
						  " JOIN platpat.shards s ON s.ring = r.ring"
						  " GROUP BY r.ring, r.algorithm"
						  " HAVING count(*) > $1 OR r.algorithm = 'md5'"
						  "  AND sum(round(s.weight * r.virtual_nodes)) > $2"
						  " OR r.algorithm IN ('jump', 'modulo')"
						  "  AND bool_or(s.weight <> 1) LIMIT 1",
						  2, types, values, NULL) == 0)
		return;
	ring = plat_sql_value(0, 1);
	if (strcmp(plat_sql_value(0, 2), "jump") == 0 ||
		strcmp(plat_sql_value(0, 2), "modulo") == 0)
		plat_refuse_value(psprintf("ring \"%s\" has weights", ring),
						  "Algorithms jump and modulo know no weights; md5, ketama, rendezvous and maglev do.");
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("ring \"%s\" is too large", ring),
			 errdetail("A ring has at most %d shards, and an md5 ring %d points, virtual_nodes for each shard of weight 1.",
					   PLAT_RING_MAX_SHARDS, PLAT_RING_MAX_POINTS)));
}

/*
 * Tell every backend that rings have changed, at the commit and right now: in
 * the moment between a commit and its messages a snapshot sees the change
 * already, and must not meet a backend that believes to have the latest.
 */
static void
announce_change(void)
{
	SharedInvalidationMessage message;
	Oid			rings = plat_our_table("rings");

	CacheInvalidateRelcacheByRelid(rings);
	memset(&message, 0, sizeof(message));
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = rings;
	SendSharedInvalidMessages(&message, 1);
}

/*
 * AFTER statement trigger of all three tables: check what the rows make
 * together, and tell every backend.  It is the table of rings that is
 * invalidated, whichever has changed.  TRUNCATE, which fires no row triggers,
 * gives all rings another version.  A shard that goes deletes its pins, one
 * statement for each shard, so one on pins that finds none must cost little.
 */
Datum
plat_ring_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	bool		is_truncate = TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event);
	bool		is_pins = RelationGetRelid(trigger->tg_relation) ==
	plat_our_table("pins");

	if (is_pins && !is_truncate && touched.lxid == InvalidLocalTransactionId)
		return PointerGetDatum(NULL);
	touched.lxid = InvalidLocalTransactionId;
	SPI_connect();
	if (is_truncate)
	{
		/* No row triggers tell what belongs to what is gone. */
		if (!is_pins)
		{
			plat_sql_as_owner("shards", "DELETE FROM platpat.shards s WHERE NOT EXISTS"
							  " (SELECT FROM platpat.rings r WHERE r.ring = s.ring)",
							  0, NULL, NULL, NULL);
			plat_sql_as_owner("pins", "DELETE FROM platpat.pins p WHERE NOT EXISTS"
							  " (SELECT FROM platpat.shards s WHERE s.ring = p.ring"
							  " AND s.shard = p.shard)", 0, NULL, NULL, NULL);
		}
		plat_sql_as_owner("rings", "UPDATE platpat.rings"
						  " SET algorithm = algorithm", 0, NULL, NULL, NULL);
	}
	if (!is_pins && !TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		check_rings();
	SPI_finish();
	announce_change();
	return PointerGetDatum(NULL);
}

/*
 * A text argument as a C string; NULL for SQL NULL, which plat_ring_check_name()
 * refuses by name.
 */
static char *
text_arg(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * An argument as a Datum, with its null flag as SPI wants it: values travel
 * to the tables as parameters, never as text of a command.
 */
static Datum
pass_arg(FunctionCallInfo fcinfo, int argno, char *null)
{
	*null = PG_ARGISNULL(argno) ? 'n' : ' ';
	return PG_ARGISNULL(argno) ? (Datum) 0 : PG_GETARG_DATUM(argno);
}

/*
 * Add the shards that create_ring() was given, with weight 1 and positions in
 * their order; 42710 if one is named twice. One statement for all of them,
 * because each checks the whole ring. The row trigger refuses NULL and empty
 * names.
 */
static void
add_shards(const char *ring, Datum shards)
{
	Oid			types[] = {TEXTOID, TEXTARRAYOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(ring);
	values[1] = shards;
	if (plat_sql_as_owner("shards",
						  "SELECT s FROM unnest($2) s WHERE $1 IS NOT NULL"
						  " GROUP BY s HAVING count(s) > 1 LIMIT 1",
						  2, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("shard \"%s\" is named twice",
						plat_clip(plat_sql_value(0, 1)))));
	plat_sql_as_owner("shards",
					  "INSERT INTO platpat.shards (ring, shard, position)"
					  " SELECT $1, s, n - 1"
					  " FROM unnest($2) WITH ORDINALITY u (s, n)",
					  2, types, values, NULL);
}

/*
 * platpat.create_ring(ring text, algorithm text, virtual_nodes int,
 * hash text, shards text[], table_size int) returns void: for administrators.
 *
 * The checks are the triggers'; a NULL setting is refused by them, not
 * replaced by the default.  NULL shards are none.  Raises 22004, 22023, 42710.
 */
Datum
plat_ring_create(PG_FUNCTION_ARGS)
{
	char	   *ring = text_arg(fcinfo, 0);
	Oid			types[] = {TEXTOID, TEXTOID, INT4OID, TEXTOID, INT4OID};
	Datum		values[5];
	char		nulls[5];

	plat_ring_check_name("ring", ring);
	values[0] = pass_arg(fcinfo, 0, &nulls[0]);
	values[1] = pass_arg(fcinfo, 1, &nulls[1]);
	values[2] = pass_arg(fcinfo, 2, &nulls[2]);
	values[3] = pass_arg(fcinfo, 3, &nulls[3]);
	values[4] = pass_arg(fcinfo, 5, &nulls[4]);
	SPI_connect();
	if (ring_exists(ring))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("ring \"%s\" already exists", ring)));
	plat_sql_as_owner("rings",
					  "INSERT INTO platpat.rings"
					  " (ring, algorithm, virtual_nodes, hash, table_size)"
					  " VALUES ($1, $2, $3, $4, $5)", 5, types, values, nulls);
	if (!PG_ARGISNULL(4))
		add_shards(ring, PG_GETARG_DATUM(4));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.drop_ring(ring text) returns void: for administrators.
 *
 * Drops a ring with its shards and pins. The shipped ring "default" can go
 * like any other, and stays away in a restore. Raises 22004, 42704.
 */
Datum
plat_ring_drop(PG_FUNCTION_ARGS)
{
	char	   *ring = text_arg(fcinfo, 0);
	Oid			types[] = {TEXTOID};
	Datum		values[1];

	plat_ring_check_name("ring", ring);
	values[0] = CStringGetTextDatum(ring);
	SPI_connect();
	if (plat_sql_as_owner("rings", "DELETE FROM platpat.rings"
						  " WHERE ring = $1", 1, types, values, NULL) == 0)
		no_such_ring(ring);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Raise 42704 if a foreign server of this name does not exist. There is no
 * foreign key to pg_foreign_server, so this is a help against typing errors
 * and not a promise: the server may be dropped, and SQL on the table can
 * store any name.
 */
static void
check_server(FunctionCallInfo fcinfo, int argno)
{
	if (!PG_ARGISNULL(argno))
		(void) get_foreign_server_oid(NameStr(*PG_GETARG_NAME(argno)), false);
}

/*
 * platpat.add_shard(shard text, ring text, weight float8, server name)
 * returns void: for administrators.
 *
 * The position is the next free one.  A shard of weight 0 owns nothing until
 * alter_shard() gives it some.  Raises 22004, 22023, 42704, 42710, 54000.
 */
Datum
plat_ring_add_shard(PG_FUNCTION_ARGS)
{
	char	   *shard = text_arg(fcinfo, 0);
	char	   *ring = text_arg(fcinfo, 1);
	Oid			types[] = {TEXTOID, TEXTOID, FLOAT8OID, NAMEOID};
	Datum		values[4];
	char		nulls[4];

	plat_ring_check_name("shard", shard);
	plat_ring_check_name("ring", ring);
	check_server(fcinfo, 3);
	for (int i = 0; i < 4; i++)
		values[i] = pass_arg(fcinfo, i, &nulls[i]);
	SPI_connect();
	if (!ring_exists(ring))
		no_such_ring(ring);
	if (shard_exists(shard, ring))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("shard \"%s\" already exists in ring \"%s\"",
						shard, ring)));
	plat_sql_as_owner("shards",
					  "INSERT INTO platpat.shards (shard, ring, weight, server)"
					  " VALUES ($1, $2, $3, $4)", 4, types, values, nulls);
	/* It may have been dropped while its lock was waited for. */
	if (!ring_exists(ring))
		no_such_ring(ring);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Raise 42704: there is no such shard, or no such ring, whichever is so.
 */
static void
no_such_shard(const char *shard, const char *ring)
{
	if (!ring_exists(ring))
		no_such_ring(ring);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("shard \"%s\" does not exist in ring \"%s\"",
					plat_clip(shard), ring)));
}

/*
 * platpat.remove_shard(shard text, ring text) returns void: for
 * administrators.
 *
 * The keys of the shard go to the others, its pins go. Raises 22004, 42704,
 * and 55000 for any but the last shard of a jump or modulo ring.
 */
Datum
plat_ring_remove_shard(PG_FUNCTION_ARGS)
{
	char	   *shard = text_arg(fcinfo, 0);
	char	   *ring = text_arg(fcinfo, 1);
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	plat_ring_check_name("shard", shard);
	plat_ring_check_name("ring", ring);
	values[0] = CStringGetTextDatum(shard);
	values[1] = CStringGetTextDatum(ring);
	SPI_connect();
	if (plat_sql_as_owner("shards",
						  "DELETE FROM platpat.shards"
						  " WHERE shard = $1 AND ring = $2",
						  2, types, values, NULL) == 0)
		no_such_shard(shard, ring);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.alter_shard(shard text, ring text, weight float8, server name)
 * returns void: for administrators.
 *
 * NULL leaves a value as it is; it is the one function where NULL means
 * that.  An empty server removes it.  Raises 22004, 22023, 42704, 54000.
 */
Datum
plat_ring_alter_shard(PG_FUNCTION_ARGS)
{
	char	   *shard = text_arg(fcinfo, 0);
	char	   *ring = text_arg(fcinfo, 1);
	Oid			types[] = {TEXTOID, TEXTOID, FLOAT8OID, NAMEOID};
	Datum		values[4];
	char		nulls[4];

	plat_ring_check_name("shard", shard);
	plat_ring_check_name("ring", ring);
	if (!PG_ARGISNULL(3) && NameStr(*PG_GETARG_NAME(3))[0] != '\0')
		check_server(fcinfo, 3);
	for (int i = 0; i < 4; i++)
		values[i] = pass_arg(fcinfo, i, &nulls[i]);
	SPI_connect();
	if (plat_sql_as_owner("shards",
						  "UPDATE platpat.shards"
						  " SET weight = coalesce($3, weight),"
						  " server = nullif(coalesce($4, server), '')"
						  " WHERE shard = $1 AND ring = $2",
						  4, types, values, nulls) == 0)
		no_such_shard(shard, ring);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.pin_key(key text, shard text, ring text) returns void: for
 * administrators.
 *
 * A key that is pinned already goes to the new shard. The shard need not have
 * any weight: a drained one can keep a few keys. Raises 22004, 42704.
 */
Datum
plat_ring_pin_key(PG_FUNCTION_ARGS)
{
	char	   *key = text_arg(fcinfo, 0);
	char	   *shard = text_arg(fcinfo, 1);
	char	   *ring = text_arg(fcinfo, 2);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];

	check_key(key);
	plat_ring_check_name("shard", shard);
	plat_ring_check_name("ring", ring);
	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(shard);
	values[2] = CStringGetTextDatum(ring);
	SPI_connect();
	if (plat_sql_as_owner("pins",
						  "INSERT INTO platpat.pins (key, shard, ring)"
						  " SELECT $1, shard, ring FROM platpat.shards"
						  " WHERE shard = $2 AND ring = $3"
						  " ON CONFLICT (ring, key) DO UPDATE"
						  " SET shard = excluded.shard",
						  3, types, values, NULL) == 0 ||
		!shard_exists(shard, ring))
		no_such_shard(shard, ring);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.unpin_key(key text, ring text) returns void: for administrators.
 *
 * A key that is not pinned is no error, so that it can be called twice.
 * Raises 22004, 42704.
 */
Datum
plat_ring_unpin_key(PG_FUNCTION_ARGS)
{
	char	   *key = text_arg(fcinfo, 0);
	char	   *ring = text_arg(fcinfo, 1);
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	check_key(key);
	plat_ring_check_name("ring", ring);
	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(ring);
	SPI_connect();
	if (!ring_exists(ring))
		no_such_ring(ring);
	plat_sql_as_owner("pins",
					  "DELETE FROM platpat.pins WHERE key = $1 AND ring = $2",
					  2, types, values, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}
