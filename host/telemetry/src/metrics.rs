//! What the server counts, in Prometheus' terms.
//!
//! Every label's values come from a closed set: operations, status classes, kinds of tokens, names of configured
//! providers, ids of loaded plugins and their exports. Nothing that a client writes (a model's name, a path) becomes a
//! label, since each new value would be memory for ever.

mod labels;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::text;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use self::labels::*;

/// Seconds, from a cached answer to a long reasoning call.
const CALL_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Seconds, from a warm call of a component to one that runs into its deadline.
const PLUGIN_BUCKETS: [f64; 10] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 1.0];

type Latency<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// What the queue counts, for a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueState {
    /// Observations that wait to be stored.
    pub depth: u64,
    /// Observations that were given up since the start.
    pub dropped: u64,
    /// Observations that can't be stored and are kept aside.
    pub dead_letters: u64,
    /// Observations that went to the file since Redis didn't take them.
    pub spilled: u64,
}

/// Every metric, registered. The fields are what the house increments.
pub struct Metrics {
    registry: Registry,
    /// Calls that ended.
    pub requests: Family<CallLabels, Counter>,
    /// Tokens by provider and kind.
    pub tokens: Family<TokenLabels, Counter>,
    /// Dollars; an approximation for dashboards, the exact sums are in the store.
    pub cost_usd: Family<ProviderLabels, Counter<f64, AtomicU64>>,
    /// Seconds from a call's first byte to its answer's last.
    pub duration: Latency<OperationLabels>,
    /// Seconds from a streamed call's first byte to its answer's first.
    pub time_to_first_token: Latency<OperationLabels>,
    /// Seconds in a component.
    pub plugin_call: Latency<PluginCallLabels>,
    /// Traps of a component.
    pub plugin_traps: Family<PluginLabels, Counter>,
    /// Calls for which a routing policy gave no order, so that the built-in one was taken.
    pub policy_failures: Family<PluginLabels, Counter>,
    /// The most memory that an instance of a component has had, in bytes.
    pub plugin_memory: Family<PluginLabels, Gauge>,
    /// Calls of capabilities that a component wasn't granted.
    pub plugin_denials: Family<DenialLabels, Counter>,
    /// Components that were refused.
    pub plugin_refusals: Family<CodeLabels, Counter>,
    /// Times that another set of versions was put into service.
    pub plugin_swaps: Counter,
    /// Observations that wait to be stored.
    pub telemetry_queue_depth: Gauge,
    /// Observations that couldn't be stored and are kept aside.
    pub telemetry_dead_letters: Gauge,
    /// Observations that were given up; the store's own count, copied at each scrape.
    pub telemetry_dropped: Counter,
    /// Observations that Redis didn't take and that went to the file; copied likewise.
    pub telemetry_spilled: Counter,
    /// Spans from elsewhere, by what became of them.
    pub spans: Family<SpanLabels, Counter>,
    /// The same of log records.
    pub log_records: Family<SpanLabels, Counter>,
    /// The same of metrics' data points.
    pub data_points: Family<SpanLabels, Counter>,
    /// Looks into the cache.
    pub cache: Family<CacheLabels, Counter>,
    /// Limits that were checked by this server alone, since Redis didn't answer.
    pub limit_fallbacks: Counter,
    /// Calls that a budget refused a candidate.
    pub budget_refusals: Family<BudgetLabels, Counter>,
    /// Times that a share of a budget was reached that somebody is told of.
    pub budget_alerts: Family<BudgetLabels, Counter>,
    /// Connections to providers in use.
    pub upstream_connections: Gauge,
    /// Circuits that opened.
    pub circuit_opens: Family<ProviderLabels, Counter>,
    /// Health checks of connections that failed.
    pub health_check_failures: Family<ProviderLabels, Counter>,
    /// Calls that were refused at once since the gateway had no room.
    pub shed: Counter,
    /// Attempts that were made again at the same candidate.
    pub retries: Family<ProviderLabels, Counter>,
    /// Second attempts beside one that took long.
    pub hedges: Family<ProviderLabels, Counter>,
    /// Retries and hedges that weren't made since there had been too many.
    pub retry_budget_exhausted: Counter,
    /// Calls that were to be made once more.
    pub shadows: Family<ShadowLabels, Counter>,
    /// Observations that the operator's rules don't record.
    pub unrecorded: Counter,
    /// Observations that exporters sent elsewhere.
    pub exported: Family<ExportedLabels, Counter>,
    /// Batches that an exporter couldn't send.
    pub export_failures: Family<ExporterLabels, Counter>,
    /// How long an exporter's oldest batch has been on its way, in seconds.
    pub export_lag: Family<ExporterLabels, Gauge>,
    /// Handlers that panicked.
    pub panics: Counter,
}

impl Metrics {
    /// All of them at zero.
    #[must_use]
    pub fn new() -> Self {
        let calls: fn() -> Histogram = || Histogram::new(CALL_BUCKETS);
        let plugins: fn() -> Histogram = || Histogram::new(PLUGIN_BUCKETS);
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            tokens: Family::default(),
            cost_usd: Family::default(),
            duration: Family::new_with_constructor(calls),
            time_to_first_token: Family::new_with_constructor(calls),
            plugin_call: Family::new_with_constructor(plugins),
            plugin_traps: Family::default(),
            spans: Family::default(),
            log_records: Family::default(),
            data_points: Family::default(),
            policy_failures: Family::default(),
            plugin_memory: Family::default(),
            plugin_denials: Family::default(),
            plugin_refusals: Family::default(),
            plugin_swaps: Counter::default(),
            telemetry_queue_depth: Gauge::default(),
            telemetry_dead_letters: Gauge::default(),
            telemetry_dropped: Counter::default(),
            telemetry_spilled: Counter::default(),
            cache: Family::default(),
            limit_fallbacks: Counter::default(),
            budget_refusals: Family::default(),
            budget_alerts: Family::default(),
            upstream_connections: Gauge::default(),
            circuit_opens: Family::default(),
            health_check_failures: Family::default(),
            shed: Counter::default(),
            retries: Family::default(),
            hedges: Family::default(),
            retry_budget_exhausted: Counter::default(),
            shadows: Family::default(),
            unrecorded: Counter::default(),
            exported: Family::default(),
            export_failures: Family::default(),
            export_lag: Family::default(),
            panics: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("brokle");
        registry.register("requests", "Calls by operation and outcome", self.requests.clone());
        registry.register("tokens", "Tokens by provider and kind", self.tokens.clone());
        registry.register("cost_usd", "Cost in US dollars", self.cost_usd.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a call's start to its end",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "time_to_first_token",
            "Time from a streamed call's start to its first chunk",
            Unit::Seconds,
            self.time_to_first_token.clone(),
        );
        registry.register_with_unit(
            "plugin_call",
            "Time spent in a component",
            Unit::Seconds,
            self.plugin_call.clone(),
        );
        registry.register("plugin_traps", "Calls of a component that trapped", self.plugin_traps.clone());
        registry.register("unrecorded", "Observations that sampling leaves out", self.unrecorded.clone());
        registry.register("exported", "Observations by exporter and outcome", self.exported.clone());
        registry.register(
            "export_failures",
            "Batches that an exporter couldn't send",
            self.export_failures.clone(),
        );
        registry.register_with_unit(
            "export_lag",
            "How long an exporter's oldest batch has been on its way",
            Unit::Seconds,
            self.export_lag.clone(),
        );
        registry.register(
            "policy_failures",
            "Calls for which a routing policy gave no order",
            self.policy_failures.clone(),
        );
        registry.register_with_unit(
            "plugin_memory",
            "The most memory that an instance of a component has had",
            Unit::Bytes,
            self.plugin_memory.clone(),
        );
        registry.register(
            "plugin_denials",
            "Calls of capabilities that a component wasn't granted",
            self.plugin_denials.clone(),
        );
        registry.register("plugin_refusals", "Components that were refused", self.plugin_refusals.clone());
        registry.register(
            "plugin_swaps",
            "Times that other versions were put into service",
            self.plugin_swaps.clone(),
        );
        registry.register(
            "telemetry_queue_depth",
            "Observations that wait to be stored",
            self.telemetry_queue_depth.clone(),
        );
        registry.register(
            "telemetry_dead_letters",
            "Observations that can't be stored and are kept aside",
            self.telemetry_dead_letters.clone(),
        );
        registry.register(
            "telemetry_dropped",
            "Observations that were given up since the queue was full",
            self.telemetry_dropped.clone(),
        );
        registry.register(
            "telemetry_spilled",
            "Observations that went to the file since Redis didn't take them",
            self.telemetry_spilled.clone(),
        );
        registry.register(
            "upstream_connections",
            "Connections to providers in use",
            self.upstream_connections.clone(),
        );
        registry.register("cache", "Looks into the cache by outcome", self.cache.clone());
        registry.register(
            "limit_fallbacks",
            "Limits checked by this server alone since Redis didn't answer",
            self.limit_fallbacks.clone(),
        );
        registry.register(
            "budget_refusals",
            "Candidates that a budget refused",
            self.budget_refusals.clone(),
        );
        registry.register(
            "budget_alerts",
            "Times that a budget's threshold was reached",
            self.budget_alerts.clone(),
        );
        registry.register("circuit_opens", "Circuits that opened", self.circuit_opens.clone());
        registry.register("shed", "Calls refused at once for want of room", self.shed.clone());
        registry.register(
            "health_check_failures",
            "Health checks of connections that failed",
            self.health_check_failures.clone(),
        );
        registry.register("retries", "Attempts made again at the same candidate", self.retries.clone());
        registry.register("hedges", "Second attempts beside one that took long", self.hedges.clone());
        registry.register(
            "retry_budget_exhausted",
            "Retries and hedges that weren't made since there had been too many",
            self.retry_budget_exhausted.clone(),
        );
        registry.register("shadows", "Calls that were to be made once more by outcome", self.shadows.clone());
        registry.register("spans", "Spans from elsewhere by outcome", self.spans.clone());
        registry.register("log_records", "Log records from elsewhere by outcome", self.log_records.clone());
        registry.register("data_points", "Data points from elsewhere by outcome", self.data_points.clone());
        registry.register("panics", "Handlers that panicked", self.panics.clone());
    }

    /// Takes the queue's state over; a count that went back (another store) leaves the counter as it is.
    pub fn observe_queue(&self, queue: QueueState) {
        self.telemetry_queue_depth.set(i64::try_from(queue.depth).unwrap_or(i64::MAX));
        self.telemetry_dead_letters.set(i64::try_from(queue.dead_letters).unwrap_or(i64::MAX));
        self.telemetry_dropped.inner().fetch_max(queue.dropped, Ordering::Relaxed);
        self.telemetry_spilled.inner().fetch_max(queue.spilled, Ordering::Relaxed);
    }

    /// All of them in the
    /// [OpenMetrics text format](https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md).
    ///
    /// # Errors
    /// When a label can't be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_that_dashboards_know() {
        let metrics = Metrics::new();
        metrics
            .requests
            .get_or_create(&CallLabels { operation: Operation::chat, status: StatusClass::of(499) })
            .inc();
        let openai = ProviderLabels { provider: "openai".to_owned() };
        metrics.cost_usd.get_or_create(&openai).inc_by(0.25);
        metrics.duration.get_or_create(&OperationLabels { operation: Operation::chat }).observe(0.02);
        metrics.observe_queue(QueueState { depth: 3, dropped: 7, dead_letters: 1, spilled: 0 });
        metrics.observe_queue(QueueState { depth: 2, dropped: 6, dead_letters: 5, spilled: 4 });
        let text = metrics.encode().unwrap();
        for line in [
            "brokle_requests_total{operation=\"chat\",status=\"canceled\"} 1",
            "brokle_cost_usd_total{provider=\"openai\"} 0.25",
            "brokle_request_duration_seconds_bucket{le=\"0.025\",operation=\"chat\"} 1",
            "brokle_telemetry_queue_depth 2",
            "brokle_telemetry_dead_letters 5",
            "brokle_telemetry_dropped_total 7",
            "brokle_telemetry_spilled_total 4",
            "# UNIT brokle_request_duration_seconds seconds",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }
}
