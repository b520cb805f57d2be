//! A batch from its lease to its end, or until somebody else goes on.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use brokle_identity::{AuthError, Principal};
use brokle_storage::sql::StorageError;
use brokle_storage::sql::api_keys::KeyOwner;
use brokle_storage::sql::batches::{Batch, BatchLine, BatchStatus, End, Lease};
use brokle_storage::sql::files::File;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::BatchService;
use super::input::{self, Asked, Lines, Piece};
use super::line::{self, Pace};
use super::native;

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Called = Result<Arc<Principal>, AuthError>;

/// Answers that are in memory at once when files are written; each may be large.
const PAGE: u32 = 16;
/// How often an answer is tried to be stored, a second apart: it was paid for.
const STORE_TRIES: u32 = 10;

/// Works on a batch until it ends, the server stops, or the lease is lost.
///
/// # Errors
/// What keeps it from going on; the batch stays as it is, for whoever has its lease next.
pub(super) async fn drive(
    service: &BatchService,
    lease: &Lease,
    batch: &Batch,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let pace = service.pace(batch.id);
    if is_over(service, batch) {
        pace.send_replace(Pace::Halt);
    }
    let work = Work { service, lease, batch, pace: &pace };
    let done = async {
        match &batch.connection {
            Some(_) => native::look(service, lease, batch).await,
            None => work.run().await,
        }
    };
    tokio::select! {
        kept = keep(&work, stop) => kept,
        done = done => done,
    }
}

/// Takes the lease, or keeps it; none: it is somebody else's, or the batch has ended.
pub(super) async fn take(service: &BatchService, lease: &Lease) -> Result<Option<Batch>, StorageError> {
    let now = service.clock.now();
    service.database.batches().lease(lease, now, now + service.settings.lease).await
}

/// Whether no further line is to be asked.
fn is_over(service: &BatchService, batch: &Batch) -> bool {
    batch.status == BatchStatus::Cancelling || service.clock.now() >= batch.expires_at
}

/// The key that a batch's lines are asked for, as it is now.
pub(super) async fn called(service: &BatchService, batch: &Batch) -> Result<Called, StorageError> {
    let Some(owner) = owner(service, batch).await? else { return Ok(Err(AuthError::Unknown)) };
    if owner.key.revoked_at.is_some() {
        return Ok(Err(AuthError::Revoked));
    }
    if owner.key.expires_at.is_some_and(|end| end <= service.clock.now()) {
        return Ok(Err(AuthError::Expired));
    }
    Ok(Ok(Arc::new(Principal::from(&owner))))
}

/// Whose key made a batch, whether it is valid now or not; none: there is no such key.
pub(super) async fn principal(
    service: &BatchService,
    batch: &Batch,
) -> Result<Option<Arc<Principal>>, StorageError> {
    Ok(owner(service, batch).await?.map(|owner| Arc::new(Principal::from(&owner))))
}

async fn owner(service: &BatchService, batch: &Batch) -> Result<Option<KeyOwner>, StorageError> {
    let key = match service.database.api_keys().get(batch.tenant.organization, batch.key).await {
        Err(StorageError::NotFound) => return Ok(None),
        key => key?,
    };
    let project = service.database.projects().get(batch.tenant.organization, batch.tenant.project).await?;
    Ok(Some(KeyOwner { valid_until: key.expires_at, capture: project.capture, key }))
}

/// Stores what was paid for, while the database is away a few times, a second apart.
pub(super) async fn persist<F>(store: impl Fn() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), StorageError>>,
{
    for _ in 1..STORE_TRIES {
        match store().await {
            Err(StorageError::Unavailable(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
            stored => return Ok(stored?),
        }
    }
    Ok(store().await?)
}

/// Renews the lease, and hears of what ends the batch; ends itself only when the lease is lost.
async fn keep(work: &Work<'_>, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let every = (work.service.settings.lease / 6).min(Duration::from_secs(2));
    let mut renewed = tokio::time::Instant::now();
    loop {
        let going = *work.pace.borrow() == Pace::Go;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.wait_for(|stop| *stop), if going => {
                work.pace.send_replace(Pace::Halt);
            }
        }
        match take(work.service, work.lease).await {
            Ok(None) => return Ok(()),
            Ok(Some(current)) => {
                renewed = tokio::time::Instant::now();
                if is_over(work.service, &current) {
                    work.pace.send_replace(Pace::Halt);
                }
            }
            // Somebody else may have it by now.
            Err(error) if renewed.elapsed() >= work.service.settings.lease => return Err(error.into()),
            Err(_) => {}
        }
    }
}

/// A batch under a lease.
struct Work<'a> {
    service: &'a BatchService,
    lease: &'a Lease,
    batch: &'a Batch,
    pace: &'a watch::Sender<Pace>,
}

impl Work<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let batches = self.service.database.batches();
        let mut is_read = self.batch.in_progress_at.is_some();
        if self.batch.status == BatchStatus::Validating && !self.is_expired() {
            let checked = match self.lines().await? {
                Some(mut lines) => {
                    let most = self.service.settings.max_lines;
                    input::check(&mut lines, &self.batch.endpoint, most).await?
                }
                None => Err(gone()),
            };
            match checked {
                Ok(total) => {
                    batches.begin(self.lease, total, self.service.clock.now()).await?;
                    is_read = true;
                }
                Err(errors) => return self.end(BatchStatus::Failed, &errors).await,
            }
        }
        let is_complete = match self.ask_all(is_read).await {
            // Whatever is wrong with its file: it ends.
            Err(error) if self.is_expired() => {
                tracing::warn!(error = &*error, batch = %self.batch.id, "a batch's lines can't be read");
                false
            }
            asked => asked?,
        };
        let Some(current) = take(self.service, self.lease).await? else { return Ok(()) };
        let status = match (current.status, is_complete) {
            (BatchStatus::Cancelling, _) => BatchStatus::Cancelled,
            (_, true) => BatchStatus::Completed,
            _ if self.is_expired() => {
                if let Err(error) = self.give_up(is_read).await {
                    tracing::warn!(error = &*error, batch = %self.batch.id, "lines that are left stay without an answer");
                }
                BatchStatus::Expired
            }
            // The server stops.
            _ => return Ok(batches.release(self.lease).await?),
        };
        batches.finalize(self.lease, self.service.clock.now()).await?;
        self.end(status, &Value::Array(Vec::new())).await
    }

    fn is_expired(&self) -> bool {
        self.service.clock.now() >= self.batch.expires_at
    }

    /// The batch's lines; none if there is no file any more.
    async fn lines(&self) -> Result<Option<Lines>, Failure> {
        let (tenant, batch) = (self.batch.tenant, self.batch);
        // One that has expired since stays until the batch has ended.
        let files = self.service.database.files();
        let file = match files.get(tenant.organization, tenant.project, batch.input, batch.created_at).await {
            Err(StorageError::NotFound) => return Ok(None),
            file => file?,
        };
        match self.service.files.blobs().get(&file.blob).await {
            Ok(reader) => Ok(Some(Lines::new(reader))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks every line that has no answer; whether all of them have one then.
    async fn ask_all(&self, is_read: bool) -> Result<bool, Failure> {
        let mut left = self.left(is_read).await?;
        let (mut running, mut is_complete) = (FuturesUnordered::new(), true);
        let mut no_more = false;
        loop {
            while !no_more && running.len() < self.service.settings.concurrency {
                if *self.pace.borrow() == Pace::Halt || is_over(self.service, self.batch) {
                    (no_more, is_complete) = (true, false);
                    break;
                }
                match left.next().await? {
                    Some((line, asked)) => running.push(self.ask(line, asked)),
                    None => no_more = true,
                }
            }
            match running.next().await {
                Some(answered) => is_complete &= answered?,
                None => return Ok(is_complete),
            }
        }
    }

    /// Lines without an answer.
    async fn left(&self, is_read: bool) -> Result<Left<'_>, Failure> {
        let batches = self.service.database.batches();
        let answered = batches.answered(self.batch.tenant.organization, self.batch.id).await?;
        // One that ends before anything was read has none.
        let lines = match is_read {
            true => Some(self.lines().await?.ok_or("the batch's file is gone")?),
            false => None,
        };
        Ok(Left {
            lines,
            answered: answered.into_iter().collect(),
            number: 0,
            endpoint: &self.batch.endpoint,
        })
    }

    /// Asks a line and stores what it came to; whether it has an answer.
    async fn ask(&self, line: i64, asked: Asked) -> Result<bool, Failure> {
        let mut pace = self.pace.subscribe();
        match line::ask(self.service, self.batch, asked, &mut pace).await {
            Some(answered) => self.store(line, answered).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn store(&self, line: i64, answered: line::Answered) -> Result<(), Failure> {
        let answer = BatchLine { line, succeeded: answered.succeeded, result: answered.result };
        let batches = self.service.database.batches();
        persist(|| batches.answer(self.lease, &answer)).await
    }

    /// Answers each line that is left by the batch's end.
    async fn give_up(&self, is_read: bool) -> Result<(), Failure> {
        let mut left = self.left(is_read).await?;
        while let Some((line, asked)) = left.next().await? {
            let message = "This line wasn't answered before the batch's time was over.";
            self.store(line, line::failed(&asked, self.batch, "batch_expired", message)).await?;
        }
        Ok(())
    }

    async fn end(&self, status: BatchStatus, errors: &Value) -> Result<(), Failure> {
        let output = self.gather(true).await?;
        let failures = self.gather(false).await?;
        let now = self.service.clock.now();
        let batches = self.service.database.batches();
        // Its lines were charged as the calls that they were.
        let end = End { status, errors, output: output.as_ref(), failures: failures.as_ref(), spent: &[] };
        batches.end(self.lease, end, now).await?;
        tracing::info!(batch = %self.batch.id, status = status.as_str(), "a batch has ended");
        Ok(())
    }

    /// Makes a file of the good answers, or of the others; none, if there are none.
    async fn gather(&self, succeeded: bool) -> Result<Option<File>, Failure> {
        let (tenant, id) = (self.batch.tenant, self.batch.id);
        let read = async |after| {
            self.service.database.batches().answers(tenant.organization, id, succeeded, after, PAGE).await
        };
        let mut page = read(-1).await?;
        if page.is_empty() {
            return Ok(None);
        }
        let kind = if succeeded { "output" } else { "error" };
        let name = format!("{}_{kind}.jsonl", super::write_id(id));
        let mut file = self.service.files.describe(tenant, name, "batch_output", 0);
        // Whoever goes on after a crash writes the same one.
        file.blob = format!("{}/{id}-{kind}", tenant.project);
        let (mut writer, reader) = tokio::io::duplex(64 << 10);
        let writing = async move {
            while let Some(last) = page.last().map(|answer| answer.line) {
                for answer in &page {
                    writer.write_all(answer.result.as_bytes()).await?;
                    writer.write_all(b"\n").await?;
                }
                page = read(last).await?;
            }
            Ok::<_, Failure>(())
        };
        let (written, stored) =
            tokio::join!(writing, self.service.files.blobs().put(&file.blob, Box::pin(reader)));
        written?;
        file.bytes = i64::try_from(stored?).unwrap_or(i64::MAX);
        Ok(Some(file))
    }
}

/// Lines that have no answer yet, as they are read.
struct Left<'a> {
    lines: Option<Lines>,
    answered: HashSet<i64>,
    number: i64,
    endpoint: &'a str,
}

impl Left<'_> {
    async fn next(&mut self) -> Result<Option<(i64, Asked)>, Failure> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        while let Piece::Line(text) = lines.next().await? {
            let line = self.number;
            self.number += 1;
            if self.answered.contains(&line) {
                continue;
            }
            // It was good when the batch began.
            let asked = input::read(&text, self.endpoint).map_err(|(_, message, _)| message)?;
            return Ok(Some((line, asked)));
        }
        Ok(None)
    }
}

fn gone() -> Value {
    json!([{"code": "input_file_missing", "message": "The batch's file isn't there.", "param": null, "line": null}])
}
