-- Commands: once for each key, through breakers and bulkheads, undone as a whole.
\set VERBOSITY terse
CREATE ROLE regress_command_app;
CREATE SCHEMA desk;
GRANT USAGE ON SCHEMA desk TO regress_command_app;
CREATE TABLE desk.orders (id serial PRIMARY KEY, tenant text, total numeric, by_whom name);
GRANT INSERT, SELECT ON desk.orders TO regress_command_app;
GRANT USAGE ON desk.orders_id_seq TO regress_command_app;
CREATE FUNCTION desk.create_order(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE order_id int;
BEGIN
	IF (payload ->> 'total')::numeric <= 0 THEN
		RAISE EXCEPTION 'total must be positive' USING ERRCODE = '22023';
	END IF;
	INSERT INTO desk.orders (tenant, total, by_whom)
		VALUES (platpat.current_tenant_or_null(), (payload ->> 'total')::numeric, current_user) RETURNING id INTO order_id;
	IF payload ? 'fail' THEN
		RAISE EXCEPTION 'failed after writing' USING ERRCODE = '08006';
	END IF;
	RETURN CASE WHEN payload ? 'nothing' THEN NULL ELSE jsonb_build_object('order_id', order_id) END;
END $$;

-- bad arguments
SELECT platpat.create_command(NULL, 'desk.create_order(jsonb)');
SELECT platpat.create_command('', 'desk.create_order(jsonb)');
SELECT platpat.create_command('order', NULL);
SELECT platpat.create_command('order', 'pg_catalog.jsonb_typeof(jsonb)');
SELECT platpat.create_command('order', 'pg_catalog.int8pl(bigint, bigint)');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)', breaker => 'none');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)', bulkhead => 'none');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)', timeout => '-1 s');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)', class => 'urgent');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)');
SELECT platpat.create_command('order', 'desk.create_order(jsonb)');
SELECT platpat.execute_command('nothing', '{}');
SELECT platpat.execute_command(NULL, '{}');
SELECT platpat.execute_command('order', NULL);
SELECT platpat.execute_command('order', '{}', '');
SELECT platpat.execute_command('order', '{}', repeat('x', 256));

-- as the caller, whose answer is kept for the key
SET ROLE regress_command_app;
SELECT platpat.create_command('mine', 'desk.create_order(jsonb)');
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.execute_command('order', '{"total": 10}', 'k1');
COMMIT;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.execute_command('order', '{"total": 10.0}', 'k1');
SELECT platpat.execute_command('order', '{"total": 11}', 'k2');
SELECT platpat.execute_command('order', '{"total": 11}', 'k2');
SELECT platpat.execute_command('order', '{"total": 12}', 'k1');
ROLLBACK;
-- what was rolled back is not an answer, and another tenant has its own keys
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.execute_command('order', '{"total": 11}', 'k2') ->> 'order_id' > '1' AS again;
COMMIT;
BEGIN;
SELECT platpat.set_tenant('globex');
SELECT platpat.execute_command('order', '{"total": 99}', 'k1') ->> 'order_id' > '1' AS again;
COMMIT;
SELECT platpat.execute_command('order', '{"total": 1, "nothing": true}', 'k1') IS NULL AS nothing;
SELECT platpat.execute_command('order', '{"total": 1, "nothing": true}', 'k1') IS NULL AS nothing;
SELECT tenant, total, by_whom FROM desk.orders ORDER BY id;

-- an error undoes everything, the key too
SELECT platpat.execute_command('order', '{"total": 0}', 'k3');
SELECT platpat.execute_command('order', '{"total": 3, "fail": true}', 'k3');
SELECT platpat.execute_command('order', '{"total": 3}', 'k3') IS NOT NULL AS done;
SELECT count(*) FROM desk.orders WHERE total = 3;
TABLE platpat.command_results;
RESET ROLE;
-- an answer is for the role that has asked
CREATE ROLE regress_command_clerk;
GRANT USAGE ON SCHEMA desk TO regress_command_clerk;
SET ROLE regress_command_clerk;
SELECT platpat.execute_command('order', '{"total": 3}', 'k3');
RESET ROLE;
DROP OWNED BY regress_command_clerk;
-- a handler that calls its own command with its own key has no answer yet
CREATE FUNCTION desk.again(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT platpat.execute_command('again', payload, 'again') $$;
SELECT platpat.create_command('again', 'desk.again(jsonb)');
SELECT platpat.execute_command('again', '{}', 'again');
-- nor does an administrator put another handler where others call one
SELECT platpat.grant_admin('regress_command_clerk');
GRANT CREATE, USAGE ON SCHEMA desk TO regress_command_clerk;
SET ROLE regress_command_clerk;
CREATE FUNCTION desk.evil(payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload';
SELECT platpat.alter_command('again', 'desk.evil(jsonb)');
SELECT platpat.alter_command('again', class => 'batch');
SELECT platpat.create_command('evil', 'desk.evil(jsonb)'), platpat.alter_command('evil', 'desk.evil(jsonb)');
SELECT platpat.drop_command('evil');
RESET ROLE;
SELECT platpat.drop_command('again');
DROP FUNCTION desk.evil(jsonb);
DROP OWNED BY regress_command_clerk;
DROP ROLE regress_command_clerk;
-- who may not execute the handler gets no answer of others either
REVOKE EXECUTE ON FUNCTION desk.create_order(jsonb) FROM PUBLIC;
SET ROLE regress_command_app;
SELECT platpat.execute_command('order', '{"total": 3}', 'k3');
RESET ROLE;
GRANT EXECUTE ON FUNCTION desk.create_order(jsonb) TO PUBLIC;
-- after a day a key is free again
UPDATE platpat.command_results SET created_at = created_at - interval '25 hours' WHERE idempotency_key = 'k3';
SELECT platpat.execute_command('order', '{"total": 4}', 'k3') IS NOT NULL AS done;
SELECT count(*) FROM desk.orders WHERE total = 4;
UPDATE platpat.command_results SET created_at = created_at - interval '25 hours';
SELECT * FROM platpat.maintain_events() WHERE object = 'command_results';
SELECT count(*) FROM platpat.command_results;

-- through a breaker, which failures open, and a bulkhead
SELECT platpat.create_breaker('orders', 2, '1 day', failure_states => '{08}'), platpat.create_bulkhead('orders', 1);
SELECT platpat.alter_command('order', breaker => 'orders', bulkhead => 'orders', timeout => '0');
SELECT command, handler, breaker, bulkhead, timeout, class FROM platpat.commands;
SELECT platpat.execute_command('order', '{"total": 5}', 'k5') ? 'order_id' AS done;
SELECT platpat.execute_command('order', '{"total": 5, "nothing": true}') IS NULL AS nothing;
SELECT platpat.execute_command('order', '{"total": 0}');
SELECT platpat.execute_command('order', '{"total": 5, "fail": true}');
SELECT platpat.execute_command('order', '{"total": 5, "fail": true}', 'k6');
SELECT platpat.execute_command('order', '{"total": 5}');
-- a repeated one asks nobody
SELECT platpat.execute_command('order', '{"total": 5}', 'k5') ? 'order_id' AS again;
SELECT state, failed FROM platpat.stat_breakers WHERE breaker = 'orders';
SELECT in_use, acquired FROM platpat.stat_bulkheads WHERE bulkhead = 'orders';
SELECT platpat.alter_command('order', breaker => '');
SELECT platpat.execute_command('order', '{"total": 6}') ? 'order_id' AS done;
SELECT platpat.alter_command('order', breaker => 'orders', bulkhead => '');
SELECT platpat.force_breaker('orders', 'closed');
SELECT platpat.execute_command('order', '{"total": 7}') ? 'order_id' AS done;
SELECT breaker, bulkhead FROM platpat.commands;
SELECT platpat.alter_command('nothing', class => 'batch');
SELECT count(*) FROM desk.orders WHERE total = 5;

-- a handler with a hostile name, and one that is gone
CREATE SCHEMA "d""esk";
CREATE FUNCTION "d""esk"."han'dler"" ;"(payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload || ''{"hostile": true}''';
SELECT platpat.create_command('; DROP TABLE desk.orders; --', '"d""esk"."han''dler"" ;"(jsonb)', 'orders');
SELECT platpat.execute_command('; DROP TABLE desk.orders; --', '{"a''\"": 1}', $$'); --"$$);
DROP SCHEMA "d""esk" CASCADE;
SELECT platpat.execute_command('; DROP TABLE desk.orders; --', '{}');
SELECT platpat.drop_command('; DROP TABLE desk.orders; --');
SELECT platpat.drop_command('order');
SELECT platpat.drop_command('order');
SELECT platpat.drop_command(NULL);
SELECT count(*) FROM platpat.commands;
SELECT count(*) FROM platpat.command_results;

SELECT platpat.drop_breaker('orders'), platpat.drop_bulkhead('orders');
DROP SCHEMA desk CASCADE;
DROP ROLE regress_command_app;
