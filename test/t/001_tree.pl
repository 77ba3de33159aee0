# What can be said about the tree and the built library without a server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @sources = sort(glob tree('src/*.[ch]'));
my @headers = grep { /\.h$/ } @sources;
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';

# "src/x.c:12" for a position in a file
sub place
{
	my ($file, $text, $offset) = @_;
	my $line = 1 + (substr($text, 0, $offset) =~ tr/\n//);
	return ($file =~ s{.*/(?=src/)}{}r) . ":$line";
}

# Every place in the files where the pattern stands.
sub places
{
	my ($pattern, @files) = @_;
	my @found;

	for my $file (@files)
	{
		my $text = slurp_file($file);
		push @found, place($file, $text, $-[0]) while $text =~ /$pattern/g;
	}
	return \@found;
}

# The text of a call, from its name to the parenthesis that closes it.
sub call_at
{
	my ($text, $offset) = @_;
	my $depth = 0;

	pos($text) = $offset;
	while ($text =~ /("(?:[^"\\]|\\.)*"|[()])/g)
	{
		$depth++ if $1 eq '(';
		$depth-- if $1 eq ')';
		return substr($text, $offset, pos($text) - $offset) if $1 eq ')' && !$depth;
	}
	return substr($text, $offset);
}

cmp_ok(scalar @sources, '>', 0, 'there are sources');

# Other extensions in the same backend share our symbol table.
my ($symbols) = run_command([ 'nm', '-D', '--defined-only', library() ]);
my @foreign = grep { !/^(plat_\w+|pg_finfo_plat_\w+|_PG_\w+|Pg_magic_func)$/ }
  map { (split ' ')[-1] } split /\n/, $symbols;
like($symbols, qr/ Pg_magic_func$/m, 'the library is one of PostgreSQL');
none(\@foreign, 'exported symbols carry our prefix');

my ($include) = run_command([ $pg_config, '--includedir-server' ]);
my ($cppflags) = run_command([ $pg_config, '--cppflags' ]);
for my $header (@headers)
{
	my $name = $header =~ s{.*/}{}r;
	my ($out, $err);
	my $ok = IPC::Run::run(
		[
			'gcc', '-fsyntax-only', '-Wall', '-Werror', '-x', 'c',
			split(' ', $cppflags), "-I$include", '-I' . tree('src'), '-'
		],
		'<', \qq(#include "postgres.h"\n#include "$name"\n),
		'>', \$out, '2>', \$err);
	ok($ok, "$name compiles alone after postgres.h") or diag($err);
}

none(places(qr/PG_VERSION_NUM/, grep { !/compat\.h$/ } @sources),
	'only compat.h knows the version of PostgreSQL');
none(places(qr/\bgoto\b|\bTODO\b|\bFIXME\b|\bXXX\b/, @sources),
	'no goto and nothing left to do');

my @without;
for my $file (@sources)
{
	my $text = slurp_file($file);
	while ($text =~ /\bereport\s*\(\s*(?:ERROR|FATAL|PANIC)\b/g)
	{
		my $offset = $-[0];
		push @without, place($file, $text, $offset)
		  if call_at($text, $offset) !~ /\berrcode\w*\s*\(/;
	}
}
none(\@without, 'every error has an errcode');

# The version is stated in the control file; the others repeat it.
my ($version) = slurp_file(tree('platpat.control')) =~ /^default_version = '(.*)'/m;
like($version, qr/^\d+\.\d+\.\d+$/, 'the version is a semantic one');
my $meta = decode_json(slurp_file(tree('META.json')));
is($meta->{version}, $version, 'META.json has the version');
is($meta->{provides}{platpat}{version}, $version, 'META.json provides the version');
my ($changed) = slurp_file(tree('CHANGELOG.md')) =~ /^## (\S+)/m;
is($changed, $version, 'CHANGELOG.md begins with the version');
cmp_ok(index(slurp_file(library()), "$version\0"), '>', 0, 'the library knows the version');

# PGXN Meta Spec 1.0.0, section "Required Fields"
for my $field (qw(name version abstract maintainer license provides meta-spec))
{
	ok($meta->{$field}, "META.json has $field");
}
is($meta->{'meta-spec'}{version}, '1.0.0', 'META.json follows the PGXN Meta Spec');
for my $provided (values %{ $meta->{provides} })
{
	ok(-f tree($provided->{$_}), "META.json names a $_ that exists") for qw(file docfile);
}

done_testing();
