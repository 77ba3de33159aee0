-- Work across tenants: granted, logged, and over with the transaction.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_ops;
CREATE ROLE regress_app;
RESET client_min_messages;
CREATE TABLE orders (tenant_id text, id int, PRIMARY KEY (tenant_id, id));
INSERT INTO orders VALUES ('acme', 1), ('globex', 2);
SELECT count(*) > 0 AS acted FROM platpat.protect('orders');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO regress_app, regress_ops;

-- nobody may before grant_admin
SET ROLE regress_ops;
SELECT platpat.as_admin('look');
SELECT platpat.grant_admin('regress_ops');
RESET ROLE;
\set VERBOSITY sqlstate
SELECT platpat.grant_admin(NULL);
SELECT platpat.grant_admin('');
SELECT platpat.grant_admin('regress_nobody');
SELECT platpat.revoke_admin('regress_nobody');
\set VERBOSITY terse
SELECT platpat.grant_admin('regress_ops');
SELECT platpat.grant_admin('regress_ops');
SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'platpat_admin';
SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
 WHERE m.member = 'platpat_admin'::regrole ORDER BY 1;
SELECT count(*) AS members FROM pg_auth_members WHERE roleid = 'platpat_admin'::regrole;

SET ROLE regress_ops;
SELECT * FROM orders;
BEGIN;
SELECT platpat.as_admin('count the orders');
SELECT current_user;
SELECT count(*) FROM orders;
UPDATE orders SET id = id + 10;
INSERT INTO orders VALUES ('globex', 30);
COMMIT;
SELECT current_user;
SELECT * FROM orders;
SELECT role_name, login_name = session_user AS login, reason FROM platpat.admin_log;

-- not alone in a statement, not without a reason
\set VERBOSITY default
SELECT platpat.as_admin('alone');
\set VERBOSITY sqlstate
SELECT platpat.as_admin(NULL);
SELECT platpat.as_admin('');
SELECT platpat.as_admin(E' \t\n');
\set VERBOSITY terse

-- every way out
BEGIN; SELECT platpat.as_admin('rollback'); ROLLBACK;
SELECT current_user;
BEGIN; SAVEPOINT a; SELECT platpat.as_admin('rollback to'); SELECT current_user; ROLLBACK TO a; SELECT current_user; COMMIT;
BEGIN; SAVEPOINT a; SELECT platpat.as_admin('release'); RELEASE a; SELECT current_user; COMMIT;
SELECT current_user;
BEGIN; SELECT platpat.as_admin('twice'); SELECT platpat.as_admin('twice, again'); COMMIT;
BEGIN; SELECT platpat.as_admin('error'); SELECT 1/0; COMMIT;
SELECT current_user;
BEGIN; SELECT platpat.as_admin('chain'); COMMIT AND CHAIN; SELECT current_user; COMMIT;
-- inside, nobody changes roles or tampers with the trace
BEGIN;
SELECT platpat.as_admin('tamper');
SAVEPOINT a;
SET ROLE regress_app;
ROLLBACK TO a;
DELETE FROM platpat.admin_log;
ROLLBACK TO a;
UPDATE platpat.admin_log SET reason = 'nothing';
ROLLBACK TO a;
INSERT INTO platpat.admin_log VALUES (now(), 'x', 'y', 'z', now());
ROLLBACK TO a;
TRUNCATE platpat.admin_log;
ROLLBACK TO a;
DELETE FROM platpat.protections;
ROLLBACK TO a;
UPDATE platpat.protected_schemas SET tenant_column = 'x';
ROLLBACK TO a;
COMMIT;
-- nor leaves something behind that belongs to the role
BEGIN;
SELECT platpat.as_admin('leave a door');
SAVEPOINT a;
CREATE FUNCTION pg_temp.door() RETURNS SETOF orders LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM orders';
ROLLBACK TO a;
CREATE TEMP VIEW door AS SELECT * FROM orders;
ROLLBACK TO a;
CREATE TEMP TABLE door AS SELECT * FROM orders;
ROLLBACK TO a;
GRANT SELECT ON orders TO PUBLIC;
ROLLBACK TO a;
\set VERBOSITY default
SELECT * INTO TEMP door FROM orders;
\set VERBOSITY terse
ROLLBACK TO a;
COMMIT;
-- a ROLLBACK TO has left the role, and the end of the transaction does not go back
BEGIN;
SAVEPOINT a;
SELECT platpat.as_admin('rolled back');
ROLLBACK TO a;
RESET ROLE;
SET ROLE regress_app;
COMMIT;
SELECT current_user, current_setting('role');
RESET ROLE;
SET ROLE regress_ops;
-- the role itself cannot be entered
SET ROLE platpat_admin;
SELECT reason FROM platpat.admin_log ORDER BY logged_at;

-- not from SECURITY DEFINER code: its owner was granted, not its caller
CREATE FUNCTION pg_temp.sneak() RETURNS void LANGUAGE sql SECURITY DEFINER
    AS $$ SELECT platpat.as_admin('sneak') $$;
GRANT EXECUTE ON FUNCTION pg_temp.sneak() TO regress_app;
RESET ROLE;
CREATE FUNCTION sneak() RETURNS void LANGUAGE sql SECURITY DEFINER
    AS $$ SELECT platpat.as_admin('sneak') $$;
SET ROLE regress_app;
BEGIN;
SELECT sneak();
ROLLBACK;
SELECT platpat.as_admin('app');
RESET ROLE;

-- a backfill for one tenant sets it too
SET ROLE regress_ops;
BEGIN;
SELECT platpat.as_admin('backfill'), platpat.set_tenant('acme');
INSERT INTO orders (id) VALUES (77) RETURNING *;
COMMIT;
RESET ROLE;

-- a spoiled admin role is refused
ALTER ROLE platpat_admin LOGIN;
SET ROLE regress_ops;
\set VERBOSITY default
SELECT platpat.as_admin('spoiled');
\set VERBOSITY terse
RESET ROLE;
SELECT platpat.grant_admin('regress_ops');
ALTER ROLE platpat_admin NOLOGIN;
GRANT platpat_admin TO regress_app;
SET ROLE regress_ops;
SELECT platpat.as_admin('spoiled');
RESET ROLE;
REVOKE platpat_admin FROM regress_app;
ALTER ROLE platpat_admin SUPERUSER;
SELECT platpat.grant_admin('regress_ops');
ALTER ROLE platpat_admin NOSUPERUSER NOBYPASSRLS;
SELECT platpat.grant_admin('regress_ops');
ALTER ROLE platpat_admin BYPASSRLS;

SELECT platpat.revoke_admin('regress_ops');
SET ROLE regress_ops;
SELECT platpat.as_admin('revoked');
RESET ROLE;
SELECT count(*) > 0 AS acted FROM platpat.unprotect('orders');
DROP TABLE orders;
DROP FUNCTION sneak;
DROP OWNED BY regress_app, regress_ops, platpat_admin;
DROP ROLE regress_app, regress_ops;
-- the role is the cluster's: another database may be using it
DO $$ BEGIN DROP ROLE platpat_admin; EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$;
