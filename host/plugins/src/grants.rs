//! What operators decided that a component may have of what it asks for.
//!
//! The form of grants, and their intersection with the manifest, are [`brokle_runtime`]'s. A component that asks for a
//! capability that its grants don't mention at all waits (`installed`, code [`WAITING`]), also one of the server's own; one
//! that got less than it asked for runs, and is told `denied` where it goes beyond.

use std::sync::Arc;

use brokle_runtime::Manifest;
use brokle_runtime::capabilities::{PluginCapabilities, Services};
use brokle_runtime::grants::{GrantProblem, Grants, effective};
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

/// What a component's instances share: its grants, with the secrets that they refer to. None without services.
///
/// # Errors
/// Each problem, with its key.
pub fn configure(
    manifest: &Manifest,
    grants: &Value,
    services: Option<&Services>,
) -> Result<Option<Arc<PluginCapabilities>>, Vec<Problem>> {
    let grants = Grants::from_value(grants).map_err(told)?;
    match services {
        Some(services) => PluginCapabilities::configure(manifest, &grants, services).map(Some).map_err(told),
        None => effective(&manifest.capabilities, &grants).map(|_| None).map_err(told),
    }
}

/// Are these grants well formed, whatever the component?
///
/// # Errors
/// Each problem, with its key.
pub fn check_form(grants: &Value) -> Result<(), Vec<Problem>> {
    Grants::from_value(grants).map(drop).map_err(told)
}

fn told(found: Vec<GrantProblem>) -> Vec<Problem> {
    found.into_iter().map(|problem| Problem::new(problem.pointer, problem.message)).collect()
}
