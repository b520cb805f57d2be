//! Getting to a database, and hearing that it isn't there.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use brokle_storage::sql::{ConnectOptions, Database, StorageError};

use crate::harness::{Fixture, connect, on_both_databases};

on_both_databases!(a_closed_database_is_unavailable);

async fn a_closed_database_is_unavailable(fixture: Fixture) {
    fixture.app.ping().await.unwrap();
    fixture.app.close().await;
    let error = fixture.app.ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn sqlite_is_opened_for_concurrent_use_in_a_private_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("deep/data");
    let database = connect(&format!("sqlite:{}", data.join("brokle.db").display())).await;
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);

    let Database::Sqlite(pool) = &database else { panic!("not SQLite") };
    let mut settings = Vec::new();
    for pragma in [
        "SELECT journal_mode FROM pragma_journal_mode",
        "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous",
    ] {
        settings.push(sqlx::query_scalar::<_, String>(pragma).fetch_one(pool).await.unwrap());
    }
    let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(pool).await.unwrap();
    let busy_timeout: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(pool).await.unwrap();
    assert_eq!((settings.join(" "), foreign_keys, busy_timeout), ("wal 1".to_owned(), 1, 5_000));
}

#[tokio::test]
async fn a_url_of_no_known_database_is_the_operators_to_mend() {
    for url in ["mysql://localhost/brokle", "brokle.db", "sqlite::memory:", "postgres://[nonsense"] {
        let error = Database::connect(url, ConnectOptions::default()).await.unwrap_err();
        assert!(matches!(error, StorageError::Configuration(_)), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = ConnectOptions { acquire_timeout: Duration::from_millis(200), ..ConnectOptions::default() };
    let error =
        Database::connect(&format!("postgres://nobody@127.0.0.1:{port}/x"), options).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_and_the_connection_goes_on() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let url = fixture.postgres.unwrap().app_url;
    let timeout = Some(Duration::from_millis(100));
    let options =
        ConnectOptions { max_connections: 1, statement_timeout: timeout, ..ConnectOptions::default() };
    let database = Database::connect(&url, options).await.unwrap();
    let Database::Postgres(pool) = &database else { panic!("not PostgreSQL") };
    let error = sqlx::query("SELECT pg_sleep(600)").execute(pool).await.unwrap_err();
    let error = StorageError::from(error);
    assert!(error.is_retryable(), "{error:?}");
    database.ping().await.unwrap();
    let unbounded = ConnectOptions { statement_timeout: None, ..options };
    let database = Database::connect(&url, unbounded).await.unwrap();
    let Database::Postgres(pool) = &database else { panic!("not PostgreSQL") };
    let shown: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(pool).await.unwrap();
    assert_eq!(shown, "0");
}

#[tokio::test]
async fn whoever_waits_for_a_connection_hears_that_there_is_none() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let options = ConnectOptions {
        max_connections: 2,
        acquire_timeout: Duration::from_millis(100),
        ..ConnectOptions::default()
    };
    let database = Database::connect(&fixture.postgres.unwrap().app_url, options).await.unwrap();
    let Database::Postgres(pool) = &database else { panic!("not PostgreSQL") };
    let (one, _other) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert!(database.ping().await.unwrap_err().is_retryable());
    drop(one);
    database.ping().await.unwrap();
}
