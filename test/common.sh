# Sourced by test/run, test/demo/run and test/bench/run: a private copy of the
# tree, a build that stays inside it and a throw-away cluster.
#
# PostgreSQL refuses to run as root.  A script therefore has two halves: the
# outer one installs packages, makes a scratch folder with a copy of the tree
# and cleans up; the inner one is the same script, run out of the copy as an
# unprivileged user, with PLAT_SCRATCH naming the folder.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
server_user=$([ "$(id -u)" = 0 ] && echo postgres || id -un)

# The folder is 0700: everybody who can reach the socket is a superuser of the
# cluster, and so could run programs as the user of the server.
make_scratch() {
	scratch=${1:-$(mktemp -d "${TMPDIR:-/tmp}/platpat.XXXXXX")}
	mkdir -p -m 0700 "$scratch"
	copy_tree "$scratch/tree"
	chown -R "$server_user" "$scratch"
}

# What git would know: tracked files and new ones, nothing that was built.
# safe.directory, because the tree may belong to another user than root.
copy_tree() {
	local version
	version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" "$top/platpat.control")
	mkdir -p "$1"
	if git -c safe.directory='*' -C "$top" rev-parse >/dev/null 2>&1; then
		git -c safe.directory='*' -C "$top" ls-files -coz --exclude-standard |
			while IFS= read -r -d '' file; do
				# a file deleted but not committed is still listed
				[ ! -e "$top/$file" ] || printf '%s\0' "$file"
			done
	else
		(cd "$top" && find . -type f ! -name '*.o' ! -name '*.bc' ! -name '*.so' \
			! -path "./sql/platpat--$version.sql" ! -path './tmp_check*' ! -path './results/*' -print0)
	fi | tar -C "$top" --null --files-from=- -cf - | tar -C "$1" -xf -
}

# Run the inner half in a session of its own, so that one signal ends
# everything it started.
run_inner() {
	local command=(env "PLAT_SCRATCH=$scratch" "HOME=$scratch" "$scratch/tree/$1" "${@:2}")
	[ "$(id -u)" != 0 ] || command=(runuser -u "$server_user" -- "${command[@]}")
	cd "$scratch"
	setsid "${command[@]}" </dev/null &
	inner=$!
	wait "$inner"
}

# End the inner half and every server below the scratch folder, its own and
# those of the TAP tests.
stop_everything() {
	local pid_file pid
	[ -z "${inner:-}" ] || kill -TERM -- "-$inner" 2>/dev/null || true
	while IFS= read -r pid_file; do
		pid=$(head -1 "$pid_file" 2>/dev/null) || continue
		# a left-over file may name somebody else's process by now
		[[ $(readlink "/proc/$pid/cwd") == "$scratch"/* ]] || continue
		kill -QUIT "$pid" 2>/dev/null || continue
		for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
	done < <(find "$scratch" -name postmaster.pid 2>/dev/null)
}

remove_scratch() {
	cd /
	stop_everything
	[ -n "${PLAT_KEEP:-}" ] && echo "kept $scratch" || rm -rf "$scratch"
}

# ------------------------------------------------ the inner half from here on

use_postgres() {
	PG_CONFIG=$("$top/test/packages" --pg-config)
	bindir=$("$PG_CONFIG" --bindir)
	pg_major=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
	pgxs_dir=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	export PG_CONFIG PATH=$bindir:$PATH
	unset PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE
}

# build DIR DESTDIR [make variables]: out of tree, never into the system.
build() {
	local dir=$1 dest=$2 log=$1.log
	mkdir -p "$dir"
	# Bitcode would double the time and nothing here runs it.
	if ! make -j2 -C "$dir" -f "$top/Makefile" VPATH="$top" with_llvm=no \
		"${@:3}" DESTDIR="$dest" install >"$log" 2>&1; then
		cat "$log"
		return 1
	fi
}

init_cluster() {
	initdb -D "$1" -U postgres -A trust --no-sync --no-locale -E UTF8 >"$1.log" 2>&1 ||
		{ cat "$1.log"; return 1; }
}

# Lines of postgresql.conf that let a server find an extension installed below
# $2; $1 is any data directory, to ask the server what it knows.  Debian has a
# setting of its own for this, PostgreSQL 18 brought a general one.
find_extension_conf() {
	if postgres -D "$1" -C extension_destdir >/dev/null 2>&1; then
		echo "extension_destdir = '$2'"
	elif [ "$pg_major" -ge 18 ]; then
		echo "extension_control_path = '$2$("$PG_CONFIG" --sharedir):\$system'"
		echo "dynamic_library_path = '$2$("$PG_CONFIG" --pkglibdir):\$libdir'"
	else
		echo "this PostgreSQL cannot load an extension from a private folder;" >&2
		echo "use make install and make installcheck" >&2
		return 1
	fi
}

# The name to preload depends on the way the library is found.
preload_conf() {
	case $1 in
		extension_destdir*) echo "shared_preload_libraries = '\$libdir/platpat'" ;;
		*) echo "shared_preload_libraries = 'platpat'" ;;
	esac
}

# start_cluster DATA SOCKET_DIR LINES_OF_CONF
start_cluster() {
	cat >>"$1/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$2'
		fsync = off
		max_prepared_transactions = 10
		$3
	END
	pg_ctl -D "$1" -l "$1.server.log" -w start >/dev/null || { tail -20 "$1.server.log"; return 1; }
}

stop_cluster() {
	pg_ctl -D "$1" -m fast -w stop >/dev/null
}
