//! `brokle trust revoke`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::trust::dsse::{Envelope, MAX_ENVELOPE};
use brokle_runtime::trust::{
    KeyId, Revocations, RevokedComponent, RevokedKey, RevokedLicense, SecretKey, files,
};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use semver::VersionReq;

use super::Outcome;
use crate::cli::keys;
use crate::output;

/// A list is whole: begin with the last one (--from), else what it revoked is no longer revoked.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The list to add to.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// A revocation key of the root (PKCS#8 PEM); may be repeated.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<PathBuf>,
    /// A key, from a date on or altogether: KEYID or KEYID@2026-01-31T00:00:00Z.
    #[arg(long, value_name = "KEYID[@TIME]", value_parser = parse_key)]
    key_id: Vec<(KeyId, Option<DateTime<Utc>>)>,
    /// A component by the SHA-256 of its file.
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    sha256: Vec<String>,
    /// Versions of a component: acme.guard=<1.2.3
    #[arg(long, value_name = "ID=RANGE", value_parser = parse_versions)]
    versions: Vec<(String, VersionReq)>,
    /// A license by its id.
    #[arg(long, value_name = "JTI")]
    license: Vec<String>,
    /// The lowest release of a component that still runs: acme.guard=7
    #[arg(long, value_name = "ID=N", value_parser = parse_release)]
    min_release_seq: Vec<(String, u64)>,
    /// The lowest security epoch of the vendor's components that still runs.
    #[arg(long, value_name = "N")]
    min_security_epoch: Option<u64>,
    /// Why, for people.
    #[arg(long, default_value = "")]
    reason: String,
    /// After how many days the next list is due.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
    /// The new list.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn parse_key(text: &str) -> Result<(KeyId, Option<DateTime<Utc>>), String> {
    match text.split_once('@') {
        Some((id, from)) => {
            let from =
                from.parse().map_err(|_| format!("'{from}' is no time, such as 2026-01-31T00:00:00Z"))?;
            Ok((id.parse()?, Some(from)))
        }
        None => Ok((text.parse()?, None)),
    }
}

fn parse_sha256(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    // A digest and a key's id have the same form.
    digits
        .parse::<KeyId>()
        .map(|id| id.to_string())
        .map_err(|_| "64 lower-case hex digits are expected".to_owned())
}

fn parse_versions(text: &str) -> Result<(String, VersionReq), String> {
    let (id, range) = text.split_once('=').ok_or("ID=RANGE is expected")?;
    Ok((id.to_owned(), range.parse().map_err(|error| format!("'{range}': {error}"))?))
}

fn parse_release(text: &str) -> Result<(String, u64), String> {
    let (id, seq) = text.split_once('=').ok_or("ID=N is expected")?;
    Ok((id.to_owned(), seq.parse().map_err(|_| format!("'{seq}' is no number"))?))
}

pub(super) fn run(command: &Revoke) -> Outcome {
    let now = SystemClock.now();
    let mut list = match &command.from {
        Some(path) => {
            let envelope = Envelope::parse(&files::read_named(path, MAX_ENVELOPE)?)?;
            serde_json::from_slice(&envelope.payload)?
        }
        None => Revocations {
            version: 0,
            issued_at: now,
            next_update: now,
            keys: Vec::new(),
            components: Vec::new(),
            licenses: Vec::new(),
            min_release_seq: std::collections::BTreeMap::new(),
            min_security_epoch: 0,
        },
    };
    list.version += 1;
    list.issued_at = now;
    list.next_update = now + TimeDelta::days(command.days);
    let reason = &command.reason;
    list.keys.extend(command.key_id.iter().map(|(keyid, from)| RevokedKey {
        keyid: *keyid,
        from: *from,
        except: Vec::new(),
        reason: reason.clone(),
    }));
    let by_hash = command.sha256.iter().map(|sha256| (Some(sha256.clone()), None, None));
    let by_version = command.versions.iter().map(|(id, range)| (None, Some(id.clone()), Some(range.clone())));
    list.components.extend(by_hash.chain(by_version).map(|(sha256, id, versions)| RevokedComponent {
        sha256,
        id,
        versions,
        reason: reason.clone(),
    }));
    list.licenses.extend(command.license.iter().map(|jti| RevokedLicense {
        jti: jti.clone(),
        from: Some(now),
        reason: reason.clone(),
    }));
    list.min_release_seq.extend(command.min_release_seq.iter().cloned());
    list.min_security_epoch = command.min_security_epoch.unwrap_or(0).max(list.min_security_epoch);
    let keys = keys::secrets(&command.key)?;
    files::write(&command.out, &list.sign(&keys.iter().collect::<Vec<&SecretKey>>())?, 0o644)?;
    output::lines([format!(
        "Wrote version {} into {}. Hosts take it with `brokle trust import-revocations`.",
        list.version,
        command.out.display()
    )])?;
    Ok(ExitCode::SUCCESS)
}
