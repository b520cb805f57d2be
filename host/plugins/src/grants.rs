//! What a component asks for and what operators grant it.
//!
//! Both are JSON objects whose members are capabilities: `kv`, `http`, `secrets`, …. A component that asks for one that
//! the grants don't mention waits (`installed`, code [`WAITING`]); a member of the grants that it doesn't ask for is an
//! error, since it most likely is a mistake in writing.

use brokle_runtime::Manifest;
use serde_json::Value;

use crate::configuration::Problem;

/// The code of a version that waits for grants.
pub const WAITING: &str = "PLUGIN_GRANTS";

/// What the manifest asks for.
#[must_use]
pub fn asked(manifest: &Manifest) -> Value {
    let manifest = serde_json::to_value(manifest).unwrap_or_default();
    manifest.get("capabilities").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

/// The capabilities that the manifest asks for and the grants don't mention.
#[must_use]
pub fn outstanding(manifest: &Manifest, grants: Option<&Value>) -> Vec<String> {
    let asked = asked(manifest);
    let Some(asked) = asked.as_object() else { return Vec::new() };
    let given = |name: &str| grants.is_some_and(|grants| grants.get(name).is_some());
    asked
        .iter()
        .filter(|(name, wanted)| !wanted.is_null() && !given(name))
        .map(|(name, _)| name.clone())
        .collect()
}

/// What is wrong with grants for this component.
#[must_use]
pub fn check(manifest: &Manifest, grants: &Value) -> Vec<Problem> {
    let asked = asked(manifest);
    let Some(grants) = grants.as_object() else {
        return vec![Problem::new("", "an object is expected: capabilities by name")];
    };
    let unused = grants.keys().filter(|name| asked.get(name.as_str()).is_none_or(Value::is_null));
    let label = manifest.label();
    unused.map(|name| Problem::at("", name, format!("{label} doesn't ask for this"))).collect()
}
