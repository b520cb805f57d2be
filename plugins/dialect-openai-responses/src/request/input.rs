//! The input: a text, or items. Calls that follow each other, and a message before them, are one assistant's message.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{Audio, Content, File, ImageUrl, Message, Part, ToolCall};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    call_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Cow<'a, str>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    refusal: Cow<'a, str>,
    #[serde(borrow, default)]
    image_url: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    detail: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    file_data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    filename: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input_audio: Option<Sound<'a>>,
}

#[derive(Deserialize)]
struct Sound<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    format: Cow<'a, str>,
}

pub(super) fn translate<'a>(fields: &Fields<'a>, messages: &mut Vec<Message<'a>>) -> Result<(), Problem> {
    let Some(input) = fields.raw("input") else {
        return Err(Problem::invalid("input", "Missing required parameter: 'input'."));
    };
    if input.get().starts_with('"') {
        let content = Content::Text(parse(input, "input")?);
        messages.push(Message { role: "user", content, ..Message::default() });
        return Ok(());
    }
    for (index, raw) in parse::<Vec<&'a RawValue>>(input, "input")?.into_iter().enumerate() {
        let param = format!("input[{index}]");
        item(parse(raw, &param)?, &param, messages)?;
    }
    match messages.is_empty() {
        true => Err(Problem::invalid("input", "'input' has nothing to be answered.")),
        false => Ok(()),
    }
}

fn item<'a>(item: Item<'a>, param: &str, messages: &mut Vec<Message<'a>>) -> Result<(), Problem> {
    match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = match item.role.as_str() {
                "user" => "user",
                "assistant" => "assistant",
                "system" => "system",
                "developer" => "developer",
                _ => {
                    let message = "A message's role must be user, assistant, system or developer.";
                    return Err(Problem::invalid(format!("{param}.role"), message));
                }
            };
            let content = content(item.content, &format!("{param}.content"))?;
            messages.push(Message { role, content, ..Message::default() });
        }
        "function_call" => {
            let call = ToolCall::function(item.call_id, item.name, item.arguments);
            match messages.last_mut().filter(|last| last.role == "assistant") {
                Some(last) => last.tool_calls.push(call),
                None => {
                    messages.push(Message {
                        role: "assistant",
                        tool_calls: Vec::from([call]),
                        ..Message::default()
                    });
                }
            }
        }
        "function_call_output" => {
            let content = match content(item.output, &format!("{param}.output"))? {
                Content::None => Content::Text(Cow::Borrowed("")),
                content => content,
            };
            let tool_call_id = Some(item.call_id);
            messages.push(Message { role: "tool", content, tool_call_id, ..Message::default() });
        }
        // Another provider's thoughts are of no use to this one.
        "reasoning" => {}
        "item_reference" => {
            let message = "References to items aren't supported for this model: its provider keeps none. Send the item itself.";
            return Err(Problem::unsupported(format!("{param}.type"), message));
        }
        other => return Err(lacks(param, other)),
    }
    Ok(())
}

fn content<'a>(content: Option<&'a RawValue>, param: &str) -> Result<Content<'a>, Problem> {
    let Some(content) = content.filter(|content| content.get() != "null") else { return Ok(Content::None) };
    if content.get().starts_with('"') {
        return Ok(Content::Text(parse(content, param)?));
    }
    let mut parts = Vec::new();
    for (index, given) in parse::<Vec<Given<'a>>>(content, param)?.into_iter().enumerate() {
        parts.push(part(given, &format!("{param}[{index}]"))?);
    }
    Ok(Content::of(parts))
}

fn part<'a>(given: Given<'a>, param: &str) -> Result<Part<'a>, Problem> {
    Ok(match given.kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" => Part::text(given.text),
        "refusal" => Part::text(given.refusal),
        "input_image" => {
            let url = given.image_url.ok_or_else(|| uploaded(&format!("{param}.file_id")))?;
            let image_url = ImageUrl { url, detail: given.detail };
            Part::ImageUrl { image_url, cache_control: None }
        }
        "input_file" => {
            let data = given.file_data.ok_or_else(|| uploaded(&format!("{param}.file_id")))?;
            let file = File { filename: given.filename, file_data: Some(data) };
            Part::File { file, cache_control: None }
        }
        "input_audio" => {
            let sound = given.input_audio.ok_or_else(|| lacks(param, "input_audio"))?;
            Part::InputAudio { input_audio: Audio { data: sound.data, format: sound.format } }
        }
        other => return Err(lacks(param, other)),
    })
}

fn uploaded(param: &str) -> Problem {
    let message =
        "Files by id or URL aren't supported for this model: send the content itself, as a data: URL.";
    Problem::unsupported(param, message)
}

fn lacks(param: &str, kind: &str) -> Problem {
    let kind: String = kind.chars().take(60).collect();
    let message = format!("'{}' isn't supported for this model.", kind.escape_debug());
    Problem::unsupported(format!("{param}.type"), message)
}
