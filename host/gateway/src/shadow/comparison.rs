//! How a shadow's answer compares with the original's, as attributes of the shadow's trace.
//!
//! | `brokle.shadow.…` | |
//! |---|---|
//! | `of` | the original's trace |
//! | `original_provider`, `original_model` | who served it |
//! | `original_status`, `same_status` | its HTTP status; whether the shadow's is the same |
//! | `duration_delta_ms`, `first_token_delta_ms` | how much longer the shadow took; less than 0: it was quicker |
//! | `input_tokens_delta`, `output_tokens_delta` | how many more tokens |
//! | `original_cost` | dollars |
//! | `same_text` | whether the assistant's texts and tool calls are the same, character by character |
//!
//! What one of the two doesn't know isn't there; `same_text` is there only where both were answered and can be read.

use std::collections::BTreeMap;

use brokle_core::money::Usd;
use brokle_core::observation::{Observation, TraceId};
use brokle_core::usage::Usage;
use bytes::Bytes;
use serde_json::Value;

use crate::guardrails::texts;
use crate::stream::{data_of, event_end};

/// What is compared of a call.
#[derive(Debug)]
pub(super) struct Sample {
    trace_id: TraceId,
    provider: Option<String>,
    model: Option<String>,
    status: Option<u16>,
    duration_us: u64,
    first_token_us: Option<u64>,
    usage: Option<Usage>,
    cost: Option<Usd>,
    streaming: bool,
    /// As it reached the caller, or would have.
    answer: Option<Bytes>,
}

impl Sample {
    pub(super) fn of(observation: &Observation, answer: Option<Bytes>) -> Self {
        Self {
            trace_id: observation.trace_id,
            provider: observation.provider.as_deref().map(str::to_owned),
            model: observation.model_served.as_deref().map(str::to_owned),
            status: observation.http_status,
            duration_us: observation.duration_us,
            first_token_us: observation.first_token_us,
            usage: observation.usage,
            cost: observation.cost,
            streaming: observation.streaming,
            answer,
        }
    }

    /// The assistant's texts, by their places in the answer; none if it can't be read.
    fn texts(&self) -> Option<BTreeMap<String, String>> {
        let answer = self.answer.as_ref().filter(|_| self.status == Some(200))?;
        let mut texts = BTreeMap::new();
        if !self.streaming {
            let found = texts::of_answer(answer).ok()?;
            texts.extend(found.into_iter().map(|text| (text.pointer, text.value)));
        } else {
            let mut rest = answer.as_ref();
            while let Some((event, after)) = event_end(rest).and_then(|end| rest.split_at_checked(end)) {
                rest = after;
                let Some(data) = data_of(event).filter(|data| *data != b"[DONE]") else { continue };
                for delta in texts::of_event(&serde_json::from_slice(data).ok()?).0 {
                    texts.entry(delta.pointer).or_insert_with(String::new).push_str(&delta.value);
                }
            }
        }
        // Operations without texts (embeddings) have nothing to compare.
        (!texts.is_empty()).then_some(texts)
    }
}

/// The attributes.
pub(super) fn of(original: &Sample, shadow: &Sample) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    let mut say = |name: &str, value: Option<Value>| {
        attributes.extend(value.map(|value| (format!("brokle.shadow.{name}"), value)));
    };
    let delta = |original: u64, shadow: u64| i64::try_from(i128::from(shadow) - i128::from(original)).ok();
    let millis = |original, shadow| delta(original, shadow).map(|micros| Value::from(micros as f64 / 1e3));
    say("of", Some(original.trace_id.to_string().into()));
    say("original_provider", original.provider.clone().map(Value::from));
    say("original_model", original.model.clone().map(Value::from));
    say("original_status", original.status.map(Value::from));
    say("original_cost", original.cost.map(|cost| cost.to_string().into()));
    say("same_status", Some((original.status == shadow.status).into()));
    say("duration_delta_ms", millis(original.duration_us, shadow.duration_us));
    let first = original.first_token_us.zip(shadow.first_token_us);
    say("first_token_delta_ms", first.and_then(|(a, b)| millis(a, b)));
    if let Some((a, b)) = original.usage.zip(shadow.usage) {
        say("input_tokens_delta", delta(a.input, b.input).map(Value::from));
        say("output_tokens_delta", delta(a.output, b.output).map(Value::from));
    }
    say("same_text", original.texts().zip(shadow.texts()).map(|(a, b)| (a == b).into()));
    attributes
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::SystemClock;
    use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
    use brokle_core::observation::{Kind, SpanId};
    use brokle_core::random::SystemRandom;
    use brokle_core::tenancy::Tenant;

    use super::*;

    fn sample(streaming: bool, answer: Option<&str>) -> Sample {
        let (clock, random) = (&SystemClock, &SystemRandom);
        let tenant = Tenant {
            organization: OrganizationId::generate(clock, random),
            project: ProjectId::generate(clock, random),
            environment: EnvironmentId::generate(clock, random),
        };
        let (trace, span) = (TraceId::generate(random), SpanId::generate(random));
        let mut observation = Observation::new(tenant, trace, span, Kind::Generation, 0);
        (observation.streaming, observation.http_status) = (streaming, Some(200));
        Sample::of(&observation, answer.map(|answer| Bytes::copy_from_slice(answer.as_bytes())))
    }

    #[test]
    fn texts_are_compared_however_they_are_cut() {
        let whole = |text: &str| {
            sample(
                false,
                Some(&format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":{text:?}}}}}]}}"#)),
            )
        };
        let stream = |pieces: &[&str]| {
            let event = |text: &&str| {
                format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text:?}}}}}]}}\n\n")
            };
            sample(true, Some(&(pieces.iter().map(event).collect::<String>() + "data: [DONE]\n\n")))
        };
        let same = |a: &Sample, b: &Sample| of(a, b).remove("brokle.shadow.same_text");
        assert_eq!(same(&whole("hi"), &whole("hi")), Some(true.into()));
        assert_eq!(same(&whole("hi"), &whole("hi!")), Some(false.into()));
        assert_eq!(same(&stream(&["h", "i"]), &stream(&["hi"])), Some(true.into()));
        assert_eq!(same(&stream(&["h", "i"]), &stream(&["h", "o"])), Some(false.into()));
        let call = |arguments: &str| {
            sample(
                false,
                Some(&format!(
                    r#"{{"choices":[{{"message":{{"tool_calls":[{{"function":{{"name":"f","arguments":{arguments:?}}}}}]}}}}]}}"#
                )),
            )
        };
        assert_eq!(same(&call("{\"a\":1}"), &call("{\"a\":2}")), Some(false.into()));
        for unread in
            [sample(false, None), sample(false, Some("no JSON")), sample(false, Some(r#"{"data":[]}"#))]
        {
            assert_eq!(same(&whole("hi"), &unread), None);
        }
        assert_eq!(same(&whole("hi"), &Sample { status: Some(500), ..whole("hi") }), None);
    }
}
