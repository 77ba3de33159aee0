# recipe: django
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connection, transaction

_tenant = ContextVar("tenant", default=None)


def current_tenant():
    return _tenant.get()


def tenant_of(request):
    return request.get_host().partition(".")[0]


@contextmanager
def acting_for(tenant):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT platpat.set_tenant(%s)", [tenant])
        token = _tenant.set(tenant)
        try:
            yield
        finally:
            _tenant.reset(token)


class TenantMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with acting_for(tenant_of(request)):
            return self.get_response(request)
# end
