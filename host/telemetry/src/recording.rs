//! What is recorded of whose observations: a share of the traces, the ones that matter in any case, and how much of each.
//!
//! Rules are an operator's, in order; the first that is for a tenant counts, and without one everything is recorded.
//!
//! - **Head**: a trace is recorded or not by its id alone, as OpenTelemetry's consistent probability sampling has it (its
//!   last 56 bits, at least the share that is left out), so that every server, and every application that samples
//!   likewise, comes to the same.
//! - **Tail**: an observation that failed, took long or cost much is recorded whatever its trace's id says. A call comes with
//!   its attempts, which are in its row; of spans that are sent together all those of such a trace are kept. Spans of it
//!   that come by themselves before or after aren't: nothing is held back to wait for them.
//! - **Content**: inputs and outputs are cut to so many bytes, after guardrails have ruled on the whole.
//!
//! What isn't recorded has been counted all the same: in limits, budgets and the server's metrics. It isn't in lists, traces,
//! sums (`spend` of `/v1/usage`, too) and exports, which are made of what is stored.

use std::collections::HashSet;
use std::time::Duration;

use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::money::Usd;
use brokle_core::observation::{Observation, Status, TraceId};
use brokle_core::tenancy::{Capture, Tenant};
use bytes::Bytes;

/// The attribute that names the bodies that were cut.
const TRUNCATED: &str = "brokle.truncated";
/// What a trace's id has of randomness: its last 56 bits.
const RANDOM: u64 = 1 << 56;

/// What is recorded of some tenants' observations.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Organizations that it is for; with `projects`: any of them. Neither: everybody.
    pub organizations: Vec<OrganizationId>,
    /// Projects that it is for.
    pub projects: Vec<ProjectId>,
    /// The share of traces, 0 to 1.
    pub rate: f64,
    /// Whatever didn't end well is recorded.
    pub keep_errors: bool,
    /// Whatever took at least so long is recorded.
    pub keep_slower: Option<Duration>,
    /// Whatever cost at least so much is recorded.
    pub keep_costlier: Option<Usd>,
    /// The most that is captured; none: what the project says.
    pub capture: Option<Capture>,
    /// Bytes of an input and of an output at most.
    pub max_content: Option<usize>,
}

impl Rule {
    fn is_for(&self, tenant: Tenant) -> bool {
        let everybody = self.organizations.is_empty() && self.projects.is_empty();
        everybody
            || self.organizations.contains(&tenant.organization)
            || self.projects.contains(&tenant.project)
    }

    /// By the head.
    fn samples(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g] = *trace.as_bytes();
        let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
        // Exact at both ends: a share of 1 leaves nothing out, a share of 0 keeps nothing.
        random >= ((1.0 - self.rate) * RANDOM as f64) as u64
    }

    /// By the tail.
    fn matters(&self, row: &Observation) -> bool {
        (self.keep_errors && row.status != Status::Ok)
            || self.keep_slower.is_some_and(|time| u128::from(row.duration_us) >= time.as_micros())
            || self.keep_costlier.is_some_and(|cost| row.cost.is_some_and(|own| own >= cost))
    }

    fn cut(&self, row: &mut Observation) {
        let Some(most) = self.max_content else { return };
        let mut cut = Vec::new();
        for (name, body) in [("input", &mut row.input), ("output", &mut row.output)] {
            if let Some(whole) = body.as_mut().filter(|whole| whole.len() > most) {
                // Copied: a slice would keep the whole in memory.
                *whole = Bytes::copy_from_slice(whole.get(..most).unwrap_or_default());
                cut.push(name);
            }
        }
        if !cut.is_empty() {
            row.attributes.insert(TRUNCATED.to_owned(), cut.into());
        }
    }
}

/// The operator's rules.
#[derive(Debug, Default)]
pub struct Recording {
    rules: Vec<Rule>,
}

impl Recording {
    /// These, in order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    fn rule(&self, tenant: Tenant) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.is_for(tenant))
    }

    /// What is captured of a tenant whose project captures this: never more.
    #[must_use]
    pub fn capture(&self, tenant: Tenant, own: Capture) -> Capture {
        match (self.rule(tenant).and_then(|rule| rule.capture), own) {
            (Some(Capture::Off), _) => Capture::Off,
            (Some(Capture::Metadata), Capture::Full) => Capture::Metadata,
            _ => own,
        }
    }

    /// Whether an observation that stands alone is recorded.
    #[must_use]
    pub fn records(&self, row: &Observation) -> bool {
        self.rule(row.tenant).is_none_or(|rule| rule.samples(row.trace_id) || rule.matters(row))
    }

    /// Cuts an observation's bodies to what they may be.
    pub fn cut(&self, row: &mut Observation) {
        if let Some(rule) = self.rule(row.tenant) {
            rule.cut(row);
        }
    }

    /// Leaves what is recorded of one tenant's spans that came together.
    pub fn retain(&self, tenant: Tenant, rows: &mut Vec<Observation>) {
        let Some(rule) = self.rule(tenant) else { return };
        let mattering: HashSet<TraceId> =
            rows.iter().filter(|row| rule.matters(row)).map(|row| row.trace_id).collect();
        rows.retain(|row| rule.samples(row.trace_id) || mattering.contains(&row.trace_id));
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::ids::EnvironmentId;
    use brokle_core::observation::{Kind, SpanId};
    use brokle_core::random::SeededRandom;

    use super::*;

    fn tenant(number: u128) -> Tenant {
        Tenant {
            organization: OrganizationId::from_u128(number),
            project: ProjectId::from_u128(number),
            environment: EnvironmentId::from_u128(number),
        }
    }

    fn rule(rate: f64) -> Rule {
        Rule {
            organizations: Vec::new(),
            projects: Vec::new(),
            rate,
            keep_errors: false,
            keep_slower: None,
            keep_costlier: None,
            capture: None,
            max_content: None,
        }
    }

    fn rows(count: usize) -> Vec<Observation> {
        let random = SeededRandom::new(3);
        let row = |_| {
            let (trace, span) = (TraceId::generate(&random), SpanId::generate(&random));
            Observation::new(tenant(1), trace, span, Kind::Span, 0)
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_share_is_kept_and_always_the_same_one() {
        let rows = rows(10_000);
        let kept = |rate| -> Vec<TraceId> {
            let recording = Recording::new(vec![rule(rate)]);
            let mut kept = rows.clone();
            kept.retain(|row| recording.records(row));
            kept.iter().map(|row| row.trace_id).collect()
        };
        assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 10_000));
        let (tenth, half) = (kept(0.1), kept(0.5));
        assert!((900..1_100).contains(&tenth.len()) && (4_800..5_200).contains(&half.len()));
        assert_eq!(tenth, kept(0.1));
        assert!(tenth.iter().all(|trace| half.contains(trace)), "more of the same");
        // The specification's: the last 56 bits, and nothing of the others.
        let sampled = |id: &str| rule(0.5).samples(id.parse().unwrap());
        assert!(!sampled("ffffffffffffffffff7fffffffffffff") && sampled("00000000000000000080000000000000"));
    }

    #[test]
    fn what_matters_is_kept() {
        let recording = Recording::new(vec![Rule {
            keep_errors: true,
            keep_slower: Some(Duration::from_millis(5)),
            keep_costlier: Some("0.01".parse().unwrap()),
            ..rule(0.0)
        }]);
        let mut row = rows(1).remove(0);
        let kept = |change: &dyn Fn(&mut Observation)| {
            let mut changed = row.clone();
            change(&mut changed);
            recording.records(&changed)
        };
        assert!(!kept(&|_| {}) && !kept(&|row| row.duration_us = 4_999));
        assert!(kept(&|row| row.status = Status::Timeout) && kept(&|row| row.duration_us = 5_000));
        assert!(kept(&|row| row.cost = "0.01".parse().ok()) && !kept(&|row| row.cost = "0.009".parse().ok()));
        // Together with the rest of its trace, as far as that came with it.
        let mut together = rows(3);
        row.trace_id = together[1].trace_id;
        row.status = Status::Error;
        together.push(row.clone());
        recording.retain(tenant(1), &mut together);
        assert_eq!(together.len(), 2);
        assert!(together.iter().all(|other| other.trace_id == row.trace_id));
    }

    #[test]
    fn the_first_rule_that_is_for_a_tenant_counts() {
        let recording = Recording::new(vec![
            Rule { projects: vec![tenant(1).project], capture: Some(Capture::Metadata), ..rule(1.0) },
            Rule { organizations: vec![tenant(2).organization], capture: Some(Capture::Off), ..rule(0.0) },
        ]);
        for (number, recorded, capture) in
            [(1, true, Capture::Metadata), (2, false, Capture::Off), (3, true, Capture::Full)]
        {
            let row = Observation { tenant: tenant(number), ..rows(1).remove(0) };
            assert_eq!(recording.records(&row), recorded);
            assert_eq!(recording.capture(tenant(number), Capture::Full), capture);
            assert_ne!(recording.capture(tenant(number), Capture::Metadata), Capture::Full, "never more");
        }
    }

    #[test]
    fn content_is_cut_and_says_so() {
        let recording = Recording::new(vec![Rule { max_content: Some(4), ..rule(1.0) }]);
        let mut row = rows(1).remove(0);
        (row.input, row.output) = (Some("12345".into()), Some("1234".into()));
        recording.cut(&mut row);
        assert_eq!((row.input.as_deref(), row.output.as_deref()), (Some(&b"1234"[..]), Some(&b"1234"[..])));
        assert_eq!(row.attributes[TRUNCATED], serde_json::json!(["input"]));
    }
}
