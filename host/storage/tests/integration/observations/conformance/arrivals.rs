//! The order of arrival: nothing is left out, whenever it began.

use brokle_core::observation::{Kind, Observation, Status, Step};
use brokle_core::random::SystemRandom;
use brokle_storage::observations::query::Filter;
use brokle_storage::observations::{Arrivals, Mark};
use bytes::Bytes;

use super::super::tenant;
use super::{Store, at, on_every_store, parse};

on_every_store!(
    what_arrives_late_is_behind_every_mark,
    pages_have_every_row_once,
    the_same_two_marks_give_the_same_rows,
    only_what_passes_and_only_the_projects_own,
    a_row_comes_with_its_bodies_and_steps,
    what_arrives_after_retention_is_behind_every_mark_and_once,
    a_store_that_was_emptied_begins_anew_for_every_mark,
);

async fn after(store: &Store, filter: &str, mark: &Mark, to: Option<&Mark>, limit: usize) -> Arrivals {
    let filter = if filter.is_empty() { Filter::default() } else { parse(filter) };
    let asked = store.store.arrivals(store.tenant.project, filter, mark.clone(), to.cloned(), limit);
    asked.await.unwrap()
}

fn names(arrivals: &Arrivals) -> Vec<&str> {
    arrivals.rows.iter().map(|arrival| arrival.node.summary.name.as_str()).collect()
}

async fn what_arrives_late_is_behind_every_mark(store: Store) {
    assert!(names(&after(&store, "", &Mark::default(), None, 10).await).is_empty());
    store.insert(&[store.call("first", "2026-03-01T00:00:00Z")]);
    let first = after(&store, "", &Mark::default(), None, 10).await;
    assert_eq!((names(&first), first.more), (vec!["first"], false));
    let now = store.store.arrived().await.unwrap();
    // A month before, a year before, and in between.
    for (name, start) in
        [("late", "2026-02-01T00:00:00Z"), ("later", "2025-02-01T00:00:00Z"), ("new", "2026-03-02T00:00:00Z")]
    {
        store.insert(&[store.call(name, start)]);
    }
    for mark in [&first.end, &now] {
        let next = after(&store, "", mark, None, 10).await;
        let mut found = names(&next);
        found.sort_unstable();
        assert_eq!(found, ["late", "later", "new"]);
        assert!(names(&after(&store, "", &next.end, None, 10).await).is_empty());
    }
    // A mark is a text in between.
    let read: Mark = serde_json::from_str(&serde_json::to_string(&now).unwrap()).unwrap();
    assert_eq!(read, now);
}

async fn pages_have_every_row_once(store: Store) {
    let rows: Vec<_> = (0..25)
        .map(|n| {
            store.call(
                &n.to_string(),
                if n % 2 == 0 { "2026-03-01T00:00:00Z" } else { "2026-04-01T00:00:00Z" },
            )
        })
        .collect();
    store.insert(&rows);
    let (mut mark, mut found) = (Mark::default(), Vec::new());
    loop {
        let page = after(&store, "", &mark, None, 4).await;
        assert!(page.rows.len() <= 4);
        found.extend(names(&page).into_iter().map(str::to_owned));
        mark = page.end.clone();
        if page.rows.is_empty() {
            break;
        }
    }
    found.sort_by_key(|name| name.parse::<u32>().unwrap());
    assert_eq!(found, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn the_same_two_marks_give_the_same_rows(store: Store) {
    let call = |n: u32| store.call(&n.to_string(), "2026-03-01T00:00:00Z");
    store.insert(&(0..5).map(call).collect::<Vec<_>>());
    let batch = after(&store, "", &Mark::default(), None, 3).await;
    assert!(batch.more);
    store.insert(&[call(5), store.call("6", "2025-01-01T00:00:00Z")]);
    let again = after(&store, "", &Mark::default(), Some(&batch.end), 1_000).await;
    assert_eq!(names(&again), names(&batch));
    // From the middle of it, too.
    let mut middle = Mark::default();
    middle.pass(&batch.rows[0].part, batch.rows[0].row);
    assert_eq!(names(&after(&store, "", &middle, Some(&batch.end), 1_000).await), names(&batch)[1..]);
}

/// Deletes the tenant's rows of these days of March.
async fn expire(store: &Store, days: std::ops::Range<u32>) {
    let [from, to] = [days.start, days.end].map(|day| at(&format!("2026-03-{day:02}T00:00:00Z")));
    store.store.expire(store.tenant.project, from..to, false).await.unwrap();
}

async fn what_arrives_after_retention_is_behind_every_mark_and_once(store: Store) {
    let call = |name| store.call(name, "2026-03-20T00:00:00Z");
    store.insert(&[store.call("kept", "2026-03-01T00:00:00Z"), call("a"), call("b"), call("c")]);
    let some = after(&store, "", &Mark::default(), None, 3).await;
    let all = after(&store, "", &Mark::default(), None, 10).await.end;
    expire(&store, 20..21).await;
    for mark in [&some.end, &all] {
        assert!(names(&after(&store, "", mark, None, 10).await).is_empty(), "nothing comes again");
    }
    let now = store.store.arrived().await.unwrap();
    store.insert(&[call("d")]);
    for mark in [&some.end, &all, &now] {
        let next = after(&store, "", mark, None, 10).await;
        assert_eq!(names(&next), ["d"]);
        assert!(names(&after(&store, "", &next.end, None, 10).await).is_empty());
    }
    // Once more: what was deleted is remembered beyond the next deletion.
    expire(&store, 1..31).await;
    store.insert(&[store.call("e", "2026-03-02T00:00:00Z")]);
    assert_eq!(names(&after(&store, "", &all, None, 10).await), ["e"]);
}

async fn a_store_that_was_emptied_begins_anew_for_every_mark(store: Store) {
    let calls = |names: [&str; 3]| names.map(|name| store.call(name, "2026-03-20T00:00:00Z"));
    store.insert(&calls(["a", "b", "c"]));
    let all = after(&store, "", &Mark::default(), None, 10).await.end;
    expire(&store, 1..31).await;
    // As many as the mark has passed.
    store.insert(&calls(["d", "e", "f"]));
    let next = after(&store, "", &all, None, 10).await;
    assert_eq!(names(&next), ["d", "e", "f"]);
    assert!(names(&after(&store, "", &next.end, None, 10).await).is_empty());
}

async fn only_what_passes_and_only_the_projects_own(store: Store) {
    let other = Observation { tenant: tenant(), ..store.call("foreign", "2026-03-01T00:00:00Z") };
    let failed = Observation { status: Status::Error, ..store.call("failed", "2026-03-01T00:00:00Z") };
    store.insert(&[other, store.call("good", "2026-03-01T00:00:00Z"), failed]);
    assert_eq!(names(&after(&store, "", &Mark::default(), None, 10).await), ["good", "failed"]);
    let failed = after(&store, "status:error", &Mark::default(), None, 10).await;
    assert_eq!(names(&failed), ["failed"]);
    let nothing = after(&store, "status:timeout", &Mark::default(), None, 10).await;
    assert!(nothing.rows.is_empty());
    assert!(names(&after(&store, "", &nothing.end, None, 10).await).is_empty(), "left out for good");
}

async fn a_row_comes_with_its_bodies_and_steps(store: Store) {
    let step = Step {
        span_id: brokle_core::observation::SpanId::generate(&SystemRandom),
        parent_span_id: None,
        kind: Kind::Attempt,
        name: "openai/gpt-4o".into(),
        offset_us: 10,
        duration_us: 20,
        status: Status::Ok,
        http_status: Some(200),
        provider: None,
        connection: None,
        model: None,
        error_class: None,
        error_message: None,
        attributes: Default::default(),
    };
    let large = format!(r#""{}""#, "x".repeat(1 << 20));
    let row = |name| Observation {
        steps: vec![step.clone()],
        input: Some(Bytes::from_static(br#"{"a":1}"#)),
        output: Some(large.clone().into()),
        ..store.call(name, "2026-03-01T00:00:00Z")
    };
    store.insert(&[row("a"), row("b"), row("c"), row("d")]);
    let page = after(&store, "", &Mark::default(), None, 100).await;
    assert!(page.more && (2..4).contains(&page.rows.len()), "bounded by their bytes: {}", page.rows.len());
    let node = &page.rows[0].node;
    assert_eq!(node.input.as_ref().unwrap().get(), r#"{"a":1}"#);
    assert_eq!(node.output.as_ref().unwrap().get(), large);
    assert_eq!(node.children[0].summary.span_id, step.span_id);
    assert_eq!(node.children[0].summary.parent_span_id, Some(node.summary.span_id));
}
