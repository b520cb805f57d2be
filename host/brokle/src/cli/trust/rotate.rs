//! `brokle trust rotate`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::trust::dsse::{Envelope, MAX_ENVELOPE};
use brokle_runtime::trust::{KeyId, Prefix, Role, Root, SecretKey, files};
use chrono::{SubsecRound, TimeDelta};
use clap::Args;

use super::Outcome;
use super::init::root_key;
use crate::cli::keys;
use crate::output;

/// The next root must be signed by enough root keys of the old one *and* of its own. What is missing is added with
/// `brokle trust cosign`; a host says what it misses when the root is imported.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The root that is held now.
    root: PathBuf,
    /// A root key (PKCS#8 PEM), old or new; may be repeated.
    #[arg(long, value_name = "KEY", required = true)]
    sign_with: Vec<PathBuf>,
    /// Add a public key (PEM) for a role: root=new.pub.pem. A verified publisher with its prefix: publisher=acme.pub.pem@acme.
    #[arg(long, value_name = "ROLE=PUBLIC_KEY[@PREFIX]", value_parser = parse_added)]
    add: Vec<Added>,
    /// Take a key out.
    #[arg(long, value_name = "KEYID")]
    remove: Vec<KeyId>,
    /// How many keys of a role it takes: root=2.
    #[arg(long, value_name = "ROLE=N", value_parser = parse_threshold)]
    threshold: Vec<(Role, usize)>,
    /// For how many days it, and the keys that it adds, may sign.
    #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
    /// The new root; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Debug)]
struct Added {
    role: Role,
    path: PathBuf,
    prefix: Option<Prefix>,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let role = Role::ALL.into_iter().find(|role| role.as_str() == text);
    role.ok_or_else(|| format!("'{text}' is no role: root, publisher, license, revocation"))
}

fn parse_added(text: &str) -> Result<Added, String> {
    let (role, rest) = text.split_once('=').ok_or("ROLE=PUBLIC_KEY is expected")?;
    let (path, prefix) = match rest.split_once('@') {
        Some((path, prefix)) => (path, Some(Prefix::try_from(prefix.to_owned())?)),
        None => (rest, None),
    };
    Ok(Added { role: parse_role(role)?, path: path.into(), prefix })
}

fn parse_threshold(text: &str) -> Result<(Role, usize), String> {
    let (role, count) = text.split_once('=').ok_or("ROLE=N is expected")?;
    Ok((parse_role(role)?, count.parse().map_err(|_| format!("'{count}' is no number"))?))
}

pub(super) fn run(command: &Rotate) -> Outcome {
    let envelope = Envelope::parse(&files::read_named(&command.root, MAX_ENVELOPE)?)?;
    let mut root: Root = serde_json::from_slice(&envelope.payload)?;
    // Whole seconds, as a license's dates are: one that is issued at once must not be older than its key.
    let now = SystemClock.now().trunc_subsecs(0);
    root.version += 1;
    root.issued_at = now;
    root.expires = now + TimeDelta::days(command.days);
    for id in &command.remove {
        root.keys.remove(id).ok_or_else(|| format!("the root has no key {id}"))?;
    }
    for added in &command.add {
        let (id, mut key) = root_key(keys::public(&added.path)?, added.role, now, command.days);
        key.prefixes.extend(added.prefix.clone());
        root.keys.insert(id, key);
    }
    root.thresholds.extend(command.threshold.iter().copied());
    let keys = keys::secrets(&command.sign_with)?;
    let bytes = root.sign(&keys.iter().collect::<Vec<&SecretKey>>())?;
    files::create(&command.out, &bytes, 0o644)?;
    output::lines([format!(
        "Wrote root {} with {} signatures into {}. Hosts take it with `brokle trust import-root`.",
        root.version,
        keys.len(),
        command.out.display()
    )])?;
    Ok(ExitCode::SUCCESS)
}
