//! What only the store of files promises.

use brokle_storage::observations::query::Filter;
use brokle_storage::observations::signal::PointsQuery;
use brokle_storage::observations::{
    AnalyticsError, AnalyticsStore as _, Inserted, Month, QueryStore as _, SqliteObservations, TraceFilter,
};

use super::conformance::Store;

fn files(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".db")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_month_is_a_file() {
    let fixture = Store::sqlite(Default::default());
    fixture.insert(&[
        fixture.call("march", "2026-03-01T00:00:00Z"),
        fixture.call("february's last microsecond", "2026-02-28T23:59:59.999999Z"),
        fixture.call("december", "2025-12-31T23:59:59Z"),
    ]);
    let expected = ["202512", "202602", "202603"].map(|month| format!("observations-{month}.db"));
    assert_eq!(files(&fixture), expected);
    fixture.store.retain(Month::new(2026, 3).unwrap(), false).await.unwrap();
    assert_eq!(files(&fixture), ["observations-202603.db"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_waited_for() {
    let fixture = Store::sqlite(Default::default());
    let path = fixture.directory().join("observations-202603.db");
    std::fs::create_dir(&path).unwrap();
    let call = fixture.call("call", "2026-03-01T00:00:00Z");
    let answer = fixture.store.insert(std::slice::from_ref(&call), &mut Inserted::default());
    assert!(matches!(answer, Err(AnalyticsError::Unavailable(_))), "{answer:?}");
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(fixture.deliver(&[call]).rows, 1);
}

#[tokio::test]
async fn a_file_of_before_there_were_logs_is_read_and_brought_up() {
    let fixture = Store::sqlite(Default::default());
    fixture.insert(&[fixture.call("old", "2026-03-01T00:00:00Z")]);
    let path = fixture.directory().join("observations-202603.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "DROP TABLE logs; DROP TABLE points; DROP TABLE blobs; DROP TABLE arrivals; ALTER TABLE rollups DROP COLUMN latency;
         ALTER TABLE rollups DROP COLUMN first_token; PRAGMA user_version = 1",
    )
    .unwrap();
    let again = SqliteObservations::open(fixture.directory()).unwrap();
    let (from, to) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
    let query = PointsQuery { from, to, name: None, series: None, limit: 10, after: None };
    assert!(again.points(fixture.tenant.project, query).await.unwrap().data.is_empty());
    assert_eq!(
        again.list(fixture.tenant.project, TraceFilter::default(), 10, None).await.unwrap().data.len(),
        1
    );
    assert_eq!(again.rollups(fixture.tenant.project, from, to).await.unwrap().len(), 1);
    let same_hour = fixture.call("same hour", "2026-03-01T00:10:00Z");
    let later = fixture.call("new", "2026-03-02T00:00:00Z");
    again.insert(&[same_hour, later], &mut Inserted::default()).unwrap();
    let new = rusqlite::Connection::open(&path).unwrap();
    // How the times of an hour are spread is known of hours that are whole only.
    let known = new
        .prepare("SELECT latency IS NOT NULL FROM rollups ORDER BY hour_us")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<Vec<bool>, _>>();
    assert_eq!(known.unwrap(), [false, true]);
    assert!(new.table_exists(None, "logs").unwrap() && new.table_exists(None, "points").unwrap());
    assert_eq!(
        again.list(fixture.tenant.project, TraceFilter::default(), 10, None).await.unwrap().data.len(),
        3
    );
}

#[tokio::test]
async fn an_exporters_mark_in_a_file_of_before_stays_good() {
    let fixture = Store::sqlite(Default::default());
    let day = |name, day| fixture.call(name, &format!("2026-03-{day:02}T00:00:00Z"));
    fixture.insert(&[day("old", 1), day("older", 2)]);
    let old = rusqlite::Connection::open(fixture.directory().join("observations-202603.db")).unwrap();
    old.execute_batch("DROP TABLE arrivals; PRAGMA user_version = 4").unwrap();
    let again = SqliteObservations::open(fixture.directory()).unwrap();
    let project = fixture.tenant.project;
    let before = again.arrived().await.unwrap();
    assert_eq!(serde_json::to_string(&before).unwrap(), r#"{"202603":2}"#);
    // The first change brings the file up, and is the one that deletes its newest row.
    let gone = "2026-03-02T00:00:00Z".parse().unwrap().."2026-03-03T00:00:00Z".parse().unwrap();
    again.expire(project, gone, false).await.unwrap();
    again.insert(&[day("new", 3)], &mut Inserted::default()).unwrap();
    let next = again.arrivals(project, Filter::default(), before, None, 10).await.unwrap();
    let names: Vec<_> = next.rows.iter().map(|row| row.node.summary.name.as_str()).collect();
    assert_eq!(names, ["new"]);
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let fixture = Store::sqlite(Default::default());
    let path = fixture.directory().join("observations-202603.db");
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    let call = fixture.call("call", "2026-03-01T00:00:00Z");
    let answer = fixture.store.insert(&[call], &mut Inserted::default());
    assert!(matches!(answer, Err(AnalyticsError::Unavailable(_))), "{answer:?}");
    assert!(!later.table_exists(None, "observations").unwrap());
}
