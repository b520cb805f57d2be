//! Who presents a key: from memory where possible, from the database where not, and never wrongly.

use std::sync::Arc;

use brokle_core::clock::Clock;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Capture;
use brokle_identity::keys::NewKey;
use brokle_identity::{AuthError, api_key};
use chrono::TimeDelta;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::harness::{Fixture, new_key, on_both_databases};

on_both_databases!(
    what_cannot_be_a_key_costs_no_query,
    a_hit_needs_no_database_and_no_waiting,
    a_key_that_is_not_there_is_remembered_for_a_while,
    misses_of_one_key_share_one_query,
    an_expired_key_stops_at_its_time,
    a_revoked_key_stops_here_at_once_and_elsewhere_with_the_poll,
    a_change_of_the_project_arrives,
);

async fn what_cannot_be_a_key_costs_no_query(fixture: Fixture) {
    let keys = fixture.keys();
    assert_eq!(keys.authenticate("").await.unwrap_err(), AuthError::Missing);
    for text in ["hunter2", "bk_short", &"x".repeat(43)] {
        assert_eq!(keys.authenticate(text).await.unwrap_err(), AuthError::Malformed);
        assert_eq!(keys.cached(text), Some(Err(AuthError::Malformed)));
    }
    assert_eq!(keys.lookups(), 0);
}

async fn a_hit_needs_no_database_and_no_waiting(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (key, secret) = fixture.key(tenant).await;
    assert_eq!(keys.cached(secret.expose()), None, "it has to be asked for once");
    let first = keys.authenticate(secret.expose()).await.unwrap();
    assert_eq!((first.key_id, first.tenant, first.capture), (key.id, tenant, Capture::Metadata));

    let again =
        keys.authenticate(secret.expose()).now_or_never().expect("no await point is reached").unwrap();
    assert!(Arc::ptr_eq(&first, &again), "nothing is copied");
    assert!(matches!(keys.cached(secret.expose()), Some(Ok(cached)) if Arc::ptr_eq(&first, &cached)));
    assert_eq!(keys.lookups(), 1);

    fixture.clock.advance(TimeDelta::seconds(59));
    assert!(keys.cached(secret.expose()).is_some());
    fixture.clock.advance(TimeDelta::seconds(1));
    assert_eq!(keys.cached(secret.expose()), None, "after a minute the database is asked again");
    keys.authenticate(secret.expose()).await.unwrap();
    assert_eq!(keys.lookups(), 2);
}

async fn a_key_that_is_not_there_is_remembered_for_a_while(fixture: Fixture) {
    let keys = fixture.keys();
    let secret = api_key::generate(&SystemRandom);
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Unknown);
    assert_eq!(keys.cached(secret.expose()), Some(Err(AuthError::Unknown)));
    fixture.clock.advance(TimeDelta::seconds(10));
    assert_eq!(keys.cached(secret.expose()), None);
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap_err(), AuthError::Unknown);
    assert_eq!(keys.lookups(), 2);
}

async fn misses_of_one_key_share_one_query(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (one, other) = (fixture.key(tenant).await, fixture.key(tenant).await);
    let unknown = api_key::generate(&SystemRandom);
    let requests = (0..300).map(|request| {
        let secret = [&one.1, &other.1, &unknown][request % 3];
        keys.authenticate(secret.expose())
    });
    for (request, answer) in join_all(requests).await.into_iter().enumerate() {
        match request % 3 {
            0 => assert_eq!(answer.unwrap().key_id, one.0.id),
            1 => assert_eq!(answer.unwrap().key_id, other.0.id),
            _ => assert_eq!(answer.unwrap_err(), AuthError::Unknown),
        }
    }
    assert_eq!(keys.lookups(), 3, "one per key");
}

async fn an_expired_key_stops_at_its_time(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let expires_at = fixture.clock.now() + TimeDelta::seconds(5);
    let new = NewKey { expires_at: Some(expires_at), ..new_key("short") };
    let (_, secret) = keys.create(tenant, new).await.unwrap();
    keys.authenticate(secret.expose()).await.unwrap();

    fixture.clock.set(expires_at - TimeDelta::microseconds(1));
    assert!(matches!(keys.cached(secret.expose()), Some(Ok(_))));
    fixture.clock.set(expires_at);
    assert_eq!(keys.cached(secret.expose()), Some(Err(AuthError::Expired)), "cached or not");
    assert_eq!(fixture.keys().authenticate(secret.expose()).await.unwrap_err(), AuthError::Expired);
    assert_eq!(keys.lookups(), 1);
}

async fn a_revoked_key_stops_here_at_once_and_elsewhere_with_the_poll(fixture: Fixture) {
    let (here, elsewhere) = (fixture.keys(), fixture.keys());
    let tenant = fixture.tenant("acme").await;
    let (key, secret) = fixture.key(tenant).await;
    assert!(elsewhere.poll_revision().await.unwrap(), "the first poll can't know what it missed");
    here.authenticate(secret.expose()).await.unwrap();
    elsewhere.authenticate(secret.expose()).await.unwrap();
    assert!(!elsewhere.poll_revision().await.unwrap());
    assert!(matches!(elsewhere.cached(secret.expose()), Some(Ok(_))), "nothing changed, nothing is dropped");

    here.revoke(tenant.organization, key.id).await.unwrap();
    assert_eq!(here.authenticate(secret.expose()).await.unwrap_err(), AuthError::Revoked);
    assert_eq!(here.cached(secret.expose()), Some(Err(AuthError::Revoked)), "that is remembered too");
    assert!(matches!(elsewhere.cached(secret.expose()), Some(Ok(_))), "nobody has told it yet");
    assert!(elsewhere.poll_revision().await.unwrap());
    assert_eq!(elsewhere.authenticate(secret.expose()).await.unwrap_err(), AuthError::Revoked);
}

async fn a_change_of_the_project_arrives(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (_, secret) = fixture.key(tenant).await;
    keys.poll_revision().await.unwrap();
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap().capture, Capture::Metadata);
    let projects = fixture.database.projects();
    projects
        .set_capture(tenant.organization, tenant.project, Capture::Full, fixture.clock.now())
        .await
        .unwrap();
    assert!(keys.poll_revision().await.unwrap());
    assert_eq!(keys.authenticate(secret.expose()).await.unwrap().capture, Capture::Full);
}
