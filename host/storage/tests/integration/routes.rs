//! Routes are the organization's or one project's, each change is a version, and none is lost.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{ProjectId, RouteId};
use brokle_core::random::SystemRandom;
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::routes::{KEPT_VERSIONS, Route};
use brokle_storage::sql::{Page, StorageError};
use serde_json::json;

use crate::harness::{Fixture, add_tenant, at, new_route, on_both_databases};

on_both_databases!(
    what_is_written_is_read,
    each_change_is_a_version_and_an_overtaken_one_is_refused,
    only_so_many_versions_are_kept,
    names_are_unique_within_their_owner_and_the_projects_own_comes_first,
    a_foreign_id_and_a_missing_one_answer_the_same,
);

fn next(route: &Route, weight: u32) -> Route {
    let mut next =
        Route { version: route.version + 1, changed_by: "else".into(), changed_at: at(9), ..route.clone() };
    next.definition.insert("weight".into(), json!(weight));
    next
}

async fn what_is_written_is_read(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let (organization, project) = (tenant.organization, tenant.project);
    let route = Route { organization, ..new_route("smart") };
    let revision = async || database.revision(Revision::Routes).await.unwrap();
    let before = revision().await;
    database.routes().create(organization, &route).await.unwrap();
    assert!(revision().await > before);
    for name in ["smart", &route.id.to_string()] {
        assert_eq!(database.routes().find(organization, project, name).await.unwrap(), route);
    }
    assert_eq!(
        database.routes().list(organization, project, Page::first(10)).await.unwrap(),
        std::slice::from_ref(&route)
    );
    assert_eq!(database.routes().serving(organization, project).await.unwrap(), std::slice::from_ref(&route));
    assert_eq!(database.routes().count(organization).await.unwrap(), 1);

    let before = revision().await;
    database.routes().delete(organization, route.id, 1).await.unwrap();
    assert!(revision().await > before);
    assert!(database.routes().serving(organization, project).await.unwrap().is_empty());
    assert!(database.routes().versions(organization, route.id, i64::MAX, 10).await.unwrap().is_empty());
}

async fn each_change_is_a_version_and_an_overtaken_one_is_refused(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let organization = tenant.organization;
    let first = Route { organization, ..new_route("smart") };
    database.routes().create(organization, &first).await.unwrap();
    let before = database.revision(Revision::Routes).await.unwrap();
    let second = next(&first, 2);
    database.routes().change(organization, &second).await.unwrap();
    assert!(database.revision(Revision::Routes).await.unwrap() > before);
    let overtaken = database.routes().change(organization, &next(&first, 3)).await;
    assert!(matches!(overtaken, Err(StorageError::NotFound)), "{overtaken:?}");
    assert_eq!(database.routes().find(organization, tenant.project, "smart").await.unwrap(), second);
    let versions = database.routes().versions(organization, first.id, i64::MAX, 10).await.unwrap();
    assert_eq!(versions, [second.clone(), first.clone()]);
    assert_eq!(
        database.routes().versions(organization, first.id, 2, 10).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(database.routes().version(organization, first.id, 1).await.unwrap(), first);
    for answer in [
        database.routes().version(organization, first.id, 3).await.map(drop),
        database.routes().delete(organization, first.id, 1).await,
    ] {
        assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
    }
}

async fn only_so_many_versions_are_kept(fixture: Fixture) {
    let database = fixture.migrated().await;
    let organization = add_tenant(database, "acme").await.organization;
    let mut route = new_route("smart");
    database.routes().create(organization, &route).await.unwrap();
    for _ in 0..KEPT_VERSIONS {
        route = next(&route, 1);
        database.routes().change(organization, &route).await.unwrap();
    }
    let kept = database.routes().versions(organization, route.id, i64::MAX, 1_000).await.unwrap();
    let kept: Vec<i64> = kept.into_iter().map(|route| route.version).collect();
    assert_eq!(kept, (2..=KEPT_VERSIONS + 1).rev().collect::<Vec<_>>());
}

async fn names_are_unique_within_their_owner_and_the_projects_own_comes_first(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let organization = tenant.organization;
    let other = ProjectId::generate(&SystemClock, &SystemRandom);
    database.projects().create(organization, other, "other", at(0)).await.unwrap();
    for project in [None, Some(tenant.project), Some(other)] {
        let route = || Route { project, ..new_route("smart") };
        database.routes().create(organization, &route()).await.unwrap();
        let taken = database.routes().create(organization, &route()).await;
        assert!(matches!(taken, Err(StorageError::Conflict(_))), "{taken:?}");
    }
    let owners = async |project: ProjectId| -> Vec<Option<ProjectId>> {
        let serving = database.routes().serving(organization, project).await.unwrap();
        serving.into_iter().map(|route| route.project).collect()
    };
    for project in [tenant.project, other] {
        assert_eq!(owners(project).await, [Some(project), None]);
        let found = database.routes().find(organization, project, "smart").await.unwrap();
        assert_eq!(found.project, Some(project));
    }
}

async fn a_foreign_id_and_a_missing_one_answer_the_same(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await;
    let theirs = add_tenant(database, "umbrella").await;
    let foreign = Route { organization: theirs.organization, ..new_route("smart") };
    database.routes().create(theirs.organization, &foreign).await.unwrap();
    for id in [foreign.id, RouteId::generate(&SystemClock, &SystemRandom)] {
        let stolen = Route { id, ..next(&foreign, 2) };
        let answers = [
            database.routes().find(ours.organization, ours.project, &id.to_string()).await.map(drop),
            database.routes().find(ours.organization, theirs.project, "smart").await.map(drop),
            database.routes().version(ours.organization, id, 1).await.map(drop),
            database.routes().change(ours.organization, &stolen).await,
            database.routes().delete(ours.organization, id, 1).await,
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StorageError::NotFound)), "{answer:?}");
        }
        let versions = database.routes().versions(ours.organization, id, i64::MAX, 10).await.unwrap();
        assert!(versions.is_empty());
    }
    for project in [theirs.project, ProjectId::generate(&SystemClock, &SystemRandom)] {
        let refused = database
            .routes()
            .create(ours.organization, &Route { project: Some(project), ..new_route("smart") })
            .await;
        assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
        assert!(database.routes().serving(ours.organization, project).await.unwrap().is_empty());
    }
    assert_eq!(database.routes().find(theirs.organization, theirs.project, "smart").await.unwrap(), foreign);
}
