//! A first start makes a tenant and a key; later ones, and others at the same time, find them.

use brokle_storage::sql::Page;
use brokle_storage::sql::bootstrap::StoreKey;
use brokle_storage::sql::revisions::Revision;

use crate::harness::{Fixture, add_tenant, at, new_key, new_tenant, on_both_databases};

on_both_databases!(
    a_first_start_makes_what_later_ones_find,
    a_key_is_made_up_only_while_there_is_none,
    servers_that_start_together_agree,
);

async fn a_first_start_makes_what_later_ones_find(fixture: Fixture) {
    let database = fixture.migrated().await;
    assert_eq!(database.default_tenant().await.unwrap(), None);
    add_tenant(database, "acme").await;
    let key = new_key("bootstrap");
    let first = database.bootstrap(new_tenant(), &key, StoreKey::Always, at(0)).await.unwrap();
    assert_eq!(first.stored.as_ref().map(|key| key.tenant), Some(first.tenant));
    assert_eq!(database.default_tenant().await.unwrap(), Some(first.tenant));
    assert_eq!(database.organizations().get(first.tenant.organization).await.unwrap().name, "default");
    assert_eq!(database.environments().get(first.tenant).await.unwrap().name, "development");

    database.api_keys().revoke(first.tenant.organization, key.id, at(1)).await.unwrap();
    let revision = database.revision(Revision::Identity).await.unwrap();
    let again = database.bootstrap(new_tenant(), &key, StoreKey::Always, at(2)).await.unwrap();
    assert_eq!(again.tenant, first.tenant);
    assert!(again.stored.is_none(), "a revoked key doesn't rise again");
    assert_eq!(database.revision(Revision::Identity).await.unwrap(), revision, "nothing was touched");

    let rotated = database.bootstrap(new_tenant(), &new_key("new"), StoreKey::Always, at(3)).await.unwrap();
    assert_eq!((rotated.tenant, rotated.stored.is_some()), (first.tenant, true));
}

async fn a_key_is_made_up_only_while_there_is_none(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    database.api_keys().create(tenant, &new_key("somebody's")).await.unwrap();
    let start =
        database.bootstrap(new_tenant(), &new_key("made up"), StoreKey::IfThereIsNone, at(0)).await.unwrap();
    assert!(start.stored.is_none(), "another tenant's key counts");
    assert_ne!(start.tenant.organization, tenant.organization);
    assert!(database.api_keys().list(start.tenant, Page::first(1)).await.unwrap().is_empty());
}

async fn servers_that_start_together_agree(fixture: Fixture) {
    let database = fixture.migrated().await;
    let servers = (0..6).map(|_| {
        let database = database.clone();
        let start = async move {
            database.bootstrap(new_tenant(), &new_key("made up"), StoreKey::IfThereIsNone, at(0)).await
        };
        #[expect(clippy::disallowed_methods, reason = "a test has no task tracker")]
        tokio::spawn(start)
    });
    let mut started = Vec::new();
    for server in servers.collect::<Vec<_>>() {
        started.push(server.await.unwrap().unwrap());
    }
    assert!(started.iter().all(|start| start.tenant == started[0].tenant));
    assert_eq!(
        started.iter().filter(|start| start.stored.is_some()).count(),
        1,
        "one of them stored its key"
    );
}
