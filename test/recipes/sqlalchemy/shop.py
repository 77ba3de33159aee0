"""What the shop stores, and how a session acts for a tenant."""
from sqlalchemy import BigInteger, Column, Identity, Text, event, text
from sqlalchemy.orm import Session, declarative_base


# recipe: sqlalchemy
@event.listens_for(Session, "after_begin")
def set_tenant(session, transaction, connection):
    tenant = session.info.get("tenant")
    if tenant is not None:
        connection.execute(text("SELECT platpat.set_tenant(:tenant)"), {"tenant": tenant})
# end


# recipe: sqlalchemy-model
Base = declarative_base()


class Order(Base):
    __tablename__ = "orders"
    tenant_id = Column(Text, primary_key=True, server_default=text("platpat.current_tenant()"))
    id = Column(BigInteger, Identity(), primary_key=True)
    item = Column(Text, nullable=False)
# end


# recipe: sqlalchemy-use
def place_order(engine, tenant, item):
    with Session(engine, info={"tenant": tenant}) as session, session.begin():
        session.add(Order(item=item))
# end
