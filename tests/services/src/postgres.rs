//! A PostgreSQL cluster for tests.
//!
//! - One cluster per test process ([`Postgres::shared`]), one database per test ([`Postgres::database`]).
//! - It runs as an unprivileged user, since PostgreSQL refuses to run as root: when we are root, as `postgres` or
//!   `nobody`.
//! - Its directory is a new temporary one, readable for that user only. It listens on a free port of the loopback
//!   interface, where it asks for a password that is made up for the cluster, and on a socket in the directory, where it
//!   doesn't. `fsync` is off.
//! - It ends with the test process, however that ends: a shell beside it waits for the end of its standard input, whose
//!   other end only the test process holds, then stops the server by its process id and removes the directory. A static
//!   is never dropped in Rust, and a killed process drops nothing, so `Drop` alone would leave servers behind.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{ServiceError, free_address, skipped};

/// How long a server may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What the server logs before it gives up because its port is taken.
const NO_PORT: &str = "could not create any TCP/IP sockets";

/// Starts the server in the background and waits for the test process to end. `$1` is the programs' directory, `$2` the
/// cluster's, the rest are the server's arguments. SIGINT asks PostgreSQL for a fast shutdown, which disconnects clients.
const WATCHDOG: &str = r#"
bin=$1; dir=$2; shift 2
"$bin/postgres" -D "$dir/data" "$@" </dev/null >"$dir/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT "$server" 2>/dev/null
wait "$server"
rm -rf "$dir"
"#;

/// A running cluster.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    directory: PathBuf,
    port: u16,
    password: String,
    watchdog: Child,
    databases: AtomicU32,
}

/// A new, empty database and three ways into it, as `postgres://` URLs.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// As the role that owns the database: it migrates.
    pub owner_url: String,
    /// As an ordinary role that may read and write the owner's tables, not own or alter them.
    pub app_url: String,
    /// As the cluster's superuser.
    pub superuser_url: String,
}

impl Postgres {
    /// The test process's cluster, started by whoever asks first; `None` with `SKIP_SERVICES=1`.
    ///
    /// # Errors
    /// When PostgreSQL isn't installed or doesn't start.
    pub fn shared() -> Result<Option<&'static Self>, ServiceError> {
        static SHARED: OnceLock<Result<Postgres, ServiceError>> = OnceLock::new();
        if skipped() {
            return Ok(None);
        }
        SHARED.get_or_init(Self::start).as_ref().map(Some).map_err(Clone::clone)
    }

    /// Starts a cluster of its own, which ends when it is dropped: for tests that take the server away.
    ///
    /// # Errors
    /// When PostgreSQL isn't installed or doesn't start.
    pub fn start() -> Result<Self, ServiceError> {
        // Between choosing a free port and listening on it, somebody else may take it.
        Self::start_once().or_else(|_| Self::start_once())
    }

    fn start_once() -> Result<Self, ServiceError> {
        let bin = find_programs()?;
        let user = unprivileged_user()?;
        let directory = new_directory(user)?;
        run(
            "initdb",
            unprivileged(&bin.join("initdb"), user, &directory).args([
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "-D",
                "data",
            ]),
        )?;
        let port = free_address().map_err(|error| failed("finding a free port", &error))?.port();
        let watchdog = unprivileged(Path::new("/bin/sh"), user, &directory)
            .args(["-c", WATCHDOG, "watchdog"])
            .args([&bin, &directory])
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
            .arg(&directory)
            .args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=32MB"])
            // Out of the terminal's process group: Ctrl-C is ours to pass on, by closing the pipe.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("starting PostgreSQL", &error))?;
        let postgres = Self {
            bin,
            directory,
            port,
            password: random_password()?,
            watchdog,
            databases: AtomicU32::new(0),
        };
        postgres.wait_until_ready()?;
        postgres.prepare()?;
        Ok(postgres)
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> Result<TestDatabase, ServiceError> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(
            "postgres",
            &format!("CREATE DATABASE {name} OWNER brokle_owner TEMPLATE brokle_template"),
        )?;
        Ok(TestDatabase {
            owner_url: self.url("brokle_owner", &name),
            app_url: self.url("brokle_app", &name),
            superuser_url: self.url("postgres", &name),
        })
    }

    /// What a script that runs where the cluster is made, as those of the official image, finds in its environment: the
    /// superuser's name and password, and the way to the server.
    ///
    /// # Errors
    /// `PATH` can't be put together.
    pub fn environment(&self) -> Result<[(&'static str, OsString); 6], ServiceError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(self.bin.clone()).chain(env::split_paths(&path)))
            .map_err(|error| failed("finding psql", &error))?;
        Ok([
            ("PATH", path),
            ("PGHOST", self.directory.clone().into()),
            ("PGPORT", self.port.to_string().into()),
            ("PGDATABASE", "postgres".into()),
            ("POSTGRES_USER", "postgres".into()),
            ("POSTGRES_PASSWORD", self.password.clone().into()),
        ])
    }

    /// The URL of a database for a role with the superuser's password.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The roles of a careful installation: one that owns, one that works, neither of them a superuser.
    fn prepare(&self) -> Result<(), ServiceError> {
        let password = &self.password;
        self.psql("postgres", &format!("ALTER ROLE postgres PASSWORD '{password}'"))?;
        self.psql("postgres", &format!("CREATE ROLE brokle_owner LOGIN PASSWORD '{password}'"))?;
        self.psql("postgres", &format!("CREATE ROLE brokle_app LOGIN PASSWORD '{password}'"))?;
        self.psql("postgres", "CREATE DATABASE brokle_template OWNER brokle_owner")?;
        self.psql("brokle_template", "ALTER SCHEMA public OWNER TO brokle_owner")?;
        self.psql(
            "brokle_template",
            "ALTER DEFAULT PRIVILEGES FOR ROLE brokle_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO brokle_app",
        )
    }

    fn wait_until_ready(&self) -> Result<(), ServiceError> {
        let start = Instant::now();
        loop {
            match self.psql("postgres", "SELECT 1") {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > START_TIMEOUT || self.log().contains(NO_PORT) => {
                    return Err(failed("waiting for PostgreSQL", &format!("{error}\n{}", self.log())));
                }
                // Each try is a process of its own, so the loop doesn't spin.
                Err(_) => {}
            }
        }
    }

    fn psql(&self, database: &str, statement: &str) -> Result<(), ServiceError> {
        run(
            "psql",
            Command::new(self.bin.join("psql"))
                .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"])
                .arg("--host")
                .arg(&self.directory)
                .arg(format!("--port={}", self.port))
                .arg(format!("--dbname={database}"))
                .arg(format!("--command={statement}"))
                .env_clear()
                .current_dir("/"),
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    /// Ends the server and waits until it and its directory are gone.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // Nobody is left to tell, should the waiting fail.
        let _ = self.watchdog.wait();
    }
}

fn find_programs() -> Result<PathBuf, ServiceError> {
    let mut candidates: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    candidates.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let newest_first = candidates.into_iter().rev().map(|(_, bin)| bin);
    newest_first
        .chain(std::env::split_paths(&path))
        .find(|bin| ["initdb", "postgres", "psql"].iter().all(|program| bin.join(program).is_file()))
        .ok_or(ServiceError::Missing {
            program: "PostgreSQL (initdb, postgres, psql)",
            searched: "/usr/lib/postgresql/*/bin and PATH",
            package: "postgresql",
        })
}

/// A user's and its group's number.
type User = (u32, u32);

/// Whom to run as: nobody else, or when we are root, a user that has no rights.
fn unprivileged_user() -> Result<Option<User>, ServiceError> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|error| failed("reading our user id", &error))?;
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    if uid != Some("0") {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| failed("reading /etc/passwd", &error))?;
    let user = ["postgres", "nobody"].iter().find_map(|name| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (user, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            if user == *name { Some((uid.parse().ok()?, gid.parse().ok()?)) } else { None }
        })
    });
    user.map(Some).ok_or_else(|| {
        failed("running PostgreSQL", "it refuses root, and there is no user postgres or nobody")
    })
}

/// A directory with a short path (a socket's path has 107 bytes at most) that belongs to the server's user alone.
fn new_directory(user: Option<User>) -> Result<PathBuf, ServiceError> {
    let what = "creating PostgreSQL's directory";
    let directory = tempfile::Builder::new()
        .prefix("brokle-pg-")
        .tempdir_in("/tmp")
        .map_err(|error| failed(what, &error))?
        .keep();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
        .map_err(|error| failed(what, &error))?;
    if let Some((uid, gid)) = user {
        chown(&directory, Some(uid), Some(gid)).map_err(|error| failed(what, &error))?;
    }
    Ok(directory)
}

fn unprivileged(program: &Path, user: Option<User>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(directory);
    if let Some((uid, gid)) = user {
        // Setting the user drops root's other groups too.
        command.uid(uid).gid(gid);
    }
    command
}

fn random_password() -> Result<String, ServiceError> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| failed("making up a password", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a program to its end. Its output goes through a file: a server that it leaves behind would keep a pipe open.
fn run(what: &str, command: &mut Command) -> Result<(), ServiceError> {
    let mut output = tempfile::tempfile().map_err(|error| failed(what, &error))?;
    let clone = |file: &File| file.try_clone().map_err(|error| failed(what, &error));
    let status = command
        .stdin(Stdio::null())
        .stdout(clone(&output)?)
        .stderr(clone(&output)?)
        .status()
        .map_err(|error| failed(what, &error))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = std::io::Seek::rewind(&mut output).and_then(|()| output.read_to_string(&mut text));
    Err(failed(what, &format!("{status}\n{text}")))
}

fn failed(what: &str, reason: &(impl ToString + ?Sized)) -> ServiceError {
    ServiceError::Failed { what: what.to_owned(), reason: reason.to_string() }
}
