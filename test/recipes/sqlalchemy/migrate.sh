# recipe: sqlalchemy-migrate
PGUSER=shop_owner python3 migrate.py
# end
