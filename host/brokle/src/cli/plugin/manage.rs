//! The commands that change or show a running server's plugins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brokle_plugins::{MAX_COMPONENT, MAX_ENVELOPE};
use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::{Failure, Payload, Server};
use crate::cli::{Outcome, block_on};
use crate::output;

/// Where a setting holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Where {
    /// The whole server.
    #[default]
    Instance,
    /// The key's organization.
    Organization,
    /// The key's project.
    Project,
}

impl Where {
    fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Organization => "organization",
            Self::Project => "project",
        }
    }

    fn query(self) -> Vec<(&'static str, String)> {
        vec![("scope", self.as_str().to_owned())]
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ManageCommand {
    /// List the plugins: what serves, what waits, what is refused.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a plugin: versions, settings, grants.
    Show {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
    },
    /// Install a plugin from a file or a registry.
    Install {
        #[command(flatten)]
        server: Server,
        /// A file, or oci://registry/name:version. FILE.dsse.json is its signature, if it is there.
        from: String,
        /// Vouch for this hash (hex SHA-256), so that the file needs no signature.
        #[arg(long, value_name = "SHA256")]
        pin: Option<String>,
        /// Let an older release in than the newest that was ever installed.
        #[arg(long)]
        allow_downgrade: bool,
        /// Let it serve, whatever its version; without it a newer version does, an older one doesn't.
        #[arg(long, conflicts_with = "no_enable")]
        enable: bool,
        /// Don't let it serve yet.
        #[arg(long)]
        no_enable: bool,
    },
    /// Let a plugin serve.
    Enable {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// Which version, by number or hash.
        #[arg(long)]
        version: Option<String>,
        /// Where.
        #[arg(long, value_enum, default_value_t)]
        scope: Where,
    },
    /// Let a plugin serve no longer.
    Disable {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// Where.
        #[arg(long, value_enum, default_value_t)]
        scope: Where,
    },
    /// Forget what a scope says of a plugin: the wider scope's word holds.
    Inherit {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// Where.
        #[arg(long, value_enum)]
        scope: Where,
    },
    /// Show what a plugin asks for and has, or grant it.
    Grant {
        #[command(flatten)]
        server: Server,
        /// The plugin's id; it needn't be installed yet.
        id: String,
        /// A file with the grants in JSON; without it they are shown.
        grants: Option<PathBuf>,
    },
    /// Show a plugin's configuration, or change it.
    Config {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// The configuration in JSON, or @FILE; `null` leaves it to the wider scope.
        #[arg(long, value_name = "JSON")]
        set: Option<String>,
        /// Where.
        #[arg(long, value_enum, default_value_t)]
        scope: Where,
    },
    /// Return to the version that served before.
    Rollback {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// Where.
        #[arg(long, value_enum, default_value_t)]
        scope: Where,
    },
    /// Show what happened to a plugin, newest first.
    Events {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// How many, 100 at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Whose: the instance's or the organization's.
        #[arg(long, value_enum, default_value_t)]
        scope: Where,
    },
    /// Remove a plugin that serves nowhere.
    Remove {
        #[command(flatten)]
        server: Server,
        /// The plugin's id.
        id: String,
        /// Only this version, by number or hash.
        #[arg(long)]
        version: Option<String>,
    },
}

pub(super) fn run(command: ManageCommand) -> Outcome {
    block_on(async {
        work(command).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn work(command: ManageCommand) -> Result<(), Failure> {
    use ManageCommand as C;
    match command {
        C::List { server } => {
            let answer = server.ask(Method::GET, &["plugins"], &[], Payload::Nothing).await?;
            show(&server, &answer, lines_of_all)
        }
        C::Show { server, id } => {
            let answer = server.ask(Method::GET, &["plugins", &id], &[], Payload::Nothing).await?;
            show(&server, &answer, lines_of)
        }
        C::Install { server, from, pin, allow_downgrade, enable, no_enable } => {
            let mut query = Vec::new();
            query.extend(pin.map(|pin| ("pin", pin)));
            query.extend(allow_downgrade.then(|| ("allow_downgrade", "true".to_owned())));
            query.extend((enable || no_enable).then(|| ("enable", enable.to_string())));
            let payload = offered(&from, &mut query)?;
            let answer = server.ask(Method::POST, &["plugins"], &query, payload).await?;
            show(&server, &answer, lines_of)
        }
        C::Enable { server, id, version, scope } => {
            let body = json!({ "enabled": true, "version": version, "scope": scope.as_str() });
            change(&server, &id, body).await
        }
        C::Disable { server, id, scope } => {
            change(&server, &id, json!({ "enabled": false, "scope": scope.as_str() })).await
        }
        C::Inherit { server, id, scope } => {
            change(&server, &id, json!({ "enabled": null, "scope": scope.as_str() })).await
        }
        C::Grant { server, id, grants: None } => {
            let answer = server.ask(Method::GET, &["plugins", &id, "grants"], &[], Payload::Nothing).await?;
            Ok(output::json(&answer)?)
        }
        C::Grant { server, id, grants: Some(path) } => {
            let grants = Payload::Json(serde_json::from_slice(&read(&path, MAX_ENVELOPE)?)?);
            server.ask(Method::PUT, &["plugins", &id, "grants"], &[], grants).await.map(drop)
        }
        C::Config { server, id, set: None, scope } => {
            let answer = server
                .ask(Method::GET, &["plugins", &id, "config"], &scope.query(), Payload::Nothing)
                .await?;
            Ok(output::json(&answer)?)
        }
        C::Config { server, id, set: Some(text), scope } => {
            let config = match text.strip_prefix('@') {
                Some(path) => serde_json::from_slice(&read(Path::new(path), MAX_ENVELOPE)?)?,
                None => serde_json::from_str(&text)?,
            };
            let path = ["plugins", id.as_str(), "config"];
            server.ask(Method::PUT, &path, &scope.query(), Payload::Json(config)).await.map(drop)
        }
        C::Rollback { server, id, scope } => {
            let path = ["plugins", id.as_str(), "rollback"];
            let answer = server.ask(Method::POST, &path, &scope.query(), Payload::Nothing).await?;
            show(&server, &answer, lines_of)
        }
        C::Events { server, id, limit, scope } => {
            let mut query = scope.query();
            query.push(("limit", limit.to_string()));
            let answer =
                server.ask(Method::GET, &["plugins", &id, "events"], &query, Payload::Nothing).await?;
            show(&server, &answer, lines_of_events)
        }
        C::Remove { server, id, version } => {
            let query: Vec<_> = version.map(|version| ("version", version)).into_iter().collect();
            server.ask(Method::DELETE, &["plugins", &id], &query, Payload::Nothing).await.map(drop)
        }
    }
}

async fn change(server: &Server, id: &str, body: Value) -> Result<(), Failure> {
    let answer = server.ask(Method::PATCH, &["plugins", id], &[], Payload::Json(body)).await?;
    show(server, &answer, lines_of)
}

/// A reference, or a file with the signature beside it.
fn offered(from: &str, query: &mut Vec<(&'static str, String)>) -> Result<Payload, Failure> {
    if from.contains("://") {
        return Ok(Payload::Json(json!({ "reference": from })));
    }
    let path = Path::new(from);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    query.push(("name", name));
    let signature = PathBuf::from(format!("{from}.dsse.json"));
    let signature =
        if signature.exists() { Some(STANDARD.encode(read(&signature, MAX_ENVELOPE)?)) } else { None };
    Ok(Payload::Component { bytes: read(path, MAX_COMPONENT)?, signature })
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > most {
        return Err(format!("{}: larger than {most} bytes", path.display()).into());
    }
    Ok(std::fs::read(path).map_err(told)?)
}

fn show(server: &Server, answer: &Value, lines: fn(&Value) -> Vec<String>) -> Result<(), Failure> {
    if server.json {
        output::json(answer)?;
    } else {
        output::lines(lines(answer))?;
    }
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn lines_of_all(answer: &Value) -> Vec<String> {
    members(answer, "data").flat_map(lines_of).collect()
}

/// A line for each version.
fn lines_of(entry: &Value) -> Vec<String> {
    let line = |version: &Value| {
        let why = match text(version, "code") {
            "" => String::new(),
            code => format!("  {code}: {}", text(version, "reason")),
        };
        let (id, kind) = (text(entry, "id"), text(entry, "kind"));
        let (number, state) = (text(version, "version"), text(version, "state"));
        let (level, source) = (text(version, "level"), text(version, "source"));
        format!("{id:<32} {number:<10} {state:<12} {kind:<15} {level:<9} {source}{why}").trim_end().to_owned()
    };
    members(entry, "versions").map(line).collect()
}

fn lines_of_events(answer: &Value) -> Vec<String> {
    let line = |event: &Value| {
        let (at, what, version) = (text(event, "at"), text(event, "event"), text(event, "version"));
        let (actor, code, reason) = (text(event, "actor"), text(event, "code"), text(event, "reason"));
        format!("{at}  {what:<12} {version:<10} {actor:<32} {code} {reason}").trim_end().to_owned()
    };
    members(answer, "data").map(line).collect()
}
