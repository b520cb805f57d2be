//! The end of an account: what was said from outside is heard, what no vendor counted is estimated, what was reserved is
//! settled, and the observation is written.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::observation::{Observation, Status};
use brokle_core::tenancy::Capture;
use brokle_core::usage::Usage;
use brokle_telemetry::metrics::{
    CallLabels, OperationLabels, ProviderLabels, StatusClass, TokenLabels, TokenType,
};
use bytes::Bytes;

use super::{Meter, micros};

impl Drop for Meter {
    fn drop(&mut self) {
        if self.is_beside {
            if self.priced.is_some() && self.observation.is_some() {
                self.books.metrics.upstream_connections.dec();
            }
            return;
        }
        self.hear();
        if let Some(mut step) = self.attempt.take() {
            step.status = Status::Aborted;
            self.end_step(step, None);
        }
        self.estimate();
        let cost = self.cost();
        let elapsed = self.started.elapsed();
        let Some(mut observation) = self.observation.take() else { return };
        if !self.settled {
            observation.status = Status::Aborted;
            observation.http_status = Some(499);
            observation.error_class = Some(Cow::Borrowed("client_disconnected"));
        }
        if self.priced.is_some() {
            self.books.metrics.upstream_connections.dec();
        }
        observation.duration_us = micros(elapsed);
        observation.cost = cost;
        if let Some(mut hold) = self.hold.take() {
            hold.settle(observation.usage.as_ref(), cost);
        }
        if !self.output.is_empty() {
            observation.output = Some(Bytes::from(std::mem::take(&mut self.output)));
        }
        if !self.is_inner {
            self.count_call(&observation, elapsed);
        }
        self.count_use(&observation);
        if let Some(part) = self.part.take() {
            part.close(&mut observation, &self.books.metrics);
        }
        if self.capture == Capture::Off && observation.status == Status::Ok {
            // Only what limits and billing need: no user, session, tags or steps.
            observation.user = None;
            observation.session = None;
            observation.tags.clear();
            observation.steps.clear();
        }
        // Limits, budgets and metrics have counted it by now.
        if self.books.recording.records(&observation) {
            self.books.masking.record(*observation);
        } else {
            self.books.metrics.unrecorded.inc();
        }
    }
}

impl Meter {
    /// Takes what was said from outside into the account.
    fn hear(&mut self) {
        let Some(outside) = self.outside.take() else { return };
        self.plugin_time(
            &outside.label,
            "encode",
            Duration::from_micros(outside.spent.load(Ordering::Relaxed)),
        );
        if outside.trapped.load(Ordering::Relaxed) {
            self.trap(&outside.label);
        }
        if let Some(refusal) = outside.refusal.get() {
            self.refuse(refusal, Some(200));
        }
    }

    /// A call that was answered, and whose vendor didn't say all that it used, most often since its client left before
    /// the end: one token for each piece of a stream, or for four bytes of a document. Where nothing is limited, nothing
    /// is guessed.
    fn estimate(&mut self) {
        let (Some(hold), (pieces, bytes), false) = (&self.hold, self.answered, self.is_cached) else {
            return;
        };
        let (prompt, settled) = (hold.prompt_tokens, self.settled);
        self.note(|observation| {
            let output = if observation.streaming { pieces } else { bytes / 4 };
            let known = observation.usage.filter(|usage| !usage.is_empty());
            let ended = settled && observation.status == Status::Ok;
            observation.usage = match known {
                // Some vendors tell what the prompt has at the beginning, and the answer's tokens at the end.
                Some(usage) if !ended && usage.output < output => {
                    Some(Usage { output, estimated: true, ..usage })
                }
                None if observation.first_token_us.is_some() => {
                    Some(Usage { input: prompt, output, estimated: true, ..Usage::default() })
                }
                known => known,
            };
        });
    }

    fn count_call(&self, observation: &Observation, elapsed: Duration) {
        let metrics = &self.books.metrics;
        let operation = self.operation.label();
        let status = StatusClass::of(observation.http_status.unwrap_or(500));
        metrics.requests.get_or_create(&CallLabels { operation, status }).inc();
        metrics.duration.get_or_create(&OperationLabels { operation }).observe(elapsed.as_secs_f64());
        if let Some(first) = observation.first_token_us {
            let seconds = Duration::from_micros(first).as_secs_f64();
            metrics.time_to_first_token.get_or_create(&OperationLabels { operation }).observe(seconds);
        }
    }

    /// What was used of whom.
    fn count_use(&self, observation: &Observation) {
        let metrics = &self.books.metrics;
        let (Some(provider), Some(usage)) = (&observation.provider, &observation.usage) else { return };
        let count = |kind, tokens| {
            if tokens > 0 {
                metrics
                    .tokens
                    .get_or_create(&TokenLabels { provider: provider.to_string(), kind })
                    .inc_by(tokens);
            }
        };
        count(TokenType::input, usage.input.saturating_sub(usage.cached_read));
        count(TokenType::cached_input, usage.cached_read);
        count(TokenType::output, usage.output.saturating_sub(usage.reasoning));
        count(TokenType::reasoning, usage.reasoning);
        if let Some(cost) = &observation.cost
            && let Ok(dollars) = cost.to_string().parse::<f64>()
        {
            metrics
                .cost_usd
                .get_or_create(&ProviderLabels { provider: provider.to_string() })
                .inc_by(dollars);
        }
    }
}
