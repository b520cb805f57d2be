//! Whether an observation in memory passes a filter: for what is told live, before anybody asks a store.
//!
//! The answer is the one that the stores give (their conformance suite compares). Scores are given later and are kept
//! elsewhere: whoever takes a filter for this asks [`Filter::asks_for_scores`] first.

use brokle_core::observation::Observation;
use serde_json::Value as Json;

use super::fields::Key;
use super::filter::{Field, Filter, METADATA, Op, Test, Value};
use super::parse::number;

impl Filter {
    /// Whether the observation passes. Scores are taken for absent.
    #[must_use]
    pub fn passes(&self, row: &Observation) -> bool {
        self.terms.iter().all(|term| holds(&term.test, row) != term.negated)
    }

    /// Whether a term is about scores.
    #[must_use]
    pub fn asks_for_scores(&self) -> bool {
        self.asks_for(|field| matches!(field, Field::Score(_)))
    }

    /// Whether a term is about what may be said of a trace after the fact.
    pub(in super::super) fn asks_for_updates(&self) -> bool {
        self.asks_for(|field| matches!(field, Field::Key(Key::Tag | Key::User | Key::Bookmarked)))
    }

    fn asks_for(&self, wanted: fn(&Field) -> bool) -> bool {
        self.terms.iter().any(|term| match &term.test {
            Test::Words(_) => false,
            Test::AnyOf(field, _)
            | Test::Compare(field, ..)
            | Test::Range(field, ..)
            | Test::Present(field) => wanted(field),
        })
    }
}

fn holds(test: &Test, row: &Observation) -> bool {
    match test {
        Test::Words(text) => has_words(&text.to_lowercase(), row),
        Test::Present(field) => !values(field, row, false).is_empty(),
        Test::AnyOf(field, wanted) => values(field, row, false).iter().any(|value| wanted.contains(value)),
        Test::Compare(field, op, bound) => {
            values(field, row, true).iter().any(|value| compares(value, *op, bound))
        }
        Test::Range(field, from, to) => values(field, row, true).iter().any(|value| {
            from.as_ref().is_none_or(|from| compares(value, Op::AtLeast, from))
                && to.as_ref().is_none_or(|to| compares(value, Op::AtMost, to))
        }),
    }
}

fn has_words(needle: &str, row: &Observation) -> bool {
    let has = |text: &str| text.to_lowercase().contains(needle);
    let bodies = [&row.input, &row.output];
    has(&row.name) || bodies.into_iter().flatten().any(|body| has(&String::from_utf8_lossy(body)))
}

fn compares(value: &Value, op: Op, bound: &Value) -> bool {
    let order = match (value, bound) {
        (Value::Number(value), Value::Number(bound)) => value.partial_cmp(bound),
        (Value::Time(value), Value::Time(bound)) => Some(value.cmp(bound)),
        _ => None,
    };
    order.is_some_and(|order| match op {
        Op::Greater => order.is_gt(),
        Op::AtLeast => order.is_ge(),
        Op::Less => order.is_lt(),
        Op::AtMost => order.is_le(),
    })
}

/// What the observation says of a field; metadata as numbers or as texts.
fn values(field: &Field, row: &Observation, as_numbers: bool) -> Vec<Value> {
    match field {
        Field::Key(key) => of_key(*key, row),
        Field::Score(_) => Vec::new(),
        Field::Metadata(name) => {
            let named = |prefix: &&str| row.attributes.get(&format!("{prefix}{name}"));
            let found = METADATA.iter().filter_map(named);
            if as_numbers {
                found.filter_map(as_number).map(Value::Number).collect()
            } else {
                found.filter_map(as_text).map(Value::Text).collect()
            }
        }
    }
}

fn as_number(value: &Json) -> Option<f64> {
    match value {
        Json::Number(value) => value.as_f64(),
        Json::String(text) => number(text),
        Json::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    }
}

fn as_text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn of_key(key: Key, row: &Observation) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    let id = |id: u128| Value::Id(id.to_be_bytes().to_vec());
    let count = |count: u64| Value::Number(count as f64);
    let usage = |of: fn(&brokle_core::usage::Usage) -> u64| row.usage.as_ref().map(|usage| count(of(usage)));
    let found = match key {
        Key::Name => Some(text(&row.name)),
        Key::Type => Some(text(row.kind.as_str())),
        Key::Status => Some(text(row.status.as_str())),
        Key::Model => {
            return [&row.model_requested, &row.model_served]
                .into_iter()
                .flatten()
                .map(|model| text(model))
                .collect();
        }
        // Said of traces, and later: nobody knows yet.
        Key::Bookmarked => Some(Value::Flag(false)),
        Key::Tag => return row.tags.iter().map(|tag| text(tag)).collect(),
        Key::Provider => row.provider.as_deref().map(text),
        Key::Connection => row.connection.as_deref().map(text),
        Key::Operation => Some(&*row.operation).filter(|operation| !operation.is_empty()).map(text),
        Key::User => row.user.as_deref().map(text),
        Key::Session => row.session.as_deref().map(text),
        Key::Environment => Some(id(row.tenant.environment.as_u128())),
        Key::ApiKey => row.key_id.map(|key| id(key.as_u128())),
        Key::Request => row.request_id.map(|request| id(request.as_u128())),
        Key::Trace => Some(Value::Id(row.trace_id.as_bytes().to_vec())),
        Key::Span => Some(Value::Id(row.span_id.as_bytes().to_vec())),
        Key::Parent => row.parent_span_id.map(|span| Value::Id(span.as_bytes().to_vec())),
        Key::Time => Some(Value::Time(row.start_us)),
        Key::Duration => Some(count(row.duration_us)),
        Key::FirstToken => row.first_token_us.map(count),
        Key::Cost => row.cost.map(|cost| Value::Number(cost.approximate())),
        Key::Tokens => usage(|usage| usage.input.saturating_add(usage.output)),
        Key::InputTokens => usage(|usage| usage.input),
        Key::OutputTokens => usage(|usage| usage.output),
        Key::CachedTokens => usage(|usage| usage.cached_read),
        Key::ReasoningTokens => usage(|usage| usage.reasoning),
        Key::StatusCode => row.http_status.map(|status| count(status.into())),
        Key::FinishReason => row.finish_reason.as_deref().map(text),
        Key::Error => row.error_class.as_deref().map(text),
        Key::Streaming => Some(Value::Flag(row.streaming)),
        Key::Id | Key::DataType | Key::Source | Key::Value | Key::Comment => None,
    };
    found.into_iter().collect()
}
