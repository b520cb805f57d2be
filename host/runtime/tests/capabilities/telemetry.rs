//! Spans under the request's trace, and metrics that can't grow.

use brokle_core::observation::{SpanId, TraceId};
use brokle_runtime::capabilities::telemetry::{TraceParent, Value};
use brokle_testkit::mocks::MockHost;

use crate::harness::{Fixture, everything};

fn parent() -> TraceParent {
    let (trace, span) = (TraceId::from_bytes([7; 16]).unwrap(), SpanId::from_bytes([9; 8]).unwrap());
    TraceParent { trace, span, key: None }
}

#[tokio::test]
async fn spans_are_children_of_the_request_and_end_with_the_instance() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let lines = ["span check colour Jefe-blue timed-out", "leave-span left", "leave-span third"];
    let came = fixture.try_tell(&granted, MockHost::tenant(1), Some(parent()), &lines).await.unwrap();
    assert_eq!(came, ["Ok", "Ok(())", "Err(Error::Quota)"]);
    let spans = fixture.host.spans.all();
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["check", "left"]);
    assert!(spans.iter().all(|span| span.parent == parent() && span.plugin == "test.capable 0.1.0"));
    // The secret "Jefe" isn't in it.
    assert_eq!(spans[0].attributes["colour"], "[redacted]-blue");
    assert_eq!(spans[0].attributes["first"], "1");
    assert_eq!(spans[0].failure.as_deref(), Some("timed-out"));
}

#[tokio::test]
async fn metrics_are_those_of_the_manifest_and_their_series_are_bounded() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    for outcome in ["good", "bad", "good", "odd", "new-1", "new-2"] {
        let came = fixture.tell(&granted, &format!("add calls 2 outcome {outcome}")).await;
        assert_eq!(came, "Ok(())");
    }
    assert!(fixture.tell(&granted, "observe seconds 0.02").await.starts_with("Ok"));
    let shown: Vec<_> = granted
        .metrics
        .snapshot()
        .into_iter()
        .filter(|series| series.metric == "calls")
        .map(|series| (series.labels[0].clone(), series.value))
        .collect();
    // Three series, and one for what is over: nothing is lost from the sum.
    assert_eq!(
        shown,
        [
            ("_other".to_owned(), Value::Counter(4)),
            ("bad".to_owned(), Value::Counter(2)),
            ("good".to_owned(), Value::Counter(4)),
            ("odd".to_owned(), Value::Counter(2)),
        ]
    );
    let histogram = granted.metrics.snapshot().into_iter().find(|series| series.metric == "seconds").unwrap();
    let Value::Histogram { count, buckets, .. } = histogram.value else { panic!("{histogram:?}") };
    assert_eq!((count, buckets[3], buckets[4]), (1, 0, 1));
    for words in [
        "add unknown 1 outcome good",
        "add calls 1 colour good",
        "add seconds 1 outcome good",
        "observe calls 1",
    ] {
        assert!(fixture.tell(&granted, words).await.contains("Undeclared"), "{words}");
    }
    assert!(fixture.tell(&granted, "observe seconds NaN").await.contains("no number"));
}
