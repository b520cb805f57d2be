//! Versions, scopes, grants and events of components; and whose they are.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{OrganizationId, PluginEventId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_storage::sql::plugins::{Event, EventFilter, ScopeKey, ScopeSetting, Version};
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Database, StorageError};
use serde_json::json;

use crate::harness::{Fixture, add_tenant, at, on_both_databases};

on_both_databases!(
    what_is_written_is_read,
    a_scope_has_one_word_and_events_have_an_audience,
    a_project_of_another_organization_is_none,
    the_newest_release_is_never_forgotten,
);

fn event(scope: ScopeKey, what: &str) -> Event {
    Event {
        id: PluginEventId::generate(&SystemClock, &SystemRandom),
        at: at(5),
        plugin_id: "acme.x".into(),
        version: Some("1.0.0".into()),
        sha256: None,
        scope,
        event: what.into(),
        state: None,
        code: Some("PLUGIN_TRAPS".into()),
        reason: None,
        actor: "key:1".into(),
    }
}

fn version(byte: char, release_seq: Option<i64>) -> Version {
    Version {
        sha256: byte.to_string().repeat(64),
        plugin_id: "acme.x".into(),
        version: "1.0.0".into(),
        kind: "provider".into(),
        name: "x".into(),
        state: "installed".into(),
        code: None,
        reason: Some("because".into()),
        source: "upload".into(),
        reference: "x.wasm".into(),
        level: Some("vendor".into()),
        release_seq,
        size: 1 << 40,
        installed_at: at(1),
        updated_at: at(2),
    }
}

fn setting(key: ScopeKey) -> ScopeSetting {
    ScopeSetting {
        plugin_id: "acme.x".into(),
        key,
        enabled: Some(true),
        sha256: Some("a".repeat(64)),
        previous_sha256: None,
        config: Some(json!({"level": 2})),
        updated_at: at(3),
    }
}

async fn events(database: &Database, of: ScopeKey) -> Vec<String> {
    let filter = EventFilter { plugin_id: Some("acme.x"), before: None, limit: 10 };
    database.plugins().events(of, filter).await.unwrap().into_iter().map(|event| event.event).collect()
}

async fn what_is_written_is_read(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (plugins, instance) = (database.plugins(), ScopeKey::default());
    let before = database.revision(Revision::Plugins).await.unwrap();
    let first = version('a', None);
    plugins.put_version(&first, &event(instance, "installed")).await.unwrap();
    let changed = Version { state: "enabled".into(), reason: None, installed_at: at(9), ..first.clone() };
    plugins.put_version(&changed, &event(instance, "enabled")).await.unwrap();
    let read = plugins.versions().await.unwrap();
    assert_eq!(read, [Version { installed_at: at(1), ..changed }], "the time of installation stays");
    assert!(database.revision(Revision::Plugins).await.unwrap() > before);
    let unknown = Version { state: "asleep".into(), ..first.clone() };
    let refused = plugins.put_version(&unknown, &event(instance, "x")).await;
    assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    assert_eq!(events(database, instance).await.len(), 2, "no change, no event");

    plugins.put_grants("acme.x", &json!({"kv": {}}), at(1), &event(instance, "granted")).await.unwrap();
    plugins.put_grants("acme.x", &json!({"clock": {}}), at(2), &event(instance, "granted")).await.unwrap();
    assert_eq!(plugins.grants().await.unwrap(), [("acme.x".to_owned(), json!({"clock": {}}))]);

    plugins.delete_version(&first.sha256, &event(instance, "removed")).await.unwrap();
    assert_eq!(plugins.versions().await.unwrap(), []);
    let gone = plugins.delete_version(&first.sha256, &event(instance, "removed")).await;
    assert!(matches!(gone, Err(StorageError::NotFound)), "{gone:?}");
}

async fn a_scope_has_one_word_and_events_have_an_audience(fixture: Fixture) {
    let database = fixture.migrated().await;
    let plugins = database.plugins();
    let (acme, umbrella) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let organization = ScopeKey { organization: Some(acme.organization), project: None };
    let project = ScopeKey { project: Some(acme.project), ..organization };
    let other = ScopeKey { organization: Some(umbrella.organization), project: None };
    for key in [ScopeKey::default(), organization, project, other] {
        plugins.put_scope(&setting(key), &event(key, "enabled")).await.unwrap();
        let changed = ScopeSetting { enabled: None, previous_sha256: Some("b".repeat(64)), ..setting(key) };
        plugins.put_scope(&changed, &event(key, "changed")).await.unwrap();
        assert!(plugins.scopes().await.unwrap().contains(&changed), "{key:?}");
    }
    assert_eq!(plugins.scopes().await.unwrap().len(), 4);
    assert_eq!(events(database, ScopeKey::default()).await.len(), 2);
    assert_eq!(events(database, organization).await.len(), 4, "the project's too");
    assert_eq!(events(database, other).await.len(), 2);

    plugins.delete_scope("acme.x", organization, &event(organization, "inherits")).await.unwrap();
    let left = plugins.scopes().await.unwrap();
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|setting| setting.key != organization));
}

async fn a_project_of_another_organization_is_none(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (acme, umbrella) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    for project in [umbrella.project, ProjectId::generate(&SystemClock, &SystemRandom)] {
        let key = ScopeKey { organization: Some(acme.organization), project: Some(project) };
        let refused = database.plugins().put_scope(&setting(key), &event(key, "enabled")).await;
        assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
    }
    let nobody = OrganizationId::generate(&SystemClock, &SystemRandom);
    let key = ScopeKey { organization: Some(nobody), project: None };
    assert!(database.plugins().put_scope(&setting(key), &event(key, "enabled")).await.is_err());
}

async fn the_newest_release_is_never_forgotten(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (plugins, instance) = (database.plugins(), ScopeKey::default());
    assert_eq!(plugins.highest_release("acme.x").await.unwrap(), None);
    for (byte, seq) in [('a', 4), ('b', 9), ('c', 7)] {
        plugins.put_version(&version(byte, Some(seq)), &event(instance, "installed")).await.unwrap();
    }
    for byte in ['a', 'b', 'c'] {
        let sha256 = byte.to_string().repeat(64);
        plugins.delete_version(&sha256, &event(instance, "removed")).await.unwrap();
    }
    assert_eq!(plugins.highest_release("acme.x").await.unwrap(), Some(9));
}

/// PostgreSQL's second lock, for what organizations say of components.
#[tokio::test]
async fn the_catalogue_reads_all_and_writes_the_instances_only() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let database = fixture.migrated().await;
    let acme = add_tenant(database, "acme").await;
    let key = ScopeKey { organization: Some(acme.organization), project: None };
    database.plugins().put_scope(&setting(key), &event(key, "enabled")).await.unwrap();
    let instance = ScopeKey::default();
    database.plugins().put_scope(&setting(instance), &event(instance, "enabled")).await.unwrap();
    let Database::Postgres(pool) = database else { panic!("not PostgreSQL") };
    for (name, value, visible, changed) in [
        ("brokle.system", "plugins".to_owned(), 2, 1),
        ("brokle.system", "key_lookup".to_owned(), 0, 0),
        ("brokle.organization_id", acme.organization.to_string(), 1, 1),
        ("brokle.organization_id", String::new(), 0, 0),
    ] {
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("SELECT set_config($1, $2, true)")
            .bind(name)
            .bind(&value)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM plugin_scopes")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        let updated =
            sqlx::query("UPDATE plugin_scopes SET enabled = false").execute(&mut *transaction).await.unwrap();
        assert_eq!((count, updated.rows_affected()), (visible, changed), "{name}={value}");
        transaction.rollback().await.unwrap();
    }
}
