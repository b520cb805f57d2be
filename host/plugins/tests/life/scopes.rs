//! Organizations and projects have a word of their own.

use brokle_plugins::{ScopeKey, State};
use brokle_storage::sql::plugins::EventFilter;

use crate::harness::*;

const ECHO: &str = "brokle.provider-echo";

#[tokio::test]
async fn two_organizations_have_different_versions_and_a_project_wins() {
    let world = World::new().await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let catalogue = world.dev(vec![builtin("provider_echo")]).await;
    upload(&catalogue, release("provider_echo", "0.2.0")).await.unwrap();
    upload(&catalogue, release("provider_echo", "0.3.0")).await.unwrap();
    let organization = ScopeKey { organization: Some(acme.organization), project: None };
    let project = ScopeKey { project: Some(acme.project), ..organization };
    let versions = |catalogue: &brokle_plugins::Catalogue| {
        (serving(catalogue, acme, "echo"), serving(catalogue, umbrella, "echo"))
    };
    let pair = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));

    catalogue.enable(ECHO, organization, Some("0.1.0"), &operator()).await.unwrap();
    assert_eq!(versions(&catalogue), pair("0.1.0", "0.3.0"));
    for both in ["0.1.0", "0.3.0"] {
        assert_eq!(state(&catalogue, ECHO, both), State::Enabled);
    }
    catalogue.enable(ECHO, project, Some("0.2.0"), &operator()).await.unwrap();
    assert_eq!(versions(&catalogue), pair("0.2.0", "0.3.0"), "the project's word is above");
    catalogue.disable(ECHO, project, &operator()).await.unwrap();
    assert_eq!(versions(&catalogue), (None, Some("0.3.0".into())));
    catalogue.inherit(ECHO, project, &operator()).await.unwrap();
    assert_eq!(versions(&catalogue), pair("0.1.0", "0.3.0"));

    let filter = EventFilter { plugin_id: None, before: None, limit: 10 };
    let theirs = ScopeKey { organization: Some(umbrella.organization), project: None };
    assert_eq!(catalogue.events(theirs, filter).await.unwrap(), [], "nobody else's events");
    let ours: Vec<String> =
        catalogue.events(organization, filter).await.unwrap().into_iter().map(|event| event.event).collect();
    assert_eq!(ours, ["inherits", "disabled", "enabled", "enabled"]);
    let seen = catalogue.get(ECHO).unwrap().seen_by(umbrella.organization);
    assert_eq!(seen.scopes, [], "nor settings");

    drop(catalogue);
    let again = world.dev(vec![builtin("provider_echo")]).await;
    assert_eq!(versions(&again), pair("0.1.0", "0.3.0"), "it outlives the server");
}

#[tokio::test]
async fn another_servers_changes_are_followed() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let one = world.dev(vec![builtin("provider_echo")]).await;
    let other = world.dev(vec![builtin("provider_echo")]).await;
    upload(&one, release("provider_echo", "0.2.0")).await.unwrap();
    assert_eq!(serving(&other, acme, "echo").as_deref(), Some("0.1.0"));
    other.refresh().await.unwrap();
    assert_eq!(serving(&other, acme, "echo").as_deref(), Some("0.2.0"));
    other.disable(ECHO, INSTANCE, &operator()).await.unwrap();
    one.refresh().await.unwrap();
    assert_eq!(serving(&one, acme, "echo"), None);
}

#[tokio::test]
async fn a_call_keeps_what_it_began_with() {
    let world = World::new().await;
    let catalogue = world.dev(vec![builtin("provider_echo")]).await;
    let before = catalogue.snapshots().load();
    upload(&catalogue, release("provider_echo", "0.2.0")).await.unwrap();
    let old = before.instance().provider("echo").unwrap();
    assert_eq!(old.plugin.manifest().version.to_string(), "0.1.0");
    old.plugin.open(old.context.clone()).await.unwrap();
    assert_ne!(before.instance().generation(), catalogue.snapshots().load().instance().generation());
}
