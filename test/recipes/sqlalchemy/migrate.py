# recipe: sqlalchemy-migration
from sqlalchemy import DDL, Table, create_engine, event
from shop import Base


@event.listens_for(Table, "after_create")
def protect(table, connection, **kw):
    if "tenant_id" in table.columns:
        connection.execute(DDL("SELECT platpat.protect('%(fullname)s')").against(table))


with create_engine("postgresql://").begin() as connection:
    Base.metadata.create_all(connection)
# end
