//! The database goes away, and comes back.

use brokle_core::random::SystemRandom;
use brokle_identity::{AuthError, api_key};
use chrono::TimeDelta;

use crate::harness::{Fixture, on_both_databases, wired_postgres};

on_both_databases!(
    cached_keys_go_on_and_others_are_not_called_unknown,
    an_expired_key_stops_in_an_outage_too
);

async fn cached_keys_go_on_and_others_are_not_called_unknown(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (key, cached) = fixture.key(tenant).await;
    let (_, not_cached) = fixture.key(tenant).await;
    let unknown = api_key::generate(&SystemRandom);
    keys.poll_revision().await.unwrap();
    keys.authenticate(cached.expose()).await.unwrap();
    assert_eq!(keys.authenticate(unknown.expose()).await.unwrap_err(), AuthError::Unknown);
    let asked = keys.lookups();
    fixture.database.close().await;

    assert!(keys.poll_revision().await.unwrap_err().is_retryable());
    for text in [not_cached.expose(), unknown.expose()] {
        assert_eq!(keys.authenticate(text).await.unwrap_err(), AuthError::Unavailable, "nobody can tell");
    }
    assert_eq!(keys.lookups(), asked, "nobody queues up behind a dead database");

    for _ in 0..3 {
        fixture.clock.advance(TimeDelta::hours(1));
        let principal = keys.authenticate(cached.expose()).await.unwrap();
        assert_eq!(principal.key_id, key.id, "it goes on, however old");
    }
    assert_eq!(keys.lookups(), asked + 3, "without the poll, one request after each pause asks");
    assert!(matches!(keys.cached(cached.expose()), Some(Ok(_))), "and the others don't even wait for it");
    assert_eq!(keys.authenticate(not_cached.expose()).await.unwrap_err(), AuthError::Unavailable);
}

async fn an_expired_key_stops_in_an_outage_too(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let expires_at = Some(brokle_core::clock::Clock::now(fixture.clock.as_ref()) + TimeDelta::hours(1));
    let new = brokle_identity::keys::NewKey { expires_at, ..crate::harness::new_key("short") };
    let (_, secret) = keys.create(tenant, new).await.unwrap();
    keys.authenticate(secret.expose()).await.unwrap();
    fixture.database.close().await;
    fixture.clock.advance(TimeDelta::minutes(59));
    keys.authenticate(secret.expose()).await.unwrap();
    fixture.clock.advance(TimeDelta::minutes(1));
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_poll_ends_an_outage_and_brings_what_was_missed() {
    let Some((fixture, wire)) = wired_postgres().await else { return };
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (key, secret) = fixture.key(tenant).await;
    let (_, other) = fixture.key(tenant).await;
    keys.poll_revision().await.unwrap();
    keys.authenticate(secret.expose()).await.unwrap();

    wire.cut();
    fixture.clock.advance(TimeDelta::minutes(5));
    let error = keys.poll_revision().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap().key_id, key.id);
    assert_eq!(keys.authenticate(other.expose()).await.unwrap_err(), AuthError::Unavailable);

    wire.mend();
    // The wire lets new connections through as of now, so the first poll that gets one succeeds.
    while keys.poll_revision().await.is_err() {}
    keys.authenticate(other.expose()).await.unwrap();
    fixture.keys().revoke(tenant.organization, key.id).await.unwrap();
    assert!(keys.poll_revision().await.unwrap());
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_notices_an_outage_and_its_end_by_itself() {
    let Some((fixture, wire)) = wired_postgres().await else { return };
    let keys = fixture.keys();
    let (_, secret) = fixture.key(fixture.tenant("acme").await).await;
    wire.cut();
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Unavailable);
    wire.mend();
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Unavailable, "not yet");
    while keys.authenticate(secret.expose()).await.is_err() {
        fixture.clock.advance(brokle_identity::keys::RETRY_AFTER);
    }
    keys.cached(secret.expose()).unwrap().unwrap();
}
