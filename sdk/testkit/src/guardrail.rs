//! Fixtures of guardrails: requests, whole answers, and streams, which are played cut in two at every character and
//! character by character. Every cut must come to the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use brokle_runtime::guarding::{Call, Failure, Ruling, Text, Verdict};
use brokle_runtime::{Body, GuardrailPlugin, Observer, PluginError};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::diff::diff;
use crate::fixture::{self, Surroundings};

mod edits;
mod stream;

/// A fixture's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// For people.
    #[serde(default, rename = "about")]
    _about: String,
    #[serde(default)]
    host: Surroundings,
    stage: Stage,
    #[serde(default)]
    call: Told,
    /// The caller's body, for guardrails that read more than texts.
    #[serde(default = "empty")]
    request: Value,
    texts: Vec<Shown>,
    expect: Value,
}

/// Which function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Request,
    Response,
    Stream,
}

/// What the guardrail is told of the call.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    operation: String,
    model: String,
    retries: u32,
    state: String,
    attributes: BTreeMap<String, String>,
}

impl Default for Told {
    fn default() -> Self {
        let (operation, model) = ("chat.completions".into(), "gpt-4o-mini".into());
        Self { operation, model, retries: 0, state: String::new(), attributes: BTreeMap::new() }
    }
}

/// One text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    value: String,
    pointer: Option<String>,
    #[serde(default = "content")]
    kind: String,
    role: Option<String>,
}

fn empty() -> Value {
    json!({})
}

fn content() -> String {
    "content".into()
}

impl Case {
    fn call(&self) -> Call {
        Call {
            operation: self.call.operation.clone(),
            model: self.call.model.clone(),
            streaming: self.stage == Stage::Stream,
            request_id: "01JTESTKIT0000000000000000".into(),
            retries: self.call.retries,
            state: self.call.state.clone().into_bytes(),
            attributes: self.call.attributes.clone().into_iter().collect(),
        }
    }

    /// The texts; those that don't say where they stand are messages of a request, or choices of an answer.
    fn texts(&self) -> Vec<Text> {
        let (place, role) = match self.stage {
            Stage::Request => ("messages", "user"),
            Stage::Response | Stage::Stream => ("choices", "assistant"),
        };
        let pointer = |index: usize| match self.stage {
            Stage::Request => format!("/{place}/{index}/content"),
            Stage::Response | Stage::Stream => format!("/{place}/{index}/message/content"),
        };
        let texts = self.texts.iter().enumerate().map(|(index, text)| Text {
            pointer: text.pointer.clone().unwrap_or_else(|| pointer(index)),
            kind: text.kind.clone(),
            role: text.role.clone().unwrap_or_else(|| role.to_owned()),
            value: text.value.clone(),
        });
        texts.collect()
    }

    fn body(&self) -> Body {
        Body::json(Bytes::from(self.request.to_string()))
    }
}

/// What a playing came to, and what in it breaks the contract.
type Played = Result<(Value, Vec<String>), String>;

/// Plays one fixture; how often, and what differs.
pub(crate) async fn play(
    plugin: &GuardrailPlugin,
    path: &Path,
    heard: &Arc<dyn Observer>,
) -> Result<(usize, Vec<String>), Error> {
    let case: Case = fixture::read(path)?;
    let player = Player { plugin, heard, texts: case.texts(), call: case.call(), case };
    let problems = match player.plugin.check_config(player.case.host.config.to_string().as_bytes()).await {
        Ok(problems) => problems,
        Err(error) => return Ok((1, vec![error.to_string()])),
    };
    if let Some(came) = fixture::config_problems(&problems) {
        return Ok((1, diff(&player.case.expect, &came)));
    }
    let (came, mut differences) = match player.whole().await {
        Ok(outcome) => outcome,
        Err(failure) => return Ok((1, vec![failure])),
    };
    differences.splice(0..0, diff(&player.case.expect, &came));
    let mut plays = 1;
    if player.case.stage == Stage::Stream {
        let expected = stream::without_annotations(came);
        for cut in stream::cuts(&player.texts) {
            plays += 1;
            match player.stream(&cut).await {
                Ok((again, _)) if stream::without_annotations(again.clone()) == expected => {}
                Ok((again, _)) => {
                    let lines = diff(&expected, &stream::without_annotations(again)).join("; ");
                    differences.push(format!("{cut}, something else comes: {lines}"));
                }
                Err(failure) => differences.push(format!("{cut}: {failure}")),
            }
        }
    } else {
        plays += 1;
        match player.whole().await {
            Ok((again, _)) if again == came => {}
            Ok((again, _)) => differences.push(format!("played again, something else came: {again}")),
            Err(failure) => differences.push(format!("played again: {failure}")),
        }
    }
    Ok((plays, differences))
}

struct Player<'a> {
    plugin: &'a GuardrailPlugin,
    heard: &'a Arc<dyn Observer>,
    case: Case,
    call: Call,
    texts: Vec<Text>,
}

impl Player<'_> {
    /// One playing; a stream's texts each come in one part.
    async fn whole(&self) -> Played {
        if self.case.stage == Stage::Stream {
            return self.stream(&stream::Cut::Whole).await;
        }
        let failed = |error: PluginError| error.to_string();
        let stage = self.case.host.stage(self.plugin.manifest(), self.heard)?;
        let mut instance = self.plugin.open(stage.context.clone()).await.map_err(failed)?;
        let ruled = match self.case.stage {
            Stage::Request => instance.on_request(&self.call, self.case.body(), &self.texts).await,
            Stage::Response | Stage::Stream => {
                instance.on_response(&self.call, self.case.body(), &self.texts).await
            }
        };
        let mut differences = Vec::new();
        let mut outcome = match ruled.map_err(failed)? {
            Ok(ruling) => self.outcome(&ruling)?,
            Err(failure) => failure_of(&failure),
        };
        differences.extend(stage.close(&mut outcome));
        Ok((outcome.into(), differences))
    }

    fn outcome(&self, ruling: &Ruling) -> Result<Map<String, Value>, String> {
        let mut outcome = verdict(&ruling.verdict);
        if let Verdict::Change(list) = &ruling.verdict {
            let shown: Vec<(&str, usize)> =
                self.texts.iter().map(|text| (text.value.as_str(), text.value.len())).collect();
            outcome.insert("texts".into(), edits::apply(&shown, list)?.into());
        }
        annotate(&mut outcome, ruling);
        if !ruling.state.is_empty() {
            outcome.insert("state".into(), String::from_utf8_lossy(&ruling.state).into());
        }
        Ok(outcome)
    }
}

/// A verdict's members, the changed texts aside.
fn verdict(verdict: &Verdict) -> Map<String, Value> {
    let made = match verdict {
        Verdict::Allow => json!({"verdict": "allow"}),
        Verdict::Change(_) => json!({"verdict": "change"}),
        Verdict::Block(refusal) => {
            json!({"verdict": "block", "category": refusal.category, "reason": refusal.reason})
        }
        Verdict::Retry(instruction) => json!({"verdict": "retry", "instruction": instruction}),
    };
    members(made)
}

fn failure_of(failure: &Failure) -> Map<String, Value> {
    members(match failure {
        Failure::Unavailable(detail) => json!({"failure": {"unavailable": detail}}),
        Failure::Misconfigured(detail) => json!({"failure": {"misconfigured": detail}}),
        Failure::Other(detail) => json!({"failure": {"other": detail}}),
    })
}

/// A later annotation takes the place of an earlier one of its name.
fn annotate(outcome: &mut Map<String, Value>, ruling: &Ruling) {
    if ruling.annotations.is_empty() {
        return;
    }
    let annotations = outcome.entry("annotations").or_insert_with(|| json!({}));
    for annotation in &ruling.annotations {
        let value = serde_json::from_slice(&annotation.value).unwrap_or_else(|_| "(not JSON)".into());
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(annotation.name.clone(), value);
        }
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
