//! The catalogue of plugins.

use std::path::PathBuf;
use std::time::Duration;

use brokle_plugins::Settings;
use brokle_plugins::health::Budget;
use brokle_plugins::sources::oci::Login;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The catalogue of plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plugins {
    /// A folder that is watched: a plugin that is dropped in is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<PathBuf>,
    /// Which hash each version has; without it `brokle-plugins.lock` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Development: unsigned plugins run, and a rebuilt file takes the place of the same version.
    pub(crate) dev: bool,
    /// Failures within a window after which a version is taken out.
    pub(crate) trap_budget: u32,
    /// That window, in milliseconds.
    pub(crate) trap_window_ms: u64,
    /// How much of the window's calls must have failed too, in percent.
    pub(crate) trap_percent: u32,
    /// How long a version is taken out for the first time, in milliseconds; doubled each time.
    pub(crate) backoff_ms: u64,
    /// The longest that it is taken out, in milliseconds.
    pub(crate) max_backoff_ms: u64,
    /// Registries that want to know who we are.
    pub(crate) registries: Vec<Registry>,
}

/// A registry that wants to know who we are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    /// Host, and port if it isn't the usual one.
    pub(crate) host: String,
    /// The user.
    pub(crate) username: String,
    /// The variable that holds the password or token.
    pub(crate) password_env: String,
}

impl Default for Plugins {
    fn default() -> Self {
        let budget = Budget::default();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            folder: None,
            lock_file: None,
            dev: false,
            trap_budget: budget.traps,
            trap_window_ms: milliseconds(budget.window),
            trap_percent: budget.percent,
            backoff_ms: milliseconds(budget.backoff),
            max_backoff_ms: milliseconds(budget.max_backoff),
            registries: Vec::new(),
        }
    }
}

impl Plugins {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.trap_budget == 0 {
            return Err(
                "plugins.trap_budget: 0 would take out every plugin at its first failure; 1 does".to_owned()
            );
        }
        if self.trap_percent > 100 {
            return Err("plugins.trap_percent: 0 to 100 is expected".to_owned());
        }
        Ok(())
    }

    /// For the catalogue; a registry whose variable isn't set is nobody's.
    pub(crate) fn settings(&self) -> Settings {
        let login = |registry: &Registry| {
            let password = std::env::var(&registry.password_env).ok().filter(|text| !text.is_empty())?;
            Some((registry.host.clone(), Login { user: registry.username.clone(), password }))
        };
        Settings {
            folder: self.folder.clone(),
            lock_file: self.lock_file.clone(),
            dev: self.dev,
            budget: Budget {
                traps: self.trap_budget,
                window: Duration::from_millis(self.trap_window_ms),
                percent: self.trap_percent,
                backoff: Duration::from_millis(self.backoff_ms),
                max_backoff: Duration::from_millis(self.max_backoff_ms),
            },
            logins: self.registries.iter().filter_map(login).collect(),
        }
    }
}
