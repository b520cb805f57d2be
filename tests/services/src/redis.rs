//! Redis for tests: the distribution's `redis-server`, on a free port of the loopback interface, in memory only. It ends
//! when it is dropped, or with the test process, and can be taken away and brought back at the same port.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{ServiceError, skipped};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts `$1` with the other arguments in the background and waits for the test process to end.
pub(crate) const WATCHDOG: &str = r#"
"$@" </dev/null >/dev/null 2>&1 &
server=$!
cat >/dev/null
kill -KILL "$server" 2>/dev/null
wait "$server"
"#;

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    address: SocketAddr,
    watchdog: Option<Child>,
    directory: tempfile::TempDir,
}

impl Redis {
    /// Starts a server; `None` with `SKIP_SERVICES=1` or `SKIP_REDIS=1`.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn start() -> Result<Option<Self>, ServiceError> {
        if skipped() || std::env::var_os("SKIP_REDIS").is_some_and(|value| value == "1") {
            return Ok(None);
        }
        // Between choosing a free port and listening on it, somebody else may take it.
        Self::start_once().or_else(|_| Self::start_once()).map(Some)
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Takes it away, and everything in it.
    pub fn stop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            // Nobody is left to tell, should the waiting fail.
            let _ = watchdog.wait();
        }
    }

    /// Brings it back, empty.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start_again(&mut self) -> Result<(), ServiceError> {
        self.stop();
        let port = self.address.port().to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"];
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&self.program)
            .args(arguments)
            .arg(self.directory.path())
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        self.watchdog = Some(watchdog);
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err(failed(&"it doesn't answer"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn start_once() -> Result<Self, ServiceError> {
        let program = find()?;
        let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        drop(listener);
        let mut redis = Self { program, address, watchdog: None, directory };
        redis.start_again()?;
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn find() -> Result<PathBuf, ServiceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let found = places.find_map(|folder| Some(folder.join("redis-server")).filter(|path| path.is_file()));
    found.ok_or(ServiceError::Missing {
        program: "redis-server",
        searched: "PATH and /usr/bin",
        package: "redis-server",
    })
}

fn failed(reason: &dyn ToString) -> ServiceError {
    ServiceError::Failed { what: "starting redis-server".to_owned(), reason: reason.to_string() }
}
