//! Organizations, projects and environments keep to themselves.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{EnvironmentId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::{Capture, Tenant};
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Page, StorageError};

use crate::harness::{Fixture, add_tenant, at, new_tenant, on_both_databases};

on_both_databases!(
    what_is_written_is_read,
    names_are_unique_within_their_owner,
    a_foreign_id_and_a_missing_one_answer_the_same,
    lists_come_in_pages,
);

async fn what_is_written_is_read(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let organization = database.organizations().get(tenant.organization).await.unwrap();
    assert_eq!((organization.id, organization.slug.as_str()), (tenant.organization, "acme"));
    assert_eq!(organization.created_at, at(0));

    let project = database.projects().get(tenant.organization, tenant.project).await.unwrap();
    assert_eq!((project.capture, project.organization_id), (Capture::Metadata, tenant.organization));
    let before = database.revision(Revision::Identity).await.unwrap();
    let changed = database
        .projects()
        .set_capture(tenant.organization, tenant.project, Capture::Full, at(999_999))
        .await
        .unwrap();
    assert_eq!((changed.capture, changed.updated_at), (Capture::Full, at(999_999)), "to the microsecond");
    assert_eq!(
        database.revision(Revision::Identity).await.unwrap(),
        before + 1,
        "the keys' caches must know"
    );

    let environment = database.environments().get(tenant).await.unwrap();
    assert_eq!((environment.name.as_str(), environment.project_id), ("development", tenant.project));
}

async fn names_are_unique_within_their_owner(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let other = add_tenant(database, "umbrella").await;
    let taken = database.organizations().create(new_tenant().organization, "Acme", "acme", at(0)).await;
    assert!(matches!(taken, Err(StorageError::Conflict(_))), "{taken:?}");

    let id = || ProjectId::generate(&SystemClock, &SystemRandom);
    let taken = database.projects().create(tenant.organization, id(), "default", at(0)).await;
    assert!(matches!(taken, Err(StorageError::Conflict(_))), "{taken:?}");
    database.projects().create(tenant.organization, id(), "search", at(0)).await.unwrap();
    database.projects().create(other.organization, id(), "search", at(0)).await.unwrap();
}

async fn a_foreign_id_and_a_missing_one_answer_the_same(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let missing = new_tenant();
    for project in [theirs.project, missing.project] {
        let mixed =
            Tenant { project, environment: EnvironmentId::generate(&SystemClock, &SystemRandom), ..ours };
        let answers = [
            database.projects().get(ours.organization, project).await.map(drop),
            database.projects().set_capture(ours.organization, project, Capture::Off, at(0)).await.map(drop),
            database.environments().get(mixed).await.map(drop),
            database.environments().create(mixed, "staging", at(0)).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
        }
        assert!(
            database
                .environments()
                .list(ours.organization, project, Page::first(10))
                .await
                .unwrap()
                .is_empty()
        );
    }
    assert!(matches!(database.organizations().get(missing.organization).await, Err(StorageError::NotFound)));
    let project = database.projects().get(theirs.organization, theirs.project).await.unwrap();
    assert_eq!(project.capture, Capture::Metadata, "nobody else changed it");
}

async fn lists_come_in_pages(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    add_tenant(database, "umbrella").await;
    for name in ["b", "a", "c"] {
        let id = ProjectId::generate(&SystemClock, &SystemRandom);
        database.projects().create(tenant.organization, id, name, at(0)).await.unwrap();
    }
    let all = database.projects().list(tenant.organization, Page::first(100)).await.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.is_sorted_by_key(|project| project.id));

    let head = database.projects().list(tenant.organization, Page::first(3)).await.unwrap();
    let tail = Page { after: head.last().map(|project| project.id), limit: 3 };
    let tail = database.projects().list(tenant.organization, tail).await.unwrap();
    assert_eq!([head, tail].concat(), all);
    assert!(database.projects().list(tenant.organization, Page::first(0)).await.unwrap().is_empty());
}
