/*
 * tap.h
 *		What the tests of pure cores share: assertions that print TAP, and
 *		random numbers that are the same everywhere.
 *
 * Included once by each program, after postgres.h.
 */
#ifndef TAP_H
#define TAP_H

/* PostgreSQL's own are in the server. */
#undef printf
#undef snprintf
#undef vsnprintf

static int	tests = 0;
static int	failures = 0;

/*
 * One assertion. The details describe its failure.
 */
static inline void
check(bool passed, const char *name, const char *details)
{
	tests++;
	printf("%sok %d - %s\n", passed ? "" : "not ", tests, name);
	if (!passed)
	{
		failures++;
		printf("# %s\n", details);
	}
}

/* The first failure of a group of comparisons. */
static char fault[1000] pg_attribute_unused();

/*
 * One comparison of a group. The arguments after passed describe its failure.
 */
static inline void
expect(bool passed, const char *format,...)
{
	va_list		args;

	if (passed || fault[0])
		return;
	va_start(args, format);
	vsnprintf(fault, sizeof(fault), format, args);
	va_end(args);
}

/*
 * A group of comparisons, which is one assertion.
 */
static inline void
begin(void)
{
	fault[0] = '\0';
}

static inline void
end(const char *name)
{
	check(fault[0] == '\0', name, fault);
}

/*
 * Random numbers: splitmix64.
 */
static uint64 seed;

static inline uint64
any(void)
{
	uint64		z = (seed += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/*
 * A random number below a limit; 0 below 0.
 */
static inline uint64
below(uint64 limit)
{
	return limit == 0 ? 0 : any() % limit;
}

#endif							/* TAP_H */
