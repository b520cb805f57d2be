//! `brokle license`: this host's license; and, for the vendor, issuing one.

mod issue;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::SystemRandom;
use brokle_runtime::license::token::MAX_LICENSE;
use brokle_runtime::license::{Entitlements, Licenses, State};
use brokle_runtime::trust::files;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigFile, Outcome, trust};
use crate::config;
use crate::output;

/// See, check and install a license. Everything works offline.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle license show                      the state, and the instance id that a license may be bound to
  brokle license verify license.jwt        exit 0, or the code on standard error and exit 1
  brokle license install license.jwt
  brokle license issue --key license.key.pem --customer Acme --tier business --days 365 > license.jwt

What goes on when a license ends is in docs/licensing.md: traffic, sign-in, redaction, audit and export always do.")]
pub(crate) enum LicenseCommand {
    /// Show where this host's license stands.
    Show(Common),
    /// Say what a license would give on this host, without keeping it.
    Verify {
        #[command(flatten)]
        common: Common,
        /// The license.
        file: PathBuf,
        /// Hold it against this root, not against what this host believes.
        #[arg(long, value_name = "ROOT")]
        root: Option<PathBuf>,
    },
    /// Keep a license. One that doesn't hold here is refused, and the one before stays.
    Install {
        #[command(flatten)]
        common: Common,
        /// The license.
        file: PathBuf,
    },
    /// For the vendor: sign a license. It goes to standard output.
    Issue(Box<issue::Issue>),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    config: ConfigFile,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    instance: &'a str,
    #[serde(flatten)]
    entitlements: &'a Entitlements,
}

pub(super) fn run(command: &LicenseCommand) -> Outcome {
    let now = SystemClock.now();
    match command {
        LicenseCommand::Show(common) => {
            let licenses = common.open(None)?;
            common.tell(&licenses, &licenses.current())
        }
        LicenseCommand::Verify { common, file, root } => {
            let token = files::read_named(file, MAX_LICENSE)?;
            let licenses = common.open(root.as_ref())?;
            let entitlements = licenses.check(&token, now);
            common.tell(&licenses, &entitlements)?;
            Ok(refused(&entitlements))
        }
        LicenseCommand::Install { common, file } => {
            let token = files::read_named(file, MAX_LICENSE)?;
            let licenses = common.open(None)?;
            match licenses.install(&token, now) {
                Ok(entitlements) => common.tell(&licenses, &entitlements),
                Err(refusal) => {
                    output::complain(&refusal.to_string());
                    Ok(ExitCode::FAILURE)
                }
            }
        }
        LicenseCommand::Issue(command) => issue::run(command),
    }
}

/// Failure, with the code on standard error, for a license that gives nothing new.
fn refused(entitlements: &Entitlements) -> ExitCode {
    let code = match (&entitlements.refusal, entitlements.state) {
        (Some(refusal), _) => refusal.to_string(),
        (None, State::Limited | State::Terminated) => "LICENSE_EXPIRED: the license has ended".to_owned(),
        (None, State::Revoked) => "LICENSE_REVOKED: the license was revoked".to_owned(),
        (None, _) => return ExitCode::SUCCESS,
    };
    output::complain(&code);
    ExitCode::FAILURE
}

impl Common {
    fn open(&self, root: Option<&PathBuf>) -> Result<Licenses, Box<dyn std::error::Error + Send + Sync>> {
        let config = config::load(self.config.config.as_deref())?;
        let store = match root {
            Some(root) => trust::read_only_store(&self.config, Some(root))?,
            None => trust::store(&config)?,
        };
        let configured = config.runtime.license_file.clone();
        let folder = trust::folder(&config);
        Ok(Licenses::open(&folder, configured, Arc::new(store), &SystemRandom, SystemClock.now())?)
    }

    fn tell(&self, licenses: &Licenses, entitlements: &Entitlements) -> Outcome {
        if self.json {
            output::json(&Shown { instance: licenses.instance(), entitlements })?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = vec![
            format!("License   {}", entitlements.state.as_str()),
            format!("Instance  {}", licenses.instance()),
        ];
        if let Some(claims) = &entitlements.claims {
            lines.push(format!("Customer  {} ({})", claims.customer, claims.jti));
            lines.push(format!("Tier      {}", claims.tier.as_str()));
            lines.push(format!("Until     {}", claims.exp));
            lines.extend(entitlements.limits.iter().map(|(name, limit)| {
                format!(
                    "Limit     {name}: {}",
                    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
                )
            }));
            lines.extend(entitlements.entitlements.iter().map(|name| format!("Has       {name}")));
        }
        lines.extend(entitlements.refusal.iter().map(|refusal| format!("Reason    {refusal}")));
        lines.extend(entitlements.warnings.iter().map(|warning| format!("Warning   {warning}")));
        output::lines(lines)?;
        Ok(ExitCode::SUCCESS)
    }
}
