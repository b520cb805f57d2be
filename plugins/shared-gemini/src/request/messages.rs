//! The conversation: system messages apart, neighbors of one role joined, tool results in the user's turn.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::parts::{self, Allowed};
use shared_canonical::{Fields, Text, parse};

/// What stands in for the signature of a call that another model made: the reference names it for conversations that
/// are taken over. Gemini 3 refuses a call without any.
const NO_SIGNATURE: &str = r#""skip_thought_signature_validator""#;

/// A `Content`.
#[derive(Serialize)]
pub(crate) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

/// A `Part`: exactly one of the data members.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function_call: Option<FunctionCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function_response: Option<FunctionResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thought_signature: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blob<'a> {
    pub(crate) mime_type: Cow<'a, str>,
    pub(crate) data: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mime_type: Option<&'static str>,
    pub(crate) file_uri: Cow<'a, str>,
}

#[derive(Serialize)]
pub(crate) struct FunctionCall {
    name: String,
    args: Box<RawValue>,
}

#[derive(Serialize)]
pub(crate) struct FunctionResponse {
    name: String,
    response: Box<RawValue>,
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
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(default)]
    function: Option<Function>,
    #[serde(borrow, default)]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct ExtraContent<'a> {
    #[serde(borrow, default)]
    google: Option<GoogleContent<'a>>,
}

#[derive(Deserialize)]
struct GoogleContent<'a> {
    #[serde(borrow, default)]
    thought_signature: Option<&'a RawValue>,
}

fn signature<'a>(extra: Option<&ExtraContent<'a>>) -> Option<&'a RawValue> {
    extra?.google.as_ref()?.thought_signature.filter(|raw| raw.get().starts_with('"'))
}

/// The vendor's view of the messages.
pub(crate) struct Conversation<'a> {
    pub(crate) system: Option<Content<'a>>,
    pub(crate) contents: Vec<Content<'a>>,
    /// The functions' names by the calls' ids: a result names its function.
    called: BTreeMap<String, String>,
    signed: bool,
}

/// `signed` says that the model wants a signature with calls.
pub(crate) fn translate<'a>(fields: &Fields<'a>, signed: bool) -> Result<Conversation<'a>, Problem> {
    let Some(messages) = fields.get::<Vec<&'a RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    let mut conversation =
        Conversation { system: None, contents: Vec::new(), called: BTreeMap::new(), signed };
    for (index, raw) in messages.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        let message: Message<'a> = parse(raw, &param)?;
        conversation.add(message, &param)?;
    }
    Ok(conversation)
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: Message<'a>, param: &str) -> Result<(), Problem> {
        let content = |allowed| match message.content {
            Some(content) => parts::of(content, allowed, &format!("{param}.content")),
            None => Ok(Vec::new()),
        };
        match message.role.as_str() {
            "system" | "developer" => {
                let parts = content(Allowed::Text)?;
                let system = self.system.get_or_insert(Content { role: None, parts: Vec::new() });
                system.parts.extend(parts);
            }
            "user" => {
                let parts = content(Allowed::All)?;
                self.extend("user", parts);
            }
            "tool" => {
                let parts = self.tool_result(&message, param)?;
                self.extend("user", parts);
            }
            "assistant" => {
                let parts = content(Allowed::Assistant)?;
                let parts = self.assistant(message, parts, param)?;
                self.extend("model", parts);
            }
            other => {
                let message = format!("Gemini has no role '{other}'.");
                return Err(Problem::unsupported(format!("{param}.role"), message));
            }
        }
        Ok(())
    }

    /// Adds parts to the last turn when it has the role, else to a new one.
    fn extend(&mut self, role: &'static str, parts: Vec<Part<'a>>) {
        match self.contents.last_mut() {
            _ if parts.is_empty() => {}
            Some(turn) if turn.role == Some(role) => turn.parts.extend(parts),
            _ => self.contents.push(Content { role: Some(role), parts }),
        }
    }

    /// The text with the message's signature, then the calls with theirs. Of parallel calls only the first is signed.
    fn assistant(
        &mut self,
        message: Message<'a>,
        mut parts: Vec<Part<'a>>,
        param: &str,
    ) -> Result<Vec<Part<'a>>, Problem> {
        if let Some(signature) = signature(message.extra_content.as_ref()) {
            if parts.is_empty() {
                parts.push(Part { text: Some(Text::Made("")), ..Part::default() });
            }
            if let Some(last) = parts.last_mut() {
                last.thought_signature = Some(signature);
            }
        }
        for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
            let param = format!("{param}.tool_calls[{index}]");
            let Some(function) = call.function else {
                return Err(Problem::unsupported(
                    format!("{param}.type"),
                    "Gemini only has calls of functions.",
                ));
            };
            let mut signature = signature(call.extra_content.as_ref());
            if signature.is_none() && index == 0 && self.signed {
                signature = serde_json::from_str(NO_SIGNATURE).ok();
            }
            self.called.insert(call.id, function.name.clone());
            let args = arguments(function.arguments, &param)?;
            parts.push(Part {
                function_call: Some(FunctionCall { name: function.name, args }),
                thought_signature: signature,
                ..Part::default()
            });
        }
        Ok(parts)
    }

    /// The result, and after it what isn't text in it.
    fn tool_result(&self, message: &Message<'a>, param: &str) -> Result<Vec<Part<'a>>, Problem> {
        let name = message.tool_call_id.as_ref().and_then(|id| self.called.get(id));
        let Some(name) = name else {
            let text = "A tool message needs the 'tool_call_id' of a call before it.";
            return Err(Problem::invalid(format!("{param}.tool_call_id"), text));
        };
        let parts = match message.content {
            Some(content) => parts::of(content, Allowed::All, &format!("{param}.content"))?,
            None => Vec::new(),
        };
        let text: String = parts.iter().filter_map(|part| part.text).map(Text::read).collect();
        let response = FunctionResponse { name: name.clone(), response: response(&text) };
        let mut all = vec![Part { function_response: Some(response), ..Part::default() }];
        all.extend(parts.into_iter().filter(|part| part.text.is_none()));
        Ok(all)
    }
}

fn arguments(text: String, param: &str) -> Result<Box<RawValue>, Problem> {
    let text = if text.trim().is_empty() { "{}".to_owned() } else { text };
    let args = RawValue::from_string(text).ok().filter(|args| args.get().starts_with('{'));
    args.ok_or_else(|| {
        let param = format!("{param}.function.arguments");
        Problem::invalid(param, "The arguments of a call must be the text of a JSON object.")
    })
}

/// A result is an object: one goes as it is, anything else as its `result`.
fn response(text: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Wrapped<'a> {
        result: &'a str,
    }
    let trimmed = text.trim();
    let object = trimmed.starts_with('{').then(|| RawValue::from_string(trimmed.to_string()).ok()).flatten();
    let wrapped = || to_raw_value(&Wrapped { result: text }).unwrap_or_else(|_| RawValue::NULL.to_owned());
    object.unwrap_or_else(wrapped)
}
