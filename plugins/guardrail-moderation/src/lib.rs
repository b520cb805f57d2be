//! Asks a moderation model (OpenAI's `POST /v1/moderations`, or whoever speaks it) about each text.
//!
//! - All texts of a request or an answer go in one question, at most [`MOST`] of them and 1 MiB; the rest in further ones.
//! - A category with a threshold blocks from that score on; others block when the model flags them.
//! - A stream is asked about at every `stream_every_bytes` of a text, and at its end, always about all of the text so
//!   far: so the same stream is asked about in the same places however it is cut. What the caller has read by then
//!   can't be taken back: the stream ends with the block.
//! - No answer, or one that can't be read, is a failure of the guardrail; the operator says what that means.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use brokle_plugin::guardrail::*;
use brokle_plugin::{Description, host};
use serde::Deserialize;

/// Texts in one question.
const MOST: usize = 32;
/// What is asked about of one text: 256 KiB. A longer one is a failure.
const LONGEST: usize = 256 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    model: Option<String>,
    path: Option<String>,
    thresholds: BTreeMap<String, f64>,
    stream_every_bytes: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    results: Vec<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    #[serde(default)]
    categories: BTreeMap<String, Option<bool>>,
    #[serde(default)]
    category_scores: BTreeMap<String, Option<f64>>,
}

struct Moderation {
    config: Config,
    seen: BTreeMap<String, String>,
}

impl Moderation {
    /// The worst category over its threshold.
    fn flagged(&self, verdict: &Verdict) -> Option<(String, f64)> {
        let score = |name: &str| verdict.category_scores.get(name).copied().flatten();
        let flags = verdict.categories.iter().filter(|(name, flag)| {
            **flag == Some(true) && !self.config.thresholds.contains_key(name.as_str())
        });
        let flags = flags.map(|(name, _)| (name.clone(), score(name).unwrap_or(1.0)));
        let over = self.config.thresholds.iter().filter_map(|(name, least)| {
            score(name).filter(|score| score >= least).map(|score| (name.clone(), score))
        });
        flags.chain(over).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn ask(&self, texts: &[&str]) -> Result<Ruling, Failure> {
        let (mut worst, mut scores): (Option<(String, f64)>, BTreeMap<String, f64>) = (None, BTreeMap::new());
        for some in texts.chunks(MOST) {
            let answer = self.question(some)?;
            for verdict in &answer.results {
                for (name, score) in &verdict.category_scores {
                    let known = scores.entry(category(name)).or_default();
                    *known = known.max(score.unwrap_or(0.0));
                }
                worst = worst.into_iter().chain(self.flagged(verdict)).max_by(|a, b| a.1.total_cmp(&b.1));
            }
        }
        scores.retain(|_, score| *score >= 0.01);
        let ruling = match worst {
            Some((name, _)) => {
                Ruling::block(category(&name), "The text was flagged by the moderation model.")
            }
            None => Ruling::allow(),
        };
        Ok(ruling.annotate("moderation.scores", &scores))
    }

    fn question(&self, texts: &[&str]) -> Result<Answer, Failure> {
        if texts.iter().any(|text| text.len() > LONGEST) {
            return Err(Failure::Other("a text is too long to be asked about".into()));
        }
        let model = self.config.model.as_deref().unwrap_or("omni-moderation-latest");
        let body = serde_json::json!({"model": model, "input": texts}).to_string();
        let path = self.config.path.as_deref().unwrap_or("/v1/moderations");
        let response = host::http::Request::post("moderation", path)
            .header("content-type", "application/json")
            .bearer("api-key")
            .body(body.as_bytes())
            .send()
            .map_err(|error| Failure::Unavailable(format!("the moderation model: {error:?}")))?;
        if response.status != 200 {
            return Err(Failure::Unavailable(format!("the moderation model answered {}", response.status)));
        }
        let answer: Answer = serde_json::from_slice(&response.body)
            .map_err(|_| Failure::Unavailable("the moderation model's answer can't be read".into()))?;
        if answer.results.len() != texts.len() {
            return Err(Failure::Unavailable("the moderation model answered about other texts".into()));
        }
        Ok(answer)
    }

    fn texts(&self, texts: &[Text]) -> Result<Ruling, Failure> {
        let texts: Vec<&str> =
            texts.iter().map(|text| text.value.as_str()).filter(|text| !text.trim().is_empty()).collect();
        if texts.is_empty() { Ok(Ruling::allow()) } else { self.ask(&texts) }
    }
}

/// OpenAI's `self-harm/intent`, as categories are written here.
fn category(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().take(64).map(plain).collect()
}

impl Guardrail for Moderation {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        let config = host::config().map_err(|error| Failure::config(&error))?;
        Ok(Self { config, seen: BTreeMap::new() })
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        self.texts(texts)
    }

    fn on_response(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        self.texts(texts)
    }

    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        let every = self.config.stream_every_bytes.unwrap_or(2048);
        let mut ruling = Ruling::allow();
        for fragment in fragments {
            let seen = self.seen.entry(fragment.pointer.clone()).or_default();
            let before = seen.len();
            seen.push_str(&fragment.value);
            let seen = seen.clone();
            let mut places: Vec<usize> =
                (before / every + 1..=seen.len() / every).map(|count| floor(&seen, count * every)).collect();
            if fragment.last && !seen.trim().is_empty() && places.last() != Some(&seen.len()) {
                places.push(seen.len());
            }
            for place in places {
                let about = seen.get(..place).unwrap_or_default();
                ruling = self.ask(&[about])?;
                if matches!(ruling.verdict, brokle_plugin::guardrail::Verdict::Block(_)) {
                    return Ok(ruling.into());
                }
            }
        }
        Ok(ruling.into())
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

brokle_plugin::export!(guardrail: Moderation);
brokle_plugin::no_std!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_take_the_place_of_flags() {
        let moderation = |thresholds: &[(&str, f64)]| Moderation {
            config: Config {
                thresholds: thresholds.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect(),
                ..Config::default()
            },
            seen: BTreeMap::new(),
        };
        let verdict: Verdict = serde_json::from_value(serde_json::json!({"flagged": true,
            "categories": {"violence": true, "hate": false, "illicit": null},
            "category_scores": {"violence": 0.4, "hate": 0.3, "illicit": null}}))
        .unwrap();
        assert_eq!(moderation(&[]).flagged(&verdict), Some(("violence".into(), 0.4)));
        assert_eq!(moderation(&[("violence", 0.5)]).flagged(&verdict), None);
        assert_eq!(
            moderation(&[("violence", 0.5), ("hate", 0.2)]).flagged(&verdict),
            Some(("hate".into(), 0.3))
        );
        assert_eq!(category("self-harm/Intent"), "self_harm_intent");
    }
}
