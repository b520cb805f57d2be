//! A server on a port of its own, with a database of its own and a few routes that misbehave.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use brokle_api::auth::Authenticated;
use brokle_api::body::{BodyLimits, CappedBody};
use brokle_api::boundary::boundary;
use brokle_api::ingest::Ingest;
use brokle_api::server::{self, Ended, Limits, PeerAddress, Reactors, Stop};
use brokle_api::watching::Watching;
use brokle_api::{ApiError, App, Lifecycle, router};
use brokle_core::catalogue::Catalogue;
use brokle_core::clock::SystemClock;
use brokle_core::random::SystemRandom;
use brokle_identity::bootstrap::bootstrap;
use brokle_identity::keys::NewKey;
use brokle_identity::{Scope, Secret};
use brokle_plugins::catalogue::Parts;
use brokle_plugins::{PinnedOnly, Settings, Unwatched};
use brokle_runtime::{Runtime, RuntimeConfig};
use brokle_storage::blobs::Folder;
use brokle_storage::observations::{ClickHouseObservations, QueryStore, SqliteObservations, clickhouse};
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_telemetry::live::{Live, Tickets};
use brokle_telemetry::retention::Retention;
use brokle_telemetry::{Options, Recorder};
use brokle_test_services::ClickHouse;
use bytes::Bytes;
use http_body_util::StreamBody;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";

/// Live streams that a key may have.
pub(crate) const STREAMS: usize = 2;

/// Longer than anything here takes; shorter than a person's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) stop: Stop,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) ended: JoinHandle<Ended>,
    /// What `/test/stream` sends.
    pub(crate) chunks: mpsc::Sender<&'static str>,
    pub(crate) directory: TempDir,
}

type Chunks = Arc<tokio::sync::Mutex<Option<mpsc::Receiver<&'static str>>>>;

impl Server {
    pub(crate) async fn start(limits: Limits, body: BodyLimits) -> Self {
        Self::start_with(limits, body, None, None).await
    }

    /// With a catalogue of plugins, behind this gate.
    pub(crate) async fn with_plugins(gate: PinnedOnly) -> Self {
        Self::start_with(Limits::default(), BodyLimits::default(), Some(gate), None).await
    }

    /// One that takes telemetry, in bodies up to this size.
    pub(crate) async fn with_telemetry(max_bytes: usize) -> Self {
        Self::start_with(Limits::default(), BodyLimits::default(), None, Some((max_bytes, None))).await
    }

    /// The same with its observations in a ClickHouse database of its own; none when services are left out.
    pub(crate) async fn with_clickhouse() -> Option<Self> {
        let clickhouse = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}"))?;
        let database = clickhouse::ClickHouse::new(&clickhouse.database_url()).unwrap();
        clickhouse::Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
        let store = Arc::new(ClickHouseObservations::new(database, Arc::new(SystemClock)).unwrap());
        let telemetry = Some((1 << 20, Some(store as Arc<dyn QueryStore>)));
        Some(Self::start_with(Limits::default(), BodyLimits::default(), None, telemetry).await)
    }

    async fn start_with(
        limits: Limits,
        body: BodyLimits,
        gate: Option<PinnedOnly>,
        telemetry: Option<(usize, Option<Arc<dyn QueryStore>>)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("brokle.db").display());
        let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
        Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
        bootstrap(&database, &SystemClock, &SystemRandom, Some(KEY)).await.unwrap();
        let lifecycle = Lifecycle::default();
        let catalogue = Arc::new(Catalogue::builtin().unwrap());
        let mut builder = App::builder(database.clone(), catalogue).lifecycle(lifecycle.clone()).body(body);
        if let Some(gate) = gate {
            builder = builder.plugin_catalogue(plugins(database.clone(), directory.path(), gate).await);
        }
        if let Some((max_bytes, store)) = telemetry {
            let path = directory.path().join("telemetry");
            let store = store.unwrap_or_else(|| Arc::new(SqliteObservations::open(&path).unwrap()));
            let live = Arc::new(Live::new(Arc::new(SystemClock), Arc::new(SystemRandom)));
            let tickets = Tickets::new(Arc::new(SystemClock), Arc::new(SystemRandom), None).unwrap();
            let options = Options { live: Some(Arc::clone(&live)), ..Options::new(&path) };
            let recorder = Recorder::start(&options, store.clone(), Arc::new(SystemClock)).unwrap();
            let watching = Watching::new(live, tickets, STREAMS, vec!["https://app.example".to_owned()]);
            let (folder, settings) = (Folder::new(directory.path().join("files")), Default::default());
            let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
            let retention =
                Retention::new(database, store.clone(), Arc::new(folder), clock, random, settings);
            builder = builder
                .retention(Arc::new(retention))
                .observations(store)
                .watching(Arc::new(watching.heartbeat(Duration::from_millis(50))))
                .ingest(Arc::new(Ingest::new(Arc::new(recorder), max_bytes)));
        }
        let app = builder.build();
        let (chunks, receiver) = mpsc::channel(8);
        let routes = router::router(&app).merge(misbehaving(&app, Arc::new(Some(receiver).into())));
        let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::default();
        let reactors = Reactors::start(NonZeroUsize::new(2).unwrap(), 2 << 20).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a test has no task tracker; the runtime's end ends it"
        )]
        let ended =
            tokio::spawn(server::serve(listener, reactors, routes, limits, lifecycle.clone(), stop.clone()));
        Self { address, app, stop, lifecycle, ended, chunks, directory }
    }

    pub(crate) async fn default() -> Self {
        Self::start(Limits::default(), BodyLimits::default()).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request on a connection of its own; `head` is its first line and further fields, one per line.
    pub(crate) async fn send(&self, head: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request(head, "connection: close").as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// Sends a request with a body.
    pub(crate) async fn send_body(&self, head: &str, kind: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        let more = format!("connection: close\ncontent-type: {kind}\ncontent-length: {}", body.len());
        stream.write_all(request(head, &more).as_bytes()).await.unwrap();
        // A server that answers before it has read everything may close first.
        let _ = stream.write_all(body).await;
        Answer::read(&mut stream).await
    }

    /// Makes a key of the default tenant.
    pub(crate) async fn key(&self, scope: Scope) -> Secret {
        let tenant = self.app.database.default_tenant().await.unwrap().unwrap();
        let scopes = vec![scope.to_string()];
        let new = NewKey { name: "test".to_owned(), scopes, ..NewKey::default() };
        self.app.keys.create(tenant, new).await.unwrap().1
    }
}

async fn plugins(
    database: Database,
    data_dir: &std::path::Path,
    gate: PinnedOnly,
) -> Arc<brokle_plugins::Catalogue> {
    let runtime = Runtime::start(RuntimeConfig::default(), data_dir, [1; 32]).unwrap();
    let parts = Parts {
        runtime,
        database,
        data_dir: data_dir.to_owned(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        gate: Arc::new(gate),
        watch: Arc::new(Unwatched),
        services: None,
    };
    let catalogue = brokle_plugins::Catalogue::open(parts, Settings::default()).unwrap();
    catalogue.start(Vec::new()).await.unwrap();
    catalogue
}

pub(crate) fn request(head: &str, more: &str) -> String {
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let mut text = format!("{line} HTTP/1.1\r\nhost: test\r\n");
    for field in fields.lines().chain(more.lines()).filter(|field| !field.is_empty()) {
        text.push_str(field.trim());
        text.push_str("\r\n");
    }
    text + "\r\n"
}

/// What came back before the connection ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(prefix.as_str()))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came to be so");
}

fn misbehaving(app: &Arc<App>, chunks: Chunks) -> Router {
    Router::new()
        .route("/v1/test/panic", get(panics))
        .route("/api/v1/test/panic", get(panics))
        .route("/v1/test/echo", post(async |CappedBody(body): CappedBody| body))
        .route("/v1/test/secret", get(async || ApiError::internal("the cause")))
        .route("/api/v1/test/admin", get(admin))
        .route("/test/peer", get(async |axum::Extension(PeerAddress(peer))| peer.ip().to_string()))
        .route("/test/big", get(async || Bytes::from(vec![b'x'; 64 * 1024 * 1024])))
        .route("/test/stream", get(async move || stream(chunks).await))
        .layer(from_fn_with_state(Arc::clone(app), boundary))
        .with_state(Arc::clone(app))
}

async fn panics() -> &'static str {
    panic!("as asked")
}

async fn admin(State(_): State<Arc<App>>, caller: Authenticated) -> Result<&'static str, ApiError> {
    caller.require(Scope::Admin)?;
    Ok("welcome")
}

async fn stream(chunks: Chunks) -> Body {
    let receiver = chunks.lock().await.take().unwrap();
    Body::new(StreamBody::new(futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(chunk))), receiver))
    })))
}
