# The documentation: every code block is run, and the two languages agree.
#
# A page is a script.  Its blocks run in order, in one psql session of a
# superuser in an empty database named shop, on a server of its own roles:
#
#   ```sql    goes to psql.  A comment "-- ERROR <SQLSTATE>: <message>" (or
#             WARNING) on the line after a statement says that it must come;
#             "-- DETAIL: ..." and "-- HINT: ..." may follow.  Any other error
#             or warning fails, and so does one that does not come.
#   ```sh     goes to sh in a copy of the tree.  sudo runs its command as it
#             is, DESTDIR keeps `make install` out of the system, apt-get only
#             says whether it knows the packages.
#   ```text   right after one of these is its output: psql's in quiet mode, or
#             all that sh prints.
#   ```conf   holds lines of postgresql.conf; the settings must exist.
#
# "dry run: <reason>" after the language makes `make` print instead of do, and
# "not run: <reason>" is for what is not to be run, a diagram say; both are
# reported.  Nothing else is left out.
use strict;
use warnings;
use Encode qw(decode_utf8);
use File::Basename;
use File::Path qw(make_path);
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Text is bytes here; only anchors look at characters.

# Pages whose blocks another test runs, because they need clients of their own.
my %elsewhere = map { ("${_}recipes.md" => qr/recipes\.md/) } 'docs/', 'docs/ru/';

my @pages = map { s{^\Q@{[ tree() ]}\E/*}{}r } grep { -f }
  (tree('README.md'), tree('README.ru.md'), tree('src/README.md'),
	sort(glob(tree('docs/*.md')), glob(tree('docs/ru/*.md'))));
for my $name (qw(README.md README.ru.md src/README.md docs/ru/README.md docs/ru/isolation.md),
	map { ("docs/$_.md", "docs/ru/$_.md") } qw(tenant policy ring limit breaker bulkhead event controller consumers worker admin settings))
{
	ok(-f tree($name), "there is $name");
}
my @pairs = ([ 'README.md', 'README.ru.md' ],
	map { -f tree($_ =~ s{^docs/}{docs/ru/}r) ? [ $_, s{^docs/}{docs/ru/}r ] : () }
	  grep { m{^docs/[^/]+$} } @pages);

sub read_text
{
	my ($file) = @_;
	open my $in, '<', $file or die "$file: $!";
	local $/;
	return scalar(<$in>) // '';
}

# ------------------------------------------------------- reading a page

# Headings, code blocks and links of a page, each with its line.
sub parse_page
{
	my ($page) = @_;
	my %found = (name => $page, headings => [], blocks => [], links => [], wrong => []);
	my ($block, $number, $prose_since) = (undef, 0, 1);

	for my $line (split /\n/, read_text(tree($page)))
	{
		$number++;
		if ($block)
		{
			if ($line eq '```') { $block = undef; $prose_since = 0; next; }
			push @{ $block->{lines} }, $line;
		}
		elsif ($line =~ /^```(\w+)(?: (.*))?$/)
		{
			$block = {
				language => $1, note => $2 // '', line => $number, lines => [],
				follows => !$prose_since && @{ $found{blocks} } ? $found{blocks}[-1] : undef
			};
			push @{ $found{blocks} }, $block;
		}
		elsif ($line =~ /^\s*(?:```|~~~)/)
		{
			push @{ $found{wrong} }, "$page:$number: a fence without a language, or indented";
		}
		else
		{
			$prose_since = 1 if $line =~ /\S/;
			push @{ $found{headings} }, [ length $1, $2, $number ] if $line =~ /^(#+) (.*)/;
			push @{ $found{links} }, [ $1, $number ] while $line =~ /\]\(([^)\s]+)\)/g;
		}
	}
	push @{ $found{wrong} }, "$page: the last fence is not closed" if $block;
	return \%found;
}

my %page = map { $_ => parse_page($_) } @pages;

# Places of blocks that say themselves that they are not run, by reason.
my %left_out;

# What a block is for.
sub kind
{
	my ($block) = @_;
	return 'not run' if $block->{note} =~ /^not run: \S/;
	return 'dry run' if $block->{language} eq 'sh' && $block->{note} =~ /^dry run: \S/;
	return 'unknown' if $block->{note} ne '';
	return $block->{language} if $block->{language} =~ /^(?:sql|sh|conf)$/;
	return 'output'
	  if $block->{language} eq 'text'
	  && $block->{follows}
	  && kind($block->{follows}) =~ /^(?:sql|sh)$/;
	return 'unknown';
}

# ------------------------------------------------------- running a page

my $node = new_node('docs', extension => 0);
my $work = PostgreSQL::Test::Utils::tempdir();
my $dest = $ENV{PLAT_DESTDIR} // '';

# A copy of the tree to build in.
my $copy = "$work/tree";
make_path($copy, "$work/bin", "$work/dest");
system('sh', '-c',
	'tar -C "$1" --exclude=.git --exclude=tmp_check --exclude="*.o" --exclude="*.so" -cf - . | tar -C "$2" -xf -',
	'sh', tree(), $copy) == 0 or die 'could not copy the tree';

sub write_program
{
	my ($name, $text) = @_;
	open my $out, '>', "$work/bin/$name" or die "$name: $!";
	print $out "#!/bin/sh\n$text";
	close $out;
	chmod 0755, "$work/bin/$name";
}
write_program('sudo', qq(exec "\$@"\n));
# Without package lists nothing can be said about a package.
write_program('apt-get', <<'END');
[ "$1" = install ] && [ $# -gt 1 ] || exit 2
shift
apt-cache show libc6 >/dev/null 2>&1 || { echo "no package lists" >&2; exit 0; }
for package; do
	apt-cache show "$package" >/dev/null 2>&1 || { echo "no package $package"; exit 1; }
done
END

# The environment of psql and of sh blocks.
sub environment
{
	return (
		PATH => "$work/bin:" . dirname(bindir('psql')) . ":$ENV{PATH}",
		PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'shop',
		PSQLRC => '/dev/null', DESTDIR => "$work/dest",
		MAKEFLAGS => ' -- with_llvm=no', LC_ALL => 'C.UTF-8');
}

sub bindir
{
	my ($program) = @_;
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--bindir' ]);
	return "$dir/$program";
}

sub trimmed
{
	my $text = join "\n", map { s/\s+$//r } split /\n/, $_[0];
	return $text =~ s/^\n+//r =~ s/\n+$//r;
}

# What the comments of a block announce: [level, SQLSTATE, message, {DETAIL,
# HINT}] by the line of the statement, counted in the script.
sub announced
{
	my ($block, $first) = @_;
	my (%expected, $statement, $last);
	my $number = $first - 1;

	for my $line (@{ $block->{lines} })
	{
		$number++;
		if ($line =~ /^-- (ERROR|WARNING) (\w{5}): (.*)/)
		{
			$last = [ $1, $2, $3, {} ];
			push @{ $expected{$statement} }, $last;
		}
		elsif ($last && $line =~ /^-- (DETAIL|HINT): (.*)/)
		{
			$last->[3]{$1} = $2;
		}
		else
		{
			($statement, $last) = ($number, undef);
		}
	}
	return \%expected;
}

# What psql wrote to stderr, in the same form; $wrong gets what is neither.
sub reported
{
	my ($text, $script, $wrong) = @_;
	my (%got, $last);

	for my $line (split /\n/, $text)
	{
		if ($line =~ /^psql:\Q$script\E:(\d+): (\w+):\s+(?:(\w{5}): )?(.*)/)
		{
			my ($at, $level, $state, $message) = ($1, $2, $3, $4);
			$last = [ $level, $state // '', $message, {} ];
			next if $level =~ /^(?:NOTICE|INFO|LOG|DEBUG)$/;
			push @{ $got{$at} }, $last;
		}
		elsif ($last && $line =~ /^(DETAIL|HINT):\s+(.*)/)
		{
			$last->[3]{$1} = $2;
		}
		elsif (!$last)
		{
			push @$wrong, $line;
		}
	}
	return \%got;
}

# Whether a report is the announced one.
sub same_report
{
	my ($want, $have) = @_;
	return 0 if grep { $want->[$_] ne $have->[$_] } 0 .. 2;
	return !grep { ($have->[3]{$_} // '') ne $want->[3]{$_} } keys %{ $want->[3] };
}

sub show_report
{
	my ($report) = @_;
	return "$report->[0] $report->[1]: $report->[2]"
	  . join('', map { " / $_: $report->[3]{$_}" } sort keys %{ $report->[3] });
}

# Differences between the reports of one block, as "page:line: what".
sub compare_reports
{
	my ($page, $block, $want, $have) = @_;
	my @wrong;
	my %lines = map { $_ => 1 } keys %$want, keys %$have;

	for my $at (sort { $a <=> $b } keys %lines)
	{
		my @want = @{ $want->{$at} // [] };
		my @have = @{ $have->{$at} // [] };
		my $place = "$page:" . ($block->{line} + 1 + $at - $block->{first});
		while (@want || @have)
		{
			my ($w, $h) = (shift @want, shift @have);
			next if $w && $h && same_report($w, $h);
			push @wrong, "$place: announced " . show_report($w) if $w;
			push @wrong, "$place: came " . show_report($h) if $h;
		}
	}
	return @wrong;
}

# Write the page as one script for psql; sh blocks become \! commands, so that
# they run at their place.  Returns the name of the script.
sub write_script
{
	my ($page, $dir) = @_;
	my @script;
	my $index = 0;

	for my $block (@{ $page->{blocks} })
	{
		my $kind = kind($block);
		my $file = "$dir/" . $index++;
		$block->{file} = $file;
		next if $kind !~ /^(?:sql|sh|dry run)$/;
		push @script, "\\echo \@\@ $file";
		$block->{first} = @script + 1;
		if ($kind eq 'sql')
		{
			push @script, @{ $block->{lines} };
		}
		else
		{
			open my $out, '>', "$file.sh" or die "$file.sh: $!";
			print $out map { "$_\n" } 'set -e', @{ $block->{lines} };
			close $out;
			my $flags = $kind eq 'dry run' ? 'MAKEFLAGS=n ' : '';
			push @script, "\\! cd $copy && ${flags}sh $file.sh >$file.out 2>$file.err; echo \$? >$file.rc";
		}
	}
	push @script, '\echo @@ end';
	open my $out, '>', "$dir/script.sql" or die "script.sql: $!";
	print $out map { "$_\n" } @script;
	close $out;
	return "$dir/script.sql";
}

# Run a page and return what is wrong with it.
sub run_page
{
	my ($page) = @_;
	my $dir = "$work/" . ($page->{name} =~ tr{/}{_}r);
	make_path($dir);
	my $script = write_script($page, $dir);
	my ($out, $err, @wrong) = ('', '');

	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	local %ENV = (%ENV, environment());
	IPC::Run::run([ bindir('psql'), '-X', '-q', '-v', 'VERBOSITY=verbose', '-f', $script ],
		'<', \'', '>', \$out, '2>', \$err);
	my (undef, %parts) = split /^\@\@ (\S+)\n/m, $out, -1;
	push @wrong, "$page->{name}: psql did not get to the end:\n$err" unless exists $parts{end};
	my $reports = reported($err, $script, \@wrong);
	push @wrong, judge_block($page->{name}, $_, \%parts, $reports) for @{ $page->{blocks} };
	clean_up();
	return \@wrong;
}

# What is wrong with one block, after the page has run.
sub judge_block
{
	my ($name, $block, $parts, $reports) = @_;
	my $kind = kind($block);
	my $place = "$name:$block->{line}";

	return "$place: a block of which the test does not know what to do" if $kind eq 'unknown';
	if ($kind eq 'not run' || $kind eq 'dry run')
	{
		push @{ $left_out{ $block->{note} } }, $place;
		return if $kind eq 'not run';
	}
	if ($kind eq 'sql')
	{
		my ($first, $last) = ($block->{first}, $block->{first} + @{ $block->{lines} });
		my %mine = map { $_ => $reports->{$_} } grep { $_ >= $first && $_ < $last } keys %$reports;
		return compare_reports($name, $block, announced($block, $first), \%mine);
	}
	return judge_sh($place, $block, $kind) if $kind eq 'sh' || $kind eq 'dry run';
	return judge_conf($place, $block) if $kind eq 'conf';

	my $of = $block->{follows};
	my $got = kind($of) eq 'sql' ? $parts->{ $of->{file} } // '' : slurp("$of->{file}.out");
	my ($want, $have) = (trimmed(join "\n", @{ $block->{lines} }), trimmed($got));
	return $want eq $have ? () : "$place: the output is another one:\n$have";
}

sub slurp
{
	return -f $_[0] ? read_text($_[0]) : '';
}

sub judge_sh
{
	my ($place, $block, $kind) = @_;
	my $text = join "\n", @{ $block->{lines} };
	my $status = slurp("$block->{file}.rc");
	my @wrong;

	push @wrong, "$place: failed:\n" . slurp("$block->{file}.out") . slurp("$block->{file}.err")
	  unless $status =~ /^0$/m;
	while ($text =~ /\bTEST=(\S+)/g)
	{
		push @wrong, "$place: there is no test $1"
		  unless grep { -f tree('test', $_) } "sql/$1.sql", "specs/$1.spec", $1;
	}
	push @wrong, "$place: a dry run has nothing but make in it"
	  if $kind eq 'dry run' && grep { !/^(?:make\b|#|$)/ } @{ $block->{lines} };
	return @wrong;
}

# Settings of a ```conf block must exist and take the value.
sub judge_conf
{
	my ($place, $block) = @_;
	my @wrong;

	for my $line (grep { /\S/ && !/^#/ } @{ $block->{lines} })
	{
		my ($setting, $value) = $line =~ /^([\w.]+) = '?(.*?)'?$/
		  or push @wrong, "$place: $line";
		next unless $setting;
		my $known = $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_settings WHERE name = '$setting'");
		push @wrong, "$place: no setting $setting" if $known ne '1';
		push @wrong, "$place: preloads $value"
		  if $setting eq 'shared_preload_libraries' && $value ne 'platpat';
	}
	return @wrong;
}

# Leave a server as if the page had not run.
sub clean_up
{
	my $drop = q{
		SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
			WHERE datname NOT IN ('postgres', 'template0', 'template1')
		UNION ALL
		SELECT format('DROP ROLE %I', rolname) FROM pg_roles
			WHERE rolname <> current_user AND rolname NOT LIKE 'pg\_%'};
	$node->safe_psql('postgres', "$drop \\gexec");
}

# The server finds what the pages install, where that can be told apart from
# what is in the system.
if ($dest ne '')
{
	my $conf = ($ENV{PLAT_CONF} // '') =~ s/\Q$dest\E/$work\/dest/gr;
	local %ENV = (%ENV, environment());
	my $made = IPC::Run::run([ 'make', '-C', $copy, 'install' ], '>', \my $out, '2>', \my $err);
	ok($made, 'the copy of the tree installs') or diag("$out$err");
	$node->append_conf('postgresql.conf', "$conf\n");
	$node->restart;
}

for my $name (@pages)
{
	if ($elsewhere{$name})
	{
		my @tests = grep { !/040_docs/ && slurp($_) =~ $elsewhere{$name} } glob tree('test/t/*.pl');
		ok(@tests, "another test runs $name") and note("$name: $tests[0]");
		next;
	}
	none($page{$name}{wrong}, "$name: fences");
	none(run_page($page{$name}), "$name: every block does what the page says");
}

diag(map { "$_: @{ $left_out{$_} }\n" } sort keys %left_out);

# ------------------------------------------------------- both languages

sub blocks_of
{
	my ($page) = @_;
	return map { join "\n", "$_->{language} $_->{note}", @{ $_->{lines} } } @{ $page->{blocks} };
}

for my $pair (@pairs)
{
	my ($one, $other) = map { $page{$_} } @$pair;
	is( join(' ', map { $_->[0] } @{ $other->{headings} }),
		join(' ', map { $_->[0] } @{ $one->{headings} }),
		"$pair->[1] has the headings of $pair->[0]");
	my @one = blocks_of($one);
	my @other = blocks_of($other);
	is(scalar @other, scalar @one, "$pair->[1] has the code blocks of $pair->[0]");
	none(
		[ map { "$pair->[1]:$other->{blocks}[$_]{line}" }
			grep { $_ < @other && $one[$_] ne $other[$_] } 0 .. $#one ],
		"the code blocks of $pair->[1] are those of $pair->[0]");
}

for my $name (grep { -f tree($_) } 'README.md', 'README.ru.md')
{
	my @lines = split /\n/, read_text(tree($name));
	cmp_ok(scalar @lines, '<=', 250, "$name has at most 250 lines");
}
for my $name (grep { -f tree($_) } map { "docs/ru/$_.md" } qw(isolation tenant policy ring limit breaker bulkhead event controller))
{
	my @pattern = qw(Проблема Решение Диаграмма Код Плюсы Минусы);
	push @pattern, 'Когда использовать', 'Метрики';
	my @found = map { $_->[1] } grep { $_->[0] == 2 } @{ $page{$name}{headings} };
	is(join(', ', @found[ 0 .. $#pattern ]), join(', ', @pattern), "$name is a pattern page");
}

# ------------------------------------------------------- links

# The anchor that a heading gets: GitHub's rule.
sub anchor
{
	my ($heading) = @_;
	my $slug = lc(decode_utf8($heading) =~ s/[`*]//gr);
	$slug =~ s/[^\w\- ]//g;
	return $slug =~ tr/ /-/r;
}

my @dead;
for my $name (@pages)
{
	for my $link (@{ $page{$name}{links} })
	{
		my ($target, $line) = @$link;
		next if $target =~ /^https?:/;
		my ($file, $anchor) = $target =~ /^([^#]*)(?:#(.*))?$/;
		my $path = $file eq '' ? $name : dirname($name) . "/$file";
		$path =~ s{^\./}{};
		1 while $path =~ s{[^/]+/\.\./}{};
		if (!-e tree($path)) { push @dead, "$name:$line: $target"; next; }
		next unless defined $anchor && $page{$path};
		push @dead, "$name:$line: $target"
		  unless grep { anchor($_->[1]) eq decode_utf8($anchor) } @{ $page{$path}{headings} };
	}
}
none(\@dead, 'internal links lead somewhere');

# ------------------------------------------------------- reference

$node->safe_psql('postgres', 'CREATE EXTENSION platpat');

sub rows
{
	return split /\n/, $node->safe_psql('postgres', $_[0]);
}

my $english = join "\n", map { read_text(tree($_)) } grep { !m{/ru/|\.ru\.} } @pages;
my $russian = join "\n", map { read_text(tree($_)) } grep { m{/ru/|\.ru\.} } @pages;
my %language = (English => $english, Russian => $russian);

# Settings: | `platpat.x` | values | default | context |
for my $name (grep { -f tree($_) } 'docs/settings.md', 'docs/ru/settings.md')
{
	my %row = map { /^\| `(platpat\.\w+)` \| (.*?) \| (.*?) \| (.*?) \|/ ? ($1 => "$2 | $3 | $4") : () }
	  split /\n/, read_text(tree($name));
	my %want = map { split /\t/, $_, 2 } rows(q{
		SELECT name || E'\t' || concat_ws(' | ',
			CASE vartype WHEN 'enum' THEN
				(SELECT string_agg(format('`%s`', v), ', ' ORDER BY i) FROM unnest(enumvals) WITH ORDINALITY u(v, i))
				WHEN 'bool' THEN '`on`, `off`' ELSE vartype END,
			format('`%s`', CASE boot_val WHEN '' THEN '''''' ELSE boot_val END), context)
		FROM pg_settings WHERE name LIKE 'platpat.%'});
	is_deeply(\%row, \%want, "$name: settings are those of pg_settings") or diag(explain \%row);
}

# README: | `f(arguments)`, `g(arguments)` | result | who, where PUBLIC means every
# role |
for my $name (grep { -f tree($_) } 'README.md', 'README.ru.md')
{
	my %row;
	for my $line (split /\n/, read_text(tree($name)))
	{
		my ($functions, $who) = $line =~ /^\| (`\w+\([^|]*) \| .*? \| (PUBLIC)?/ or next;
		$row{$_} = $who ? 't' : 'f' for $functions =~ /`(\w+)\(/g;
	}
	my %want = map { split / / } rows(q{
		SELECT DISTINCT proname || ' ' || has_function_privilege('public', oid, 'EXECUTE')::text::char
		FROM pg_proc WHERE pronamespace = 'platpat'::regnamespace
		AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND proname <> 'check_install'});
	is_deeply(\%row, \%want, "$name: functions and who may call them") or diag(explain \%row);
}

# Functions: `platpat.f(arguments) RETURNS type` and, in the same paragraph,
# volatility, parallel safety, LEAKPROOF and EXECUTE: <roles>.
my @functions = rows(q{
	SELECT concat_ws(E'\t', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
		CASE provolatile WHEN 'v' THEN 'VOLATILE' WHEN 's' THEN 'STABLE' ELSE 'IMMUTABLE' END,
		CASE proparallel WHEN 's' THEN 'PARALLEL SAFE' WHEN 'r' THEN 'PARALLEL RESTRICTED' ELSE 'PARALLEL UNSAFE' END,
		proleakproof, has_function_privilege('public', p.oid, 'EXECUTE'))
	FROM pg_proc p WHERE p.pronamespace = 'platpat'::regnamespace ORDER BY 1});
for my $which (sort keys %language)
{
	my (@missing, @wrong);
	for my $function (@functions)
	{
		my ($name, $arguments, $result, $volatility, $parallel, $leakproof, $public) = split /\t/, $function;
		$arguments =~ s/::\w+(?: precision)?(?:\[\])?//g;
		my @out = map { s/ DEFAULT .*//r } $arguments =~ /OUT ([^,]+)/g;
		$arguments =~ s/\bINOUT //g;
		$arguments =~ s/(?:, )?\bOUT [^,]+//g;
		$result = 'TABLE (' . join(', ', @out) . ')' if @out;
		my $signature = "platpat.$name($arguments) RETURNS $result";
		my ($paragraph) = $language{$which} =~ /^(.*`\Q$signature\E`.*?)\n\n/ms;
		if (!defined $paragraph) { push @missing, $signature; next; }
		$paragraph =~ s/^.*\n\n//s;
		for my $word ($volatility, $parallel, $leakproof eq 't' ? 'LEAKPROOF' : ())
		{
			push @wrong, "$signature: $word" unless $paragraph =~ /\b$word\b/;
		}
		push @wrong, "$signature: LEAKPROOF" if $leakproof eq 'f' && $paragraph =~ /LEAKPROOF/;
		push @wrong, "$signature: EXECUTE" unless $paragraph =~ /EXECUTE: (PUBLIC|\S+)/ && ($1 =~ /^PUBLIC/) == ($public eq 't');
	}
	none(\@missing, "$which: every function is described");
	none(\@wrong, "$which: functions are described as they are");
	none(
		[ grep { $language{$which} !~ /`(?:platpat\.)?\Q$_\E`/ }
			rows(q{SELECT relname FROM pg_class WHERE relnamespace = 'platpat'::regnamespace AND relkind IN ('r', 'v')
				UNION ALL SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'platpat%'}) ],
		"$which: every table, view and event trigger is mentioned");
}

done_testing();
