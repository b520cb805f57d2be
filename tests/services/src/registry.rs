//! An OCI registry for tests: the distribution's `docker-registry`, on a free port of the loopback interface, with its
//! files in a temporary directory. It ends when it is dropped, or with the test process: a shell beside it waits for the
//! end of its standard input, whose other end only the test process holds.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{ServiceError, free_address, skipped};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts `$1 serve $2` in the background and waits for the test process to end.
const WATCHDOG: &str = r#"
"$1" serve "$2" </dev/null >/dev/null 2>&1 &
server=$!
cat >/dev/null
kill -TERM "$server" 2>/dev/null
wait "$server"
"#;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    address: String,
    watchdog: Child,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry; `None` with `SKIP_SERVICES=1` or `SKIP_REGISTRY=1`.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn start() -> Result<Option<Self>, ServiceError> {
        if skipped() || std::env::var_os("SKIP_REGISTRY").is_some_and(|value| value == "1") {
            return Ok(None);
        }
        // Between choosing a free port and listening on it, somebody else may take it.
        Self::start_once().or_else(|_| Self::start_once()).map(Some)
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn start_once() -> Result<Self, ServiceError> {
        let program = find()?;
        let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
        let address = free_address().map_err(|error| failed(&error))?;
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            directory.path().join("data").display()
        );
        fs::write(&config, text).map_err(|error| failed(&error))?;
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .args([&program, &config])
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        let registry = Self { address: address.to_string(), watchdog, _directory: directory };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err(failed(&"it doesn't answer"));
            }
            std::thread::yield_now();
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // Nobody is left to tell, should the waiting fail.
        let _ = self.watchdog.wait();
    }
}

fn find() -> Result<PathBuf, ServiceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let found = places.find_map(|folder| Some(folder.join("docker-registry")).filter(|path| path.is_file()));
    found.ok_or(ServiceError::Missing {
        program: "docker-registry",
        searched: "PATH and /usr/bin",
        package: "docker-registry",
    })
}

fn failed(reason: &dyn ToString) -> ServiceError {
    ServiceError::Failed { what: "starting docker-registry".to_owned(), reason: reason.to_string() }
}
