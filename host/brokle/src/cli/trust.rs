//! `brokle trust`: whom this host believes; and, for those who hold root keys, making roots and lists of revocations.

mod init;
mod revoke;
mod rotate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::trust::dsse::{Envelope, MAX_ENVELOPE};
use brokle_runtime::trust::{Anchor, KeyId, Prefix, Publisher, Role, TrustStore, files};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigFile, Outcome, keys};
use crate::config::{self, Config};
use crate::output;

/// See and change whom this host believes.
#[derive(Debug, Subcommand)]
#[command(after_help = "For operators:
  brokle trust show
  brokle trust add-publisher --name Acme --prefix acme. --key acme.pub.pem
  brokle trust import-revocations revocations.json
  brokle trust import-root root-2.json

For those who publish and license on their own (a vendor, or a company for its own installations):
  brokle trust init --out trust-keys
  brokle trust rotate root.json --sign-with root-1.key.pem --sign-with root-2.key.pem --remove KEYID --out root-2.json
  brokle trust revoke --key revocation.key.pem --license lic-1 --out revocations.json
  brokle trust cosign root-2.json --key root-3.key.pem

A running server sees a change when it looks at its plugins again, at the latest within the hour.")]
pub(crate) enum TrustCommand {
    /// Show the root, the publishers and the revocations.
    Show(Common),
    /// Believe a publisher, for the ids under a prefix.
    AddPublisher {
        #[command(flatten)]
        common: Common,
        /// For people.
        #[arg(long)]
        name: String,
        /// The ids that it may sign for, with a dot at the end: `acme.`
        #[arg(long, value_parser = |text: &str| Prefix::try_from(text.to_owned()))]
        prefix: Prefix,
        /// Its public key (PEM).
        #[arg(long, value_name = "PUBLIC_KEY")]
        key: PathBuf,
    },
    /// Stop believing a publisher.
    RemovePublisher {
        #[command(flatten)]
        common: Common,
        /// The key's id, as `show` has it.
        id: KeyId,
    },
    /// Take a newer list of revocations.
    ImportRevocations {
        #[command(flatten)]
        common: Common,
        /// The signed list.
        file: PathBuf,
    },
    /// Take the next root.
    ImportRoot {
        #[command(flatten)]
        common: Common,
        /// The signed root.
        file: PathBuf,
    },
    /// Make a first root, and a key for every role.
    Init(init::Init),
    /// Make the root that follows another one.
    Rotate(rotate::Rotate),
    /// Make a list of revocations.
    Revoke(revoke::Revoke),
    /// Add a signature to a root, a list, or a plugin's statement that somebody else has begun.
    Cosign {
        /// The envelope; it is written anew.
        file: PathBuf,
        /// The private key (PKCS#8 PEM); may be repeated.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    config: ConfigFile,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// `DATA_DIR/trust`.
pub(crate) fn folder(config: &Config) -> PathBuf {
    config.storage.data_dir.join("trust")
}

fn host_version() -> Result<semver::Version, semver::Error> {
    env!("CARGO_PKG_VERSION").parse()
}

/// The store of the data directory.
pub(crate) fn store(config: &Config) -> Result<TrustStore, Box<dyn std::error::Error + Send + Sync>> {
    let anchor = Anchor::choose(config.runtime.trust_root.as_deref())?;
    Ok(TrustStore::open(&folder(config), anchor, host_version()?, [])?)
}

/// A store to ask: with only the root that is named, else that of the data directory, which isn't made for it.
pub(crate) fn read_only_store(
    config: &ConfigFile,
    root: Option<&Path>,
) -> Result<TrustStore, Box<dyn std::error::Error + Send + Sync>> {
    if let Some(root) = root {
        let root = files::read_named(root, MAX_ENVELOPE)?;
        return Ok(TrustStore::detached(Anchor::Provisioned { root, revocations: None }, host_version()?)?);
    }
    let config = config::load(config.config.as_deref())?;
    if folder(&config).is_dir() {
        return store(&config);
    }
    let anchor = Anchor::choose(config.runtime.trust_root.as_deref())?;
    Ok(TrustStore::detached(anchor, host_version()?)?)
}

pub(super) fn run(command: &TrustCommand) -> Outcome {
    match command {
        TrustCommand::Show(common) => show(common),
        TrustCommand::AddPublisher { common, name, prefix, key } => {
            let public = keys::public(key)?;
            let id = public.id();
            let publisher =
                Publisher { name: name.clone(), prefix: prefix.clone(), public, added_at: SystemClock.now() };
            common.store()?.add_publisher(publisher)?;
            common.done(&format!("{name} ({id}) may sign for {prefix}*"))
        }
        TrustCommand::RemovePublisher { common, id } => {
            if !common.store()?.remove_publisher(*id)? {
                return Err(format!("no publisher has key {id}; `brokle trust show` lists them").into());
            }
            common.done(&format!("{id} is no longer believed"))
        }
        TrustCommand::ImportRevocations { common, file } => {
            let bytes = files::read_named(file, MAX_ENVELOPE)?;
            let version = common.store()?.import_revocations(&bytes)?;
            common.done(&format!("The list of revocations is at version {version}"))
        }
        TrustCommand::ImportRoot { common, file } => {
            let bytes = files::read_named(file, MAX_ENVELOPE)?;
            let version = common.store()?.import_root(&bytes, SystemClock.now())?;
            common.done(&format!("The root is at version {version}"))
        }
        TrustCommand::Init(command) => init::run(command),
        TrustCommand::Rotate(command) => rotate::run(command),
        TrustCommand::Revoke(command) => revoke::run(command),
        TrustCommand::Cosign { file, key } => {
            let mut envelope = Envelope::parse(&files::read_named(file, MAX_ENVELOPE)?)?;
            for key in keys::secrets(key)? {
                envelope.cosign(&key);
            }
            files::write(file, &envelope.to_json(), 0o644)?;
            let count = envelope.signatures.len();
            output::lines([format!("{} has {count} signatures", file.display())])?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Common {
    fn store(&self) -> Result<TrustStore, Box<dyn std::error::Error + Send + Sync>> {
        store(&config::load(self.config.config.as_deref())?)
    }

    fn done(&self, what: &str) -> Outcome {
        if self.json {
            output::json(&serde_json::json!({ "done": what }))?;
        } else {
            output::lines([what])?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
struct Shown {
    root: Option<brokle_runtime::trust::Root>,
    publishers: Vec<Publisher>,
    revocations: Option<brokle_runtime::trust::Revocations>,
    warnings: Vec<String>,
}

fn show(common: &Common) -> Outcome {
    let store = read_only_store(&common.config, None)?;
    let shown = Shown {
        root: store.root(),
        publishers: store.publishers(),
        revocations: store.revocations(),
        warnings: store.warnings(SystemClock.now()),
    };
    if common.json {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    match &shown.root {
        None => {
            lines
                .push("No root of trust: this binary has none, and BROKLE_TRUST_ROOT names none.".to_owned());
        }
        Some(root) => {
            lines.push(format!("Root {}, until {}", root.version, root.expires.date_naive()));
            for role in Role::ALL {
                lines.push(format!("  {} ({} needed)", role.as_str(), root.threshold(role)));
                let keys = root.keys.iter().filter(|(_, key)| key.role == role);
                lines.extend(keys.map(|(id, key)| {
                    let prefixes: Vec<String> =
                        key.prefixes.iter().map(|prefix| format!(" {prefix}*")).collect();
                    format!("    {id} until {}{}", key.not_after.date_naive(), prefixes.concat())
                }));
            }
        }
    }
    lines.push(format!("Publishers: {}", shown.publishers.len()));
    let publishers = shown.publishers.iter();
    lines.extend(publishers.map(|each| format!("  {} {}* ({})", each.public.id(), each.prefix, each.name)));
    match &shown.revocations {
        None => lines.push("No list of revocations.".to_owned()),
        Some(list) => lines.push(format!(
            "Revocations {}: {} keys, {} components, {} licenses; the next is due on {}",
            list.version,
            list.keys.len(),
            list.components.len(),
            list.licenses.len(),
            list.next_update.date_naive()
        )),
    }
    lines.extend(shown.warnings.iter().map(|warning| format!("warning: {warning}")));
    output::lines(lines)?;
    Ok(ExitCode::SUCCESS)
}
