"""What the recipe promises, tried; test/t/050_recipes.pl compares the answers."""
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shop import Order, place_order

engine = create_engine("postgresql://", pool_size=1, max_overflow=0)
backends = set()


def show(name, value):
    print(f"{name}: {value}")


def session_for(tenant, bind=engine):
    return Session(bind, info={"tenant": tenant})


def items(session):
    backends.add(session.scalar(select(func.pg_backend_pid())))
    return ",".join(session.scalars(select(Order.item)))


def refusal(action, *args):
    """The SQLSTATE with which the server refuses an action, or what it gave."""
    try:
        return action(*args)
    except DBAPIError as error:
        return error.orig.pgcode


def read_for(tenant, bind=engine):
    with session_for(tenant, bind) as session:
        return items(session)


def write_for_another():
    with session_for("acme") as session, session.begin():
        session.add(Order(tenant_id="globex", item="forged"))


place_order(engine, "acme", "anvil")
show("acme sees", read_for("acme"))
place_order(engine, "globex", "rocket")
show("globex sees", read_for("globex"))
show("without a tenant", refusal(read_for, None))
show("row of another tenant", refusal(write_for_another))
show("acme still sees", read_for("acme"))
show("one connection", str(len(backends) == 1).lower())

# A session outlives its transactions and rolls back to savepoints.
with session_for("acme") as session:
    session.commit()
    show("after commit", items(session))
    nested = session.begin_nested()
    session.add(Order(item="undone"))
    session.flush()
    nested.rollback()
    show("after a savepoint", items(session))

# The pitfalls.
autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
show("outside a transaction", refusal(read_for, "acme", autocommit))


def read_without_session():
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM orders"))


show("connection without a session", refusal(read_without_session))

with Session(engine, info={"tenant": "acme"}, expire_on_commit=False) as session:
    order = session.scalars(select(Order)).one()
    key = (order.tenant_id, order.id)
    session.commit()
    session.info["tenant"] = "globex"
    show("session kept for another tenant", session.get(Order, key).item)

hooked = create_engine("postgresql://", pool_size=1, max_overflow=0)
statement = "SELECT platpat.set_tenant('acme')"


@event.listens_for(hooked, "checkout")
def set_at_checkout(dbapi_connection, record, proxy):
    with dbapi_connection.cursor() as cursor:
        cursor.execute(statement)


with hooked.connect() as connection:
    with connection.begin():
        show("first transaction after checkout", connection.scalar(select(Order.item)))
    show("second transaction after checkout", refusal(connection.scalar, select(Order.item)))

statement = "SELECT platpat.set_tenant('acme', false)"
show("for the session", refusal(hooked.connect))
