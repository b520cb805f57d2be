//! Runs a plugin's fixtures under the real host, alone: no server, no network, no clock that moves by itself.
//!
//! [`test`] loads the component as a gateway would (manifest, imports, self-test), plays each fixture in a fresh
//! instance, compares, and counts which of the world's functions were reached. `brokle plugin test` is this.
//!
//! # Providers
//! A fixture is a folder: what the caller sent, what the vendor answered, and what must come of both. A streamed answer
//! is played again split in two at every byte, and byte by byte: each must give the same outputs.
//!
//! | file | what |
//! |---|---|
//! | `case.json` | [`Case`]: operation, model, streaming, options |
//! | `request.json` | the caller's canonical body; for a form, `form` in `case.json` has its fields instead |
//! | `expected-upstream.json` | the request that the vendor gets, the body plan applied |
//! | `response.json`, `response.sse`, `response.ndjson`, `response.eventstream` | the vendor's answer |
//! | `response-head.json` | its `status` and `headers`; without it 200 and none |
//! | `expected.json` | the canonical answer; a list of chunks when it is streamed |
//! | `expected-usage.json` | the last token counts |
//! | `expected-problem.json` | the problem that it ends with, at whatever stage |
//!
//! An expected file that nothing comes for is a failure, and so is an outcome without its file.
//! With `BROKLE_BLESS=1` in the environment the expected files are written instead: look at them
//! before you commit them.
//!
//! # Routing policies, guardrails and exporters
//! A fixture is a file, `NAME.yaml` (or `.json`), with what goes in, what stands around the plugin (`host`), and
//! everything that must come out (`expect`):
//!
//! | member | what |
//! |---|---|
//! | `about` | for people |
//! | `host` | `config`; `grants` as an operator writes them (without: all that the manifest asks for); `secrets` by name; `http`: the requests that must be made, in order (`call: POST https://…`; `sends`: `headers` and `body` that must be in it; `status`, `headers` and `body` of the answer, or `fails: unreachable`, `too-large`, `hangs`); `tenant`, a number |
//! | `request`, `candidates` | for policies: the facts, each with a default |
//! | `stage`, `texts`, `call`, `request` | for guardrails: `request`, `response` or `stream`; the texts (`value`, and where needed `kind`, `role`, `pointer`); facts; the caller's body |
//! | `observations`, `attempt` | for exporters: what of each is otherwise than in a small call; which try it is |
//! | `expect` for policies | `order`, by connection (`connection/model` where one has several candidates), and `reason`; or `refusal` |
//! | `expect` for guardrails | `verdict`, with `texts` after a change, `category` and `reason` of a block, `instruction` of a retry; `annotations`, `state`; or `failure` |
//! | `expect` for exporters | `receipt`, with `rejected` and `message`; or `failure` |
//! | `expect`, all | `denied`: calls that were denied, by capability; `config`: what the plugin says against the configuration |
//!
//! A guardrail's stream is played as the gateway does, with each text whole, cut in two at every character, and
//! character by character: the same texts, or the same block, must come of each. The others are played twice. The
//! clock stands at 2026-01-01T00:00:00Z and the random numbers are always the same ([`mocks`]).

mod assemble;
mod case;
mod coverage;
mod dialect;
mod diff;
mod exporter;
mod fixture;
mod guardrail;
pub mod mocks;
mod outcome;
mod policy;
pub mod project;
mod report;
mod run;

use std::path::{Path, PathBuf};

pub use case::Case;
pub use report::{Fixture, Report};

/// Why fixtures couldn't be run, or what they showed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The component isn't where builds put it.
    #[error("{name}.wasm isn't built: run `{command}` (in a project of your own: `{own}`)")]
    NotBuilt {
        /// The file's name.
        name: String,
        /// What builds it in Brokle's repository.
        command: String,
        /// What builds it in a project of its own.
        own: &'static str,
    },
    /// A file can't be read, written, or understood.
    #[error("{path}: {detail}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The host refused the component.
    #[error("the component can't be loaded: {0}")]
    Load(String),
    /// Fixtures that came out otherwise, each with what differs.
    #[error("{} of {total} fixtures failed:\n\n{}", failures.len(), failures.join("\n\n"))]
    Failed {
        /// How many were run.
        total: usize,
        /// One text a fixture.
        failures: Vec<String>,
    },
}

/// Runs every fixture in `fixtures` against a component of any role, and says what came of each.
///
/// # Errors
/// The component can't be loaded, or a fixture can't be read. Fixtures that come out otherwise are in the report.
pub fn test(component: &Path, fixtures: &Path) -> Result<Report, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Load(error.to_string()))?;
    runtime.block_on(run::all(component, fixtures))
}

/// [`test`], for tests: gives the fixtures' names.
///
/// # Errors
/// As for [`test`], and when outcomes differ.
pub fn run_fixtures(component: &Path, fixtures: &Path) -> Result<Vec<String>, Error> {
    let report = test(component, fixtures)?;
    match report.passed() {
        true => Ok(report.fixtures.into_iter().map(|fixture| fixture.name).collect()),
        false => Err(Error::Failed { total: report.fixtures.len(), failures: report.failures() }),
    }
}

/// Where a build put a component of this package, looked for beside the running test: in
/// `wasm32-wasip2/guest` (this repository's profile), then in `wasm32-wasip2/release`.
///
/// # Errors
/// It isn't there; the error names the command that builds it.
pub fn built(package: &str) -> Result<PathBuf, Error> {
    let name = package.replace('-', "_");
    let exe = std::env::current_exe().unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let found = exe.ancestors().map(Path::to_owned).chain(target).find_map(|folder| {
        let file = |profile: &str| folder.join("wasm32-wasip2").join(profile).join(format!("{name}.wasm"));
        [file("guest"), file("guest-ee"), file("release")].into_iter().find(|path| path.exists())
    });
    found.ok_or_else(|| Error::NotBuilt {
        command: format!("cargo build --profile guest --target wasm32-wasip2 -p {package}"),
        own: "cargo build --release --target wasm32-wasip2",
        name,
    })
}
