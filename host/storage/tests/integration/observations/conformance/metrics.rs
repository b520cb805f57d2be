//! Numbers that agree with the rows.

use brokle_core::money::Usd;
use brokle_core::observation::{Kind, Observation, Status, Step};
use brokle_core::usage::Usage;
use brokle_storage::observations::ScoreValue;
use brokle_storage::observations::query::metrics::{
    Bucket, Counter, Dimension, Measure, Measured, Metrics, MetricsQuery, Quantity, Statistic,
};

use super::{Store, at, on_every_store, parse};

on_every_store!(
    percentiles_are_those_of_the_rows,
    percentiles_of_many_rows_are_off_by_half_a_percent_at_most,
    sums_agree_with_the_rows_by_every_way,
    kept_sums_stay_right_whatever_comes_again_or_late,
    tags_count_in_each_of_their_groups,
    scores_count_once_in_a_group,
    attempts_and_cache_are_told,
    nothing_is_null_and_zero,
);

fn query(measures: &[&str], dimensions: &[Dimension], bucket: Option<Bucket>) -> MetricsQuery {
    MetricsQuery {
        filter: parse(""),
        from: at("2026-01-01T00:00:00Z"),
        to: at("2027-01-01T00:00:00Z"),
        measures: measures
            .iter()
            .map(|name| name.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
            .collect(),
        dimensions: dimensions.to_vec(),
        bucket,
    }
}

async fn ask(store: &Store, query: MetricsQuery) -> Metrics {
    store.store.metrics(store.tenant.project, query).await.unwrap()
}

/// Rows that look random, over the end of a month.
fn rows(store: &Store) -> Vec<Observation> {
    so_many(store, 1_500)
}

fn so_many(store: &Store, rows: usize) -> Vec<Observation> {
    let mut state = 7_u64;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..rows)
        .map(|n| {
            let minute = 60_000_000 * i64::try_from(next(4 * 24 * 60)).unwrap();
            let call = store.call(&format!("{n}"), "2026-01-30T00:00:00Z");
            let duration_us = 1_000 + next(3_000) * next(3_000);
            Observation {
                start_us: call.start_us + minute,
                duration_us,
                first_token_us: (next(3) > 0).then_some(duration_us / 3),
                kind: [Kind::Generation, Kind::Tool, Kind::Embedding][next(3) as usize],
                model_served: [None, Some("a".into()), Some("b".into())][next(3) as usize].clone(),
                provider: Some("p".into()),
                status: if next(10) == 0 { Status::Error } else { Status::Ok },
                usage: (next(4) > 0).then(|| Usage {
                    input: next(900),
                    output: next(90),
                    ..Usage::default()
                }),
                cost: (next(3) > 0).then(|| format!("0.000{}", next(9_999)).parse().unwrap()),
                ..call
            }
        })
        .collect()
}

/// The textbook's percentile, worked out apart from the store: the value at `(n - 1) * rank`, between its neighbors.
fn percentile(mut values: Vec<f64>, rank: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() - 1) as f64 * rank;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    low + (high - low) * (place - place.floor())
}

fn close(one: &Measured, other: f64) -> bool {
    matches!(one, Measured::Number(number) if (number - other).abs() <= other.abs() * 1e-9)
}

async fn percentiles_are_those_of_the_rows(store: Store) {
    let rows = rows(&store);
    store.insert(&rows);
    let measures = [
        "latency_p50",
        "latency_p75",
        "latency_p90",
        "latency_p95",
        "latency_p99",
        "latency_min",
        "latency_max",
        "ttft_p95",
    ];
    let found = ask(&store, query(&measures, &[Dimension::Model], None)).await;
    assert!(!found.from_rollups);
    assert_eq!(found.cells.len(), 3);
    for cell in &found.cells {
        let model = cell.dimensions[0].as_deref();
        let of_model = || rows.iter().filter(|row| row.model_served.as_deref() == model);
        let latencies = || of_model().map(|row| row.duration_us as f64 / 1e3).collect::<Vec<_>>();
        let first =
            of_model().filter_map(|row| row.first_token_us).map(|micros| micros as f64 / 1e3).collect();
        for (at, rank) in [0.5, 0.75, 0.9, 0.95, 0.99, 0.0, 1.0].into_iter().enumerate() {
            let expected = percentile(latencies(), rank);
            assert!(close(&cell.values[at], expected), "{}: {:?}, {expected}", measures[at], cell.values[at]);
        }
        assert!(close(&cell.values[7], percentile(first, 0.95)));
    }
}

async fn percentiles_of_many_rows_are_off_by_half_a_percent_at_most(store: Store) {
    let rows = so_many(&store, 25_000);
    for some in rows.chunks(3_000) {
        store.insert(some);
    }
    store.store.sum_up().await.unwrap();
    let (from, to) = (at("2026-01-30T07:12:34Z"), at("2026-02-03T12:00:00Z"));
    let asked =
        query(&["count", "latency_p50", "latency_p99", "ttft_p95", "latency_avg"], &[Dimension::Model], None);
    let found = ask(&store, MetricsQuery { from, to, ..asked }).await;
    assert!(found.from_rollups);
    assert_eq!(found.cells.len(), 3);
    let off = |measured: &Measured, expected: f64| match measured {
        Measured::Number(number) => (number - expected).abs() / expected,
        _ => f64::INFINITY,
    };
    for cell in &found.cells {
        let is_asked = |row: &&Observation| {
            row.model_served.as_deref() == cell.dimensions[0].as_deref()
                && row.start_us >= from.timestamp_micros()
        };
        let asked: Vec<&Observation> = rows.iter().filter(is_asked).collect();
        let latencies: Vec<f64> = asked.iter().map(|row| row.duration_us as f64 / 1e3).collect();
        let first =
            asked.iter().filter_map(|row| row.first_token_us).map(|micros| micros as f64 / 1e3).collect();
        let average = latencies.iter().sum::<f64>() / latencies.len() as f64;
        assert_eq!(cell.values[0], Measured::Count(asked.len() as u64));
        assert!(off(&cell.values[1], percentile(latencies.clone(), 0.5)) <= 0.005_001, "{cell:?}");
        assert!(off(&cell.values[2], percentile(latencies, 0.99)) <= 0.005_001, "{cell:?}");
        assert!(off(&cell.values[3], percentile(first, 0.95)) <= 0.005_001, "{cell:?}");
        assert!(off(&cell.values[4], average) <= 1e-9, "{cell:?}");
    }
}

async fn sums_agree_with_the_rows_by_every_way(store: Store) {
    let rows = rows(&store);
    store.insert(&rows);
    store.store.sum_up().await.unwrap();
    let measures = [
        "count",
        "errors",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cost",
        "generations",
        "latency_avg",
        "ttft_avg",
    ];
    let dimensions = [Dimension::Model, Dimension::Type];
    for bucket in [None, Some(Bucket::Hour), Some(Bucket::Day), Some(Bucket::Week), Some(Bucket::Month)] {
        // Ends in the middle of hours: these come from rows, what is between from the hourly sums.
        let (from, to) = (at("2026-01-30T07:12:34Z"), at("2026-02-02T19:45:00.000001Z"));
        let summed = MetricsQuery { from, to, ..query(&measures, &dimensions, bucket) };
        // A filter that everything passes makes it read rows.
        let read = MetricsQuery { filter: parse("provider:p"), ..summed.clone() };
        let (summed, read) = (ask(&store, summed).await, ask(&store, read).await);
        assert!(summed.from_rollups && !read.from_rollups);
        assert_eq!(summed.cells.len(), read.cells.len());
        for (one, other) in summed.cells.iter().zip(&read.cells) {
            assert_eq!((one.bucket, &one.dimensions), (other.bucket, &other.dimensions));
            assert_eq!(one.values[..7], other.values[..7], "{bucket:?}");
            for at in [7, 8] {
                match &other.values[at] {
                    Measured::Number(number) => assert!(close(&one.values[at], *number)),
                    nothing => assert_eq!(&one.values[at], nothing),
                }
            }
        }

        for cell in &read.cells {
            let of_cell = rows.iter().filter(|row| {
                let start = chrono::DateTime::from_timestamp_micros(row.start_us).unwrap();
                let kind = cell.dimensions[1].as_deref() == Some(row.kind.as_str());
                let begin = bucket.map(|bucket| bucket.begin(start));
                let model = cell.dimensions[0].as_deref() == row.model_served.as_deref();
                kind && model && begin == cell.bucket && start >= from && start < to
            });
            let of_cell: Vec<_> = of_cell.collect();
            let sum = |of: fn(&Usage) -> u64| {
                of_cell.iter().filter_map(|row| row.usage.as_ref()).map(of).sum::<u64>()
            };
            let count = |count: usize| Measured::Count(count as u64);
            let expected = [
                count(of_cell.len()),
                count(of_cell.iter().filter(|row| row.status != Status::Ok).count()),
                Measured::Count(sum(|usage| usage.input)),
                Measured::Count(sum(|usage| usage.output)),
                Measured::Count(sum(Usage::total)),
                Measured::Money(of_cell.iter().filter_map(|row| row.cost).sum::<Usd>()),
                count(of_cell.iter().filter(|row| row.kind == Kind::Generation).count()),
            ];
            assert_eq!(cell.values[..7], expected, "{:?} {:?}", cell.bucket, cell.dimensions);
        }
    }
}

async fn kept_sums_stay_right_whatever_comes_again_or_late(store: Store) {
    let rows = rows(&store);
    let (early, late) = rows.split_at(1_000);
    store.insert(early);
    store.store.sum_up().await.unwrap();
    let measures = ["count", "errors", "total_tokens", "cost", "latency_avg"];
    let same = async |what: &str| {
        let summed = query(&measures, &[Dimension::Model], Some(Bucket::Day));
        let read = MetricsQuery { filter: parse("provider:p"), ..summed.clone() };
        let (summed, read) = (ask(&store, summed).await, ask(&store, read).await);
        assert!(summed.from_rollups && !read.from_rollups, "{what}");
        assert_eq!(summed.cells.len(), read.cells.len(), "{what}");
        for (one, other) in summed.cells.iter().zip(&read.cells) {
            assert_eq!((one.bucket, &one.dimensions), (other.bucket, &other.dimensions), "{what}");
            assert_eq!(one.values[..4], other.values[..4], "{what}");
            let Measured::Number(average) = other.values[4] else { panic!("{other:?}") };
            assert!(close(&one.values[4], average), "{what}");
        }
        read.cells.iter().map(|cell| cell.values[0].clone()).collect::<Vec<_>>()
    };
    let first = same("summed up").await;
    assert_eq!(store.deliver(early).rows, 0);
    assert_eq!(same("comes again").await, first);
    // Into hours that are summed up, and the same again.
    store.insert(late);
    let all = same("some are late").await;
    assert_ne!(all, first);
    store.store.sum_up().await.unwrap();
    store.deliver(&rows);
    assert_eq!(same("summed up with them").await, all);
    store.store.sum_up().await.unwrap();
    assert_eq!(same("summed up twice").await, all);
    let (project, day) = (store.tenant.project, at("2026-01-31T00:00:00Z")..at("2026-02-01T00:00:00Z"));
    store.store.expire(project, day.clone(), false).await.unwrap();
    assert_eq!(same("a day is deleted").await.len(), all.len() - 3);
    store.store.sum_up().await.unwrap();
    assert_eq!(same("and summed up").await.len(), all.len() - 3);
}

async fn tags_count_in_each_of_their_groups(store: Store) {
    let tagged = |tags: &[&str]| Observation {
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
        user: Some("u".into()),
        session: Some("s".into()),
        ..store.call("call", "2026-03-01T00:00:00Z")
    };
    store.insert(&[tagged(&["a", "b"]), tagged(&["b"]), tagged(&[])]);
    let dimensions = [Dimension::Tag, Dimension::User, Dimension::Session];
    let found = ask(&store, query(&["count", "users", "sessions", "traces"], &dimensions, None)).await;
    let groups: Vec<_> =
        found.cells.iter().map(|cell| (cell.dimensions[0].as_deref(), cell.values.clone())).collect();
    let counts = |traces| {
        vec![Measured::Count(traces), Measured::Count(1), Measured::Count(1), Measured::Count(traces)]
    };
    assert_eq!(groups, [(None, counts(1)), (Some("a"), counts(1)), (Some("b"), counts(2))]);
}

async fn scores_count_once_in_a_group(store: Store) {
    let one = Observation { model_served: Some("a".into()), ..store.call("one", "2026-03-01T00:00:00Z") };
    let child = Observation { trace_id: one.trace_id, ..store.call("child", "2026-03-01T00:00:01Z") };
    let two = Observation {
        model_served: Some("a".into()),
        session: Some("s".into()),
        ..store.call("two", "2026-03-02T00:00:00Z")
    };
    store.insert(&[one.clone(), child.clone(), two.clone()]);
    let mut on_child = store.score("3", "good", ScoreValue::Numeric(0.1), &child);
    on_child.span_id = Some(child.span_id);
    let mut on_session = store.score("4", "thumbs", ScoreValue::Boolean(true), &two);
    (on_session.trace_id, on_session.session) = (None, Some("s".to_owned()));
    store
        .put(vec![
            store.score("1", "good", ScoreValue::Numeric(0.5), &one),
            store.score("2", "good", ScoreValue::Numeric(0.9), &two),
            on_child,
            on_session,
            store.score("5", "thumbs", ScoreValue::Boolean(false), &two),
            store.score("6", "else", ScoreValue::Numeric(100.0), &two),
        ])
        .await;
    let measures = ["scores.good.count", "scores.good.avg", "scores.good.max", "scores.thumbs.true_rate"];
    let all = ask(&store, query(&measures, &[], None)).await;
    // The first trace's score belongs to both of its observations.
    assert_eq!(all.cells[0].values[0], Measured::Count(3));
    assert!(close(&all.cells[0].values[1], 0.5) && close(&all.cells[0].values[2], 0.9));
    assert_eq!(all.cells[0].values[3], Measured::Number(0.5));
    let by_model = ask(&store, query(&measures, &[Dimension::Model], None)).await;
    let of_a = by_model.cells.iter().find(|cell| cell.dimensions[0].as_deref() == Some("a")).unwrap();
    assert_eq!(of_a.values[0], Measured::Count(2));
    assert!(close(&of_a.values[1], 0.7));
}

async fn attempts_and_cache_are_told(store: Store) {
    let attempt = |duration_us| Step {
        span_id: brokle_core::observation::SpanId::generate(&brokle_core::random::SystemRandom),
        parent_span_id: None,
        kind: Kind::Attempt,
        name: "openai/x".into(),
        offset_us: 0,
        duration_us,
        status: Status::Ok,
        http_status: None,
        provider: None,
        connection: None,
        model: None,
        error_class: None,
        error_message: None,
        attributes: std::collections::BTreeMap::new(),
    };
    let status = |text: &str| [("brokle.cache.status".to_owned(), text.into())].into();
    store.insert(&[
        Observation {
            duration_us: 10_000,
            steps: vec![attempt(3_000), Step { kind: Kind::Plugin, ..attempt(500) }, attempt(6_000)],
            attributes: status("miss"),
            ..store.call("retried", "2026-03-01T00:00:00Z")
        },
        Observation { attributes: status("hit"), ..store.call("cached", "2026-03-01T00:00:00Z") },
        store.call("plain", "2026-03-01T00:00:00Z"),
    ]);
    let measures = ["attempts", "retries", "gateway_overhead_avg", "cache_hits", "cache_hit_rate"];
    let found = ask(&store, query(&measures, &[], None)).await;
    let number = Measured::Number;
    let expected = [Measured::Count(2), Measured::Count(1), number(1.0), Measured::Count(1), number(0.5)];
    assert_eq!(found.cells[0].values, expected);
}

async fn nothing_is_null_and_zero(store: Store) {
    let every: Vec<Measure> = Counter::ALL
        .iter()
        .map(|counter| Measure::Counter(*counter))
        .chain(Quantity::ALL.iter().map(|quantity| Measure::Of(*quantity, Statistic::P95)))
        .collect();
    for measure in &every {
        assert_eq!(measure.to_string().parse().as_ref(), Ok(measure));
    }
    let empty = ask(&store, MetricsQuery { measures: every.clone(), ..query(&[], &[], None) }).await;
    for (measure, value) in every.iter().zip(&empty.cells[0].values) {
        let name = measure.to_string();
        match value {
            Measured::Count(count) => assert_eq!(*count, 0, "{name}"),
            Measured::Money(cost) => assert_eq!(*cost, Usd::ZERO, "{name}"),
            Measured::Nothing => {}
            Measured::Number(number) => panic!("{name}: {number}"),
        }
    }
    let grouped = ask(&store, query(&["count"], &[Dimension::Model], Some(Bucket::Minute))).await;
    assert_eq!(grouped.cells, []);
}

/// Rows with everything that is measured, and scores on some of them.
fn rich_rows(store: &Store) -> Vec<Observation> {
    let finish = ["stop", "length", "content_filter"];
    let statuses = [Status::Ok, Status::Error, Status::Aborted, Status::Timeout];
    let plain = rows(store).into_iter().take(300);
    let rich = plain.enumerate().map(|(n, row)| Observation {
        status: statuses[n % 4],
        http_status: [None, Some(200), Some(429)][n % 3],
        finish_reason: [None, Some(finish[n % 3].into())][n % 2].clone(),
        error_class: (n % 4 == 1).then(|| "upstream_5xx".into()),
        streaming: n % 2 == 0,
        user: (n % 5 > 0).then(|| format!("user {}", n % 5).into()),
        session: (n % 7 > 0).then(|| format!("session {}", n % 7).into()),
        tags: (0..n % 3).map(|tag| format!("tag {tag}").into()).collect(),
        operation: ["", "chat"][n % 2].into(),
        model_requested: Some("smart".into()),
        connection: (n % 2 == 0).then(|| "c".into()),
        // Clients say more than is true, too.
        first_token_us: row.first_token_us.map(|first| if n % 11 == 0 { first * 100 } else { first }),
        usage: row.usage.map(|usage| Usage {
            cached_read: usage.input / 2,
            cache_write: usage.input / 3,
            reasoning: usage.output / 2,
            audio_input: 3,
            image_output: 4,
            ..usage
        }),
        attributes: [("brokle.cache.status".to_owned(), ["hit", "miss", "off"][n % 3].into())].into(),
        ..row
    });
    rich.collect()
}

#[tokio::test]
async fn both_stores_tell_the_same_numbers() {
    let Some(clickhouse) = Store::clickhouse().await else { return };
    let sqlite = Store::sqlite(Default::default());
    let rows = rich_rows(&sqlite);
    let scores: Vec<_> = rows
        .iter()
        .step_by(3)
        .enumerate()
        .map(|(n, row)| {
            let value = if n % 2 == 0 {
                ScoreValue::Numeric(n as f64 / 7.0)
            } else {
                ScoreValue::Boolean(n % 3 == 0)
            };
            let mut score = sqlite.score(&format!("{n}"), "good", value, row);
            match (&row.session, n % 4) {
                (Some(session), 0) => (score.trace_id, score.session) = (None, Some(session.to_string())),
                (_, 1) => score.span_id = Some(row.span_id),
                _ => {}
            }
            score
        })
        .collect();
    let project = sqlite.tenant.project;
    for store in [&sqlite, &clickhouse] {
        store.insert(&rows);
        store.store.put_scores(project, scores.clone()).await.unwrap();
    }
    let statistics =
        [Statistic::Average, Statistic::Minimum, Statistic::Maximum, Statistic::P50, Statistic::P99];
    let mut measures: Vec<Measure> = Counter::ALL.iter().map(|counter| Measure::Counter(*counter)).collect();
    for quantity in Quantity::ALL {
        measures.extend(statistics.iter().map(|statistic| Measure::Of(*quantity, *statistic)));
    }
    for statistic in ["count", "avg", "min", "max", "p50", "p90", "p95", "true_rate"] {
        measures.push(format!("scores.good.{statistic}").parse().unwrap());
    }
    let mut compared = 0;
    for (at, dimension) in Dimension::ALL.iter().enumerate() {
        let bucket = Bucket::ALL[at % Bucket::ALL.len()];
        for filter in ["provider:p", "-tag:\"tag 1\" scores.good:*"] {
            let question = MetricsQuery {
                filter: parse(filter),
                measures: measures.clone(),
                ..query(&[], &[*dimension], Some(bucket))
            };
            let one = sqlite.store.metrics(project, question.clone()).await.unwrap().cells;
            let other = clickhouse.store.metrics(project, question).await.unwrap().cells;
            assert_eq!(one.len(), other.len(), "{dimension:?} {bucket:?}");
            for (one, other) in one.iter().zip(&other) {
                assert_eq!((one.bucket, &one.dimensions), (other.bucket, &other.dimensions));
                for ((measure, mine), theirs) in measures.iter().zip(&one.values).zip(&other.values) {
                    let same = match theirs {
                        Measured::Number(number) => close(mine, *number),
                        theirs => mine == theirs,
                    };
                    assert!(same, "{measure} of {:?} {:?}: {mine:?}, {theirs:?}", one.bucket, one.dimensions);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}
