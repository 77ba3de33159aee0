# psql sessions that stay open, so that a test decides in which order their
# statements run.  PostgreSQL::Test::BackgroundPsql connects to nodes only;
# these connect to anything, a pooler included.
package PlatSession;

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Utils;

# PlatSession->new($connstr): an open session; dies when it cannot connect.
sub new
{
	my ($class, $connstr) = @_;
	my $self = bless { in => '', out => '', err => '', asked => 0 }, $class;

	$self->{run} = IPC::Run::start(
		[
			'psql', '--no-psqlrc', '--quiet', '--no-align', '--tuples-only',
			'--file', '-', '--set', 'VERBOSITY=sqlstate', '--dbname', $connstr
		],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		$self->{timer} =
		  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$self->ask('');
	return $self;
}

# A session of a role in a node's database.
sub of
{
	my ($class, $node, $role, $dbname) = @_;

	return $class->new($node->connstr($dbname // 'postgres') . " user=$role");
}

# Start a script without waiting for its end.
sub tell
{
	my ($self, $sql) = @_;

	$self->{asked}++;
	$self->{in} .= "$sql\n;\n\\echo 'end $self->{asked}'\n\\warn 'end $self->{asked}'\n";
	$self->{run}->pump_nb;
	return $self;
}

# Wait for the script: its output, or 'ERROR <SQLSTATE>' of its last error.
sub answer
{
	my ($self) = @_;
	my $end = qr/^end $self->{asked}\n/m;

	until ($self->{out} =~ $end && $self->{err} =~ $end)
	{
		die "the session is gone: $self->{err}" if !$self->{run}->pumpable;
		$self->{run}->pump;
	}
	my $out = $self->{out} =~ s/$end//r;
	$self->{said} = $self->{err} =~ s/$end//r;
	$self->{out} = $self->{err} = '';
	$out =~ s/\n\z//;
	my @states = $self->{said} =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5})/g;
	return @states ? "ERROR $states[-1]" : $out;
}

sub ask
{
	my ($self, $sql) = @_;

	return $self->tell($sql)->answer;
}

# Everything that the last script wrote to stderr: warnings too.
sub said
{
	return $_[0]{said};
}

# Take leave, as a client that exits normally does.
sub quit
{
	my ($self) = @_;

	$self->{in} .= "\\q\n";
	$self->{run}->finish;
	delete $self->{run};
	return;
}

# Vanish, as a client that is killed does.
sub vanish
{
	my ($self) = @_;

	$self->{run}->kill_kill(grace => 0);
	delete $self->{run};
	return;
}

sub DESTROY
{
	my ($self) = @_;

	$self->{run}->kill_kill(grace => 0) if $self->{run};
	return;
}

1;
