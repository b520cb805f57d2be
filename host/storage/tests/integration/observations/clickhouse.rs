//! What only ClickHouse's store has to promise: its migrations, two writers, and a server that goes away.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::ids::RequestId;
use brokle_core::observation::{Kind, Observation, Step};
use brokle_core::random::SystemRandom;
use brokle_storage::observations::clickhouse::{ClickHouse as Database, ClickHouseObservations, Migrator};
use brokle_storage::observations::query::{GroupKind, Limits, Query, QueryStore as _, Sort, SortBy, TooMuch};
use brokle_storage::observations::{AnalyticsError, AnalyticsStore as _, Inserted, TraceFilter};
use brokle_storage::sql::migrate::{MigrateError, Migration, MigrationState};
use brokle_test_services::ClickHouse;
use chrono::DateTime;
use clickhouse::Client;

use super::conformance::{Store, clickhouse_store, client, migrated, parse, year};
use super::tenant;

/// A server's URL for a new database, and a client for it; none when services are left out.
fn database() -> Option<(String, Client)> {
    let url = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}"))?.database_url();
    let client = client(&url);
    Some((url, client))
}

async fn tables(client: &Client) -> Vec<String> {
    let tables =
        client.query("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name");
    tables.fetch_all().await.unwrap()
}

#[tokio::test]
async fn migrations_go_up_and_down_and_say_where_they_stand() {
    let Some((url, client)) = database() else { return };
    let database = Database::new(&url).unwrap();
    let migrator = Migrator::new(&database);
    let before = migrator.info().await.unwrap();
    assert_eq!((before.current, before.pending), (0, before.latest as usize), "also without the database");
    let mut seen = Vec::new();
    assert_eq!(migrator.up(None, true, |step| seen.push(step.version)).await.unwrap(), before.latest);
    assert_eq!(migrator.info().await.unwrap().current, 0, "a dry run does nothing");
    assert_eq!(migrator.up(Some(1), false, |_| {}).await.unwrap(), 1);
    // Two servers that start at once.
    let (one, other) = tokio::join!(migrator.up(None, false, |_| {}), migrator.up(None, false, |_| {}));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert!(migrator.status().await.unwrap().iter().all(|line| line.state == MigrationState::Applied));
    let expected = [
        "blob_storage_file_log",
        "logs",
        "metrics",
        "observation_hours",
        "observation_hours_built",
        "observations",
        "quality_scores",
        "request_logs",
        "routing_decisions",
        "schema_migrations",
        "semantic_vectors",
        "trace_updates",
        "traces",
    ];
    assert_eq!(tables(&client).await, expected);
    assert_eq!(migrator.down(Some(1), false, |_| {}).await.unwrap(), 1);
    assert_eq!(migrator.info().await.unwrap().pending, 1);
    assert_eq!(migrator.down(None, false, |_| {}).await.unwrap(), before.latest - 1);
    assert_eq!(tables(&client).await, ["schema_migrations"]);
    migrator.force(2).await.unwrap();
    assert_eq!(migrator.info().await.unwrap().current, 2);
    assert!(matches!(migrator.force(99).await, Err(MigrateError::NoSuchVersion(99))));
}

#[tokio::test]
async fn a_migration_that_breaks_off_is_dirty_and_runs_again() {
    let Some((url, client)) = database() else { return };
    let database = Database::new(&url).unwrap();
    let new = |up| [Migration { version: 1, name: "two", up, down: "DROP TABLE IF EXISTS one;\n" }];
    let broken = new("CREATE TABLE IF NOT EXISTS one (a Int8) ENGINE = Memory;\nCREATE NONSENSE;\n");
    let migrator = Migrator::with_migrations(&database, &broken);
    let error = migrator.up(None, false, |_| {}).await.unwrap_err();
    assert!(matches!(error, MigrateError::BrokenOff { version: 1, .. }), "{error}");
    assert_eq!(migrator.status().await.unwrap()[0].state, MigrationState::Dirty);
    let mended = new("CREATE TABLE IF NOT EXISTS one (a Int8) ENGINE = Memory;\n");
    let mended = Migrator::with_migrations(&database, &mended);
    assert_eq!(mended.up(None, false, |_| {}).await.unwrap(), 1);
    assert_eq!(mended.status().await.unwrap()[0].state, MigrationState::Applied);
    assert_eq!(tables(&client).await, ["one", "schema_migrations"]);
    // Its file isn't the one that ran.
    assert!(matches!(migrator.up(None, false, |_| {}).await, Err(MigrateError::Changed { version: 1, .. })));
}

/// From the order of minutes to that of time, again after a try that broke off when rows had just come in, and back.
#[tokio::test]
async fn observations_are_copied_into_the_order_of_their_time_and_none_is_left_behind() {
    let Some((url, client)) = database() else { return };
    let database = Database::new(&url).unwrap();
    let migrator = Migrator::new(&database);
    migrator.up(Some(11), false, |_| {}).await.unwrap();
    let store = ClickHouseObservations::new(database.clone(), Arc::new(SystemClock)).unwrap();
    let calls = Store::sqlite(Limits::default());
    let rows: Vec<_> =
        (0..30).map(|n| calls.call(&format!("{n:02}"), &format!("2026-03-01T00:{n:02}:30Z"))).collect();
    assert_eq!(insert(&store, &rows).rows, 30);
    let key = async || {
        let key = "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = 'observations'";
        client.query(key).fetch_one::<String>().await.unwrap()
    };
    let listed = async || {
        let page = store.list(calls.tenant.project, TraceFilter::default(), 50, None).await.unwrap();
        let mut names = super::names(&page);
        names.sort();
        names
    };
    let mut expected: Vec<_> = rows.iter().map(|row| row.name.to_string()).collect();
    assert!(key().await.contains("toStartOfMinute"));
    let before = tables(&client).await;
    assert_eq!(migrator.up(None, false, |_| {}).await.unwrap(), 1);
    assert_eq!((listed().await, tables(&client).await), (expected.clone(), before.clone()));
    assert_eq!(key().await, "project_id, start_time, xxHash32(trace_id), span_id");
    assert_eq!(insert(&store, &rows), Inserted { rows: 0, duplicates: 30 });
    assert!(store.trace(calls.tenant.project, rows[7].trace_id).await.unwrap().is_some());

    // Renamed, and a row that had come into the old table while it was copied: then it broke off.
    for statement in [
        "CREATE TABLE observations_by_minute AS observations",
        "INSERT INTO observations_by_minute SELECT * REPLACE ('late' AS name, '00000000000000ff' AS span_id)
         FROM observations AS o WHERE o.name = '07'",
        "ALTER TABLE schema_migrations DELETE WHERE version = 12 AND is_finished SETTINGS mutations_sync = 1",
    ] {
        client.query(statement).execute().await.unwrap();
    }
    assert_eq!(migrator.up(None, false, |_| {}).await.unwrap(), 1);
    expected.push("late".to_owned());
    assert_eq!((listed().await, tables(&client).await), (expected.clone(), before.clone()));

    assert_eq!(migrator.down(Some(1), false, |_| {}).await.unwrap(), 1);
    assert_eq!((listed().await, tables(&client).await), (expected, before));
    assert!(key().await.contains("toStartOfMinute"));
}

#[tokio::test]
async fn what_two_writers_insert_at_once_counts_once_and_the_first_stays() {
    let Some((url, client)) = database() else { return };
    let one = migrated(&url).await;
    let calls = Store::sqlite(Limits::default());
    let call = calls.call("first", "2026-03-01T00:00:00Z");
    assert_eq!(insert(&one, std::slice::from_ref(&call)).rows, 1);
    // As another writer that didn't see the first one's row would have written it.
    let copy = "INSERT INTO observations SELECT * REPLACE ('second' AS name, arrival + 7 AS arrival) FROM observations";
    client.query(copy).execute().await.unwrap();
    let stored = client.query("SELECT count() FROM observations").fetch_one::<u64>().await.unwrap();
    assert_eq!(stored, 2, "the table has both");
    let page = one.list(calls.tenant.project, TraceFilter::default(), 10, None).await.unwrap();
    assert_eq!(super::names(&page), ["first"]);
    let users = one.groups(calls.tenant.project, GroupKind::Trace, year()).await.unwrap().data;
    assert_eq!(users[0].totals.observations, 1);
    one.sum_up().await.unwrap();
    let hours =
        client.query("SELECT sum(count) FROM observation_hours FINAL").fetch_one::<u64>().await.unwrap();
    assert_eq!(hours, 1, "summed up once");
    client.query("OPTIMIZE TABLE observations FINAL").execute().await.unwrap();
    let page = one.list(calls.tenant.project, TraceFilter::default(), 10, None).await.unwrap();
    assert_eq!(super::names(&page), ["first"], "merged to the same");
}

fn insert(store: &ClickHouseObservations, batch: &[Observation]) -> Inserted {
    let mut inserted = Inserted::default();
    store.insert(batch, &mut inserted).unwrap();
    inserted
}

#[tokio::test]
async fn rows_wait_while_the_server_is_away() {
    let Some(mut server) = ClickHouse::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let store = migrated(&server.database_url()).await;
    let calls = Store::sqlite(Limits::default());
    let batch: Vec<_> = (0..50).map(|n| calls.call(&format!("{n}"), "2026-03-01T00:00:00Z")).collect();
    insert(&store, &batch[..10]);
    server.stop();
    let mut inserted = Inserted::default();
    let error = store.insert(&batch, &mut inserted).unwrap_err();
    assert!(matches!(error, AnalyticsError::Unavailable(_)), "{error:?}");
    assert_eq!(inserted, Inserted::default());
    let error = store.list(tenant().project, TraceFilter::default(), 1, None).await.unwrap_err();
    assert!(matches!(error, AnalyticsError::Unavailable(_)), "{error:?}");
    assert!(store.ping().await.is_err());
    server.start_again().unwrap();
    assert_eq!(insert(&store, &batch), Inserted { rows: 40, duplicates: 10 });
    store.ping().await.unwrap();
}

#[tokio::test]
async fn what_costs_too_much_is_refused() {
    let Some(store) = clickhouse_store().await else { return };
    let calls = Store::sqlite(Limits::default());
    let rows: Vec<_> = (0..2_000).map(|n| calls.call(&format!("{n}"), "2026-03-01T00:00:00Z")).collect();
    insert(&store, &rows);
    let long = Duration::from_secs(60);
    let cases = [TooMuch::Rows(9), TooMuch::Groups(9), TooMuch::Time(Duration::from_nanos(1_000))];
    for expected in cases {
        let limits = match expected {
            TooMuch::Rows(rows) => Limits { rows, groups: 100_000, time: long },
            TooMuch::Groups(groups) => Limits { rows: 100_000, groups, time: long },
            TooMuch::Time(time) => Limits { rows: 100_000, groups: 100_000, time },
        };
        let store = store.clone().with_limits(limits);
        let query = Query { filter: parse("-nothing-has-this"), ..year() };
        let error = store.groups(calls.tenant.project, GroupKind::Trace, query).await.unwrap_err();
        assert!(matches!(error, AnalyticsError::TooMuch(cost) if cost == expected), "{error:?}");
    }
    assert_eq!(store.observations(calls.tenant.project, year()).await.unwrap().data.len(), 100);
}

/// Rows close together, far apart, at the same moment, some of them stored by two writers: every page is full but the last.
#[tokio::test]
async fn pages_by_the_time_are_full_however_rows_lie() {
    let Some((url, client)) = database() else { return };
    let store = migrated(&url).await;
    let calls = Store::sqlite(Limits::default());
    let now = SystemClock.now().timestamp_micros();
    let minutes = [0, 0, 0, 0, 1, 2, 50, 51, 3_000, 200_000, 200_001, 200_001, 480_000, 480_000];
    let rows: Vec<_> = (0_i64..)
        .zip(minutes)
        .map(|(n, minute)| Observation {
            // Two at each moment.
            start_us: now - minute * 60_000_000 - n / 2 * 1_000,
            ..calls.call(&format!("{n}"), "2026-03-01T00:00:00Z")
        })
        .collect();
    insert(&store, &rows);
    let copy = "INSERT INTO observations SELECT * REPLACE (arrival + 7 AS arrival, 'a copy' AS name) FROM observations
        WHERE toInt64OrZero(name) < 9";
    client.query("SYSTEM STOP MERGES").execute().await.unwrap();
    client.query(copy).execute().await.unwrap();

    let mut expected: Vec<_> = rows.iter().map(|row| (row.start_us, row.name.to_string())).collect();
    expected.sort();
    let whole = || Query::new(DateTime::UNIX_EPOCH, DateTime::from_timestamp_micros(now + 1).unwrap());
    for descending in [true, false] {
        let sort = Sort { by: SortBy::Time, descending };
        for (limit, pages) in [(1, 14), (3, 5), (13, 2), (14, 1)] {
            let (mut found, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
            loop {
                let page = store.observations(calls.tenant.project, Query { sort, limit, after, ..whole() });
                let page = page.await.unwrap();
                sizes.push(page.data.len());
                found.extend(
                    page.data
                        .into_iter()
                        .map(|row| (row.summary.start_time.timestamp_micros(), row.summary.name)),
                );
                after = page.next_cursor;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(sizes.len(), pages, "{limit} {descending}: {sizes:?}");
            assert!(sizes[..pages - 1].iter().all(|size| *size == limit as usize), "{limit}: {sizes:?}");
            assert!(
                found.is_sorted_by_key(|(start, _)| if descending { -start } else { *start }),
                "{found:?}"
            );
            found.sort();
            assert_eq!(found, expected, "{limit} {descending}");
        }
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list(calls.tenant.project, TraceFilter::default(), 3, cursor).await.unwrap();
        found.extend(page.data.into_iter().map(|one| (one.start_time.timestamp_micros(), one.name)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, expected);

    for row in &rows {
        let trace = store.trace(calls.tenant.project, row.trace_id).await.unwrap().unwrap();
        let names: Vec<_> = trace.observations.into_iter().map(|node| node.summary.name).collect();
        assert_eq!(names, [row.name.as_ref()]);
    }
}

#[tokio::test]
async fn a_batch_is_looked_up_in_its_seconds_alone() {
    // Of its own: nobody else reads there.
    let Some(server) = ClickHouse::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let url = server.database_url();
    let (store, client) = (migrated(&url).await, client(&url));
    let calls = Store::sqlite(Limits::default());
    let rows: Vec<_> = (0..30_000)
        .map(|n| Observation {
            start_us: 1_772_323_200_000_000 + n * 1_000_000,
            ..calls.call("x", "2026-03-01T00:00:00Z")
        })
        .collect();
    assert_eq!(insert(&store, &rows).rows, 30_000);
    let read = async || {
        let events = client.query("SELECT value FROM system.events WHERE event = 'SelectedRows'");
        events.fetch_one::<u64>().await.unwrap()
    };
    let before = read().await;
    assert_eq!(insert(&store, &rows[..1]), Inserted { rows: 0, duplicates: 1 });
    let looked_at = read().await - before;
    // A granule is a MiB.
    assert!((1..=8_192).contains(&looked_at), "{looked_at} rows of 30,000");
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Decision {
    route: String,
    policy: String,
    provider: String,
    candidates: String,
    attempts: u64,
}

#[tokio::test]
async fn calls_and_decisions_are_views_of_the_observations() {
    let Some((url, client)) = database() else { return };
    let store = migrated(&url).await;
    let calls = Store::sqlite(Limits::default());
    let step: Step = serde_json::from_value(serde_json::json!({
        "span_id": "eee19b7ec3c1b173", "kind": "attempt", "name": "openai/gpt", "offset_us": 1, "duration_us": 2,
        "status": "error", "provider": "openai",
    }))
    .unwrap();
    let mut call = Observation {
        request_id: Some(RequestId::generate(&SystemClock, &SystemRandom)),
        provider: Some("anthropic".into()),
        http_status: Some(200),
        steps: vec![step.clone(), Step { kind: Kind::Plugin, ..step }],
        ..calls.call("call", "2026-03-01T00:00:00Z")
    };
    for (name, value) in [("brokle.route", "smart"), ("brokle.routing.policy", "cost \"cheap\"")] {
        call.attributes.insert(name.to_owned(), value.into());
    }
    call.attributes.insert("brokle.routing.order".to_owned(), serde_json::json!(["a", "b"]));
    let span = calls.call("a span from elsewhere", "2026-03-01T00:00:00Z");
    insert(&store, &[call.clone(), span]);
    // As a second writer would have left it.
    let copy = "INSERT INTO observations SELECT * REPLACE (arrival + 7 AS arrival) FROM observations";
    client.query(copy).execute().await.unwrap();

    let asked = client.query(
        "SELECT route, policy, provider, candidates, toUInt64(attempts) AS attempts FROM routing_decisions",
    );
    let decisions: Vec<Decision> = asked.fetch_all().await.unwrap();
    let [Decision { route, policy, provider, candidates, attempts }] = &decisions[..] else { panic!() };
    assert_eq!(
        (route.as_str(), policy.as_str(), provider.as_str()),
        ("smart", "cost \"cheap\"", "anthropic")
    );
    assert_eq!((candidates.as_str(), *attempts), (r#"["a","b"]"#, 1));
    let asked = client.query("SELECT request_id, http_status FROM request_logs");
    let requests: Vec<(String, u16)> = asked.fetch_all().await.unwrap();
    assert_eq!(requests, [(call.request_id.unwrap().to_string(), 200)]);
}
