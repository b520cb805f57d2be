//! Inserting: once, with exact sums; what is refused and what waits; retention.

use brokle_core::observation::{Observation, Status};
use brokle_core::usage::Usage;
use brokle_storage::observations::{AnalyticsError, Inserted, Month, Rollup, TraceFilter};

use super::conformance::{Store, on_every_store};
use super::names;

on_every_store!(
    sums_are_by_hour_and_model_and_a_second_delivery_changes_none,
    what_is_there_already_is_found_among_many,
    each_of_many_has_its_own_bodies,
    a_row_without_a_month_is_refused,
    retention_deletes_whole_months_and_readers_notice,
);

/// 300 KiB of bodies at once, some of rows that are there already.
async fn each_of_many_has_its_own_bodies(fixture: Store) {
    let body = |number: usize, what: &str| {
        format!(r#"{{"{what}":{number},"text":"{}"}}"#, format!("{number} ").repeat(400))
    };
    let whole = |number: usize| Observation {
        input: Some(body(number, "input").into()),
        output: (!number.is_multiple_of(3)).then(|| body(number, "output").into()),
        ..fixture.call("call", "2026-03-31T23:59:59Z")
    };
    let mut calls: Vec<_> = (0..100).map(whole).collect();
    calls[7] = Observation { input: None, output: None, ..calls[7].clone() };
    assert_eq!(fixture.deliver(&calls[40..45]), Inserted { rows: 5, duplicates: 0 });
    assert_eq!(fixture.deliver(&calls), Inserted { rows: 95, duplicates: 5 });
    for (number, call) in calls.iter().enumerate() {
        let trace = fixture.store.trace(fixture.tenant.project, call.trace_id).await.unwrap().unwrap();
        let [stored] = &trace.observations[..] else { panic!("{number}: {trace:?}") };
        let has = [&stored.input, &stored.output].map(|body| body.as_ref().map(|body| body.get().as_bytes()));
        assert_eq!(has, [call.input.as_deref(), call.output.as_deref()], "{number}");
    }
}

async fn rollups(fixture: &Store) -> Vec<Rollup> {
    let (from, to) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
    fixture.store.rollups(fixture.tenant.project, from, to).await.unwrap()
}

async fn all(fixture: &Store) -> Vec<String> {
    names(&fixture.list(TraceFilter::default(), 100, None).await)
}

fn priced(fixture: &Store, start: &str, model: &str) -> Observation {
    Observation {
        provider: Some("openai".into()),
        model_served: Some(model.into()),
        usage: Some(Usage { input: 10, output: 5, reasoning: 2, ..Usage::default() }),
        cost: "0.1".parse().ok(),
        duration_us: 1_000,
        first_token_us: Some(100),
        ..fixture.call("call", start)
    }
}

async fn sums_are_by_hour_and_model_and_a_second_delivery_changes_none(fixture: Store) {
    let mut batch: Vec<_> = (0..10).map(|_| priced(&fixture, "2026-03-31T23:59:59.999999Z", "a")).collect();
    batch.push(Observation { status: Status::Error, ..priced(&fixture, "2026-04-01T00:00:00Z", "a") });
    batch.push(priced(&fixture, "2026-04-01T00:59:59Z", "b"));
    assert_eq!(fixture.deliver(&batch), Inserted { rows: 12, duplicates: 0 });
    let before = rollups(&fixture).await;

    // Again as a whole, in parts, together with a new one, and twice within a batch.
    assert_eq!(fixture.deliver(&batch), Inserted { rows: 0, duplicates: 12 });
    assert_eq!(fixture.deliver(&batch[3..5]), Inserted { rows: 0, duplicates: 2 });
    assert_eq!(rollups(&fixture).await, before);
    let new = priced(&fixture, "2026-03-31T23:00:00Z", "a");
    let again = [batch[0].clone(), new.clone(), new];
    assert_eq!(fixture.deliver(&again), Inserted { rows: 1, duplicates: 2 });

    let hours = rollups(&fixture).await;
    let shown: Vec<_> = hours
        .iter()
        .map(|hour| {
            let sums = &hour.sums;
            let key = format!("{} {} {}", hour.key.hour.to_rfc3339(), hour.key.provider, hour.key.model);
            (key, sums.count, sums.errors, sums.input, sums.cost.to_string())
        })
        .collect();
    let line =
        |key: &str, count, errors, input, cost: &str| (key.to_owned(), count, errors, input, cost.to_owned());
    assert_eq!(
        shown,
        [
            line("2026-03-31T23:00:00+00:00 openai a", 11, 0, 110, "1.1"),
            line("2026-04-01T00:00:00+00:00 openai a", 1, 1, 10, "0.1"),
            line("2026-04-01T00:00:00+00:00 openai b", 1, 0, 10, "0.1"),
        ]
    );
    let sums = &hours[0].sums;
    assert_eq!((sums.output, sums.reasoning, sums.duration_us), (55, 22, 11_000));
    assert_eq!((sums.first_token_count, sums.first_token_us), (11, 1_100));
    assert_eq!(all(&fixture).await.len(), 13);
}

/// More than a worker stores at once, in more minutes than ClickHouse is asked for in one parameter.
async fn what_is_there_already_is_found_among_many(fixture: Store) {
    let at = |n: u32| format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", n / 1_440 + 1, n / 60 % 24, n % 60, n % 7);
    let rows: Vec<_> = (0..10_007).map(|n| fixture.call("call", &at(n % 1_200))).collect();
    let (every_third, rest): (Vec<_>, Vec<_>) =
        rows.iter().cloned().enumerate().partition(|(n, _)| n % 3 == 0);
    let rows_of = |part: Vec<(usize, Observation)>| part.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
    let (every_third, rest) = (rows_of(every_third), rows_of(rest));
    assert_eq!(fixture.deliver(&every_third), Inserted { rows: 3_336, duplicates: 0 });
    assert_eq!(fixture.deliver(&rows), Inserted { rows: 6_671, duplicates: 3_336 });
    assert_eq!(fixture.deliver(&rest), Inserted { rows: 0, duplicates: 6_671 });
    // The same span's id, and the same time, of another trace.
    let other = Observation { span_id: rows[9].span_id, ..fixture.call("call", &at(9)) };
    assert_eq!(fixture.deliver(&[rows[9].clone(), other]), Inserted { rows: 1, duplicates: 1 });
}

async fn a_row_without_a_month_is_refused(fixture: Store) {
    let late = Observation { start_us: i64::MAX, ..fixture.call("late", "2026-03-01T00:00:00Z") };
    let mut inserted = Inserted::default();
    let answer = fixture.store.insert(&[late], &mut inserted);
    assert!(matches!(answer, Err(AnalyticsError::Rejected(_))), "{answer:?}");
}

async fn retention_deletes_whole_months_and_readers_notice(fixture: Store) {
    let months = ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"];
    let calls = months.map(|start| fixture.call(start, start));
    fixture.deliver(&calls);
    assert_eq!(all(&fixture).await.len(), 3);

    let march = Month::new(2026, 3).unwrap();
    let deleted = fixture.store.retain(march, false).await.unwrap();
    assert_eq!(deleted.months, [Month::new(2026, 1).unwrap(), Month::new(2026, 2).unwrap()]);
    assert_eq!(all(&fixture).await, [months[2]]);
    let gone = fixture.store.trace(fixture.tenant.project, calls[0].trace_id).await.unwrap();
    assert!(gone.is_none());

    // A straggler makes the file anew, and is seen.
    assert_eq!(fixture.deliver(&calls[..1]).rows, 1);
    assert_eq!(all(&fixture).await, [months[2], months[0]]);
}
