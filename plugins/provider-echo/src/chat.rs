//! `chat.completions`: what the user said last, or tool calls, or a document that fits a schema.

mod text;

use brokle_plugin::Problem;
use brokle_plugin::openai::{
    AssistantMessage, ChatChunk, ChatCompletion, ChatRequest, Choice, ChunkChoice, Delta, FunctionCall,
    FunctionDelta, ToolCall, ToolCallDelta,
};
use brokle_plugin::provider::{Call, Output};
use serde_json::Value;

use crate::{error, tokens, tools, write};

/// The most choices, as at OpenAI.
const MOST_CHOICES: u64 = 128;

/// A text and why it ended there.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) text: String,
    pub(crate) reason: &'static str,
}

/// What each choice is.
struct Reply {
    content: Option<String>,
    tool_calls: Vec<ToolCall>,
    reason: &'static str,
    tokens: u64,
}

pub(crate) fn answer(call: &Call, request: &ChatRequest) -> Result<Vec<Output>, Problem> {
    let prompt = text::prompt(request)?;
    if let Some(problem) = error::asked_for(&prompt) {
        return Err(problem);
    }
    let copies = copies(request.n)?;
    let reply = reply(call, request, prompt)?;
    let usage = write::usage(text::input_tokens(request), reply.tokens * copies);
    let mut outputs = vec![write::entries(&usage)];
    if call.streaming {
        for index in 0..copies {
            stream(call, &reply, index as u32, &mut outputs);
        }
        if wants_usage(request.extra.get("stream_options")) {
            let last = ChatChunk {
                choices: Vec::new(),
                usage: Some(usage),
                ..chunk(call, 0, Delta::default(), None)
            };
            outputs.push(Output::json(&last));
        }
        return Ok(outputs);
    }
    let choice = |index| Choice {
        index: index as u32,
        message: AssistantMessage {
            role: "assistant".to_owned(),
            content: reply.content.clone(),
            tool_calls: reply.tool_calls.clone(),
            ..AssistantMessage::default()
        },
        finish_reason: Some(reply.reason.to_owned()),
        logprobs: None,
    };
    outputs.push(Output::json(&ChatCompletion {
        id: write::id("chatcmpl", call),
        object: "chat.completion".to_owned(),
        created: call.created,
        model: call.model.clone(),
        choices: (0..copies).map(choice).collect(),
        usage: Some(usage),
        extra: Default::default(),
    }));
    Ok(outputs)
}

fn reply(call: &Call, request: &ChatRequest, prompt: String) -> Result<Reply, Problem> {
    let from_user = text::latest(request).next().is_some_and(|message| message.role == "user");
    let wanted = if from_user { tools::wanted(request, &prompt)? } else { Vec::new() };
    if !wanted.is_empty() {
        let tokens = wanted.iter().map(|it| tokens::count(&it.name) + tokens::count(&it.arguments)).sum();
        let made = wanted.into_iter().enumerate().map(|(index, wanted)| ToolCall {
            id: format!("call_{}_{index}", call.request_id),
            kind: "function".to_owned(),
            function: FunctionCall { name: wanted.name, arguments: wanted.arguments },
            extra: Default::default(),
        });
        return Ok(Reply { content: None, tool_calls: made.collect(), reason: "tool_calls", tokens });
    }
    let text = match text::format(request)? {
        Some(document) => document.to_string(),
        None => prompt,
    };
    let stop = stop_sequences(request.stop.as_ref())?;
    let ended = cut(text, &stop, request.max_completion_tokens.or(request.max_tokens));
    let tokens = tokens::count(&ended.text);
    Ok(Reply { content: Some(ended.text), tool_calls: Vec::new(), reason: ended.reason, tokens })
}

/// The role, a chunk a word or a call, the finish reason.
fn stream(call: &Call, reply: &Reply, index: u32, outputs: &mut Vec<Output>) {
    let mut push =
        |delta, reason: Option<&str>| outputs.push(Output::json(&chunk(call, index, delta, reason)));
    let content = reply.content.as_ref().map(|_| String::new());
    push(Delta { role: Some("assistant".to_owned()), content, ..Delta::default() }, None);
    for word in tokens::words(reply.content.as_deref().unwrap_or_default()) {
        push(Delta { content: Some(word.to_owned()), ..Delta::default() }, None);
    }
    for (nth, tool_call) in reply.tool_calls.iter().enumerate() {
        let delta = |id, name, arguments: &str| ToolCallDelta {
            index: nth as u32,
            kind: Option::<&String>::map(id, |_| "function".to_owned()),
            id: id.cloned(),
            function: Some(FunctionDelta { name, arguments: Some(arguments.to_owned()) }),
        };
        let first = delta(Some(&tool_call.id), Some(tool_call.function.name.clone()), "");
        push(Delta { tool_calls: vec![first], ..Delta::default() }, None);
        let rest = delta(None, None, &tool_call.function.arguments);
        push(Delta { tool_calls: vec![rest], ..Delta::default() }, None);
    }
    push(Delta::default(), Some(reply.reason));
}

fn chunk(call: &Call, index: u32, delta: Delta, reason: Option<&str>) -> ChatChunk {
    ChatChunk {
        id: write::id("chatcmpl", call),
        object: "chat.completion.chunk".to_owned(),
        created: call.created,
        model: call.model.clone(),
        choices: vec![ChunkChoice { index, delta, finish_reason: reason.map(str::to_owned), logprobs: None }],
        usage: None,
        extra: Default::default(),
    }
}

/// How many choices `n` asks for.
pub(crate) fn copies(n: Option<u64>) -> Result<u64, Problem> {
    let copies = n.unwrap_or(1);
    match (1..=MOST_CHOICES).contains(&copies) {
        true => Ok(copies),
        false => Err(Problem::invalid("n", format!("'n' must be 1 to {MOST_CHOICES}."))),
    }
}

/// Whether the caller wants a last chunk with the usage.
pub(crate) fn wants_usage(stream_options: Option<&Value>) -> bool {
    stream_options.and_then(|options| options.get("include_usage")).and_then(Value::as_bool) == Some(true)
}

/// One sequence or several.
pub(crate) fn stop_sequences(stop: Option<&Value>) -> Result<Vec<String>, Problem> {
    match stop {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(several) => serde_json::from_value(several.clone())
            .map_err(|_| Problem::invalid("stop", "'stop' must be a text or a list of texts.")),
    }
}

/// Cuts a text before the first stop sequence, then at the limit.
pub(crate) fn cut(mut text: String, stop: &[String], limit: Option<u64>) -> Ended {
    let at = stop
        .iter()
        .filter(|sequence| !sequence.is_empty())
        .filter_map(|sequence| text.find(sequence.as_str()))
        .min();
    text.truncate(at.unwrap_or(text.len()));
    match limit {
        Some(limit) if tokens::count(&text) > limit => {
            Ended { text: tokens::truncate(&text, limit).to_owned(), reason: "length" }
        }
        _ => Ended { text, reason: "stop" },
    }
}
