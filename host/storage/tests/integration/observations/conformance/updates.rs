//! What is said of traces after the fact.

use brokle_core::observation::Observation;
use brokle_core::observation::TraceId;
use brokle_core::random::SystemRandom;
use brokle_storage::observations::update::TraceUpdate;

use super::{Store, at, on_every_store};

on_every_store!(
    what_was_said_last_of_a_member_counts,
    filters_go_by_what_was_said,
    another_project_is_not_touched
);

fn tags(tags: &[&str]) -> TraceUpdate {
    TraceUpdate { tags: Some(tags.iter().map(|&tag| tag.to_owned()).collect()), ..TraceUpdate::default() }
}

fn user(user: Option<&str>) -> TraceUpdate {
    TraceUpdate { user: Some(user.map(str::to_owned)), ..TraceUpdate::default() }
}

fn bookmarked(flag: bool) -> TraceUpdate {
    TraceUpdate { bookmarked: Some(flag), ..TraceUpdate::default() }
}

async fn say(store: &Store, trace: TraceId, update: TraceUpdate, time: &str) {
    store.store.update_trace(store.tenant.project, trace, update, at(time)).await.unwrap();
}

async fn what_was_said_last_of_a_member_counts(store: Store) {
    // No such trace is there, yet.
    let trace = TraceId::generate(&SystemRandom);
    let other = TraceId::generate(&SystemRandom);
    let said = async |trace| {
        store.store.trace_updates(store.tenant.project, vec![trace]).await.unwrap().remove(&trace)
    };
    assert_eq!(said(trace).await, None);
    say(&store, trace, tags(&["a", "quote \" and \u{1f980}"]), "2026-03-01T12:00:00Z").await;
    say(&store, trace, bookmarked(true), "2026-03-01T12:00:01Z").await;
    assert_eq!(said(trace).await.unwrap().user, None);
    say(&store, trace, user(Some("ann")), "2026-03-01T12:00:02Z").await;
    let all = TraceUpdate {
        tags: Some(vec!["a".to_owned(), "quote \" and \u{1f980}".to_owned()]),
        user: Some(Some("ann".to_owned())),
        bookmarked: Some(true),
    };
    assert_eq!(said(trace).await, Some(all), "nobody undid what another one said");
    say(&store, trace, TraceUpdate { bookmarked: Some(false), ..user(None) }, "2026-03-01T12:00:03Z").await;
    say(&store, trace, tags(&[]), "2026-03-01T12:00:03Z").await;
    let now = TraceUpdate { tags: Some(Vec::new()), user: Some(None), bookmarked: Some(false) };
    assert_eq!(said(trace).await, Some(now));
    assert_eq!(said(other).await, None);
}

async fn filters_go_by_what_was_said(store: Store) {
    let row = |name, tags: &[&str], user: Option<&str>| Observation {
        tags: tags.iter().map(|&tag| tag.into()).collect(),
        user: user.map(Into::into),
        ..store.call(name, &format!("2026-03-01T12:00:0{}Z", name.len()))
    };
    let rows = [row("a", &["x"], Some("ann")), row("bb", &["x", "y"], Some("bob")), row("ccc", &[], None)];
    store.insert(&rows);
    assert_eq!(store.names("tag:x").await, ["bb", "a"]);
    assert_eq!(store.names("bookmarked:true").await, [""; 0], "nothing was said of anything");
    assert_eq!(store.names("-bookmarked:true").await, ["ccc", "bb", "a"]);

    let time = "2026-03-02T12:00:00Z";
    say(&store, rows[0].trace_id, TraceUpdate { bookmarked: Some(true), ..tags(&["z"]) }, time).await;
    say(&store, rows[1].trace_id, TraceUpdate { bookmarked: Some(false), ..user(None) }, time).await;
    say(
        &store,
        rows[2].trace_id,
        TraceUpdate { user: Some(Some("ann".to_owned())), ..tags(&["x", "z"]) },
        time,
    )
    .await;
    for (filter, names) in [
        ("tag:x", &["ccc", "bb"][..]),
        ("tag:z", &["ccc", "a"]),
        ("-tag:z", &["bb"]),
        ("tag:*", &["ccc", "bb", "a"]),
        ("tag:x,z", &["ccc", "bb", "a"]),
        ("user:ann", &["ccc", "a"]),
        ("user:bob", &[]),
        ("-user:*", &["bb"]),
        ("bookmarked:true", &["a"]),
        ("bookmarked:false", &["ccc", "bb"]),
        ("bookmarked:true tag:z user:ann", &["a"]),
    ] {
        assert_eq!(store.found(filter).await, names, "{filter}");
    }
}

async fn another_project_is_not_touched(store: Store) {
    let call = store.call("call", "2026-03-01T12:00:00Z");
    store.insert(std::slice::from_ref(&call));
    let other = super::super::tenant().project;
    let update = TraceUpdate { bookmarked: Some(true), ..tags(&["x"]) };
    store.store.update_trace(other, call.trace_id, update, at("2026-03-01T12:00:00Z")).await.unwrap();
    assert_eq!(store.names("tag:x").await, [""; 0]);
    assert_eq!(store.names("bookmarked:true").await, [""; 0]);
    assert!(store.store.trace_updates(store.tenant.project, vec![call.trace_id]).await.unwrap().is_empty());
}
