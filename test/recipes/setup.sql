-- Once, as a superuser: the two roles that every recipe uses.
-- recipe: roles
CREATE ROLE shop_owner LOGIN;
CREATE ROLE shop_app LOGIN;
GRANT CREATE ON SCHEMA public TO shop_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO shop_app;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner
    GRANT USAGE ON SEQUENCES TO shop_app;
ALTER ROLE shop_app SET platpat.session_tenant = off;
SELECT platpat.grant_admin('shop_owner');
-- end
