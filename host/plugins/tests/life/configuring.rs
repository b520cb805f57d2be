//! Configuration by scope, and grants.

use brokle_plugins::{CatalogueError, ScopeKey, State};
use serde_json::json;

use crate::harness::*;

const ECHO: &str = "brokle.provider-echo";
/// As long as what it takes the place of in the manifest, and a schema.
const OPTIONS: &str = r#""options": {"#;

/// The echo provider with a schema for its configuration: its `options` member is renamed, and a shorter description
/// makes room.
fn configurable() -> Vec<u8> {
    let mut bytes = component("provider_echo");
    let at = bytes.windows(OPTIONS.len()).position(|window| window == OPTIONS.as_bytes()).unwrap();
    bytes[at..at + OPTIONS.len()].copy_from_slice(br#""config":  {"#);
    bytes
}

#[tokio::test]
async fn a_configuration_is_checked_by_key_and_reaches_the_scope() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let catalogue = world.dev(Vec::new()).await;
    upload(&catalogue, configurable()).await.unwrap();
    let key = ScopeKey { organization: Some(acme.organization), project: None };
    let wrong = catalogue.set_config(ECHO, key, Some(json!({"colour": 1})), &operator()).await.unwrap_err();
    let CatalogueError::Invalid { code: "PLUGIN_CONFIG", problems } = wrong else { panic!("{wrong:?}") };
    assert_eq!(problems[0].pointer, "/colour");
    catalogue.set_config(ECHO, key, Some(json!({})), &operator()).await.unwrap();
    let snapshot = catalogue.snapshots().load();
    assert_eq!(&*snapshot.of(acme).provider("echo").unwrap().context.config, b"{}");
    assert_eq!(&*snapshot.instance().provider("echo").unwrap().context.config, b"", "nobody else's");
    assert_eq!(catalogue.config(ECHO, key).await.unwrap().0, Some(json!({})));
    catalogue.set_config(ECHO, key, None, &operator()).await.unwrap();
    assert_eq!(catalogue.config(ECHO, key).await.unwrap(), (None, None));
}

#[tokio::test]
async fn grants_that_nobody_asks_for_are_refused_by_key() {
    let world = World::new().await;
    let catalogue = world.dev(vec![builtin("provider_echo")]).await;
    let refused = catalogue.set_grants(ECHO, json!({"kv": {}}), &operator()).await.unwrap_err();
    let CatalogueError::Invalid { code: "PLUGIN_GRANTS", problems } = refused else { panic!("{refused:?}") };
    assert_eq!(problems[0].pointer, "/kv");
    let unknown = catalogue.set_grants("acme.later", json!({"sockets": {}}), &operator()).await.unwrap_err();
    assert_eq!(code(&unknown), "PLUGIN_GRANTS");
    catalogue.set_grants("acme.later", json!({"kv": {}}), &operator()).await.unwrap();
    assert_eq!(
        catalogue.grants("acme.later").await.unwrap().1,
        json!({"kv": {}}),
        "ahead of its installation"
    );
}

/// The routing policy, asking for a clock: its description makes room for the request.
fn asking() -> Vec<u8> {
    let mut bytes = component("policy_priority");
    let from = r#""description": "Ordered failover: candidates by"#;
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let to = format!("{:<width$}", r#""capabilities": {"clock":{}},"description":""#, width = from.len());
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[tokio::test]
async fn what_asks_waits_for_grants_and_then_starts() {
    const PRIORITY: &str = "brokle.policy-priority";
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    upload(&catalogue, asking()).await.unwrap();
    let waits = version(&catalogue, PRIORITY, "0.1.0");
    assert_eq!((waits.state, waits.code.as_deref()), (State::Installed, Some("PLUGIN_GRANTS")));
    assert!(waits.reason.unwrap().contains("clock"));
    let refused = catalogue.enable(PRIORITY, INSTANCE, None, &operator()).await.unwrap_err();
    assert_eq!(code(&refused), "PLUGIN_GRANTS");
    catalogue.set_grants(PRIORITY, json!({"clock": {}}), &operator()).await.unwrap();
    assert_eq!(state(&catalogue, PRIORITY, "0.1.0"), State::Enabled);
    assert_eq!(version(&catalogue, PRIORITY, "0.1.0").code, None);
    assert!(catalogue.snapshots().load().instance().policy("priority").is_some());
}

#[tokio::test]
async fn what_waits_over_a_restart_starts_with_its_grants_too() {
    const PRIORITY: &str = "brokle.policy-priority";
    let world = World::new().await;
    upload(&*world.dev(Vec::new()).await, asking()).await.unwrap();
    let again = world.dev(Vec::new()).await;
    assert_eq!(state(&again, PRIORITY, "0.1.0"), State::Installed);
    let refused = again.set_grants(PRIORITY, json!({"kv": {}}), &operator()).await.unwrap_err();
    assert_eq!(code(&refused), "PLUGIN_GRANTS", "it doesn't ask for that");
    again.set_grants(PRIORITY, json!({"clock": {}}), &operator()).await.unwrap();
    assert_eq!(state(&again, PRIORITY, "0.1.0"), State::Enabled);
    assert!(again.snapshots().load().instance().policy("priority").is_some());
}

#[tokio::test]
async fn what_was_granted_ahead_starts_at_once() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    catalogue.set_grants("brokle.policy-priority", json!({"clock": {}}), &operator()).await.unwrap();
    upload(&catalogue, asking()).await.unwrap();
    assert_eq!(state(&catalogue, "brokle.policy-priority", "0.1.0"), State::Enabled);
}
