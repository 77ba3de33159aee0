# platpat is built with PGXS: make, make install, make installcheck.
# `make test` and `make demo` need nothing installed and leave nothing behind.

EXTENSION  = platpat
MODULE_big = $(EXTENSION)

# Seen from the build directory, so that an out-of-tree build (VPATH) works.
TOP       := $(filter-out ./,$(dir $(firstword $(MAKEFILE_LIST))))
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(TOP)$(EXTENSION).control)

# The install script is made of these parts, in this order.
SQL_PARTS  = header.sql tenant.sql admin.sql config_table.sql controller.sql policy.sql ring.sql limit.sql breaker.sql bulkhead.sql event.sql
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql
DATA       = $(filter-out $(DATA_built),$(patsubst $(TOP)%,%,$(wildcard $(TOP)sql/$(EXTENSION)--*.sql)))

OBJS        = $(patsubst $(TOP)%.c,%.o,$(sort $(wildcard $(TOP)src/*.c)))
SHLIB_LINK  = -lcrypto
PG_CPPFLAGS = -DPLAT_VERSION='"$(EXTVERSION)"'
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
PG_CFLAGS  += $(if $(WERROR),-Werror)

REGRESS        = $(patsubst $(TOP)test/sql/%.sql,%,$(sort $(wildcard $(TOP)test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=$(TOP)test --load-extension=$(EXTENSION) --encoding=UTF8
ISOLATION      = $(patsubst $(TOP)test/specs/%.spec,%,$(sort $(wildcard $(TOP)test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(TOP)test --outputdir=. --load-extension=$(EXTENSION) --encoding=UTF8
# TAP tests need the Perl module IPC::Run; without it installcheck leaves them out.
ifeq ($(shell perl -MIPC::Run -e 'print 1' 2>/dev/null),1)
TAP_TESTS      = 1
PROVE_TESTS    = test/t/*.pl
endif

# pg_regress prefers ./sql/X.sql to test/sql/X.sql, and expected/ is shared.
CLASHES = $(filter $(basename $(SQL_PARTS)) $(ISOLATION),$(REGRESS))
$(if $(CLASHES),$(error test/sql/$(firstword $(CLASHES)).sql shares its name with an SQL part or an isolation test))

# These find PostgreSQL themselves, installing it when it is missing.
.DEFAULT_GOAL := all
SCRIPTED = test demo demo-stop bench indent
.PHONY: $(SCRIPTED)
test:      ; @$(TOP)test/run $(TEST)
demo:      ; @$(TOP)test/demo/run
demo-stop: ; @$(TOP)test/demo/run stop
bench:     ; @$(TOP)test/bench/run
indent:    ; @$(TOP)test/indent

ifneq ($(filter-out $(SCRIPTED),$(or $(MAKECMDGOALS),all)),)
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(shell mkdir -p src sql)	# an out-of-tree build starts without them
$(OBJS): $(wildcard $(TOP)src/*.h) $(TOP)$(EXTENSION).control $(firstword $(MAKEFILE_LIST))
$(DATA_built): $(addprefix $(TOP)sql/,$(SQL_PARTS)) $(TOP)$(EXTENSION).control
	cat $(addprefix $(TOP)sql/,$(SQL_PARTS)) | sed "s/@VERSION@/$(EXTVERSION)/" > $@
endif
