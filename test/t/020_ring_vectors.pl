# The owner of a key is what everybody else says it is: vectors that the
# algorithms' own projects publish, real HASH partitions, and the reference
# clients in other languages (test/clients), weights and all.
use strict;
use warnings;
use Digest::MD5 qw(md5 md5_hex);
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use JSON::PP;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
no warnings 'portable';    # numbers of 64 bits

my $node = new_node('vectors', init => [ extra => [ '--locale=C', '--encoding=UTF8' ] ]);
my $sql = sub { $node->safe_psql($_[1] // 'postgres', $_[0]) };

# An SQL array of texts that have no quotes in them.
sub texts { return 'ARRAY[' . join(',', map { "'$_'" } @_) . ']' }

# --------------------------------------------------------------------- ketama
#
# libketama's test prints hash, point and server of a million keys; its
# test.sh knows the MD5 of all that.  Here the same continuum is computed in
# Perl.  Single precision is where the C has float.

sub single { return unpack 'f', pack 'f', $_[0] }

# The points of servers (name, memory)...: [point, name] in order.
sub continuum
{
	my @servers = @_;
	my ($total, @points) = (0);

	$total += $servers[ $_ * 2 + 1 ] for 0 .. $#servers / 2;
	for (my $i = 0; $i < @servers; $i += 2)
	{
		my $share = single(single($servers[ $i + 1 ]) / single($total));
		my $groups = int(single($share * 40.0 * (@servers / 2)));
		for my $k (0 .. $groups - 1)
		{
			push @points, map { [ $_, $servers[$i] ] } unpack 'V4', md5("$servers[$i]-$k");
		}
	}
	return [ sort { $a->[0] <=> $b->[0] } @points ];
}

# The point that owns a place: the first not before it.
sub owner
{
	my ($points, $place) = @_;
	my ($low, $high) = (0, scalar @$points);

	while ($low < $high)
	{
		my $middle = ($low + $high) >> 1;
		if ($points->[$middle][0] < $place) { $low = $middle + 1 }
		else { $high = $middle }
	}
	return $points->[ $low % @$points ];
}

sub place { return unpack 'V', md5($_[0]) }

sub create_weighted
{
	my ($ring, $algorithm, @servers) = @_;

	$sql->(qq{SELECT platpat.create_ring('$ring', '$algorithm')});
	while (my ($name, $weight) = splice @servers, 0, 2)
	{
		$sql->(qq{SELECT platpat.add_shard('$name', '$ring', $weight)});
	}
	return;
}

my @servers = map { ("10.0.1.$_->[0]:11211", $_->[1]) }
  ([ 1, 600 ], [ 2, 300 ], [ 3, 200 ], [ 4, 350 ], [ 5, 1000 ], [ 6, 800 ], [ 7, 950 ], [ 8, 100 ]);
my $points = continuum(@servers);
my ($printed, $owners) = (Digest::MD5->new, Digest::MD5->new);
$printed->add("\n");
for my $key (0 .. 999_999)
{
	my $place = place($key);
	my $owner = owner($points, $place);
	$printed->add("$place $owner->[0] $owner->[1]\n");
	$owners->add("$owner->[1]\n");
}
is($printed->hexdigest, '5672b131391f5aa2b280936aec1eea74',
	'what is computed here is what libketama prints');
create_weighted('libketama', 'ketama', @servers);
is( $sql->(q{SELECT md5(string_agg(platpat.shard_for(i, 'libketama') || E'\n', '' ORDER BY i))
		FROM generate_series(0::bigint, 999999) i}),
	$owners->hexdigest, 'shard_for gives the servers of libketama for 1,000,000 keys');

# Its Python binding's test.
my @two = ('127.0.0.1:11211', 600, '127.0.0.1:11212', 400);
$points = continuum(@two);
is(place('test'), 3446378249, 'ketama: the place of a key');
is(scalar @$points, 320, 'ketama: the number of points');
is_deeply(owner($points, place('test')), [ 3454255383, '127.0.0.1:11211' ], 'ketama: its owner');
create_weighted('python_ketama', 'ketama', @two);
is($sql->(q{SELECT platpat.shard_for('test', 'python_ketama')}), '127.0.0.1:11211',
	'ketama: shard_for says the same');

# The points of each server show in its share: exactly the sum of its arcs.
my %arcs;
$arcs{ $points->[$_][1] } += ($points->[$_][0] - ($_ ? $points->[ $_ - 1 ][0] : $points->[-1][0] - 2**32)) / 2**32
  for 0 .. $#$points;
for my $server (sort keys %arcs)
{
	is( $sql->(qq{SELECT abs(share - $arcs{$server}) < 1e-9 FROM platpat.ring_share('python_ketama')
			WHERE shard = '$server'}), 't', "ketama: the share of $server");
}

# ----------------------------------------------------------------------- jump

# go-jump, "generated from the reference C++ code": per key the buckets of 1 to
# 19 buckets; then one list that Guava has: keys 0 to 19 over 100 buckets.
my %jump = (
	'0'                  => '0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0',
	'1'                  => '0,0,0,0,0,0,6,6,6,6,6,6,6,6,6,6,6,17,17',
	'3735928559'         => '0,1,2,3,3,5,5,5,5,5,5,5,5,5,5,5,16,16,16',
	'998690804919562253' => '0,1,2,2,2,2,2,2,2,2,2,2,2,2,2,15,15,15,15');
is(0x0ddc0ffeebadf00d, 998690804919562253, 'the fourth key of go-jump');
for my $key (sort keys %jump)
{
	is( $sql->(qq{SELECT string_agg(platpat.jump_hash($key, n)::text, ',' ORDER BY n) FROM generate_series(1, 19) n}),
		$jump{$key}, "jump: key $key of go-jump");
}
is( $sql->(q{SELECT string_agg(platpat.jump_hash(k, 100)::text, ',' ORDER BY k) FROM generate_series(0, 19) k}),
	'0,55,62,8,45,59,86,97,82,59,73,37,17,56,86,21,90,37,38,83', 'jump: keys 0 to 19 of Guava');

# The other vectors of Guava, and those of lithammer/go-jump-consistent-hash.
for my $vector (
	[ '10863919174838991', 11, 6 ], [ '2016238256797177309', 11, 3 ],
	[ '1673758223894951030', 11, 5 ], [ 2, 100001, 80343 ], [ 2201, 100001, 22152 ],
	[ 2202, 100001, 15018 ], [ 42, 57, 43 ], [ 0xDEAD10CC, 666, 361 ], [ 256, 1024, 520 ])
{
	my ($key, $buckets, $bucket) = @$vector;
	is($sql->("SELECT platpat.jump_hash($key, $buckets)"), $bucket, "jump: $key over $buckets");
}

# ---------------------------------------------------------------------- xxh64

# cespare/xxhash; the last has 63 bytes, "which exercises all code paths".
my %xxh64 = (
	''     => 'ef46db3751d8e999',
	'a'    => 'd24ec4f1a98c6e5b',
	'as'   => '1c330fb2d66be179',
	'asd'  => '631c37ce72a97393',
	'asdf' => '415872f599cea71e',
	'Call me Ishmael. Some years ago--never mind how long precisely-' => '02a2e85470d6fd96');
for my $text (sort keys %xxh64)
{
	is($sql->("SELECT lpad(to_hex(platpat.xxh64('$text')), 16, '0')"), $xxh64{$text}, "xxh64: '$text'");
}

# Vitess writes the least significant byte first.
my %vitess = (test1 => 'd01ab7e4d6978f0b', 1 => 'd46405367612b4b7', -1 => 'd8e2a6a7c8c7623d');
for my $text (sort keys %vitess)
{
	my $expected = unpack 'H*', reverse pack 'H*', $vitess{$text};
	is($sql->("SELECT lpad(to_hex(platpat.xxh64('$text')), 16, '0')"), $expected, "xxh64: '$text' of Vitess");
}

# xxHash's own sanity check, which is not of text: 14 generated bytes.
$sql->(q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0});
$sql->('CREATE EXTENSION platpat', 'bytes');
my $prime = 2654435761;
my ($generator, $buffer) = ($prime, '');
for (1 .. 14)
{
	$buffer .= chr($generator >> 24);
	$generator = ($generator * $generator) & 0xffffffff;
}
for my $vector (
	[ 0, $prime, 'ac75fda2929b17ef' ], [ 1, 0, '4fce394cc88952d8' ],
	[ 1, $prime, '739840cb819fa723' ], [ 14, 0, 'cffa8db881bc3a3d' ],
	[ 14, $prime, '5b9611585efcc9cb' ])
{
	my ($length, $seed, $hash) = @$vector;
	my $hex = unpack 'H*', substr $buffer, 0, $length;
	is( $sql->("SELECT to_hex(platpat.xxh64(convert_from('\\x$hex', 'SQL_ASCII'), $seed))", 'bytes'),
		$hash, "xxh64: $length bytes of xxHash with seed $seed");
}

# --------------------------------------------------------------------- maglev

# Envoy's test: a table of 7 entries.  Every key of an entry has its owner.
my @hosts = map { "127.0.0.1:$_" } 90 .. 95;
my @table = (2, 4, 0, 1, 5, 0, 3);
my $unsigned = '(%s::numeric + CASE WHEN %1$s < 0 THEN 18446744073709551616 ELSE 0 END)';
my $hash = sprintf $unsigned, 'platpat.xxh64(i::text)';
is( $sql->(sprintf q{SELECT %s %% 7, string_agg(DISTINCT platpat.maglev_hash(i::text, %s, 7), ' ')
		FROM generate_series(1, 1000) i GROUP BY 1 ORDER BY 1}, $hash, texts(reverse @hosts)),
	join("\n", map { "$_|$hosts[$table[$_]]" } 0 .. 6), 'maglev: the table of Envoy');

# --------------------------------------------------- modulo, partitions of core

is($sql->("SELECT count(*) FROM generate_series(1, 1000) i WHERE platpat.modulo_hash(i::text, 13) <> $hash % 13"),
	'0', 'modulo: the unsigned hash modulo the number of shards');

my %keys = (
	text   => q{md5(i::text) || repeat('ü', i % 40)},
	uuid   => q{md5(i::text)::uuid},
	bigint => q{i * 9007199254740993 * (i % 3 - 1)},
	int    => q{(i * 2147483 * (i % 3 - 1))::int});
for my $type (sort keys %keys)
{
	for my $modulus (13, 16)
	{
		my $remainder = sprintf($unsigned, 'platpat.partition_hash(k)') . " % $modulus";
		my $parts = join '', map {
			"CREATE TABLE part_${type}_${modulus}_$_ PARTITION OF part_${type}_$modulus
			 FOR VALUES WITH (MODULUS $modulus, REMAINDER $_);"
		} 0 .. $modulus - 1;
		is( $sql->(qq{
				CREATE TABLE part_${type}_$modulus (k $type) PARTITION BY HASH (k); $parts
				INSERT INTO part_${type}_$modulus SELECT $keys{$type} FROM generate_series(1, 1000) i;
				SELECT count(*), count(*) FILTER (WHERE tableoid::regclass::text <> 'part_${type}_${modulus}_' || $remainder),
					count(DISTINCT tableoid) FROM part_${type}_$modulus}),
			"1000|0|$modulus", "partition_hash: 1000 keys of type $type over $modulus real partitions");
	}
}
$sql->('SELECT platpat.create_ring(' . q{'partitions', 'modulo', hash => 'partition', shards => }
	  . texts(map { "part_text_13_$_" } 0 .. 12) . ')');
is( $sql->(q{SELECT count(*), count(*) FILTER (WHERE platpat.shard_for(k, 'partitions') <> tableoid::regclass::text)
		FROM part_text_13}), '1000|0', 'a modulo ring by partition hash has the partitions as shards');

# ----------------------------------------------------------------- rendezvous

# go-rendezvous: xorshift* of the hashes' exclusive or; the first greatest wins.
sub product
{
	my ($left, $right) = @_;
	my $product = do { use integer; $left * $right };
	return $product & ~0;
}

sub mix
{
	my ($x) = @_;
	$x ^= $x >> 12;
	$x ^= ($x << 25) & ~0;
	$x ^= $x >> 27;
	return product($x, 2685821657736338717);
}
is(product(0xdeadbeefcafebabe, 0x123456789abcdef1), 0xca165e3e6f4690de, 'multiplication modulo 2^64')
  or BAIL_OUT('Perl cannot multiply');

my @shards = map { "shard-$_" } 0 .. 15;
my ($of_shards, $of_keys) = map {
	[ map { 0 + $_ } split /\n/, $sql->(sprintf "SELECT $unsigned FROM %s", 'platpat.xxh64(t)', $_) ]
} ('unnest(' . texts(@shards) . ') t', q{(SELECT 'tenant-' || i FROM generate_series(1, 1000) i) k(t)});
my @best = map {
	my ($hash, $best, $most) = ($_, 0, -1);
	for my $i (0 .. $#shards)
	{
		my $score = mix($hash ^ $of_shards->[$i]);
		($best, $most) = ($i, $score) if $most == -1 || $score > $most;
	}
	$shards[$best];
} @$of_keys;
is( $sql->(sprintf q{SELECT platpat.rendezvous_hash('tenant-' || i, %s) FROM generate_series(1, 1000) i},
		texts(@shards)),
	join("\n", @best), 'rendezvous: the shards of go-rendezvous for 1000 keys');

# ---------------------------------------------------------- reference clients

# Names that compare differently as bytes, as UTF-16 and in a locale; positions
# that are not in the order of names.
my @names = ('b', 'B', 'shard 9', 'shard-10', "\x{e4}\x{df}", "\x{ff21}", "\x{1f418}", 'a:1', 'a');
my %weights = (
	even   => [ (1) x 9 ],
	seldom => [ 0.5, 3, 0, 2.03, 1, 10, 0.25, 1, 7 ],
	halves => [ 0.5, 1.5, 2.5, 3.5, 4.5, 0.5, 1.5, 2.5, 1 ],
	double => [ (2) x 9 ]);
my %settings = (
	md5        => [ 'virtual_nodes => 150', 'virtual_nodes => 1', 'virtual_nodes => 42' ],
	ketama     => [''],
	rendezvous => [''],
	maglev     => [ '', 'table_size => 65539' ],
	jump       => [''],
	modulo     => ['']);
my @rings;
for my $algorithm (sort keys %settings)
{
	for my $setting (@{ $settings{$algorithm} })
	{
		for my $weights (sort keys %weights)
		{
			next if $algorithm =~ /jump|modulo/ && $weights ne 'even';
			my $ring = join ' ', $algorithm, $weights, $setting =~ /(\d+)/g;
			push @rings, $ring;
			$sql->("SELECT platpat.create_ring('$ring', '$algorithm'" . ($setting && ", $setting") . ')');
			for my $i (0 .. $#names)
			{
				my $name = $names[$i];
				utf8::encode($name);
				$sql->("SELECT platpat.add_shard('$name', '$ring', $weights{$weights}[$i])");
			}
		}
	}
}
$sql->(q{CREATE TABLE keys AS SELECT i AS n, CASE i % 5
	WHEN 0 THEN 'tenant-' || i WHEN 1 THEN i::text WHEN 2 THEN md5(i::text)::uuid::text
	WHEN 3 THEN repeat(chr(200 + i), 1 + i % 30) ELSE chr(127744 + i % 200) || ' ' || repeat('x', i % 100) END AS key
	FROM generate_series(1, 2000) i});

# What a client has to know of a ring, as a line of JSON.
my %described = map {
	$_ => $sql->(qq{
		SELECT jsonb_build_object('algorithm', algorithm, 'virtual_nodes', virtual_nodes, 'table_size', table_size,
			'shards', (SELECT jsonb_agg(jsonb_build_array(shard, weight) ORDER BY position)
				FROM platpat.shards s WHERE s.ring = r.ring),
			'keys', (SELECT jsonb_agg(key ORDER BY n) FROM keys))
		FROM platpat.rings r WHERE ring = '$_'})
} @rings;
# Each ring's answers of the database, as a list.
my %answers = map {
	$_ => decode_json($sql->("SELECT jsonb_agg(platpat.shard_for(key, '$_') ORDER BY n) FROM keys"))
} @rings;
cmp_ok(scalar(grep { my %seen; $seen{$_}++ for @{ $answers{$_} }; keys %seen >= 6 } @rings), '==', scalar @rings,
	'the keys of a ring are spread over its shards');

# Another python3 in the PATH may be too old or too new for what is tested.
my %clients = (Python => [ '/usr/bin/python3', 'ring.py' ], JavaScript => [ 'node', 'ring.js' ]);
for my $language (sort keys %clients)
{
	my ($program, $file) = @{ $clients{$language} };
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ $program, tree('test/clients', $file) ],
		'<', \join("\n", @described{@rings}, ''), '>', \$out, '2>', \$err);
	ok($ok, "$language: the client runs") or diag($err);
	my @lines = split /\n/, $out;
	for my $ring (@rings)
	{
		my $theirs = decode_json(shift @lines // '[]');
		my $ours = $answers{$ring};
		my @other = grep { ($theirs->[$_] // '') ne $ours->[$_] } 0 .. $#$ours;
		is(scalar @other, 0, "$language: the owners of 2000 keys on ring \"$ring\"");
	}
}

# The rings are not just all alike: weights move keys.
for my $ring (grep { / seldom/ } @rings)
{
	my $even = $answers{ $ring =~ s/seldom/even/r };
	cmp_ok(scalar(grep { $answers{$ring}[$_] ne $even->[$_] } 0 .. 1999), '>', 300, "$ring: weights count");
}

# ------------------------------------------------- the 50 keys of docs/ring.md

my @algorithms = qw(md5 ketama rendezvous maglev jump modulo);
$sql->("SELECT platpat.create_ring('golden $_', '$_', shards => " . texts(@shards) . ')') for @algorithms;

# The first table of a page whose header begins with key: rows of cells.
sub golden_table
{
	my ($text) = @_;
	my ($table) = $text =~ /^(\| key \|.*\n(?:\|.*\n)+)/m;
	my @rows = map { [ map { s/^ | $//gr } (split /\|/, $_)[ 1 .. 7 ] ] } split /\n/, $table // '';

	splice @rows, 1, 1;
	return \@rows;
}

my ($printed_table) = run_command([ '/usr/bin/python3', tree('test/clients/golden.py') ]);
my $golden = golden_table("$printed_table\n");
is_deeply(shift @$golden, [ 'key', @algorithms ], 'golden.py: one column for each algorithm');
is(scalar @$golden, 50, 'golden.py: 50 keys');
my $said = [ map {
	my $key = $_->[0];
	[ $key, split /\|/, $sql->('SELECT ' . join(',', map { "platpat.shard_for('$key', 'golden $_')" } @algorithms)) ]
} @$golden ];
is_deeply($said, $golden, 'golden.py: the database says the same');
for my $page ('docs/ring.md', 'docs/ru/ring.md')
{
	my $table = -f tree($page) ? golden_table(slurp_file(tree($page))) : [];
	shift @$table;
	is_deeply($table, $golden, "$page: the table of 50 keys is what golden.py prints");
}

done_testing();
