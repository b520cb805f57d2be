//! `provider`: what a caller says of who may serve its call, in OpenRouter's form. It is taken out of the body.
//!
//! | member | what |
//! |---|---|
//! | `order` | these are asked first, in this order |
//! | `only` | nobody else is asked |
//! | `ignore` | these aren't asked |
//! | `allow_fallbacks` | `false`: those of `order` only, or else the first only; and none of a route's fallbacks |
//! | `sort` | `price` (of a token in and a token out), or `latency` (for streams to the first token); unknown ones last |
//! | `max_price` | `prompt`, `completion`: dollars per million tokens; whose price isn't known isn't asked |
//! | `require_parameters` | only models that the catalogue says can do what the request needs (tools, pictures, schemas, reasoning) |
//! | `data_collection` | `allow`. What a vendor does with data isn't known here, so that `deny` is refused |
//!
//! Names are those of connections or providers, in any case. Anything else is refused with its name: a wish that isn't
//! fulfilled must not look as if it were. All of it only chooses among what the caller may use anyway. What cools down is asked
//! last, whatever the order. Only for bodies in OpenAI's form that have an object there.

use brokle_runtime::facts;
use bytes::Bytes;
use serde::Deserialize;

use super::decide::Known;
use crate::refusal::Refusal;
use crate::request::Request;

/// The most names in a list.
const MAX_NAMES: usize = 64;

/// What a caller says of who may serve.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Preferences {
    order: Vec<String>,
    only: Option<Vec<String>>,
    ignore: Vec<String>,
    allow_fallbacks: Option<bool>,
    sort: Option<Sort>,
    max_price: MaxPrice,
    require_parameters: bool,
    data_collection: Option<DataCollection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Price,
    Latency,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MaxPrice {
    prompt: Option<f64>,
    completion: Option<f64>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DataCollection {
    Allow,
    Deny,
}

impl Preferences {
    /// Reads the object.
    ///
    /// # Errors
    /// 400 with the member that can't be fulfilled.
    pub(crate) fn read(body: &Bytes, range: std::ops::Range<usize>) -> Result<Self, Refusal> {
        let value = body.get(range).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
        let read: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let param = if path == "." { "provider".to_owned() } else { format!("provider.{path}") };
            Refusal::invalid(param.as_str(), format!("Invalid '{param}': {}.", error.inner()))
        })?;
        for (name, list) in [
            ("order", read.order.as_slice()),
            ("only", read.only.as_deref().unwrap_or_default()),
            ("ignore", read.ignore.as_slice()),
        ] {
            if list.len() > MAX_NAMES {
                let message = format!("Invalid 'provider.{name}': {MAX_NAMES} names at most are expected.");
                return Err(Refusal::invalid(format!("provider.{name}"), message));
            }
        }
        if read.data_collection == Some(DataCollection::Deny) {
            let message = "'provider.data_collection' can't be 'deny': what providers do with data isn't known here. \
                           Choose providers by 'provider.only'.";
            return Err(Refusal::invalid("provider.data_collection", message));
        }
        Ok(read)
    }

    /// Why this one isn't asked, if it isn't.
    pub(crate) fn excludes(&self, one: &facts::Candidate, request: &Request) -> Option<&'static str> {
        let over = |price: Option<f64>, most: Option<f64>| {
            most.is_some_and(|most| price.is_none_or(|price| price > most))
        };
        let lacks = || request.features.iter().any(|feature| !one.features.contains(feature));
        if self.only.as_ref().is_some_and(|only| place(only, one).is_none()) {
            return Some("provider.only");
        }
        if place(&self.ignore, one).is_some() {
            return Some("provider.ignore");
        }
        if self.allows_no_fallbacks() && !self.order.is_empty() && place(&self.order, one).is_none() {
            return Some("provider.allow_fallbacks");
        }
        if over(one.input_price, self.max_price.prompt) || over(one.output_price, self.max_price.completion) {
            return Some("provider.max_price");
        }
        (self.require_parameters && lacks()).then_some("provider.require_parameters")
    }

    /// Whether only the first is asked.
    pub(crate) fn allows_no_fallbacks(&self) -> bool {
        self.allow_fallbacks == Some(false)
    }

    /// Puts them into the caller's order, if it has one, and says by what.
    pub(crate) fn arrange(
        &self,
        order: &mut Vec<usize>,
        known: &[Known],
        streaming: bool,
    ) -> Option<&'static str> {
        let key = |index: &usize| {
            let Some(one) = known.get(*index) else { return (true, usize::MAX, f64::MAX) };
            let facts = &one.facts;
            let value = match self.sort {
                Some(Sort::Price) => {
                    facts.input_price.zip(facts.output_price).map(|(input, output)| input + output)
                }
                Some(Sort::Latency) if streaming => facts.stats.first_token_ms.or(facts.stats.latency_ms),
                Some(Sort::Latency) => facts.stats.latency_ms,
                None => Some(0.0),
            };
            (!facts.available, place(&self.order, facts).unwrap_or(usize::MAX), value.unwrap_or(f64::MAX))
        };
        let by = match (self.order.is_empty(), self.sort) {
            (false, _) => "provider.order",
            (true, Some(_)) => "provider.sort",
            (true, None) => "",
        };
        if !by.is_empty() {
            order.sort_by(|a, b| {
                let (a, b) = (key(a), key(b));
                (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
            });
        }
        if self.allows_no_fallbacks() && self.order.is_empty() {
            order.truncate(1);
        }
        (!by.is_empty()).then_some(by)
    }
}

/// Where in a list of names the candidate is.
fn place(names: &[String], one: &facts::Candidate) -> Option<usize> {
    let is_it = |name: &String| {
        name.eq_ignore_ascii_case(&one.connection) || name.eq_ignore_ascii_case(&one.provider)
    };
    names.iter().position(is_it)
}
