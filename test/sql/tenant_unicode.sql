-- Invisible characters and lookalikes in tenant ids and paths (UTF-8 only).
\set VERBOSITY terse
\pset null '(null)'
SELECT getdatabaseencoding() = 'UTF8' AS is_utf8 \gset
\if :is_utf8
SET client_encoding = 'UTF8';
CREATE ROLE regress_app;
SET ROLE regress_app;
CREATE FUNCTION pg_temp.try(id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM platpat.set_tenant(id);
    RAISE EXCEPTION 'undo' USING ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN RETURN 'accepted';
    WHEN invalid_parameter_value THEN RETURN 'refused';
END $$;
RESET ROLE;
SET platpat.tenant_switching = 'free';
SET ROLE regress_app;
SELECT name, pg_temp.try(id) FROM (VALUES
    (1, 'no-break space first', U&'\00A0acme'),
    (2, 'ideographic space last', U&'acme\3000'),
    (3, 'zero width space', U&'ac\200Bme'),
    (4, 'right-to-left override', U&'ac\202Eme'),
    (5, 'isolate', U&'ac\2066me'),
    (6, 'soft hyphen', U&'ac\00ADme'),
    (7, 'C1 control', U&'ac\0085me'),
    (8, 'line separator', U&'ac\2028me'),
    (9, 'byte order mark', U&'\FEFFacme'),
    (10, 'word joiner', U&'ac\2060me'),
    (11, 'cyrillic lookalike is another tenant', U&'\0430cme'),
    (12, 'fullwidth digits', U&'\FF14\FF12'),
    (13, 'emoji with joiner', U&'\+01F469\200D\+01F680'),
    (14, 'inner no-break space', U&'ac\00A0me'),
    (15, '126 bytes', repeat(U&'\20AC', 42)),
    (16, '129 bytes', repeat(U&'\20AC', 43)),
    (17, 'Hangul filler', U&'ac\3164me'),
    (18, 'blank Braille pattern', U&'ac\2800me'),
    (19, 'tag', U&'acme\+0E0041'),
    (20, 'variation selector', U&'acme\FE0F'),
    (21, 'grapheme joiner', U&'ac\034Fme')) v(n, name, id)
ORDER BY n;
-- fullwidth digits are no number
SELECT platpat.set_tenant(U&'\FF14\FF12', false) = '42' AS same;
SELECT platpat.current_tenant_bigint();
-- messages are cut between characters
SELECT platpat.set_tenant(repeat(U&'\20AC', 500));
SELECT platpat.set_tenant('acme', false);
SELECT platpat.tenant_path(U&'a/\202E/b');
SELECT platpat.owns_path(U&'tenants/acme/\202E'), platpat.owns_path(U&'tenants/acme/\00FC');
RESET ROLE;
DROP OWNED BY regress_app;
DROP ROLE regress_app;
\endif
