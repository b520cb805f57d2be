//! What the account reads of a provider's events.
//!
//! `response.done` says what the response used, and `session.created` and `session.updated` which model answers; source:
//! OpenAI's Realtime API reference. An event's `type` is looked for first: of the many that carry sound nothing else is read.

use brokle_core::json;
use brokle_core::usage::Usage;

use crate::account::Meter;

/// What an event means to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    Other,
    /// A response is under way.
    Begun,
    /// It is over.
    Done,
}

/// Sums up what a session uses.
#[derive(Debug, Default)]
pub(super) struct Tap {
    used: Usage,
    responses: u64,
}

impl Tap {
    pub(super) fn read(&mut self, event: &[u8], meter: &mut Meter) -> Meaning {
        let at = |pointer: &str| json::find(event, pointer).and_then(|range| event.get(range));
        match at("/type") {
            Some(b"\"response.created\"") => Meaning::Begun,
            Some(b"\"response.done\"") => {
                if let Some(usage) = at("/response/usage").and_then(Usage::from_openai) {
                    self.used.add(&usage);
                    meter.usage(&self.used);
                }
                self.responses += 1;
                let responses = self.responses;
                meter.note(|observation| {
                    observation.attributes.insert("brokle.realtime.responses".into(), responses.into());
                });
                Meaning::Done
            }
            Some(b"\"session.created\"" | b"\"session.updated\"") => {
                let model = at("/session/model").and_then(|text| serde_json::from_slice::<String>(text).ok());
                if let Some(model) = model {
                    meter.note(|observation| observation.model_served = Some(model.into()));
                }
                Meaning::Other
            }
            _ => Meaning::Other,
        }
    }
}
