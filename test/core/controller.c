/*
 * controller.c
 *		Tests of when something is done about a difference: no server, no lock.
 *		Prints TAP; t/100_controller_core.pl compiles it together with
 *		src/controller_core.c and runs it.
 *
 * Without an argument: cases.  With a seed: a key that is broken and repaired
 * at random.  What is promised: however the world behaves, within any hour
 * there are few attempts at one that fails and few repairs of one that is
 * contested, an urgent one is repaired at once, and no wait is for ever.
 */
#include "postgres.h"

#include "../../src/retry_core.c"
#include "controller_core.h"
#include "tap.h"

#define SECOND INT64CONST(1000000)
#define HOUR (3600 * SECOND)

static void
cases(void)
{
	PlatHistory history = {0};

	begin();
	expect(plat_history_is_due(&history, 7, false, SECOND), "never tried");
	expect(plat_history_attempt(&history, 7) == 1, "first attempt");
	history = (PlatHistory) {.difference = 7, .attempts = 1,.next_attempt = 10 * SECOND};
	expect(!plat_history_is_due(&history, 7, false, 9 * SECOND), "too early");
	expect(!plat_history_is_due(&history, 7, true, 9 * SECOND), "urgent, too early");
	expect(plat_history_is_due(&history, 7, false, 10 * SECOND), "in time");
	expect(plat_history_attempt(&history, 7) == 2, "second attempt");
	end("a difference that stays waits");

	begin();
	expect(plat_history_is_due(&history, 8, false, 9 * SECOND), "at once");
	expect(plat_history_attempt(&history, 8) == 1, "from the beginning");
	end("another difference is new");

	begin();
	history.next_attempt = 24 * HOUR;
	expect(plat_history_is_due(&history, 7, false, SECOND), "a day");
	history.next_attempt = 300 * SECOND;
	expect(!plat_history_is_due(&history, 7, false, SECOND), "five minutes");
	end("a wait that no backoff gives is not believed");

	begin();
	history.attempts = PG_INT32_MAX;
	expect(plat_history_attempt(&history, 7) == 1, "overflow");
	end("attempts are counted without overflow");

	begin();
	history = (PlatHistory) {.repairs = 5,.last_repair = 100 * SECOND};
	expect(!plat_history_is_contested(&history), "five repairs");
	expect(plat_history_is_due(&history, 7, false, 100 * SECOND), "peaceful");
	history.repairs = 6;
	expect(plat_history_is_contested(&history), "six repairs");
	expect(!plat_history_is_due(&history, 7, false, 104 * SECOND), "contested");
	expect(plat_history_is_due(&history, 7, true, 100 * SECOND), "urgent");
	expect(plat_history_is_due(&history, 7, false, 105 * SECOND), "after the wait");
	history.last_repair = 90000 * HOUR;
	expect(plat_history_is_due(&history, 7, false, SECOND), "a clock that was wrong");
	end("a contested key is repaired ever more seldom");
}

/* Times of the repairs of a run. */
#define REPAIRS 100000
static int64 repairs[REPAIRS];

/*
 * A day of a key that somebody breaks at random, or that cannot be repaired for
 * a while, looked at every second.
 */
static void
run_day(bool is_urgent)
{
	PlatHistory history = {0};
	int			nrepairs = 0;
	int			attempts = 0;
	int			attempts_of_hour = 0;
	int64		broken_since = 0;
	bool		is_broken = false;
	bool		is_hard = false;

	for (int64 now = HOUR; now < 25 * HOUR; now += SECOND)
	{
		if (now % HOUR == 0)
		{
			/* 5 + 10 + ... + 160 s, and then every five minutes */
			expect(attempts_of_hour <= (is_urgent ? 3600 : 100),
				   "%d attempts in an hour", attempts_of_hour);
			attempts_of_hour = 0;
			is_hard = below(2) == 0;
			broken_since = is_broken ? now : broken_since;
		}
		if (!is_broken && below(3) == 0)
		{
			is_broken = true;
			broken_since = now;
		}
		history.repairs = 0;
		for (int i = nrepairs - 1; i >= 0 && repairs[i] > now - HOUR; i--)
			history.repairs++;
		if (!is_broken || !plat_history_is_due(&history, 7, is_urgent, now))
		{
			expect(!is_broken || now - broken_since <= 340 * SECOND || is_hard,
				   "nothing is done for %d s", (int) ((now - broken_since) / SECOND));
			continue;
		}
		attempts++;
		attempts_of_hour++;
		history.attempts = plat_history_attempt(&history, 7);
		history.difference = 7;
		history.next_attempt = now + plat_retry_backoff(history.attempts, below(1001) / 1000.0);
		if (is_hard)
			continue;
		expect(!is_urgent || now == broken_since || history.attempts > 1, "urgent, and waits");
		is_broken = false;
		history.attempts = 0;
		history.last_repair = now;
		repairs[nrepairs++] = now;
	}
	expect(attempts > 0, "nothing was tried");
}

int
main(int argc, char **argv)
{
	if (argc < 2)
		cases();
	else
	{
		seed = strtoull(argv[1], NULL, 10);
		for (int urgent = 0; urgent < 2; urgent++)
		{
			begin();
			run_day(urgent);
			end(urgent ? "a day of an urgent key" : "a day of a key");
		}
	}
	printf("1..%d\n", tests);
	return failures > 0;
}
