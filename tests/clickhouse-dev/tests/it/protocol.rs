//! The `clickhouse` crate, as it is, against the development server (or a real one, where `CLICKHOUSE_URL` names it).

use brokle_test_services::{ClickHouse, ClickHouseParts};
use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
struct Line {
    number: u64,
    text: Option<String>,
    pairs: Vec<(String, String)>,
    time: i64,
}

const TABLE: &str = "CREATE TABLE lines (number UInt64, text Nullable(String), pairs Map(String, String),
    time DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY number SETTINGS non_replicated_deduplication_window = 100";

/// A client with a database of its own.
async fn client(server: &ClickHouse) -> Client {
    let ClickHouseParts { origin, user, password, database } = ClickHouseParts::of(&server.database_url());
    let client = Client::default().with_url(origin).with_user(user).with_password(password);
    client.query(&format!("CREATE DATABASE {database}")).execute().await.unwrap();
    client.with_database(database)
}

fn lines(count: u64) -> Vec<Line> {
    let line = |number| Line {
        number,
        text: (number % 2 == 0).then(|| format!("it's \t\n\\ {number}")),
        pairs: vec![("a".to_owned(), number.to_string())],
        time: i64::try_from(number).unwrap() * 1_000_001,
    };
    (0..count).map(line).collect()
}

async fn insert(client: &Client, lines: &[Line], token: &str) {
    let insert = client.insert::<Line>("lines").await.unwrap();
    let mut insert = insert.with_setting("insert_deduplication_token", token);
    for line in lines {
        insert.write(line).await.unwrap();
    }
    insert.end().await.unwrap();
}

async fn all(client: &Client) -> Vec<Line> {
    client.query("SELECT ?fields FROM lines ORDER BY number").fetch_all().await.unwrap()
}

#[tokio::test]
async fn rows_parameters_settings_and_errors() {
    let Some(server) = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let client = client(server).await;
    client.query(TABLE).execute().await.unwrap();
    // Larger than one LZ4 block.
    let there = lines(20_000);
    insert(&client, &there, "one").await;
    insert(&client, &there, "one").await;
    let found = all(&client).await;
    assert_eq!(found.len(), there.len());
    assert!(found == there, "every value comes back");

    let text = there[4].text.clone().unwrap();
    let found = client
        .query("SELECT ?fields FROM lines WHERE text = {text:String} AND number IN {numbers:Array(UInt64)}")
        .param("text", &text)
        .param("numbers", vec![3_u64, 4]);
    assert_eq!(found.fetch_all::<Line>().await.unwrap(), [there[4].clone()]);

    let cheap = client
        .query("SELECT count() FROM lines WHERE text IS NOT NULL")
        .with_setting("max_rows_to_read", "10");
    let error = cheap.fetch_one::<u64>().await.unwrap_err().to_string();
    assert!(error.contains("Code: 158"), "{error}");
    // The setting was that query's only.
    assert_eq!(
        client.query("SELECT count() FROM lines WHERE text IS NOT NULL").fetch_one::<u64>().await.unwrap(),
        10_000
    );
    let error = client.query("SELECT 1 FROM nothing").fetch_one::<u8>().await.unwrap_err().to_string();
    assert!(error.contains("Code: 60"), "{error}");
    let error =
        client.with_database("nowhere").query("SELECT 1").fetch_one::<u8>().await.unwrap_err().to_string();
    assert!(error.contains("Code: 81"), "{error}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let Some(mut server) = ClickHouse::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let client = client(&server).await;
    client.query(TABLE).execute().await.unwrap();
    insert(&client, &lines(10), "one").await;
    server.stop();
    assert!(client.query("SELECT 1").fetch_one::<u8>().await.is_err(), "it is away");
    server.start_again().unwrap();
    assert_eq!(all(&client).await, lines(10));
}
