//! What a call does on its way: decisions, attempts, time in plugins. Each is a step of its observation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use brokle_core::observation::{Kind, SpanId, Status, Step};
use brokle_telemetry::metrics::{PluginCallLabels, PluginLabels};
use http::HeaderMap;

use super::{Meter, micros};
use crate::refusal::Refusal;
use crate::routing::stats::Ticket;

impl Meter {
    /// Begins a step of the call.
    pub(crate) fn step(
        &self,
        kind: Kind,
        name: Cow<'static, str>,
        random: &dyn brokle_core::random::Random,
    ) -> Step {
        Step {
            span_id: SpanId::generate(random),
            parent_span_id: None,
            kind,
            name,
            offset_us: micros(self.started.elapsed()),
            duration_us: 0,
            status: Status::Ok,
            http_status: None,
            provider: None,
            connection: None,
            model: None,
            error_class: None,
            error_message: None,
            attributes: Default::default(),
        }
    }

    /// An attempt begins. It is on the trace also when the call ends before it does.
    pub(crate) fn begin_attempt(&mut self, step: Step, ticket: Ticket) {
        self.attempt = Some(step);
        // One that is followed without having failed gave its answer, which a guardrail sent back.
        if let Some(mut before) = self.ticket.replace(ticket) {
            before.succeeded();
        }
    }

    /// The upstream has answered the attempt with this status.
    pub(crate) fn attempt_answered(&mut self, status: u16, headers: &HeaderMap) {
        if let Some(ticket) = &mut self.ticket {
            ticket.answered(status, headers);
        }
        if let Some(step) = &mut self.attempt {
            step.http_status = Some(status);
        }
    }

    /// The attempt is over.
    pub(crate) fn end_attempt(&mut self, failure: Option<&Refusal>) {
        if let Some(refusal) = failure
            && let Some(mut ticket) = self.ticket.take()
        {
            ticket.failed(refusal);
        }
        if let Some(step) = self.attempt.take() {
            self.end_step(step, failure);
        }
    }

    /// A step is over.
    pub(crate) fn end_step(&mut self, mut step: Step, failure: Option<&Refusal>) {
        step.duration_us = micros(self.started.elapsed()).saturating_sub(step.offset_us);
        if let Some(refusal) = failure {
            step.status = refusal.outcome;
            step.error_class = Some(refusal.code.clone());
            step.error_message = Some(refusal.message.as_str().into());
            step.http_status = step.http_status.or(Some(refusal.status));
        }
        self.note(|observation| observation.steps.push(step));
    }

    /// Time in a plugin: a step of its own, and a metric.
    pub(crate) fn plugin(
        &mut self,
        label: &str,
        export: &'static str,
        parent: Option<SpanId>,
        spent: Duration,
        random: &dyn brokle_core::random::Random,
    ) {
        let mut step = self.plugin_step(label, spent, random);
        step.parent_span_id = parent;
        self.note(|observation| observation.steps.push(step));
        self.plugin_time(label, export, spent);
    }

    /// A routing policy was asked: a step with what it decided, or why it didn't.
    pub(crate) fn decided(
        &mut self,
        label: &str,
        spent: Duration,
        attributes: BTreeMap<String, serde_json::Value>,
        failure: Option<&str>,
        random: &dyn brokle_core::random::Random,
    ) {
        let mut step = self.plugin_step(label, spent, random);
        step.attributes = attributes;
        if let Some(reason) = failure {
            step.status = Status::Error;
            step.error_message = Some(reason.into());
        }
        self.note(|observation| observation.steps.push(step));
        self.plugin_time(label, "decide", spent);
    }

    /// A routing policy gave no order. By its id, or by the name that an operator wrote.
    pub(crate) fn policy_failed(&self, label: &str) {
        let plugin = label.split(' ').next().unwrap_or_default().to_owned();
        self.books.metrics.policy_failures.get_or_create(&PluginLabels { plugin }).inc();
    }

    fn plugin_step(&self, label: &str, spent: Duration, random: &dyn brokle_core::random::Random) -> Step {
        let mut step = self.step(Kind::Plugin, Cow::Owned(label.to_owned()), random);
        step.duration_us = micros(spent);
        step.offset_us = step.offset_us.saturating_sub(step.duration_us);
        step
    }

    pub(super) fn plugin_time(&self, label: &str, export: &'static str, spent: Duration) {
        let plugin = label.split(' ').next().unwrap_or_default().to_owned();
        let labels = PluginCallLabels { plugin, export: export.to_owned() };
        self.books.metrics.plugin_call.get_or_create(&labels).observe(spent.as_secs_f64());
    }

    /// A plugin failed.
    pub(crate) fn trap(&self, label: &str) {
        let plugin = label.split(' ').next().unwrap_or_default().to_owned();
        self.books.metrics.plugin_traps.get_or_create(&PluginLabels { plugin }).inc();
    }
}
