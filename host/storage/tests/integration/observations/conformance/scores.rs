//! Scores: stored once, replaced, deleted, listed.

use brokle_core::observation::SpanId;
use brokle_core::random::SystemRandom;
use brokle_storage::observations::query::{Filter, Query, Sort, SortBy, Subject};
use brokle_storage::observations::{Score, ScoreValue};

use super::super::tenant;
use super::{Store, on_every_store, year};

on_every_store!(the_same_id_is_the_same_score, every_value_comes_back, lists_filter_and_sort);

async fn list(store: &Store, filter: &str, sort: Sort) -> Vec<Score> {
    let filter = Filter::parse(filter, Subject::Scores).unwrap_or_else(|error| panic!("{filter}: {error}"));
    store.store.scores(store.tenant.project, Query { filter, sort, ..year() }).await.unwrap().data
}

async fn the_same_id_is_the_same_score(store: Store) {
    let call = store.call("call", "2026-03-01T00:00:00Z");
    let score = store.score("mine", "good", ScoreValue::Numeric(0.5), &call);
    for _ in 0..3 {
        store.put(vec![score.clone()]).await;
    }
    assert_eq!(list(&store, "", Sort::default()).await, std::slice::from_ref(&score));

    let mut changed = score.clone();
    changed.value = ScoreValue::Numeric(0.7);
    changed.created_at += chrono::TimeDelta::hours(1);
    changed.updated_at += chrono::TimeDelta::hours(1);
    store.put(vec![changed.clone()]).await;
    let expected = Score { created_at: score.created_at, ..changed };
    assert_eq!(list(&store, "", Sort::default()).await, [expected]);

    // The same id in another project is another score, and out of reach from here.
    let stranger = tenant().project;
    assert!(!store.store.delete_score(stranger, "mine".to_owned()).await.unwrap());
    store.store.put_scores(stranger, vec![score]).await.unwrap();
    assert!(store.store.delete_score(store.tenant.project, "mine".to_owned()).await.unwrap());
    assert!(!store.store.delete_score(store.tenant.project, "mine".to_owned()).await.unwrap());
    assert_eq!(list(&store, "", Sort::default()).await, []);
    assert_eq!(store.store.scores(stranger, year()).await.unwrap().data.len(), 1);
}

async fn every_value_comes_back(store: Store) {
    let call = store.call("call", "2026-03-01T00:00:00Z");
    let values = [
        ScoreValue::Numeric(0.1 + 0.2),
        ScoreValue::Numeric(-1e300),
        ScoreValue::Boolean(false),
        ScoreValue::Categorical("so so".to_owned()),
        ScoreValue::Text("nul \0 \u{1f980}".to_owned()),
    ];
    let scores: Vec<_> = values
        .into_iter()
        .enumerate()
        .map(|(at, value)| {
            let metadata = serde_json::json!({"deep": [1, {"x": null}]});
            Score {
                span_id: (at == 0).then(|| SpanId::generate(&SystemRandom)),
                comment: Some("why".to_owned()),
                metadata: metadata.as_object().unwrap().clone(),
                timestamp: call_time() - chrono::TimeDelta::seconds(i64::try_from(at).unwrap()),
                ..store.score(&format!("{at}"), "n", value, &call)
            }
        })
        .collect();
    store.put(scores.clone()).await;
    assert_eq!(list(&store, "", Sort::default()).await, scores);
}

fn call_time() -> chrono::DateTime<chrono::Utc> {
    super::at("2026-03-01T00:00:00Z")
}

async fn lists_filter_and_sort(store: Store) {
    let call = store.call("call", "2026-03-01T00:00:00Z");
    let new = |id: &str, name: &str, value| store.score(id, name, value, &call);
    let mut on_session = new("d", "tone", ScoreValue::Categorical("kind".to_owned()));
    (on_session.trace_id, on_session.session) = (None, Some("s".to_owned()));
    let mut said = new("e", "note", ScoreValue::Text("Well done".to_owned()));
    said.metadata.insert("judge".to_owned(), "gpt".into());
    let scores = vec![
        new("a", "good", ScoreValue::Numeric(0.2)),
        new("b", "good", ScoreValue::Numeric(0.9)),
        new("c", "thumbs", ScoreValue::Boolean(true)),
        on_session,
        said,
    ];
    store.put(scores).await;
    let trace = format!("trace:{}", call.trace_id);
    let cases: [(&str, &[&str]); 11] = [
        ("name:good", &["b", "a"]),
        ("value:>0.5", &["c", "b"]),
        ("value:true", &["c"]),
        ("value:0.2", &["a"]),
        ("value:kind", &["d"]),
        ("-value:*", &["e", "d"]),
        ("data_type:numeric,text", &["e", "b", "a"]),
        ("session:s", &["d"]),
        ("metadata.judge:gpt", &["e"]),
        ("\"WELL done\"", &["e"]),
        (&trace, &["e", "c", "b", "a"]),
    ];
    for (filter, expected) in cases {
        // A value that nobody can compare is there all the same.
        let expected: Vec<&str> = if filter == "-value:*" { vec![] } else { expected.to_vec() };
        let found = list(&store, filter, Sort::default()).await;
        assert_eq!(found.iter().map(|score| score.id.as_str()).collect::<Vec<_>>(), expected, "{filter}");
    }
    let by_value = list(&store, "name:good,thumbs", Sort { by: SortBy::Value, descending: false }).await;
    assert_eq!(by_value.iter().map(|score| score.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}
