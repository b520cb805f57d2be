//! From a canonical chat request to a Messages request.
//!
//! The canonical body is read member by member and never rebuilt from a tree: what isn't
//! translated is carried as the bytes that it came in. A member that is there and doesn't fit is a
//! problem with its name as `param`; a member that this adapter doesn't know is left out, except
//! the vendor's own: `thinking`, `top_k`, `output_config`, `cache_control` go through, and
//! `anthropic_NAME` goes out as `NAME` (`anthropic_beta` as the header).

mod blocks;
mod fields;
mod input;
mod messages;
mod parameters;
mod thinking;
mod tools;

use brokle_plugin::Problem;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::Model;
use crate::options::Options;
use blocks::{Block, Turn};
use fields::Fields;
use thinking::{OutputConfig, Thinking};
use tools::{Tool, ToolChoice};

/// What goes to the vendor.
pub(crate) struct Outgoing {
    /// The body of `POST /v1/messages`.
    pub(crate) body: Vec<u8>,
    /// What the caller's `anthropic_beta` asked for.
    pub(crate) beta: Vec<String>,
}

/// The body, in the API reference's words.
#[derive(Serialize)]
struct MessagesRequest<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToolChoice>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a RawValue>,
    stream: bool,
    #[serde(flatten)]
    vendor: std::collections::BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct Metadata {
    user_id: String,
}

/// Translates a canonical body for this model.
pub(crate) fn translate(
    body: &[u8],
    model: &str,
    streaming: bool,
    options: &Options,
) -> Result<Outgoing, Problem> {
    let fields = Fields::parse(body)?;
    let generation = Model::named(model);
    parameters::refuse_unsupported(&fields, options)?;

    let mut conversation = messages::translate(&fields)?;
    let tools = tools::definitions(&fields, options)?;
    let tool_choice = tools::choice(&fields, !tools.is_empty())?;
    let max_tokens = parameters::max_tokens(&fields)?
        .or(options.max_tokens)
        .unwrap_or_else(|| generation.default_max_tokens());
    let reasoning = thinking::Request {
        max_tokens,
        forced_tool: tool_choice.as_ref().is_some_and(ToolChoice::is_forced),
        bare_tool_turn: conversation.bare_tool_turn,
    };
    let (thinking, effort) = thinking::decide(&fields, generation, options, &reasoning)?;
    let (output_config, instruction) = parameters::output(&fields, generation, options, effort)?;
    conversation.system.extend(instruction.map(Block::text));
    let sampling = parameters::sampling(&fields, generation, options, thinking.as_ref())?;
    let (vendor, beta) = parameters::vendor_members(&fields)?;

    let request = MessagesRequest {
        model,
        max_tokens,
        system: conversation.system,
        messages: conversation.turns,
        tools,
        tool_choice,
        stop_sequences: parameters::stop_sequences(&fields)?,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        metadata: parameters::user_id(&fields)?.map(|user_id| Metadata { user_id }),
        thinking,
        output_config,
        cache_control: fields.raw("cache_control"),
        stream: streaming,
        vendor,
    };
    let body = serde_json::to_vec(&request)
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))?;
    Ok(Outgoing { body, beta })
}

#[cfg(test)]
mod tests;
