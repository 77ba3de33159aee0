# The objects of the extension: documented, declared in full, safe to call, and
# allowed to exactly the roles that test/privileges.tsv names.
#
# PLAT_WRITE=1 make test TEST=t/002_objects.pl writes that file anew; review
# the difference like any other change of privileges.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Functions that may be SECURITY DEFINER, each with a reason.
my %definer = ();

my $node = new_node('objects');

sub rows
{
	return [ split /\n/, $node->safe_psql('postgres', $_[0]) ];
}

# Members of the extension.  PostgreSQL 16 also counts row types and array
# types, which are internal to a table and need no comment of their own.
my $member = q{pg_depend d WHERE d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'platpat')
	AND d.deptype = 'e'};

none(
	rows(qq{
		SELECT pg_describe_object(d.classid, d.objid, 0) FROM $member
		AND obj_description(d.objid, d.classid::regclass::name) IS NULL
		AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = d.objid
			AND d.classid = 'pg_class'::regclass AND c.relkind = 'S')
		AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.deptype = 'i'
			AND i.classid = d.classid AND i.objid = d.objid)
		ORDER BY 1}),
	'every object has a comment');
is( $node->safe_psql('postgres',
		q{SELECT obj_description('platpat'::regnamespace, 'pg_namespace') IS NOT NULL}),
	't', 'the schema has a comment');
none(
	rows(qq{
		SELECT d.objid::regclass || '.' || a.attname FROM pg_attribute a,
		$member AND d.classid = 'pg_class'::regclass AND a.attrelid = d.objid
		AND a.attnum > 0 AND NOT a.attisdropped
		AND (SELECT relkind FROM pg_class WHERE oid = d.objid) IN ('r', 'p')
		AND col_description(d.objid, a.attnum) IS NULL
		ORDER BY 1}),
	'every column of a table has a comment');

# How the SQL parts declare each function, against what the catalog says.
my (%declared, @incomplete);
for my $part (grep { !/platpat--/ } glob tree('sql/*.sql'))
{
	my $text = slurp_file($part);
	$text =~ s/--[^\n]*//g;
	$text =~ s/\$(\w*)\$.*?\$\1\$/''/gs;
	$text =~ s/\bBEGIN ATOMIC\b.*?\bEND;/;/gs;
	$text =~ s/'(?:[^']|'')*'/''/g;
	while ($text =~ /\bCREATE (?:OR REPLACE )?FUNCTION (?:platpat\.)?(\w+)\s*(.*?);/gsi)
	{
		my ($name, $rest) = ($1, $2);
		my ($volatility) = $rest =~ /\b(VOLATILE|STABLE|IMMUTABLE)\b/;
		my ($parallel) = $rest =~ /\bPARALLEL (SAFE|RESTRICTED|UNSAFE)\b/;
		if ($volatility && $parallel)
		{
			push @{ $declared{$name} }, lc "$volatility $parallel";
		}
		else
		{
			push @incomplete, $name;
		}
	}
}
none(\@incomplete, 'every function states volatility and parallel safety');

my %catalog;
for my $row (
	@{  rows(qq{
		SELECT p.proname || ' ' || CASE p.provolatile WHEN 'v' THEN 'volatile'
			WHEN 's' THEN 'stable' ELSE 'immutable' END
			|| ' ' || CASE p.proparallel WHEN 's' THEN 'safe'
			WHEN 'r' THEN 'restricted' ELSE 'unsafe' END
		FROM pg_proc p, $member AND d.classid = 'pg_proc'::regclass
		AND p.oid = d.objid AND p.prokind <> 'p'})
	})
{
	my ($name, $how) = split ' ', $row, 2;
	push @{ $catalog{$name} }, $how;
}
for my $functions (\%declared, \%catalog)
{
	@$_ = sort @$_ for values %$functions;
}
none(
	[ grep { "@{ $declared{$_} // [] }" ne "@{ $catalog{$_} // [] }" }
		sort(keys %{ { %declared, %catalog } }) ],
	'the catalog agrees with the declarations');

none(
	rows(qq{
		SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang,
		$member AND d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		AND l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL
		AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
		ORDER BY 1}),
	'no function looks names up in the search_path of its caller');
none(
	[ grep { !$definer{$_} } @{
		rows(qq{SELECT p.oid::regprocedure FROM pg_proc p,
			$member AND d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prosecdef
			ORDER BY 1}) } ],
	'no function is SECURITY DEFINER');

# Who may do what: x execute; r select, a insert, w update, d delete; U, C usage
# of and creation in the schema.
$node->safe_psql('postgres', q{
	CREATE ROLE plain;
	CREATE ROLE admin;
	CREATE ROLE monitor IN ROLE pg_monitor;
	SELECT platpat.grant_admin('admin');});

my @matrix = @{ rows(qq{
	SELECT object || E'\\t' || string_agg(coalesce(nullif(granted, ''), '-'), E'\\t' ORDER BY place)
	FROM (
		SELECT 1 AS kind, p.oid::regprocedure::text AS object, r.place,
			CASE WHEN has_function_privilege(r.role, p.oid, 'EXECUTE') THEN 'x' END AS granted
		FROM pg_proc p, (VALUES ('plain', 1), ('admin', 2), ('monitor', 3)) r(role, place),
			$member AND d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		UNION ALL
		SELECT 2, c.oid::regclass::text, r.place,
			(SELECT string_agg(l.letter, '' ORDER BY l.place)
			 FROM (VALUES (1, 'r', 'SELECT'), (2, 'a', 'INSERT'), (3, 'w', 'UPDATE'),
				(4, 'd', 'DELETE')) l(place, letter, privilege)
			 WHERE has_table_privilege(r.role, c.oid, l.privilege))
		FROM pg_class c, (VALUES ('plain', 1), ('admin', 2), ('monitor', 3)) r(role, place),
			$member AND d.classid = 'pg_class'::regclass AND c.oid = d.objid
			AND c.relkind IN ('r', 'p', 'v', 'm')
		UNION ALL
		SELECT 0, 'schema platpat', r.place,
			CASE WHEN has_schema_privilege(r.role, 'platpat', 'USAGE') THEN 'U' ELSE '' END ||
			CASE WHEN has_schema_privilege(r.role, 'platpat', 'CREATE') THEN 'C' ELSE '' END
		FROM (VALUES ('plain', 1), ('admin', 2), ('monitor', 3)) r(role, place)
	) one
	GROUP BY kind, object ORDER BY kind, object COLLATE "C"}) };

my $file = tree('test/privileges.tsv');
my $head = "object\tpublic\tadmin\tmonitor";
if ($ENV{PLAT_WRITE})
{
	open my $out, '>', $file or die "$file: $!";
	print $out map { "$_\n" } $head, @matrix;
	close $out or die "$file: $!";
	note("wrote $file");
}
my %written = map { $_ => 1 } split /\n/, slurp_file($file);
my %found = map { $_ => 1 } $head, @matrix;
none(
	[   (map { "written: $_" } grep { !$found{$_} } sort keys %written),
		(map { "granted: $_" } grep { !$written{$_} } sort keys %found) ],
	'privileges are those of test/privileges.tsv');

done_testing();
