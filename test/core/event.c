/*
 * event.c
 *		Tests of how far readers of the event log may read: no server, no lock.
 *		Prints TAP; t/080_event_core.pl compiles it together with
 *		src/event_core.c and runs it.
 *
 * Without an argument: cases.  With a seed: a random history of writers, with
 * readers that look now and then.
 *
 * What is promised:
 *
 * Safe: when a reader may read up to a mark, every position at or below it
 * belongs to a transaction that has ended by then.
 *
 * Live: a reader that looks twice while no transaction of before the first
 * look is left may read at least up to what was drawn by the first; without
 * writers, up to what is drawn.
 *
 * A mark never goes back.
 */
#include "postgres.h"

#include "event_core.h"
#include "tap.h"

#define WRITERS 8
#define READERS 3

/* ----------------------------------------------------------------- model */

/* A transaction that writes, or a place for one. */
typedef struct Model
{
	uint64		id;				/* 0 for nobody */
	bool		is_renamed;
	int64		first;			/* position that it drew, 0 for none */
} Model;

typedef struct Reader
{
	PlatWatermark watermark;
	PlatWriter	writers[WRITERS];
	int64		drawn_before;	/* at the look before the last */
	uint64		ids_before;		/* given by then */
	bool		has_looked;
} Reader;

static Model models[WRITERS];
static Reader readers[READERS];
static int64 drawn;
static uint64 ids;

/*
 * The first position that is not decided.
 */
static int64
undecided(void)
{
	int64		first = drawn + 1;

	for (int i = 0; i < WRITERS; i++)
		if (models[i].id && models[i].first)
			first = Min(first, models[i].first);
	return first;
}

/*
 * A transaction of before a moment is still there.
 */
static bool
is_old_left(uint64 before)
{
	for (int i = 0; i < WRITERS; i++)
		if (models[i].id && (models[i].id <= before || models[i].is_renamed))
			return true;
	return false;
}

/*
 * A look, as a reader takes it: what was drawn first, then who is there.
 */
static void
look(Reader *reader, int64 drawn_then)
{
	PlatWriter	found[WRITERS];
	int			count = 0;
	int64		old = reader->watermark.mark;
	int64		mark;
	bool		was_there = reader->has_looked;

	for (int i = 0; i < WRITERS; i++)
		if (models[i].id)
		{
			found[count].id = models[i].id;
			found[count].is_renamed = models[i].is_renamed;
			found[count++].bound = -1;
		}
	mark = plat_watermark_mark(&reader->watermark, drawn_then, found, count);
	expect(mark < undecided(), "mark %lld, undecided %lld",
		   (long long) mark, (long long) undecided());
	expect(mark >= old, "mark went back from %lld to %lld",
		   (long long) old, (long long) mark);
	expect(count > 0 || mark == drawn_then, "mark %lld of %lld without writers",
		   (long long) mark, (long long) drawn_then);
	if (was_there && !is_old_left(reader->ids_before))
		expect(mark >= reader->drawn_before, "mark %lld, %lld was drawn before",
			   (long long) mark, (long long) reader->drawn_before);
	memcpy(reader->writers, found, sizeof(found));
	reader->watermark.writers = reader->writers;
	reader->watermark.nwriters = count;
	reader->watermark.drawn = drawn_then;
	reader->watermark.mark = mark;
	reader->has_looked = true;
	reader->drawn_before = drawn_then;
	reader->ids_before = ids;
}

/*
 * Something that a writer does.
 */
static void
act(Model *model)
{
	switch (below(4))
	{
		case 0:
			if (model->id == 0)
			{
				memset(model, 0, sizeof(*model));
				model->id = ++ids;
			}
			break;
		case 1:
		case 2:
			if (model->id)
			{
				drawn++;
				if (model->first == 0)
					model->first = drawn;
			}
			break;
		case 3:
			if (below(8) == 0 && model->id)
			{
				/* prepared, and the server has been restarted */
				model->id = ++ids;
				model->is_renamed = true;
			}
			else
				model->id = 0;
			break;
	}
}

static void
run_history(int steps)
{
	begin();
	for (int i = 0; i < steps && fault[0] == '\0'; i++)
	{
		/* Readers may be interrupted between their two steps. */
		int			reader = below(READERS * 4);
		int64		drawn_then = drawn;

		for (uint64 n = below(4); n > 0; n--)
			act(&models[below(WRITERS)]);
		if (reader < READERS)
			look(&readers[reader], drawn_then);
	}
	end("safe, live and never back");
}

/* ----------------------------------------------------------------- cases */

static int64
mark_of(PlatWatermark *watermark, int64 drawn_then, int count, const uint64 *who)
{
	static PlatWriter kept[WRITERS];
	PlatWriter	found[WRITERS];
	int64		mark;

	for (int i = 0; i < count; i++)
		found[i] = (PlatWriter)
	{
		.id = who[i]
	};
	mark = plat_watermark_mark(watermark, drawn_then, found, count);
	memcpy(kept, found, sizeof(found));
	*watermark = (PlatWatermark)
	{
		.drawn = drawn_then, .mark = mark, .writers = kept,
		.nwriters = count
	};
	return mark;
}

static void
cases(void)
{
	PlatWatermark watermark = {0};
	const uint64 a[] = {1}, ab[] = {1, 2}, b[] = {2};

	begin();
	expect(mark_of(&watermark, 10, 0, NULL) == 10, "nobody writes");
	expect(mark_of(&watermark, 12, 1, a) == 10, "who is new draws after the last look");
	expect(mark_of(&watermark, 20, 2, ab) == 10, "and stays there");
	expect(mark_of(&watermark, 25, 1, b) == 12, "the second came after 12");
	expect(mark_of(&watermark, 30, 0, NULL) == 30, "all are gone");
	expect(mark_of(&watermark, 30, 0, NULL) == 30, "nothing happens");
	end("writers that come and go");

	memset(&watermark, 0, sizeof(watermark));
	watermark.mark = 7;
	begin();
	expect(mark_of(&watermark, 10, 1, a) == 7, "it may have been there before us");
	expect(mark_of(&watermark, 12, 1, a) == 7, "it still may");
	expect(mark_of(&watermark, 15, 1, b) == 12, "it is gone");
	end("a reader that begins");
}

int
main(int argc, char **argv)
{
	if (argc < 2)
		cases();
	else
	{
		seed = strtoull(argv[1], NULL, 10);
		run_history(1000000);
	}
	printf("1..%d\n", tests);
	return failures > 0;
}
