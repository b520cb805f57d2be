//! Exporters' cursors over both databases: one lease, and nothing moves without it.

use brokle_storage::observations::Mark;
use brokle_storage::sql::exporters::{Counts, CursorKey};
use brokle_storage::sql::{Page, StorageError};

use crate::harness::{Fixture, add_tenant, at, on_both_databases};

on_both_databases!(
    a_cursor_is_moved_by_whoever_has_its_lease,
    a_batch_that_was_begun_is_the_same_after_a_crash,
    projects_of_every_organization_are_found,
);

fn mark(row: i64) -> Mark {
    let mut mark = Mark::default();
    mark.pass("202603", row);
    mark
}

async fn a_cursor_is_moved_by_whoever_has_its_lease(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (tenant, stranger) = (add_tenant(database, "a").await, add_tenant(database, "b").await);
    let key =
        CursorKey { organization: tenant.organization, project: tenant.project, exporter: "out".into() };
    let foreign = CursorKey { organization: stranger.organization, ..key.clone() };
    let exporters = database.exporters();
    assert_eq!(exporters.get(&key).await.unwrap(), None);
    assert!(matches!(exporters.create(&foreign, &mark(0), at(0)).await, Err(StorageError::NotFound)));
    exporters.create(&key, &mark(7), at(0)).await.unwrap();
    exporters.create(&key, &mark(9), at(1)).await.unwrap();
    assert_eq!(exporters.get(&key).await.unwrap().unwrap().position, mark(7), "it is made once");
    assert_eq!(exporters.get(&foreign).await.unwrap(), None);

    assert!(exporters.lease(&key, "a", at(1), at(10)).await.unwrap().is_some());
    assert!(exporters.lease(&key, "b", at(2), at(11)).await.unwrap().is_none(), "it is a's");
    assert!(exporters.lease(&foreign, "b", at(2), at(11)).await.unwrap().is_none());
    assert!(exporters.lease(&key, "a", at(3), at(12)).await.unwrap().is_some(), "a keeps it");
    let counts = Counts { exported: 3, rejected: 1, passed_over: 0 };
    exporters.advance(&key, "a", &mark(10), true, counts, at(4)).await.unwrap();
    for refused in [
        exporters.begin(&key, "b", &mark(12), at(5)).await,
        exporters.advance(&key, "b", &mark(12), true, counts, at(5)).await,
        exporters.fail(&key, "b", at(60), "no", at(5)).await,
    ] {
        assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
    }
    exporters.release(&key, "b").await.unwrap();
    assert!(exporters.lease(&key, "b", at(6), at(11)).await.unwrap().is_none(), "b gave nothing back");
    let cursor = exporters.lease(&key, "b", at(13), at(20)).await.unwrap().unwrap();
    assert_eq!((cursor.position, cursor.exported, cursor.rejected), (mark(10), 3, 1), "a's time was over");
    assert!(exporters.advance(&key, "a", &mark(99), true, counts, at(14)).await.is_err(), "a is late");
    exporters.release(&key, "b").await.unwrap();
    assert!(exporters.lease(&key, "c", at(15), at(20)).await.unwrap().is_some());
}

async fn a_batch_that_was_begun_is_the_same_after_a_crash(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "a").await;
    let key =
        CursorKey { organization: tenant.organization, project: tenant.project, exporter: "out".into() };
    let exporters = database.exporters();
    exporters.create(&key, &mark(0), at(0)).await.unwrap();
    exporters.lease(&key, "a", at(1), at(10)).await.unwrap().unwrap();
    exporters.begin(&key, "a", &mark(5), at(1)).await.unwrap();
    exporters.fail(&key, "a", at(40), "away", at(2)).await.unwrap();
    exporters.fail(&key, "a", at(50), "still away", at(3)).await.unwrap();
    let cursor = exporters.lease(&key, "b", at(11), at(20)).await.unwrap().unwrap();
    assert_eq!(
        (cursor.position, cursor.pending, cursor.pending_since),
        (mark(0), Some(mark(5)), Some(at(1)))
    );
    assert_eq!(
        (cursor.attempts, cursor.retry_at, cursor.last_error.as_deref()),
        (2, Some(at(50)), Some("still away"))
    );
    // The half of it.
    exporters.advance(&key, "b", &mark(2), false, Counts::default(), at(12)).await.unwrap();
    let cursor = exporters.get(&key).await.unwrap().unwrap();
    assert_eq!((cursor.pending, cursor.attempts, cursor.retry_at), (Some(mark(5)), 0, None));
    exporters.advance(&key, "b", &mark(5), true, Counts::default(), at(13)).await.unwrap();
    let cursor = exporters.get(&key).await.unwrap().unwrap();
    assert_eq!((cursor.pending, cursor.pending_since, cursor.last_error), (None, None, None));
}

async fn projects_of_every_organization_are_found(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenants = [add_tenant(database, "a").await, add_tenant(database, "b").await];
    let exporters = database.exporters();
    let found = exporters.projects(Page::first(1_000)).await.unwrap();
    for tenant in tenants {
        assert!(found.iter().any(|(organization, project, _)| {
            (*organization, *project) == (tenant.organization, tenant.project)
        }));
    }
    assert_eq!(exporters.since("out").await.unwrap(), None);
    for (tenant, second) in tenants.into_iter().zip([5, 3]) {
        let key =
            CursorKey { organization: tenant.organization, project: tenant.project, exporter: "out".into() };
        exporters.create(&key, &mark(0), at(second)).await.unwrap();
    }
    assert_eq!(exporters.since("out").await.unwrap(), Some(at(3)));
    assert_eq!(exporters.since("another").await.unwrap(), None);
}
