//! From a canonical chat request to `POST /api/chat`'s.
//!
//! Tools and schemas are carried as the bytes that they came in. What belongs to the model's run goes to `options`;
//! `num_ctx`, `keep_alive` and the vendor's other `options` go through.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::options::Options;
use shared_canonical::{Fields, parse};

/// A JSON object in the making; absent members are left out.
#[derive(Serialize, Default)]
#[serde(transparent)]
pub(crate) struct Object(BTreeMap<Cow<'static, str>, Box<RawValue>>);

impl Object {
    pub(crate) fn set(&mut self, name: &'static str, value: &impl Serialize) {
        // Types of ours always serialize: maps have string keys.
        if let Ok(raw) = to_raw_value(value) {
            self.0.insert(name.into(), raw);
        }
    }

    pub(crate) fn set_raw(&mut self, name: &'static str, value: Option<&RawValue>) {
        self.0.extend(value.map(|raw| (name.into(), raw.to_owned())));
    }

    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec(&self)
            .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
    }
}

impl Options {
    /// How long the model stays, and its window: the caller's, else the connection's.
    pub(crate) fn fill(&self, fields: &Fields<'_>, request: &mut Object) {
        match (fields.raw("keep_alive"), &self.keep_alive) {
            (None, Some(keep_alive)) => request.set("keep_alive", keep_alive),
            (raw, _) => request.set_raw("keep_alive", raw),
        }
    }
}

fn refuse_unsupported(fields: &Fields<'_>, options: &Options, has_tools: bool) -> Result<(), Problem> {
    if fields.get::<u64>("n")?.is_some_and(|n| n != 1) {
        options.lacks("n", "Ollama gives one answer a request: 'n' must be 1.")?;
    }
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "This adapter gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Ollama has no 'logit_bias'.")?;
    }
    if fields.get::<Vec<String>>("modalities")?.is_some_and(|all| all.iter().any(|one| one != "text")) {
        options.lacks("modalities", "Ollama answers in text only.")?;
    }
    let choice = fields.raw("tool_choice").map(RawValue::get);
    if has_tools && !matches!(choice, None | Some(r#""auto""# | r#""none""#)) {
        options.lacks(
            "tool_choice",
            "Ollama can't be made to call a tool: 'auto' and 'none' are its choices.",
        )?;
    }
    if has_tools && fields.get::<bool>("parallel_tool_calls")? == Some(false) {
        options.lacks("parallel_tool_calls", "Ollama can't be held to one tool call a turn.")?;
    }
    for name in ["functions", "function_call", "web_search_options"] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Ollama has no '{name}'."))?;
        }
    }
    Ok(())
}

/// The body of `POST /api/chat`.
pub(crate) fn chat(body: &[u8], model: &str, streaming: bool, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let tools = fields.get::<Vec<&RawValue>>("tools")?.unwrap_or_default();
    refuse_unsupported(&fields, options, !tools.is_empty())?;
    let mut request = Object::default();
    request.set("model", &model);
    request.set("stream", &streaming);
    request.set("messages", &messages(&fields)?);
    if !tools.is_empty() && fields.raw("tool_choice").map(RawValue::get) != Some(r#""none""#) {
        request.set("tools", &tools);
    }
    format(&fields, &mut request)?;
    match fields.get::<Cow<'_, str>>("reasoning_effort")?.as_deref() {
        None => request.set_raw("think", fields.raw("think")),
        Some("none") => request.set("think", &false),
        // Models that know no levels take any as true.
        Some("minimal" | "low") => request.set("think", &"low"),
        Some("medium") => request.set("think", &"medium"),
        Some("high" | "xhigh" | "max") => request.set("think", &"high"),
        Some(other) => {
            let message = format!(
                "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{other}'."
            );
            return Err(Problem::invalid("reasoning_effort", message));
        }
    }
    options.fill(&fields, &mut request);
    let run = run(&fields, options)?;
    if !run.0.is_empty() {
        request.set("options", &run);
    }
    request.into_bytes()
}

/// The model's run: the vendor's own `options`, and over them what the canonical form has.
fn run(fields: &Fields<'_>, options: &Options) -> Result<Object, Problem> {
    let mut run = Object::default();
    if let Some(num_ctx) = options.num_ctx {
        run.set("num_ctx", &num_ctx);
    }
    let own = fields.get::<BTreeMap<String, &RawValue>>("options")?.unwrap_or_default();
    run.0.extend(own.into_iter().map(|(name, value)| (Cow::Owned(name), value.to_owned())));
    let newer = fields.raw("max_completion_tokens");
    run.set_raw("num_predict", newer.or(fields.raw("max_tokens")));
    for name in
        ["temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "num_ctx"]
    {
        run.set_raw(name, fields.raw(name));
    }
    match fields.raw("stop") {
        Some(stop) if stop.get().starts_with('"') => run.set("stop", &[stop]),
        stop => run.set_raw("stop", stop),
    }
    Ok(run)
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

fn format(fields: &Fields<'_>, request: &mut Object) -> Result<(), Problem> {
    let Some(wanted) = fields.get::<ResponseFormat<'_>>("response_format")? else { return Ok(()) };
    match (wanted.kind.as_str(), wanted.json_schema.and_then(|schema| schema.schema)) {
        ("text", _) => {}
        ("json_object", _) => request.set("format", &"json"),
        ("json_schema", Some(schema)) => request.set_raw("format", Some(schema)),
        ("json_schema", None) => {
            return Err(Problem::invalid("response_format.json_schema.schema", "A schema is required."));
        }
        (other, _) => {
            let message = format!("There is no response format '{other}'.");
            return Err(Problem::invalid("response_format.type", message));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow, default)]
    tool_call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Url<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

fn messages(fields: &Fields<'_>) -> Result<Vec<Object>, Problem> {
    let Some(messages) = fields.get::<Vec<&RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    // A result names its function, not the call.
    let mut called = BTreeMap::new();
    let mut made = Vec::with_capacity(messages.len());
    for (index, raw) in messages.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        made.push(message(parse(raw, &param)?, &param, &mut called)?);
    }
    Ok(made)
}

fn message(
    given: Message<'_>,
    param: &str,
    called: &mut BTreeMap<String, String>,
) -> Result<Object, Problem> {
    let mut made = Object::default();
    let role = match given.role.as_str() {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" => "tool",
        other => {
            let message = format!("Ollama has no role '{other}'.");
            return Err(Problem::unsupported(format!("{param}.role"), message));
        }
    };
    made.set("role", &role);
    content(given.content, &format!("{param}.content"), &mut made)?;
    made.set_raw("thinking", given.reasoning_content.filter(|text| text.get() != "null"));
    let mut calls = Vec::new();
    for (index, call) in given.tool_calls.into_iter().flatten().enumerate() {
        let param = format!("{param}.tool_calls[{index}]");
        let Some(function) = call.function else {
            return Err(Problem::unsupported(format!("{param}.type"), "Ollama only has calls of functions."));
        };
        let text = if function.arguments.trim().is_empty() { "{}".to_owned() } else { function.arguments };
        let arguments = RawValue::from_string(text).ok().filter(|text| text.get().starts_with('{'));
        let arguments = arguments.ok_or_else(|| {
            let param = format!("{param}.function.arguments");
            Problem::invalid(param, "The arguments of a call must be the text of a JSON object.")
        })?;
        let mut inner = Object::default();
        inner.set("name", &function.name);
        inner.set_raw("arguments", Some(&arguments));
        let mut outer = Object::default();
        outer.set("function", &inner);
        calls.push(outer);
        called.insert(call.id.into_owned(), function.name);
    }
    if !calls.is_empty() {
        made.set("tool_calls", &calls);
    }
    if role == "tool" {
        let name = given.tool_call_id.and_then(|id| called.get(id.as_ref()));
        let name = name.ok_or_else(|| {
            let text = "A tool message needs the 'tool_call_id' of a call before it.";
            Problem::invalid(format!("{param}.tool_call_id"), text)
        })?;
        made.set("tool_name", name);
    }
    Ok(made)
}

/// Texts joined; images apart, in base64.
fn content(given: Option<&RawValue>, param: &str, made: &mut Object) -> Result<(), Problem> {
    let Some(given) = given.filter(|content| content.get() != "null") else {
        made.set("content", &"");
        return Ok(());
    };
    if given.get().starts_with('"') {
        made.set_raw("content", Some(given));
        return Ok(());
    }
    let (mut text, mut images) = (String::new(), Vec::new());
    for (index, raw) in parse::<Vec<&RawValue>>(given, param)?.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        let part: Part<'_> = parse(raw, &param)?;
        match (part.kind.as_str(), part.image_url) {
            ("text", _) => text.push_str(&part.text),
            ("image_url", Some(image)) => images.push(self::image(image, &format!("{param}.image_url"))?),
            (other, _) => {
                let message = format!("Ollama takes no part of type '{other}'.");
                return Err(Problem::unsupported(format!("{param}.type"), message));
            }
        }
    }
    made.set("content", &text);
    if !images.is_empty() {
        made.set("images", &images);
    }
    Ok(())
}

/// The base64 of a `data:` URL: the server fetches nothing.
fn image<'a>(image: &'a RawValue, param: &str) -> Result<Cow<'a, str>, Problem> {
    let url = match image.get().starts_with('"') {
        true => parse(image, param)?,
        false => parse::<Url<'a>>(image, param)?.url,
    };
    let data =
        url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).map(|(_, data)| data.len());
    let Some(length) = data else {
        return Err(Problem::unsupported(param, "Ollama takes images as base64 data: URLs only."));
    };
    let start = url.len() - length;
    Ok(match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(start..).unwrap_or_default()),
        Cow::Owned(url) => Cow::Owned(url.get(start..).unwrap_or_default().to_owned()),
    })
}
