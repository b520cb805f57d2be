//! `brokle key`: API keys, straight in the database. A running server sees a change within a second.

use std::process::ExitCode;
use std::sync::Arc;

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::ids::{ApiKeyId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::keys::{DEFAULT_OVERLAP, NewKey};
use brokle_identity::{KeyService, Secret};
use brokle_storage::sql::api_keys::{ApiKey, Restrictions};
use brokle_storage::sql::{Database, Page};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigFile, Outcome, block_on};
use crate::{config, output, serve};

/// How many keys are read at once.
const PAGE: u32 = 500;

/// Make, list, rotate and revoke API keys.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle key create --name ci --scopes gateway --rpm 600
  brokle key create --name audit --scopes traces:read --expires 2027-01-01T00:00:00Z --json
  brokle key create --name team-a --model 'gpt-4o*' --route smart --endpoint '/v1/chat/*' --cidr 10.0.0.0/8
  brokle key rotate 01KJME5T5V7QZ8WXJ3N4P6R9ST --old-until 2027-01-01T00:00:00Z
  brokle key list
  brokle key revoke 01KJME5T5V7QZ8WXJ3N4P6R9ST")]
pub(crate) enum KeyCommand {
    /// Make a key. It is printed once and can't be shown again.
    Create {
        #[command(flatten)]
        common: Common,
        /// What people call it.
        #[arg(long)]
        name: String,
        /// What it may do, separated by commas.
        #[arg(long, value_delimiter = ',', default_value = "gateway")]
        scopes: Vec<String>,
        /// From when on it is refused, such as 2027-01-01T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires: Option<DateTime<Utc>>,
        /// Its own limit of requests per minute.
        #[arg(long, value_name = "N")]
        rpm: Option<u32>,
        #[command(flatten)]
        only: Only,
    },
    /// Give a key another secret; its id, limits and budgets stay. The new secret is printed once.
    Rotate {
        #[command(flatten)]
        common: Common,
        /// The key's id, as `list` shows it.
        id: ApiKeyId,
        /// Until when the old secret goes on, 90 days at most; what is past ends it at once [default: a day from now].
        #[arg(long, value_name = "TIME")]
        old_until: Option<DateTime<Utc>>,
    },
    /// List the keys, without the keys themselves.
    List(Common),
    /// Revoke a key for good.
    Revoke {
        #[command(flatten)]
        common: Common,
        /// The key's id, as `list` shows it.
        id: ApiKeyId,
    },
}

/// What a key is restricted to. Each may be given more than once; `*` is any characters, `?` is one.
#[derive(Debug, Args)]
pub(crate) struct Only {
    /// Only this model, as providers are asked for it: gpt-4o, 'anthropic/*'.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// Only this route, whatever its candidates.
    #[arg(long = "route", value_name = "PATTERN")]
    routes: Vec<String>,
    /// Only this path: /v1/chat/completions.
    #[arg(long = "endpoint", value_name = "PATTERN")]
    endpoints: Vec<String>,
    /// Only from this network: 10.0.0.0/8.
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    file: ConfigFile,
    /// A project of the default organization [default: its default project].
    #[arg(long, value_name = "ID")]
    project: Option<ProjectId>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// A key as the command line shows it.
#[derive(Serialize)]
struct Shown<'a> {
    id: ApiKeyId,
    name: &'a str,
    preview: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    tenant: ShownTenant,
    scopes: &'a [String],
    requests_per_minute: Option<u32>,
    restrictions: &'a Restrictions,
    expires_at: Option<DateTime<Utc>>,
    previous_expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct ShownTenant {
    organization_id: String,
    project_id: String,
    environment_id: String,
}

impl<'a> Shown<'a> {
    fn new(stored: &'a ApiKey, key: Option<&'a str>) -> Self {
        Self {
            id: stored.id,
            name: &stored.name,
            preview: &stored.preview,
            key,
            tenant: ShownTenant {
                organization_id: stored.tenant.organization.to_string(),
                project_id: stored.tenant.project.to_string(),
                environment_id: stored.tenant.environment.to_string(),
            },
            scopes: &stored.scopes,
            requests_per_minute: stored.requests_per_minute,
            restrictions: &stored.restrictions,
            expires_at: stored.expires_at,
            previous_expires_at: stored.previous_expires_at,
            revoked_at: stored.revoked_at,
            last_used_at: stored.last_used_at,
            created_at: stored.created_at,
        }
    }

    fn line(&self) -> String {
        let state = if self.revoked_at.is_some() { "revoked" } else { "active" };
        format!("{}  {}  {state:<7}  {}  [{}]", self.id, self.preview, self.name, self.scopes.join(","))
    }
}

pub(super) fn run(command: KeyCommand) -> Outcome {
    match command {
        KeyCommand::Create { common, name, scopes, expires, rpm, only } => {
            with(&common, async |keys, tenant| {
                let Only { models, routes, endpoints, cidrs } = only;
                let restrictions = Restrictions { models, routes, endpoints, cidrs };
                let new =
                    NewKey { name, scopes, expires_at: expires, requests_per_minute: rpm, restrictions };
                let (stored, secret) = keys.create(tenant, new).await?;
                show(&common, "Made", &stored, &secret)
            })
        }
        KeyCommand::Rotate { common, id, old_until } => with(&common, async |keys, tenant| {
            let until = old_until.unwrap_or_else(|| SystemClock.now() + DEFAULT_OVERLAP);
            let (stored, secret) = keys.rotate(tenant.organization, id, until).await?;
            show(&common, "Rotated", &stored, &secret)
        }),
        KeyCommand::List(common) => with(&common, async |keys, tenant| {
            let mut all: Vec<ApiKey> = Vec::new();
            loop {
                let page = Page { after: all.last().map(|key| key.id), limit: PAGE };
                let next = keys.list(tenant, page).await?;
                if next.is_empty() {
                    break;
                }
                all.extend(next);
            }
            let shown: Vec<Shown<'_>> = all.iter().map(|key| Shown::new(key, None)).collect();
            if common.json {
                output::json(&shown)?;
            } else {
                output::lines(shown.iter().map(Shown::line))?;
            }
            Ok(ExitCode::SUCCESS)
        }),
        KeyCommand::Revoke { common, id } => with(&common, async |keys, tenant| {
            let revoked = keys.revoke(tenant.organization, id).await?;
            let shown = Shown::new(&revoked, None);
            if common.json {
                output::json(&shown)?;
            } else {
                output::lines([shown.line()])?;
            }
            Ok(ExitCode::SUCCESS)
        }),
    }
}

/// Shows a secret this once.
fn show(common: &Common, done: &str, stored: &ApiKey, secret: &Secret) -> Outcome {
    if common.json {
        output::json(&Shown::new(stored, Some(secret.expose())))?;
    } else {
        // The key alone on standard output, so that a script can take it from there.
        output::complain(&format!("{done} {}. The key is shown this once:", stored.id));
        output::lines([secret.expose()])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn with(common: &Common, run: impl AsyncFnOnce(KeyService, Tenant) -> Outcome) -> Outcome {
    let config = config::load(common.file.config.as_deref())?;
    block_on(async {
        let database = serve::connect(&config).await?;
        let outcome = match tenant(&database, common.project).await {
            Ok(tenant) => {
                let keys = KeyService::new(database.clone(), Arc::new(SystemClock), Arc::new(SystemRandom));
                run(keys, tenant).await
            }
            Err(error) => Err(error),
        };
        database.close().await;
        outcome
    })
}

async fn tenant(
    database: &Database,
    project: Option<ProjectId>,
) -> Result<Tenant, Box<dyn std::error::Error + Send + Sync>> {
    let tenant = database.default_tenant().await?;
    let tenant = tenant.ok_or("there is no organization yet: start the server once with `brokle serve`")?;
    let Some(project) = project else { return Ok(tenant) };
    let environments = database.environments().list(tenant.organization, project, Page::first(1)).await?;
    let environment =
        environments.first().ok_or("this project has no environment, or there is no such project")?;
    Ok(Tenant { project, environment: environment.id, ..tenant })
}
