-- What the recipe promises, tried; test/t/050_recipes.pl compares the answers.
-- recipe: psql
\connect - shop_app
BEGIN;
SELECT platpat.set_tenant('acme');
INSERT INTO orders (item) VALUES ('anvil');
SELECT item FROM orders;
COMMIT;
-- end
SELECT pg_backend_pid() AS backend \gset

BEGIN;
SELECT platpat.set_tenant('acme');
SELECT 'acme sees: ' || string_agg(item, ',') FROM orders;
COMMIT;

BEGIN;
SELECT platpat.set_tenant('globex');
INSERT INTO orders (item) VALUES ('rocket');
SELECT 'globex sees: ' || string_agg(item, ',') FROM orders;
COMMIT;

SELECT item FROM orders;
\echo without a tenant: :SQLSTATE

BEGIN;
SELECT platpat.set_tenant('acme');
INSERT INTO orders (tenant_id, item) VALUES ('globex', 'forged');
\echo row of another tenant: :SQLSTATE
ROLLBACK;

BEGIN;
SELECT platpat.set_tenant('acme');
SELECT 'acme still sees: ' || string_agg(item, ',') FROM orders;
SELECT 'one connection: ' || (pg_backend_pid() = :backend);
COMMIT;

-- The pitfalls.
SELECT platpat.set_tenant('acme');
SELECT item FROM orders;
\echo outside a transaction: :SQLSTATE
SELECT platpat.set_tenant('acme', false);
\echo for the session: :SQLSTATE
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.set_tenant('globex');
\echo another tenant inside: :SQLSTATE
ROLLBACK;
