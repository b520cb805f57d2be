//! Large inputs and outputs, apart from their rows: blobs, read when somebody asks for the trace.
//!
//! [`Payloads`] is a store around another one. An input or output of more than so many bytes becomes the blob
//! `PROJECT/payloads/TRACE/SPAN-input` (or `-output`); the row keeps the beginning of it, [`PREVIEW`] bytes, which lists, exports and
//! searches see, and the attribute `brokle.input.blob_bytes` (`brokle.output.…`), which tells how long it is. [`trace`] puts the whole
//! in its place, up to [`MAX_LOADED`] bytes of a trace, and so do [`arrivals`], up to [`MAX_EXPORTED`] of an observation. While
//! a blob can't be read a trace has its beginning; arrivals wait, since what goes elsewhere goes once. One that isn't there
//! any more is its beginning for both. A blob's name is made of its row's own project: no row leads to another's, whatever
//! its attributes say; those that a client sends under these names are dropped.
//!
//! First the file's log is written (`blob_storage_file_log`), then the blob, then the row: a crash in between leaves nothing that retention
//! doesn't find. A blob that is there already stays, as its row would. While blobs can't be stored, rows keep everything.
//!
//! [`trace`]: AnalyticsStore::trace
//! [`arrivals`]: QueryStore::arrivals

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::ids::ProjectId;
use brokle_core::observation::{Observation, SpanId, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::apart::Apart;
use super::arrivals::MAX_BODIES;
use super::query::{
    Filter, Group, GroupKind, Limits, Metrics, MetricsQuery, ObservationRow, Place, Query, QueryStore,
};
use super::signal::{LogRow, LogsQuery, PointRow, PointsQuery, SeriesRow};
use super::update::TraceUpdate;
use super::view::{Node, show};
use super::{
    AnalyticsError, AnalyticsStore, Answer, Arrivals, Cursor, Inserted, Mark, Month, Page, Removed, Rollup,
    Score, Summary, Trace, TraceFilter,
};
use crate::blobs::BlobStore;

/// Bytes of an input or output that its row keeps.
pub const PREVIEW: usize = 1 << 10;
/// Bytes of a trace's inputs and outputs that are read for it; the others stay previews.
pub const MAX_LOADED: u64 = 64 << 20;
/// Bytes of an observation's input and output that are read for whoever brings it elsewhere; what has more stays a preview.
pub const MAX_EXPORTED: u64 = 3 << 20;
/// Blobs of a batch, or of a trace, on their way at once.
const AT_ONCE: usize = 8;
/// How long a blob may take to be stored or read before its row goes without.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Names of blobs that are looked up at once.
const PAGE: u32 = 1_000;

/// A blob of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Whose it is.
    pub project: ProjectId,
    /// The row's trace.
    pub trace_id: TraceId,
    /// The row's span.
    pub span_id: SpanId,
    /// `input` or `output`.
    pub field: &'static str,
    /// Its name in the blob store.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// When the row began, in microseconds since the epoch.
    pub time_us: i64,
}

/// A store whose large inputs and outputs are blobs.
#[derive(Debug)]
pub struct Payloads {
    store: Arc<dyn QueryStore>,
    blobs: Arc<dyn BlobStore>,
    inline: usize,
    apart: Apart,
}

impl Payloads {
    /// Around this store, with what has more than `inline` bytes in these blobs.
    ///
    /// # Errors
    /// When the thread that stores blobs can't be started.
    pub fn new(
        store: Arc<dyn QueryStore>,
        blobs: Arc<dyn BlobStore>,
        inline: usize,
    ) -> Result<Self, AnalyticsError> {
        Ok(Self { store, blobs, inline: inline.max(PREVIEW), apart: Apart::start("payloads")? })
    }

    /// The batch with its large bodies elsewhere; none if there are none and nothing claims to be one.
    fn apart(&self, batch: &[Observation]) -> Result<Option<Vec<Observation>>, AnalyticsError> {
        let is_large = |body: &Option<Bytes>| body.as_ref().is_some_and(|body| body.len() > self.inline);
        let claims =
            |row: &Observation| FIELDS.iter().any(|field| row.attributes.contains_key(field.attribute));
        if !batch.iter().any(|row| is_large(&row.input) || is_large(&row.output) || claims(row)) {
            return Ok(None);
        }
        let mut rows = batch.to_vec();
        let (mut logged, mut bodies) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter_mut().enumerate() {
            for field in &FIELDS {
                row.attributes.remove(field.attribute);
                let Some(body) = (field.body)(row).clone().filter(|body| body.len() > self.inline) else {
                    continue;
                };
                let blob = BlobRow {
                    project: row.tenant.project,
                    trace_id: row.trace_id,
                    span_id: row.span_id,
                    field: field.name,
                    path: field.path(row.tenant.project, row.trace_id, row.span_id),
                    bytes: body.len() as u64,
                    sha256: Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect(),
                    time_us: row.start_us,
                };
                bodies.push(Body { at, field, path: blob.path.clone(), body });
                logged.push(blob);
            }
        }
        if logged.is_empty() {
            return Ok(Some(rows));
        }
        self.store.log_blobs(&logged)?;
        let storing: Vec<_> = bodies.into_iter().map(|body| body.store(Arc::clone(&self.blobs))).collect();
        let storing = stream::iter(storing).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
        let stored = self.apart.wait(async move { Ok(storing.await) })?;
        for (at, field, stored) in stored {
            let Some(row) = rows.get_mut(at) else { continue };
            match stored {
                Ok(()) => field.shorten(row),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "an input or output stays in its row: its blob can't be stored");
                }
            }
        }
        Ok(Some(rows))
    }

    /// Puts what was stored apart into its place.
    async fn load(&self, project: ProjectId, trace: &mut Trace) {
        let (mut places, mut left) = (Vec::new(), MAX_LOADED);
        for node in &mut trace.observations {
            collect(node, project, &mut left, &mut places);
        }
        let mut loading = Vec::with_capacity(places.len());
        for (path, bytes, place) in places {
            loading.push(async move {
                if let Err(error) = fill(&*self.blobs, &path, bytes, place).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, path, "an input or output can't be read: its beginning is shown");
                }
            });
        }
        stream::iter(loading).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// The same for observations that are to go elsewhere; those that are too much for one answer are left for the next.
    async fn load_arrivals(
        &self,
        project: ProjectId,
        after: Mark,
        mut found: Arrivals,
    ) -> Result<Arrivals, AnalyticsError> {
        let (mut places, mut bodies, mut kept) = (Vec::new(), 0, 0);
        for arrival in &mut found.rows {
            if bodies >= MAX_BODIES {
                break;
            }
            kept += 1;
            let shown = [&arrival.node.input, &arrival.node.output].into_iter().flatten();
            bodies += shown.map(|body| body.get().len()).sum::<usize>();
            let mut left = MAX_EXPORTED;
            collect(&mut arrival.node, project, &mut left, &mut places);
            bodies += usize::try_from(MAX_EXPORTED - left).unwrap_or(usize::MAX);
        }
        let mut loading = Vec::with_capacity(places.len());
        for (path, bytes, place) in places {
            loading.push(async move {
                match fill(&*self.blobs, &path, bytes, place).await {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        tracing::warn!(path, "an input or output isn't there: its beginning goes elsewhere");
                        Ok(())
                    }
                    filled => filled,
                }
            });
        }
        let mut loading = stream::iter(loading).buffer_unordered(AT_ONCE);
        while let Some(loaded) = loading.next().await {
            loaded.map_err(|error| AnalyticsError::Unavailable(error.into()))?;
        }
        drop(loading);
        if kept < found.rows.len() {
            found.rows.truncate(kept);
            found.end = after;
            for arrival in &found.rows {
                found.end.pass(&arrival.part, arrival.row);
            }
            found.more = true;
        }
        Ok(found)
    }

    /// Deletes the blobs of this time, or counts them. Their log goes with the rows.
    async fn forget(
        &self,
        project: Option<ProjectId>,
        time: Range<DateTime<Utc>>,
        dry_run: bool,
    ) -> Result<u64, AnalyticsError> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let names = self.store.blobs(project, time.clone(), after, PAGE).await?;
            count += names.len() as u64;
            if !dry_run {
                let mut deleting = Vec::with_capacity(names.len());
                for name in &names {
                    deleting.push(self.blobs.delete(name));
                }
                let mut deleting = stream::iter(deleting).buffer_unordered(AT_ONCE);
                while let Some(deleted) = deleting.next().await {
                    deleted.map_err(|error| AnalyticsError::Unavailable(error.into()))?;
                }
            }
            let is_last = names.len() < PAGE as usize;
            match names.into_iter().last() {
                Some(last) if !is_last => after = last,
                _ => return Ok(count),
            }
        }
    }
}

/// A body that is to be a blob.
struct Body {
    /// The place of its row in the batch.
    at: usize,
    field: &'static Field,
    path: String,
    body: Bytes,
}

impl Body {
    async fn store(self, blobs: Arc<dyn BlobStore>) -> (usize, &'static Field, io::Result<()>) {
        let Self { at, field, path, body } = self;
        let storing = async {
            if !blobs.exists(&path).await? {
                blobs.put(&path, Box::pin(io::Cursor::new(body))).await?;
            }
            Ok(())
        };
        (at, field, in_time(storing).await)
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Puts the blob into its place; what can't be read stays its beginning.
async fn fill(
    blobs: &dyn BlobStore,
    path: &str,
    bytes: u64,
    place: &mut Option<Box<RawValue>>,
) -> io::Result<()> {
    let body = in_time(read(blobs, path, bytes)).await?;
    if let Ok(whole) = show(body) {
        *place = Some(whole);
    }
    Ok(())
}

async fn read(blobs: &dyn BlobStore, path: &str, bytes: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    blobs.get(path).await?.take(bytes).read_to_end(&mut body).await?;
    Ok(body)
}

/// An input or output: what it is called, and where it stands.
#[derive(Debug)]
struct Field {
    name: &'static str,
    attribute: &'static str,
    body: fn(&mut Observation) -> &mut Option<Bytes>,
}

static FIELDS: [Field; 2] = [
    Field { name: "input", attribute: "brokle.input.blob_bytes", body: |row| &mut row.input },
    Field { name: "output", attribute: "brokle.output.blob_bytes", body: |row| &mut row.output },
];

impl Field {
    fn path(&self, project: ProjectId, trace: TraceId, span: SpanId) -> String {
        format!("{project}/payloads/{trace}/{span}-{}", self.name)
    }

    /// Leaves the beginning, and says how long the whole is.
    fn shorten(&self, row: &mut Observation) {
        let body = (self.body)(row);
        let Some(whole) = body.take() else { return };
        let beginning = String::from_utf8_lossy(whole.get(..PREVIEW).unwrap_or(&whole)).into_owned();
        // What was cut in the middle of a character.
        *body = Some(beginning.trim_end_matches('\u{fffd}').to_owned().into());
        row.attributes.insert(self.attribute.to_owned(), whole.len().into());
    }
}

type Wanted<'a> = (String, u64, &'a mut Option<Box<RawValue>>);

/// The places of a node and of those in it that are to be filled, while there is room.
fn collect<'a>(node: &'a mut Node, project: ProjectId, left: &mut u64, places: &mut Vec<Wanted<'a>>) {
    let wanted = FIELDS.each_ref().map(|field| {
        let bytes = node.summary.attributes.get(field.attribute)?.as_u64().filter(|bytes| bytes <= left)?;
        *left -= bytes;
        Some((field.path(project, node.summary.trace_id, node.summary.span_id), bytes))
    });
    let Node { input, output, children, .. } = node;
    for (wanted, place) in wanted.into_iter().zip([input, output]) {
        places.extend(wanted.map(|(path, bytes)| (path, bytes, place)));
    }
    for child in children {
        collect(child, project, left, places);
    }
}

impl AnalyticsStore for Payloads {
    fn insert(&self, batch: &[Observation], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        match self.apart(batch)? {
            Some(rows) => self.store.insert(&rows, inserted),
            None => self.store.insert(batch, inserted),
        }
    }

    fn insert_logs(&self, batch: &[LogRecord], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.store.insert_logs(batch, inserted)
    }

    fn insert_points(&self, batch: &[MetricPoint], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.store.insert_points(batch, inserted)
    }

    fn is_embedded(&self) -> bool {
        self.store.is_embedded()
    }

    fn list(
        &self,
        project: ProjectId,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Answer<'_, Page<Summary>> {
        self.store.list(project, filter, limit, cursor)
    }

    fn trace(&self, project: ProjectId, trace_id: TraceId) -> Answer<'_, Option<Trace>> {
        Box::pin(async move {
            let mut trace = self.store.trace(project, trace_id).await?;
            if let Some(trace) = &mut trace {
                self.load(project, trace).await;
            }
            Ok(trace)
        })
    }

    fn rollups(&self, project: ProjectId, from: DateTime<Utc>, to: DateTime<Utc>) -> Answer<'_, Vec<Rollup>> {
        self.store.rollups(project, from, to)
    }

    fn retain(&self, before: Month, dry_run: bool) -> Answer<'_, Removed> {
        Box::pin(async move {
            let blobs = self.forget(None, DateTime::<Utc>::MIN_UTC..before.begin(), dry_run).await?;
            let removed = self.store.retain(before, dry_run).await?;
            Ok(Removed { blobs, ..removed })
        })
    }

    fn expire(&self, project: ProjectId, time: Range<DateTime<Utc>>, dry_run: bool) -> Answer<'_, Removed> {
        Box::pin(async move {
            let blobs = self.forget(Some(project), time.clone(), dry_run).await?;
            let removed = self.store.expire(project, time, dry_run).await?;
            Ok(Removed { blobs, ..removed })
        })
    }

    fn keep(&self, days: u32) -> Answer<'_, ()> {
        self.store.keep(days)
    }

    fn sum_up(&self) -> Answer<'_, ()> {
        self.store.sum_up()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.store.ping()
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }
}

impl QueryStore for Payloads {
    fn put_scores(&self, project: ProjectId, scores: Vec<Score>) -> Answer<'_, ()> {
        self.store.put_scores(project, scores)
    }

    fn delete_score(&self, project: ProjectId, id: String) -> Answer<'_, bool> {
        self.store.delete_score(project, id)
    }

    fn scores(&self, project: ProjectId, query: Query) -> Answer<'_, Page<Score, Place>> {
        self.store.scores(project, query)
    }

    fn observations(&self, project: ProjectId, query: Query) -> Answer<'_, Page<ObservationRow, Place>> {
        self.store.observations(project, query)
    }

    fn groups(&self, project: ProjectId, kind: GroupKind, query: Query) -> Answer<'_, Page<Group, Place>> {
        self.store.groups(project, kind, query)
    }

    fn metrics(&self, project: ProjectId, query: MetricsQuery) -> Answer<'_, Metrics> {
        self.store.metrics(project, query)
    }

    fn update_trace(
        &self,
        project: ProjectId,
        trace: TraceId,
        update: TraceUpdate,
        now: DateTime<Utc>,
    ) -> Answer<'_, ()> {
        self.store.update_trace(project, trace, update, now)
    }

    fn trace_updates(
        &self,
        project: ProjectId,
        traces: Vec<TraceId>,
    ) -> Answer<'_, HashMap<TraceId, TraceUpdate>> {
        self.store.trace_updates(project, traces)
    }

    fn logs(&self, project: ProjectId, query: LogsQuery) -> Answer<'_, Page<LogRow, Place>> {
        self.store.logs(project, query)
    }

    fn points(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<PointRow, Place>> {
        self.store.points(project, query)
    }

    fn series(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<SeriesRow, Place>> {
        self.store.series(project, query)
    }

    fn arrivals(
        &self,
        project: ProjectId,
        filter: Filter,
        after: Mark,
        to: Option<Mark>,
        limit: usize,
    ) -> Answer<'_, Arrivals> {
        Box::pin(async move {
            let found = self.store.arrivals(project, filter, after.clone(), to, limit).await?;
            self.load_arrivals(project, after, found).await
        })
    }

    fn arrived(&self) -> Answer<'_, Mark> {
        self.store.arrived()
    }

    fn log_blobs(&self, rows: &[BlobRow]) -> Result<(), AnalyticsError> {
        self.store.log_blobs(rows)
    }

    fn blobs(
        &self,
        project: Option<ProjectId>,
        time: Range<DateTime<Utc>>,
        after: String,
        limit: u32,
    ) -> Answer<'_, Vec<String>> {
        self.store.blobs(project, time, after, limit)
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}
