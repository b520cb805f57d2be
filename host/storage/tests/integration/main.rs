//! The repositories and migrations, over SQLite and over a real PostgreSQL.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod blobs;
#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod exporters;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod observations;
#[cfg(test)]
mod plugin_kv;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod row_level_security;
#[cfg(test)]
mod score_configs;
#[cfg(test)]
mod tenants;
