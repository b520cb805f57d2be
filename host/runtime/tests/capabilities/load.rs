//! A component may import what its manifest asks for, and its manifest may ask for what its role may have.

use brokle_runtime::capabilities::PluginCapabilities;
use brokle_runtime::grants::Grants;
use brokle_runtime::{LoadError, inspect};
use serde_json::json;

use crate::harness::{Fixture, component};

/// The same component with another text of the same length in its manifest.
fn with(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn an_import_that_isnt_asked_for_is_refused_by_name() {
    let error = inspect(&with(r#""clock": {},"#, r#"            "#)).unwrap_err();
    assert!(matches!(&error, LoadError::NotAskedFor { import, .. } if import == "brokle:host/clock@0.1.0"));
    assert_eq!(error.code(), "PLUGIN_CAPABILITY");
    assert!(error.to_string().contains("add it to `capabilities`"), "{error}");
}

#[test]
fn a_role_that_may_not_have_it_is_refused() {
    let bytes = with(r#""kind": "guardrail","#, r#""kind": "provider", "#);
    let error = inspect(&bytes).unwrap_err();
    assert!(error.to_string().contains("not for a provider"), "{error}");
}

#[tokio::test]
async fn a_grant_is_checked_when_it_is_configured() {
    let fixture = Fixture::new().await;
    let configure = |grants| {
        let grants = Grants::from_value(&grants).unwrap();
        PluginCapabilities::configure(fixture.plugin.manifest(), &grants, &fixture.host.services())
    };
    let problems =
        configure(json!({ "secrets": { "token": "test:nothing", "rsa": "env:HOME" } })).unwrap_err();
    let found: Vec<_> =
        problems.iter().map(|problem| (problem.pointer.as_str(), problem.message.as_str())).collect();
    assert_eq!(
        found,
        [
            ("/secrets/rsa", "no source for secrets of the scheme 'env'"),
            ("/secrets/token", "there is no such secret"),
        ]
    );
    let problems = configure(json!({ "http": { "upstreams": { "checker": {} } } })).unwrap_err();
    assert_eq!(problems[0].pointer, "/http/upstreams/checker/hosts");
}
