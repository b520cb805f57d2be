//! Connections and their secrets.

use std::sync::Arc;

use brokle_core::ids::ConnectionId;
use brokle_core::random::SystemRandom;
use brokle_identity::Secret;
use brokle_identity::connections::{
    ConnectionError, ConnectionService, ConnectionUpdate, NewConnection, SecretChange, previews,
};
use brokle_identity::seal::{MasterKey, SealError};
use brokle_storage::sql::connections::Connection;
use brokle_storage::sql::{Page, StorageError};
use futures_util::future::join_all;

use crate::harness::{Fixture, on_both_databases};

on_both_databases!(
    a_secret_is_sealed_shown_masked_and_opened,
    an_update_touches_what_it_names,
    updates_at_the_same_time_do_not_undo_each_other,
    a_call_gets_its_projects_connections_with_secrets,
    connections_of_other_tenants_do_not_exist,
    a_stolen_secret_does_not_open,
    what_makes_no_sense_is_refused,
);

const SECRET: &str = "sk-proj-0123456789wXyZ";

fn service(fixture: &Fixture) -> ConnectionService {
    service_with(fixture, [7; 32])
}

fn service_with(fixture: &Fixture, key: [u8; 32]) -> ConnectionService {
    let master_key = Arc::new(MasterKey::new(key));
    ConnectionService::new(fixture.database.clone(), master_key, fixture.clock.clone(), fixture.random())
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn new(name: &str) -> NewConnection {
    NewConnection { secrets: vec![secret(SECRET)], ..NewConnection::new("openai", name) }
}

async fn a_secret_is_sealed_shown_masked_and_opened(fixture: Fixture) {
    let connections = service(&fixture);
    let organization = fixture.tenant("acme").await.organization;
    let revision = connections.revision().await.unwrap();
    let made = connections.create(organization, new("main")).await.unwrap();
    assert_ne!(connections.revision().await.unwrap(), revision);
    assert_eq!(made.secret_preview.as_deref(), Some("sk-p...wXyZ"));
    let sealed = made.sealed_secret.as_deref().unwrap();
    assert!(!sealed.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    assert_eq!(connections.get(organization, made.id).await.unwrap(), made);
    assert_eq!(connections.list(organization, Page::first(10)).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(connections.open_secrets(organization, made.id).await.unwrap(), [secret(SECRET)]);

    let bare = connections.create(organization, NewConnection::new("echo", "echo")).await.unwrap();
    assert_eq!(connections.open_secrets(organization, bare.id).await.unwrap(), []);

    let error = service_with(&fixture, [8; 32]).open_secrets(organization, made.id).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Seal(SealError::WrongKey)), "{error:?}");
    connections.delete(organization, made.id).await.unwrap();
    let gone = connections.open_secrets(organization, made.id).await;
    assert!(matches!(gone, Err(ConnectionError::Storage(StorageError::NotFound))), "{gone:?}");
}

async fn an_update_touches_what_it_names(fixture: Fixture) {
    let connections = service(&fixture);
    let organization = fixture.tenant("acme").await.organization;
    let made = connections.create(organization, new("main")).await.unwrap();
    let renamed = ConnectionUpdate { name: Some("renamed".to_owned()), ..ConnectionUpdate::default() };
    let changed = connections.update(organization, made.id, &renamed).await.unwrap();
    assert!(changed.updated_at > made.updated_at, "even though the clock stands still");
    assert_eq!(
        changed,
        Connection { name: "renamed".to_owned(), updated_at: changed.updated_at, ..made.clone() }
    );

    let all = ConnectionUpdate {
        base_url: Some(Some("http://127.0.0.1:8081/v1".to_owned())),
        secret: SecretChange::Set(vec![secret("another-secret-of-ours"), secret("and-a-second-of-ours")]),
        options: Some(serde_json::from_str(r#"{"api_version": "2026-01-01"}"#).unwrap()),
        headers: Some([("x-team".to_owned(), "search".to_owned())].into()),
        priority: Some(3),
        weight: Some(0),
        enabled: Some(false),
        ..ConnectionUpdate::default()
    };
    let changed = connections.update(organization, made.id, &all).await.unwrap();
    assert_eq!((changed.priority, changed.weight, changed.enabled), (3, 0, false));
    assert_eq!(changed.base_url, all.base_url.unwrap());
    assert_eq!(
        (Some(&changed.options), Some(&changed.headers)),
        (all.options.as_ref(), all.headers.as_ref())
    );
    assert_eq!(previews(changed.secret_preview.as_deref()), ["anot...ours", "and-...ours"]);
    let opened = connections.open_secrets(organization, made.id).await.unwrap();
    assert_eq!(opened, [secret("another-secret-of-ours"), secret("and-a-second-of-ours")]);

    let clear =
        ConnectionUpdate { base_url: Some(None), secret: SecretChange::Clear, ..ConnectionUpdate::default() };
    let changed = connections.update(organization, made.id, &clear).await.unwrap();
    assert_eq!((changed.base_url, changed.sealed_secret, changed.secret_preview), (None, None, None));
    assert_eq!(connections.open_secrets(organization, made.id).await.unwrap(), []);
}

async fn updates_at_the_same_time_do_not_undo_each_other(fixture: Fixture) {
    let connections = service(&fixture);
    let organization = fixture.tenant("acme").await.organization;
    let made = connections.create(organization, new("main")).await.unwrap();
    let updates = [
        ConnectionUpdate { name: Some("renamed".to_owned()), ..ConnectionUpdate::default() },
        ConnectionUpdate { priority: Some(5), ..ConnectionUpdate::default() },
        ConnectionUpdate { weight: Some(9), ..ConnectionUpdate::default() },
        ConnectionUpdate { enabled: Some(false), ..ConnectionUpdate::default() },
    ];
    for answer in
        join_all(updates.iter().map(|update| connections.update(organization, made.id, update))).await
    {
        answer.unwrap();
    }
    let stored = connections.get(organization, made.id).await.unwrap();
    assert_eq!(
        (stored.name.as_str(), stored.priority, stored.weight, stored.enabled),
        ("renamed", 5, 9, false)
    );
}

async fn a_call_gets_its_projects_connections_with_secrets(fixture: Fixture) {
    let connections = service(&fixture);
    let tenant = fixture.tenant("acme").await;
    let other = fixture.tenant("umbrella").await;
    for (organization, connection) in [
        (tenant.organization, NewConnection { priority: 2, ..new("shared") }),
        (tenant.organization, NewConnection { project: Some(tenant.project), priority: 1, ..new("own") }),
        (tenant.organization, NewConnection { enabled: false, ..new("off") }),
        (tenant.organization, NewConnection { priority: 3, ..NewConnection::new("echo", "bare") }),
        (other.organization, new("theirs")),
    ] {
        connections.create(organization, connection).await.unwrap();
    }
    let summary = async |service: &ConnectionService| {
        let resolved = service.resolve(tenant).await.unwrap();
        let line = |one: brokle_identity::connections::ResolvedConnection| {
            let secrets =
                one.secrets.map(|all| all.iter().map(|one| one.expose().to_owned()).collect::<Vec<_>>());
            (one.connection.name, secrets)
        };
        resolved.into_iter().map(line).collect::<Vec<_>>()
    };
    let good = Ok(vec![SECRET.to_owned()]);
    let expected =
        [("own".to_owned(), good.clone()), ("shared".to_owned(), good), ("bare".to_owned(), Ok(Vec::new()))];
    assert_eq!(summary(&connections).await, expected);

    let bad = Err(SealError::WrongKey);
    let expected =
        [("own".to_owned(), bad.clone()), ("shared".to_owned(), bad), ("bare".to_owned(), Ok(Vec::new()))];
    assert_eq!(
        summary(&service_with(&fixture, [8; 32])).await,
        expected,
        "a bad secret spoils its connection only"
    );
}

async fn connections_of_other_tenants_do_not_exist(fixture: Fixture) {
    let connections = service(&fixture);
    let ours = fixture.tenant("acme").await;
    let theirs = fixture.tenant("umbrella").await;
    let made = connections.create(theirs.organization, new("theirs")).await.unwrap();
    let missing = ConnectionId::generate(fixture.clock.as_ref(), &SystemRandom);
    for id in [made.id, missing] {
        let answers = [
            connections.get(ours.organization, id).await.map(drop).map_err(ConnectionError::from),
            connections.update(ours.organization, id, &ConnectionUpdate::default()).await.map(drop),
            connections.delete(ours.organization, id).await.map_err(ConnectionError::from),
            connections.open_secrets(ours.organization, id).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(ConnectionError::Storage(StorageError::NotFound))), "{answer:?}");
        }
    }
    let foreign_project = NewConnection { project: Some(theirs.project), ..new("ours") };
    let answer = connections.create(ours.organization, foreign_project).await;
    assert!(matches!(answer, Err(ConnectionError::Storage(StorageError::NotFound))), "{answer:?}");
    assert!(connections.list(ours.organization, Page::first(10)).await.unwrap().is_empty());
    assert_eq!(connections.get(theirs.organization, made.id).await.unwrap(), made);
}

/// Whoever can write to the database copies a sealed secret to a connection of his own.
async fn a_stolen_secret_does_not_open(fixture: Fixture) {
    let connections = service(&fixture);
    let (thief, victim) =
        (fixture.tenant("acme").await.organization, fixture.tenant("umbrella").await.organization);
    let theirs = connections.create(victim, new("main")).await.unwrap();
    let own = connections.create(thief, new("main")).await.unwrap();
    let copy = Connection { sealed_secret: theirs.sealed_secret, ..own.clone() };
    fixture.database.connections().replace(thief, &copy, own.updated_at).await.unwrap();
    let answer = connections.open_secrets(thief, own.id).await;
    assert!(matches!(answer, Err(ConnectionError::Seal(SealError::Tampered))), "{answer:?}");
}

async fn what_makes_no_sense_is_refused(fixture: Fixture) {
    let connections = service(&fixture);
    let organization = fixture.tenant("acme").await.organization;
    let url = |url: &str| NewConnection { base_url: Some(url.to_owned()), ..new("main") };
    let header = |name: &str, value: &str| NewConnection {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..new("main")
    };
    for (expected, connection) in [
        ("name", new("")),
        ("name", new(&"n".repeat(101))),
        ("provider", NewConnection::new("", "main")),
        ("provider", NewConnection::new("open ai", "main")),
        ("base_url", url("api.example.com")),
        ("base_url", url("file:///etc/passwd")),
        ("base_url", url("https://user:password@api.example.com")),
        ("base_url", url("https://api.example.com/v1?key=1")),
        ("base_url", url("https://")),
        ("headers", header("Authorization", "Bearer x")),
        ("headers", header("Host", "x")),
        ("headers", header("x team", "x")),
        ("headers", header("x-team", "a\r\nb")),
        ("weight", NewConnection { weight: -1, ..new("main") }),
        ("health_check_seconds", NewConnection { health_check_seconds: Some(9), ..new("main") }),
    ] {
        let error = connections.create(organization, connection).await.unwrap_err();
        assert!(
            matches!(&error, ConnectionError::Invalid { field, .. } if *field == expected),
            "{expected}: {error:?}"
        );
    }
    let made = connections.create(organization, url("https://api.example.com:8443/v1")).await.unwrap();
    let nonsense = ConnectionUpdate { weight: Some(-1), ..ConnectionUpdate::default() };
    let answer = connections.update(organization, made.id, &nonsense).await;
    assert!(matches!(answer, Err(ConnectionError::Invalid { field: "weight", .. })), "{answer:?}");
    let taken = connections.create(organization, new("main")).await;
    assert!(matches!(taken, Err(ConnectionError::Storage(StorageError::Conflict(_)))), "{taken:?}");
}
