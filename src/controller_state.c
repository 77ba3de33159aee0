/*
 * controller_state.c
 *		What is remembered of controllers: their passes, keys that differ, and
 *		conditions.
 *
 * The row of a controller in platpat.controller_states is also what makes sure
 * that only one session reconciles it: who does not get its lock leaves it
 * alone.  What is attempted is written down before, each in the transaction of
 * the one before it, so that a key whose repair kills the server is not tried
 * again at once, and those behind it are.  Nothing here is in shared memory.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "controller.h"
#include "controller_core.h"
#include "retry_core.h"
#include "sql.h"

/* Lines that a pass writes into the server's log about keys. */
#define LOG_LINES 20

/* Repairs of a key, with one of now; more than enough to call it contested. */
#define WITH_REPAIR \
	"(repairs || clock_timestamp())[greatest(1, cardinality(repairs) - 18):]"

/* The longest error that is kept, in bytes. */
#define ERROR_BYTES 1000

/* What is remembered of a key, in a hash table. */
typedef struct Remembered
{
	char		key[PLAT_CONTROLLER_KEY_MAX + 1];	/* hash key */
	PlatHistory history;
	bool		drifts;
} Remembered;

/* Rows to write, column by column. */
typedef struct Rows
{
	int			count;
	Datum	   *keys;
	Datum	   *kinds;
	Datum	   *hashes;
} Rows;

/*
 * Lock a controller's state until the transaction ends; of one that another
 * session works at, wait for it, or not.
 */
PlatTurn
plat_controller_lock(const char *name, bool wait)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	if (plat_sql_as_owner("controller_states", wait ?
						  "SELECT FROM platpat.controller_states WHERE controller = $1 FOR UPDATE" :
						  "SELECT FROM platpat.controller_states WHERE controller = $1 FOR UPDATE SKIP LOCKED",
						  1, types, values, NULL) > 0)
		return PLAT_TURN_OURS;
	if (!wait && plat_sql_as_owner("controller_states",
								   "SELECT FROM platpat.controller_states WHERE controller = $1",
								   1, types, values, NULL) > 0)
		return PLAT_TURN_BUSY;
	return PLAT_TURN_NONE;
}

/*
 * Read what is remembered of a controller's keys.
 */
static HTAB *
remember(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	HASHCTL		info = {.keysize = PLAT_CONTROLLER_KEY_MAX + 1,
		.entrysize = sizeof(Remembered),
	.hcxt = CurrentMemoryContext};
	HTAB	   *table = hash_create("platpat keys", 64, &info,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	uint64		rows = plat_sql_as_owner("controller_keys",
										 "SELECT key, difference, attempts, drifts,"
										 " (extract(epoch FROM next_attempt) * 1000000)::bigint,"
										 " cardinality(r.recent), (extract(epoch FROM r.recent[1]) * 1000000)::bigint"
										 " FROM platpat.controller_keys,"
										 " LATERAL (SELECT ARRAY(SELECT t FROM unnest(repairs) t"
										 "  WHERE t > clock_timestamp() - interval '1 hour' ORDER BY t DESC) AS recent) r"
										 " WHERE controller = $1",
										 1, types, values, NULL);

	for (uint64 i = 0; i < rows; i++)
	{
		bool		found;
		Remembered *entry = hash_search(table, plat_sql_value(i, 1), HASH_ENTER, &found);
		char	   *next = plat_sql_value(i, 5);
		char	   *last = plat_sql_value(i, 7);

		entry->history.difference = pg_strtoint64(plat_sql_value(i, 2));
		entry->history.attempts = pg_strtoint32(plat_sql_value(i, 3));
		entry->drifts = plat_sql_value(i, 4)[0] == 't';
		entry->history.next_attempt = next ? pg_strtoint64(next) : 0;
		entry->history.repairs = pg_strtoint32(plat_sql_value(i, 6));
		entry->history.last_repair = last ? pg_strtoint64(last) : 0;
	}
	return table;
}

/*
 * Make room for so many rows.
 */
static Rows
make_rows(int count)
{
	Rows		rows = {0};
	Size		size = sizeof(Datum) * Max(count, 1);

	rows.keys = palloc(size);
	rows.kinds = palloc(size);
	rows.hashes = palloc(size);
	return rows;
}

/*
 * Add a row for a difference.
 */
static void
add_row(Rows *rows, const PlatDifference *difference)
{
	int			i = rows->count++;

	rows->keys[i] = CStringGetTextDatum(difference->key);
	rows->kinds[i] = CStringGetTextDatum(difference->kind);
	rows->hashes[i] = Int64GetDatum(difference->hash);
}

static Datum
text_array(Datum *elements, int count)
{
	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
bigint_array(Datum *elements, int count)
{
	return PointerGetDatum(construct_array(elements, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Write down that the next difference of a pass is about to be attempted, if
 * there is one, in a transaction before that one.  Nothing of a controller that
 * was dropped by the one before.  SPI is connected.
 */
void
plat_controller_note_attempt(const PlatPass *pass)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID, INT8OID};
	Datum		values[6];
	const PlatDifference *difference;

	if (pass->position >= list_length(pass->due))
		return;
	difference = list_nth(pass->due, pass->position);
	values[0] = CStringGetTextDatum(pass->name);
	values[1] = CStringGetTextDatum(difference->key);
	values[2] = CStringGetTextDatum(difference->kind);
	values[3] = Int64GetDatum(difference->hash);
	values[4] = Int32GetDatum(difference->attempt);
	values[5] = Int64GetDatum(plat_retry_backoff(difference->attempt, pg_prng_double(&pg_global_prng_state)));
	(void) plat_sql_as_owner("controller_keys",
							 "INSERT INTO platpat.controller_keys AS k"
							 " (controller, key, kind, drifts, since, difference, attempts, next_attempt)"
							 " SELECT controller, $2, $3, true, clock_timestamp(), $4, $5,"
							 "  clock_timestamp() + $6 * interval '1 microsecond'"
							 " FROM platpat.controller_states WHERE controller = $1"
							 " ON CONFLICT (controller, key) DO UPDATE SET kind = excluded.kind, drifts = true,"
							 " since = CASE WHEN k.drifts THEN k.since ELSE excluded.since END,"
							 " difference = excluded.difference, attempts = excluded.attempts,"
							 " next_attempt = excluded.next_attempt",
							 6, types, values, NULL);
}

/*
 * Have a controller be due, as it is until a pass that does something comes to
 * its end.
 */
static void
note_beginning(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	(void) plat_sql_as_owner("controller_states",
							 "UPDATE platpat.controller_states SET next_reconcile = clock_timestamp()"
							 " WHERE controller = $1",
							 1, types, values, NULL);
}

/*
 * The order in which differences have their turn: those that are new, and then
 * those that have waited longest, so that none waits for ever behind others
 * that take long or end the process.
 */
static int
compare_turns(const ListCell *one, const ListCell *other)
{
	const PlatDifference *a = lfirst(one);
	const PlatDifference *b = lfirst(other);

	if (a->waited != b->waited)
		return a->waited < b->waited ? -1 : 1;
	return strcmp(a->key, b->key);
}

/*
 * Choose what is to be done in a pass, and in which order: all differences by
 * hand, those that are due otherwise, and none when observing.  SPI is
 * connected.
 */
void
plat_controller_choose(PlatPass *pass)
{
	HTAB	   *known;
	int64		epoch = GetCurrentTimestamp() +
	(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	ListCell   *cell;
	MemoryContext caller;

	if (pass->controller->is_observing || pass->comparison.differences == NIL)
		return;
	known = remember(pass->name);
	caller = MemoryContextSwitchTo(pass->context);
	foreach(cell, pass->comparison.differences)
	{
		PlatDifference *difference = lfirst(cell);
		Remembered *entry = hash_search(known, difference->key, HASH_FIND, NULL);
		PlatHistory none = {0};
		const PlatHistory *history = entry ? &entry->history : &none;

		if (!pass->by_hand && !plat_history_is_due(history, difference->hash,
												   pass->controller->is_builtin, epoch))
			continue;
		difference->attempt = plat_history_attempt(history, difference->hash);
		difference->waited = difference->attempt > 1 ? history->next_attempt : 0;
		pass->due = lappend(pass->due, difference);
		difference->is_new = entry == NULL || !entry->drifts;
	}
	if (!pass->by_hand)
		list_sort(pass->due, compare_turns);
	MemoryContextSwitchTo(caller);
	hash_destroy(known);
	if (pass->due == NIL)
		return;
	note_beginning(pass->name);
	plat_controller_note_attempt(pass);
}

/*
 * The message of an error, cut between characters if it is long.
 */
static char *
message_of(const ErrorData *error)
{
	return pnstrdup(error->message, pg_mbcliplen(error->message, strlen(error->message), ERROR_BYTES));
}

/*
 * The steps as JSON, and the first error among them, or NULL.
 */
static Datum
steps_as_json(List *steps, const ErrorData **error)
{
	StringInfoData json;
	ListCell   *cell;

	*error = NULL;
	initStringInfo(&json);
	foreach(cell, steps)
	{
		const PlatStep *step = lfirst(cell);

		appendStringInfoString(&json, json.len == 0 ? "[" : ", ");
		appendStringInfoString(&json, "{\"action\": ");
		escape_json(&json, step->action);
		appendStringInfoString(&json, ", \"outcome\": ");
		escape_json(&json, step->outcome);
		if (step->error)
		{
			appendStringInfoString(&json, ", \"error\": ");
			escape_json(&json, message_of(step->error));
		}
		appendStringInfoChar(&json, '}');
		if (*error == NULL)
			*error = step->error;
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/*
 * Tell the log of the server what was done about a key.
 */
static void
log_steps(const PlatPass *pass, const PlatDifference *difference, List *steps,
		  const ErrorData *error)
{
	if (pass->position >= LOG_LINES)
		return;
	if (error)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("controller \"%s\" could not %s \"%s\": %s",
						pass->name, difference->kind, difference->key, message_of(error))));
	else
		/* What of ours is thrown away is nobody's news. */
		ereport(pass->controller->is_builtin && strcmp(difference->kind, PLAT_DELETE) == 0 ?
				DEBUG1 : LOG,
				(errmsg("controller \"%s\" has done something about \"%s\": %s",
						pass->name, difference->key,
						((PlatStep *) llast(steps))->action)));
}

/*
 * Nothing had to be done after all: that is neither an attempt nor a repair.
 * The values are the controller and the key.
 */
static void
forget_attempt(Datum *values)
{
	Oid			types[] = {TEXTOID, TEXTOID};

	(void) plat_sql_as_owner("controller_keys",
							 "UPDATE platpat.controller_keys SET attempts = 0, next_attempt = NULL"
							 " WHERE controller = $1 AND key = $2",
							 2, types, values, NULL);
}

/*
 * Write down what has become of an attempt.  An error of the moment is tried
 * again soon, however often it has come.  Our own controllers mean it when they
 * raise no error: what differs afterwards was broken once more, and is
 * repaired at once.
 */
void
plat_controller_note_steps(const PlatPass *pass, const PlatDifference *difference,
						   List *steps)
{
	const ErrorData *error;
	Oid			types[] = {TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, BOOLOID};
	Datum		values[8];
	char		nulls[] = "        ";
	bool		is_momentary;

	values[0] = CStringGetTextDatum(pass->name);
	values[1] = CStringGetTextDatum(difference->key);
	if (steps == NIL)
	{
		forget_attempt(values);
		return;
	}
	values[2] = steps_as_json(steps, &error);
	is_momentary = error && plat_retry_blame(error->sqlerrcode) == PLAT_BLAME_MOMENT;
	values[3] = error ? CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)) : (Datum) 0;
	values[4] = error ? CStringGetTextDatum(message_of(error)) : (Datum) 0;
	nulls[3] = nulls[4] = error ? ' ' : 'n';
	values[5] = BoolGetDatum(is_momentary);
	values[6] = Int64GetDatum(plat_retry_backoff(1, pg_prng_double(&pg_global_prng_state)));
	values[7] = BoolGetDatum(error == NULL && pass->controller->is_builtin);
	(void) plat_sql_as_owner("controller_keys",
							 "UPDATE platpat.controller_keys SET actions = $3, sqlstate = $4, error = $5,"
							 " attempts = CASE WHEN $8 THEN 0 WHEN $6 THEN 1 ELSE attempts END,"
							 " next_attempt = CASE WHEN $8 THEN NULL"
							 "  WHEN $6 THEN clock_timestamp() + $7 * interval '1 microsecond' ELSE next_attempt END,"
							 " repairs = CASE WHEN $8 THEN " WITH_REPAIR " ELSE repairs END"
							 " WHERE controller = $1 AND key = $2",
							 8, types, values, nulls);
	log_steps(pass, difference, steps, error);
}

/*
 * Write down what differs at the end of a pass.  Of what was attempted the
 * attempts stay, whatever the difference is now; another difference than
 * before is a new one otherwise.  Returns the rows whose key did not differ
 * before.
 */
static uint64
store_left(const PlatPass *pass, const PlatComparison *left)
{
	Rows		rows = make_rows(list_length(left->differences));
	Oid			types[] = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID};
	Datum		values[6];
	Rows		attempted = make_rows(list_length(pass->due));
	ListCell   *cell;

	foreach(cell, left->differences)
		add_row(&rows, lfirst(cell));
	foreach(cell, pass->due)
		add_row(&attempted, lfirst(cell));
	values[0] = CStringGetTextDatum(pass->name);
	values[1] = text_array(rows.keys, rows.count);
	values[2] = text_array(rows.kinds, rows.count);
	values[3] = bigint_array(rows.hashes, rows.count);
	values[4] = TimestampTzGetDatum(pass->started);
	values[5] = text_array(attempted.keys, attempted.count);
	(void) plat_sql_as_owner("controller_keys",
							 "UPDATE platpat.controller_keys k SET drifts = false, attempts = 0, next_attempt = NULL,"
							 " repairs = CASE WHEN k.attempts > 0 AND k.key = ANY ($6)"
							 "  THEN " WITH_REPAIR " ELSE k.repairs END,"
							 " sqlstate = NULL, error = NULL"
							 " WHERE controller = $1 AND drifts AND NOT EXISTS (SELECT FROM unnest($2) l(key) WHERE l.key = k.key)",
							 6, types, values, NULL);
	if (rows.count == 0)
		return 0;
	return plat_sql_as_owner("controller_keys",
							 "WITH before AS (SELECT key FROM platpat.controller_keys WHERE controller = $1 AND drifts),"
							 " stored AS (INSERT INTO platpat.controller_keys AS k"
							 "  (controller, key, kind, drifts, since, difference)"
							 "  SELECT $1, r.key, r.kind, true, $5, r.difference"
							 "  FROM unnest($2, $3, $4) r(key, kind, difference)"
							 "  ON CONFLICT (controller, key) DO UPDATE SET kind = excluded.kind, drifts = true,"
							 "  since = CASE WHEN k.drifts THEN k.since ELSE excluded.since END,"
							 "  attempts = CASE WHEN k.difference = excluded.difference OR k.key = ANY ($6) THEN k.attempts ELSE 0 END,"
							 "  next_attempt = CASE WHEN k.difference = excluded.difference OR k.key = ANY ($6) THEN k.next_attempt END,"
							 "  sqlstate = CASE WHEN k.difference = excluded.difference OR k.key = ANY ($6) THEN k.sqlstate END,"
							 "  error = CASE WHEN k.difference = excluded.difference OR k.key = ANY ($6) THEN k.error END,"
							 "  difference = excluded.difference"
							 "  RETURNING k.key)"
							 " SELECT key FROM stored EXCEPT SELECT key FROM before ORDER BY 1",
							 6, types, values, NULL);
}

/*
 * Tell the log of the server of keys that differ now, in the rows of the last
 * query, and that nobody repairs.
 */
static void
log_observed(const PlatPass *pass, uint64 rows)
{
	char	  **keys = palloc(sizeof(char *) * (LOG_LINES + 1));

	if (!pass->controller->is_observing)
		return;
	for (uint64 i = 0; i < Min(rows, LOG_LINES); i++)
		keys[i] = plat_sql_value(i, 1);
	for (uint64 i = 0; i < Min(rows, LOG_LINES); i++)
		ereport(LOG,
				(errmsg("controller \"%s\" has found a difference at \"%s\"",
						pass->name, keys[i]),
				 errhint("See platpat.drift(); it only observes.")));
	if (rows > LOG_LINES)
		ereport(LOG,
				(errmsg("controller \"%s\" has found differences at " UINT64_FORMAT " more keys",
						pass->name, rows - LOG_LINES)));
}

/*
 * Forget keys that have been in order for an hour.
 */
static void
forget_old(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	(void) plat_sql_as_owner("controller_keys",
							 "DELETE FROM platpat.controller_keys WHERE controller = $1 AND NOT drifts"
							 " AND NOT EXISTS (SELECT FROM unnest(repairs) t WHERE t > clock_timestamp() - interval '1 hour')",
							 1, types, values, NULL);
}

/*
 * How many of the differences that were attempted in a pass were new.
 */
static int64
count_new(const PlatPass *pass)
{
	int64		count = 0;
	ListCell   *cell;

	foreach(cell, pass->due)
		count += ((PlatDifference *) lfirst(cell))->is_new;
	return count;
}

/*
 * Write down what a pass has come to, and when the next one is due: after the
 * period, or when a key is to be tried again; a second later, if something has
 * come up meanwhile; when somebody asks, if there is nothing for one of our
 * own controllers to look after.  left is what differs now, of which found
 * keys did not before.
 */
static void
store_pass(const PlatPass *pass, const PlatComparison *left, uint64 found)
{
	Oid			types[] = {TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID, INT8OID, BOOLOID};
	int64		attempted = count_new(pass);
	Datum		values[] = {CStringGetTextDatum(pass->name),
		Int64GetDatum(pass->controller->generation), TimestampTzGetDatum(pass->started),
		Int64GetDatum(left->keys), Int64GetDatum(list_length(left->differences)),
		left->complaint ? CStringGetTextDatum(left->complaint) : (Datum) 0,
		Int64GetDatum((int64) found + attempted),
	BoolGetDatum(pass->controller->is_builtin)};

	(void) plat_sql_as_owner("controller_states",
							 "UPDATE platpat.controller_states s SET observed_generation = $2, started_at = $3,"
							 " last_reconciled = clock_timestamp(), keys = $4, drift = $5,"
							 " failing = k.failing, contested = k.contested,"
							 " found = s.found + $7, repaired = s.repaired + k.repaired,"
							 " failures = CASE WHEN $6 IS NULL THEN 0 ELSE 1 END, error = $6,"
							 " sqlstate = CASE WHEN $6 IS NULL THEN NULL ELSE '22023' END,"
							 " failed_at = CASE WHEN $6 IS NULL THEN s.failed_at ELSE clock_timestamp() END,"
							 " next_reconcile = CASE WHEN $8 AND $4 = 0 AND $5 = 0 THEN NULL"
							 "  ELSE least(clock_timestamp() + c.period, k.due) END"
							 " FROM platpat.controllers c,"
							 " (SELECT count(*) FILTER (WHERE drifts AND k.error IS NOT NULL) AS failing,"
							 "   count(*) FILTER (WHERE r.recent > 5) AS contested,"
							 "   count(*) FILTER (WHERE repairs[cardinality(repairs)] >= $3) AS repaired,"
							 "   min(greatest(coalesce(next_attempt, clock_timestamp()), clock_timestamp() + interval '1 s'))"
							 "    FILTER (WHERE drifts AND c.mode = 'enforce') AS due"
							 "  FROM platpat.controllers c LEFT JOIN platpat.controller_keys k USING (controller),"
							 "  LATERAL (SELECT count(*) AS recent FROM unnest(k.repairs) t"
							 "   WHERE t > clock_timestamp() - interval '1 hour') r"
							 "  WHERE c.controller = $1) k"
							 " WHERE s.controller = $1 AND c.controller = $1",
							 8, types, values, left->complaint ? NULL : "     n  ");
}

/*
 * Write down what a pass has come to. left is what differs at its end. SPI is
 * connected.
 */
void
plat_controller_note_pass(const PlatPass *pass, const PlatComparison *left)
{
	uint64		found = store_left(pass, left);

	log_observed(pass, found);
	store_pass(pass, left, found);
	forget_old(pass->name);
	plat_controller_judge(pass->name);
}

/*
 * Write down that a controller could not compare at all, and when it is tried
 * again. SPI is connected.
 */
void
plat_controller_note_failure(const char *name, const ErrorData *error)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4] = {CStringGetTextDatum(name),
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
	CStringGetTextDatum(message_of(error))};
	int			failures;

	if (plat_sql_as_owner("controller_states",
						  "UPDATE platpat.controller_states SET failures = failures + 1,"
						  " sqlstate = $2, error = $3, failed_at = clock_timestamp()"
						  " WHERE controller = $1 RETURNING failures",
						  3, types, values, NULL) == 0)
		return;
	failures = pg_strtoint32(plat_sql_value(0, 1));
	if (failures == 1)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("controller \"%s\" cannot compare: %s", name, message_of(error))));
	values[3] = Int64GetDatum(plat_retry_backoff(failures, pg_prng_double(&pg_global_prng_state)));
	(void) plat_sql_as_owner("controller_states",
							 "UPDATE platpat.controller_states SET next_reconcile ="
							 " clock_timestamp() + $4 * interval '1 microsecond'"
							 " WHERE controller = $1",
							 4, types, values, NULL);
	plat_controller_judge(name);
}

/*
 * Have a controller be due at once, and at work if it never was here.
 */
void
plat_controller_start(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	(void) plat_sql_as_owner("controller_states",
							 "INSERT INTO platpat.controller_states (controller) VALUES ($1)"
							 " ON CONFLICT (controller) DO UPDATE SET next_reconcile = clock_timestamp()",
							 1, types, values, NULL);
}

/*
 * Bring the conditions of a controller up to date; those that have not changed
 * are not written. SPI is connected.
 */
void
plat_controller_judge(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	uint64		rows = plat_sql_as_owner("conditions",
										 "WITH s AS (SELECT *, CASE WHEN drift > 0 THEN"
										 "   format('%s of %s keys differ', drift, greatest(keys, drift)) END AS difference,"
										 "  CASE WHEN last_reconciled IS NULL AND status <> 'Failed' THEN 'Unknown'"
										 "  WHEN status = 'Ready' THEN 'True' ELSE 'False' END AS ready"
										 "  FROM platpat.controller_status WHERE controller = $1),"
										 " wanted AS (SELECT s.controller, w.*, s.observed_generation FROM s, LATERAL (VALUES"
										 "  ('Ready', s.ready, CASE s.status WHEN 'Ready' THEN 'InSync' WHEN 'Reconciling' THEN"
										 "   CASE WHEN s.ready = 'Unknown' THEN 'NeverReconciled' ELSE 'Drift' END ELSE s.status END,"
										 "   coalesce(s.error, s.difference)),"
										 "  ('Reconciling', CASE WHEN s.status = 'Reconciling' THEN 'True' ELSE 'False' END,"
										 "   CASE WHEN s.status <> 'Reconciling' THEN s.status WHEN s.mode = 'observe' AND s.drift > 0 THEN 'Observing'"
										 "    WHEN s.drift > 0 THEN 'Drift' ELSE 'NewGeneration' END, s.difference),"
										 "  ('Failed', CASE WHEN s.status = 'Failed' THEN 'True' ELSE 'False' END,"
										 "   CASE WHEN s.status <> 'Failed' THEN s.status WHEN s.failing > 0 THEN 'ApplyFailed' ELSE 'CompareFailed' END, s.error),"
										 "  ('Paused', CASE WHEN s.status = 'Paused' THEN 'True' ELSE 'False' END, s.status, NULL),"
										 "  ('Contested', CASE WHEN s.contested > 0 THEN 'True' ELSE 'False' END,"
										 "   CASE WHEN s.contested > 0 THEN 'DriftReturns' ELSE 'Uncontested' END,"
										 "   CASE WHEN s.contested > 0 THEN format('keys that differ again and again: %s', s.contested) END)"
										 "  ) w(type, status, reason, message)),"
										 " written AS (INSERT INTO platpat.conditions AS c"
										 "  (controller, type, status, reason, message, last_transition_time, observed_generation)"
										 "  SELECT controller, type, status, reason, message, clock_timestamp(), observed_generation FROM wanted"
										 "  ON CONFLICT (controller, type) DO UPDATE SET status = excluded.status,"
										 "  reason = excluded.reason, message = excluded.message,"
										 "  observed_generation = excluded.observed_generation,"
										 "  last_transition_time = CASE WHEN c.status = excluded.status THEN c.last_transition_time"
										 "   ELSE excluded.last_transition_time END"
										 "  WHERE (c.status, c.reason, c.message, c.observed_generation) IS DISTINCT FROM"
										 "   (excluded.status, excluded.reason, excluded.message, excluded.observed_generation)"
										 "  RETURNING c.type, c.status, c.last_transition_time)"
										 " SELECT w.type FROM written w LEFT JOIN platpat.conditions b ON b.controller = $1 AND b.type = w.type"
										 " WHERE w.type = 'Contested' AND w.status = 'True' AND b.status IS DISTINCT FROM 'True'",
										 1, types, values, NULL);

	if (rows > 0)
		ereport(LOG,
				(errmsg("controller \"%s\" repairs the same again and again", name),
				 errdetail("Somebody undoes it. See platpat.controller_keys.")));
}
