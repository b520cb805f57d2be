//! What comes in and goes out about connections, and how it is read.

use std::collections::BTreeMap;

use brokle_core::tenancy::Tenant;
use brokle_gateway::{Trial, connections as gateway};
use brokle_identity::Secret;
use brokle_identity::connections::{Connection, NewConnection, Options, previews};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::wrong;
use crate::error::ApiError;

/// The longest credential: 16 KiB; a service account's key has about 2.
const MAX_SECRET: usize = 16 << 10;

/// Whom a connection serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Serves {
    /// The key's project.
    #[default]
    Project,
    /// All projects of the key's organization.
    Organization,
}

/// A way to a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its id.
    pub id: String,
    /// Whom it serves.
    pub scope: Serves,
    /// The project that it serves; null for the whole organization.
    pub project_id: Option<String>,
    /// The short name or id of the provider's plugin.
    #[schema(example = "openai")]
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// Where the provider is reached; null leaves it to the plugin.
    pub base_url: Option<String>,
    /// Enough of the credential to recognize it; of the first, if there are several.
    #[schema(example = "sk-p...wXyZ")]
    pub secret_preview: Option<String>,
    /// The same of each.
    pub secret_previews: Vec<String>,
    /// The plugin's options.
    #[schema(value_type = Object)]
    pub options: Options,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among equals.
    pub weight: i32,
    /// How often it is asked whether it is there, in seconds; null: never.
    pub health_check_seconds: Option<i32>,
    /// Is it used?
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<Connection> for ConnectionView {
    fn from(from: Connection) -> Self {
        let secret_previews = previews(from.secret_preview.as_deref());
        Self {
            id: from.id.to_string(),
            scope: if from.project.is_some() { Serves::Project } else { Serves::Organization },
            project_id: from.project.map(|id| id.to_string()),
            provider: from.provider,
            name: from.name,
            base_url: from.base_url,
            secret_preview: secret_previews.first().cloned(),
            secret_previews,
            options: from.options,
            headers: from.headers,
            priority: from.priority,
            weight: from.weight,
            health_check_seconds: from.health_check_seconds,
            enabled: from.enabled,
            created_at: from.created_at,
            updated_at: from.updated_at,
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionPage {
    /// The oldest first.
    pub data: Vec<ConnectionView>,
    /// For `cursor`; null after the last page.
    pub next_cursor: Option<String>,
}

/// A connection to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    /// The short name or id of the provider's plugin.
    pub(super) provider: String,
    /// What people call it: 1 to 100 characters, unique for whom it serves.
    pub(super) name: String,
    /// `project` (if it isn't said) or `organization`.
    #[serde(default)]
    pub(super) scope: Serves,
    /// Where the provider is reached, if not where its plugin says.
    #[serde(default)]
    pub(super) base_url: Option<String>,
    /// The provider's key.
    #[serde(default)]
    pub(super) secret: Option<String>,
    /// Several keys instead, 1 to 16, which calls take turns with.
    #[serde(default)]
    pub(super) secrets: Option<Vec<String>>,
    /// The plugin's options.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) options: Options,
    /// Sent with every request.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Lower comes first; 0 if it isn't said.
    #[serde(default)]
    pub(super) priority: i32,
    /// The share of the traffic among equals; 1 if it isn't said.
    #[serde(default = "one")]
    pub(super) weight: i32,
    /// How often it is asked whether it is there, in seconds, 10 to 86,400; never, if it isn't said.
    #[serde(default)]
    pub(super) health_check_seconds: Option<i32>,
    /// Is it used? Yes, if it isn't said.
    #[serde(default = "yes")]
    pub(super) enabled: bool,
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

/// What is to change: fields that aren't there stay as they are, null clears.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeConnection {
    /// A new name.
    pub(super) name: Option<String>,
    /// A new address; null leaves it to the plugin.
    #[serde(deserialize_with = "crate::handlers::present")]
    #[schema(value_type = Option<String>)]
    pub(super) base_url: Option<Option<String>>,
    /// A new credential; null takes it away.
    #[serde(deserialize_with = "crate::handlers::present")]
    #[schema(value_type = Option<String>)]
    pub(super) secret: Option<Option<String>>,
    /// New credentials instead, all of them.
    pub(super) secrets: Option<Vec<String>>,
    /// New options, all of them.
    #[schema(value_type = Option<Object>)]
    pub(super) options: Option<Options>,
    /// New headers, all of them.
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// A new priority.
    pub(super) priority: Option<i32>,
    /// A new weight.
    pub(super) weight: Option<i32>,
    /// How often it is asked whether it is there, in seconds; null: never.
    #[serde(deserialize_with = "crate::handlers::present")]
    #[schema(value_type = Option<i32>)]
    pub(super) health_check_seconds: Option<Option<i32>>,
    /// On or off.
    pub(super) enabled: Option<bool>,
}

/// What came of a trial.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialView {
    /// Whether the vendor answered as it should; null if it has nothing to be asked for that costs nothing.
    pub ok: Option<bool>,
    /// How long the vendor took.
    pub latency_ms: Option<f64>,
    /// How many models it listed.
    pub models: Option<usize>,
    /// Why it failed.
    pub error: Option<TrialError>,
}

/// Why a trial failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialError {
    /// The status that the vendor answered, or that a caller would have got.
    pub status: u16,
    /// A stable code.
    pub code: String,
    /// The vendor's words, or ours.
    pub message: String,
}

impl From<Trial> for TrialView {
    fn from(trial: Trial) -> Self {
        let none = Self { ok: None, latency_ms: None, models: None, error: None };
        match trial {
            Trial::Untested => none,
            Trial::Works { latency, models } => {
                Self { ok: Some(true), latency_ms: Some(latency.as_secs_f64() * 1e3), models, ..none }
            }
            Trial::Fails { status, code, message } => {
                Self { ok: Some(false), error: Some(TrialError { status, code, message }), ..none }
            }
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many are looked at, at most: 1 to 100, 50 if it isn't said.
    pub(super) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// Whether the vendor is asked before anything is saved.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct VerifyQuery {
    /// `true` if it isn't said.
    #[serde(default = "yes")]
    pub(super) verify: bool,
}

/// A connection that is there, with these credentials, as the gateway wants it.
pub(super) fn for_gateway(connection: &Connection, secrets: Vec<Secret>) -> gateway::NewConnection {
    gateway::NewConnection {
        id: Some(connection.id.to_string()),
        name: connection.name.clone(),
        base_url: connection.base_url.clone(),
        secrets,
        options: connection.options.clone(),
        headers: connection.headers.clone().into_iter().collect(),
        priority: connection.priority,
        weight: u32::try_from(connection.weight).unwrap_or(0),
        models: Vec::new(),
        gate: None,
        health_check: None,
        raw: true,
    }
}

impl CreateConnection {
    pub(super) fn read(self, tenant: Tenant) -> Result<NewConnection, ApiError> {
        Ok(NewConnection {
            project: (self.scope == Serves::Project).then_some(tenant.project),
            provider: self.provider,
            name: self.name,
            base_url: self.base_url,
            secrets: secrets(self.secret, self.secrets)?,
            options: self.options,
            headers: self.headers,
            priority: self.priority,
            weight: self.weight,
            health_check_seconds: self.health_check_seconds,
            enabled: self.enabled,
        })
    }
}

/// A new one, likewise.
pub(super) fn of_new(new: &NewConnection) -> gateway::NewConnection {
    gateway::NewConnection {
        id: None,
        name: new.name.clone(),
        base_url: new.base_url.clone(),
        secrets: new.secrets.clone(),
        options: new.options.clone(),
        headers: new.headers.clone().into_iter().collect(),
        priority: new.priority,
        weight: u32::try_from(new.weight).unwrap_or(0),
        models: Vec::new(),
        gate: None,
        health_check: None,
        raw: true,
    }
}

/// One credential, or several.
pub(super) fn secrets(one: Option<String>, several: Option<Vec<String>>) -> Result<Vec<Secret>, ApiError> {
    let param = if one.is_some() { "secret" } else { "secrets" };
    let refuse = |what: &str| wrong(format!("{param}: {what}")).param(param);
    let texts = match (one, several) {
        (Some(_), Some(_)) => return Err(refuse("it comes with secrets: one of the two is expected")),
        (_, Some(several)) if several.is_empty() => return Err(refuse("at least one is expected")),
        (one, several) => one.into_iter().chain(several.into_iter().flatten()),
    };
    let secret = |text: String| match text.trim() {
        "" => Err(refuse("1 to 16,384 characters are expected")),
        text if text.len() > MAX_SECRET => Err(refuse("1 to 16,384 characters are expected")),
        text => Ok(Secret::new(text.to_owned())),
    };
    texts.map(secret).collect()
}
