//! What a call takes from the cache, and what it gives it.

use bytes::Bytes;
use http::HeaderMap;

use super::Meter;
use crate::cache::{Entry, Recording};

impl Meter {
    /// The answer comes from the cache; with a score it is another question's, and so near is that.
    pub(crate) fn cached(&mut self, entry: &Entry, score: Option<f32>) {
        self.is_cached = true;
        // Nobody was asked with whom another one could be compared.
        self.part = None;
        self.note(|observation| {
            observation.provider = entry.about.provider.as_deref().map(Into::into);
            observation.model_served = entry.about.served.as_deref().map(Into::into);
            let mut say = |name: &str, value: serde_json::Value| {
                observation.attributes.insert(format!("brokle.cache.{name}"), value);
            };
            say("status", "hit".into());
            if let Some(score) = score {
                say("score", score.into());
            }
            if let Some(cost) = entry.about.cost {
                say("saved_cost", cost.to_string().into());
            }
            if let Some(usage) = &entry.about.usage {
                say("saved_input_tokens", usage.input.into());
                say("saved_output_tokens", usage.output.into());
            }
        });
    }

    /// Another answer takes the place of the one from the cache.
    pub(crate) fn uncached(&mut self) {
        self.is_cached = false;
        self.note(|observation| observation.attributes.retain(|name, _| !name.starts_with("brokle.cache.")));
    }

    /// The answer is to be kept.
    pub(crate) fn record(&mut self, recording: Recording) {
        self.recording = Some(Box::new(recording));
        self.note(|observation| {
            observation.attributes.insert("brokle.cache.status".into(), "miss".into());
        });
    }

    /// What is kept of the answer has the caller's dialect.
    pub(crate) fn keeps_native(&mut self, headers: &HeaderMap) {
        if let Some(recording) = &mut self.recording {
            recording.is_native(headers.get(http::header::CONTENT_TYPE).cloned());
        }
    }

    /// The whole answer, as the provider gave it.
    pub(crate) fn keep(&mut self, headers: &HeaderMap, body: &Bytes) {
        let Some(recording) = self.recorded() else { return };
        let cost = self.cost();
        if let Some(observation) = &self.observation {
            let kind = headers.get(http::header::CONTENT_TYPE).cloned();
            recording.store_whole(kind, body, observation, cost);
        }
    }

    /// What is to be kept, if whoever answered is the one whose answer it is.
    pub(super) fn recorded(&mut self) -> Option<Box<Recording>> {
        let recording = self.recording.take()?;
        let connection = self.observation.as_ref()?.connection.as_deref();
        let model = self.priced.as_ref().map(|(_, model)| model.as_str());
        recording.is_of(connection, model).then_some(recording)
    }

    /// A chunk of a stream, as the provider gave it.
    pub(crate) fn keep_chunk(&mut self, data: &[u8]) {
        if let Some(recording) = &mut self.recording
            && !recording.chunk(data)
        {
            self.recording = None;
        }
    }
}
