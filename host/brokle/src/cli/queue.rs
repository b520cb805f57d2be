//! `brokle queue`: what a running server's telemetry queue couldn't store.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use super::client::{Failure, Payload, Server};
use super::{Outcome, block_on, unconfirmed};
use crate::output;

/// See what of the telemetry queue can't be stored, try it again, or drop it.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples, with BROKLE_API_KEY set to a key that has queue:read and queue:write:
  brokle queue dlq list
  brokle queue dlq show 17
  brokle queue dlq retry 17 18
  brokle queue dlq drop --all --yes
  brokle queue dlq list --scope instance --json      everybody's, for those who run the server")]
pub(crate) enum QueueCommand {
    /// Dead letters: observations that the analytics database refused.
    #[command(subcommand)]
    Dlq(DlqCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List them, oldest first.
    List(Common),
    /// Show one, with what it says.
    Show {
        #[command(flatten)]
        common: Common,
        /// Its number, as `list` shows it.
        id: String,
    },
    /// Put them back into the queue. One that fails again comes back under a new number.
    Retry {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
    /// Delete them for good.
    Drop {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    server: Server,
    /// Whose: the key's project's, or everybody's.
    #[arg(long, value_enum, default_value_t)]
    scope: Where,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Their numbers.
    ids: Vec<String>,
    /// Every one that there is now.
    #[arg(long)]
    all: bool,
}

/// Whose letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Where {
    /// The key's project's.
    #[default]
    Project,
    /// Everybody's; for those who run the server.
    Instance,
}

impl Common {
    async fn ask(&self, method: Method, path: &[&str], more: &[(&str, String)]) -> Result<Value, Failure> {
        let path = [&["queue", "dead-letters"], path].concat();
        let scope = if self.scope == Where::Instance { "instance" } else { "project" };
        let query = [&[("scope", scope.to_owned())], more].concat();
        self.server.ask(method, &path, &query, Payload::Nothing).await
    }

    /// Every letter, page by page.
    async fn all(&self) -> Result<Vec<Value>, Failure> {
        let (mut all, mut query) = (Vec::new(), Vec::new());
        loop {
            let mut page = self.ask(Method::GET, &[], &query).await?;
            let data = page.get_mut("data").map(Value::take);
            all.extend(data.and_then(|data| data.as_array().cloned()).unwrap_or_default());
            let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else { return Ok(all) };
            query = vec![("cursor", cursor.to_owned())];
        }
    }

    async fn ids(&self, which: Which) -> Result<Vec<String>, Failure> {
        if !which.all {
            return Ok(which.ids);
        }
        Ok(self.all().await?.iter().map(|letter| text(letter, "id").to_owned()).collect())
    }

    /// Tells what was done, to a person or in JSON.
    fn done(&self, what: &str, ids: &[String]) -> Result<(), Failure> {
        if self.server.json {
            output::json(&serde_json::json!({ what: ids }))?;
        } else {
            output::lines([format!("{what} {}", ids.len())])?;
        }
        Ok(())
    }
}

pub(super) fn run(QueueCommand::Dlq(command): QueueCommand) -> Outcome {
    block_on(async {
        match command {
            DlqCommand::List(common) => {
                let letters = common.all().await?;
                if common.server.json {
                    output::json(&letters)?;
                } else {
                    output::lines(letters.iter().map(line))?;
                }
            }
            DlqCommand::Show { common, id } => output::json(&common.ask(Method::GET, &[&id], &[]).await?)?,
            DlqCommand::Retry { common, which } => {
                let ids = common.ids(which).await?;
                for id in &ids {
                    common.ask(Method::POST, &[id, "retry"], &[]).await?;
                }
                common.done("retried", &ids)?;
            }
            DlqCommand::Drop { common, which, yes } => {
                let ids = common.ids(which).await?;
                if !yes && !output::confirm(&format!("This deletes {} observation(s) for good.", ids.len()))?
                {
                    return Ok(unconfirmed());
                }
                for id in &ids {
                    common.ask(Method::DELETE, &[id], &[]).await?;
                }
                common.done("dropped", &ids)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn line(letter: &Value) -> String {
    let [id, died, project, trace, reason] =
        ["id", "died_at", "project_id", "trace_id", "reason"].map(|name| text(letter, name));
    format!("{id:<8} {died}  {project:<26}  {trace:<32}  {reason}")
}
