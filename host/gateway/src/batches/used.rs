//! What a batch that a provider works on used, by the lines of its output.

use std::collections::BTreeMap;

use brokle_core::json;
use brokle_core::money::Usd;
use brokle_core::usage::Usage;

use super::BatchService;
use crate::native::Keeper;

/// What a batch used.
#[derive(Default)]
pub(super) struct Used {
    pub(super) models: BTreeMap<String, Spent>,
    pub(super) lines: u64,
    /// Lines with a good answer.
    pub(super) good: i64,
    /// Other lines.
    pub(super) failed: i64,
    /// Lines were cancelled.
    pub(super) has_cancelled: bool,
    /// Not all of it could be read.
    pub(super) is_partial: bool,
}

/// What a model used of it.
pub(super) struct Spent {
    pub(super) usage: Usage,
    /// None: the price of some of it isn't known.
    pub(super) cost: Option<Usd>,
}

impl Default for Spent {
    fn default() -> Self {
        Self { usage: Usage::default(), cost: Some(Usd::ZERO) }
    }
}

impl Spent {
    pub(super) fn add(&mut self, usage: Usage, cost: Option<Usd>) {
        self.usage.add(&usage);
        self.cost = self.cost.zip(cost).and_then(|(sum, cost)| sum.checked_add(cost));
    }
}

impl Used {
    /// Counts a line of a batch's output. One without a count (an error's) used nothing.
    pub(super) fn count(&mut self, service: &BatchService, keeper: &Keeper<'_>, line: &[u8]) {
        self.lines += 1;
        let at = |pointer: &str| json::find(line, pointer).and_then(|at| line.get(at));
        match at("/response/status_code") {
            Some(b"200") => self.good += 1,
            _ => self.failed += 1,
        }
        self.has_cancelled |= at("/error/code").is_some_and(|code| code == br#""batch_cancelled""#);
        let Some(usage) = at("/response/body/usage").and_then(Usage::from_openai) else { return };
        let model = at("/response/body/model").and_then(|text| serde_json::from_slice::<String>(text).ok());
        let model = model.unwrap_or_default();
        let row = service.gateway.parts.books.catalogue.find(&keeper.connection().catalogue, &model);
        let cost = row.and_then(|row| row.batch_cost(&usage).or_else(|| row.cost(&usage)));
        self.models.entry(model).or_default().add(usage, cost);
    }
}
