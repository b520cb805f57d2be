//! Deleting what is too old: of everybody by month, of a project to the day; told before, and counted.

use brokle_core::observation::Observation;
use brokle_storage::observations::{Inserted, Month, Removed, ScoreValue, TraceFilter};
use chrono::{DateTime, Utc};

use super::super::tenant;
use super::signals::{log, logs_of_year, point, points_of_year};
use super::{Store, at, on_every_store, year};

on_every_store!(
    whole_months_go_with_everything_and_are_counted_before,
    a_project_goes_to_the_day_and_no_further,
    what_is_deleted_may_come_again,
);

/// An observation with bodies, a log record, a point and a score at each of these times, of this store's tenant.
async fn fill(store: &Store, times: &[&str]) -> Vec<Observation> {
    let mut calls = Vec::new();
    for time in times {
        let call =
            Observation { input: Some("in".into()), output: Some("out".into()), ..store.call(time, time) };
        store.insert(std::slice::from_ref(&call));
        let id = at(time).timestamp_micros().unsigned_abs().into();
        store.store.insert_logs(&[log(store, id, time)], &mut Inserted::default()).unwrap();
        store.store.insert_points(&[point(store, "load", 1, time, 1.0)], &mut Inserted::default()).unwrap();
        store.put(vec![store.score(time, "quality", ScoreValue::Numeric(1.0), &call)]).await;
        calls.push(call);
    }
    calls
}

/// What of each kind is there of 2026.
async fn left(store: &Store) -> [usize; 4] {
    let project = store.tenant.project;
    [
        store.list(TraceFilter::default(), 100, None).await.data.len(),
        store.store.scores(project, year()).await.unwrap().data.len(),
        store.store.logs(project, logs_of_year()).await.unwrap().data.len(),
        store.store.points(project, points_of_year()).await.unwrap().data.len(),
    ]
}

async fn whole_months_go_with_everything_and_are_counted_before(store: Store) {
    fill(&store, &["2026-01-31T23:59:59.999999Z", "2026-02-10T00:00:00Z", "2026-03-01T00:00:00Z"]).await;
    let march = Month::new(2026, 3).unwrap();
    let told = store.store.retain(march, true).await.unwrap();
    let months = vec![Month::new(2026, 1).unwrap(), Month::new(2026, 2).unwrap()];
    assert_eq!(told, Removed { observations: 2, scores: 2, logs: 2, points: 2, blobs: 0, months });
    assert_eq!(left(&store).await, [3; 4], "a dry run deletes nothing");
    assert_eq!(store.store.retain(march, false).await.unwrap(), told);
    assert_eq!(left(&store).await, [1; 4]);
    assert_eq!(store.store.retain(march, false).await.unwrap(), Removed::default());
}

async fn a_project_goes_to_the_day_and_no_further(mut store: Store) {
    let times = ["2026-02-10T00:00:00Z", "2026-03-01T23:59:59.999999Z", "2026-03-02T00:00:00Z"];
    let calls = fill(&store, &times).await;
    let ours = std::mem::replace(&mut store.tenant, tenant());
    fill(&store, &times[..2]).await;
    let theirs = std::mem::replace(&mut store.tenant, ours);

    let (project, second) = (store.tenant.project, at("2026-03-02T00:00:00Z"));
    let told = store.store.expire(project, at("2026-01-01T00:00:00Z")..second, true).await.unwrap();
    let expected = Removed { observations: 2, scores: 2, logs: 2, points: 2, ..Removed::default() };
    assert_eq!(told, expected);
    assert_eq!(left(&store).await, [3; 4], "a dry run deletes nothing");
    assert_eq!(
        store.store.expire(project, at("2026-01-01T00:00:00Z")..second, false).await.unwrap(),
        expected
    );
    assert_eq!(left(&store).await, [1; 4]);
    let sums = store.store.rollups(project, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")).await;
    let sums = sums.unwrap();
    assert_eq!(sums.iter().map(|hour| hour.sums.count).sum::<u64>(), 1, "{sums:?}");
    assert!(store.store.trace(project, calls[1].trace_id).await.unwrap().is_none());
    store.tenant = theirs;
    assert_eq!(left(&store).await, [2; 4], "another project's stay");
    let shown = store.store.trace(project, calls[2].trace_id).await.unwrap().unwrap();
    assert_eq!(shown.observations[0].input.as_ref().unwrap().get(), r#""in""#, "its own body stays");
}

async fn what_is_deleted_may_come_again(store: Store) {
    let calls = fill(&store, &["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]).await;
    let project = store.tenant.project;
    let removed =
        store.store.expire(project, DateTime::<Utc>::MIN_UTC..DateTime::<Utc>::MAX_UTC, false).await.unwrap();
    assert_eq!((removed.observations, removed.scores, removed.logs, removed.points), (2, 2, 2, 2));
    assert_eq!(left(&store).await, [0; 4]);
    assert_eq!(store.deliver(&calls).rows, 2);
    assert_eq!(left(&store).await, [2, 0, 0, 0]);
}
