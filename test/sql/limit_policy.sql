-- Limits inside of policies, and charging once for a statement.
\set VERBOSITY terse
CREATE ROLE regress_limit_user;
CREATE TABLE calls (tenant_id text, id int);
GRANT SELECT, INSERT, UPDATE, DELETE ON calls TO regress_limit_user;
SELECT count(*) AS actions FROM platpat.protect('calls');

-- a statement is charged once, however many rows it writes
CREATE POLICY writes ON calls AS RESTRICTIVE FOR INSERT TO regress_limit_user
	WITH CHECK (platpat.allow_statement('writes of ' || tenant_id, 1, 3, 1, '1 day'));
SET ROLE regress_limit_user;
SELECT platpat.set_tenant('policy-1', false);
INSERT INTO calls (id) SELECT generate_series(1, 100);
INSERT INTO calls (id) SELECT generate_series(1, 100);
INSERT INTO calls (id) VALUES (1), (2), (3);
INSERT INTO calls (id) VALUES (4);
SELECT count(*) FROM calls;
-- another tenant has a bucket of its own
SELECT platpat.set_tenant('policy-2', false);
INSERT INTO calls (id) VALUES (1);
RESET ROLE;
SELECT key, allowed, denied FROM platpat.stat_rate_limits WHERE key LIKE 'writes of%' ORDER BY key;

-- or each row is
DROP POLICY writes ON calls;
CREATE POLICY rows ON calls AS RESTRICTIVE FOR INSERT TO regress_limit_user
	WITH CHECK (platpat.allow_request('rows of ' || tenant_id, 1, 5, 1, '1 day'));
SET ROLE regress_limit_user;
INSERT INTO calls (id) VALUES (1), (2), (3);
INSERT INTO calls (id) VALUES (4), (5), (6);
INSERT INTO calls (id) VALUES (7);
SELECT count(*) FROM calls;
RESET ROLE;
SELECT key, allowed, denied FROM platpat.stat_rate_limits WHERE key LIKE 'rows of%';
DROP POLICY rows ON calls;

-- reading: once for a statement, a self-join included
CREATE POLICY reads ON calls AS RESTRICTIVE FOR SELECT TO regress_limit_user
	USING (platpat.allow_statement('reads of ' || tenant_id, 1, 4, 1, '1 day'));
SET ROLE regress_limit_user;
SELECT platpat.set_tenant('policy-1', false);
SELECT count(*) FROM calls;
SELECT count(*) FROM calls AS a JOIN calls AS b USING (id) WHERE EXISTS (SELECT FROM calls AS c WHERE c.id = a.id);
-- a cursor is one statement
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM calls;
FETCH 2 FROM c;
FETCH 2 FROM c;
CLOSE c;
COMMIT;
-- so is one that is prepared, each time it runs
PREPARE look AS SELECT count(*) FROM calls;
EXECUTE look;
EXECUTE look;
DEALLOCATE look;
RESET ROLE;
SELECT key, allowed, denied FROM platpat.stat_rate_limits WHERE key LIKE 'reads of%';
DROP TABLE calls;
RESET ROLE;

-- the same without policies
SELECT count(*) FILTER (WHERE platpat.allow_statement('many', 1, 2, 1, '1 day')) FROM generate_series(1, 1000);
SELECT platpat.allow_statement('many', 1, 2, 1, '1 day') AND platpat.allow_statement('many', 1, 2, 1, '1 day') AS twice;
SELECT platpat.allow_statement('many', 1, 2, 1, '1 day') AS refused, platpat.allow_statement('many', 1, 2, 1, '1 day') AS again;
SELECT allowed, denied FROM platpat.stat_rate_limits WHERE key = 'many';
-- other arguments are another question, other types of the key are not
SELECT platpat.allow_statement('17', 1, 5, 1, '1 day'), platpat.allow_statement(17, 1, 5, 1, '1 day'),
	platpat.allow_statement('17', 1, 5, 2, '1 day'), platpat.allow_statement('17', 2, 5, 1, '1 day');
SELECT allowed FROM platpat.stat_rate_limits WHERE key = '17';
-- a statement within a function of another is one of its own
CREATE FUNCTION inner_statement() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	answer boolean;
BEGIN
	SELECT platpat.allow_statement('nested', 1, 5, 1, '1 day') INTO answer FROM generate_series(1, 3);
	RETURN answer;
END $$;
SELECT count(*) FILTER (WHERE inner_statement() AND platpat.allow_statement('nested', 1, 5, 1, '1 day')) FROM generate_series(1, 3);
SELECT allowed FROM platpat.stat_rate_limits WHERE key = 'nested';
-- an error forgets nothing that counts
DO $$
BEGIN
	PERFORM platpat.allow_statement('error', 1, 5, 1, '1 day'), 1 / (g - 3) FROM generate_series(1, 5) AS g;
EXCEPTION WHEN division_by_zero THEN
	PERFORM platpat.allow_statement('error', 1, 5, 1, '1 day') FROM generate_series(1, 5);
END $$;
SELECT allowed FROM platpat.stat_rate_limits WHERE key = 'error';
-- a DO block is no statement that runs, so each of its expressions is charged
DO $$
DECLARE
	answer boolean;
BEGIN
	FOR i IN 1..3 LOOP
		answer := platpat.allow_statement('expression', 1, 5, 1, '1 day');
	END LOOP;
END $$;
SELECT allowed FROM platpat.stat_rate_limits WHERE key = 'expression';
SELECT platpat.allow_statement(NULL::text, 1, 1);
SELECT platpat.allow_statement('x', 1, 1, 2);

-- parallel plans ask in the leader
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE many AS SELECT generate_series(1, 10000) AS id;
ALTER TABLE many SET (parallel_workers = 2);
ANALYZE many;
SELECT count(*) FILTER (WHERE platpat.allow_statement('parallel', 1, 5, 1, '1 day')) FROM many;
SELECT count(*) FROM many WHERE platpat.allow_request('parallel rows', 1, 5000, 1, '1 day');
SELECT key, allowed FROM platpat.stat_rate_limits WHERE key LIKE 'parallel%' ORDER BY key;
SELECT platpat.set_tenant('policy-3', false) FROM (SELECT set_config('platpat.allow_bypass_role', 'on', false)) AS s;
SELECT count(*) FILTER (WHERE platpat.allow_tenant_request(0.001)) FROM many WHERE id <= 1000;
DROP TABLE many;
DROP FUNCTION inner_statement;
DROP ROLE regress_limit_user;
