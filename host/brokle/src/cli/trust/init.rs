//! `brokle trust init`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::SystemRandom;
use brokle_runtime::trust::{KeyId, Role, Root, RootKey, SecretKey, files};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Args;

use super::Outcome;
use crate::cli::keys::write_pair;
use crate::output;

/// Writes root.json, and a key pair for each role. Keep root-*.key.pem offline and apart from each other.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder for root.json and the keys; no file is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many root keys there are.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_keys: u8,
    /// How many of them it takes to make the next root.
    #[arg(long, value_name = "N", default_value_t = 2)]
    root_threshold: usize,
    /// For how many days it may sign; what was signed in time holds on.
    #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

/// A root's key that holds from now on.
pub(super) fn root_key(
    public: brokle_runtime::trust::PublicKey,
    role: Role,
    now: DateTime<Utc>,
    days: i64,
) -> (KeyId, RootKey) {
    let not_after = now + TimeDelta::days(days);
    (public.id(), RootKey { public, role, not_before: now, not_after, prefixes: Vec::new() })
}

pub(super) fn run(command: &Init) -> Outcome {
    files::private_folder(&command.out)?;
    // Whole seconds, as a license's dates are: one that is issued at once must not be older than its key.
    let now = SystemClock.now().trunc_subsecs(0);
    let mut keys = BTreeMap::new();
    let mut roots = Vec::new();
    let roles =
        [("publisher", Role::Publisher), ("license", Role::License), ("revocation", Role::Revocation)];
    let names = (1..=command.root_keys).map(|number| (format!("root-{number}"), Role::Root));
    for (name, role) in names.chain(roles.map(|(name, role)| (name.to_owned(), role))) {
        let key = SecretKey::generate(&SystemRandom);
        write_pair(&command.out, &name, &key)?;
        keys.extend([root_key(key.public(), role, now, command.days)]);
        if role == Role::Root {
            roots.push(key);
        }
    }
    let thresholds =
        Role::ALL.map(|role| (role, if role == Role::Root { command.root_threshold } else { 1 }));
    let root = Root {
        version: 1,
        issued_at: now,
        expires: now + TimeDelta::days(command.days),
        keys,
        thresholds: thresholds.into(),
    };
    let path = command.out.join("root.json");
    files::create(&path, &root.sign(&roots.iter().collect::<Vec<_>>())?, 0o644)?;
    output::lines([format!(
        "Wrote {} and the keys beside it. Build with BROKLE_BUILD_ROOT={0}, or start a binary that has no root with \
         BROKLE_TRUST_ROOT={0}.",
        path.display()
    )])?;
    Ok(ExitCode::SUCCESS)
}
