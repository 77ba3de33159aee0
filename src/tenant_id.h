/*
 * tenant_id.h
 *		What may be a tenant id, and how uuid and bigint ids are spelled.
 *
 * Needs no session, no transaction and no memory context; see tenant_id.c for
 * what each function promises.
 */
#ifndef PLAT_TENANT_ID_H
#define PLAT_TENANT_ID_H

#include "utils/uuid.h"

/*
 * Longest tenant id in bytes of the database encoding, without the closing
 * zero.  The text "have at most 128 bytes" repeats the number.
 */
/* Longest tenant id in bytes, without the closing zero. */
#define PLAT_TENANT_MAX 128

extern const char *plat_tenant_id_problem(const char *id, size_t len,
										  int encoding);
extern bool plat_text_has_control(const char *text, size_t len, int encoding);
extern bool plat_parse_uuid(const char *text, pg_uuid_t *uuid);
extern void plat_print_uuid(const pg_uuid_t *uuid, char *text);
extern bool plat_parse_bigint(const char *text, int64 *value);
extern bool plat_is_canonical_uuid(const char *text, pg_uuid_t *uuid);
extern bool plat_is_canonical_bigint(const char *text, int64 *value);

#endif							/* PLAT_TENANT_ID_H */
