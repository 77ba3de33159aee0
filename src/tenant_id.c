/*
 * tenant_id.c
 *		What may be a tenant id, and how uuid and bigint ids are spelled.
 *
 * Pure functions of their arguments: no clock, no catalog, no error raised,
 * nothing allocated, nothing shared.  That is why a GUC check hook may call
 * them, and why tests need no session for them.
 *
 * A tenant id ends up in policies, log lines and storage paths, so whatever
 * could be read as another id, as a path or as terminal control is refused
 * here, once, for every way in: set_tenant(), SET by a superuser, settings of
 * roles and databases.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "tenant_id.h"

/* A closed range of Unicode code points: both ends belong to it. */
/* A closed range of Unicode code points. */
typedef struct CodeRange
{
	pg_wchar	first;
	pg_wchar	last;
} CodeRange;

/*
 * Code points that show nothing and can make two ids look alike: C1 controls,
 * soft hyphen, joiners and fillers, direction marks and overrides, line
 * separators, variation selectors, tags.
 *
 * Source: Default_Ignorable_Code_Point and Bidi_Control of the Unicode
 * Character Database, and the blank Braille pattern, which is neither and
 * shows nothing all the same.  U+200C and U+200D stay allowed: Persian and
 * Indic spelling and emoji need them.
 */
static const CodeRange invisible[] = {
	{0x0080, 0x009F}, {0x00AD, 0x00AD}, {0x034F, 0x034F}, {0x061C, 0x061C},
	{0x115F, 0x1160}, {0x17B4, 0x17B5}, {0x180B, 0x180F}, {0x200B, 0x200B},
	{0x200E, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F}, {0x2800, 0x2800},
	{0x3164, 0x3164}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}, {0xFFA0, 0xFFA0},
	{0xFFF0, 0xFFF8}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
	{0xE0000, 0xE0FFF},
};

/*
 * White space outside ASCII, refused at either end of an id and allowed
 * inside.  These are the code points of general category Zs; the other two
 * that are white space, U+2028 and U+2029, are among the invisible ones.
 */
static const CodeRange spaces[] = {
	{0x00A0, 0x00A0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x202F, 0x202F},
	{0x205F, 0x205F}, {0x3000, 0x3000},
};

/*
 * Whether code lies in one of count ranges.  A linear search: the tables are
 * short, and ids that are all ASCII never come here.
 */
static bool
in_ranges(pg_wchar code, const CodeRange *ranges, int count)
{
	for (int i = 0; i < count; i++)
		if (code >= ranges[i].first && code <= ranges[i].last)
			return true;
	return false;
}

/*
 * Whether a byte above 0x7F of this encoding may be looked up in our tables
 * as if it were a code point.  ISO 8859 reserves 0x80 to 0x9F for control
 * characters, and has the no-break space at 0xA0; the soft hyphen is at 0xAD
 * in those that have one.  What else stands in the upper half is not in the
 * tables under these numbers.
 *
 * The ranges of the enum in mb/pg_wchar.h: PG_LATIN1 to PG_LATIN10 are the
 * Latin parts of ISO 8859, PG_ISO_8859_5 to PG_ISO_8859_8 the others.  The
 * Windows code pages use 0x80 to 0x9F for letters, so they are not meant.
 */
static bool
is_iso8859(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/*
 * The code point at p, which lies before end, and in *len the bytes that it
 * takes, at least one and never beyond end.  In encodings that we do not
 * read, every byte above 0x7F counts as 'x', a letter that nothing is decided
 * by.
 *
 * A sequence that runs past end counts as one byte, too.  The server has
 * verified text before us, so that only happens to bytes which are not text.
 */
static inline pg_wchar
next_code(const char *p, const char *end, int encoding, int *len)
{
	*len = 1;
	if (!IS_HIGHBIT_SET(*p) || is_iso8859(encoding))
		return (unsigned char) *p;
	if (encoding != PG_UTF8)
		return 'x';
	*len = pg_utf_mblen((const unsigned char *) p);
	if (*len > 1 && *len <= end - p)
		return utf8_to_unicode((const unsigned char *) p);
	*len = 1;
	return 'x';
}

/*
 * Whether len bytes of text hold a control character or an invisible one;
 * false for the empty string.  encoding is a pg_enc of the server side.  In
 * UTF-8 and the ISO 8859 encodings all of it is judged, in others only ASCII.
 */
bool
plat_text_has_control(const char *text, size_t len, int encoding)
{
	const char *end = text + len;
	int			step;

	for (const char *p = text; p < end; p += step)
	{
		pg_wchar	code = next_code(p, end, encoding, &step);

		if (code < 0x20 || code == 0x7F)
			return true;
		if (code > 0x7F && in_ranges(code, invisible, lengthof(invisible)))
			return true;
	}
	return false;
}

/*
 * Whether the character at p, which lies before end, is a space.  Of ASCII
 * only ' ' counts: tabs and line ends are control characters and refused
 * earlier.
 */
static bool
is_space_at(const char *p, const char *end, int encoding)
{
	int			len;
	pg_wchar	code = next_code(p, end, encoding, &len);

	return code == ' ' ||
		(code > 0x7F && in_ranges(code, spaces, lengthof(spaces)));
}

/* Whether text, which is not empty, begins or ends with white space. */
static bool
has_outer_space(const char *text, size_t len, int encoding)
{
	const char *end = text + len;
	const char *last = end - 1;

	/*
	 * Step back over the continuation bytes of the last character.  The other
	 * encodings that we read have one byte per character, and in the rest a
	 * byte that is no space is all that is looked for.
	 */
	while (encoding == PG_UTF8 && last > text && (*last & 0xC0) == 0x80)
		last--;
	return is_space_at(text, end, encoding) || is_space_at(last, end, encoding);
}

/*
 * Why the len bytes at id cannot be a tenant id: a constant, in English and
 * without a full stop, that completes "Tenant ids ...", or NULL when they
 * can.  encoding is that of the database.  The caller deals with the empty
 * string, because that is another SQLSTATE (22004) and in the setting means
 * "no tenant".
 *
 * The order of the rules is part of the answer: the length comes first, so
 * that the others look at 128 bytes at most.
 */
const char *
plat_tenant_id_problem(const char *id, size_t len, int encoding)
{
	Assert(len > 0);
	if (len > PLAT_TENANT_MAX)
		return "have at most 128 bytes";

	/*
	 * Separators of paths and, below, the two names that walk in a tree:
	 * "tenants/<id>/" must stay one directory, whatever its reader is.
	 */
	if (memchr(id, '/', len) || memchr(id, '\\', len))
		return "contain neither \"/\" nor \"\\\"";
	if ((len == 1 && id[0] == '.') ||
		(len == 2 && id[0] == '.' && id[1] == '.'))
		return "are neither \".\" nor \"..\"";
	if (plat_text_has_control(id, len, encoding))
		return "contain no control or invisible characters";
	if (has_outer_space(id, len, encoding))
		return "neither begin nor end with a space";
	return NULL;
}

/*
 * The value of a hexadecimal digit of either case, or -1.  Not isxdigit(),
 * which asks the locale.
 */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Parse a zero-terminated uuid into *uuid; false when it is none, and then
 * *uuid may be half written.
 *
 * The grammar is that of core's uuid_in (string_to_uuid): 32 hexadecimal
 * digits of either case, optional braces around all, an optional hyphen after
 * each group of four digits.  It is repeated here because uuid_in raises,
 * which a check hook must not.
 */
bool
plat_parse_uuid(const char *text, pg_uuid_t *uuid)
{
	bool		braces = text[0] == '{';
	const char *p = text + (braces ? 1 : 0);

	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high = hex_digit(p[0]);
		int			low = high < 0 ? -1 : hex_digit(p[1]);

		if (low < 0)
			return false;
		uuid->data[i] = (unsigned char) (high << 4 | low);
		p += 2;
		/* Two bytes make a group of four digits; none follows the last. */
		if (*p == '-' && i % 2 == 1 && i < UUID_LEN - 1)
			p++;
	}
	if (braces && *p++ != '}')
		return false;
	return *p == '\0';
}

/*
 * Write the canonical spelling of uuid, that of core's uuid_out: lower case,
 * hyphens after 8, 12, 16 and 20 digits.  text has room for 37 bytes, 36
 * characters and the closing zero.
 */
void
plat_print_uuid(const pg_uuid_t *uuid, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		*text++ = digits[uuid->data[i] >> 4];
		*text++ = digits[uuid->data[i] & 0x0F];
	}
	*text = '\0';
}

/*
 * Parse an optional sign and at least one decimal digit into *value; false
 * when text is anything else or does not fit into 64 bits, and then *value is
 * untouched.  Narrower than int8in, which takes spaces around the number and,
 * since PostgreSQL 16, hexadecimal and underscores: an id has no need of
 * them.
 */
bool
plat_parse_bigint(const char *text, int64 *value)
{
	bool		negative = text[0] == '-';
	const char *p = text + (negative || text[0] == '+' ? 1 : 0);

	/*
	 * The magnitude of PG_INT64_MIN is one more than that of PG_INT64_MAX,
	 * and does not fit into int64: count unsigned, negate last.
	 */
	uint64		limit = (uint64) PG_INT64_MAX + (negative ? 1 : 0);
	uint64		sum = 0;

	if (*p == '\0')
		return false;
	for (; *p; p++)
	{
		unsigned	digit = (unsigned char) *p - '0';

		/* The same as sum * 10 + digit > limit, without the overflow. */
		if (digit > 9 || sum > (limit - digit) / 10)
			return false;
		sum = sum * 10 + digit;
	}
	if (!negative)
		*value = (int64) sum;
	else if (sum == limit)
		*value = PG_INT64_MIN;
	else
		*value = -(int64) sum;
	return true;
}

/*
 * Whether text is the one spelling that uuid output gives, so that out(in(x))
 * = x.  Only then is *uuid meant to be used.
 */
bool
plat_is_canonical_uuid(const char *text, pg_uuid_t *uuid)
{
	char		canonical[37];

	if (!plat_parse_uuid(text, uuid))
		return false;
	plat_print_uuid(uuid, canonical);
	return strcmp(text, canonical) == 0;
}

/*
 * Whether text is the one spelling that bigint output gives: no plus sign, no
 * leading zeros, no "-0".  Only then is *value meant to be used.
 */
bool
plat_is_canonical_bigint(const char *text, int64 *value)
{
	char		canonical[32];

	if (!plat_parse_bigint(text, value))
		return false;
	snprintf(canonical, sizeof(canonical), INT64_FORMAT, *value);
	return strcmp(text, canonical) == 0;
}
