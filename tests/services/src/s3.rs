//! A server that speaks S3's API: moto, which `scripts/s3_dev.sh` installs, on a free port of the loopback interface, in memory
//! only. It ends when it is dropped, or with the test process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::clickhouse::find;
use crate::redis::WATCHDOG;
use crate::{ServiceError, free_address, skipped};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server with buckets. It takes any credentials.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    watchdog: Option<Child>,
    buckets: AtomicU32,
}

impl S3 {
    /// The one that this process' tests share; `None` with `SKIP_SERVICES=1`.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn shared() -> Result<Option<&'static Self>, ServiceError> {
        static SHARED: OnceLock<Result<S3, ServiceError>> = OnceLock::new();
        if skipped() {
            return Ok(None);
        }
        SHARED.get_or_init(Self::start).as_ref().map(Some).map_err(Clone::clone)
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The name of a new bucket.
    ///
    /// # Errors
    /// When the server doesn't make it.
    pub fn bucket(&self) -> Result<String, ServiceError> {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let name = format!("brokle-test-{}-{number}", std::process::id());
        let asked = format!(
            "PUT /{name} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            self.address
        );
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.address).map_err(|error| failed(&error))?;
        stream.write_all(asked.as_bytes()).map_err(|error| failed(&error))?;
        stream.read_to_string(&mut answer).map_err(|error| failed(&error))?;
        if answer.split(' ').nth(1) == Some("200") { Ok(name) } else { Err(failed(&answer)) }
    }

    fn start() -> Result<Self, ServiceError> {
        let python = find("s3-dev/bin/python")?;
        let address = free_address().map_err(|error| failed(&error))?;
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        let server = Self { address, watchdog: Some(watchdog), buckets: AtomicU32::new(0) };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err(failed(&"it doesn't answer"));
            }
            std::thread::yield_now();
        }
        Ok(server)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            // Nobody is left to tell, should the waiting fail.
            let _ = watchdog.wait();
        }
    }
}

fn failed(reason: &dyn ToString) -> ServiceError {
    ServiceError::Failed { what: "starting the development S3".to_owned(), reason: reason.to_string() }
}
