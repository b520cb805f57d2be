//! Log records and metrics' points.

use brokle_core::observation::TraceId;
use brokle_core::random::SystemRandom;
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_storage::observations::signal::{LogsQuery, PointsQuery};
use brokle_storage::observations::{AnalyticsError, Inserted};
use serde_json::json;

use super::{Store, at, on_every_store};

on_every_store!(
    logs_are_stored_once_and_come_back_as_they_were,
    logs_are_narrowed_and_paged,
    points_and_series_come_back,
    another_project_has_neither,
    what_no_store_keeps_is_refused_alone
);

pub(super) fn log(store: &Store, id: u128, time: &str) -> LogRecord {
    let time_us = at(time).timestamp_micros();
    LogRecord {
        id,
        tenant: store.tenant,
        time_us,
        observed_us: time_us + 5,
        trace_id: None,
        span_id: None,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        event_name: String::new(),
        body: format!("record {id}"),
        service: "shop".to_owned(),
        attributes: Default::default(),
        resource: [("service.name".to_owned(), json!("shop"))].into(),
        scope: "lib".to_owned(),
    }
}

pub(super) fn point(store: &Store, name: &str, series: i64, time: &str, value: f64) -> MetricPoint {
    MetricPoint {
        tenant: store.tenant,
        name: name.to_owned(),
        description: "What it is".to_owned(),
        unit: "s".to_owned(),
        kind: "gauge".to_owned(),
        temporality: String::new(),
        is_monotonic: false,
        series,
        start_us: 0,
        time_us: at(time).timestamp_micros(),
        value: Some(value),
        count: 0,
        sum: 0.0,
        min: None,
        max: None,
        bucket_bounds: Vec::new(),
        bucket_counts: Vec::new(),
        attributes: [("host".to_owned(), json!(series.to_string()))].into(),
        resource: Default::default(),
        scope: String::new(),
    }
}

pub(super) fn logs_of_year() -> LogsQuery {
    LogsQuery {
        from: at("2026-01-01T00:00:00Z"),
        to: at("2027-01-01T00:00:00Z"),
        min_severity: None,
        trace_id: None,
        span_id: None,
        service: None,
        event_name: None,
        text: None,
        limit: 100,
        after: None,
    }
}

pub(super) fn points_of_year() -> PointsQuery {
    PointsQuery {
        from: at("2026-01-01T00:00:00Z"),
        to: at("2027-01-01T00:00:00Z"),
        name: None,
        series: None,
        limit: 100,
        after: None,
    }
}

async fn bodies(store: &Store, query: LogsQuery) -> Vec<String> {
    let page = store.store.logs(store.tenant.project, query).await.unwrap();
    page.data.into_iter().map(|row| row.body).collect()
}

async fn logs_are_stored_once_and_come_back_as_they_were(store: Store) {
    let full = LogRecord {
        id: u128::MAX,
        trace_id: Some(TraceId::generate(&SystemRandom)),
        span_id: "00f067aa0ba902b7".parse().ok(),
        severity_number: 24,
        event_name: "device.crash".to_owned(),
        body: "quotes \" and \u{1f980}".to_owned(),
        attributes: [("list".to_owned(), json!([1, null, "x"])), ("flag".to_owned(), json!(true))].into(),
        ..log(&store, 0, "2026-02-28T23:59:59.999999Z")
    };
    let mut inserted = Inserted::default();
    for _ in 0..2 {
        store
            .store
            .insert_logs(&[full.clone(), log(&store, 2, "2026-03-01T00:00:00Z")], &mut inserted)
            .unwrap();
    }
    let page = store.store.logs(store.tenant.project, logs_of_year()).await.unwrap();
    assert_eq!(page.data.len(), 2);
    assert_eq!(page.data[1], full.into());
    assert!(page.next_cursor.is_none());
}

async fn logs_are_narrowed_and_paged(store: Store) {
    let trace = TraceId::generate(&SystemRandom);
    let mut rows: Vec<_> = (0..30).map(|n| log(&store, n, "2026-03-01T12:00:00Z")).collect();
    rows.extend((30..60).map(|n| log(&store, n, "2026-02-01T12:00:00Z")));
    rows[3] = LogRecord { severity_number: 17, body: "Out of MEMORY".to_owned(), ..rows[3].clone() };
    rows[4] =
        LogRecord { trace_id: Some(trace), span_id: "00f067aa0ba902b7".parse().ok(), ..rows[4].clone() };
    rows[5].resource.insert("service.name".to_owned(), json!("other \"one\""));
    rows[5].service = "other \"one\"".to_owned();
    rows[6].event_name = "device.crash".to_owned();
    store.store.insert_logs(&rows, &mut Inserted::default()).unwrap();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = LogsQuery { limit: 7, after, ..logs_of_year() };
        let page = store.store.logs(store.tenant.project, query).await.unwrap();
        assert!(page.data.len() <= 7);
        seen.extend(page.data.iter().map(|row| (row.time, row.id.clone())));
        after = page.next_cursor.map(|place| place.to_string().parse().unwrap());
        if after.is_none() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    sorted.reverse();
    assert_eq!((seen.len(), &seen), (60, &sorted), "each once, the newest first");

    let year = logs_of_year;
    let cases = [
        (LogsQuery { min_severity: Some(13), ..year() }, "Out of MEMORY"),
        (LogsQuery { text: Some("of memory".to_owned()), ..year() }, "Out of MEMORY"),
        (LogsQuery { trace_id: Some(trace), ..year() }, "record 4"),
        (LogsQuery { span_id: "00f067aa0ba902b7".parse().ok(), ..year() }, "record 4"),
        (LogsQuery { service: Some("other \"one\"".to_owned()), ..year() }, "record 5"),
        (LogsQuery { event_name: Some("device.crash".to_owned()), ..year() }, "record 6"),
    ];
    for (query, body) in cases {
        assert_eq!(bodies(&store, query.clone()).await, [body], "{query:?}");
    }
    let february = LogsQuery { to: at("2026-03-01T00:00:00Z"), ..year() };
    assert_eq!(bodies(&store, february).await.len(), 30);
    assert_eq!(bodies(&store, LogsQuery { text: Some("%' OR 1=1".to_owned()), ..year() }).await, [""; 0]);
}

async fn points_and_series_come_back(store: Store) {
    let histogram = MetricPoint {
        kind: "histogram".to_owned(),
        temporality: "delta".to_owned(),
        is_monotonic: true,
        start_us: at("2026-03-01T11:00:00Z").timestamp_micros(),
        value: None,
        count: 3,
        sum: 4.5,
        min: Some(0.1),
        max: Some(-0.0),
        bucket_bounds: vec![-1.5, 0.1],
        bucket_counts: vec![1, 0, 2],
        resource: [("service.name".to_owned(), json!("shop"))].into(),
        scope: "lib".to_owned(),
        ..point(&store, "latency", i64::MAX, "2026-03-01T12:00:00Z", 0.0)
    };
    let mut rows = vec![histogram.clone()];
    for month in ["01", "02", "03"] {
        for series in [7, 8] {
            rows.push(point(
                &store,
                "load",
                series,
                &format!("2026-{month}-15T00:00:00Z"),
                f64::from(series as i32),
            ));
        }
    }
    for _ in 0..2 {
        store.store.insert_points(&rows, &mut Inserted::default()).unwrap();
    }
    // The same series and time, with another value: the first one stays, or the last one, but there is one.
    let project = store.tenant.project;
    let all = store.store.points(project, points_of_year()).await.unwrap().data;
    assert_eq!(all.len(), 7);
    assert_eq!(all.iter().find(|row| row.name == "latency"), Some(&histogram.into()));

    let query = PointsQuery { name: Some("load".to_owned()), series: Some(8), limit: 2, ..points_of_year() };
    let first = store.store.points(project, query.clone()).await.unwrap();
    let rest = store.store.points(project, PointsQuery { after: first.next_cursor, ..query }).await.unwrap();
    let times: Vec<_> = first.data.iter().chain(&rest.data).map(|row| row.time.to_rfc3339()).collect();
    assert_eq!(times.len(), 3);
    assert!(times[0] > times[1] && times[1] > times[2] && rest.next_cursor.is_none());

    let query = PointsQuery { limit: 2, ..points_of_year() };
    let first = store.store.series(project, query.clone()).await.unwrap();
    let names = |rows: &[brokle_storage::observations::signal::SeriesRow]| -> Vec<_> {
        rows.iter()
            .map(|row| format!("{} {} {}", row.latest.name, row.points, row.latest.time.date_naive()))
            .collect()
    };
    assert_eq!(names(&first.data), ["latency 1 2026-03-01", "load 3 2026-03-15"]);
    let rest = store.store.series(project, PointsQuery { after: first.next_cursor, ..query }).await.unwrap();
    assert_eq!(names(&rest.data), ["load 3 2026-03-15"]);
    assert_eq!(
        (rest.data[0].latest.series.as_str(), rest.data[0].latest.value),
        ("0000000000000008", Some(8.0))
    );
    assert!(rest.next_cursor.is_none());
}

async fn another_project_has_neither(store: Store) {
    let time = "2026-03-01T12:00:00Z";
    store.store.insert_logs(&[log(&store, 1, time)], &mut Inserted::default()).unwrap();
    store.store.insert_points(&[point(&store, "load", 1, time, 1.0)], &mut Inserted::default()).unwrap();
    let other = super::super::tenant().project;
    assert!(store.store.logs(other, logs_of_year()).await.unwrap().data.is_empty());
    assert!(store.store.points(other, points_of_year()).await.unwrap().data.is_empty());
    assert!(store.store.series(other, points_of_year()).await.unwrap().data.is_empty());
}

async fn what_no_store_keeps_is_refused_alone(store: Store) {
    let bad = LogRecord { time_us: i64::MAX, ..log(&store, 1, "2026-03-01T12:00:00Z") };
    let refused = store.store.insert_logs(&[bad], &mut Inserted::default());
    assert!(matches!(refused, Err(AnalyticsError::Rejected(_))), "{refused:?}");
    let bad = MetricPoint { time_us: i64::MAX, ..point(&store, "load", 1, "2026-03-01T12:00:00Z", 1.0) };
    let refused = store.store.insert_points(&[bad], &mut Inserted::default());
    assert!(matches!(refused, Err(AnalyticsError::Rejected(_))), "{refused:?}");
}
