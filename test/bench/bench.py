"""Backend CPU of platpat and of its plain alternatives, as markdown tables.

Each alternative has a session of its own.  Rounds are interleaved, so that a
busy machine slows all alternatives alike, and medians are compared.  The clock
is the CPU time of the backend's process, read from outside to the nanosecond.
"""
import statistics
import sys
import time

import psycopg2

HOST, ROUNDS = sys.argv[1], int(sys.argv[2])
BIG = "3f2504e0-4f89-41d3-9a0c-000000000000"     # half of all rows
SMALL = "3f2504e0-4f89-41d3-9a0c-000000000001"   # 500 rows
POINTS = 20000
TRANSACTIONS = 20000
LABELS = {
    "plain": "no policy, the tenant as a literal",
    "ours": "`platpat.current_tenant_uuid()` (platpat)",
    "setting": "`current_setting()::uuid`",
    "initplan": "`(SELECT current_setting()::uuid)`",
}


class Session:
    """A session that runs one of the alternatives for `tenant`."""

    def __init__(self, name, tenant):
        user = "bench_plain" if name == "plain" else "bench_app"
        self.connection = psycopg2.connect(host=HOST, dbname="bench", user=user)
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        # the CPU clock of another process, see clock_getcpuclockid(3)
        self.clock = (~self.connection.get_backend_pid() << 3) | 2
        if user == "bench_app":
            self.run("SELECT platpat.set_tenant(%s, false)", tenant)
        self.run("SELECT set_config('bench.tenant', %s, false)", tenant)

    def run(self, sql, *args):
        self.cursor.execute(sql, args or None)
        return self.cursor.fetchall() if self.cursor.description else None

    def cpu(self, sql):
        """Microseconds of backend CPU that the statement took."""
        before = time.clock_gettime(self.clock)
        self.run(sql)
        return (time.clock_gettime(self.clock) - before) * 1e6


def measure(statements, tenant, prepare=(), calls=1):
    """Median microseconds per call of each {name: statement}."""
    sessions = {name: Session(name, tenant) for name in statements}
    for name, session in sessions.items():
        for statement in prepare:
            session.run(statement)
        session.run(statements[name])           # warm caches and plans
    taken = {name: [] for name in statements}
    names = list(statements)
    for turn in range(ROUNDS):
        # nobody always goes first
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            taken[name].append(sessions[name].cpu(statements[name]) / calls)
    for session in sessions.values():
        session.connection.close()
    return {name: statistics.median(values) for name, values in taken.items()}


def select(name, what, tenant):
    """The query of an alternative; only the plain one has to name the tenant."""
    if name == "plain":
        return f"SELECT {what} FROM ours WHERE tenant_id = '{tenant}'"
    return f"SELECT {what} FROM {name}"


def table(*rows):
    """Print a markdown table; the first row is its head."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" + "|--:" * (len(rows[0]) - 1) + "|")
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def seen(condition):
    return "met" if condition else "MISSED"


def title(text):
    print(f"### {text}\n")


def scans():
    title("Sequential scan of 1,000,000 rows, `count(*)` of a small tenant")
    off = [f"SET enable_{node} = off" for node in ("indexscan", "indexonlyscan", "bitmapscan")]
    taken = measure({name: select(name, "count(*)", SMALL) for name in LABELS}, SMALL, off)
    table(("policy", "ms per scan", "against the literal"),
          *((LABELS[n], f"{t / 1000:.1f}", f"{t / taken['plain']:.2f}") for n, t in taken.items()))
    return taken["ours"] / taken["plain"]


def points():
    title("Cached point query on the primary key `(tenant_id, id)`")
    taken = measure({name: f"SELECT point_{name}({POINTS})" for name in LABELS}, SMALL, calls=POINTS)
    table(("policy", "µs per query", "against the literal"),
          *((LABELS[n], f"{t:.2f}", f"{t / taken['plain']:.2f}") for n, t in taken.items()))
    return taken["ours"] / taken["plain"]


def estimates():
    title("Rows the planner expects of a tenant that owns 500,000 of 1,000,000")
    rows = {}
    for name in LABELS:
        session = Session(name, BIG)
        plan = session.run("EXPLAIN (FORMAT JSON) " + select(name, "*", BIG))
        rows[name] = plan[0][0][0]["Plan"]["Plan Rows"]
        session.connection.close()
    table(("policy", "expected rows"), *((LABELS[n], f"{r:,}") for n, r in rows.items()))
    return rows["ours"], rows["plain"]


def transactions():
    title("Setting the tenant in a transaction, its end included")
    calls = {
        "set_tenant": "`platpat.set_tenant(...)`",
        "set_local": "`SET LOCAL ...`",
        "set_config": "`set_config(..., true)`",
    }
    names = ["constant", *calls]
    taken = measure({n: f"CALL transactions_{n}({TRANSACTIONS})" for n in names}, SMALL,
                    # the session's own tenant would forbid nothing here, but
                    # would be restored at each commit
                    ["RESET ALL"], TRANSACTIONS)
    base = taken["constant"]
    table(("call", "µs per transaction", "µs more than `pg_backend_pid()`"),
          ("`pg_backend_pid()`", f"{base:.2f}", "0"),
          *((calls[n], f"{taken[n]:.2f}", f"{taken[n] - base:.2f}") for n in calls))
    return taken["set_tenant"] - base


def main():
    version = Session("plain", SMALL).run("SHOW server_version")[0][0]
    print(f"PostgreSQL {version}, backend CPU, medians of {ROUNDS} interleaved rounds.\n")
    scan, point, (ours, literal), micros = scans(), points(), estimates(), transactions()
    title("Targets")
    table(("number", "measured", "target", ""),
          ("sequential scan against the literal", f"{scan:.2f}", "<= 1.06", seen(scan <= 1.06)),
          ("cached point query against the literal", f"{point:.2f}", "<= 1.20", seen(point <= 1.20)),
          ("estimate of a skewed tenant", f"{ours:,}", f"the literal's {literal:,}",
           seen(ours == literal)),
          ("`set_tenant` in a transaction", f"{micros:.2f} µs", "<= 2 µs", seen(micros <= 2)))


main()
