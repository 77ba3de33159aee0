/*
 * bulkhead.c
 *		Tests of who gets a slot of a bulkhead, and in which order: no server,
 *		no lock.  Prints TAP; t/070_bulkhead_core.pl compiles it together with
 *		src/bulkhead_core.c and runs it.
 *
 * Without an argument: all short sequences of events.  With a seed: long
 * random ones.
 *
 * What is promised:
 *
 * A class gets a slot when, with it, everybody has a seat: as many seats as
 * the size says, of which each other class keeps those that it has reserved
 * or sits on, whichever are more.  So a reserve is never sat on by another
 * class, but for what that sat on already when the reserve was made.
 *
 * Who gets none may wait unless as many as the queue holds wait already.
 * Within a class the first who came is the first who is let in; critical goes
 * before standard, and that before batch, as far as their seats allow.  Nobody
 * waits who could have a seat, so nobody who comes later gets ahead.
 *
 * A bulkhead that was made smaller lets nobody in until enough have left.
 *
 * The model below is these words once more, with rows of people instead of
 * lists of links.
 */
#include "postgres.h"

#include "bulkhead_core.h"
#include "tap.h"

/* Most who can wait in any test. */
#define PEOPLE 24

/* ----------------------------------------------------------------- model */

/* A row of people, the first of whom came first. */
typedef struct Row
{
	int			count;
	int8		people[PEOPLE];
} Row;

typedef struct Model
{
	int			size;
	int			queue;
	int			reserved[PLAT_CLASSES];
	int			seated[PLAT_CLASSES];
	Row			rows[PLAT_CLASSES];
} Model;

static int
seats_taken(const Model *model)
{
	return model->seated[PLAT_CRITICAL] + model->seated[PLAT_STANDARD] +
		model->seated[PLAT_BATCH];
}

static int
people_waiting(const Model *model)
{
	return model->rows[PLAT_CRITICAL].count + model->rows[PLAT_STANDARD].count +
		model->rows[PLAT_BATCH].count;
}

/*
 * Whether one more of the class can sit down.
 */
static bool
has_seat(const Model *model, int class)
{
	int			seats = model->seated[class] + 1;

	for (int other = 0; other < PLAT_CLASSES; other++)
	{
		if (other == class)
			continue;
		seats += model->seated[other] > model->reserved[other] ?
			model->seated[other] : model->reserved[other];
	}
	return seats <= model->size;
}

static void
join(Row *row, int who)
{
	row->people[row->count++] = (int8) who;
}

static void
step_out(Row *row, int place)
{
	row->count--;
	for (int i = place; i < row->count; i++)
		row->people[i] = row->people[i + 1];
}

/*
 * Seat whoever is next, or say that nobody is.
 */
static int
seat_next(Model *model)
{
	for (int class = 0; class < PLAT_CLASSES; class++)
	{
		int			who;

		if (model->rows[class].count == 0 || !has_seat(model, class))
			continue;
		who = model->rows[class].people[0];
		step_out(&model->rows[class], 0);
		model->seated[class]++;
		return who;
	}
	return PLAT_NOBODY;
}

/*
 * Empty seats that others than the class have reserved.
 */
static int
kept_seats(const Model *model, int class)
{
	int			seats = 0;

	for (int other = 0; other < PLAT_CLASSES; other++)
		for (int i = model->seated[other]; other != class && i < model->reserved[other]; i++)
			seats++;
	return seats;
}

/*
 * Seats that are taken, or reserved and empty, beyond those that there are:
 * only a change of the rules may make them more.
 */
static int
excess(const Model *model)
{
	int			seats = seats_taken(model);

	for (int class = 0; class < PLAT_CLASSES; class++)
		if (model->reserved[class] > model->seated[class])
			seats += model->reserved[class] - model->seated[class];
	return seats > model->size ? seats - model->size : 0;
}

/* ------------------------------------------------------ the core beside it */

typedef struct Pair
{
	Model		model;
	PlatBulkhead core;
	PlatQueueLink links[PEOPLE];
	uint32		waits;			/* a bit for each number that is in a row */
} Pair;

typedef enum EventKind
{
	ASK, LEAVE, CANCEL, RESIZE, RESERVE, REQUEUE
} EventKind;

/* What happens: to the class of that name, with a number. */
typedef struct Event
{
	int8		kind;
	int8		class;
	int8		number;			/* place in the row, or the value to set */
} Event;

/* What was seen to happen, so that a test that sees nothing fails. */
static struct
{
	long		steps;
	long		let_in;			/* out of a row */
	long		overtaken;		/* people of other classes who came earlier */
	long		refused;
	long		kept_out;		/* stood while there were empty seats */
	long		drained;		/* left while there were too many */
	long		from_middle;
} seen;

/* The events that led to what is compared. */
static const Event *history;
static int	nhistory;

/*
 * One comparison of code and model: the first that fails is told with its
 * events.
 */
static void
agree(bool passed, const char *what)
{
	static const char *const names[] = {
		"ask", "leave", "cancel", "resize", "reserve", "requeue"
	};
	int			length;

	if (likely(passed) || fault[0])
		return;
	length = snprintf(fault, sizeof(fault), "%s:", what);
	for (int i = nhistory > 25 ? nhistory - 25 : 0; i < nhistory; i++)
		length += snprintf(fault + length, sizeof(fault) - length, " %s(%d, %d)",
						   names[history[i].kind], history[i].class,
						   history[i].number);
}

static Pair
new_pair(int size, int queue, const int *reserved)
{
	Pair		pair;

	memset(&pair, 0, sizeof(pair));
	plat_bulkhead_init(&pair.core);
	pair.model.size = pair.core.rules.size = size;
	pair.model.queue = pair.core.rules.queue = queue;
	for (int class = 0; class < PLAT_CLASSES; class++)
		pair.model.reserved[class] = pair.core.rules.reserved[class] = reserved[class];
	return pair;
}

/*
 * The queue of a class is the row of the model, from both ends.
 */
static void
compare_row(const Pair *pair, int class)
{
	const Row  *row = &pair->model.rows[class];
	int			forth = pair->core.first[class];
	int			back = pair->core.last[class];

	agree(pair->core.in_use[class] == pair->model.seated[class], "slots in use");
	agree(pair->core.waiting[class] == row->count, "number of those who wait");
	for (int i = 0; i < row->count; i++)
	{
		agree(forth == row->people[i], "queue from its head");
		agree(back == row->people[row->count - 1 - i], "queue from its end");
		if (fault[0])
			return;
		forth = pair->links[forth].next;
		back = pair->links[back].previous;
	}
	agree(forth == PLAT_NOBODY && back == PLAT_NOBODY, "ends of the queue");
}

/*
 * What holds whenever nobody is left who can be let in.
 */
static void
compare(const Pair *pair)
{
	agree(plat_bulkhead_in_use(&pair->core) == seats_taken(&pair->model),
		   "slots in use of all classes");
	agree(plat_bulkhead_waiting(&pair->core) == people_waiting(&pair->model),
		   "waiting of all classes");
	for (int class = 0; class < PLAT_CLASSES && !fault[0]; class++)
	{
		bool		admits = plat_bulkhead_admits(&pair->core, class);

		compare_row(pair, class);
		agree(pair->core.in_use[class] >= 0 && pair->core.waiting[class] >= 0,
			   "a number below 0");
		agree(admits == has_seat(&pair->model, class), "who would be admitted");
		agree(plat_bulkhead_kept_from(&pair->core, class) == kept_seats(&pair->model, class),
			   "what is reserved for others");
		agree(!admits || pair->core.waiting[class] == 0,
			   "somebody waits who could be admitted");
		if (pair->model.rows[class].count > 0 &&
			seats_taken(&pair->model) < pair->model.size)
			seen.kept_out++;
	}
}

/*
 * Somebody comes: gets a slot, a place in the queue, or nothing.
 */
static void
ask(Pair *pair, int class)
{
	Model	   *model = &pair->model;
	PlatAnswer	expected = has_seat(model, class) ? PLAT_GOT_SLOT :
		people_waiting(model) < model->queue ? PLAT_MAY_WAIT : PLAT_QUEUE_FULL;
	int			who = 0;

	agree(plat_bulkhead_ask(&pair->core, class) == expected, "answer");
	if (expected == PLAT_GOT_SLOT)
	{
		agree(model->rows[class].count == 0, "somebody got ahead of who waits");
		model->seated[class]++;
	}
	else if (expected == PLAT_QUEUE_FULL)
		seen.refused++;
	else
	{
		while (pair->waits & (1u << who))
			who++;
		pair->waits |= 1u << who;
		join(&model->rows[class], who);
		plat_bulkhead_queue(&pair->core, pair->links, class, who);
	}
}

static void
cancel(Pair *pair, int class, int place)
{
	Row		   *row = &pair->model.rows[class];
	int			who = row->people[place];

	if (place > 0 && place < row->count - 1)
		seen.from_middle++;
	step_out(row, place);
	plat_bulkhead_unqueue(&pair->core, pair->links, class, who);
	pair->waits &= ~(1u << who);
}

/*
 * What bulkhead.c does whenever the numbers have changed, beside the model.
 */
static void
hand_on(Pair *pair)
{
	bool		is_full = seats_taken(&pair->model) >= pair->model.size;
	int			who;

	do
	{
		who = plat_bulkhead_next(&pair->core, pair->links);
		agree(who == seat_next(&pair->model), "who is let in");
		if (who == PLAT_NOBODY || fault[0])
			return;
		agree(!is_full, "somebody was let in where there was no room");
		is_full = seats_taken(&pair->model) >= pair->model.size;
		pair->waits &= ~(1u << who);
		seen.let_in++;
		seen.overtaken += people_waiting(&pair->model) > 0;
	} while (true);
}

static bool
is_possible(const Pair *pair, Event event)
{
	const Model *model = &pair->model;
	int			reserved = model->reserved[0] + model->reserved[1] + model->reserved[2];

	switch (event.kind)
	{
		case ASK:
		case REQUEUE:
			return true;
		case LEAVE:
			return model->seated[event.class] > 0;
		case CANCEL:
			return model->rows[event.class].count > event.number;
		case RESIZE:
			return event.number >= reserved && event.number != model->size;
		default:
			return event.number != model->reserved[event.class] &&
				reserved - model->reserved[event.class] + event.number <= model->size;
	}
}

/*
 * One event, on both, and what must hold afterwards.
 */
static void
happen(Pair *pair, Event event)
{
	Model	   *model = &pair->model;
	int			taken = seats_taken(model);
	int			before = excess(model);

	seen.steps++;
	switch (event.kind)
	{
		case ASK:
			ask(pair, event.class);
			break;
		case LEAVE:
			seen.drained += taken > model->size;
			model->seated[event.class]--;
			plat_bulkhead_leave(&pair->core, event.class);
			break;
		case CANCEL:
			cancel(pair, event.class, event.number);
			break;
		case RESIZE:
			model->size = pair->core.rules.size = event.number;
			break;
		case RESERVE:
			model->reserved[event.class] = pair->core.rules.reserved[event.class] = event.number;
			break;
		case REQUEUE:
			model->queue = pair->core.rules.queue = event.number;
			break;
	}
	if (event.kind == RESIZE || event.kind == RESERVE)
		before = excess(model);
	hand_on(pair);
	compare(pair);
	agree(plat_bulkhead_in_use(&pair->core) <= Max(taken, model->size),
		   "more in use than there are slots");
	agree(excess(model) <= before, "a reserve was used by another class");
}

/* ---------------------------------------------------------- all sequences */

#define DEPTH 7

static Event path[DEPTH];

/* Those that can happen to three who wait, at most, and three slots. */
static const Event events[] = {
	{ASK, PLAT_CRITICAL}, {ASK, PLAT_STANDARD}, {ASK, PLAT_BATCH},
	{LEAVE, PLAT_CRITICAL}, {LEAVE, PLAT_STANDARD}, {LEAVE, PLAT_BATCH},
	{CANCEL, PLAT_CRITICAL, 0}, {CANCEL, PLAT_CRITICAL, 1},
	{CANCEL, PLAT_STANDARD, 0}, {CANCEL, PLAT_STANDARD, 1}, {CANCEL, PLAT_STANDARD, 2},
	{CANCEL, PLAT_BATCH, 0}, {CANCEL, PLAT_BATCH, 1},
	{RESIZE, 0, 1}, {RESIZE, 0, 3},
	{RESERVE, PLAT_CRITICAL, 1}, {RESERVE, PLAT_CRITICAL, 0}, {RESERVE, PLAT_BATCH, 1}
};

static void
try_all(const Pair *pair, int depth)
{
	for (int i = 0; i < lengthof(events) && !fault[0]; i++)
	{
		Pair		next;

		if (!is_possible(pair, events[i]))
			continue;
		next = *pair;
		path[depth] = events[i];
		nhistory = depth + 1;
		happen(&next, events[i]);
		if (depth + 1 < DEPTH)
			try_all(&next, depth + 1);
	}
}

static void
test_all(void)
{
	static const struct
	{
		int			size;
		int			queue;
		int			reserved[PLAT_CLASSES];
	}			pools[] = {
		{1, 3, {0, 0, 0}}, {1, 3, {1, 0, 0}}, {1, 3, {0, 0, 1}},
		{2, 3, {0, 0, 0}}, {2, 3, {1, 0, 0}}, {2, 2, {1, 0, 1}}, {2, 0, {0, 1, 0}},
		{3, 3, {0, 0, 0}}, {3, 3, {2, 0, 0}}, {3, 3, {1, 1, 1}}, {3, 1, {0, 1, 1}}
	};
	char		name[100];

	history = path;
	for (int i = 0; i < lengthof(pools); i++)
	{
		Pair		pair = new_pair(pools[i].size, pools[i].queue, pools[i].reserved);

		fault[0] = '\0';
		try_all(&pair, 0);
		snprintf(name, sizeof(name),
				 "all sequences of %d events, size %d, queue %d, reserved %d %d %d",
				 DEPTH, pools[i].size, pools[i].queue, pools[i].reserved[0],
				 pools[i].reserved[1], pools[i].reserved[2]);
		check(fault[0] == '\0', name, fault);
	}
}

/* -------------------------------------------------------- random sequences */

#define STEPS 2000

static Event record[STEPS];

/*
 * Any event that can be: most are of people who come and go, in a pool that
 * is busier at some times than at others.
 */
static Event
any_event(const Pair *pair, int step)
{
	int			people = people_waiting(&pair->model);
	bool		is_rush = step / 100 % 2 == 0;

	for (;;)
	{
		int			dice = below(100);
		Event		event = {ASK, (int8) below(PLAT_CLASSES), 0};

		if (dice < (is_rush ? 45 : 25))
			event.kind = ASK;
		else if (dice < 75)
			event.kind = LEAVE;
		else if (dice < 92)
		{
			event.kind = CANCEL;
			event.number = (int8) below(people + 1);
		}
		else if (dice < 95)
		{
			event.kind = RESIZE;
			event.number = (int8) (1 + below(12));
		}
		else if (dice < 98)
		{
			event.kind = RESERVE;
			event.number = (int8) below(4);
		}
		else
		{
			event.kind = REQUEUE;
			event.number = (int8) below(PEOPLE + 1);
		}
		if (is_possible(pair, event))
			return event;
	}
}

static void
test_random(void)
{
	static const int none[PLAT_CLASSES] = {0, 0, 0};
	char		name[100];

	history = record;
	for (int round = 0; round < 1000 && !fault[0]; round++)
	{
		Pair		pair = new_pair(1 + below(12), below(PEOPLE + 1), none);

		for (int step = 0; step < STEPS && !fault[0]; step++)
		{
			record[step] = any_event(&pair, step);
			nhistory = step + 1;
			happen(&pair, record[step]);
		}
	}
	snprintf(name, sizeof(name), "1000 random sequences of %d events", STEPS);
	check(fault[0] == '\0', name, fault);
}

/* ------------------------------------------------------------ one by one */

/*
 * What the rules say in a case that can be told in a sentence; the answers are
 * written down here, and not those of the model.
 */
static void
test_cases(void)
{
	static const int one_each[PLAT_CLASSES] = {1, 0, 1};
	Pair		pair = new_pair(3, 2, one_each);
	PlatBulkhead *core = &pair.core;

	check(plat_bulkhead_ask(core, PLAT_STANDARD) == PLAT_GOT_SLOT,
		  "a class without a reserve gets what is nobody's", "it does not");
	check(plat_bulkhead_ask(core, PLAT_STANDARD) == PLAT_MAY_WAIT,
		  "and not what is reserved", "it does");
	plat_bulkhead_queue(core, pair.links, PLAT_STANDARD, 7);
	check(plat_bulkhead_ask(core, PLAT_CRITICAL) == PLAT_GOT_SLOT &&
		  plat_bulkhead_ask(core, PLAT_BATCH) == PLAT_GOT_SLOT,
		  "which is there for those it is reserved for", "it is not");
	check(plat_bulkhead_ask(core, PLAT_CRITICAL) == PLAT_MAY_WAIT,
		  "and no more than that", "it is more");
	plat_bulkhead_queue(core, pair.links, PLAT_CRITICAL, 3);
	check(plat_bulkhead_ask(core, PLAT_CRITICAL) == PLAT_QUEUE_FULL &&
		  plat_bulkhead_ask(core, PLAT_BATCH) == PLAT_QUEUE_FULL,
		  "the queue is one for all classes", "it is not");
	check(plat_bulkhead_in_use(core) == 3 && plat_bulkhead_waiting(core) == 2,
		  "sums are of all classes", "they are not");
	plat_bulkhead_leave(core, PLAT_BATCH);
	check(plat_bulkhead_next(core, pair.links) == PLAT_NOBODY,
		  "a slot that is reserved stays free for its class", "it does not");
	plat_bulkhead_leave(core, PLAT_STANDARD);
	check(plat_bulkhead_next(core, pair.links) == 3,
		  "the more urgent go first, though they came later", "they do not");
	plat_bulkhead_leave(core, PLAT_CRITICAL);
	check(plat_bulkhead_next(core, pair.links) == 7 &&
		  plat_bulkhead_next(core, pair.links) == PLAT_NOBODY,
		  "and then the others", "not so");

	plat_bulkhead_init(core);
	check(plat_bulkhead_ask(core, PLAT_CRITICAL) == PLAT_QUEUE_FULL &&
		  plat_bulkhead_next(core, pair.links) == PLAT_NOBODY,
		  "a bulkhead without rules has nothing to give", "it has");
}

int
main(int argc, char **argv)
{
	if (argc > 1)
	{
		seed = strtoull(argv[1], NULL, 10);
		test_random();
	}
	else
	{
		test_cases();
		test_all();
	}
	printf("# %ld events, %ld let in, %ld before others, %ld refused, %ld kept out, %ld drained, %ld from the middle\n",
		   seen.steps, seen.let_in, seen.overtaken, seen.refused, seen.kept_out,
		   seen.drained, seen.from_middle);
	check(seen.let_in > 10000 && seen.overtaken > 1000 && seen.refused > 1000 &&
		  seen.kept_out > 1000 && seen.drained > 1000 && seen.from_middle > 100,
		  "all that can happen has happened", "something has not");
	printf("1..%d\n", tests);
	return failures > 0;
}
