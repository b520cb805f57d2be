//! `brokle plugin sign`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::inspect;
use brokle_runtime::trust::{SecretKey, Statement, files};
use chrono::{DateTime, Utc};
use clap::Args;
use semver::VersionReq;

use super::Outcome;
use crate::cli::keys;
use crate::output;

/// The statement covers the whole file: its SHA-256 and size, and the manifest's id, version, contract and imports.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The component.
    file: PathBuf,
    /// The private key (PKCS#8 PEM); several times for several signatures. Somebody else adds theirs with `brokle trust cosign`.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<PathBuf>,
    /// Grows with every release of this id; hosts refuse a lower one than they have seen [default: --built-at in seconds].
    #[arg(long, value_name = "N")]
    release_seq: Option<u64>,
    /// Raised when older releases must no longer run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    security_epoch: u64,
    /// What a license must have, besides what the manifest asks; may be repeated.
    #[arg(long, value_name = "NAME")]
    entitlement: Vec<String>,
    /// The hosts that it was made for.
    #[arg(long, value_name = "RANGE", default_value = ">=0.1, <2")]
    host: VersionReq,
    /// When it was built [default: now].
    #[arg(long, value_name = "TIME")]
    built_at: Option<DateTime<Utc>>,
}

pub(super) fn run(command: &Sign) -> Outcome {
    let component = files::read(&command.file, files::MAX_COMPONENT)?;
    let inspection = inspect(&component)?;
    let built_at = command.built_at.unwrap_or_else(|| SystemClock.now());
    let release_seq = command.release_seq.unwrap_or_else(|| u64::try_from(built_at.timestamp()).unwrap_or(0));
    let mut statement = Statement::of(&inspection, release_seq, command.host.clone(), built_at);
    statement.security_epoch = command.security_epoch;
    for entitlement in &command.entitlement {
        if !statement.entitlements.contains(entitlement) {
            statement.entitlements.push(entitlement.clone());
        }
    }
    let keys = keys::secrets(&command.key)?;
    let envelope = statement.sign(&keys.iter().collect::<Vec<&SecretKey>>());
    let path = files::envelope_path(&command.file);
    files::write(&path, &envelope.to_json(), 0o644)?;
    output::lines([format!(
        "Signed {} (release {release_seq}, sha256:{}) into {}",
        statement.label(),
        statement.sha256,
        path.display()
    )])?;
    Ok(ExitCode::SUCCESS)
}
