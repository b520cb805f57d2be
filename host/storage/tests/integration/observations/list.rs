//! Lists: order, pages, filters, borders between projects.

use brokle_core::observation::{Kind, Observation, Status};
use brokle_storage::observations::{Cursor, TraceFilter};

use super::conformance::{Store, on_every_store};
use super::{names, tenant};

on_every_store!(
    pages_go_from_new_to_old_over_months,
    rows_that_arrive_between_pages_hide_and_repeat_nothing,
    every_filter_narrows,
    the_limit_is_cut_to_1_to_100,
    another_project_sees_nothing,
);

async fn pages_go_from_new_to_old_over_months(fixture: Store) {
    fixture.insert(&[
        fixture.call("march 1", "2026-03-01T00:00:00Z"),
        fixture.call("january", "2026-01-15T00:00:00Z"),
        fixture.call("february's last microsecond", "2026-02-28T23:59:59.999999Z"),
        fixture.call("march 2", "2026-03-01T00:00:00Z"),
        fixture.call("december", "2025-12-31T23:59:59Z"),
    ]);
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = fixture.list(TraceFilter::default(), 2, cursor).await;
        pages.push(names(&page));
        // A client passes the text on.
        cursor = page.next_cursor.map(|cursor| cursor.to_string().parse::<Cursor>().unwrap());
        if cursor.is_none() {
            break;
        }
    }
    let expected: [&[&str]; 3] =
        [&["march 2", "march 1"], &["february's last microsecond", "january"], &["december"]];
    assert_eq!(pages, expected);
}

async fn rows_that_arrive_between_pages_hide_and_repeat_nothing(fixture: Store) {
    let at = "2026-03-01T10:00:00Z";
    let there: Vec<_> = (0..10).map(|n| fixture.call(&format!("old {n}"), at)).collect();
    fixture.insert(&there);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = fixture.list(TraceFilter::default(), 3, cursor).await;
        seen.extend(names(&page).into_iter().filter(|name| name.starts_with("old")));
        // Newer, older, in another month, and at the very microsecond where the page ended.
        let late = ["2026-03-01T10:00:01Z", "2026-03-01T09:00:00Z", "2026-04-01T00:00:00Z", at];
        fixture.insert(&late.map(|start| fixture.call("new", start)));
        cursor = page.next_cursor;
        if cursor.is_none() || seen.len() >= there.len() {
            break;
        }
    }
    let expected: Vec<_> = (0..10).rev().map(|n| format!("old {n}")).collect();
    assert_eq!(seen, expected);
}

async fn every_filter_narrows(fixture: Store) {
    let call = |name, start| fixture.call(name, start);
    fixture.insert(&[
        Observation { model_requested: Some("smart".into()), ..call("asked", "2026-03-01T01:00:00Z") },
        Observation {
            model_requested: Some("x".into()),
            model_served: Some("smart".into()),
            ..call("served", "2026-03-01T02:00:00Z")
        },
        Observation { provider: Some("openai".into()), ..call("provider", "2026-03-01T03:00:00Z") },
        Observation { status: Status::Timeout, ..call("timeout", "2026-03-01T04:00:00Z") },
        Observation { user: Some("ann\0".into()), ..call("user", "2026-03-01T05:00:00Z") },
        Observation { session: Some("s".into()), ..call("session", "2026-03-01T06:00:00Z") },
        Observation { kind: Kind::Embedding, ..call("embedding", "2026-03-01T07:00:00Z") },
    ]);
    let all = TraceFilter::default;
    let cases: [(TraceFilter, &[&str]); 10] = [
        (TraceFilter { model: Some("smart".into()), ..all() }, &["served", "asked"]),
        (TraceFilter { provider: Some("openai".into()), ..all() }, &["provider"]),
        (TraceFilter { status: Some(Status::Timeout), ..all() }, &["timeout"]),
        (TraceFilter { user: Some("ann\0".into()), ..all() }, &["user"]),
        (TraceFilter { user: Some("ann".into()), ..all() }, &[]),
        (TraceFilter { session: Some("s".into()), ..all() }, &["session"]),
        (TraceFilter { kind: Some(Kind::Embedding), ..all() }, &["embedding"]),
        (TraceFilter { name: Some("user".into()), ..all() }, &["user"]),
        // From is part of it, to isn't.
        (
            TraceFilter {
                from: "2026-03-01T03:00:00Z".parse().ok(),
                to: "2026-03-01T05:00:00Z".parse().ok(),
                ..all()
            },
            &["timeout", "provider"],
        ),
        (
            TraceFilter {
                from: "2026-03-01T02:00:00Z".parse().ok(),
                model: Some("smart".into()),
                status: Some(Status::Ok),
                ..all()
            },
            &["served"],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(names(&fixture.list(filter.clone(), 100, None).await), expected, "{filter:?}");
    }
}

async fn the_limit_is_cut_to_1_to_100(fixture: Store) {
    let calls: Vec<_> = (0..101).map(|_| fixture.call("call", "2026-03-01T00:00:00Z")).collect();
    fixture.insert(&calls);
    let mut counts = Vec::new();
    for limit in [0, 1, 100, u32::MAX] {
        counts.push(fixture.list(TraceFilter::default(), limit, None).await.data.len());
    }
    assert_eq!(counts, [1, 1, 100, 100]);
}

async fn another_project_sees_nothing(fixture: Store) {
    let mine = fixture.call("mine", "2026-03-01T00:00:00Z");
    let stranger = tenant();
    // The same ids in another project are another observation.
    let theirs = Observation { tenant: stranger, name: "theirs".into(), ..mine.clone() };
    fixture.insert(&[mine.clone(), theirs]);

    let names_of = async |project| {
        let page = fixture.store.list(project, TraceFilter::default(), 100, None).await.unwrap();
        let trace = fixture.store.trace(project, mine.trace_id).await.unwrap();
        let (from, to) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
        let hours = fixture.store.rollups(project, from, to).await.unwrap();
        let in_trace = trace
            .map(|trace| trace.observations.iter().map(|node| node.summary.name.clone()).collect::<Vec<_>>());
        (names(&page), in_trace, hours.iter().map(|hour| hour.sums.count).sum::<u64>())
    };
    let one = |name: &str| vec![name.to_owned()];
    assert_eq!(names_of(fixture.tenant.project).await, (one("mine"), Some(one("mine")), 1));
    assert_eq!(names_of(stranger.project).await, (one("theirs"), Some(one("theirs")), 1));
    assert_eq!(names_of(tenant().project).await, (vec![], None, 0));
}
