-- Storage prefixes: where a tenant's objects live, and whose object this is.
\set VERBOSITY terse
\pset null '(null)'
CREATE ROLE regress_app;
SET ROLE regress_app;

SELECT platpat.tenant_prefix();
SELECT platpat.tenant_path('a');
SELECT platpat.owns_path('tenants/acme/a'), platpat.owns_path(NULL);

SELECT platpat.set_tenant('acme', false);
SELECT platpat.tenant_prefix();
SELECT platpat.tenant_path('a/b.png'), platpat.tenant_path('...'), platpat.tenant_path('.hidden/..x');
\set VERBOSITY default
SELECT platpat.tenant_path('../globex/a');
\set VERBOSITY sqlstate
SELECT platpat.tenant_path(NULL);
SELECT platpat.tenant_path('');
SELECT platpat.tenant_path('/etc/passwd');
SELECT platpat.tenant_path('a//b');
SELECT platpat.tenant_path('a/');
SELECT platpat.tenant_path('a/../b');
SELECT platpat.tenant_path('a/./b');
SELECT platpat.tenant_path('..');
SELECT platpat.tenant_path(E'a\nb');
SELECT platpat.tenant_path('a\..\b');
\set VERBOSITY terse
SELECT length(platpat.tenant_path(repeat('x', 1000000)));

SELECT path, platpat.owns_path(path) FROM (VALUES
    ('tenants/acme/a'), ('tenants/acme/a/b.png'),
    ('tenants/acme/'), ('tenants/acme'), ('tenants/acmeX/a'), ('tenants/acme2/a'),
    ('tenants/globex/a'), ('tenants/acme/../globex/a'), ('tenants/acme//a'),
    ('tenants//a'), ('/tenants/acme/a'), ('Tenants/acme/a'), ('tenants/ACME/a'),
    (E'tenants/acme/a\nb'), ('tenants/acme/a\b'), (''), (NULL)) v(path);

-- in a policy on a table of objects
RESET ROLE;
CREATE TABLE objects (key text PRIMARY KEY);
INSERT INTO objects VALUES ('tenants/acme/a'), ('tenants/globex/b'), ('other');
ALTER TABLE objects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON objects USING (platpat.owns_path(key));
GRANT SELECT, INSERT ON objects TO regress_app;
SET ROLE regress_app;
SELECT * FROM objects;
INSERT INTO objects VALUES (platpat.tenant_path('c'));
INSERT INTO objects VALUES ('tenants/globex/c');
SELECT platpat.reset_tenant();
SELECT * FROM objects;
RESET ROLE;
DROP TABLE objects;
DROP ROLE regress_app;
