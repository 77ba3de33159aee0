// recipe: node
async function withTenant(pool, tenant, fn) {
  let broken;
  const onError = (error) => { broken = error; };
  const client = await pool.connect();
  client.on('error', onError);
  try {
    await client.query('BEGIN');
    await client.query('SELECT platpat.set_tenant($1)', [tenant]);
    const result = await fn(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(onError);
    throw error;
  } finally {
    client.off('error', onError);
    client.release(broken);
  }
}
// end

module.exports = { withTenant };
