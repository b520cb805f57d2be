//! What `brokle_core::kv` promises, over both databases.

use brokle_core::kv::{Expected, KvError, KvQuota, KvScope, KvStore, KvWrite};
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::Database;
use chrono::{DateTime, Utc};

use crate::harness::{Fixture, add_tenant, at, new_tenant, on_both_databases};

on_both_databases!(
    scopes_are_apart,
    revisions_are_used_once,
    of_many_writers_that_expect_the_same_one_succeeds,
    entries_are_gone_in_time_and_count_no_more,
    quotas_hold,
    keys_are_listed_in_byte_order,
    a_tenant_that_isnt_there_keeps_nothing,
);

fn scope(tenant: Tenant, plugin: &str) -> KvScope {
    KvScope { tenant, plugin: plugin.into() }
}

fn write<'a>(key: &'a str, value: &'a str) -> KvWrite<'a> {
    let quota = KvQuota { max_keys: 3, max_bytes: 30 };
    KvWrite { key, value: value.as_bytes(), expires_at: None, expected: Expected::Anything, quota }
}

async fn value(database: &Database, scope: &KvScope, key: &str, now: DateTime<Utc>) -> Option<String> {
    let entry = database.plugin_kv().get(scope, key, now).await.unwrap()?;
    Some(String::from_utf8(entry.value).unwrap())
}

async fn scopes_are_apart(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (ours, theirs) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let store = database.plugin_kv();
    let scopes = [scope(ours, "a"), scope(ours, "b"), scope(theirs, "a")];
    for (index, scope) in scopes.iter().enumerate() {
        store.set(scope, write("key", &index.to_string()), at(0)).await.unwrap();
    }
    for (index, scope) in scopes.iter().enumerate() {
        assert_eq!(value(database, scope, "key", at(0)).await, Some(index.to_string()));
        assert_eq!(store.list(scope, "", None, 10, at(0)).await.unwrap().keys, ["key"]);
    }
    assert!(store.delete(&scopes[0], "key", at(0)).await.unwrap());
    assert!(!store.delete(&scopes[0], "key", at(0)).await.unwrap());
    assert_eq!(value(database, &scopes[2], "key", at(0)).await.as_deref(), Some("2"));
}

async fn revisions_are_used_once(fixture: Fixture) {
    let database = fixture.migrated().await;
    let scope = scope(add_tenant(database, "acme").await, "a");
    let store = database.plugin_kv();
    let first = store.set(&scope, write("k", "1"), at(0)).await.unwrap();
    store.delete(&scope, "k", at(0)).await.unwrap();
    let second = store.set(&scope, write("k", "1"), at(0)).await.unwrap();
    assert!(second > first);
    let stale = KvWrite { expected: Expected::Revision(first), ..write("k", "2") };
    let refused = store.set(&scope, stale, at(0)).await.unwrap_err();
    assert!(matches!(refused, KvError::Conflict(Some(found)) if found == second), "{refused:?}");
    let absent = KvWrite { expected: Expected::Nothing, ..write("k", "2") };
    assert!(matches!(store.set(&scope, absent, at(0)).await, Err(KvError::Conflict(Some(_)))));
    assert_eq!(value(database, &scope, "k", at(0)).await.as_deref(), Some("1"));
    let fresh = KvWrite { expected: Expected::Revision(second), ..write("k", "2") };
    store.set(&scope, fresh, at(0)).await.unwrap();
    assert_eq!(value(database, &scope, "k", at(0)).await.as_deref(), Some("2"));
}

async fn of_many_writers_that_expect_the_same_one_succeeds(fixture: Fixture) {
    let database = fixture.migrated().await;
    let scope = scope(add_tenant(database, "acme").await, "a");
    let store = database.plugin_kv();
    let race = |value| {
        let (store, scope) = (&store, &scope);
        async move {
            let write = KvWrite { expected: Expected::Nothing, ..write("k", value) };
            store.set(scope, write, at(0)).await
        }
    };
    let (a, b, c, d) = tokio::join!(race("a"), race("b"), race("c"), race("d"));
    let won = [a, b, c, d].into_iter().filter(|outcome| match outcome {
        Ok(_) => true,
        Err(KvError::Conflict(Some(_))) => false,
        Err(error) => panic!("{error:?}"),
    });
    assert_eq!(won.count(), 1);
}

async fn entries_are_gone_in_time_and_count_no_more(fixture: Fixture) {
    let database = fixture.migrated().await;
    let scope = scope(add_tenant(database, "acme").await, "a");
    let store = database.plugin_kv();
    for key in ["a", "b", "c"] {
        let write = KvWrite { expires_at: Some(at(1_000)), ..write(key, "x") };
        store.set(&scope, write, at(0)).await.unwrap();
    }
    assert_eq!(value(database, &scope, "a", at(999)).await.as_deref(), Some("x"));
    assert_eq!(value(database, &scope, "a", at(1_000)).await, None);
    assert_eq!(store.list(&scope, "", None, 10, at(1_000)).await.unwrap().keys, Vec::<String>::new());
    assert!(!store.delete(&scope, "a", at(1_000)).await.unwrap(), "it is gone already");
    let absent = KvWrite { expected: Expected::Nothing, ..write("b", "new") };
    store.set(&scope, absent, at(1_000)).await.unwrap();
    for key in ["d", "e"] {
        store.set(&scope, write(key, "x"), at(1_000)).await.unwrap();
    }
    let refused = store.set(&scope, write("f", "x"), at(1_000)).await.unwrap_err();
    assert!(matches!(refused, KvError::TooManyKeys(3)), "{refused:?}");
}

async fn quotas_hold(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let (scope, other) = (scope(tenant, "a"), scope(tenant, "b"));
    let store = database.plugin_kv();
    store.set(&scope, write("a", &"x".repeat(14)), at(0)).await.unwrap();
    store.set(&scope, write("b", &"x".repeat(14)), at(0)).await.unwrap();
    let refused = store.set(&scope, write("c", ""), at(0)).await.unwrap_err();
    assert!(matches!(refused, KvError::TooManyBytes(30)), "{refused:?}");
    assert_eq!(value(database, &scope, "c", at(0)).await, None);
    // What is replaced counts once; what is deleted, no more; another plugin has its own.
    store.set(&scope, write("b", &"y".repeat(14)), at(0)).await.unwrap();
    store.set(&other, write("c", "z"), at(0)).await.unwrap();
    store.delete(&scope, "a", at(0)).await.unwrap();
    store.set(&scope, write("c", &"z".repeat(14)), at(0)).await.unwrap();
}

async fn keys_are_listed_in_byte_order(fixture: Fixture) {
    let database = fixture.migrated().await;
    let scope = scope(add_tenant(database, "acme").await, "a");
    let store = database.plugin_kv();
    let quota = KvQuota { max_keys: 100, max_bytes: 1_000 };
    for key in ["a/B", "a/a", "a/é", "a", "a/_", "a/%", "b"] {
        store.set(&scope, KvWrite { quota, ..write(key, "") }, at(0)).await.unwrap();
    }
    let page = store.list(&scope, "a/", None, 3, at(0)).await.unwrap();
    assert_eq!(
        (page.keys.as_slice(), page.more),
        (["a/%", "a/B", "a/_"].map(str::to_owned).as_slice(), true)
    );
    let rest = store.list(&scope, "a/", Some("a/_"), 3, at(0)).await.unwrap();
    assert_eq!((rest.keys.as_slice(), rest.more), (["a/a", "a/é"].map(str::to_owned).as_slice(), false));
    assert_eq!(store.list(&scope, "", None, 10, at(0)).await.unwrap().keys.len(), 7);
}

async fn a_tenant_that_isnt_there_keeps_nothing(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let store = database.plugin_kv();
    let stranger = scope(new_tenant(), "a");
    assert!(matches!(store.set(&stranger, write("k", "v"), at(0)).await, Err(KvError::Unavailable(_))));
    // Another organization's environment is no way in either.
    let theirs = add_tenant(database, "umbrella").await;
    let mixed = scope(Tenant { organization: ours.organization, ..theirs }, "a");
    assert!(matches!(store.set(&mixed, write("k", "v"), at(0)).await, Err(KvError::Unavailable(_))));
}

/// PostgreSQL's second lock: a statement that names no tenant sees nothing.
#[tokio::test]
async fn a_statement_without_its_tenant_sees_nothing() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let database = fixture.migrated().await;
    let scope = scope(add_tenant(database, "acme").await, "a");
    database.plugin_kv().set(&scope, write("k", "v"), at(0)).await.unwrap();
    for connected in [&fixture.app, &fixture.owner] {
        let Database::Postgres(pool) = connected else { panic!("not PostgreSQL") };
        for table in ["SELECT count(*) FROM plugin_kv", "SELECT count(*) FROM plugin_kv_scopes"] {
            let mut transaction = pool.begin().await.unwrap();
            let bare: i64 = sqlx::query_scalar(table).fetch_one(&mut *transaction).await.unwrap();
            sqlx::query("SELECT set_config('brokle.organization_id', $1, true)")
                .bind(scope.tenant.organization.to_string())
                .execute(&mut *transaction)
                .await
                .unwrap();
            let named: i64 = sqlx::query_scalar(table).fetch_one(&mut *transaction).await.unwrap();
            assert_eq!((bare, named), (0, 1), "{table}");
        }
    }
}
