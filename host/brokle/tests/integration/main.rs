//! The built program, from outside.

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod clickhouse;
#[cfg(test)]
mod compose;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod exporters;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod import;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod licensed;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod masking;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod resident;
#[cfg(test)]
mod resilience;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod tenancy;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod walk;
#[cfg(test)]
mod worker;
