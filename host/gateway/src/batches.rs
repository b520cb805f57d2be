//! Batches: files of calls that are made by and by, in OpenAI's form.
//!
//! **Whose calls.** Each line is a call of the key that made the batch, through the whole pipeline: its limits, budgets,
//! restrictions, guardrails, routes and cache hold, and it leaves a trace (tag `batch_…`). A key that is revoked or expires
//! fails the lines that are left.
//!
//! **How fast.** At most [`Settings::concurrency`] lines of a batch at once, [`OF_A_PROJECT`] batches of a project, and
//! [`AT_ONCE`] on a server; the project with the fewest at work is next. A line that
//! is told to wait (429 but for a budget's, 503) waits, `Retry-After` or longer each time up to [`LONGEST_WAIT`], until it
//! is answered or the batch's time is over; other 5xx are tried [`TRIES`] times. Anything else is the line's answer.
//!
//! **Servers share the work.** Whoever has a batch's lease ([`Settings::lease`]) works on it, and the next one goes on where it
//! was lost: a line whose answer is stored isn't asked again. One whose answer was on its way when its server died is asked
//! twice: nobody knows what became of it.
//!
//! **A provider's.** A batch whose file is kept by a provider is that provider's to work on ([`native`]): its lines are no calls of
//! ours, but what they use is accounted for the same key when it ends. Where the provider has no files, its file is kept here and
//! its lines, of chat completions only, go with the batch.
//!
//! **Ends.** `completed`; `failed` when its file can't be used ([`input`]); `cancelled` once the lines under way are answered;
//! `expired` after [`WINDOW`], when every line that is left is answered `batch_expired`. Good answers are one file, others
//! another one, in the order of their lines. A server that stops waits for the lines under way and leaves the rest to the next.

mod input;
mod line;
mod native;
mod run;
mod used;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::{BatchId, RequestId};
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_storage::sql::batches::{Batch, BatchStatus, Lease};
use brokle_storage::sql::{Database, Page, StorageError};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::line::Pace;
use crate::files::{FileService, unavailable};
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// How long a batch may take, and what `completion_window` must say: 24 h.
pub const WINDOW: Duration = Duration::from_secs(86_400);
/// Batches that a server works on at once.
const AT_ONCE: usize = 32;
/// Those of one project that all servers work on at once: the others' turn comes, however many one has.
const OF_A_PROJECT: i64 = 4;
/// The longest that a line waits before it is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a line is tried whose provider fails.
const TRIES: u32 = 3;
/// How often a server looks for work.
const POLL: Duration = Duration::from_secs(1);

/// What batches may be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Lines of a batch that are asked at once: 8.
    pub concurrency: usize,
    /// Lines of a batch: 50,000.
    pub max_lines: u64,
    /// Batches of a project that haven't ended: 100.
    pub max_open: u64,
    /// How long a server that isn't heard of keeps a batch: 30 s.
    pub lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { concurrency: 8, max_lines: 50_000, max_open: 100, lease: Duration::from_secs(30) }
    }
}

/// A batch that is to be.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// What its lines ask.
    pub endpoint: String,
    /// The file of its lines.
    pub input_file_id: String,
    /// `24h`.
    pub completion_window: String,
    /// The caller's own words.
    pub metadata: Map<String, Value>,
}

/// Batches of all projects.
#[derive(Debug)]
pub struct BatchService {
    database: Database,
    files: Arc<FileService>,
    gateway: Arc<Gateway>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: Settings,
    /// This process, as leases name it.
    holder: String,
    /// There is something to do.
    wake: Notify,
    /// Those that are being worked on here, and how.
    running: Mutex<HashMap<BatchId, Arc<watch::Sender<Pace>>>>,
}

impl BatchService {
    /// Batches with these settings; [`run`](Self::run) works on them.
    #[must_use]
    pub fn new(
        database: Database,
        files: Arc<FileService>,
        gateway: Arc<Gateway>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: Settings,
    ) -> Self {
        let holder = RequestId::generate(&*clock, &*random).to_string();
        let (wake, running) = (Notify::new(), Mutex::default());
        Self { database, files, gateway, clock, random, settings, holder, wake, running }
    }

    /// Takes a batch on.
    ///
    /// # Errors
    /// 400 for what can't be a batch, 403 for an endpoint that the key isn't for, 404 for a file that isn't the project's, 429
    /// `too_many_batches`, 503.
    pub async fn create(&self, principal: &Arc<Principal>, new: NewBatch) -> Result<Batch, Refusal> {
        let tenant = principal.tenant;
        // Some providers' lines leave out the version.
        let path = native::path(&new.endpoint);
        if line::Endpoint::of(&path).is_none() {
            let message =
                format!("Batches can't ask this endpoint; these they can: {}.", line::Endpoint::names());
            return Err(Refusal::invalid("endpoint", message));
        }
        if !principal.allowed.endpoint(Some(&path)) {
            let message = "This API key may not be used for this endpoint.";
            return Err(Refusal::client(403, "endpoint_not_allowed", message));
        }
        if new.completion_window != "24h" {
            return Err(Refusal::invalid("completion_window", "'completion_window' must be '24h'."));
        }
        check_metadata(&new.metadata)?;
        let file = self.files.get(tenant, &new.input_file_id).await;
        let file = file.map_err(|refusal| Refusal { param: Some("input_file_id".into()), ..refusal })?;
        if file.purpose != "batch" {
            return Err(Refusal::invalid("input_file_id", "The file's purpose must be 'batch'."));
        }
        match &file.connection {
            Some(connection) => {
                let keeper = self.gateway.keeper_at(tenant, connection).await.ok_or_else(|| {
                    let message = "The connection at which the file is kept isn't there any more.";
                    let gone = Refusal::client(404, "provider_not_found", message);
                    Refusal { param: Some("input_file_id".into()), ..gone }
                })?;
                if file.vendor_id.is_none() && path != "/v1/chat/completions" {
                    let message = "This provider's batches ask '/v1/chat/completions' only.";
                    return Err(Refusal::invalid("endpoint", message));
                }
                keeper.admit(principal).await?;
            }
            None if path != new.endpoint => {
                return Err(Refusal::invalid("endpoint", format!("'endpoint' must be '{path}'.")));
            }
            None => {}
        }
        let now = self.clock.now();
        let batch = Batch {
            id: BatchId::generate(&*self.clock, &*self.random),
            tenant,
            key: principal.key_id,
            endpoint: new.endpoint,
            input: file.id,
            metadata: new.metadata.into(),
            status: BatchStatus::Validating,
            errors: Value::Array(Vec::new()),
            counts: (0, 0, 0),
            output: None,
            failures: None,
            created_at: now,
            expires_at: now + WINDOW,
            in_progress_at: None,
            finalizing_at: None,
            cancelling_at: None,
            ended_at: None,
            connection: file.connection,
            vendor_id: None,
        };
        let most = i64::try_from(self.settings.max_open).unwrap_or(i64::MAX);
        let created = self.database.batches().create(tenant, &batch, most).await;
        if !created.map_err(|error| unavailable(&error))? {
            let message =
                format!("The project has {most} batches that haven't ended, and may not have more.");
            return Err(Refusal::client(429, "too_many_batches", message));
        }
        self.wake.notify_one();
        Ok(batch)
    }

    /// A project's batch.
    ///
    /// # Errors
    /// 404 when it has none of this id, 503.
    pub async fn get(&self, tenant: Tenant, id: &str) -> Result<Batch, Refusal> {
        let id = parse(id).ok_or_else(missing)?;
        found(self.database.batches().get(tenant.organization, tenant.project, id).await)
    }

    /// A project's batches behind one of them, the newest first.
    ///
    /// # Errors
    /// 400 when `after` is no batch's id, 503.
    pub async fn list(&self, tenant: Tenant, after: Option<&str>, limit: u32) -> Result<Vec<Batch>, Refusal> {
        let after = match after {
            None => None,
            Some(id) => Some(parse(id).ok_or_else(|| Refusal::invalid("after", "'after' is a batch's id."))?),
        };
        let batches = self.database.batches();
        let listed = batches.list(tenant.organization, tenant.project, Page { after, limit });
        listed.await.map_err(|error| unavailable(&error))
    }

    /// Ends a project's batch as soon as the lines under way are answered.
    ///
    /// # Errors
    /// 404; 409 `batch_ended`, 503.
    pub async fn cancel(&self, tenant: Tenant, id: &str) -> Result<Batch, Refusal> {
        let id = parse(id).ok_or_else(missing)?;
        let now = self.clock.now();
        let batch =
            found(self.database.batches().cancel(tenant.organization, tenant.project, id, now).await)?;
        if batch.status != BatchStatus::Cancelling {
            let message = format!("The batch can't be cancelled any more: it is {}.", batch.status.as_str());
            return Err(Refusal::client(409, "batch_ended", message));
        }
        // Other servers hear of it when they renew their lease.
        if let Some(pace) = self.running.lock().get(&batch.id) {
            pace.send_replace(Pace::Halt);
        }
        self.wake.notify_one();
        Ok(batch)
    }

    /// How a batch goes that is being worked on here.
    fn pace(&self, id: BatchId) -> Arc<watch::Sender<Pace>> {
        let new = || Arc::new(watch::Sender::new(Pace::Go));
        Arc::clone(self.running.lock().entry(id).or_insert_with(new))
    }

    /// Works on whatever there is, until `end`; then waits for the lines under way, and leaves the rest to others.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()> + Send) {
        let stop = watch::Sender::new(false);
        let mut work = JoinSet::new();
        let mut end = std::pin::pin!(end);
        loop {
            while work.try_join_next().is_some() {}
            self.take_up(&mut work, &stop).await;
            tokio::select! {
                () = &mut end => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        stop.send_replace(true);
        while work.join_next().await.is_some() {}
    }

    /// Begins to work on batches that nobody works on.
    async fn take_up(self: &Arc<Self>, work: &mut JoinSet<()>, stop: &watch::Sender<bool>) {
        while work.len() < AT_ONCE {
            let next = self.database.batches().next(self.clock.now(), OF_A_PROJECT).await;
            let next = next.unwrap_or_else(|error| {
                tracing::debug!(%error, "batches can't be looked for");
                None
            });
            // One that is at work here has lost its lease, and ends soon.
            let next = next.filter(|(_, batch)| !self.running.lock().contains_key(batch));
            let Some((organization, batch)) = next else { return };
            self.pace(batch);
            let running = Running(Arc::clone(self), batch);
            let lease = Lease { organization, batch, holder: self.holder.clone() };
            // Before the next one is looked for: what is leased counts.
            let taken = run::take(self, &lease).await;
            let (service, stop) = (Arc::clone(self), stop.subscribe());
            work.spawn(async move {
                let _running = running;
                let done = match taken {
                    Ok(Some(batch)) => run::drive(&service, &lease, &batch, stop).await,
                    Ok(None) => Ok(()),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = done {
                    // Whoever finds it next goes on; so does this server, when the lease is over.
                    tracing::warn!(error = &*error, batch = %lease.batch, "a batch is left for now");
                }
            });
        }
    }
}

/// Notes that a batch is being worked on here, until it is dropped.
struct Running(Arc<BatchService>, BatchId);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

/// OpenAI's bounds: 16 pairs of texts.
fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Refusal> {
    let fits = |(key, value): (&String, &Value)| {
        key.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    match metadata.len() <= 16 && metadata.iter().all(fits) {
        true => Ok(()),
        false => {
            let message = "'metadata' has 16 pairs at most: keys of 64 characters, texts of 512.";
            Err(Refusal::invalid("metadata", message))
        }
    }
}

/// `batch_` and the id.
#[must_use]
pub fn write_id(id: BatchId) -> String {
    format!("batch_{id}")
}

fn parse(text: &str) -> Option<BatchId> {
    text.strip_prefix("batch_")?.parse().ok()
}

fn missing() -> Refusal {
    Refusal { param: Some("id".into()), ..Refusal::client(404, "not_found", "No such Batch object.") }
}

fn found(answer: Result<Batch, StorageError>) -> Result<Batch, Refusal> {
    match answer {
        Err(StorageError::NotFound) => Err(missing()),
        answer => answer.map_err(|error| unavailable(&error)),
    }
}
