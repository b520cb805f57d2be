//! Runs a provider plugin's fixtures under the real host, without a network.
//!
//! A fixture is a folder: what the caller sent, what the vendor answered, and what must come of
//! both. [`run_fixtures`] loads the component as a gateway would (manifest, imports, self-test),
//! gives each fixture a fresh instance, and compares. A streamed answer is played again with its
//! bytes split in two at every position, each of which must give the same outputs.
//!
//! | file | what |
//! |---|---|
//! | `case.json` | [`Case`]: operation, model, streaming, options |
//! | `request.json` | the caller's canonical body |
//! | `expected-upstream.json` | the request that the vendor gets, the body plan applied |
//! | `response.json`, `response.sse`, `response.ndjson` | the vendor's answer |
//! | `response-head.json` | its `status` and `headers`; without it 200 and none |
//! | `expected.json` | the canonical answer; a list of chunks when it is streamed |
//! | `expected-usage.json` | the last token counts |
//! | `expected-problem.json` | the problem that it ends with, at whatever stage |
//!
//! An expected file that nothing comes for is a failure, and so is an outcome without its file.
//! With `BROKLE_BLESS=1` in the environment the expected files are written instead: look at them
//! before you commit them.

mod assemble;
mod case;
mod guardrail;
pub mod mocks;
mod outcome;
mod run;

use std::path::{Path, PathBuf};

pub use case::Case;
pub use guardrail::{GuardrailCase, run_guardrail_fixtures};

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

/// Runs every fixture below `fixtures` against a component, and gives their names.
///
/// # Errors
/// The component can't be loaded, a fixture can't be read, or outcomes differ.
pub fn run_fixtures(component: &Path, fixtures: &Path) -> Result<Vec<String>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Load(error.to_string()))?;
    runtime.block_on(run::all(component, fixtures))
}

/// Whether expected files are to be written rather than compared.
pub(crate) fn blessing() -> bool {
    std::env::var_os("BROKLE_BLESS").is_some()
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
