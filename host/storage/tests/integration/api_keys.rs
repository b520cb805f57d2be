//! Keys are stored for a tenant, found by their hash, and nobody else's.

use brokle_core::tenancy::{Capture, Tenant};
use brokle_storage::sql::api_keys::Rotation;
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Page, StorageError};

use crate::harness::{Fixture, add_tenant, at, new_key, new_tenant, on_both_databases};

on_both_databases!(
    what_is_written_is_read,
    a_key_belongs_to_a_tenant_that_exists,
    a_foreign_id_and_a_missing_one_answer_the_same,
    a_revocation_keeps_its_first_time,
    a_rotated_key_has_two_secrets_and_its_former_ones_end,
    the_last_use_only_moves_forward_and_is_no_change,
);

async fn what_is_written_is_read(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let new = new_key("ci");
    let key = database.api_keys().create(tenant, &new).await.unwrap();
    assert_eq!((key.id, key.tenant, key.requests_per_minute), (new.id, tenant, Some(u32::MAX)));
    assert_eq!(key.restrictions, new.restrictions);
    assert_eq!((&key.scopes, key.expires_at), (&new.scopes, Some(at(123_456))));
    assert_eq!((key.revoked_at, key.last_used_at, key.created_at), (None, None, at(1)));
    assert_eq!(database.api_keys().get(tenant.organization, new.id).await.unwrap(), key);

    let bare = crate::harness::new_key("bare");
    let bare =
        brokle_storage::sql::api_keys::NewApiKey { requests_per_minute: None, expires_at: None, ..bare };
    let bare = database.api_keys().create(tenant, &bare).await.unwrap();
    assert_eq!((bare.requests_per_minute, bare.expires_at), (None, None));
    let mut all = vec![key.clone(), bare];
    all.sort_by_key(|key| key.id);
    assert_eq!(database.api_keys().list(tenant, Page::first(10)).await.unwrap(), all);

    let owner = database.api_keys().find_owner(&new.key_hash).await.unwrap().unwrap();
    assert_eq!((owner.valid_until, owner.capture), (key.expires_at, Capture::Metadata));
    assert_eq!(owner.key, key);
    assert_eq!(database.api_keys().find_owner(&[7; 32]).await.unwrap(), None);
}

async fn a_key_belongs_to_a_tenant_that_exists(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let mixed = [
        Tenant { environment: theirs.environment, ..ours },
        Tenant { project: theirs.project, environment: theirs.environment, ..ours },
        new_tenant(),
    ];
    for tenant in mixed {
        let refused = database.api_keys().create(tenant, &new_key("ci")).await;
        assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
    }
    let key = new_key("ci");
    database.api_keys().create(theirs, &key).await.unwrap();
    let again = brokle_storage::sql::api_keys::NewApiKey { id: new_key("x").id, ..key };
    let refused = database.api_keys().create(ours, &again).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
}

async fn a_foreign_id_and_a_missing_one_answer_the_same(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let foreign = database.api_keys().create(theirs, &new_key("theirs")).await.unwrap();
    for id in [foreign.id, new_key("missing").id] {
        let answers = [
            database.api_keys().get(ours.organization, id).await.map(drop),
            database.api_keys().revoke(ours.organization, id, at(0)).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
        }
        database.api_keys().touch(ours.organization, &[(id, at(5))].into()).await.unwrap();
    }
    assert!(database.api_keys().list(ours, Page::first(10)).await.unwrap().is_empty());
    assert_eq!(database.api_keys().get(theirs.organization, foreign.id).await.unwrap(), foreign, "untouched");
}

async fn a_revocation_keeps_its_first_time(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let key = database.api_keys().create(tenant, &new_key("ci")).await.unwrap();
    let before = database.revision(Revision::Identity).await.unwrap();
    let revoked = database.api_keys().revoke(tenant.organization, key.id, at(10)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(10)));
    assert!(database.revision(Revision::Identity).await.unwrap() > before);
    let again = database.api_keys().revoke(tenant.organization, key.id, at(20)).await.unwrap();
    assert_eq!(again.revoked_at, Some(at(10)));
}

async fn the_last_use_only_moves_forward_and_is_no_change(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let key = database.api_keys().create(tenant, &new_key("ci")).await.unwrap();
    let before = database.revision(Revision::Identity).await.unwrap();
    // 1 ms and 1.5 ms: SQLite compares texts, which must order like times whatever number of digits they have.
    for (used, expected) in
        [(1_000, 1_000), (0, 1_000), (1_500, 1_500), (1_000_000, 1_000_000), (1_500, 1_000_000)]
    {
        database.api_keys().touch(tenant.organization, &[(key.id, at(used))].into()).await.unwrap();
        let stored = database.api_keys().get(tenant.organization, key.id).await.unwrap();
        assert_eq!(stored.last_used_at, Some(at(expected)));
    }
    assert_eq!(database.revision(Revision::Identity).await.unwrap(), before, "no cache needs to hear of it");
}

async fn a_rotated_key_has_two_secrets_and_its_former_ones_end(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let new = new_key("ci");
    let key = database.api_keys().create(ours, &new).await.unwrap();
    let to = |byte, until| Rotation {
        key_hash: [byte; 32],
        preview: format!("bk_{byte}"),
        previous_expires_at: at(until),
    };
    let foreign = database.api_keys().rotate(theirs.organization, key.id, &to(1, 100)).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)), "{foreign:?}");

    let before = database.revision(Revision::Identity).await.unwrap();
    let once = database.api_keys().rotate(ours.organization, key.id, &to(1, 100)).await.unwrap();
    assert!(database.revision(Revision::Identity).await.unwrap() > before);
    assert_eq!((once.preview.as_str(), once.previous_expires_at), ("bk_1", Some(at(100))));
    let until = async |hash: &[u8; 32]| {
        let owner = database.api_keys().find_owner(hash).await.unwrap()?;
        assert_eq!(owner.key, once);
        Some(owner.valid_until)
    };
    assert_eq!(until(&new.key_hash).await, Some(Some(at(100))));
    assert_eq!(until(&[1; 32]).await, Some(key.expires_at));

    // Beyond the key's own end nothing goes on.
    let twice = database.api_keys().rotate(ours.organization, key.id, &to(2, 999_999)).await.unwrap();
    let valid = async |hash: &[u8; 32]| {
        database.api_keys().find_owner(hash).await.unwrap().map(|owner| owner.valid_until)
    };
    assert_eq!(valid(&new.key_hash).await, None);
    assert_eq!(valid(&[1; 32]).await, Some(twice.expires_at));

    database.api_keys().revoke(ours.organization, key.id, at(5)).await.unwrap();
    let revoked = database.api_keys().rotate(ours.organization, key.id, &to(3, 100)).await;
    assert!(matches!(revoked, Err(StorageError::NotFound)), "{revoked:?}");
}
