//! Connections are the organization's or one project's, and nobody else's.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{ConnectionId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_storage::sql::connections::Connection;
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Page, StorageError};

use crate::harness::{Fixture, add_tenant, at, new_connection, on_both_databases};

on_both_databases!(
    what_is_written_is_read,
    names_are_unique_within_their_owner,
    a_project_is_served_by_its_own_and_the_organizations,
    a_change_that_was_overtaken_is_refused,
    a_foreign_id_and_a_missing_one_answer_the_same,
);

async fn what_is_written_is_read(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let new = new_connection("main");
    let before = database.revision(Revision::Connections).await.unwrap();
    let stored = database.connections().create(tenant.organization, &new).await.unwrap();
    assert_eq!(stored, Connection { organization: tenant.organization, ..new });
    assert!(database.revision(Revision::Connections).await.unwrap() > before);
    assert_eq!(database.connections().get(tenant.organization, stored.id).await.unwrap(), stored);
    let listed = database.connections().list(tenant.organization, Page::first(10)).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&stored));

    let before = database.revision(Revision::Connections).await.unwrap();
    let changed = Connection {
        name: "renamed".to_owned(),
        base_url: None,
        sealed_secret: None,
        secret_preview: None,
        enabled: false,
        updated_at: at(4),
        ..stored.clone()
    };
    let answer =
        database.connections().replace(tenant.organization, &changed, stored.updated_at).await.unwrap();
    assert_eq!(answer, changed);
    assert!(database.revision(Revision::Connections).await.unwrap() > before);

    let before = database.revision(Revision::Connections).await.unwrap();
    database.connections().delete(tenant.organization, stored.id).await.unwrap();
    assert!(database.connections().list(tenant.organization, Page::first(10)).await.unwrap().is_empty());
    assert!(database.revision(Revision::Connections).await.unwrap() > before);
}

async fn names_are_unique_within_their_owner(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let organization = tenant.organization;
    database.connections().create(organization, &new_connection("main")).await.unwrap();
    let mine = || Connection { project: Some(tenant.project), ..new_connection("main") };
    database.connections().create(organization, &mine()).await.unwrap();
    for taken in [new_connection("main"), mine()] {
        let refused = database.connections().create(organization, &taken).await;
        assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
    }
}

async fn a_project_is_served_by_its_own_and_the_organizations(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let organization = tenant.organization;
    let other = ProjectId::generate(&SystemClock, &SystemRandom);
    database.projects().create(organization, other, "other", at(0)).await.unwrap();
    for (name, project, priority, enabled) in [
        ("second", None, 2, true),
        ("first", Some(tenant.project), 1, true),
        ("off", None, 0, false),
        ("other's", Some(other), 0, true),
    ] {
        let connection = Connection { project, priority, enabled, ..new_connection(name) };
        database.connections().create(organization, &connection).await.unwrap();
    }
    let serving = database.connections().serving(organization, tenant.project).await.unwrap();
    assert_eq!(
        serving.iter().map(|connection| connection.name.as_str()).collect::<Vec<_>>(),
        ["first", "second"]
    );
}

async fn a_change_that_was_overtaken_is_refused(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let seen = database.connections().create(tenant.organization, &new_connection("main")).await.unwrap();
    let first = Connection { weight: 1, updated_at: at(10), ..seen.clone() };
    database.connections().replace(tenant.organization, &first, seen.updated_at).await.unwrap();
    let second = Connection { weight: 2, updated_at: at(11), ..seen.clone() };
    let refused = database.connections().replace(tenant.organization, &second, seen.updated_at).await;
    assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
    assert_eq!(database.connections().get(tenant.organization, seen.id).await.unwrap(), first);
}

async fn a_foreign_id_and_a_missing_one_answer_the_same(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let foreign = database.connections().create(theirs.organization, &new_connection("main")).await.unwrap();
    for id in [foreign.id, ConnectionId::generate(&SystemClock, &SystemRandom)] {
        let stolen = Connection { id, name: "stolen".to_owned(), ..foreign.clone() };
        let answers = [
            database.connections().get(ours.organization, id).await.map(drop),
            database.connections().replace(ours.organization, &stolen, foreign.updated_at).await.map(drop),
            database.connections().delete(ours.organization, id).await,
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
        }
    }
    for project in [theirs.project, ProjectId::generate(&SystemClock, &SystemRandom)] {
        let connection = Connection { project: Some(project), ..new_connection("main") };
        let refused = database.connections().create(ours.organization, &connection).await;
        assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
        assert!(database.connections().serving(ours.organization, project).await.unwrap().is_empty());
    }
    assert_eq!(database.connections().get(theirs.organization, foreign.id).await.unwrap(), foreign);
}
