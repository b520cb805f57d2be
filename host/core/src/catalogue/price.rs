//! Prices, and what a call costs.
//!
//! Token prices are in dollars per **million** tokens, as vendors print them; `per_*` prices are in
//! dollars per one unit.
//!
//! - **Parts** (cached reads, cache writes, audio, images, reasoning) cost their own price when it is
//!   known, else their whole's. What is left of the whole costs the whole's price. No token is charged
//!   twice: parts are taken from the whole in a fixed order until nothing is left, and a whole smaller
//!   than one of its parts (a vendor that counts them apart) is raised to it.
//! - **Tiers** replace prices for the whole call once the input is above their threshold, cached and
//!   other parts included, as Google, OpenAI, Anthropic and Alibaba bill. A price that the tier doesn't
//!   have stays the base's.
//! - **Unknown** stays unknown: a count above zero without a price makes the cost `None`.
//!
//! Not modelled, so a call under them costs something else: priority and flex service, regional
//! surcharges, off-peak hours, cache writes that live longer than the default, free daily allowances.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Model;
use crate::money::Usd;
use crate::usage::{Units, Usage};

macro_rules! prices {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// What a model costs, by kind. A kind that is absent is unknown, not free.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Prices {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $kind: Option<Usd>,
            )*
        }

        impl Prices {
            /// The known prices with their kinds' names.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, Usd)> + use<> {
                [$((stringify!($kind), self.$kind)),*]
                    .into_iter()
                    .filter_map(|(kind, price)| Some((kind, price?)))
            }

            /// These prices, and where one is unknown the other's.
            #[must_use]
            pub fn or(&self, other: &Self) -> Self {
                Self { $($kind: self.$kind.or(other.$kind)),* }
            }
        }
    };
}

prices! {
    /// Input tokens, per million.
    input,
    /// Output tokens, per million.
    output,
    /// Input tokens read from the prompt cache, per million.
    cached_read,
    /// Input tokens written to the prompt cache (default lifetime), per million.
    cache_write,
    /// Reasoning tokens, per million.
    reasoning,
    /// Audio tokens in, per million.
    audio_input,
    /// Audio tokens out, per million.
    audio_output,
    /// Image tokens in, per million.
    image_input,
    /// Image tokens out, per million.
    image_output,
    /// Input tokens of a batch job, per million.
    batch_input,
    /// Output tokens of a batch job, per million.
    batch_output,
    /// Input tokens of a batch job read from the prompt cache, per million.
    batch_cached_read,
    /// Input tokens of a batch job written to the prompt cache, per million.
    batch_cache_write,
    /// One image: made, or embedded.
    per_image,
    /// One second of audio.
    per_second,
    /// One character spoken.
    per_character,
    /// One query (search unit) of a rerank or an embedding.
    per_query,
    /// One web search that the vendor makes for an answer, at its default size.
    per_web_search,
}

/// Prices from a number of input tokens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Applies to calls with more input tokens than this.
    pub above: u64,
    /// What differs from the model's own prices.
    pub prices: Prices,
}

impl Prices {
    /// Whether tokens have any price here: if not, the model is billed by units, or not known.
    fn bills_tokens(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// The prices of a batch job, `None` when there are none. Parts without a batch price keep their
    /// own: their whole's batch price would be too low for audio and images.
    fn batch(&self) -> Option<Self> {
        (self.batch_input.is_some() || self.batch_output.is_some()).then(|| Self {
            input: self.batch_input,
            output: self.batch_output,
            cached_read: self.batch_cached_read.or(self.cached_read),
            cache_write: self.batch_cache_write.or(self.cache_write),
            ..*self
        })
    }

    fn tokens(&self, usage: &Usage) -> Option<Usd> {
        if !self.bills_tokens() {
            return None;
        }
        let input = whole(
            usage.input,
            self.input,
            [
                (usage.cached_read, self.cached_read),
                (usage.cache_write, self.cache_write),
                (usage.audio_input, self.audio_input),
                (usage.image_input, self.image_input),
            ],
        )?;
        let output = whole(
            usage.output,
            self.output,
            [
                (usage.reasoning, self.reasoning),
                (usage.audio_output, self.audio_output),
                (usage.image_output, self.image_output),
            ],
        )?;
        Some(input.checked_add(output)?.millionth())
    }
}

/// A whole and its parts, in millionths of dollars.
fn whole<const N: usize>(count: u64, price: Option<Usd>, parts: [(u64, Option<Usd>); N]) -> Option<Usd> {
    let mut left = parts.iter().fold(count, |most, (part, _)| most.max(*part));
    let mut sum = Usd::ZERO;
    for (part, own) in parts {
        let part = part.min(left);
        left -= part;
        sum = sum.checked_add(times(part, own.or(price))?)?;
    }
    sum.checked_add(times(left, price)?)
}

/// Nothing of something unknown still costs nothing.
fn times(count: u64, price: Option<Usd>) -> Option<Usd> {
    if count == 0 { Some(Usd::ZERO) } else { price?.checked_mul(count) }
}

impl Model {
    /// What these tokens cost, or `None` when a price that it needs is unknown, or the model isn't
    /// billed by tokens. No tokens at all cost nothing. Whether the counts are estimated makes no
    /// difference.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<Usd> {
        self.prices_for(usage).tokens(usage)
    }

    /// What these tokens cost in the vendor's batch API; `None` also when it has no batch price.
    #[must_use]
    pub fn batch_cost(&self, usage: &Usage) -> Option<Usd> {
        self.prices_for(usage).batch()?.tokens(usage)
    }

    /// What these tokens and units cost together.
    ///
    /// Units count only where they have a price, beside tokens too (a multimodal embedding's images).
    /// A model billed by units alone ignores tokens. `None` when a token price is unknown as in
    /// [`Model::cost`]; when nothing that the model bills was counted; or when web searches were made
    /// and their price is unknown.
    #[must_use]
    pub fn cost_with_units(&self, usage: &Usage, units: &Units) -> Option<Usd> {
        let prices = self.prices_for(usage);
        let mut known = prices.bills_tokens();
        let mut sum = if known { prices.tokens(usage)? } else { Usd::ZERO };
        if units.web_searches > 0 && prices.per_web_search.is_none() {
            return None;
        }
        for (count, price) in [
            (units.images, prices.per_image),
            (units.characters, prices.per_character),
            (units.queries, prices.per_query),
            (units.milliseconds, prices.per_second.map(thousandth)),
        ] {
            if let Some(price) = price.filter(|_| count > 0) {
                sum = sum.checked_add(price.checked_mul(count)?)?;
                known = true;
            }
        }
        sum = sum.checked_add(times(units.web_searches, prices.per_web_search)?)?;
        known.then_some(sum)
    }

    /// The prices for a call of this size: the highest tier that it is above, over the base.
    fn prices_for(&self, usage: &Usage) -> Prices {
        let tier = self.tiers.iter().rev().find(|tier| usage.input > tier.above);
        tier.map_or(self.prices, |tier| tier.prices.or(&self.prices))
    }
}

fn thousandth(price: Usd) -> Usd {
    // Multiplying by at most one can't overflow.
    Usd::new(price.as_decimal().checked_mul(Decimal::new(1, 3)).unwrap_or_default())
}
