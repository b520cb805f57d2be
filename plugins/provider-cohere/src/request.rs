//! From canonical requests to Cohere's. Members are carried as the bytes that they came in where the two agree.

mod messages;

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::options::Options;
use shared_canonical::{Fields, parse};

/// A JSON object in the making; absent members are left out.
#[derive(Serialize, Default)]
#[serde(transparent)]
struct Object(BTreeMap<&'static str, Box<RawValue>>);

impl Object {
    fn set(&mut self, name: &'static str, value: &impl Serialize) {
        // Types of ours always serialize: maps have string keys.
        if let Ok(raw) = to_raw_value(value) {
            self.0.insert(name, raw);
        }
    }

    fn set_raw(&mut self, name: &'static str, value: Option<&RawValue>) {
        self.0.extend(value.map(|raw| (name, raw.to_owned())));
    }

    fn into_bytes(self) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec(&self)
            .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
    }
}

/// Refuses what the vendor lacks and what would change the answer, by name.
fn refuse_unsupported(fields: &Fields<'_>, options: &Options, has_tools: bool) -> Result<(), Problem> {
    if fields.get::<u64>("n")?.is_some_and(|n| n != 1) {
        options.lacks("n", "Cohere gives one answer a request: 'n' must be 1.")?;
    }
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "This adapter gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Cohere has no 'logit_bias'.")?;
    }
    if fields.get::<Vec<String>>("modalities")?.is_some_and(|all| all.iter().any(|one| one != "text")) {
        options.lacks("modalities", "Cohere answers in text only.")?;
    }
    if has_tools && fields.get::<bool>("parallel_tool_calls")? == Some(false) {
        options.lacks("parallel_tool_calls", "Cohere can't be held to one tool call a turn.")?;
    }
    for name in ["functions", "function_call", "web_search_options"] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Cohere has no '{name}'."))?;
        }
    }
    Ok(())
}

/// The body of `POST /v2/chat`.
pub(crate) fn chat(body: &[u8], model: &str, streaming: bool, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let tools = fields.get::<Vec<&RawValue>>("tools")?.unwrap_or_default();
    refuse_unsupported(&fields, options, !tools.is_empty())?;
    let mut request = Object::default();
    request.set("model", &model);
    request.set("stream", &streaming);
    request.set("messages", &messages::translate(&fields)?);
    self::tools(&fields, tools, options, &mut request)?;
    let newer = fields.raw("max_completion_tokens");
    request.set_raw("max_tokens", newer.or(fields.raw("max_tokens")));
    for (theirs, ours) in [
        ("temperature", "temperature"),
        ("p", "top_p"),
        ("k", "top_k"),
        ("seed", "seed"),
        ("frequency_penalty", "frequency_penalty"),
        ("presence_penalty", "presence_penalty"),
        ("documents", "documents"),
        ("citation_options", "citation_options"),
        ("safety_mode", "safety_mode"),
    ] {
        request.set_raw(theirs, fields.raw(ours));
    }
    match fields.raw("stop") {
        Some(stop) if stop.get().starts_with('"') => request.set("stop_sequences", &[stop]),
        stop => request.set_raw("stop_sequences", stop),
    }
    response_format(&fields, &mut request)?;
    thinking(&fields, &mut request)?;
    request.into_bytes()
}

#[derive(Deserialize)]
struct Definition {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Named {
    function: Function,
}

/// Tools have OpenAI's form here too. One that must be called is the only one that is sent.
fn tools(
    fields: &Fields<'_>,
    given: Vec<&RawValue>,
    options: &Options,
    request: &mut Object,
) -> Result<(), Problem> {
    let choice = fields.raw("tool_choice").map(RawValue::get);
    let wanted = match (fields.raw("tool_choice"), choice) {
        (Some(raw), Some(text)) if text.starts_with('{') => {
            Some(parse::<Named>(raw, "tool_choice")?.function.name)
        }
        _ => None,
    };
    let (mut tools, mut strict) = (Vec::new(), false);
    for (index, raw) in given.into_iter().enumerate() {
        let param = format!("tools[{index}]");
        let definition: Definition = parse(raw, &param)?;
        match (definition.kind.as_deref(), definition.function) {
            (Some("function") | None, Some(function)) => {
                if wanted.as_ref().is_none_or(|wanted| *wanted == function.name) {
                    strict |= function.strict == Some(true);
                    tools.push(raw);
                }
            }
            _ => options.lacks(&format!("{param}.type"), "Cohere only has tools of type 'function'.")?,
        }
    }
    if tools.is_empty() {
        return Ok(());
    }
    request.set("tools", &tools);
    if strict {
        request.set("strict_tools", &true);
    }
    match choice {
        None | Some(r#""auto""#) => {}
        Some(r#""none""#) => request.set("tool_choice", &"NONE"),
        Some(r#""required""#) => request.set("tool_choice", &"REQUIRED"),
        Some(_) if wanted.is_some() => request.set("tool_choice", &"REQUIRED"),
        Some(other) => {
            let message = format!("'tool_choice' must be auto, none, required or a function, not {other}.");
            return Err(Problem::invalid("tool_choice", message));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Deserialize)]
struct JsonSchema<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

fn response_format(fields: &Fields<'_>, request: &mut Object) -> Result<(), Problem> {
    let Some(wanted) = fields.get::<ResponseFormat<'_>>("response_format")? else { return Ok(()) };
    let mut format = Object::default();
    format.set("type", &"json_object");
    match (wanted.kind.as_str(), wanted.json_schema.and_then(|schema| schema.schema)) {
        ("text", _) => return Ok(()),
        ("json_object", _) => {}
        ("json_schema", Some(schema)) => format.set_raw("json_schema", Some(schema)),
        ("json_schema", None) => {
            return Err(Problem::invalid("response_format.json_schema.schema", "A schema is required."));
        }
        (other, _) => {
            let message = format!("There is no response format '{other}'.");
            return Err(Problem::invalid("response_format.type", message));
        }
    }
    request.set("response_format", &format);
    Ok(())
}

/// The caller's `thinking` goes through; else `reasoning_effort` switches it, with a budget below `high`.
fn thinking(fields: &Fields<'_>, request: &mut Object) -> Result<(), Problem> {
    if let Some(raw) = fields.raw("thinking") {
        request.set_raw("thinking", Some(raw));
        return Ok(());
    }
    let thinking = match fields.get::<Cow<'_, str>>("reasoning_effort")?.as_deref() {
        None => return Ok(()),
        Some("none") => json!({"type": "disabled"}),
        Some("minimal") => json!({"type": "enabled", "token_budget": 512}),
        Some("low") => json!({"type": "enabled", "token_budget": 2048}),
        Some("medium") => json!({"type": "enabled", "token_budget": 8192}),
        Some("high" | "xhigh" | "max") => json!({"type": "enabled"}),
        Some(other) => {
            let message = format!(
                "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{other}'."
            );
            return Err(Problem::invalid("reasoning_effort", message));
        }
    };
    request.set("thinking", &thinking);
    Ok(())
}

/// The body of `POST /v2/embed`.
pub(crate) fn embed(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let Some(input) = fields.raw("input") else {
        return Err(Problem::invalid("input", "'input' is required."));
    };
    let texts = match input.get().starts_with('"') {
        true => vec![parse::<Cow<'_, str>>(input, "input")?],
        false => parse(input, "input")?,
    };
    let wants_base64 = fields.get::<Cow<'_, str>>("encoding_format")?.as_deref() == Some("base64");
    let mut request = Object::default();
    request.set("model", &model);
    request.set("texts", &texts);
    request.set("embedding_types", &[if wants_base64 { "base64" } else { "float" }]);
    match fields.raw("input_type") {
        Some(raw) => request.set_raw("input_type", Some(raw)),
        None => request.set("input_type", &options.input_type.as_deref().unwrap_or("search_document")),
    }
    request.set_raw("output_dimension", fields.raw("dimensions"));
    request.set_raw("truncate", fields.raw("truncate"));
    request.into_bytes()
}

/// The body of `POST /v2/rerank`.
pub(crate) fn rerank(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Problem> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Document<'a> {
        Text(#[serde(borrow)] Cow<'a, str>),
        Object {
            #[serde(borrow)]
            text: Cow<'a, str>,
        },
    }
    let fields = Fields::parse(body)?;
    for name in ["query", "documents"] {
        if fields.raw(name).is_none() {
            return Err(Problem::invalid(name, format!("'{name}' is required.")));
        }
    }
    if fields.get::<bool>("return_documents")? == Some(true) {
        options.lacks("return_documents", "Cohere gives the documents' indices only.")?;
    }
    let documents = fields.get::<Vec<Document<'_>>>("documents")?.unwrap_or_default();
    let texts: Vec<_> = documents
        .iter()
        .map(|document| match document {
            Document::Text(text) | Document::Object { text } => text.as_ref(),
        })
        .collect();
    let mut request = Object::default();
    request.set("model", &model);
    request.set_raw("query", fields.raw("query"));
    request.set("documents", &texts);
    request.set_raw("top_n", fields.raw("top_n"));
    request.set_raw("max_tokens_per_doc", fields.raw("max_tokens_per_doc"));
    request.into_bytes()
}
