//! ClickHouse for tests: the server that `CLICKHOUSE_URL` names, else the development server of `tests/clickhouse-dev` on
//! a free port of the loopback interface, over a temporary directory. That one ends when it is dropped, or with the test
//! process, and can be taken away and brought back at the same port with what was in it.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{ServiceError, free_address, skipped};

/// The engine is half a gigabyte, which a cold disk takes its time to read.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Where `scripts/clickhouse_dev.sh` leaves the engine, in the build's folder.
const LIBRARY: &str = "clickhouse-dev/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";

/// Starts `$1` with the other arguments in the background and waits for the test process to end.
const WATCHDOG: &str = r#"
"$@" </dev/null >/dev/null 2>&1 &
server=$!
cat >/dev/null
kill -KILL "$server" 2>/dev/null
wait "$server"
"#;

/// A ClickHouse server.
#[derive(Debug)]
pub struct ClickHouse {
    at: At,
    databases: AtomicU32,
}

#[derive(Debug)]
enum At {
    /// A real server.
    Url(String),
    /// The development server.
    Own { address: SocketAddr, directory: tempfile::TempDir, watchdog: Option<Child> },
}

impl ClickHouse {
    /// The test process's server, started by whoever asks first; `None` with `SKIP_SERVICES=1`.
    ///
    /// # Errors
    /// When the development server isn't built, its engine isn't fetched, or it doesn't start.
    pub fn shared() -> Result<Option<&'static Self>, ServiceError> {
        static SHARED: OnceLock<Result<ClickHouse, ServiceError>> = OnceLock::new();
        if skipped() {
            return Ok(None);
        }
        let start = || match std::env::var("CLICKHOUSE_URL") {
            Ok(url) if !url.is_empty() => Ok(Self { at: At::Url(url), databases: AtomicU32::new(0) }),
            _ => Self::start_own(),
        };
        SHARED.get_or_init(start).as_ref().map(Some).map_err(Clone::clone)
    }

    /// Starts a development server of its own, for tests that take it away; `None` with `SKIP_SERVICES=1`.
    ///
    /// # Errors
    /// As for [`shared`](Self::shared).
    pub fn start() -> Result<Option<Self>, ServiceError> {
        if skipped() { Ok(None) } else { Self::start_own().map(Some) }
    }

    /// The URL of a database that nobody else has, `http://127.0.0.1:PORT/brokle_test_…`. Whoever migrates it makes it.
    #[must_use]
    pub fn database_url(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let database = format!("brokle_test_{}_{number}", std::process::id());
        match &self.at {
            At::Url(url) => {
                let end = url.find("://").map_or(0, |at| at + 3);
                let path = url.get(end..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| end + at);
                format!("{}/{database}", url.get(..path).unwrap_or(url))
            }
            At::Own { address, .. } => format!("http://{address}/{database}"),
        }
    }

    /// Kills the development server; what it has acknowledged stays on its disk. A real server is left alone.
    pub fn stop(&mut self) {
        if let At::Own { watchdog, .. } = &mut self.at
            && let Some(mut watchdog) = watchdog.take()
        {
            drop(watchdog.stdin.take());
            // Nobody is left to tell, should the waiting fail.
            let _ = watchdog.wait();
        }
    }

    /// Brings it back, with what was in it.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start_again(&mut self) -> Result<(), ServiceError> {
        self.stop();
        let At::Own { address, directory, watchdog } = &mut self.at else { return Ok(()) };
        let (program, library) = (find("clickhouse-dev")?, find(LIBRARY)?);
        let started = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(program)
            .arg("--library")
            .arg(library)
            .arg("--path")
            .arg(directory.path())
            .args(["--port", &address.port().to_string()])
            .env_clear()
            .current_dir(directory.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        *watchdog = Some(started);
        let begun = Instant::now();
        while TcpStream::connect(*address).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err(failed(&"it doesn't answer"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn start_own() -> Result<Self, ServiceError> {
        let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
        let address = free_address().map_err(|error| failed(&error))?;
        let mut server =
            Self { at: At::Own { address, directory, watchdog: None }, databases: AtomicU32::new(0) };
        server.start_again()?;
        Ok(server)
    }
}

/// A database's URL, in the parts that clients ask for. Nothing in it may be percent-encoded.
#[derive(Clone, Debug)]
pub struct ClickHouseParts {
    /// `http://HOST:PORT`
    pub origin: String,
    /// The user; `default` if the URL has none.
    pub user: String,
    /// The password; empty if the URL has none.
    pub password: String,
    /// The database's name.
    pub database: String,
}

impl ClickHouseParts {
    /// The parts of what [`ClickHouse::database_url`] answered.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (place, database) = rest.rsplit_once('/').unwrap_or((rest, "default"));
        let (login, host) = place.rsplit_once('@').unwrap_or(("default", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        Self {
            origin: format!("{scheme}://{host}"),
            user: user.to_owned(),
            password: password.to_owned(),
            database: database.to_owned(),
        }
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A file in one of the folders above the test's program: those of the build.
pub(crate) fn find(name: &'static str) -> Result<PathBuf, ServiceError> {
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let found = program.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or(ServiceError::NotBuilt { file: name })
}

fn failed(reason: &dyn ToString) -> ServiceError {
    ServiceError::Failed {
        what: "starting the development ClickHouse".to_owned(),
        reason: reason.to_string(),
    }
}
