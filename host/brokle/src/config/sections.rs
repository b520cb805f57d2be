//! The smaller sections.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use brokle_api::body::BodyLimits;
use brokle_api::client::TrustedProxies;
use brokle_api::server::Limits;
use brokle_core::tenancy::Capture;
use brokle_storage::observations::payloads;
use brokle_storage::sql::ConnectOptions;
use brokle_telemetry::retention;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Address and port. Also `BROKLE_LISTEN`.
    pub(crate) listen: SocketAddr,
    /// Threads that serve connections; 0: as many as there are processors.
    pub(crate) threads: usize,
    /// Connections at once; the next one is answered 503.
    pub(crate) max_connections: usize,
    /// Bytes of a request's body; a larger one is answered 413.
    pub(crate) max_body_bytes: u64,
    /// Bytes of a request's head.
    pub(crate) max_head_bytes: usize,
    /// Unknown API keys that an address may present in a minute before it is answered 429; 0 doesn't count them.
    pub(crate) failed_keys_per_minute: u32,
    /// Networks of load balancers, whose `X-Forwarded-For` says where a request comes from: `10.0.0.0/8`, or an address.
    pub(crate) trusted_proxies: Vec<String>,
    /// Pages that may open live streams besides the server's own: `https://app.example`.
    pub(crate) allowed_origins: Vec<String>,
    /// Time for a request's head, in milliseconds.
    pub(crate) head_timeout_ms: u64,
    /// Time for a request's body before it has to come faster than 1 KiB/s, in milliseconds.
    pub(crate) body_timeout_ms: u64,
    /// How long a connection is kept without a request, in milliseconds.
    pub(crate) idle_timeout_ms: u64,
    /// How long a client may take no byte of its answer, in milliseconds.
    pub(crate) write_stall_ms: u64,
    /// How long requests are accepted after SIGTERM, while `/health/ready` says no, in milliseconds.
    pub(crate) lame_duck_ms: u64,
    /// How long requests in flight have to end at a shutdown, in milliseconds.
    pub(crate) drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        let (limits, body) = (Limits::default(), BodyLimits::default());
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            threads: 0,
            max_connections: limits.max_connections,
            max_body_bytes: body.max_bytes,
            max_head_bytes: limits.max_head_bytes,
            failed_keys_per_minute: brokle_api::failed_keys::DEFAULT_PER_MINUTE,
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            head_timeout_ms: milliseconds(limits.head_timeout),
            body_timeout_ms: milliseconds(body.grace),
            idle_timeout_ms: milliseconds(limits.idle_timeout),
            write_stall_ms: milliseconds(limits.write_stall),
            lame_duck_ms: milliseconds(limits.lame_duck),
            drain_timeout_ms: milliseconds(limits.drain_timeout),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Server {
    /// hyper's smallest buffer is 8 KiB.
    const MIN_HEAD: usize = 8 * 1024;
    /// Each has a stack, and connections to providers of its own.
    const MAX_THREADS: usize = 1_024;

    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_head_bytes < Self::MIN_HEAD {
            return Err(format!("server.max_head_bytes: at least {} is expected", Self::MIN_HEAD));
        }
        self.trusted_proxies()?;
        let is_origin = |text: &String| {
            let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', '*']))
        };
        if let Some(text) = self.allowed_origins.iter().find(|text| !is_origin(text)) {
            return Err(format!(
                "server.allowed_origins: '{text}' isn't an origin such as https://app.example"
            ));
        }
        if self.threads > Self::MAX_THREADS {
            return Err(format!("server.threads: at most {} are expected", Self::MAX_THREADS));
        }
        for (key, value) in [
            ("max_connections", self.max_connections as u64),
            ("max_body_bytes", self.max_body_bytes),
            ("head_timeout_ms", self.head_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("write_stall_ms", self.write_stall_ms),
        ] {
            if value == 0 {
                return Err(format!("server.{key}: 0 would refuse every request"));
            }
        }
        Ok(())
    }

    /// Who may say where a request comes from.
    pub(crate) fn trusted_proxies(&self) -> Result<TrustedProxies, String> {
        TrustedProxies::parse(&self.trusted_proxies)
            .map_err(|text| format!("server.trusted_proxies: '{text}' is no network and no address"))
    }

    /// How many threads serve connections.
    pub(crate) fn reactors(&self) -> NonZeroUsize {
        let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.threads).unwrap_or_else(processors)
    }

    /// For the accept loop.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_head_bytes: self.max_head_bytes,
            head_timeout: Duration::from_millis(self.head_timeout_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            write_stall: Duration::from_millis(self.write_stall_ms),
            lame_duck: Duration::from_millis(self.lame_duck_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
        }
    }

    /// For the body reader.
    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            max_bytes: self.max_body_bytes,
            grace: Duration::from_millis(self.body_timeout_ms),
            ..BodyLimits::default()
        }
    }
}

/// Databases and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// Where files are kept; made with mode 0700. Also `BROKLE_DATA_DIR`.
    pub(crate) data_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; without it `brokle.db` in the data directory. Also `DATABASE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_url: Option<String>,
    /// The same database as the role that owns its tables, for migrations; without it the role of `database_url` does both.
    /// Also `DATABASE_MIGRATE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) migrate_url: Option<String>,
    /// Connections to the database.
    pub(crate) max_connections: u32,
    /// How long a request waits for one of them, in milliseconds.
    pub(crate) acquire_timeout_ms: u64,
    /// How long PostgreSQL may work on a statement, in milliseconds; 0: as long as it takes. Migrations have no limit.
    pub(crate) statement_timeout_ms: u64,
    /// `http[s]://[USER:PASSWORD@]HOST:PORT[/DATABASE]`: a ClickHouse server for observations, which otherwise are files of
    /// the data directory. Also `CLICKHOUSE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clickhouse_url: Option<String>,
    /// A Redis server `redis[s]://[USER:PASSWORD@]HOST:PORT[/DATABASE]`, for limits, a telemetry queue and a cache that several
    /// processes share; `rediss` is TLS. Also `REDIS_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis_url: Option<String>,
    /// A file of certificates (PEM) of those who may vouch for that server, in the place of the system's. Also `REDIS_CA_FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis_ca_file: Option<PathBuf>,
}

impl Default for Storage {
    fn default() -> Self {
        let options = ConnectOptions::default();
        Self {
            data_dir: PathBuf::from("./data"),
            database_url: None,
            migrate_url: None,
            max_connections: options.max_connections,
            acquire_timeout_ms: milliseconds(options.acquire_timeout),
            statement_timeout_ms: options.statement_timeout.map(milliseconds).unwrap_or_default(),
            clickhouse_url: None,
            redis_url: None,
            redis_ca_file: None,
        }
    }
}

impl Storage {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_connections == 0 || self.acquire_timeout_ms == 0 {
            return Err(
                "storage.max_connections, storage.acquire_timeout_ms: at least 1 is expected".to_owned()
            );
        }
        if self.migrate_url.is_some() && self.database_url.is_none() {
            return Err("storage.migrate_url: of which database? storage.database_url isn't set".to_owned());
        }
        Ok(())
    }

    /// How to connect for serving.
    pub(crate) fn options(&self) -> ConnectOptions {
        let statement = self.statement_timeout_ms;
        ConnectOptions {
            max_connections: self.max_connections,
            acquire_timeout: Duration::from_millis(self.acquire_timeout_ms),
            statement_timeout: (statement > 0).then(|| Duration::from_millis(statement)),
        }
    }
}

/// Observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// What the default project's calls leave behind: `full`, `metadata` or `off`.
    #[schemars(with = "String", extend("enum" = ["full", "metadata", "off"]))]
    pub(crate) capture: Capture,
    /// Bytes of a request with spans, before and after it is inflated; a larger one is answered 413.
    pub(crate) max_request_bytes: usize,
    /// Where OTLP over gRPC is taken, `127.0.0.1:4317` for instance; without it nowhere. Also `BROKLE_OTLP_GRPC_LISTEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_listen: Option<SocketAddr>,
    /// Bytes of the queue from which on spans from elsewhere are answered 503.
    pub(crate) max_queue_bytes: usize,
    /// Where observations wait to be stored: `embedded`, a file of the data directory, or `redis`, which processes share.
    /// Without it Redis, if both `storage.redis_url` and `storage.clickhouse_url` are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<QueueKind>,
    /// Live streams and sockets that an API key may have at once.
    pub(crate) live_streams_per_key: usize,
    /// Bytes of an input or output from which on it is a blob, and its row has the beginning; 1024 at least.
    pub(crate) inline_bytes: usize,
    /// Days that telemetry is kept for, of projects that don't say.
    pub(crate) retention_days: u32,
    /// The most that a project may say.
    pub(crate) max_retention_days: u32,
}

/// Where observations wait to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueKind {
    /// In a file of the data directory, which belongs to one process.
    Embedded,
    /// In the Redis of `storage.redis_url`, which servers and workers share.
    Redis,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            capture: Capture::default(),
            max_request_bytes: brokle_api::ingest::DEFAULT_MAX_BYTES,
            grpc_listen: None,
            max_queue_bytes: brokle_telemetry::Options::new("").max_queued_bytes,
            queue: None,
            live_streams_per_key: brokle_api::watching::DEFAULT_PER_KEY,
            inline_bytes: 64 << 10,
            retention_days: retention::Settings::default().days,
            max_retention_days: retention::Settings::default().max_days,
        }
    }
}

impl Telemetry {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=256 << 20).contains(&self.max_request_bytes) {
            return Err("telemetry.max_request_bytes: 1 to 268435456 is expected".to_owned());
        }
        if self.max_queue_bytes == 0 {
            return Err("telemetry.max_queue_bytes: 0 would refuse every request".to_owned());
        }
        if self.inline_bytes < payloads::PREVIEW {
            return Err(format!("telemetry.inline_bytes: at least {} is expected", payloads::PREVIEW));
        }
        for (key, days) in
            [("retention_days", self.retention_days), ("max_retention_days", self.max_retention_days)]
        {
            if !(1..=retention::MAX_DAYS).contains(&days) {
                return Err(format!("telemetry.{key}: 1 to {} is expected", retention::MAX_DAYS));
            }
        }
        Ok(())
    }

    /// How long it is kept.
    pub(crate) fn retention(&self) -> retention::Settings {
        retention::Settings { days: self.retention_days, max_days: self.max_retention_days }
    }
}

/// The sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Runtime {
    /// Instances of components at once.
    pub(crate) max_instances: u32,
    /// Memory that one instance may have, in MiB.
    pub(crate) memory_mib: u32,
    /// The folder that plugins are loaded from, if not the built-in ones are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// The root of trust, for a binary that was built without one; one with its own refuses this. Also `BROKLE_TRUST_ROOT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trust_root: Option<PathBuf>,
    /// The license that unlocks enterprise components. Also `BROKLE_LICENSE_FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) license_file: Option<PathBuf>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { max_instances: 1_000, memory_mib: 64, plugins_dir: None, trust_root: None, license_file: None }
    }
}

impl Runtime {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_instances == 0 {
            return Err("runtime.max_instances: at least 1 is expected".to_owned());
        }
        // 32-bit memories end at 4 GiB; below 1 MiB no component starts.
        if !(1..=4_096).contains(&self.memory_mib) {
            return Err("runtime.memory_mib: 1 to 4096 is expected".to_owned());
        }
        Ok(())
    }
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logs {
    /// `json`, `pretty`, or `auto`: pretty on a terminal, JSON elsewhere.
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,brokle_api=debug`.
    pub(crate) level: String,
}

impl Default for Logs {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// An object per line.
    Json,
    /// For people.
    Pretty,
}
