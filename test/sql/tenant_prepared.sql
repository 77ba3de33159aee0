-- Two-phase commit ends a transaction, and the tenant and the admin with it.
-- Where max_prepared_transactions is 0 there is another expected file.
\set VERBOSITY terse
SELECT current_setting('max_prepared_transactions')::int = 0 AS off \gset
\if :off
\quit
\endif
CREATE ROLE regress_app;
CREATE ROLE regress_ops;
SET client_min_messages = warning;
SELECT platpat.grant_admin('regress_ops');

SET ROLE regress_app;
BEGIN;
SELECT platpat.set_tenant('acme');
PREPARE TRANSACTION 'regress_tenant';
SELECT platpat.current_tenant_or_null() IS NULL AS none;
COMMIT PREPARED 'regress_tenant';
RESET ROLE;

-- the transaction belongs to who called as_admin, who may finish it
SET ROLE regress_ops;
BEGIN;
SELECT platpat.as_admin('prepare');
PREPARE TRANSACTION 'regress_admin';
SELECT current_user;
ROLLBACK PREPARED 'regress_admin';
SELECT count(*) FROM platpat.admin_log WHERE reason = 'prepare';
BEGIN;
SELECT platpat.as_admin('prepare and commit');
PREPARE TRANSACTION 'regress_admin';
COMMIT PREPARED 'regress_admin';
SELECT role_name FROM platpat.admin_log WHERE reason = 'prepare and commit';
RESET ROLE;

DROP OWNED BY regress_app, regress_ops, platpat_admin;
DROP ROLE regress_app, regress_ops;
DO $$ BEGIN DROP ROLE platpat_admin; EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$;
