//! `brokle serve`: start, serve, stop.
//!
//! **Start**: configuration, data directory (0700), encryption key, database, migrations (not by a worker, which waits for
//! a server to have done them by failing until then), the first tenant and key, background tasks, the listening socket.
//! A signal during the start ends it.
//!
//! **Stop**: the accept loop drains as [`brokle_api::server`] says; then the background tasks end; then the keys' last use
//! is written; then the database is closed. A second signal skips all of that and exits with code 130.

mod analytics;
mod background;
mod exporters;
mod gateway;
mod plugins;
mod quickstart;
mod routing;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use brokle_api::failed_keys::FailedKeys;
use brokle_api::ingest::Ingest;
use brokle_api::server::{self, Ended, Reactors, Stop};
use brokle_api::watching::Watching;
use brokle_api::{App, Lifecycle, grpc, router};
use brokle_core::catalogue::Catalogue as Models;
use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::{Capture, Tenant};
use brokle_exporters::Service as Exporters;
use brokle_identity::bootstrap::bootstrap;
use brokle_identity::seal::MasterKey;
use brokle_identity::{KeyService, Secret};
use brokle_storage::blobs::BlobStore;
use brokle_storage::observations::{Payloads, QueryStore};
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_telemetry::Worker;
use brokle_telemetry::live::{Live, Relay, Tickets};
use brokle_telemetry::retention::Retention;
use brokle_telemetry::rollups::Rollups;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::cli::{ConfigFile, Outcome};
use crate::config::{self, Config, Secrets};
use crate::logs;

/// What a shell says of a program that was interrupted.
const ABORTED: u8 = 130;

/// How long a migration may take before somebody is told that one is running.
const MIGRATION_NOTICE: Duration = Duration::from_millis(300);

/// How long the background tasks and the database have to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A thread's stack: pure calls of components run on it, and may take 512 KiB.
const STACK: usize = 2 << 20;

/// Why a worker doesn't start.
const ALONE: &str = "a worker of its own needs a shared queue and a shared store: REDIS_URL and CLICKHOUSE_URL. Those of \
                     the data directory belong to one process, which works them off itself (--role all or server)";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Start the server.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// What this process does.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// Print the URL and a first call, also when standard output is no terminal.
    #[arg(long)]
    quickstart: bool,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// Answers requests, and migrates the databases at its start; leaves a shared queue to workers.
    Server,
    /// Brings what is in the shared queue to ClickHouse, exports from there, and works on batches where their files are in a
    /// folder that it shares; answers health checks and metrics only.
    Worker,
}

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let config = config::load(args.file.config.as_deref())?;
    let secrets = Secrets::from_env();
    logs::start(&config.logs)?;
    for warning in config.warnings().into_iter().chain(secrets.warnings()) {
        tracing::warn!("{warning}");
    }
    // What no caller waits for runs here.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build()?;
    // Ended last: what a call opened, to a database for example, is read on its reactor until it is closed.
    let reactors = Reactors::start(config.server.reactors(), STACK)?;
    let outcome = runtime.block_on(run_until_stopped(args, &config, &secrets, &reactors));
    // What still blocks a thread now isn't waited for.
    runtime.shutdown_background();
    outcome
}

async fn run_until_stopped(
    args: &ServeArgs,
    config: &Config,
    secrets: &Secrets,
    reactors: &Reactors,
) -> Outcome {
    let signals = TaskTracker::new();
    let stop = Stop::at_signals(&signals)?;
    let started = tokio::select! {
        biased;
        _ = stop.requested() => {
            tracing::info!("stopped during the start");
            return Ok(ExitCode::from(ABORTED));
        }
        started = start(args, config, secrets) => started?,
    };
    let tasks = background::Tasks::start(
        &started.app,
        started.made.as_ref().map(|made| Arc::clone(&made.catalogue)),
        started.pending,
        started.relay,
        started.exporters,
        started.upkeep,
        config.batches.run,
    );
    let router = if args.role == Role::Worker {
        router::operations(&started.app)
    } else {
        router::router(&started.app)
    };
    let lifecycle = started.app.lifecycle.clone();
    let grpc = TaskTracker::new();
    if let Some(listener) = started.grpc {
        let serving = grpc::serve(listener, Arc::clone(&started.app), stop.clone());
        grpc.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = &error as &dyn std::error::Error, "OTLP over gRPC ended");
            }
        });
    }
    grpc.close();
    let ended = server::serve(
        started.listener,
        reactors.clone(),
        router,
        config.server.limits(),
        lifecycle,
        stop.clone(),
    )
    .await;
    if ended == Ended::Aborted {
        tracing::warn!("stopped at once");
        return Ok(ExitCode::from(ABORTED));
    }
    let closing = async {
        grpc.wait().await;
        tasks.stop().await;
        if let Err(error) = started.keys.flush_last_used().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the keys' last use wasn't written");
        }
        if let Some(made) = &started.made
            && let Err(error) = made.gateway.budgets().synchronize().await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was spent of budgets wasn't written"
            );
        }
        if let Some(made) = &started.made {
            made.recorder.shutdown().await;
        }
        if let Some(worker) = &started.worker {
            worker.shutdown().await;
        }
        started.app.database.close().await;
    };
    tokio::select! {
        () = stop.at_once() => return Ok(ExitCode::from(ABORTED)),
        closed = tokio::time::timeout(CLOSE_TIMEOUT, closing) => {
            if closed.is_err() {
                tracing::warn!("the database didn't close in time");
            }
        }
    }
    stop.finished();
    signals.close();
    signals.wait().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A server that is ready to serve.
struct Started {
    app: Arc<App>,
    keys: Arc<KeyService>,
    made: Option<gateway::Assembled>,
    pending: Option<analytics::Pending>,
    relay: Option<Relay>,
    exporters: Option<Arc<Exporters>>,
    upkeep: Option<background::Upkeep>,
    worker: Option<Arc<Worker>>,
    listener: TcpListener,
    /// For OTLP over gRPC.
    grpc: Option<TcpListener>,
}

async fn start(args: &ServeArgs, config: &Config, secrets: &Secrets) -> Result<Started, Failure> {
    make_private_directory(&config.storage.data_dir)?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let sealing = secrets.encryption_key.as_ref().map(Secret::expose);
    let master_key = MasterKey::from_env_or_file(sealing, &config.storage.data_dir, random.as_ref())?;
    let catalogue = Arc::new(Models::builtin()?.with_overrides(config.models.clone())?);

    let database = connect(config).await?;
    migrate(config, &database, args.role).await?;
    let folder = config.files.folder.clone().unwrap_or_else(|| config.storage.data_dir.join("files"));
    let blobs = config.blobs.open(folder, secrets.s3.as_ref())?;
    let queue = config.shared_queue()?;
    let serves = args.role != Role::Worker;
    let opened = if serves {
        analytics::open(config, clock.clone()).await?
    } else {
        let store = analytics::shared(config, clock.clone())?.filter(|_| queue.is_some());
        analytics::Opened { store: store.ok_or(ALONE)?, pending: None }
    };
    let store: Arc<dyn QueryStore> =
        Arc::new(Payloads::new(opened.store, Arc::clone(&blobs), config.telemetry.inline_bytes)?);
    for warning in database.warnings().await? {
        tracing::warn!("{warning}");
    }
    let listener = server::bind(config.server.listen)
        .map_err(|error| format!("server.listen: can't listen at {}: {error}", config.server.listen))?;
    let address = listener.local_addr()?;
    let wanted = config.telemetry.grpc_listen.filter(|_| serves);
    let grpc = wanted.map(|address| {
        server::bind(address)
            .map_err(|error| format!("telemetry.grpc_listen: can't listen at {address}: {error}"))
    });
    let grpc = grpc.transpose()?;

    let mut first_key = None;
    if serves {
        let given = secrets.bootstrap_api_key.as_ref().map(Secret::expose);
        let first = bootstrap(&database, clock.as_ref(), random.as_ref(), given).await?;
        first_key = Some(first.key);
        capture(&database, first.tenant, config.telemetry.capture, clock.as_ref()).await?;
    }
    let keys = Arc::new(KeyService::new(database.clone(), clock.clone(), random.clone()));
    let mut app = App::builder(database.clone(), Arc::clone(&catalogue))
        .clock(clock.clone())
        .random(random.clone())
        .keys(Arc::clone(&keys))
        .failed_keys(FailedKeys::new(config.server.failed_keys_per_minute))
        .trusted_proxies(config.server.trusted_proxies()?)
        .lifecycle(Lifecycle::default())
        .data_directory(config.storage.data_dir.clone())
        .body(config.server.body_limits());
    let retention = retention(config, &database, Arc::clone(&store), &blobs);
    // A shared store is the workers' to look after.
    let looks_after = args.role != Role::Server || store.is_embedded();
    // A worker needs a gateway of its own to work on batches, and its components to export.
    let works_on_batches =
        config.batches.run && (config.files.folder.is_some() || config.blobs.bucket.is_some());
    let live = Arc::new(Live::new(clock.clone(), random.clone()));
    let calls = serves || works_on_batches;
    let mut made = None;
    if calls || !config.exporters.is_empty() {
        let with = gateway::Ingredients {
            clock,
            random,
            database: database.clone(),
            master_key: Arc::new(master_key),
            catalogue,
            store: Arc::clone(&store),
            live: Arc::clone(&live),
            blobs,
        };
        let made = made.insert(gateway::assemble(config, with).await?);
        app = app
            .metrics(Arc::clone(&made.metrics))
            .plugins(Arc::new(plugins::Health(Arc::clone(&made.catalogue))));
        if calls {
            app = app
                .gateway(Arc::clone(&made.gateway))
                .batches(Arc::clone(&made.files), Arc::clone(&made.batches));
        }
    }
    let exporters = match &made {
        Some(made) => exporters::of(config, &database, made, args.role).await?,
        None => None,
    };
    let mut relay = None;
    if let Some(made) = made.as_ref().filter(|_| serves) {
        let (watching, told) = watching(config, &live)?;
        relay = told;
        app = app
            .connections(Arc::clone(&made.connections))
            .observations(Arc::clone(&store))
            .watching(watching)
            .ingest(Arc::new(
                Ingest::new(Arc::clone(&made.recorder), config.telemetry.max_request_bytes)
                    .with_recording(Arc::clone(&made.recording)),
            ))
            .plugin_catalogue(Arc::clone(&made.catalogue))
            .telemetry(Arc::new(gateway::Queue(Arc::clone(&made.recorder))))
            .retention(Arc::clone(&retention));
    }
    let mut worker = None;
    if let Some(queue) = queue.filter(|_| args.role != Role::Server) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let started = Worker::start(&queue, &(Arc::clone(&store) as _), &clock, &SystemRandom)?;
        let started = Arc::new(started);
        if !serves {
            app = app.observations(store).telemetry(Arc::new(gateway::WorkersQueue(Arc::clone(&started))));
        }
        worker = Some(started);
    }
    let app = app.build();
    let shared = app.observations.clone().filter(|store| !store.is_embedded());
    let rollups =
        shared.map(|store| Rollups::new(app.database.clone(), store, Arc::new(SystemClock), &SystemRandom));
    let upkeep = looks_after.then_some(background::Upkeep { retention, rollups });
    let grpc_address = grpc.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(key) = &first_key {
        quickstart::print(address, grpc_address, key, args.quickstart)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let grpc_address = grpc_address.map(tracing::field::display);
    let (database, analytics) = (app.database.kind(), app.observations.as_ref().map(|store| store.kind()));
    tracing::info!(%address, grpc_address, version, database, analytics, role = ?args.role, "serving");
    Ok(Started { app, keys, made, pending: opened.pending, relay, exporters, upkeep, worker, listener, grpc })
}

/// Who deletes what is too old.
fn retention(
    config: &Config,
    database: &Database,
    store: Arc<dyn QueryStore>,
    blobs: &Arc<dyn BlobStore>,
) -> Arc<Retention> {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let settings = config.telemetry.retention();
    Arc::new(Retention::new(database.clone(), store, Arc::clone(blobs), clock, random, settings))
}

/// What live streams share, and their way to other servers if there is a Redis.
fn watching(config: &Config, live: &Arc<Live>) -> Result<(Arc<Watching>, Option<Relay>), Failure> {
    let redis = config.redis()?;
    let tickets = Tickets::new(Arc::new(SystemClock), Arc::new(SystemRandom), redis.clone())?;
    let relay = redis.map(|client| Relay::new(Arc::clone(live), client)).transpose()?;
    let (per_key, origins) = (config.telemetry.live_streams_per_key, config.server.allowed_origins.clone());
    Ok((Arc::new(Watching::new(Arc::clone(live), tickets, per_key, origins)), relay))
}

/// Gives the default project the configured capture setting, if that isn't what it has.
async fn capture(
    database: &Database,
    tenant: Tenant,
    wanted: Capture,
    clock: &SystemClock,
) -> Result<(), Failure> {
    let projects = database.projects();
    let project = projects.get(tenant.organization, tenant.project).await?;
    if project.capture != wanted {
        projects.set_capture(tenant.organization, tenant.project, wanted, clock.now()).await?;
        tracing::info!(capture = wanted.as_str(), "the default project's capture setting was changed");
    }
    Ok(())
}

/// Makes the directory for its owner only; one that is there already stays as it is.
fn make_private_directory(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| format!("storage.data_dir: {} can't be made: {error}", path.display()).into())
}

/// Connects to the configured database.
///
/// # Errors
/// When it can't be reached; the text names no password.
pub(crate) async fn connect(config: &Config) -> Result<Database, Failure> {
    Ok(Database::connect(&config.database_url(), config.storage.options()).await?)
}

/// Connects as who may migrate, for as long as that takes.
///
/// # Errors
/// When it can't be reached; the text names no password.
pub(crate) async fn connect_owner(config: &Config) -> Result<Database, Failure> {
    let url = config.storage.migrate_url.clone().unwrap_or_else(|| config.database_url());
    let options = ConnectOptions { max_connections: 1, statement_timeout: None, ..config.storage.options() };
    Ok(Database::connect(&url, options).await?)
}

async fn migrate(config: &Config, database: &Database, role: Role) -> Result<(), Failure> {
    if role == Role::Worker {
        let info = Migrator::new(database).info().await?;
        if info.pending > 0 {
            let pending = info.pending;
            return Err(format!(
                "{pending} migration(s) are pending: start a server, or `brokle migrate up`"
            )
            .into());
        }
        return Ok(());
    }
    let owner = connect_owner(config).await?;
    let migrator = Migrator::new(&owner);
    let applying = migrator.up(None, false, |step| {
        tracing::info!(version = step.version, name = step.name, "migrated the database");
    });
    let mut applying = std::pin::pin!(applying);
    tokio::select! {
        done = applying.as_mut() => done?,
        () = tokio::time::sleep(MIGRATION_NOTICE) => {
            tracing::info!("migrating the database: this may take a while");
            applying.await?
        }
    };
    owner.close().await;
    Ok(())
}
