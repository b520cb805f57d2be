//! `brokle:host/telemetry`: spans under the request's trace, and metrics that the manifest declares.
//!
//! **Spans** go to the host's [`SpanSink`] when they end, which is at the latest when the instance does. They carry the
//! trace and the span that the call's context names; without one they are dropped.
//!
//! **Metrics** are kept here, by plugin. Names and labels are those that the manifest declares; each record must have
//! every label. A combination of values beyond the granted number of series is counted under `_other`, so that the sum
//! stays right and a guest can't grow the host's memory by inventing values.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use brokle_core::ids::ApiKeyId;
use brokle_core::observation::{SpanId, TraceId};
use brokle_core::tenancy::Tenant;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use wasmtime::component::Resource;

use super::MetricKind;
use super::prepare::Instance;
use super::redact;
use super::secrets::SecretValue;
use crate::bindings::capabilities::brokle::host::telemetry::{Attribute, Error, Host, HostSpan};
use crate::grants::TelemetryGrant;
use crate::instance::State;

/// Bytes of a name.
const MAX_NAME: usize = 128;
/// Bytes of a value.
const MAX_VALUE: usize = 1_024;
/// Attributes of a span.
const MAX_ATTRIBUTES: usize = 32;
/// The value of every label of a series over the limit.
pub const OTHER: &str = "_other";

/// Upper bounds of a histogram's buckets; values above the last are in the count only.
pub const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 100.0];

/// Where spans go.
pub trait SpanSink: Send + Sync + Debug {
    /// Takes a span that has ended. Must not wait.
    fn record(&self, span: PluginSpan);
}

/// A sink that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSpans;

impl SpanSink for NoSpans {
    fn record(&self, _: PluginSpan) {}
}

/// The request's place in its trace, and whose it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that the plugin's are children of.
    pub span: SpanId,
    /// The key that the request came with: what rules on one key's rows rules on these.
    pub key: Option<ApiKeyId>,
}

/// A span of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSpan {
    /// The plugin's id and version.
    pub plugin: String,
    /// Whose request it is a part of.
    pub tenant: Tenant,
    /// Where it belongs.
    pub parent: TraceParent,
    /// Its own id.
    pub id: SpanId,
    /// What the plugin calls it.
    pub name: String,
    /// From.
    pub started_at: DateTime<Utc>,
    /// To.
    pub ended_at: DateTime<Utc>,
    /// By name.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What a guest's handle stands for.
#[derive(Debug)]
pub struct OpenSpan(());

/// Spans that are under way in one instance.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    open: HashMap<u32, PluginSpan>,
    started: u32,
}

/// A plugin's metrics, all tenants together.
#[derive(Debug, Default)]
pub struct PluginMetrics {
    series: Mutex<BTreeMap<(String, Vec<String>), Value>>,
}

/// The state of one series.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// The sum.
    Counter(u64),
    /// Count, sum, and for each of [`BUCKETS`] how many values were at most that.
    Histogram {
        /// Values.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Cumulative.
        buckets: [u64; BUCKETS.len()],
    },
}

/// One series, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The metric's name, as declared.
    pub metric: String,
    /// The values of its labels, in the order of the declaration.
    pub labels: Vec<String>,
    /// Its state.
    pub value: Value,
}

impl PluginMetrics {
    /// Every series, by name and labels.
    pub fn snapshot(&self) -> Vec<Series> {
        let series = self.series.lock();
        let shown = series.iter().map(|((metric, labels), value)| Series {
            metric: metric.clone(),
            labels: labels.clone(),
            value: value.clone(),
        });
        shown.collect()
    }

    fn record(
        &self,
        metric: &str,
        labels: Vec<String>,
        max_series: usize,
        change: impl FnOnce(&mut Value),
        new: Value,
    ) {
        let mut series = self.series.lock();
        let labels = if series.len() < max_series || series.contains_key(&(metric.to_owned(), labels.clone()))
        {
            labels
        } else {
            vec![OTHER.to_owned(); labels.len()]
        };
        change(series.entry((metric.to_owned(), labels)).or_insert(new));
    }
}

/// Cuts a text to `most` bytes, at a character.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn clean(text: &str, most: usize, secrets: &[SecretValue]) -> String {
    // Masked before it is cut, so that no half of a secret remains.
    cut(&redact::text(text, secrets), most).to_owned()
}

/// The values of the declared labels, in their order.
fn labels(
    grant: &TelemetryGrant,
    metric: &str,
    kind: MetricKind,
    given: &[Attribute],
    secrets: &[SecretValue],
) -> Result<Vec<String>, Error> {
    let refused =
        |what: &str| Error::Undeclared(format!("'{}': {what}", cut(metric, MAX_NAME).escape_debug()));
    let declared =
        grant.metrics.get(metric).ok_or_else(|| refused("the manifest declares no such metric"))?;
    if declared.kind != kind {
        return Err(refused("the manifest declares it as another kind"));
    }
    if given.len() != declared.labels.len() {
        return Err(refused("the manifest declares other labels"));
    }
    let values = declared.labels.iter().map(|name| {
        let label = given.iter().find(|label| label.name == *name);
        label.map(|label| clean(&label.value, MAX_NAME, secrets))
    });
    values.collect::<Option<Vec<_>>>().ok_or_else(|| refused("the manifest declares other labels"))
}

impl State {
    fn telemetry(&self) -> Result<(&Instance, &TelemetryGrant), Error> {
        let instance = self.granted("telemetry", |instance| instance.plugin.grants.telemetry.is_some());
        let instance = instance.ok_or(Error::Denied)?;
        let grant = instance.plugin.grants.telemetry.as_ref().ok_or(Error::Denied)?;
        Ok((instance, grant))
    }

    fn count(
        &self,
        metric: &str,
        kind: MetricKind,
        given: &[Attribute],
        value: f64,
        amount: u64,
    ) -> Result<(), Error> {
        let (instance, grant) = self.telemetry()?;
        let labels = labels(grant, metric, kind, given, &instance.plugin.known)?;
        let metrics = &instance.plugin.metrics;
        match kind {
            MetricKind::Counter => metrics.record(
                metric,
                labels,
                grant.max_series,
                |state| {
                    if let Value::Counter(sum) = state {
                        *sum = sum.saturating_add(amount);
                    }
                },
                Value::Counter(0),
            ),
            MetricKind::Histogram => metrics.record(
                metric,
                labels,
                grant.max_series,
                |state| {
                    if let Value::Histogram { count, sum, buckets } = state {
                        *count = count.saturating_add(1);
                        *sum += value;
                        for (bucket, bound) in buckets.iter_mut().zip(BUCKETS) {
                            *bucket += u64::from(value <= bound);
                        }
                    }
                },
                Value::Histogram { count: 0, sum: 0.0, buckets: [0; BUCKETS.len()] },
            ),
        }
        Ok(())
    }

    fn open_span(&mut self, name: &str, attributes: &[Attribute]) -> Result<Resource<OpenSpan>, Error> {
        let (_, grant) = self.telemetry()?;
        let most = grant.max_spans;
        let instance = self.capabilities.as_mut().ok_or(Error::Denied)?;
        if instance.spans.started >= most {
            return Err(Error::Quota);
        }
        instance.spans.started += 1;
        let handle = instance.spans.started;
        let (plugin, tenant) = (instance.plugin.clone(), instance.tenant);
        if let Some(parent) = instance.trace {
            let now = plugin.services.clock.now();
            let attributes = attributes.iter().take(MAX_ATTRIBUTES).map(|attribute| {
                let [name, value] = [(&attribute.name, MAX_NAME), (&attribute.value, MAX_VALUE)]
                    .map(|(text, most)| clean(text, most, &plugin.known));
                (name, value)
            });
            let span = PluginSpan {
                plugin: plugin.label.to_string(),
                tenant,
                parent,
                id: SpanId::generate(plugin.services.random.as_ref()),
                name: clean(name, MAX_NAME, &plugin.known),
                started_at: now,
                ended_at: now,
                attributes: attributes.collect(),
                failure: None,
            };
            instance.spans.open.insert(handle, span);
        }
        Ok(Resource::new_own(handle))
    }

    fn change(&mut self, handle: &Resource<OpenSpan>, change: impl FnOnce(&mut PluginSpan, &[SecretValue])) {
        let Some(instance) = self.capabilities.as_mut() else { return };
        if let Some(span) = instance.spans.open.get_mut(&handle.rep()) {
            change(span, &instance.plugin.known);
        }
    }
}

impl Instance {
    /// Ends a span, or all that are open.
    pub(crate) fn end_spans(&mut self, handle: Option<u32>) {
        if self.spans.open.is_empty() {
            return;
        }
        let now = self.plugin.services.clock.now();
        let ended: Vec<PluginSpan> = match handle {
            Some(handle) => self.spans.open.remove(&handle).into_iter().collect(),
            None => self.spans.open.drain().map(|(_, span)| span).collect(),
        };
        for span in ended {
            self.plugin.services.spans.record(PluginSpan { ended_at: now, ..span });
        }
    }
}

impl Host for State {
    fn start(
        &mut self,
        name: String,
        attributes: Vec<Attribute>,
    ) -> wasmtime::Result<Result<Resource<OpenSpan>, Error>> {
        Ok(self.open_span(&name, &attributes))
    }

    fn add(
        &mut self,
        metric: String,
        amount: u64,
        labels: Vec<Attribute>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.count(&metric, MetricKind::Counter, &labels, 0.0, amount))
    }

    fn observe(
        &mut self,
        metric: String,
        value: f64,
        labels: Vec<Attribute>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if !value.is_finite() {
            return Ok(Err(Error::Other("a value that is no number".into())));
        }
        Ok(self.count(&metric, MetricKind::Histogram, &labels, value, 0))
    }
}

impl HostSpan for State {
    fn set(&mut self, handle: Resource<OpenSpan>, name: String, value: String) -> wasmtime::Result<()> {
        self.change(&handle, |span, secrets| {
            let name = clean(&name, MAX_NAME, secrets);
            if span.attributes.len() < MAX_ATTRIBUTES || span.attributes.contains_key(&name) {
                span.attributes.insert(name, clean(&value, MAX_VALUE, secrets));
            }
        });
        Ok(())
    }

    fn fail(&mut self, handle: Resource<OpenSpan>, reason: String) -> wasmtime::Result<()> {
        self.change(&handle, |span, secrets| span.failure = Some(clean(&reason, MAX_VALUE, secrets)));
        Ok(())
    }

    fn drop(&mut self, handle: Resource<OpenSpan>) -> wasmtime::Result<()> {
        if let Some(instance) = self.capabilities.as_mut() {
            instance.end_spans(Some(handle.rep()));
        }
        Ok(())
    }
}
