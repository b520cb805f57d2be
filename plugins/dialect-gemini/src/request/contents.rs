//! The conversation. Calls have ids in the canonical form: the caller's, or else made from their place, so that a result
//! without an id belongs to the first call of its name that has none yet.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{Audio, Content, File, Message, Part, ToolCall};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(borrow, default)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Given<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    thought: Option<bool>,
    #[serde(borrow, alias = "thought_signature")]
    thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "inline_data")]
    inline_data: Option<Blob<'a>>,
    #[serde(borrow, alias = "file_data")]
    file_data: Option<Uri<'a>>,
    #[serde(borrow, alias = "function_call")]
    function_call: Option<Called<'a>>,
    #[serde(borrow, alias = "function_response")]
    function_response: Option<Answered<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow, alias = "mime_type")]
    mime_type: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow, default, alias = "display_name")]
    display_name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Uri<'a> {
    #[serde(borrow, default, alias = "mime_type")]
    mime_type: Cow<'a, str>,
    #[serde(borrow, alias = "file_uri")]
    file_uri: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Called<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

/// What is open of the conversation.
struct Talk<'a> {
    messages: Vec<Message<'a>>,
    /// Calls without a result: name and id.
    open: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    made: usize,
}

pub(super) fn translate<'a>(
    fields: &Fields<'a>,
    system: Option<&'a RawValue>,
) -> Result<Vec<Message<'a>>, Problem> {
    let mut talk = Talk { messages: Vec::new(), open: Vec::new(), made: 0 };
    if let Some(system) = system {
        let turn: Turn<'a> = parse(system, "systemInstruction")?;
        let mut texts = Vec::new();
        for (index, raw) in turn.parts.into_iter().enumerate() {
            let given: Given<'a> = parse(raw, &format!("systemInstruction.parts[{index}]"))?;
            texts.extend(given.text.map(Part::text));
        }
        if !texts.is_empty() {
            talk.messages.push(Message { role: "system", content: Content::of(texts), ..Message::default() });
        }
    }
    let turns = fields.get::<Vec<Turn<'a>>>("contents")?.filter(|turns| !turns.is_empty());
    let turns = turns.ok_or_else(|| Problem::invalid("contents", "contents is not specified"))?;
    for (index, turn) in turns.into_iter().enumerate() {
        let param = format!("contents[{index}]");
        match turn.role.as_deref() {
            None | Some("user" | "function") => talk.user(turn.parts, &param)?,
            Some("model") => talk.model(turn.parts, &param)?,
            Some(_) => {
                let message = "Please use a valid role: user, model.";
                return Err(Problem::invalid(format!("{param}.role"), message));
            }
        }
    }
    Ok(talk.messages)
}

impl<'a> Talk<'a> {
    fn user(&mut self, parts: Vec<&'a RawValue>, param: &str) -> Result<(), Problem> {
        let mut said = Vec::new();
        for (index, raw) in parts.into_iter().enumerate() {
            let param = format!("{param}.parts[{index}]");
            let mut given: Given<'a> = parse(raw, &param)?;
            match given.function_response.take() {
                Some(answered) => self.result(answered),
                None => said.push(part(given, &param)?),
            }
        }
        if !said.is_empty() {
            self.messages.push(Message { role: "user", content: Content::of(said), ..Message::default() });
        }
        Ok(())
    }

    fn result(&mut self, answered: Answered<'a>) {
        let place = self.open.iter().position(|(name, id)| match &answered.id {
            Some(wanted) => id == wanted,
            None => *name == answered.name,
        });
        let known = place.map(|place| self.open.remove(place).1);
        let id = answered.id.or(known).unwrap_or(answered.name);
        self.messages.push(Message {
            role: "tool",
            content: Content::Text(result_text(answered.response)),
            tool_call_id: Some(id),
            ..Message::default()
        });
    }

    fn model(&mut self, parts: Vec<&'a RawValue>, param: &str) -> Result<(), Problem> {
        let mut message = Message { role: "assistant", ..Message::default() };
        let mut said = Vec::new();
        for (index, raw) in parts.into_iter().enumerate() {
            let param = format!("{param}.parts[{index}]");
            let mut given: Given<'a> = parse(raw, &param)?;
            let signature = given.thought_signature.take().and_then(|signature| signed(&signature));
            if given.thought == Some(true) {
                // A summary of what the model thought is no part of what it said.
                continue;
            }
            if let Some(called) = given.function_call.take() {
                let id = called.id.unwrap_or_else(|| {
                    self.made += 1;
                    Cow::Owned(format!("call_{}", self.made))
                });
                self.open.push((called.name.clone(), id.clone()));
                let arguments = called.args.map_or("{}", RawValue::get);
                let call = ToolCall::function(id, called.name, arguments);
                message.tool_calls.push(ToolCall { extra_content: signature, ..call });
                continue;
            }
            message.extra_content = signature.or(message.extra_content.take());
            if given.text.as_deref() != Some("") {
                said.push(part(given, &param)?);
            }
        }
        message.content = Content::of(said);
        self.messages.push(message);
        Ok(())
    }
}

/// A signature, where Google's own compatible API has it.
fn signed(signature: &str) -> Option<Box<RawValue>> {
    let quoted = serde_json::to_string(signature).ok()?;
    RawValue::from_string(format!(r#"{{"google":{{"thought_signature":{quoted}}}}}"#)).ok()
}

/// A result's text: the JSON, or the one text that it holds (`{"result": "…"}`).
fn result_text<'a>(response: Option<&'a RawValue>) -> Cow<'a, str> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain<'a> {
        #[serde(borrow, alias = "output")]
        result: Cow<'a, str>,
    }
    let Some(response) = response else { return Cow::Borrowed("") };
    match serde_json::from_str::<Plain<'a>>(response.get()) {
        Ok(plain) => plain.result,
        Err(_) => Cow::Borrowed(response.get()),
    }
}

fn part<'a>(given: Given<'a>, param: &str) -> Result<Part<'a>, Problem> {
    if let Some(text) = given.text {
        return Ok(Part::text(text));
    }
    if let Some(blob) = given.inline_data {
        let (kind, subtype) = blob.mime_type.split_once('/').unwrap_or((&blob.mime_type, ""));
        if kind == "audio" {
            let format = match subtype {
                "mpeg" | "mp3" => "mp3",
                "wav" | "x-wav" => "wav",
                _ => return Err(lacks(param)),
            };
            return Ok(Part::InputAudio { input_audio: Audio { data: blob.data, format: format.into() } });
        }
        let url = Cow::Owned(format!("data:{};base64,{}", blob.mime_type, blob.data));
        if kind == "image" {
            return Ok(Part::image(url));
        }
        let filename = blob.display_name.or(Some(Cow::Borrowed("document")));
        return Ok(Part::File { file: File { filename, file_data: Some(url) }, cache_control: None });
    }
    match given.file_data {
        Some(uri) if uri.mime_type.starts_with("image/") && uri.file_uri.starts_with("https://") => {
            Ok(Part::image(uri.file_uri))
        }
        _ => Err(lacks(param)),
    }
}

fn lacks(param: &str) -> Problem {
    let message = format!(
        "{param}: this kind of part is understood by Google only, and the model isn't served by Google."
    );
    let param: String = param.into();
    Problem::unsupported(param, message)
}
