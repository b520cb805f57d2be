//! Real servers for tests: found on this machine, started in a directory of their own, ended with the test process.
//!
//! A test that needs a server fails without it, and the error names the package to install. `SKIP_SERVICES=1` skips
//! such tests instead; that is for a person in a hurry, never for a build that decides something.

mod address;
mod clickhouse;
mod postgres;
mod redis;
mod registry;
mod s3;
mod wire;

pub use address::free_address;
pub use clickhouse::{ClickHouse, ClickHouseParts};
pub use postgres::{Postgres, TestDatabase};
pub use redis::{Fsync, Redis};
pub use registry::Registry;
pub use s3::S3;
pub use wire::Wire;

/// Why a server isn't there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its programs aren't installed.
    #[error(
        "{program} was not found in {searched}: install the distribution's package `{package}`, or set SKIP_SERVICES=1 \
         to skip the tests that need it"
    )]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// Where.
        searched: &'static str,
        /// What to install.
        package: &'static str,
    },
    /// It is a part of this workspace, or fetched by its scripts.
    #[error(
        "{file} was not found in the build's folder: run scripts/clickhouse_dev.sh, scripts/s3_dev.sh and `cargo build -p \
         brokle-clickhouse-dev`, or set SKIP_SERVICES=1 to skip the tests that need it"
    )]
    NotBuilt {
        /// What was looked for.
        file: &'static str,
    },
    /// It was found, but it didn't start or do as told.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came of it, the end of the server's log included.
        reason: String,
    },
}

/// Did somebody ask to skip what needs a server?
#[must_use]
pub fn skipped() -> bool {
    std::env::var_os("SKIP_SERVICES").is_some_and(|value| value == "1")
}
