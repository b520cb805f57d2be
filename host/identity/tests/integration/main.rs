//! Keys, the first start and connections, over SQLite and over a real PostgreSQL.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod authenticate;
#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod last_used;
#[cfg(test)]
mod outage;
