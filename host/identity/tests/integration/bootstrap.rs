//! The first start.

use brokle_core::clock::Clock;
use brokle_core::random::SystemRandom;
use brokle_identity::bootstrap::{Bootstrap, BootstrapError, BootstrapKey, bootstrap};
use brokle_identity::{AuthError, Scopes};
use brokle_storage::sql::Page;

use crate::harness::{Fixture, on_both_databases};

on_both_databases!(
    a_given_key_works_from_the_first_start_on,
    without_a_given_key_one_is_made_up_once,
    a_malformed_key_is_refused_before_anything_is_done,
);

const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd0123XyZa";

async fn start(fixture: &Fixture, key: Option<&str>) -> Result<Bootstrap, BootstrapError> {
    bootstrap(&fixture.database, fixture.clock.as_ref(), &SystemRandom, key).await
}

async fn a_given_key_works_from_the_first_start_on(fixture: Fixture) {
    let first = start(&fixture, Some(KEY)).await.unwrap();
    assert!(matches!(first.key, BootstrapKey::Stored), "{:?}", first.key);
    let keys = fixture.keys();
    let principal = keys.authenticate(KEY).await.unwrap();
    assert_eq!((principal.tenant, principal.scopes), (first.tenant, Scopes::all()));

    let again = start(&fixture, Some(KEY)).await.unwrap();
    assert!(matches!(again.key, BootstrapKey::AlreadyThere), "{:?}", again.key);
    assert_eq!(again.tenant, first.tenant);
    let listed = keys.list(first.tenant, Page::first(10)).await.unwrap();
    assert_eq!(listed.iter().map(|key| key.preview.as_str()).collect::<Vec<_>>(), ["bk_AbCd...XyZa"]);

    keys.revoke(first.tenant.organization, listed[0].id).await.unwrap();
    start(&fixture, Some(KEY)).await.unwrap();
    assert_eq!(keys.authenticate(KEY).await.unwrap_err(), AuthError::Revoked, "a restart doesn't undo that");
}

async fn without_a_given_key_one_is_made_up_once(fixture: Fixture) {
    let first = start(&fixture, None).await.unwrap();
    let BootstrapKey::Generated(secret) = first.key else { panic!("{:?}", first.key) };
    assert_eq!(fixture.keys().authenticate(secret.expose()).await.unwrap().tenant, first.tenant);
    let again = start(&fixture, None).await.unwrap();
    assert!(matches!(again.key, BootstrapKey::AlreadyThere), "{:?}", again.key);
    assert_eq!(again.tenant, first.tenant);
}

async fn a_malformed_key_is_refused_before_anything_is_done(fixture: Fixture) {
    let error = start(&fixture, Some("bk_hunter2")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "BROKLE_BOOTSTRAP_API_KEY is not an API key: bk_ and 40 letters and digits are expected"
    );
    let now = fixture.clock.now();
    let taken = fixture.tenant("default").await;
    assert_eq!(fixture.database.organizations().get(taken.organization).await.unwrap().created_at, now);
}
