//! Redis for tests: the distribution's `redis-server`, on a free port of the loopback interface, in memory only unless it is a
//! durable one. It ends when it is dropped, or with the test process, and can be taken away and brought back at the same port. A
//! guarded one speaks TLS only, with a certificate of an authority that `openssl` makes for it, and knows nobody but one user with
//! a password.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::{ServiceError, free_address, skipped};

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
    kind: Kind,
}

/// How a server is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Guarded,
    Durable(Fsync),
}

/// When a durable server's log is on the disk (`appendfsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before each answer.
    Always,
    /// Once a second, which is Redis' default and `compose.yaml`'s.
    EverySecond,
}

impl FromStr for Fsync {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = [Self::Always, Self::EverySecond];
        known.into_iter().find(|fsync| fsync.name() == name).ok_or("it is always or everysec")
    }
}

impl Fsync {
    const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        }
    }
}

/// The one whom a guarded server knows.
const USER: &str = "brokle";
const PASSWORD: &str = "s3cret+and/odd";

/// Makes an authority and the server's certificate in the directory `$1`.
const CERTIFICATES: &str = r#"
cd "$1" || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
    -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem &&
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=redis -keyout redis.key -out redis.csr &&
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >redis.ext &&
openssl x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile redis.ext -out redis.pem
"#;

impl Redis {
    /// Starts a server; `None` with `SKIP_SERVICES=1` or `SKIP_REDIS=1`.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn start() -> Result<Option<Self>, ServiceError> {
        Self::start_as(Kind::Plain)
    }

    /// Starts a server that keeps a log, and has what is in it again when it is brought back. `None` as above.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn start_durable(fsync: Fsync) -> Result<Option<Self>, ServiceError> {
        Self::start_as(Kind::Durable(fsync))
    }

    /// Starts a guarded server; `None` as above.
    ///
    /// # Errors
    /// When it or `openssl` isn't installed, or it doesn't start.
    pub fn start_guarded() -> Result<Option<Self>, ServiceError> {
        Self::start_as(Kind::Guarded)
    }

    fn start_as(kind: Kind) -> Result<Option<Self>, ServiceError> {
        if skipped() || std::env::var_os("SKIP_REDIS").is_some_and(|value| value == "1") {
            return Ok(None);
        }
        // Between choosing a free port and listening on it, somebody else may take it.
        Self::start_once(kind).or_else(|_| Self::start_once(kind)).map(Some)
    }

    /// `redis://127.0.0.1:PORT`, or of a guarded one `rediss://USER:PASSWORD@127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Guarded => self.url_with(PASSWORD),
            Kind::Plain | Kind::Durable(_) => format!("redis://{}", self.address),
        }
    }

    /// The same with this password.
    #[must_use]
    pub fn url_with(&self, password: &str) -> String {
        let password = password.replace('/', "%2F").replace('+', "%2B");
        format!("rediss://{USER}:{password}@{}", self.address)
    }

    /// The certificate of who vouches for a guarded one.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Takes it away (`SIGKILL`), and everything in it that isn't on disk.
    pub fn stop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            // Nobody is left to tell, should the waiting fail.
            let _ = watchdog.wait();
        }
    }

    /// Brings it back: empty, or a durable one with what it had.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start_again(&mut self) -> Result<(), ServiceError> {
        self.stop();
        let port = self.address.port().to_string();
        let log = match self.kind {
            Kind::Plain | Kind::Guarded => ["--appendonly", "no"].as_slice(),
            Kind::Durable(fsync) => &["--appendonly", "yes", "--appendfsync", fsync.name()],
        };
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&self.program)
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(log)
            .arg("--dir")
            .arg(self.directory.path())
            .args(self.guard(&port))
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

    /// Where it listens, and for whom.
    fn guard(&self, port: &str) -> Vec<String> {
        if self.kind != Kind::Guarded {
            return ["--port", port].map(str::to_owned).to_vec();
        }
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let user = format!("{USER} on >{PASSWORD} ~brokle:* ~{{brokle:* &brokle:* +@all -@admin");
        let mut arguments =
            ["--port", "0", "--tls-port", port, "--tls-auth-clients", "no"].map(str::to_owned).to_vec();
        for (option, name) in [
            ("--tls-cert-file", "redis.pem"),
            ("--tls-key-file", "redis.key"),
            ("--tls-ca-cert-file", "ca.pem"),
        ] {
            arguments.extend([option.to_owned(), file(name)]);
        }
        for user in ["default off", &user] {
            arguments.push("--user".to_owned());
            arguments.extend(user.split(' ').map(str::to_owned));
        }
        arguments
    }

    fn start_once(kind: Kind) -> Result<Self, ServiceError> {
        let program = find()?;
        let directory = tempfile::tempdir().map_err(|error| failed(&error))?;
        if kind == Kind::Guarded {
            certify(directory.path())?;
        }
        let address = free_address().map_err(|error| failed(&error))?;
        let mut redis = Self { program, address, watchdog: None, directory, kind };
        redis.start_again()?;
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn certify(directory: &Path) -> Result<(), ServiceError> {
    let made = Command::new("/bin/sh").args(["-c", CERTIFICATES, "certify"]).arg(directory).output();
    let made = made.map_err(|error| failed(&error))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(failed(&format!("openssl: {}", String::from_utf8_lossy(&made.stderr)))),
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
