const { withTenant } = require('./tenant');

// recipe: node-use
function placeOrder(pool, tenant, item) {
  return withTenant(pool, tenant, (client) =>
    client.query('INSERT INTO orders (item) VALUES ($1)', [item]));
}
// end

module.exports = { placeOrder };
