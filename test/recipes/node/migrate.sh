# recipe: node-migrate
PGUSER=shop_owner node migrate.js
# end
