# recipe: django-model
from django.db import models

from .tenants import current_tenant


class Order(models.Model):
    tenant_id = models.TextField(default=current_tenant, editable=False)
    item = models.TextField()
# end
