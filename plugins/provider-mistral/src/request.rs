//! Requests, written from the members that the vendor knows. Each is carried as the bytes that it came in.

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

/// The body of `POST /v1/chat/completions`.
pub(crate) fn chat(body: &[u8], model: &str, streaming: bool, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    refuse_unsupported(&fields, options)?;
    let mut request = Object::default();
    request.set("model", &model);
    request.set("stream", &streaming);
    request.set("messages", &messages(&fields)?);
    for name in [
        "temperature",
        "top_p",
        "stop",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "prediction",
        "prompt_mode",
        "safe_prompt",
    ] {
        request.set_raw(name, fields.raw(name));
    }
    request.set_raw("max_tokens", fields.raw("max_completion_tokens").or(fields.raw("max_tokens")));
    request.set_raw("random_seed", fields.raw("random_seed").or(fields.raw("seed")));
    if let (None, Some(safe)) = (fields.raw("safe_prompt"), options.safe_prompt) {
        request.set("safe_prompt", &safe);
    }
    match fields.get::<Cow<'_, str>>("reasoning_effort")?.as_deref() {
        None => {}
        Some("none") => request.set("reasoning_effort", &"none"),
        Some("minimal" | "low" | "medium" | "high" | "xhigh" | "max") => {
            request.set("reasoning_effort", &"high");
        }
        Some(other) => {
            let message = format!(
                "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{other}'."
            );
            return Err(Problem::invalid("reasoning_effort", message));
        }
    }
    request.into_bytes()
}

/// The body of `POST /v1/embeddings`.
pub(crate) fn embeddings(body: &[u8], model: &str) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let mut request = Object::default();
    request.set("model", &model);
    request.set_raw("output_dimension", fields.raw("dimensions"));
    for name in ["input", "encoding_format", "output_dtype"] {
        request.set_raw(name, fields.raw(name));
    }
    request.into_bytes()
}

fn refuse_unsupported(fields: &Fields<'_>, options: &Options) -> Result<(), Problem> {
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "Mistral gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Mistral has no 'logit_bias'.")?;
    }
    if fields.get::<Vec<String>>("modalities")?.is_some_and(|all| all.iter().any(|one| one != "text")) {
        options.lacks("modalities", "Mistral answers in text only.")?;
    }
    for name in ["functions", "function_call", "web_search_options"] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Mistral has no '{name}'."))?;
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
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prefix: Option<&'a RawValue>,
    #[serde(default)]
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(borrow)]
    function: &'a RawValue,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    input_audio: Option<Audio<'a>>,
    #[serde(borrow, default)]
    file: Option<File<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audio<'a> {
    Here {
        #[serde(borrow)]
        data: Cow<'a, str>,
    },
    Text(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    file_data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    file_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    filename: Option<Cow<'a, str>>,
}

fn messages(fields: &Fields<'_>) -> Result<Vec<Object>, Problem> {
    let Some(messages) = fields.get::<Vec<&RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    let translated = messages.into_iter().enumerate().map(|(index, raw)| {
        let param = format!("messages[{index}]");
        message(parse(raw, &param)?, &param)
    });
    translated.collect()
}

fn message(given: Message<'_>, param: &str) -> Result<Object, Problem> {
    let mut made = Object::default();
    let content = given.content.filter(|content| content.get() != "null");
    let content_param = format!("{param}.content");
    let mut parts = match content {
        Some(content) if content.get().starts_with('[') => Some(self::parts(content, &content_param)?),
        _ => None,
    };
    match given.role.as_str() {
        "system" | "developer" => made.set("role", &"system"),
        "user" => made.set("role", &"user"),
        "assistant" => {
            made.set("role", &"assistant");
            made.set_raw("prefix", given.prefix);
            let calls: Vec<_> = given.tool_calls.into_iter().flatten().collect();
            if !calls.is_empty() {
                let call = |call: &ToolCall<'_>| {
                    let mut made = Object::default();
                    made.set("id", &nine(&call.id));
                    made.set("type", &"function");
                    made.set_raw("function", Some(call.function));
                    made
                };
                made.set("tool_calls", &calls.iter().map(call).collect::<Vec<_>>());
            }
            if let Some(thinking) = given.reasoning_content.filter(|text| !text.is_empty()) {
                let block = json!({"type": "thinking", "thinking": [{"type": "text", "text": thinking}]});
                let mut all = vec![raw(&block)?];
                match (parts.take(), content) {
                    (Some(parts), _) => all.extend(parts),
                    (None, Some(text)) => {
                        let text: Cow<'_, str> = parse(text, &content_param)?;
                        all.push(raw(&json!({"type": "text", "text": text}))?);
                    }
                    (None, None) => {}
                }
                parts = Some(all);
            }
        }
        "tool" => {
            let Some(id) = given.tool_call_id else {
                let text = "A tool message needs a 'tool_call_id'.";
                return Err(Problem::invalid(format!("{param}.tool_call_id"), text));
            };
            made.set("role", &"tool");
            made.set("tool_call_id", &nine(&id));
            made.set_raw("name", given.name);
        }
        other => {
            let message = format!("Mistral has no role '{other}'.");
            return Err(Problem::unsupported(format!("{param}.role"), message));
        }
    }
    match (parts, content) {
        (Some(parts), _) => made.set("content", &parts),
        (None, content) => made.set_raw("content", content),
    }
    Ok(made)
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Problem> {
    to_raw_value(value)
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
}

/// Parts as they came, but for audio and files, which have another form.
fn parts(content: &RawValue, param: &str) -> Result<Vec<Box<RawValue>>, Problem> {
    let mut made = Vec::new();
    for (index, given) in parse::<Vec<&RawValue>>(content, param)?.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        let part: Part<'_> = parse(given, &param)?;
        made.push(match (part.kind.as_str(), part.input_audio, part.file) {
            ("text" | "image_url" | "document_url" | "thinking" | "reference" | "file", _, None) => {
                given.to_owned()
            }
            ("input_audio", Some(Audio::Here { data } | Audio::Text(data)), _) => {
                raw(&json!({"type": "input_audio", "input_audio": data}))?
            }
            ("file", _, Some(File { file_id: Some(id), .. })) => {
                raw(&json!({"type": "file", "file_id": id}))?
            }
            ("file", _, Some(File { file_data: Some(url), filename, .. })) => {
                raw(&json!({"type": "document_url", "document_url": url, "document_name": filename}))?
            }
            (other, _, _) => {
                let message = format!("Mistral takes no part of type '{other}' like this.");
                return Err(Problem::unsupported(format!("{param}.type"), message));
            }
        });
    }
    Ok(made)
}

/// An id of nine letters and digits: itself, or one made of it (FNV-1a, in base 62), the same for the same.
fn nine(id: &str) -> Cow<'_, str> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Cow::Borrowed(id);
    }
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let digit = |_| {
        let digit = DIGITS.get((hash % 62) as usize).copied().unwrap_or(b'0');
        hash /= 62;
        char::from(digit)
    };
    Cow::Owned((0..9).map(digit).collect())
}
