# Migrations stay possible under FORCE ROW LEVEL SECURITY: the owner alters
# tables as before, foreign keys are checked for the rows of all tenants, bulk
# loads and backfills have a way, and nothing of that leaves the owner with more
# than its tenant, nor makes anybody wait without need.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('migrate');

$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE landlord LOGIN;
	CREATE ROLE neighbour LOGIN;
	CREATE ROLE deployer LOGIN IN ROLE landlord;
	ALTER SCHEMA public OWNER TO landlord;
	GRANT CREATE ON SCHEMA public TO neighbour;
	CREATE SCHEMA yard AUTHORIZATION landlord;
	GRANT USAGE ON SCHEMA yard TO app;
	SELECT platpat.grant_admin('landlord');
	SET SESSION AUTHORIZATION landlord;
	CREATE TABLE customer (tenant_id text, id int, PRIMARY KEY (tenant_id, id));
	CREATE TABLE invoice (tenant_id text, n int, customer int);
	INSERT INTO customer SELECT t, n FROM unnest('{acme,zeta}'::text[]) t, generate_series(1, 3) n;
	INSERT INTO invoice SELECT tenant_id, 10 * id, id FROM customer;
	INSERT INTO invoice VALUES ('zeta', 990, 99);
	SELECT platpat.protect(t) FROM unnest('{customer,invoice}'::regclass[]) t;
	GRANT SELECT, INSERT, UPDATE, DELETE ON customer, invoice TO app;});

my $owner = PlatSession->of($node, 'landlord');
my $as_acme = q{SELECT platpat.set_tenant('acme') \g /dev/null};
my $seen = q{SELECT coalesce(string_agg(DISTINCT tenant_id, ','), 'nothing') FROM customer};

# The owner is subject to policies, inside a transaction and outside.
sub subject
{
	my ($session, $after) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($session->ask($seen), 'ERROR 42501', "$after: the owner sees nothing without a tenant");
	$session->ask('ROLLBACK');
	is($session->ask("BEGIN; $as_acme\n$seen; COMMIT"), 'acme', "$after: and one tenant with one");
	return;
}

# ---------------------------------------------------------------- plain changes

subject($owner, 'before all');
for my $change (
	'ALTER TABLE invoice ADD COLUMN note text',
	q{ALTER TABLE invoice ADD COLUMN made timestamptz NOT NULL DEFAULT now()},
	'ALTER TABLE invoice ADD CHECK (n > 0)',
	'ALTER TABLE invoice ALTER COLUMN n TYPE bigint',
	'ALTER TABLE invoice ALTER COLUMN n SET NOT NULL',
	'CREATE INDEX ON invoice (n)',
	'CREATE INDEX CONCURRENTLY ON invoice (tenant_id, n)',
	'CREATE UNIQUE INDEX ON invoice (tenant_id, n, customer)',
	'ALTER TABLE invoice DROP COLUMN note',
	'CLUSTER invoice USING invoice_n_idx',
	'VACUUM FULL invoice',
	'ANALYZE invoice')
{
	is($owner->ask($change), '', "the owner, without a tenant: $change");
}
is($owner->ask('ALTER TABLE invoice ADD CHECK (customer < 99)'), 'ERROR 23514',
	'a CHECK is checked for the rows of all tenants');
is($owner->ask('UPDATE invoice SET n = n + 1'), 'ERROR 42501', 'a backfill needs a tenant');

# ------------------------------------------------------ foreign keys check all rows

# The row of zeta that violates it is not acme's.
my $key = 'ALTER TABLE invoice ADD FOREIGN KEY (tenant_id, customer) REFERENCES customer';
my $now = "$key; SELECT 'added'";
$owner->ask(qq{
	CREATE TABLE number (n int PRIMARY KEY);
	INSERT INTO number VALUES (1);
	CREATE FUNCTION add_key() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN $key; END \$\$;
	CREATE FUNCTION add_key_as_owner() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS \$\$ BEGIN $key; END \$\$;
	CREATE PROCEDURE add_key_and_commit() LANGUAGE plpgsql AS \$\$ BEGIN COMMIT; $key; COMMIT; END \$\$;
	CREATE TABLE parted (tenant_id text, customer int) PARTITION BY LIST (tenant_id);
	CREATE TABLE parted_zeta PARTITION OF parted FOR VALUES IN ('zeta');
	INSERT INTO parted VALUES ('zeta', 99);
	SELECT platpat.protect('parted')});
my %violating = (
	'ADD FOREIGN KEY' => $key,
	'IF EXISTS, ONLY' => $key =~ s/TABLE/TABLE IF EXISTS ONLY/r,
	'two keys at once' => "$key, ADD FOREIGN KEY (n) REFERENCES number NOT VALID",
	'a DO block' => "DO \$\$ BEGIN $key; END \$\$",
	'a function' => 'SELECT add_key()',
	'a SECURITY DEFINER function' => 'SELECT add_key_as_owner()',
	'a procedure' => 'CALL add_key_and_commit()',
	'a partitioned table' => $key =~ s/invoice/parted/r);
for my $way (sort keys %violating)
{
	is($owner->ask($violating{$way}), 'ERROR 23503', "$way: checked without a tenant");
	subject($owner, $way);
	next if $way eq 'a procedure';
	is($owner->ask("BEGIN; $as_acme\n$violating{$way}"), 'ERROR 23503', "$way: checked with a tenant");
	$owner->ask('ROLLBACK');
	is($owner->ask("BEGIN; SAVEPOINT s; $violating{$way}; ROLLBACK TO s"), 'ERROR 23503',
		"$way: checked in a savepoint");
	subject($owner, "$way, rolled back to a savepoint");
}
# A default or another change runs expressions of the user, which must not see
# more for it; so these are refused rather than checked by halves.
my %mixed = (
	'ADD COLUMN REFERENCES' => 'ALTER TABLE invoice ADD COLUMN extra int DEFAULT 7 REFERENCES number',
	'among other changes' => $key =~ s/ADD/ALTER COLUMN n SET DEFAULT 1, ADD/r);
for my $way (sort keys %mixed)
{
	is($owner->ask($mixed{$way}), 'ERROR 42501', "$way: fails without a tenant");
	subject($owner, $way);
	is($owner->ask("BEGIN; $as_acme\n$mixed{$way}"), 'ERROR 55000', "$way: refused with a tenant");
	$owner->ask('ROLLBACK');
	is(value_as($node, 'postgres', "SET platpat.on_missing_tenant = empty; SET ROLE landlord;
			DO \$\$ BEGIN $mixed{$way}; EXCEPTION WHEN SQLSTATE '55000' THEN NULL; END \$\$; SELECT count(*) FROM pg_constraint
			WHERE conrelid = 'invoice'::regclass AND contype = 'f'"),
		'0', "$way: refused where no tenant means no rows");
}
is($owner->ask('BEGIN; ALTER TABLE invoice ADD COLUMN extra int REFERENCES number; ROLLBACK'), '',
	'a new column without values may reference');
my $caught = qq{DO \$\$ BEGIN $key; EXCEPTION WHEN foreign_key_violation THEN END \$\$};
is($owner->ask("BEGIN; $caught"), '', 'a violation that is caught');
subject($owner, 'caught');
is($owner->ask("$caught; $seen"), 'ERROR 42501', 'also when the transaction is over');
is(PlatSession->of($node, 'deployer')->ask($key), 'ERROR 23503', 'a member of the owner checks all rows');
is($owner->ask('ALTER TABLE IF EXISTS nothing ADD FOREIGN KEY (n) REFERENCES number'), '',
	'a table that is not there');
subject($owner, 'a table that is not there');
is($owner->ask('ALTER TABLE invoice ADD FOREIGN KEY (nothing) REFERENCES number'), 'ERROR 42703',
	'a column that is not there');
subject($owner, 'a column that is not there');

is($owner->ask("$key NOT VALID"), '', 'NOT VALID takes it');
subject($owner, 'NOT VALID');
my $validate = 'ALTER TABLE invoice VALIDATE CONSTRAINT invoice_tenant_id_customer_fkey';
is($owner->ask($validate), 'ERROR 23503', 'VALIDATE checks all rows');
is($owner->ask("BEGIN; $as_acme\n$validate"), 'ERROR 23503', 'with a tenant too');
$owner->ask('ROLLBACK');
subject($owner, 'VALIDATE');

# The repair, across tenants.
is($owner->ask(q{BEGIN; SELECT platpat.as_admin('invoices without customer') \g /dev/null
	UPDATE invoice SET customer = 3 WHERE customer = 99; DELETE FROM parted; COMMIT}), '', 'a backfill with as_admin');
subject($owner, 'as_admin');
is( $node->safe_psql('postgres', q{SELECT role_name, reason FROM platpat.admin_log}),
	'landlord|invoices without customer', 'leaves its trace');
is($owner->ask($validate), '', 'then VALIDATE succeeds');
subject($owner, 'VALIDATE that succeeds');
is($owner->ask('ALTER TABLE invoice DROP CONSTRAINT invoice_tenant_id_customer_fkey'), '', 'again');
is($owner->ask("BEGIN; $key"), '', 'and ADD FOREIGN KEY at once');
subject($owner, 'ADD FOREIGN KEY in the same transaction');
is($owner->ask($key), '', 'and alone');
subject($owner, 'ADD FOREIGN KEY');
is($node->safe_psql('postgres', q{SELECT bool_and(convalidated) FROM pg_constraint
	WHERE conrelid = 'invoice'::regclass AND contype = 'f'}), 't', 'the key is valid');

# Changes that check keys which are there.
my @types = (
	'ALTER TABLE customer ALTER COLUMN id TYPE bigint',
	'ALTER TABLE invoice ALTER COLUMN customer TYPE bigint');
my $breaking = "$types[1] USING CASE tenant_id WHEN 'zeta' THEN 99 ELSE customer END";
for my $change (@types, $breaking)
{
	is($owner->ask($change), 'ERROR 42501', "fails without a tenant: $change");
	subject($owner, 'ALTER COLUMN TYPE');
}
is($owner->ask("BEGIN; $as_acme\n$breaking"), 'ERROR 55000',
	'and is refused with a tenant if it could break the key of another');
$owner->ask('ROLLBACK');
is( $owner->ask(join '; ', 'BEGIN; ALTER TABLE invoice DROP CONSTRAINT invoice_tenant_id_customer_fkey',
		@types, $key, 'COMMIT'),
	'', 'without the key the types change, and the key comes back');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM invoice i WHERE NOT EXISTS
	(SELECT FROM customer c WHERE (c.tenant_id, c.id) = (i.tenant_id, i.customer))}),
	'0', 'no row of any tenant violates it');

# Partitions, referencing and referenced.
$owner->ask(q{
	ALTER TABLE parted ADD FOREIGN KEY (tenant_id, customer) REFERENCES customer;
	CREATE TABLE parted_acme (tenant_id text NOT NULL, customer int);
	INSERT INTO parted_acme VALUES ('acme', 99);
	CREATE TABLE target (tenant_id text, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (id);
	CREATE TABLE target_1 PARTITION OF target FOR VALUES IN (1);
	CREATE TABLE target_2 PARTITION OF target FOR VALUES IN (2);
	INSERT INTO target VALUES ('acme', 1), ('zeta', 2);
	CREATE TABLE source (tenant_id text, target int, FOREIGN KEY (tenant_id, target) REFERENCES target);
	INSERT INTO source SELECT * FROM target;
	SELECT platpat.protect(t) FROM unnest('{target,source}'::regclass[]) t});
my $attach = q{ALTER TABLE parted ATTACH PARTITION parted_acme FOR VALUES IN ('acme')};
is($owner->ask($attach), 'ERROR 42501', 'ATTACH PARTITION fails while its key is not checked');
is($owner->ask("BEGIN; $as_acme\n$attach"), 'ERROR 55000', 'and is refused with a tenant');
$owner->ask('ROLLBACK');
is($owner->ask($key =~ s/invoice/parted_acme/r), 'ERROR 23503', 'the key of the partition is checked');
is($owner->ask('DELETE FROM parted_acme; ' . ($key =~ s/invoice/parted_acme/r) . "; $attach"), '',
	'with rows that are right it is attached');
is( $node->safe_psql('postgres', q{SELECT protected FROM platpat.protected_tables WHERE table_name = 'parted_acme'::regclass}),
	't', 'which are protected then');
is($owner->ask('ALTER TABLE target DETACH PARTITION target_2'), 'ERROR 23503',
	'DETACH PARTITION of rows that are referenced is refused without a tenant');
is($owner->ask("BEGIN; $as_acme\nALTER TABLE target DETACH PARTITION target_2"), 'ERROR 23503',
	'and with the tenant of other rows');
$owner->ask('ROLLBACK');
subject($owner, 'partitions');

# Tables of two owners.
value_as($node, 'neighbour', q{
	CREATE TABLE plan (tenant_id text, id int, PRIMARY KEY (tenant_id, id));
	INSERT INTO plan VALUES ('acme', 1), ('zeta', 1);
	SELECT platpat.protect('plan') \g /dev/null
	GRANT REFERENCES ON plan TO landlord;});
$owner->ask(q{
	CREATE TABLE booking (tenant_id text, plan int);
	INSERT INTO booking VALUES ('acme', 1), ('zeta', 2);
	SELECT platpat.protect('booking')});
my $foreign = 'ALTER TABLE booking ADD FOREIGN KEY (tenant_id, plan) REFERENCES plan';
is($owner->ask($foreign), 'ERROR 23503', 'tables of two owners: checked without a tenant');
is($owner->ask("BEGIN; $as_acme\n$foreign"), 'ERROR 23503', 'tables of two owners: and with one');
$owner->ask('ROLLBACK');
value_as($node, 'neighbour', q{BEGIN; SELECT platpat.set_tenant('zeta') \g /dev/null
	INSERT INTO plan (id) VALUES (2); COMMIT; GRANT SELECT ON plan TO landlord});
is($owner->ask($foreign), '', 'tables of two owners: added when no row violates it');
is($owner->ask("BEGIN; $as_acme\nSELECT DISTINCT tenant_id FROM plan; COMMIT"), 'acme',
	'tables of two owners: whoever adds it sees no more of the other table');
is($owner->ask(q{BEGIN; SELECT platpat.set_tenant('zeta') \g /dev/null
	INSERT INTO booking (plan) VALUES (3)}), 'ERROR 23503', 'tables of two owners: the key holds');
$owner->ask('ROLLBACK');

# Code that runs while a key is checked sees no more than before, or after.
value_as($node, 'neighbour', q{
	CREATE FUNCTION plans() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM plan); END $$});
$owner->ask(q{
	INSERT INTO number SELECT generate_series(2, 100);
	CREATE FUNCTION customers() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM customer); END $$;
	CREATE TABLE trick (tenant_id text);
	INSERT INTO trick VALUES ('acme')});
is($owner->ask("BEGIN; $as_acme\nALTER TABLE trick ADD COLUMN plans int DEFAULT plans() REFERENCES number; SELECT plans FROM trick; COMMIT"),
	'1', 'a default that is computed meanwhile sees one tenant of tables that are not the owner\'s');
$owner->ask("BEGIN; $as_acme\nALTER TABLE trick ADD COLUMN customers int DEFAULT customers() REFERENCES number; COMMIT");
is($owner->ask("BEGIN; $as_acme\nSELECT customers(); COMMIT"), '3',
	'and its plan is not kept for afterwards');

# --------------------------------------------------------------------- bulk loads

for my $role (qw(app landlord))
{
	refused_as($node, $role, "BEGIN; $as_acme\nCOPY invoice (n, customer) FROM STDIN;\n5\t1\n\\.", '0A000',
		"$role: core refuses COPY FROM under row security");
	refused_as($node, $role, "CREATE TEMP TABLE staging (tenant_id text, n int, customer int);
		COPY staging FROM STDIN;\nacme\t5\t1\nzeta\t6\t1\n\\.\n
		BEGIN; $as_acme\nINSERT INTO invoice (tenant_id, n, customer) SELECT tenant_id, n, customer FROM staging",
		'42501', "$role: rows of another tenant are refused");
	is(value_as($node, $role, "CREATE TEMP TABLE staging (n int, customer int);
		COPY staging FROM STDIN;\n1\t1\n2\t2\n\\.\n
		BEGIN; $as_acme\nINSERT INTO invoice (n, customer) SELECT n, customer FROM staging;
		SELECT count(*) FROM invoice WHERE n IN (1, 2); ROLLBACK"),
		'2', "$role: a staging table and INSERT SELECT load for one tenant");
}
is(value_as($node, 'landlord', qq{BEGIN; SELECT platpat.as_admin('load') \\g /dev/null
	COPY invoice (tenant_id, n, customer) FROM STDIN;\nacme\t1\t1\nzeta\t2\t1\n\\.
	SELECT count(DISTINCT tenant_id) FROM invoice WHERE n IN (1, 2); ROLLBACK}),
	'2', 'under as_admin COPY loads for all tenants');

# ------------------------------------------------------------------------ locks

# True as soon as the session of the role waits for a lock.
sub waits
{
	my ($role) = @_;

	return $node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE usename = '$role' AND state = 'active' AND wait_event_type = 'Lock')});
}

my $writer = PlatSession->of($node, 'app');
$owner->ask(q{CREATE TABLE live (tenant_id text, n int); GRANT ALL ON live TO app});
my $protect = q{SELECT count(*) > 0 FROM platpat.protect('live')};

$writer->ask(q{BEGIN; INSERT INTO live VALUES (NULL, 1)});
$owner->tell($protect);
ok(waits('landlord'), 'protect() waits for a transaction that writes');
$writer->ask('COMMIT');
is($owner->answer, 'ERROR 23502', 'and finds its row without a tenant');
is($writer->ask('UPDATE live SET tenant_id = \'zeta\'; SELECT count(*) FROM live'), '1',
	'nothing of it remains');

$writer->ask(q{BEGIN; INSERT INTO live VALUES ('acme', 2)});
$owner->tell($protect);
ok(waits('landlord'), 'protect() waits again');
$writer->ask('COMMIT');
is($owner->answer, 't', 'and protects the rows that were written');
is($writer->ask('SELECT count(*) FROM live'), 'ERROR 42501', 'the writer needs a tenant from now on');
is($writer->ask("BEGIN; $as_acme\nSELECT n FROM live; COMMIT"), '2', 'and sees what is its own');

# An insert that waits for protect() to end is judged by the new policies.
$owner->ask(q{CREATE TABLE other (tenant_id text, n int); GRANT ALL ON other TO app});
$owner->ask(q{BEGIN; SELECT platpat.protect('other')});
$writer->tell(q{INSERT INTO other VALUES ('zeta', 1)});
ok(waits('app'), 'a writer waits for protect()');
$owner->ask('COMMIT');
is($writer->answer, 'ERROR 42501', 'and is subject to the policies then');

# Repeating it disturbs nobody.
my $impatient = q{SET lock_timeout = '300ms'};
my $reader = PlatSession->of($node, 'app');
$owner->ask(q{CREATE TABLE yard.live (tenant_id text); GRANT ALL ON yard.live TO app;
	SELECT platpat.protect_schema('yard')});
$reader->ask("BEGIN; $as_acme\nSELECT count(*) FROM live, yard.live");
$writer->ask("BEGIN; $as_acme\nINSERT INTO live VALUES (DEFAULT, 3)");
is($owner->ask("$impatient; SELECT count(*) FROM platpat.protect('live')"), '0',
	'repeating protect() does not wait for readers and writers');
is($owner->ask(q{SELECT count(*) FROM platpat.protect_schema('yard')}), '0', 'nor protect_schema()');
is($owner->ask('ALTER TABLE live DISABLE ROW LEVEL SECURITY'), 'ERROR 55P03',
	'as anything would that changes the table');
is($owner->ask(q{BEGIN; SELECT platpat.protect('live') \g /dev/null
	SELECT mode FROM pg_locks WHERE relation = 'live'::regclass
	AND pid = pg_backend_pid() AND mode <> 'AccessShareLock'}),
	'', 'and holds no lock that others would wait for');
my $second = PlatSession->of($node, 'landlord');
is($second->ask("$impatient; SELECT count(*) FROM platpat.protect('live')"), '0',
	'nor do two repetitions wait for each other');
$_->ask('ROLLBACK') for $owner, $second, $reader, $writer;

done_testing();
