//! The server: its URL, its errors, and how long it is waited for.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use clickhouse::error::Error;
use clickhouse::{Client, RowOwned, RowRead};
use url::Url;

use super::super::AnalyticsError;
use super::super::query::{Limits, TooMuch};
use super::sql::Sql;

/// How long a statement that isn't a question may take: an insert, a migration's, a deletion.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a migration's statement may take: some copy a table.
const COPY_TIMEOUT: Duration = Duration::from_hours(24);
/// How long an answer may take beyond the time that its question may.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of the server's message that are kept: what follows may repeat the question.
const MAX_MESSAGE: usize = 300;

/// A URL that names no ClickHouse database. It isn't repeated here, since it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "http[s]://[USER:PASSWORD@]HOST:PORT[/DATABASE] is expected, with a database's name of A-Z, a-z, 0-9 and _"
)]
pub struct ClickHouseUrlError;

/// A database on a ClickHouse server. Clones share their connections, which are made when they are needed.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    url: Url,
    database: String,
}

impl fmt::Debug for ClickHouse {
    /// Without user and password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.url.origin().ascii_serialization();
        formatter.debug_struct("ClickHouse").field("at", &origin).field("database", &self.database).finish()
    }
}

impl ClickHouse {
    /// The database that `http[s]://[USER:PASSWORD@]HOST:PORT[/DATABASE]` names; without a name, `default`.
    ///
    /// # Errors
    /// When the URL is none of that form.
    pub fn new(url: &str) -> Result<Self, ClickHouseUrlError> {
        let url = Url::parse(url).map_err(|_| ClickHouseUrlError)?;
        let database = match url.path().trim_matches('/') {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        let is_name = database.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !is_name {
            return Err(ClickHouseUrlError);
        }
        let client = client(&url, &database)?;
        Ok(Self { client, url, database })
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same database over connections of its own: those belong to the runtime that first uses them.
    pub(super) fn apart(&self) -> Self {
        let client = client(&self.url, &self.database).unwrap_or_else(|_| self.client.clone());
        Self { client, ..self.clone() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes the database if it isn't there; then the server answers, too.
    pub(super) async fn create(&self) -> Result<(), AnalyticsError> {
        const UNKNOWN_DATABASE: u16 = 81;
        let there = within(STATEMENT_TIMEOUT, self.client.query("SELECT 1").fetch_one::<u8>()).await;
        match there {
            Ok(_) => Ok(()),
            Err(Failed::Server(error)) if code(&error) == Some(UNKNOWN_DATABASE) => {
                let server = self.client.clone().with_database("default");
                let statement = format!("CREATE DATABASE IF NOT EXISTS `{}`", self.database);
                Ok(within(STATEMENT_TIMEOUT, server.query(&statement).execute()).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it answers.
    pub(super) async fn ping(&self) -> Result<(), AnalyticsError> {
        within(GRACE, self.client.query("SELECT 1").fetch_one::<u8>()).await?;
        Ok(())
    }

    /// Runs a statement that answers nothing.
    pub(super) async fn run(&self, sql: Sql) -> Result<(), AnalyticsError> {
        Ok(within(STATEMENT_TIMEOUT, sql.query(&self.client).execute()).await?)
    }

    /// Runs a statement that may copy a table.
    pub(super) async fn run_long(&self, sql: Sql) -> Result<(), AnalyticsError> {
        Ok(within(COPY_TIMEOUT, sql.query(&self.client).execute()).await?)
    }

    /// Asks something that costs little.
    pub(super) async fn look_up<T: RowOwned + RowRead>(&self, sql: Sql) -> Result<Vec<T>, AnalyticsError> {
        Ok(within(STATEMENT_TIMEOUT, sql.query(&self.client).fetch_all()).await?)
    }

    /// Asks within the limits.
    pub(super) async fn ask<T: RowOwned + RowRead>(
        &self,
        sql: Sql,
        limits: Limits,
    ) -> Result<Vec<T>, AnalyticsError> {
        let query = sql
            .query(&self.client)
            .with_setting("max_execution_time", limits.time.as_secs_f64().to_string())
            .with_setting("max_rows_to_read", limits.rows.to_string())
            .with_setting("max_rows_to_group_by", limits.groups.to_string())
            // A row's partition is a part of its key: none has its like in another one.
            .with_setting("do_not_merge_across_partitions_select_final", "1");
        let answer = within(limits.time + GRACE, query.fetch_all()).await;
        answer.map_err(|failed| match &failed {
            Failed::Server(error) => {
                too_much(error, limits).map_or_else(|| failed.into(), AnalyticsError::TooMuch)
            }
            Failed::Late(_) => failed.into(),
        })
    }
}

fn client(url: &Url, database: &str) -> Result<Client, ClickHouseUrlError> {
    let decoded = |text: &str| {
        // `+` is a plus outside of forms.
        let form = text.replace('+', "%2B");
        url::form_urlencoded::parse(form.as_bytes()).next().map(|(name, _)| name.into_owned())
    };
    let mut client = Client::default().with_url(url.origin().ascii_serialization()).with_database(database);
    if let Some(user) = decoded(url.username()) {
        client = client.with_user(user);
    }
    if let Some(password) = url.password() {
        client = client.with_password(decoded(password).ok_or(ClickHouseUrlError)?);
    }
    Ok(client.with_product_info("brokle", env!("CARGO_PKG_VERSION")))
}

/// A call to the server that came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    Server(Error),
    Late(Duration),
}

/// Waits for the server, but not for ever.
pub(super) async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer.map_err(Failed::Server),
        Err(_) => Err(Failed::Late(time)),
    }
}

/// What the server said, without what it repeats of a question.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl From<Failed> for AnalyticsError {
    fn from(failed: Failed) -> Self {
        /// The server's numbers for a value that can't be: too large, not of its type, too long a string.
        const REJECTED: [u16; 6] = [53, 69, 117, 131, 321, 407];
        match failed {
            Failed::Late(time) => Self::Unavailable(format!("no answer within {} s", time.as_secs()).into()),
            Failed::Server(Error::BadResponse(message)) => {
                let number = number(&message);
                let mut message = message;
                message.truncate(message.floor_char_boundary(MAX_MESSAGE));
                match number {
                    Some(code) if REJECTED.contains(&code) => Self::Rejected(Said(message).into()),
                    _ => Self::Unavailable(Said(message).into()),
                }
            }
            Failed::Server(error @ (Error::Network(_) | Error::TimedOut)) => Self::Unavailable(error.into()),
            Failed::Server(error @ (Error::SchemaMismatch(_) | Error::Other(_))) => {
                Self::Unavailable(error.into())
            }
            Failed::Server(error) => Self::Corrupt(error.into()),
        }
    }
}

fn too_much(error: &Error, limits: Limits) -> Option<TooMuch> {
    const TOO_MANY_ROWS: u16 = 158;
    const TIMEOUT_EXCEEDED: u16 = 159;
    const TOO_SLOW: u16 = 160;
    let Error::BadResponse(message) = error else { return None };
    match number(message)? {
        TOO_MANY_ROWS if message.contains("GROUP BY") => Some(TooMuch::Groups(limits.groups)),
        TOO_MANY_ROWS => Some(TooMuch::Rows(limits.rows)),
        TIMEOUT_EXCEEDED | TOO_SLOW => Some(TooMuch::Time(limits.time)),
        _ => None,
    }
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::BadResponse(message) => number(message),
        _ => None,
    }
}

/// The server's number for its error: `Code: 60. DB::Exception: …`.
fn number(message: &str) -> Option<u16> {
    let digits = message.strip_prefix("Code: ")?.split(['.', ' ']).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_database_and_are_never_shown() {
        let named = ClickHouse::new("https://ann:s%2Bcr%40t@ch.example:8443/brokle_1").unwrap();
        assert_eq!(named.database(), "brokle_1");
        let shown = format!("{named:?}");
        assert!(
            shown.contains("https://ch.example:8443") && !shown.contains("ann") && !shown.contains("cr%40t")
        );
        assert_eq!(ClickHouse::new("http://127.0.0.1:8123").unwrap().database(), "default");
        for bad in ["", "127.0.0.1:8123", "clickhouse://x/y", "http://x/a`b", "http://x/a/b"] {
            assert!(ClickHouse::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_servers_errors_have_numbers() {
        let limits = Limits { rows: 7, ..Limits::default() };
        let said = |text: &str| Error::BadResponse(text.to_owned());
        let rows = said("Code: 158. DB::Exception: Limit for rows (…) exceeded");
        assert_eq!(too_much(&rows, limits), Some(TooMuch::Rows(7)));
        let groups = said("Code: 158. DB::Exception: Limit for rows to GROUP BY exceeded");
        assert_eq!(too_much(&groups, limits), Some(TooMuch::Groups(limits.groups)));
        assert_eq!(too_much(&said("Code: 159. DB::Exception"), limits), Some(TooMuch::Time(limits.time)));
        assert_eq!(too_much(&said("503 Service Unavailable"), limits), None);
        let refused = AnalyticsError::from(Failed::Server(said("Code: 407. DB::Exception: overflow")));
        assert!(matches!(refused, AnalyticsError::Rejected(_)));
        let long = said(&format!("Code: 60. DB::Exception: {}", "ä".repeat(1_000)));
        let AnalyticsError::Unavailable(cause) = Failed::Server(long).into() else { panic!("it is away") };
        assert!(cause.to_string().len() <= MAX_MESSAGE);
    }
}
