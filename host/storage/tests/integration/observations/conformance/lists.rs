//! Orders, pages, groups, borders between projects, and what a question may cost.

use std::time::Duration;

use brokle_core::observation::{Observation, Status};
use brokle_core::usage::Usage;
use brokle_storage::observations::query::{GroupKind, Limits, Place, Query, Sort, SortBy, TooMuch};
use brokle_storage::observations::{AnalyticsError, ScoreValue};

use super::super::tenant;
use super::{Store, at, on_every_store, parse, year};

on_every_store!(
    any_order_gives_every_row_once,
    groups_sum_up_over_a_months_end,
    groups_come_in_pages,
    bodies_come_when_asked_for,
    another_project_sees_nothing,
);

async fn any_order_gives_every_row_once(store: Store) {
    let rows: Vec<_> = (0..40_u64)
        .map(|n| {
            let month = if n % 2 == 0 { "01-31T23:59:59Z" } else { "02-01T00:00:00Z" };
            Observation {
                // Ties, and rows without a value.
                duration_us: n / 4 * 1_000,
                cost: (n % 3 > 0).then(|| format!("0.{n}").parse().unwrap()),
                usage: (n % 5 > 0).then_some(Usage { input: n % 7, ..Usage::default() }),
                ..store.call(&format!("{n}"), &format!("2026-{month}"))
            }
        })
        .collect();
    store.insert(&rows);
    for by in [SortBy::Time, SortBy::Duration, SortBy::FirstToken, SortBy::Cost, SortBy::Tokens] {
        for descending in [true, false] {
            let sort = Sort { by, descending };
            let (mut values, mut names, mut after) = (Vec::new(), Vec::new(), None);
            loop {
                let query = Query { sort, limit: 7, after, ..year() };
                let page = store.store.observations(store.tenant.project, query).await.unwrap();
                for row in page.data {
                    let summary = row.summary;
                    values.push(match by {
                        SortBy::Time => summary.start_time.timestamp_micros() as f64,
                        SortBy::Duration => summary.duration_ms,
                        SortBy::Cost => summary.cost.map_or(-1.0, brokle_core::money::Usd::approximate),
                        SortBy::Tokens => summary.usage.map_or(-1.0, |usage| usage.total as f64),
                        _ => -1.0,
                    });
                    names.push(summary.name);
                }
                let Some(place) = page.next_cursor else { break };
                // A client passes the text on.
                let place: Place = place.to_string().parse().unwrap();
                assert!(place.is_in(sort) && !place.is_in(Sort { by, descending: !descending }));
                after = Some(place);
            }
            let ordered = |pair: &[f64]| if descending { pair[0] >= pair[1] } else { pair[0] <= pair[1] };
            assert!(values.windows(2).all(ordered), "{sort:?}: {values:?}");
            names.sort_by_key(|name| name.parse::<u64>().unwrap());
            assert_eq!(names, (0..40).map(|n| n.to_string()).collect::<Vec<_>>(), "{sort:?}");
        }
    }
}

async fn groups_sum_up_over_a_months_end(store: Store) {
    let root = Observation {
        duration_us: 3_000_000,
        session: Some("s".into()),
        user: Some("ann".into()),
        cost: Some("0.1".parse().unwrap()),
        usage: Some(Usage { input: 10, output: 1, ..Usage::default() }),
        ..store.call("root", "2026-01-31T23:59:59Z")
    };
    let child = Observation {
        trace_id: root.trace_id,
        parent_span_id: Some(root.span_id),
        status: Status::Error,
        duration_us: 500_000,
        cost: Some("0.2".parse().unwrap()),
        usage: Some(Usage { input: 5, output: 2, ..Usage::default() }),
        ..store.call("child", "2026-02-01T00:00:00Z")
    };
    let later = Observation {
        session: Some("s".into()),
        user: Some("bob".into()),
        ..store.call("later", "2026-02-02T00:00:00Z")
    };
    store.insert(&[root.clone(), child, later, store.call("alone", "2026-02-03T00:00:00Z")]);
    let list = async |kind, filter: &str| {
        let query = Query { filter: parse(filter), ..year() };
        store.store.groups(store.tenant.project, kind, query).await.unwrap().data
    };

    // One that a filter finds by its child is summed up whole.
    for filter in ["status:error", "name:root", "scores.x:1,2 root", "cost:>0.15"] {
        let expected = usize::from(!filter.contains("scores"));
        assert_eq!(list(GroupKind::Trace, filter).await.len(), expected, "{filter}");
    }
    let traces = list(GroupKind::Trace, "status:error").await;
    let trace = serde_json::to_value(&traces[0]).unwrap();
    let expected = serde_json::json!({
        "id": root.trace_id.to_string(), "name": "root", "user": "ann", "session": "s",
        "start_time": "2026-01-31T23:59:59.000000Z", "end_time": "2026-02-01T00:00:02.000000Z", "duration_ms": 3000.0,
        "traces": 1, "sessions": 1, "observations": 2, "errors": 1, "input_tokens": 15, "output_tokens": 3, "cost": "0.3",
    });
    assert_eq!(trace, expected);
    assert_eq!(list(GroupKind::Trace, "").await.len(), 3);

    let sessions = list(GroupKind::Session, "user:bob").await;
    assert_eq!(sessions.len(), 1);
    let totals = &sessions[0].totals;
    assert_eq!((sessions[0].id.as_str(), totals.traces, totals.observations), ("s", 2, 2));
    let users = list(GroupKind::User, "").await;
    assert_eq!(users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), ["bob", "ann"]);
    assert_eq!((users[1].totals.observations, users[1].totals.sessions), (1, 1));
}

async fn groups_come_in_pages(store: Store) {
    let rows: Vec<_> = (0..25)
        .map(|n| Observation {
            user: Some(format!("user {:02}", n % 9).into()),
            ..store.call("call", "2026-03-01T00:00:00Z")
        })
        .collect();
    store.insert(&rows);
    for descending in [true, false] {
        for by in [SortBy::Observations, SortBy::Time] {
            let sort = Sort { by, descending };
            let (mut users, mut after) = (Vec::new(), None);
            loop {
                let query = Query { sort, limit: 2, after, ..year() };
                let page = store.store.groups(store.tenant.project, GroupKind::User, query).await.unwrap();
                users.extend(page.data.into_iter().map(|user| (user.totals.observations, user.id)));
                let Some(place) = page.next_cursor else { break };
                after = Some(place.to_string().parse().unwrap());
            }
            if by == SortBy::Observations {
                let ordered =
                    |pair: &[(u64, String)]| if descending { pair[0] >= pair[1] } else { pair[0] <= pair[1] };
                assert!(users.windows(2).all(ordered), "{users:?}");
            }
            users.sort_by(|one, other| one.1.cmp(&other.1));
            users.dedup();
            assert_eq!(users.len(), 9, "{sort:?}");
        }
    }
}

async fn bodies_come_when_asked_for(store: Store) {
    let with = Observation { input: Some("{\"a\": 1}".into()), ..store.call("one", "2026-03-01T00:00:00Z") };
    store.insert(&[with]);
    let list = async |bodies| {
        let query = Query { bodies, ..year() };
        let page = store.store.observations(store.tenant.project, query).await.unwrap();
        page.data.into_iter().map(|row| row.input.map(|json| json.get().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(list(true).await, [Some("{\"a\": 1}".to_owned())]);
    assert_eq!(list(false).await, [None]);
}

async fn another_project_sees_nothing(store: Store) {
    let mine = Observation { user: Some("u".into()), ..store.call("mine", "2026-03-01T00:00:00Z") };
    let stranger = tenant();
    let theirs = Observation { tenant: stranger, name: "theirs".into(), ..mine.clone() };
    store.insert(&[mine.clone(), theirs]);
    store.put(vec![store.score("1", "good", ScoreValue::Numeric(1.0), &mine)]).await;
    for (project, name, score) in [(store.tenant.project, "mine", true), (stranger.project, "theirs", false)]
    {
        let list = async |filter| {
            let query = Query { filter: parse(filter), ..year() };
            let page = store.store.observations(project, query).await.unwrap();
            page.data.into_iter().map(|row| row.summary.name).collect::<Vec<_>>()
        };
        assert_eq!(list("").await, [name]);
        // The trace has the same id; the score is the other project's all the same.
        assert_eq!(list("scores.good:1").await.len(), usize::from(score));
        let users = store.store.groups(project, GroupKind::User, year()).await.unwrap().data;
        assert_eq!((users.len(), users[0].totals.observations), (1, 1));
        let traces = Query { filter: parse("user:u"), ..year() };
        let traces = store.store.groups(project, GroupKind::Trace, traces).await.unwrap().data;
        assert_eq!(traces[0].name.as_deref(), Some(name));
        assert_eq!(store.store.scores(project, year()).await.unwrap().data.len(), usize::from(score));
        assert_eq!(store.store.delete_score(project, "1".to_owned()).await.unwrap(), score);
    }
}

#[tokio::test]
async fn what_costs_too_much_is_refused() {
    let count = |rows, groups, time| Limits { rows, groups, time };
    let long = Duration::from_secs(60);
    let cases = [
        (count(9, 100, long), TooMuch::Rows(9)),
        (count(100, 9, long), TooMuch::Groups(9)),
        (count(100, 100, Duration::ZERO), TooMuch::Time(Duration::ZERO)),
    ];
    for (limits, expected) in cases {
        let store = Store::sqlite(limits);
        let rows: Vec<_> = (0..20).map(|n| store.call(&format!("{n}"), "2026-03-01T00:00:00Z")).collect();
        store.insert(&rows);
        let bodies: Vec<_> = (0..2_000).map(|_| store.call("x", "2026-02-01T00:00:00Z")).collect();
        store.insert(&bodies);
        let query = || Query { from: at("2026-03-01T00:00:00Z"), ..year() };
        let error = match expected {
            // Time is looked at every so many steps: it takes a question that has some.
            TooMuch::Time(_) => {
                let query = Query { filter: parse("nothing-has-this"), ..year() };
                store.store.observations(store.tenant.project, query).await.unwrap_err()
            }
            _ => store.store.groups(store.tenant.project, GroupKind::Trace, query()).await.unwrap_err(),
        };
        assert!(matches!(error, AnalyticsError::TooMuch(cost) if cost == expected), "{error:?}");
        // The store serves on.
        let page =
            store.store.observations(store.tenant.project, Query { limit: 3, ..query() }).await.unwrap();
        assert_eq!(page.data.len(), 3);
    }
}
