//! Budgets: how much callers may spend.

use brokle_core::money::Usd;
use brokle_gateway::budgets::{self, OnExceeded, Period, Unit, UnknownPrice};
use brokle_gateway::who::{By, Who};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{Only, named, told_apart};

/// How much somebody may spend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// What refusals call it, and what its sums are kept under: 1 to 64 characters; unique. Another name begins anew.
    pub(crate) name: String,
    /// What tells callers apart: each combination of these has a budget of its own. At least one of `key`, `user`,
    /// `project`, `organization`, `model`.
    #[schemars(with = "Vec<String>")]
    pub(crate) by: Vec<By>,
    /// `day`, `week` (from Monday on) or `month`, in UTC.
    #[schemars(with = "String", extend("enum" = ["day", "week", "month"]))]
    pub(crate) per: Period,
    /// Dollars in that time, as text: "25.00"; or else `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usd: Option<Usd>,
    /// Tokens in that time, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    /// `block`: calls are refused when it is used up. `alert`: somebody is told.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["block", "alert"]))]
    pub(crate) on_exceeded: OnExceeded,
    /// `allow`: a model whose price isn't known passes, and costs nothing here. `refuse`: it doesn't.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["allow", "refuse"]))]
    pub(crate) unknown_price: UnknownPrice,
    /// At which shares somebody is told, in percent, 1 to 100, rising; at 100 always.
    #[serde(default = "eighty")]
    pub(crate) alert_at: Vec<u8>,
    /// Which calls count; without it, all.
    #[serde(default, skip_serializing_if = "Only::is_empty")]
    pub(crate) only: Only,
}

fn eighty() -> Vec<u8> {
    vec![80]
}

impl Budget {
    /// One of dollars that refuses calls.
    pub(crate) fn dollars(name: &str, by: By, per: Period, usd: Usd) -> Self {
        Self {
            name: name.to_owned(),
            by: vec![by],
            per,
            usd: Some(usd),
            tokens: None,
            on_exceeded: OnExceeded::default(),
            unknown_price: UnknownPrice::default(),
            alert_at: eighty(),
            only: Only::default(),
        }
    }

    /// As the gateway takes it.
    ///
    /// # Errors
    /// A value that can't be, with its key.
    pub(crate) fn to_budget(&self) -> Result<budgets::Budget, String> {
        let (unit, limit) = match (self.usd, self.tokens) {
            (Some(usd), None) if usd.is_negative() => {
                return Err("usd: less than nothing can't be spent".to_owned());
            }
            (Some(usd), None) => (Unit::Usd, usd),
            (None, Some(tokens)) => (Unit::Tokens, Usd::new(tokens.into())),
            (Some(_), Some(_)) | (None, None) => {
                return Err("usd: it or `tokens` is expected, and not both".to_owned());
            }
        };
        let rising = self.alert_at.is_sorted_by(|a, b| a < b);
        if !rising || self.alert_at.iter().any(|share| !(1..=100).contains(share)) {
            return Err("alert_at: rising shares of 1 to 100 are expected".to_owned());
        }
        Ok(budgets::Budget {
            name: named(&self.name)?,
            who: Who { by: told_apart(&self.by)?, only: self.only.to_filter()? },
            per: self.per,
            unit,
            limit,
            on_exceeded: self.on_exceeded,
            unknown_price: self.unknown_price,
            alert_at: self.alert_at.clone(),
        })
    }
}

/// Finds what no type can refuse.
pub(super) fn check(budgets: &[Budget]) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    for (index, budget) in budgets.iter().enumerate() {
        if !names.insert(&budget.name) {
            return Err(format!("budgets.{index}.name: there are two budgets '{}'", budget.name));
        }
        budget.to_budget().map_err(|problem| format!("budgets.{index}.{problem}"))?;
    }
    Ok(())
}
