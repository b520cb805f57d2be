//! Guardrails that rule on what is stored: those with the stage `storage`.
//!
//! They are shown copies, after the call: nobody waits for them but the row. Of a call, and of a span from elsewhere, they see
//! every text of the input, of the attributes and of why it failed (as a request) and of the output (as an answer), each with its
//! place, in a fresh instance for each. A call's steps are a part of it: a policy's reasons, a guardrail's findings and a vendor's
//! complaint may repeat what they were shown. So may the name of a plugin's own span, which is ruled on, too. Log records are
//! shown as events, their body as input.
//!
//! - `change`: the texts get their new text, every other byte stays. The row says who changed some: `brokle.storage.masked`.
//! - `block`, `retry`, and a guardrail that has failed with `on_failure = "closed"`: input, output and attributes that
//!   hold texts are left out, and the row says why: `brokle.storage.withheld`. Nothing is ever stored raw instead.
//! - In shadow mode they aren't asked: nobody would hear of it.
//!
//! What can't be read is such a failure: JSON that is cut off or has a member twice, a stream that isn't of OpenAI's events. A
//! stream's texts are put together first, and a changed one stands in its first event.
//!
//! Calls wait in memory for their turn, [`MAX_WAITING`] of them and [`MAX_BYTES`] at most; one that comes on top goes without
//! its content. A crash loses those that wait. Spans are masked before they are acknowledged.

mod content;
mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::ids::ApiKeyId;
use brokle_core::observation::{Kind, Observation};
use brokle_core::signal::LogRecord;
use brokle_core::tenancy::Tenant;
use brokle_plugins::Snapshots;
use brokle_telemetry::Recorder;
use brokle_telemetry::Rows;
use brokle_telemetry::recording::Recording;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use self::content::{Content, told};
use self::stored::is_document;
use super::{Chain, Guardrails};

/// Calls that wait at most.
const MAX_WAITING: usize = 4_096;
/// Their bytes at most.
const MAX_BYTES: usize = 64 << 20;
/// Calls that are masked at the same time.
const AT_ONCE: usize = 4;

/// How long a server that stops goes on masking; what is left then goes without its content.
const LAST: Duration = Duration::from_secs(2);

/// What is stored, as guardrails leave it.
#[derive(Debug)]
pub struct Masking {
    guardrails: Guardrails,
    plugins: Arc<Snapshots>,
    recording: Arc<Recording>,
    recorder: Arc<Recorder>,
    sender: Sender<Observation>,
    receiver: Mutex<Option<Receiver<Observation>>>,
    bytes: AtomicUsize,
}

impl Masking {
    /// By these guardrails; what is done is cut as the operator wants it, and goes to the recorder.
    #[must_use]
    pub fn new(
        guardrails: Guardrails,
        plugins: Arc<Snapshots>,
        recording: Arc<Recording>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let (sender, receiver) = channel(MAX_WAITING);
        let receiver = Mutex::new(Some(receiver));
        Self { guardrails, plugins, recording, recorder, sender, receiver, bytes: AtomicUsize::new(0) }
    }

    fn chain(&self, tenant: Tenant, key: Option<ApiKeyId>) -> Option<Chain> {
        let snapshot = self.plugins.load();
        self.guardrails.of_storage(tenant, key, snapshot.of(tenant))
    }

    /// Records a call, or a plugin's span, at once if nobody rules on what is stored of it. Never waits.
    pub fn record(&self, mut row: Observation) {
        if !self.guardrails.rule_on_storage(row.tenant, row.key_id) {
            return self.keep(row);
        }
        let weight = row.weight();
        let has_room = self.bytes.fetch_add(weight, Ordering::SeqCst).saturating_add(weight) <= MAX_BYTES;
        if has_room {
            match self.sender.try_send(row) {
                Ok(()) => return,
                Err(error) => row = error.into_inner(),
            }
        }
        self.bytes.fetch_sub(weight, Ordering::SeqCst);
        Content::of(&mut row).withhold("there is too much to rule on");
        self.keep(row);
    }

    fn keep(&self, mut row: Observation) {
        self.recording.cut(&mut row);
        self.recorder.record(row);
    }

    /// Works on calls that wait until it is told to stop, and then for [`LAST`] on those that are left.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(receiver) = self.receiver.lock().take() else { return };
        let stopped = stop.clone();
        let waiting = futures_util::stream::unfold((receiver, stop), |(mut receiver, stop)| async move {
            let row = tokio::select! {
                biased;
                row = receiver.recv() => row,
                () = stop.cancelled() => {
                    receiver.close();
                    receiver.recv().await
                }
            };
            row.map(|row| (row, (receiver, stop)))
        });
        let over = CancellationToken::new();
        let work = waiting.for_each_concurrent(AT_ONCE, |mut row| {
            let over = &over;
            async move {
                let weight = row.weight();
                let is_late = tokio::select! {
                    biased;
                    () = over.cancelled() => true,
                    () = self.mask(&mut row) => false,
                };
                if is_late {
                    Content::of(&mut row).withhold("the server was stopped");
                }
                self.bytes.fetch_sub(weight, Ordering::SeqCst);
                self.keep(row);
            }
        });
        let end = async {
            stopped.cancelled().await;
            tokio::time::sleep(LAST).await;
            over.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            () = end => {}
        }
    }

    /// Masks what came together with one key: spans and log records.
    pub async fn mask_all(&self, key: ApiKeyId, rows: &mut Rows) {
        for row in &mut rows.observations {
            self.mask(row).await;
        }
        for record in &mut rows.logs {
            if self.guardrails.rule_on_storage(record.tenant, Some(key)) {
                self.mask_record(key, record).await;
            }
        }
    }

    async fn mask(&self, row: &mut Observation) {
        let Some(chain) = self.chain(row.tenant, row.key_id) else { return };
        Content::of(row).mask(&chain).await;
    }

    /// A record is shown as an event whose input is its body.
    async fn mask_record(&self, key: ApiKeyId, record: &mut LogRecord) {
        let Some(chain) = self.chain(record.tenant, Some(key)) else { return };
        let body = std::mem::take(&mut record.body);
        let is_text = !is_document(&body);
        let mut input = Some(Bytes::from(if is_text { Value::from(body).to_string() } else { body }));
        let mut content = Content {
            call: told(Kind::Event.as_str()),
            name: None,
            input: &mut input,
            output: &mut None,
            failure: &mut None,
            attributes: &mut record.attributes,
            steps: &mut [],
        };
        content.mask(&chain).await;
        let input = input.unwrap_or_default();
        let text =
            if is_text { serde_json::from_slice(&input).ok() } else { String::from_utf8(input.into()).ok() };
        record.body = text.unwrap_or_default();
    }
}
