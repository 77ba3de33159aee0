-- config_table: what the tables that users edit have in common

CREATE FUNCTION platpat.merge_row() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_config_merge_row';
COMMENT ON FUNCTION platpat.merge_row() IS 'Trigger: a row inserted over a shipped one updates that.';
CREATE FUNCTION platpat.remember_removal() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_config_remember_removal';
COMMENT ON FUNCTION platpat.remember_removal() IS 'Trigger: remembers that a shipped row is gone, or is there again.';
CREATE FUNCTION platpat.apply_removal() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_config_apply_removal';
COMMENT ON FUNCTION platpat.apply_removal() IS 'Trigger: a restore drops the shipped row that was dropped before the dump.';
CREATE FUNCTION platpat.table_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_config_changed';
COMMENT ON FUNCTION platpat.table_changed() IS 'Trigger: tells every session that a table has changed.';
REVOKE ALL ON FUNCTION platpat.merge_row(), platpat.remember_removal(),
    platpat.apply_removal(), platpat.table_changed() FROM PUBLIC;

CREATE TABLE platpat.removed_defaults (
    table_name text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (table_name, key)
);
COMMENT ON TABLE platpat.removed_defaults IS 'Shipped rows that were deleted, so that a restore deletes them again.';
COMMENT ON COLUMN platpat.removed_defaults.table_name IS 'The table of schema platpat.';
COMMENT ON COLUMN platpat.removed_defaults.key IS 'The key of the row.';

CREATE TRIGGER apply_removal AFTER INSERT ON platpat.removed_defaults
    FOR EACH ROW EXECUTE FUNCTION platpat.apply_removal();
COMMENT ON TRIGGER apply_removal ON platpat.removed_defaults IS 'A restore drops what was dropped.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON platpat.removed_defaults EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.removed_defaults IS 'Only the triggers of platpat write.';

SELECT pg_catalog.pg_extension_config_dump('platpat.removed_defaults', '');
