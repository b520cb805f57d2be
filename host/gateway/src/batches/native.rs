//! Batches that a provider works on: asked for once, looked at until they end, and accounted then.
//!
//! **Once.** Whoever has the lease asks the provider for the batch, and notes beforehand that it does. Where the answer isn't known
//! (the connection broke, the server died), the batch fails with `creation_unknown` rather than being paid for twice; its
//! metadata has `brokle_batch_id`, by which it is found at the provider.
//!
//! **Looks** are [`SOONEST`] to [`LATEST`] apart, a tenth of the batch's age: however often its caller asks, and whether it asks
//! at all.
//!
//! **How many lines** are answered is what the provider says. Where it says nothing, they are counted in its output when it ends.
//!
//! **The account** is one observation for the batch, written when it ends, with what the lines of its output say was used. Each
//! line has its model's batch price, or where the catalogue knows none its ordinary one. Its ids and its time are the batch's own:
//! a server that dies between the account and the end leaves the next one to write the same row again, which is stored once. Budgets
//! are charged by the transaction that ends the batch.

use brokle_core::json;
use brokle_core::observation::{SpanId, TraceId};
use brokle_core::usage::Usage;
use brokle_identity::Principal;
use brokle_storage::sql::StorageError;
use brokle_storage::sql::batches::{Batch, BatchStatus, End, Lease, Progress};
use brokle_storage::sql::files::File;
use bytes::Bytes;
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::BatchService;
use super::input::{Lines, Piece, TOLD};
use super::line::Endpoint;
use super::run::{Failure, called, persist, principal, take};
use super::used::{Spent, Used};
use crate::account::Meter;
use crate::budgets::{Charge, Use};
use crate::gateway::Incoming;
use crate::native::{Counts, Keeper, KeptBatch, KeptFile};
use crate::operation::Operation;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::who::Caller;

/// The shortest time between two looks.
const SOONEST: TimeDelta = TimeDelta::seconds(1);
/// The longest.
const LATEST: TimeDelta = TimeDelta::seconds(60);
/// What a provider is sent at most with a batch that has no file there: 200 MiB.
const LARGEST: usize = 200 << 20;
/// Batches that are made at once, with all their lines in memory.
static MAKING: Semaphore = Semaphore::const_new(2);
/// What is told of a line whose model the caller may not use.
const NOT_ALLOWED: (&str, &str) = ("model_not_allowed", "This API key may not use this line's model.");
/// How long after its time a batch is given up whose provider can't be asked.
const GIVEN_UP: TimeDelta = TimeDelta::hours(48);

/// Looks at a batch under its lease: has it made, or asks how it goes, and ends it if it has ended.
///
/// # Errors
/// What keeps it from being looked at; it stays as it is, for whoever has its lease next.
pub(super) async fn look(service: &BatchService, lease: &Lease, batch: &Batch) -> Result<(), Failure> {
    let connection = batch.connection.as_deref().unwrap_or_default();
    let Some(keeper) = service.gateway.keeper_at(batch.tenant, connection).await else {
        let gone = Refusal::client(404, "provider_not_found", "The batch's connection isn't there any more.");
        return Look { service, lease, batch }.later(&gone).await;
    };
    Look { service, lease, batch }.run(&keeper).await
}

/// What a provider is asked for a batch with.
struct Asking {
    body: Bytes,
    /// Its lines' model, where they have one there; else empty.
    model: String,
    /// How many lines go with it; 0 where they are in a file there.
    lines: i64,
}

struct Look<'a> {
    service: &'a BatchService,
    lease: &'a Lease,
    batch: &'a Batch,
}

impl Look<'_> {
    async fn run(&self, keeper: &Keeper<'_>) -> Result<(), Failure> {
        let kept = match self.batch.vendor_id.as_deref() {
            None if self.batch.status == BatchStatus::Cancelling => {
                return self.end(BatchStatus::Cancelled, &json!([]), [None, None]).await;
            }
            None => match self.make(keeper).await? {
                Some(kept) => kept,
                None => return Ok(()),
            },
            Some("") => return self.fail("creation_unknown", UNKNOWN).await,
            Some(id) => match keeper.ask::<KeptBatch>("batches.get", id, Bytes::new()).await {
                Ok(kept) => self.cancelled(keeper, kept).await,
                Err(refusal) if refusal.status == 404 => {
                    return self.fail("batch_missing", "The provider has no such batch any more.").await;
                }
                Err(refusal) => return self.later(&refusal).await,
            },
        };
        self.note(keeper, kept).await
    }

    /// Has the batch made; none: it wasn't, and that is noted.
    async fn make(&self, keeper: &Keeper<'_>) -> Result<Option<KeptBatch>, Failure> {
        let (batch, batches) = (self.batch, self.service.database.batches());
        if self.is_over() {
            return self
                .fail("batch_expired", "The provider took no batches for too long.")
                .await
                .map(|()| None);
        }
        let caller = match pipeline::identified(called(self.service, batch).await?) {
            Ok(caller) => caller,
            Err(refusal) => return self.fail(&refusal.code, &refusal.message).await.map(|()| None),
        };
        let (tenant, files) = (batch.tenant, self.service.database.files());
        let file = match files.get(tenant.organization, tenant.project, batch.input, batch.created_at).await {
            Err(StorageError::NotFound) => {
                return self.fail("input_file_missing", "The batch's file isn't there.").await.map(|()| None);
            }
            file => file?,
        };
        let mut _turn = None;
        let asked = match &file.vendor_id {
            None => {
                // Until the provider has them: lines are large, and all in memory.
                _turn = Some(MAKING.acquire().await?);
                self.with_lines(keeper, &caller, &file).await?
            }
            Some(input) => match self.of_file(keeper, &caller, input).await {
                Err(refusal) => return self.later(&refusal).await.map(|()| None),
                Ok(asked) => asked,
            },
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(errors) => {
                return self.end(BatchStatus::Failed, &errors, [None, None]).await.map(|()| None);
            }
        };
        batches.name(self.lease, Some("")).await?;
        match keeper.create(&super::write_id(batch.id), &asked.model, asked.body).await {
            Ok(mut kept) => {
                kept.request_counts.get_or_insert(Counts { total: asked.lines, ..Counts::default() });
                persist(|| batches.name(self.lease, Some(&kept.id))).await?;
                tracing::info!(batch = %batch.id, connection = keeper.connection().name, "a provider works on a batch");
                Ok(Some(kept))
            }
            Err(refusal) if is_unknown(&refusal) => {
                self.fail("creation_unknown", UNKNOWN).await.map(|()| None)
            }
            Err(refusal) if refusal.retryable => {
                persist(|| batches.name(self.lease, None)).await?;
                self.later(&refusal).await.map(|()| None)
            }
            Err(refusal) => self.fail(&refusal.code, &refusal.message).await.map(|()| None),
        }
    }

    /// What a batch of a file that the provider has is asked for with; or what is wrong with its lines.
    async fn of_file(
        &self,
        keeper: &Keeper<'_>,
        caller: &Principal,
        input: &str,
    ) -> Result<Result<Asking, Value>, Refusal> {
        if !caller.allowed.every_model() {
            let errors = self.check_models(keeper, caller, input).await?;
            if !errors.is_empty() {
                return Ok(Err(errors.into()));
            }
        }
        let mut metadata = self.batch.metadata.clone();
        if let Some(metadata) = metadata.as_object_mut().filter(|metadata| metadata.len() < 16) {
            metadata.insert("brokle_batch_id".into(), super::write_id(self.batch.id).into());
        }
        let asked = json!({
            "input_file_id": input, "endpoint": self.batch.endpoint, "completion_window": "24h", "metadata": metadata,
        });
        Ok(Ok(Asking { body: asked.to_string().into(), model: String::new(), lines: 0 }))
    }

    /// The lines of a file that is kept here, as the provider takes them with the batch; or what is wrong with them.
    async fn with_lines(
        &self,
        keeper: &Keeper<'_>,
        caller: &Principal,
        file: &File,
    ) -> Result<Result<Asking, Value>, Failure> {
        let (service, endpoint) = (self.service, path(&self.batch.endpoint));
        let mut lines = Lines::new(service.files.content(file).await?);
        let count = match super::input::check(&mut lines, &endpoint, service.settings.max_lines).await? {
            Ok(count) => count,
            Err(errors) => return Ok(Err(errors)),
        };
        let mut only = keeper.takes_one_model().await?.then(String::new);
        let mut lines = Lines::new(service.files.content(file).await?);
        let (mut asked, mut errors, mut number) = (br#"{"requests":["#.to_vec(), Vec::new(), 0_u64);
        while let Piece::Line(line) = lines.next().await? {
            number += 1;
            let made = match super::input::read(&line, &endpoint) {
                Ok(line) => self.line(keeper, caller, line, only.as_mut()).await,
                // It was good a moment ago.
                Err((code, message, _)) => Err(Refusal::client(400, code, message)),
            };
            match made {
                Ok(made) if asked.len() + made.len() > LARGEST => {
                    let message =
                        format!("The provider's form of these lines is larger than {LARGEST} bytes.");
                    errors.push(
                        json!({"code": "batch_too_large", "message": message, "param": null, "line": null}),
                    );
                    break;
                }
                Ok(made) => {
                    if asked.last() != Some(&b'[') {
                        asked.push(b',');
                    }
                    asked.extend(made);
                }
                // Not the line's fault: another time.
                Err(refusal) if refusal.status >= 500 => return Err(refusal.into()),
                Err(refusal) => errors.push(json!({
                    "code": refusal.code, "message": refusal.message, "param": refusal.param, "line": number,
                })),
            }
            if errors.len() >= TOLD {
                break;
            }
        }
        asked.extend(b"]}");
        let asking = Asking { body: asked.into(), model: only.unwrap_or_default(), lines: count };
        Ok(if errors.is_empty() { Ok(asking) } else { Err(errors.into()) })
    }

    /// A line as the provider takes it. `only` is the model of those before it, where there may be no other.
    async fn line(
        &self,
        keeper: &Keeper<'_>,
        caller: &Principal,
        line: super::input::Asked,
        only: Option<&mut String>,
    ) -> Result<Vec<u8>, Refusal> {
        let written = json::find(&line.body, "/model").and_then(|at| line.body.get(at));
        let model = written.and_then(|model| serde_json::from_slice::<String>(model).ok());
        let missing = || Refusal::invalid("body.model", "Missing required parameter: 'model'.");
        let model = model.ok_or_else(missing)?;
        let provider = &keeper.connection().provider;
        // Written as for any other call, or as the provider has it.
        let named = model.strip_prefix(&**provider).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&model);
        if named.is_empty() {
            return Err(missing());
        }
        if !caller.allowed.candidate(None, provider, named) {
            let (code, message) = NOT_ALLOWED;
            return Err(Refusal { param: Some("body.model".into()), ..Refusal::client(403, code, message) });
        }
        match only {
            Some(only) if only.is_empty() => named.clone_into(only),
            Some(only) if only.as_str() != named => {
                let message = format!(
                    "Provider '{provider}' works on one model in a batch, and a line before is for '{only}'."
                );
                let refusal = Refusal::client(400, "mismatched_model", message);
                return Err(Refusal { param: Some("body.model".into()), ..refusal });
            }
            _ => {}
        }
        // Checked as the body of a call is.
        let request = Request::read(Operation::ChatCompletions, line.body)?;
        keeper.line(&line.custom_id, named, request.body.bytes().clone()).await
    }

    /// The lines whose model the caller may not use, at most [`TOLD`] of them.
    async fn check_models(
        &self,
        keeper: &Keeper<'_>,
        caller: &Principal,
        input: &str,
    ) -> Result<Vec<Value>, Refusal> {
        // One that is written twice is an error: nobody knows which one the provider takes.
        #[derive(Deserialize)]
        struct Line {
            body: Body,
        }
        #[derive(Deserialize)]
        struct Body {
            model: String,
        }
        let broken = |_| Refusal::upstream(502, "upstream_disconnected", "The batch's file can't be read.");
        let mut lines = Lines::new(keeper.content(input).await?);
        let (mut errors, mut number) = (Vec::new(), 0);
        loop {
            let piece = lines.next().await.map_err(broken)?;
            number += 1;
            let fault = match &piece {
                Piece::End => return Ok(errors),
                Piece::TooLong => Some(("line_too_large", "This line is too long.".to_owned())),
                Piece::Line(line) => match serde_json::from_slice::<Line>(line) {
                    Err(error) => Some(("invalid_json_line", format!("This line can't be read: {error}."))),
                    Ok(Line { body }) => {
                        let allowed =
                            caller.allowed.candidate(None, &keeper.connection().provider, &body.model);
                        (!allowed).then(|| (NOT_ALLOWED.0, NOT_ALLOWED.1.to_owned()))
                    }
                },
            };
            if let Some((code, message)) = fault {
                errors.push(json!({"code": code, "message": message, "param": "body.model", "line": number}));
            }
            if errors.len() >= TOLD || matches!(piece, Piece::TooLong) {
                return Ok(errors);
            }
        }
    }

    /// Cancels it there, if somebody has cancelled it here. What the provider says then, or else what it said before.
    async fn cancelled(&self, keeper: &Keeper<'_>, kept: KeptBatch) -> KeptBatch {
        let open = matches!(kept.status.as_str(), "validating" | "in_progress" | "finalizing");
        if self.batch.status != BatchStatus::Cancelling || !open {
            return kept;
        }
        match keeper.ask("batches.cancel", &kept.id, Bytes::new()).await {
            Ok(cancelled) => cancelled,
            Err(refusal) => {
                tracing::info!(code = %refusal.code, batch = %self.batch.id, "a provider doesn't cancel a batch");
                kept
            }
        }
    }

    /// Notes what the provider says, and ends the batch if it has ended there.
    async fn note(&self, keeper: &Keeper<'_>, kept: KeptBatch) -> Result<(), Failure> {
        let now = self.service.clock.now();
        let status =
            BatchStatus::try_from(kept.status.to_ascii_lowercase()).unwrap_or(BatchStatus::InProgress);
        let has_ended = matches!(
            status,
            BatchStatus::Completed | BatchStatus::Failed | BatchStatus::Expired | BatchStatus::Cancelled
        );
        let counts = match &kept.request_counts {
            Some(counts) => (counts.total, counts.completed, counts.failed),
            None => self.batch.counts,
        };
        let finalizing = status == BatchStatus::Finalizing || status == BatchStatus::Completed;
        let mut progress = Progress {
            status: if has_ended { BatchStatus::Finalizing } else { status },
            counts,
            in_progress_at: (finalizing || status == BatchStatus::InProgress).then_some(now),
            finalizing_at: finalizing.then_some(now),
        };
        let batches = self.service.database.batches();
        batches.progress(self.lease, &progress).await?;
        if !has_ended {
            // Somebody may have cancelled it meanwhile.
            let seen = match self.batch.status {
                BatchStatus::Cancelling => BatchStatus::Cancelling,
                _ => progress.status,
            };
            return Ok(batches.ask_again(self.lease, seen, self.next()).await?);
        }
        let mut used = Used::default();
        let output = match kept.output_file_id {
            Some(id) => Some(self.output(keeper, "output", id, &mut used).await?),
            None => None,
        };
        let failures = match kept.error_file_id {
            // Only what is made of it here says how large it is.
            Some(id) if keeper.takes_lines().await? => {
                Some(self.output(keeper, "error", id, &mut used).await?)
            }
            Some(id) => {
                let told = keeper.ask::<KeptFile>("files.get", &id, Bytes::new()).await;
                Some(self.file("error", id, told.map_or(0, |file| file.bytes)))
            }
            None => None,
        };
        // Whoever has the lease by now accounts for it.
        if take(self.service, self.lease).await?.is_none() {
            return Ok(());
        }
        if kept.request_counts.is_none() {
            progress.counts = (counts.0.max(used.good + used.failed), used.good, used.failed);
            batches.progress(self.lease, &progress).await?;
        }
        let status = if self.is_cancelled(status, &used) { BatchStatus::Cancelled } else { status };
        let charge = self.account(keeper, &used, status).await?;
        let errors = Value::Array(kept.errors.map(|errors| errors.data).unwrap_or_default());
        self.end_and_charge(status, &errors, [output, failures], charge).await
    }

    /// Whether it was cancelled, where its provider says no more than that it has ended: somebody cancelled it here, and
    /// it failed then, or lines of it were cancelled.
    fn is_cancelled(&self, status: BatchStatus, used: &Used) -> bool {
        let is_asked = self.batch.status == BatchStatus::Cancelling;
        is_asked
            && (status == BatchStatus::Failed || (status == BatchStatus::Completed && used.has_cancelled))
    }

    /// A file of a batch's results, whose lines are counted.
    async fn output(
        &self,
        keeper: &Keeper<'_>,
        kind: &str,
        id: String,
        used: &mut Used,
    ) -> Result<File, Failure> {
        let mut bytes = 0;
        match keeper.content(&id).await {
            Ok(content) => {
                let mut lines = Lines::new(content);
                loop {
                    match lines.next().await? {
                        Piece::End => break,
                        Piece::TooLong => {
                            used.is_partial = true;
                            break;
                        }
                        Piece::Line(line) => {
                            bytes += i64::try_from(line.len()).unwrap_or(0) + 1;
                            used.count(self.service, keeper, &line);
                        }
                    }
                }
            }
            // Somebody deleted it there: what it said is lost.
            Err(refusal) if refusal.status == 404 => used.is_partial = true,
            Err(refusal) => return Err(refusal.into()),
        }
        Ok(self.file(kind, id, bytes))
    }

    fn file(&self, kind: &str, id: String, bytes: i64) -> File {
        let name = format!("{}_{kind}.jsonl", super::write_id(self.batch.id));
        let bytes = u64::try_from(bytes).unwrap_or(0);
        let file = self.service.files.describe(self.batch.tenant, name, "batch_output", bytes);
        let connection = self.batch.connection.clone();
        File { blob: String::new(), connection, vendor_id: Some(id), ..file }
    }

    /// Leaves a trace. What budgets are to be charged with the batch's end.
    async fn account(
        &self,
        keeper: &Keeper<'_>,
        used: &Used,
        status: BatchStatus,
    ) -> Result<Charge, Failure> {
        let (gateway, batch) = (&self.service.gateway, self.batch);
        // Also where its key isn't valid any more: what was used was used.
        let Some(principal) = principal(self.service, batch).await? else {
            tracing::warn!(batch = %batch.id, "a batch's key isn't there any more, and its cost isn't accounted");
            return Ok(Charge::default());
        };
        let (mut total, mut charge) = (Spent::default(), Charge::default());
        for (model, spent) in &used.models {
            let connection = keeper.connection();
            let caller =
                Caller { principal: &principal, user: "", model: Some((&connection.provider, model)) };
            let tokens = spent.usage.total();
            charge.append(gateway.parts.budgets.charge(&caller, Use { cost: spent.cost, tokens }));
            total.add(spent.usage, spent.cost);
        }
        let operation = Endpoint::of(&path(&batch.endpoint)).map_or(Operation::Raw, Endpoint::operation);
        let headers = super::line::tags(batch.id);
        let mut meter = Meter::new(gateway.parts.books.clone(), operation);
        meter.is_the_gateways();
        let incoming = Incoming {
            operation,
            dialect: None,
            caller: Ok(principal.clone()),
            headers: &headers,
            body: Bytes::new(),
            request_id: brokle_core::ids::RequestId::from_u128(batch.id.as_u128()),
            now: batch.created_at,
            random: &*gateway.parts.random,
        };
        meter.open(&principal, &incoming);
        meter.withhold_input();
        let model = match used.models.len() {
            1 => used.models.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        };
        meter.served_by(keeper.connection(), &model);
        let took = (self.service.clock.now() - batch.created_at).to_std().unwrap_or_default();
        let usage = Usage { estimated: total.usage.estimated || used.is_partial, ..total.usage };
        meter.usage(&usage);
        meter.billed(total.cost.filter(|_| !used.is_partial && !usage.is_empty()), took);
        meter.complete();
        let id = batch.id.as_u128().to_be_bytes();
        let (trace, [.., a, b, c, d, e, f, g, h]) = (TraceId::from_bytes(id)?, id);
        let span = SpanId::from_bytes([a, b, c, d, e, f, g, h])?;
        meter.note(|observation| {
            (observation.trace_id, observation.span_id) = (trace, span);
            observation.name = format!("batch {}", batch.endpoint).into();
            let mut say = |name: &str, value: Value| {
                observation.attributes.insert(format!("brokle.batch.{name}"), value);
            };
            say("id", super::write_id(batch.id).into());
            say("status", status.as_str().into());
            say("lines", used.lines.into());
        });
        Ok(charge)
    }

    async fn fail(&self, code: &str, message: &str) -> Result<(), Failure> {
        let errors = json!([{"code": code, "message": message, "param": null, "line": null}]);
        self.end(BatchStatus::Failed, &errors, [None, None]).await
    }

    async fn end(
        &self,
        status: BatchStatus,
        errors: &Value,
        files: [Option<File>; 2],
    ) -> Result<(), Failure> {
        self.end_and_charge(status, errors, files, Charge::default()).await
    }

    async fn end_and_charge(
        &self,
        status: BatchStatus,
        errors: &Value,
        [output, failures]: [Option<File>; 2],
        charge: Charge,
    ) -> Result<(), Failure> {
        let now = self.service.clock.now();
        let (output, failures) = (output.as_ref(), failures.as_ref());
        let end = End { status, errors, output, failures, spent: charge.amounts() };
        let sums = self.service.database.batches().end(self.lease, end, now).await?;
        self.service.gateway.parts.budgets.charged(charge, sums);
        tracing::info!(batch = %self.batch.id, status = status.as_str(), "a batch has ended at its provider");
        Ok(())
    }

    /// Leaves it for now, or gives it up.
    async fn later(&self, refusal: &Refusal) -> Result<(), Failure> {
        tracing::info!(code = %refusal.code, batch = %self.batch.id, "a batch's provider can't be asked");
        if self.service.clock.now() >= self.batch.expires_at + GIVEN_UP {
            let message = format!("The provider can't be asked: {}", refusal.message);
            return self.fail(&refusal.code, &message).await;
        }
        let wait = refusal.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(SOONEST);
        let until = self.next().max(self.service.clock.now() + wait.min(LATEST));
        Ok(self.service.database.batches().ask_again(self.lease, self.batch.status, until).await?)
    }

    /// When it is looked at next.
    fn next(&self) -> chrono::DateTime<chrono::Utc> {
        let now = self.service.clock.now();
        now + ((now - self.batch.created_at) / 10).clamp(SOONEST, LATEST)
    }

    fn is_over(&self) -> bool {
        self.service.clock.now() >= self.batch.expires_at
    }
}

const UNKNOWN: &str = "Whether the provider made the batch isn't known: its answer didn't come. Look for brokle_batch_id there.";

/// Whether the provider may have done what it was asked, though nobody heard of it.
fn is_unknown(refusal: &Refusal) -> bool {
    matches!(refusal.code.as_ref(), "upstream_disconnected" | "upstream_timeout")
}

/// The endpoint as our own API has it: some providers leave out the version.
pub(super) fn path(endpoint: &str) -> String {
    if endpoint.starts_with("/v1/") { endpoint.to_owned() } else { format!("/v1{endpoint}") }
}
