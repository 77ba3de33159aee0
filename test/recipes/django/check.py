"""What the recipe promises, tried; test/t/050_recipes.pl compares the answers."""
import logging
import os

import django
from django.db import Error, connection, transaction
from django.test import Client, override_settings

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()
logging.disable(logging.ERROR)

from shop.models import Order  # noqa: E402
from shop.tenants import acting_for, tenant_of  # noqa: E402

backends = set()


def show(name, value):
    print(f"{name}: {value}")


def client_of(tenant):
    return Client(HTTP_HOST=f"{tenant}.example.com")


def read_for(tenant):
    response = client_of(tenant).get("/orders")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backends.add(cursor.fetchone())
    return ",".join(response.json()["items"])


def refusal(action, *args, **kw):
    """The SQLSTATE with which the server refuses an action, or what it gave."""
    try:
        return action(*args, **kw)
    except Error as error:
        return error.__cause__.pgcode


def write_for_another():
    with acting_for("acme"):
        Order.objects.create(tenant_id="globex", item="forged")


client_of("acme").post("/orders", {"item": "anvil"})
show("acme sees", read_for("acme"))
client_of("globex").post("/orders", {"item": "rocket"})
show("globex sees", read_for("globex"))
show("without a tenant", refusal(Order.objects.count))
show("row of another tenant", refusal(write_for_another))
show("acme still sees", read_for("acme"))
show("one connection", str(len(backends) == 1).lower())

# A failed request leaves nothing behind, although its middleware commits.
client = client_of("acme")
client.raise_request_exception = False
show("failed request", client.get("/broken").status_code)
show("after a failed request", read_for("acme"))


# The pitfalls.
class CarelessMiddleware:
    """ATOMIC_REQUESTS begins its transaction later, around the view."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT platpat.set_tenant(%s)", [tenant_of(request)])
        return self.get_response(request)


with override_settings(MIDDLEWARE=["__main__.CarelessMiddleware"]):
    show("outside a transaction", refusal(client_of("acme").get, "/orders"))

response = client_of("acme").get("/streamed")
show("response streamed later", refusal(list, response.streaming_content))


def switch_inside():
    with transaction.atomic():
        with acting_for("acme"):
            pass
        with acting_for("globex"):
            return "no error"


show("another tenant inside", refusal(switch_inside))
