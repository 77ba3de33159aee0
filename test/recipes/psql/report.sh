# recipe: psql-script
psql --single-transaction --command "SELECT platpat.set_tenant('acme')" --file report.sql
# end
