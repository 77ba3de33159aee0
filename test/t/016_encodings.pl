# Tenants in databases of other encodings: ids are judged and counted in the
# bytes of the database, messages are cut between characters, and a dump carries
# the protection into another encoding.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('encodings', extension => 0, init => [ extra => [ '--no-locale', '--encoding=UTF8' ] ]);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE bound LOGIN; CREATE ROLE western LOGIN');

# Ids are written as the hexadecimal bytes that the database stores.
#   good: tenants, each of which sees its own row
#   wide: one character, of which as many as fit into 128 bytes may be repeated
#   bad: what is refused
my %database = (
	utf8 => {
		encoding => 'UTF8',
		good => [ 'd0bad0bed182', 'd0bad0b8d182', 'e69db1e4baac', 'f09f9880', '61c2a062' ],
		wide => 'd0af',
		bad  => {
			'C1 control'               => '61c28562',
			'trailing no-break space'  => '61c2a0',
			'leading ideographic space' => 'e3808061',
			'direction override'       => '61e280ae62',
		},
	},
	latin1 => {
		encoding => 'LATIN1',
		good => [ 'e9', 'e8', '61a062', 'ff', 'c3a9' ],
		wide => 'e9',
		bad  => {
			'C1 control'              => '618562',
			'trailing no-break space' => '61a0',
			'leading no-break space'  => 'a061',
			'soft hyphen'             => '61ad62',
			'a C1 control at the end' => 'c39f'
		},
	},
	# no encoding: bytes above ASCII have no meaning
	sql_ascii => {
		encoding => 'SQL_ASCII',
		good => [ 'ff', 'fe', '618562', '61a0', 'c3', 'e280ae' ],
		wide => 'e9',
		bad  => { 'control' => '611b62', 'trailing space' => '6120' },
	},
	# 8e begins a katakana of half width; alone it would be a C1 control
	euc_jp => {
		encoding => 'EUC_JP',
		good => [ 'c5ecb5fe', 'c5ecb5fd', '8eb1', '8fb0a1', 'b3f4' ],
		wide => 'c6fc',
		bad  => { 'control' => 'c6fc1b', 'trailing space' => 'c6fc20', 'a slash' => 'c6fc2f' },
	});

$database{icu} = { %{ $database{utf8} }, locale => q{LOCALE_PROVIDER icu ICU_LOCALE 'en-US'} }
  if $node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't';

# The statement that makes text of the database from these bytes.
sub text_of
{
	my ($hex) = @_;
	return "convert_from('\\x$hex', getdatabaseencoding())";
}

my $hex_of = q{encode(convert_to(%s, getdatabaseencoding()), 'hex')};
# The tenants whose rows can be seen, as bytes.
my $seen = sprintf qq{SELECT coalesce(string_agg($hex_of, ',' ORDER BY n), 'nothing') FROM item}, 'tenant_id';

# The answer of the role within a transaction of the tenant.
sub as_tenant
{
	my ($dbname, $hex, $script) = @_;
	return value_as($node, 'app',
		'BEGIN; SELECT platpat.set_tenant(' . text_of($hex) . ") \\g /dev/null\n$script; COMMIT", dbname => $dbname);
}

# Statements that return the message of an error; that it can be read at all says
# that it holds no invalid bytes.
my $message_of = q{
	CREATE FUNCTION message_of(command text, OUT state text, OUT bytes int, OUT valid boolean, OUT message text)
		LANGUAGE plpgsql AS $$ BEGIN
		EXECUTE command;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
		bytes := octet_length(message);
		valid := convert_from(convert_to(message, getdatabaseencoding()), getdatabaseencoding()) = message;
	END $$};

for my $dbname (sort keys %database)
{
	my $of = $database{$dbname};
	my @good = @{ $of->{good} };
	my ($one, $two) = @good;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$of->{encoding}'
		LC_COLLATE 'C' LC_CTYPE 'C' " . ($of->{locale} // ''));
	$node->safe_psql($dbname, "CREATE EXTENSION platpat; $message_of;
		CREATE TABLE item (n serial PRIMARY KEY, tenant_id text);
		SELECT count(*) FROM platpat.protect('item');
		GRANT SELECT, INSERT, UPDATE, DELETE ON item TO app; GRANT USAGE ON SEQUENCE item_n_seq TO app;");
	is($node->safe_psql($dbname, 'SHOW server_encoding'), $of->{encoding}, "$dbname: the encoding");

	# two tenants and more
	as_tenant($dbname, $_, 'INSERT INTO item DEFAULT VALUES') for @good;
	is(as_tenant($dbname, $_, $seen), $_, "$dbname: tenant $_ sees its row") for @good;
	is(as_tenant($dbname, $one, sprintf "SELECT $hex_of", 'platpat.current_tenant()'), $one,
		"$dbname: the tenant is read as it was set");
	is(as_tenant($dbname, $one, sprintf "SELECT $hex_of, platpat.owns_path(platpat.tenant_path('a'))", q{platpat.tenant_path('a')}),
		unpack('H*', 'tenants/') . $one . '2f61|t', "$dbname: its paths");
	refused_as($node, 'app', 'BEGIN; SELECT platpat.set_tenant(' . text_of($one) . '); INSERT INTO item (tenant_id) VALUES ('
		  . text_of($two) . ')', '42501', "$dbname: it cannot write as another", dbname => $dbname);
	refused_as($node, 'app', $seen, '42501', "$dbname: nothing is seen without a tenant", dbname => $dbname);

	# what is no tenant
	refused_as($node, 'app', 'BEGIN; SELECT platpat.set_tenant(' . text_of($of->{bad}{$_}) . ')', '22023',
		"$dbname: refused for a $_", dbname => $dbname)
	  for sort keys %{ $of->{bad} };
	my $width = length($of->{wide}) / 2;
	my $longest = $of->{wide} x (128 / $width);
	is(as_tenant($dbname, $longest, sprintf "SELECT $hex_of", 'platpat.current_tenant()'), $longest,
		"$dbname: 128 bytes are an id");
	refused_as($node, 'app', 'BEGIN; SELECT platpat.set_tenant(' . text_of($_) . ')', '22023',
		"$dbname: more are not", dbname => $dbname)
	  for $longest . '61', '61' . $longest, $longest . $of->{wide};

	# Messages repeat 200 bytes of what was wrong, or less where that is
	# within a character; with each beginning one is.
	my %whole = ("''" => 200, q{'a'} => $width > 1 ? 199 : 200);
	for my $begin (sort keys %whole)
	{
		my $bytes = $whole{$begin};
		my $long = "$begin || repeat(" . text_of($of->{wide}) . ', 300)';
		my %call = (
			'invalid tenant ""' => "platpat.set_tenant($long)",
			'invalid path ""'   => "platpat.tenant_path($long || chr(1))");
		for my $message (sort keys %call)
		{
			is( $node->safe_psql($dbname, "SELECT state, bytes, valid FROM message_of(\$m\$SELECT $call{$message}\$m\$)"),
				'22023|' . (length($message) + $bytes) . '|t', "$dbname: a message is cut between characters: $begin, $message");
		}
	}

	# names of tables and columns
	is( $node->safe_psql($dbname, 'SELECT format($c$CREATE TABLE %1$I (%1$I text)$c$, name) FROM (SELECT '
			  . text_of($one) . ' AS name) n \gexec' . "\n"
			  . 'SELECT count(*) > 0, bool_and(statement = convert_from(convert_to(statement, getdatabaseencoding()), getdatabaseencoding()))'
			  . ' FROM platpat.protect(format($f$%I$f$, ' . text_of($one) . ')::regclass, ' . text_of($one) . '::name)'),
		't|t', "$dbname: a table and a column of such a name are protected");
	is( $node->safe_psql($dbname, 'SELECT string_agg(' . sprintf($hex_of, 'tenant_column::text')
			  . q{, ',' ORDER BY table_name) FROM platpat.protected_tables WHERE protected AND tenant_policy AND tenant_default}),
		unpack('H*', 'tenant_id') . ",$one", "$dbname: both are listed");
	is($node->safe_psql($dbname, 'SELECT count(*) FROM platpat.protect(format($f$%I$f$, ' . text_of($one)
			  . ')::regclass, ' . text_of($one) . '::name) WHERE action !~ $r$index$r$'),
		'0', "$dbname: again there is nothing to do");
}

# ------------------------------------------------------------ a bound role

# Settings of roles are shared by all databases, whatever their encodings.  What
# is an id in one of them may be none in another; then the role has no tenant
# there, and it must not get a choice.
$node->safe_psql('utf8', 'SELECT format($f$ALTER ROLE bound SET platpat.tenant = %L$f$, ' . text_of('c3a0') . ') \gexec');
$node->safe_psql($_, 'GRANT SELECT ON item TO bound') for sort keys %database;
for my $dbname (sort keys %database)
{
	my $set = 'BEGIN; SELECT platpat.set_tenant(' . text_of($database{$dbname}{good}[0]) . ')';
	refused_as($node, 'bound', $set, '42501', "$dbname: a bound role cannot choose a tenant", dbname => $dbname);
}
is(value_as($node, 'bound', sprintf("SELECT $hex_of", 'platpat.current_tenant()'), dbname => 'utf8'), 'c3a0',
	'where the id is valid it is the tenant');

# Bytes that are no text in the encoding of a database are no tenant there: they
# would get into its tables.
$node->safe_psql('latin1', 'SELECT format($f$ALTER ROLE western SET platpat.tenant = %L$f$, ' . text_of('e9') . ') \gexec');
$node->safe_psql('utf8', 'GRANT INSERT ON item TO western; GRANT USAGE ON SEQUENCE item_n_seq TO western');
my ($state) = run_as($node, 'western', 'INSERT INTO item DEFAULT VALUES', dbname => 'utf8');
isnt($state, '', 'the tenant of a role does not bring invalid bytes into a table');
is($node->safe_psql('utf8', q{SELECT count(*) FROM item WHERE (SELECT state FROM message_of(
		format($f$SELECT convert_from(convert_to(tenant_id, 'UTF8'), 'UTF8') FROM item WHERE n = %s$f$, n))) IS NOT NULL}),
	'0', 'all of that table is valid');

# ------------------------------------------------------- dump and restore

my $dump = $node->basedir . '/euc_jp.dump';
my $good = $database{euc_jp}{good};
my $count = @$good;
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('euc_jp') ], 'pg_dump of EUC_JP');
for my $encoding (qw(EUC_JP UTF8))
{
	my $dbname = "restored_\L$encoding";
	$node->safe_psql('postgres',
		"CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr($dbname), $dump ], "restored into $encoding");
	is($node->safe_psql($dbname, 'SELECT count(*), bool_and(protected) FROM platpat.protected_tables'), '2|t',
		"$encoding: the tables are protected");
	is($node->safe_psql($dbname, 'SELECT count(*) FROM item'), $count, "$encoding: all rows are there");
	refused_as($node, 'app', $seen, '42501', "$encoding: and hidden", dbname => $dbname);
	for my $tenant (@$good)
	{
		# the same characters in the encoding of this database
		my $hex = $node->safe_psql('postgres', "SELECT encode(convert('\\x$tenant', 'EUC_JP', '$encoding'), 'hex')");
		is(as_tenant($dbname, $hex, $seen), $hex, "$encoding: but for tenant $tenant");
	}
}

done_testing();
