//! Runs a guardrail's fixtures under the real host.
//!
//! A fixture is a JSON file: what the guardrail is configured with and shown, and what it must say.
//!
//! | member | what |
//! |---|---|
//! | `config` | the configuration, `{}` without it |
//! | `stage` | `request`, `response` or `stream` |
//! | `request` | the request's body, for guardrails that read it |
//! | `retries` | how often the model was asked again, 0 without it |
//! | `texts` | what is shown: `value`, and `pointer`, `kind`, `role` where they matter |
//! | `expected` | `verdict` (`allow`, `change`, `block`, `retry`, `failure`), `texts` as they become, `category`, `annotations` |
//!
//! A stream's first text is shown whole, cut in two at every character, and character by character, as a gateway would:
//! each must come to the same.

use std::collections::BTreeMap;
use std::path::Path;

use brokle_runtime::guarding::{Call, Fragment, Ruling, Text, Verdict};
use brokle_runtime::{Body, CallContext, GuardrailInstance, GuardrailPlugin, Runtime, RuntimeConfig};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, case};

/// What a gateway tells of what was released.
const BEFORE: usize = 256;

/// A fixture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardrailCase {
    /// The plugin's configuration.
    #[serde(default)]
    pub config: Option<Value>,
    /// `request`, `response` or `stream`.
    pub stage: String,
    /// The request's body.
    #[serde(default)]
    pub request: Option<Value>,
    /// How often the model was asked again.
    #[serde(default)]
    pub retries: u32,
    /// What is shown.
    pub texts: Vec<Shown>,
    /// What must come of it.
    #[serde(default)]
    pub expected: Value,
}

/// One text that is shown.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Where it stands.
    #[serde(default = "pointer")]
    pub pointer: String,
    /// What it is.
    #[serde(default = "content")]
    pub kind: String,
    /// Who said it.
    #[serde(default)]
    pub role: String,
    /// The text.
    pub value: String,
}

fn pointer() -> String {
    "/choices/0/message/content".into()
}

fn content() -> String {
    "content".into()
}

/// Runs every `*.json` below `fixtures` against a guardrail, and gives their names.
///
/// # Errors
/// The component can't be loaded, a fixture can't be read, or outcomes differ.
pub fn run_guardrail_fixtures(component: &Path, fixtures: &Path) -> Result<Vec<String>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Load(error.to_string()))?;
    runtime.block_on(all(component, fixtures))
}

async fn all(component: &Path, fixtures: &Path) -> Result<Vec<String>, Error> {
    let load = |error: &dyn std::fmt::Display| Error::Load(error.to_string());
    let scratch = tempfile::tempdir().map_err(|error| load(&error))?;
    let config = RuntimeConfig { max_instances: 4, ..RuntimeConfig::default() };
    let runtime = Runtime::start(config, scratch.path(), [0; 32]).map_err(|error| load(&error))?;
    let plugin =
        GuardrailPlugin::load(&runtime, &case::bytes(component)?).await.map_err(|error| load(&error))?;
    let unreadable =
        |error: std::io::Error| Error::File { path: fixtures.to_owned(), detail: error.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(fixtures).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let (mut names, mut failures) = (Vec::new(), Vec::new());
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let fixture: GuardrailCase = case::required(path)?;
        match play(&plugin, &fixture).await {
            Ok(came) if crate::blessing() => bless(path, &came)?,
            Ok(came) if came == fixture.expected => {}
            Ok(came) => {
                failures.push(format!("{name}\n  expected: {}\n  came:     {came}", fixture.expected))
            }
            Err(failure) => failures.push(format!("{name}\n  {failure}")),
        }
        names.push(name);
    }
    match failures.is_empty() {
        true if names.is_empty() => {
            Err(Error::File { path: fixtures.to_owned(), detail: "there is no fixture in it".into() })
        }
        true => Ok(names),
        false => Err(Error::Failed { total: names.len(), failures }),
    }
}

fn bless(path: &Path, came: &Value) -> Result<(), Error> {
    let mut fixture: Value = case::required(path)?;
    if let Some(members) = fixture.as_object_mut() {
        members.insert("expected".into(), came.clone());
    }
    let written = std::fs::write(path, format!("{fixture:#}\n"));
    written.map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })
}

async fn play(plugin: &GuardrailPlugin, fixture: &GuardrailCase) -> Result<Value, String> {
    if fixture.stage != "stream" {
        return whole(plugin, fixture).await;
    }
    let text = fixture.texts.first().map(|text| text.value.as_str()).ok_or("a stream needs a text")?;
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).filter(|&at| at > 0).collect();
    let came = stream(plugin, fixture, &[]).await?;
    for cuts in places.iter().map(std::slice::from_ref).chain([places.as_slice()]) {
        let again =
            stream(plugin, fixture, cuts).await.map_err(|error| format!("cut at {cuts:?}: {error}"))?;
        if again != came {
            return Err(format!(
                "cut at {cuts:?}, the stream comes to something else\n    whole: {came}\n    cut:   {again}"
            ));
        }
    }
    Ok(came)
}

struct Opened {
    instance: GuardrailInstance,
    call: Call,
    request: Body,
}

async fn open(plugin: &GuardrailPlugin, fixture: &GuardrailCase) -> Result<Opened, String> {
    let config = fixture.config.clone().unwrap_or_else(|| json!({})).to_string().into_bytes();
    let problems = plugin.check_config(&config).await.map_err(|error| error.to_string())?;
    if let Some(problem) = problems.first() {
        return Err(format!("config{}: {}", problem.pointer, problem.message));
    }
    let context = CallContext { config: config.into(), ..CallContext::default() };
    let instance = plugin.open(context).await.map_err(|error| error.to_string())?;
    let call = Call {
        operation: "chat.completions".into(),
        model: "test-model".into(),
        streaming: fixture.stage == "stream",
        request_id: "01JTESTKIT0000000000000000".into(),
        retries: fixture.retries,
        state: Vec::new(),
        attributes: Vec::new(),
    };
    let request = fixture.request.clone().unwrap_or_else(|| json!({})).to_string();
    Ok(Opened { instance, call, request: Body::json(Bytes::from(request)) })
}

async fn whole(plugin: &GuardrailPlugin, fixture: &GuardrailCase) -> Result<Value, String> {
    let Opened { mut instance, call, request } = open(plugin, fixture).await?;
    let text = |shown: &Shown| Text {
        pointer: shown.pointer.clone(),
        kind: shown.kind.clone(),
        role: shown.role.clone(),
        value: shown.value.clone(),
    };
    let texts: Vec<Text> = fixture.texts.iter().map(text).collect();
    let asked = match fixture.stage.as_str() {
        "request" => instance.on_request(&call, request, &texts).await,
        "response" => instance.on_response(&call, request, &texts).await,
        other => return Err(format!("'{other}' is no stage")),
    };
    let ruling = match asked.map_err(|error| error.to_string())? {
        Ok(ruling) => ruling,
        Err(failure) => return Ok(json!({"verdict": "failure", "detail": format!("{failure:?}")})),
    };
    let mut values: Vec<String> = texts.into_iter().map(|text| text.value).collect();
    let annotations = annotations(&ruling);
    let verdict = apply(ruling, &mut values)?;
    Ok(outcome(verdict, &values, annotations))
}

/// What a verdict says, its edits made.
fn apply(ruling: Ruling, values: &mut [String]) -> Result<Value, String> {
    match ruling.verdict {
        Verdict::Allow => Ok(json!("allow")),
        Verdict::Change(mut edits) => {
            edits.sort_by_key(|edit| std::cmp::Reverse((edit.text, edit.start)));
            for edit in edits {
                let range = edit.start as usize..edit.end as usize;
                let value = values.get_mut(edit.text as usize).ok_or("an edit of a text that isn't there")?;
                if value.get(range.clone()).is_none() {
                    return Err(format!("an edit of bytes {range:?} of {value:?}"));
                }
                value.replace_range(range, &edit.replacement);
            }
            Ok(json!("change"))
        }
        Verdict::Block(refusal) => Ok(json!({"block": refusal.category, "reason": refusal.reason})),
        Verdict::Retry(instruction) => Ok(json!({"retry": instruction})),
    }
}

fn annotations(ruling: &Ruling) -> BTreeMap<String, Value> {
    let read = |json: &[u8]| serde_json::from_slice(json).unwrap_or(Value::Null);
    ruling.annotations.iter().map(|one| (one.name.clone(), read(&one.value))).collect()
}

fn outcome(verdict: Value, values: &[String], annotations: BTreeMap<String, Value>) -> Value {
    match verdict {
        Value::Object(mut members) => {
            let name = if members.contains_key("block") { "block" } else { "retry" };
            let said = members.remove(name).unwrap_or_default();
            let mut came = json!({"verdict": name, "annotations": annotations});
            if let Some(came) = came.as_object_mut() {
                came.insert(if name == "block" { "category" } else { "instruction" }.into(), said);
                came.extend(members);
            }
            came
        }
        verdict => json!({"verdict": verdict, "texts": values, "annotations": annotations}),
    }
}

/// Shows the first text in parts, holding back what the guardrail wants held back.
async fn stream(plugin: &GuardrailPlugin, fixture: &GuardrailCase, cuts: &[usize]) -> Result<Value, String> {
    let Opened { mut instance, call, request } = open(plugin, fixture).await?;
    let shown = fixture.texts.first().ok_or("a stream needs a text")?;
    let (mut before, mut held, mut made, mut from) = (String::new(), String::new(), String::new(), 0);
    let (mut noted, mut changed) = (BTreeMap::new(), false);
    for (index, &cut) in cuts.iter().chain([&shown.value.len()]).enumerate() {
        let last = index == cuts.len();
        let value = format!("{held}{}", shown.value.get(from..cut).unwrap_or_default());
        from = cut;
        let (pointer, kind) = (shown.pointer.clone(), shown.kind.clone());
        let fragment = Fragment { pointer, kind, before: before.clone(), value: value.clone(), last };
        let asked = instance.on_chunk(&call, request.clone(), &[fragment], false).await;
        let ruling = match asked.map_err(|error| error.to_string())? {
            Ok(ruling) => ruling,
            Err(failure) => return Ok(json!({"verdict": "failure", "detail": format!("{failure:?}")})),
        };
        noted.extend(annotations(&ruling.ruling));
        let hold = ruling.hold.first().map_or(0, |&hold| hold as usize);
        let end = value.len().checked_sub(hold).filter(|_| !last || hold == 0);
        let (free, kept) =
            end.and_then(|end| value.split_at_checked(end)).ok_or("it holds back what it can't")?;
        let mut released = [free.to_owned()];
        match apply(ruling.ruling, &mut released)? {
            Value::String(verdict) => changed |= verdict == "change",
            // What was sent before depends on the cuts; that it ends here doesn't.
            verdict => return Ok(outcome(verdict, &[], BTreeMap::new())),
        }
        made.push_str(&released.concat());
        before.push_str(free);
        let mut start = before.len().saturating_sub(BEFORE);
        while !before.is_char_boundary(start) {
            start += 1;
        }
        before = before.split_off(start);
        held = kept.to_owned();
    }
    let verdict = if changed { "change" } else { "allow" };
    Ok(outcome(verdict.into(), &[made], noted))
}
