//! Making, listing and revoking keys.

use brokle_core::clock::Clock;
use brokle_core::ids::ApiKeyId;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::keys::{KeyError, NewKey};
use brokle_identity::{AuthError, Scope, Scopes};
use brokle_storage::sql::api_keys::Restrictions;
use brokle_storage::sql::{Page, StorageError};
use chrono::TimeDelta;

use crate::harness::{Fixture, new_key, on_both_databases};

on_both_databases!(
    a_key_is_shown_once_and_kept_as_its_hash,
    what_makes_no_sense_is_refused,
    keys_of_other_tenants_do_not_exist,
    a_rotated_key_goes_on_under_both_secrets_until_the_old_one_ends,
);

fn only_from(network: &str) -> Restrictions {
    Restrictions { cidrs: vec![network.to_owned()], ..Restrictions::default() }
}

async fn a_key_is_shown_once_and_kept_as_its_hash(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let new = NewKey {
        scopes: vec!["traces:read".to_owned(), "gateway".to_owned(), "gateway".to_owned()],
        requests_per_minute: Some(60),
        restrictions: only_from("10.0.0.0/8"),
        expires_at: Some(fixture.clock.now() + TimeDelta::days(30)),
        ..new_key("ci")
    };
    let (key, secret) = keys.create(tenant, new.clone()).await.unwrap();
    assert_eq!(
        (key.name.as_str(), key.requests_per_minute, key.expires_at),
        ("ci", Some(60), new.expires_at)
    );
    assert_eq!(key.scopes, ["gateway", "traces:read"], "each once, in the table's order");
    let text = secret.expose();
    assert_eq!(key.preview, format!("{}...{}", &text[..7], &text[39..]));
    assert_eq!(keys.list(tenant, Page::first(10)).await.unwrap(), std::slice::from_ref(&key));

    let principal = keys.authenticate(text).await.unwrap();
    assert_eq!((principal.key_id, principal.tenant, principal.name.as_str()), (key.id, tenant, "ci"));
    assert_eq!((principal.requests_per_minute, principal.expires_at), (Some(60), new.expires_at));
    assert_eq!(*principal.allowed.restrictions(), new.restrictions);
    assert_eq!(principal.scopes, [Scope::Gateway, Scope::TracesRead].into_iter().collect::<Scopes>());
}

async fn what_makes_no_sense_is_refused(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let unknown = NewKey { scopes: vec!["gateway".to_owned(), "root".to_owned()], ..new_key("ci") };
    let error = keys.create(tenant, unknown).await.unwrap_err();
    assert!(matches!(&error, KeyError::UnknownScope(unknown) if unknown.name == "root"), "{error:?}");
    assert!(error.to_string().contains("connections:write"), "the known ones are listed: {error}");

    for (expected, new) in [
        ("scopes", NewKey { scopes: Vec::new(), ..new_key("ci") }),
        ("name", new_key(" ")),
        ("name", new_key(&"n".repeat(101))),
        ("expires_at", NewKey { expires_at: Some(fixture.clock.now()), ..new_key("ci") }),
        ("cidrs", NewKey { restrictions: only_from("10.0.0.0/33"), ..new_key("ci") }),
        ("requests_per_minute", NewKey { requests_per_minute: Some(0), ..new_key("ci") }),
    ] {
        let error = keys.create(tenant, new).await.unwrap_err();
        assert!(
            matches!(&error, KeyError::Invalid { field, .. } if *field == expected),
            "{expected}: {error:?}"
        );
    }
    assert!(keys.list(tenant, Page::first(10)).await.unwrap().is_empty());
}

async fn keys_of_other_tenants_do_not_exist(fixture: Fixture) {
    let keys = fixture.keys();
    let ours = fixture.tenant("acme").await;
    let theirs = fixture.tenant("umbrella").await;
    let (key, secret) = keys.create(theirs, new_key("theirs")).await.unwrap();
    let missing = ApiKeyId::generate(fixture.clock.as_ref(), &SystemRandom);
    for id in [key.id, missing] {
        let answer = keys.revoke(ours.organization, id).await;
        assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
    }
    let mixed = Tenant { project: theirs.project, environment: theirs.environment, ..ours };
    let answer = keys.create(mixed, new_key("mixed")).await;
    assert!(matches!(answer, Err(KeyError::Storage(StorageError::NotFound))), "{answer:?}");
    for tenant in [ours, mixed] {
        assert!(keys.list(tenant, Page::first(10)).await.unwrap().is_empty());
    }
    keys.authenticate(secret.expose()).await.unwrap();
}

async fn a_rotated_key_goes_on_under_both_secrets_until_the_old_one_ends(fixture: Fixture) {
    let keys = fixture.keys();
    let tenant = fixture.tenant("acme").await;
    let new = NewKey { restrictions: only_from("10.0.0.0/8"), ..new_key("ci") };
    let (key, old) = keys.create(tenant, new).await.unwrap();
    let before = keys.authenticate(old.expose()).await.unwrap();
    let until = fixture.clock.now() + TimeDelta::hours(1);
    let (rotated, fresh) = keys.rotate(tenant.organization, key.id, until).await.unwrap();
    assert_eq!((rotated.id, &rotated.restrictions), (key.id, &key.restrictions));
    assert_eq!(rotated.previous_expires_at, Some(until));
    assert_ne!(rotated.preview, key.preview);
    for secret in [&old, &fresh] {
        let principal = keys.authenticate(secret.expose()).await.unwrap();
        assert_eq!((principal.key_id, &principal.allowed), (before.key_id, &before.allowed));
    }
    fixture.clock.advance(TimeDelta::hours(1));
    assert_eq!(keys.authenticate(old.expose()).await.unwrap_err(), AuthError::Expired);
    keys.authenticate(fresh.expose()).await.unwrap();

    // A time that is past ends it at once.
    let (_, third) = keys.rotate(tenant.organization, key.id, until).await.unwrap();
    assert_eq!(keys.authenticate(fresh.expose()).await.unwrap_err(), AuthError::Expired);
    assert_eq!(keys.authenticate(old.expose()).await.unwrap_err(), AuthError::Unknown);
    keys.authenticate(third.expose()).await.unwrap();

    let far = keys.rotate(tenant.organization, key.id, fixture.clock.now() + TimeDelta::days(91)).await;
    assert!(matches!(far, Err(KeyError::Invalid { field: "old_until", .. })), "{far:?}");
    keys.revoke(tenant.organization, key.id).await.unwrap();
    let revoked = keys.rotate(tenant.organization, key.id, until).await;
    assert!(matches!(revoked, Err(KeyError::Storage(StorageError::NotFound))), "{revoked:?}");
}
