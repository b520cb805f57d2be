//! `brokle retention`: how long a running server keeps telemetry.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Failure, Payload, Server};
use super::{Outcome, block_on, unconfirmed};
use crate::output;

/// See and change how long telemetry is kept, and delete what is older.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples, with BROKLE_API_KEY set to a key that has admin:
  brokle retention show --project 01J9…
  brokle retention set --project 01J9… 30
  brokle retention run --dry-run                  what would be deleted, of every project
  brokle retention run --project 01J9… --yes")]
pub(crate) enum RetentionCommand {
    /// How long a project's telemetry is kept.
    Show {
        #[command(flatten)]
        server: Server,
        /// The project's id.
        #[arg(long, value_name = "ID")]
        project: String,
    },
    /// Keep a project's telemetry for so many days.
    Set {
        #[command(flatten)]
        server: Server,
        /// The project's id.
        #[arg(long, value_name = "ID")]
        project: String,
        #[command(flatten)]
        days: Days,
    },
    /// Delete what is too old now; the server does it every hour by itself.
    Run {
        #[command(flatten)]
        server: Server,
        /// Of this project only; without it of every one, for those who run the server.
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// Only count.
        #[arg(long)]
        dry_run: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Days {
    /// How many.
    days: Option<u32>,
    /// As many as the server's configuration says.
    #[arg(long)]
    default: bool,
}

pub(super) fn run(command: RetentionCommand) -> Outcome {
    block_on(async {
        match command {
            RetentionCommand::Show { server, project } => {
                let kept = server.ask(Method::GET, &of(&project), &[], Payload::Nothing).await?;
                tell_kept(&server, &kept)?;
            }
            RetentionCommand::Set { server, project, days } => {
                let change = Payload::Json(json!({ "days": days.days }));
                let kept = server.ask(Method::PUT, &of(&project), &[], change).await?;
                tell_kept(&server, &kept)?;
            }
            RetentionCommand::Run { server, project, dry_run, yes } => {
                let path = match &project {
                    Some(project) => vec!["projects", project, "retention", "run"],
                    None => vec!["retention", "run"],
                };
                let run = |dry_run: bool| Payload::Json(json!({ "dry_run": dry_run }));
                let told = server.ask(Method::POST, &path, &[], run(true)).await?;
                if dry_run {
                    tell_deleted(&server, &told)?;
                    return Ok(ExitCode::SUCCESS);
                }
                if !yes && !output::confirm(&format!("This deletes for good: {}.", counts(&told)))? {
                    return Ok(unconfirmed());
                }
                tell_deleted(&server, &server.ask(Method::POST, &path, &[], run(false)).await?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn of(project: &str) -> [&str; 3] {
    ["projects", project, "retention"]
}

fn tell_kept(server: &Server, kept: &Value) -> Result<(), Failure> {
    if server.json {
        return Ok(output::json(kept)?);
    }
    let text = |name: &str| kept.get(name).map(ToString::to_string).unwrap_or_default();
    let days = match kept.get("days").and_then(Value::as_u64) {
        Some(days) => format!("{days} days"),
        None => format!("{} days, as the server says", text("default_days")),
    };
    Ok(output::lines([format!("{days}: nothing from before {} is kept", text("before").trim_matches('"'))])?)
}

fn tell_deleted(server: &Server, deleted: &Value) -> Result<(), Failure> {
    if server.json {
        return Ok(output::json(deleted)?);
    }
    let is_dry = deleted.get("dry_run").and_then(Value::as_bool).unwrap_or_default();
    let verb = if is_dry { "would delete" } else { "deleted" };
    Ok(output::lines([format!("{verb} {}", counts(deleted))])?)
}

fn counts(deleted: &Value) -> String {
    let count = |(name, what): (&str, &str)| {
        format!("{} {what}", deleted.get(name).and_then(Value::as_u64).unwrap_or_default())
    };
    let kinds = [
        ("observations", "observations"),
        ("scores", "scores"),
        ("logs", "log records"),
        ("points", "points"),
    ];
    kinds.map(count).join(", ")
}
