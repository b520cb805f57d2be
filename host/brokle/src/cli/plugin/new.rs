//! `brokle plugin new`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_runtime::Kind;
use brokle_testkit::project::{Language, Names, Sdk, create};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::Outcome;
use crate::output;

/// A project that builds and passes at once: source, plugin.json, fixtures, a test, a README.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// What the plugin does.
    #[arg(long, value_enum)]
    kind: Role,
    /// The language: Rust for every kind; Python and JavaScript for all but dialects.
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// The plugin's short name, as requests and configuration call it: acme.
    name: String,
    /// The folder to make [default: provider-NAME, policy-NAME, guardrail-NAME, exporter-NAME or dialect-NAME].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the SDK is: a checkout of Brokle, or its folder sdk [default: the checkout that built this program while it
    /// is there, else this version from the registry].
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Turns calls into a vendor's requests, and answers back.
    Provider,
    /// Orders the candidates for a request.
    RoutingPolicy,
    /// Lets a call's texts pass, changes or blocks them.
    Guardrail,
    /// Sends observations elsewhere.
    Exporter,
    /// Puts another wire format in front of any provider.
    Dialect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// Small and fast.
    #[default]
    Rust,
    /// 18 MB, compiled in seconds: its interpreter comes with it.
    Python,
    /// 12 MB, likewise.
    Js,
}

impl From<Lang> for Language {
    fn from(language: Lang) -> Self {
        match language {
            Lang::Rust => Self::Rust,
            Lang::Python => Self::Python,
            Lang::Js => Self::JavaScript,
        }
    }
}

impl From<Role> for Kind {
    fn from(role: Role) -> Self {
        match role {
            Role::Provider => Self::Provider,
            Role::RoutingPolicy => Self::RoutingPolicy,
            Role::Guardrail => Self::Guardrail,
            Role::Exporter => Self::Exporter,
            Role::Dialect => Self::Dialect,
        }
    }
}

pub(super) fn run(command: &New) -> Outcome {
    let kind = command.kind.into();
    let names = Names::parse(kind, &command.name)?;
    let folder = command.dir.clone().unwrap_or_else(|| names.package().into());
    let sdk = match &command.sdk {
        Some(path) => Sdk::at(path)?,
        None => Sdk::here(),
    };
    let files = create(kind, command.lang.into(), &names, &folder, &sdk)?;
    if command.json {
        output::json(&json!({"folder": folder, "package": names.package(), "files": files}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<String> = files.iter().map(|file| format!("  {}", file.display())).collect();
    lines.insert(0, format!("{} in {}", names.package(), folder.display()));
    lines.push("Now:".to_owned());
    lines.push(format!("  cd {}", folder.display()));
    lines.extend(match command.lang {
        Lang::Rust => None,
        Lang::Python => {
            Some("  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt".to_owned())
        }
        Lang::Js => Some("  npm install".to_owned()),
    });
    lines.push("  brokle plugin build".to_owned());
    lines.push("  brokle plugin test".to_owned());
    output::lines(lines)?;
    Ok(ExitCode::SUCCESS)
}
