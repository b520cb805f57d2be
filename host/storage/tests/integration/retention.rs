//! How long projects keep what, what deleted ones leave, and jobs that one process does at a time.

use brokle_core::ids::ProjectId;
use brokle_storage::sql::StorageError;
use brokle_storage::sql::retention::{Deleted, Kept};
use chrono::TimeDelta;

use crate::harness::{Fixture, add_tenant, at, new_key, on_both_databases};

on_both_databases!(
    a_project_says_for_how_long_and_another_organization_doesnt,
    a_deleted_project_leaves_its_name_until_it_is_swept,
    a_job_is_one_process_at_a_time_and_rests_when_it_ended,
);

async fn kept(fixture: &Fixture) -> Vec<(ProjectId, Option<i64>)> {
    let kept = fixture.app.retention().projects().await.unwrap();
    kept.into_iter().map(|Kept { project, retention_days }| (project, retention_days)).collect()
}

async fn a_project_says_for_how_long_and_another_organization_doesnt(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (acme, umbrella) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let projects = database.projects();
    let set = projects.set_retention(acme.organization, acme.project, Some(30), at(1)).await.unwrap();
    assert_eq!((set.retention_days, set.updated_at), (Some(30), at(1)));
    let foreign = projects.set_retention(umbrella.organization, acme.project, None, at(2)).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)), "{foreign:?}");
    for bad in [0, 3_651] {
        let refused = projects.set_retention(acme.organization, acme.project, Some(bad), at(2)).await;
        assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    }
    let mut expected = [(acme.project, Some(30)), (umbrella.project, None)];
    expected.sort_by_key(|(project, _)| project.to_string());
    assert_eq!(kept(&fixture).await, expected);
    let set = projects.set_retention(acme.organization, acme.project, None, at(3)).await.unwrap();
    assert_eq!(set.retention_days, None);
}

async fn a_deleted_project_leaves_its_name_until_it_is_swept(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (acme, umbrella) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    database.api_keys().create(acme, &new_key("ci")).await.unwrap();
    crate::batches::add_batch(database, acme).await;
    let projects = database.projects();
    let foreign = projects.delete(umbrella.organization, acme.project).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)), "{foreign:?}");
    assert_eq!(database.retention().deleted().await.unwrap(), []);

    projects.delete(acme.organization, acme.project).await.unwrap();
    let again = projects.delete(acme.organization, acme.project).await;
    assert!(matches!(again, Err(StorageError::NotFound)), "{again:?}");
    assert!(matches!(database.environments().get(acme).await, Err(StorageError::NotFound)));
    assert_eq!(kept(&fixture).await, [(umbrella.project, None)]);
    let left = |swept_at| [Deleted { project: acme.project, swept_at }];
    assert_eq!(database.retention().deleted().await.unwrap(), left(None));
    database.retention().swept(acme.project, at(5)).await.unwrap();
    database.retention().swept(acme.project, at(9)).await.unwrap();
    assert_eq!(database.retention().deleted().await.unwrap(), left(Some(at(5))), "the first time counts");
    database.retention().forget(acme.project).await.unwrap();
    assert_eq!(database.retention().deleted().await.unwrap(), []);
}

async fn a_job_is_one_process_at_a_time_and_rests_when_it_ended(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (jobs, hour) = (database.jobs(), TimeDelta::hours(1));
    let take = async |holder: &'static str, now: i64| {
        let now = at(now);
        jobs.take("sweep", holder, now, now + TimeDelta::microseconds(10), now - hour).await.unwrap()
    };
    let mut both = tokio::task::JoinSet::new();
    for holder in ["a", "b", "c", "d"] {
        let database = database.clone();
        both.spawn(async move { database.jobs().take("race", holder, at(0), at(10), at(-1)).await.unwrap() });
    }
    assert_eq!(both.join_all().await.into_iter().filter(|taken| *taken).count(), 1);

    assert!(take("a", 0).await);
    assert!(!take("b", 9).await, "a works");
    assert!(take("b", 10).await, "a's lease is over");
    jobs.end("sweep", "a", at(11)).await.unwrap();
    assert!(!take("a", 12).await, "it isn't a's to end");
    jobs.end("sweep", "b", at(12)).await.unwrap();
    let due = hour.num_microseconds().unwrap() + 12;
    assert!(!take("a", due - 1).await, "it was done a while ago");
    assert!(take("a", due).await);
    assert!(jobs.take("other", "b", at(12), at(13), at(0)).await.unwrap(), "another job");
}
