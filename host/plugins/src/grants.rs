//! Whether operators have decided what a component may have of what it asks for.
//!
//! The form of grants, and their intersection with the manifest, are [`brokle_runtime`]'s. A component that asks for a
//! capability that its grants don't mention at all waits (`installed`, code [`WAITING`]); one that got less than it
//! asked for runs, and is told `denied` where it goes beyond. The server's own set asks nobody: its manifests are part
//! of the server.

use brokle_runtime::Manifest;
use brokle_runtime::grants::{EffectiveGrants, GrantProblem, Grants, effective};
use serde_json::Value;

use crate::configuration::Problem;

/// The code of a version that waits for grants, and of grants that can't be.
pub const WAITING: &str = "PLUGIN_GRANTS";

/// The capabilities that the manifest asks for and the grants don't mention.
#[must_use]
pub fn outstanding(manifest: &Manifest, grants: Option<&Value>) -> Vec<&'static str> {
    let given = |name: &&str| grants.is_some_and(|grants| grants.get(name).is_some());
    let asked = manifest.capabilities.interfaces();
    asked.into_iter().filter(|name| !given(name)).collect()
}

/// What a component may have, or what is wrong with its grants.
///
/// # Errors
/// Each problem, with its key.
pub fn check(manifest: &Manifest, grants: &Value) -> Result<EffectiveGrants, Vec<Problem>> {
    let told = |found: Vec<GrantProblem>| {
        found.into_iter().map(|problem| Problem::new(problem.pointer, problem.message)).collect::<Vec<_>>()
    };
    let grants = Grants::from_value(grants).map_err(told)?;
    effective(&manifest.capabilities, &grants).map_err(told)
}

/// Are these grants well formed, whatever the component?
///
/// # Errors
/// Each problem, with its key.
pub fn check_form(grants: &Value) -> Result<(), Vec<Problem>> {
    let told = |problem: GrantProblem| Problem::new(problem.pointer, problem.message);
    Grants::from_value(grants).map(drop).map_err(|found| found.into_iter().map(told).collect())
}
