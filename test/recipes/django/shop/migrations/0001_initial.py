# recipe: django-migration
from django.db import migrations, models

import shop.tenants


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.TextField(default=shop.tenants.current_tenant, editable=False)),
                ("item", models.TextField()),
            ],
        ),
        migrations.RunSQL(
            "SELECT platpat.protect('shop_order')",
            "SELECT platpat.unprotect('shop_order')",
        ),
    ]
# end
