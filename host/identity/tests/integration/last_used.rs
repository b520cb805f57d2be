//! When a key was last used: noted in memory, written now and then.

use brokle_core::clock::Clock;
use brokle_storage::sql::Page;
use chrono::TimeDelta;

use crate::harness::{Fixture, on_both_databases, wired_postgres};

on_both_databases!(uses_are_written_when_flushed, a_refused_key_was_not_used);

async fn uses_are_written_when_flushed(fixture: Fixture) {
    let keys = fixture.keys();
    let (ours, theirs) = (fixture.tenant("acme").await, fixture.tenant("umbrella").await);
    let (_, one) = fixture.key(ours).await;
    let (_, other) = fixture.key(theirs).await;
    keys.authenticate(one.expose()).await.unwrap();
    keys.authenticate(other.expose()).await.unwrap();
    fixture.clock.advance(TimeDelta::seconds(3));
    keys.cached(one.expose()).unwrap().unwrap();

    let last_used = async |tenant| keys.list(tenant, Page::first(1)).await.unwrap()[0].last_used_at;
    assert_eq!((last_used(ours).await, last_used(theirs).await), (None, None));
    // A change drops the caches; what was noted must survive that.
    keys.poll_revision().await.unwrap();
    assert_eq!(keys.flush_last_used().await.unwrap(), 2);
    let now = fixture.clock.now();
    assert_eq!(
        (last_used(ours).await, last_used(theirs).await),
        (Some(now), Some(now - TimeDelta::seconds(3)))
    );

    assert_eq!(keys.flush_last_used().await.unwrap(), 0, "nothing is written twice");
    assert!(!keys.poll_revision().await.unwrap(), "and nobody's cache is dropped for it");
    fixture.clock.advance(TimeDelta::seconds(1));
    keys.authenticate(one.expose()).await.unwrap();
    assert_eq!(keys.flush_last_used().await.unwrap(), 1);
    assert_eq!(last_used(ours).await, Some(fixture.clock.now()));
}

async fn a_refused_key_was_not_used(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (key, secret) = fixture.key(tenant).await;
    keys.revoke(tenant.organization, key.id).await.unwrap();
    keys.authenticate(secret.expose()).await.unwrap_err();
    assert_eq!(keys.flush_last_used().await.unwrap(), 0);
    assert_eq!(keys.list(tenant, Page::first(1)).await.unwrap()[0].last_used_at, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_written_is_written_later() {
    let Some((fixture, wire)) = wired_postgres().await else { return };
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let (_, secret) = fixture.key(tenant).await;
    keys.authenticate(secret.expose()).await.unwrap();
    wire.cut();
    keys.flush_last_used().await.unwrap_err();
    wire.mend();
    let written = loop {
        if let Ok(written) = keys.flush_last_used().await {
            break written;
        }
    };
    assert_eq!(written, 1);
    let listed = keys.list(tenant, Page::first(1)).await.unwrap();
    assert_eq!(listed[0].last_used_at, Some(fixture.clock.now()));
}
