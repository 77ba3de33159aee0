# recipe: django-migrate
PGUSER=shop_owner python3 manage.py migrate
# end
