//! The request: the caller's body with a few edits.

mod parts;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Edit, SetEdit, UpstreamRequest};
use serde_json::value::RawValue;
use shared_canonical::{kept, media};

use crate::options::{DeveloperRole, Limit, Options, ThinkingPlace, Unsupported};

/// The JSON text at a pointer of the caller's body.
pub(crate) type Get<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

/// What to send.
///
/// `format` is a form's `response_format`.
pub(crate) fn upstream(call: &Call, get: &Get<'_>, format: Option<&str>) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let has_key = !call.attributes.iter().any(|(name, value)| name == "credential" && value == "none");
    let auth = options.auth(has_key);
    if call.operation == "raw" {
        return Ok(UpstreamRequest::raw().auth(auth));
    }
    if kept::is_one(&call.operation) {
        let mut request = kept::request(call)?.auth(auth);
        let kind = call.operation.split_once('.').map_or("", |(kind, _)| kind);
        let path = options.kept(kind, &request.path)?;
        request.path = path.ok_or_else(|| Problem::unsupported_operation(call))?;
        return Ok(request);
    }
    let path = options.path(&call.operation)?.ok_or_else(|| Problem::unsupported_operation(call))?;
    if call.operation == "models" {
        return Ok(UpstreamRequest::get(path).auth(auth).native());
    }
    if media::path(&call.operation).is_some() {
        if call.streaming && !options.streams.contains(&call.operation) {
            let member = if call.operation == "audio.speech" { "stream_format" } else { "stream" };
            let message = format!("{} doesn't stream this operation.", options.vendor());
            return Err(Problem::unsupported(member, message));
        }
        return Ok(media::request(call, UpstreamRequest::post(path).auth(auth), &call.model, format));
    }
    let chat = call.operation == "chat.completions";
    let mut edits = vec![Edit::set("/model", &call.model)];
    if chat {
        token_limit(&options, get, &mut edits);
        conversation(&options, get, &mut edits)?;
    }
    unknown_members(&options, get, &mut edits)?;
    if call.streaming && options.stream_usage && call.operation != "embeddings" {
        edits.push(Edit::set("/stream_options/include_usage", &true));
    }
    let request = UpstreamRequest::post(path).auth(auth).edits(edits);
    Ok(match (chat, options.reasoning) {
        (true, ThinkingPlace::Reasoning | ThinkingPlace::Parts) => {
            request.decoded(if call.streaming { "sse" } else { "whole" })
        }
        _ => request.native(),
    })
}

/// Gives the limit the server's name for it. Where the caller set both, the newer one counts.
fn token_limit(options: &Options, get: &Get<'_>, edits: &mut Vec<Edit>) {
    let (newer, older) = ("/max_completion_tokens", "/max_tokens");
    let (to, from) = match options.max_tokens {
        Limit::Keep => return,
        Limit::MaxTokens => (older, newer),
        Limit::MaxCompletionTokens => (newer, older),
    };
    let Some(value) = get(from) else { return };
    if to == older || get(to).is_none_or(|value| value == b"null") {
        edits.push(Edit::Set(SetEdit { pointer: to.to_owned(), value }));
    }
    edits.push(Edit::remove(from));
}

/// The roles that a conversation begins with, and the name of earlier thinking.
fn conversation(options: &Options, get: &Get<'_>, edits: &mut Vec<Edit>) -> Result<(), Problem> {
    if options.developer_role == DeveloperRole::System {
        for index in 0.. {
            let pointer = format!("/messages/{index}/role");
            match get(&pointer).as_deref() {
                Some(br#""developer""#) => edits.push(Edit::set(&pointer, "system")),
                Some(br#""system""#) => {}
                _ => break,
            }
        }
    }
    if options.reasoning == ThinkingPlace::ReasoningContent {
        return Ok(());
    }
    let Some(messages) = get("/messages") else { return Ok(()) };
    let has_thinking = core::str::from_utf8(&messages)
        .is_ok_and(|text| text.contains("\"reasoning_content\"") || text.contains("\"thinking_blocks\""));
    if !has_thinking {
        return Ok(());
    }
    if options.reasoning == ThinkingPlace::Parts {
        return parts::edits(&messages, edits);
    }
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        reasoning_content: Option<&'a RawValue>,
        #[serde(borrow, default)]
        reasoning: Option<&'a RawValue>,
    }
    let messages: Vec<Message<'_>> = serde_json::from_slice(&messages).map_err(|error| {
        Problem::invalid("messages", format!("'messages' has an unexpected form: {error}."))
    })?;
    for (index, message) in messages.iter().enumerate() {
        let Some(thinking) = message.reasoning_content else { continue };
        if message.reasoning.is_none() {
            let value = thinking.get().as_bytes().to_vec();
            edits.push(Edit::Set(SetEdit { pointer: format!("/messages/{index}/reasoning"), value }));
        }
        edits.push(Edit::Remove(format!("/messages/{index}/reasoning_content")));
    }
    Ok(())
}

/// What the server doesn't know isn't sent; what would change the answer is refused, unless it is to be dropped.
fn unknown_members(options: &Options, get: &Get<'_>, edits: &mut Vec<Edit>) -> Result<(), Problem> {
    for name in &options.unsupported {
        let Some(value) = get(&format!("/{name}")) else { continue };
        if options.unsupported_parameters == Unsupported::Refuse && !is_default(name, &value) {
            return Err(Problem::unsupported(name.clone(), message(options, name)));
        }
        edits.push(Edit::Remove(format!("/{name}")));
    }
    // Removing what isn't there is no change: no need to look.
    edits.extend(options.drop.iter().map(|name| Edit::Remove(format!("/{name}"))));
    Ok(())
}

fn message(options: &Options, name: &str) -> String {
    match name {
        "n" => format!("'n' must be 1: {} gives one answer a request.", options.vendor()),
        _ => format!("{} has no '{name}'.", options.vendor()),
    }
}

/// Values that say nothing.
fn is_default(name: &str, value: &[u8]) -> bool {
    matches!(value, b"null" | b"false" | b"[]" | b"{}" | b"0")
        || (name == "n" && value == b"1")
        || (name == "tool_choice" && matches!(value, br#""auto""# | br#""none""#))
}

#[cfg(test)]
mod tests;
