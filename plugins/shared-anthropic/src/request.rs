//! From a canonical chat request to a Messages request.
//!
//! The canonical body is read member by member and never rebuilt from a tree: what isn't
//! translated is carried as the bytes that it came in. A member that is there and doesn't fit is a
//! problem with its name as `param`; a member that this adapter doesn't know is left out, except
//! the vendor's own: `thinking`, `top_k`, `output_config`, `cache_control` go through, and
//! `anthropic_NAME` goes out as `NAME` (`anthropic_beta` as the header).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod blocks;
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
use shared_canonical::{Fields, Text};
pub use thinking::{OutputConfig, Request as ThinkingContext, Thinking, decide as decide_thinking};
use tools::{Tool, ToolChoice};

/// Who offers the API: what is said of model and version differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// The model is in the body; the version, by which the API is told, in a header.
    Anthropic,
    /// A cloud: the model is in the path, its version of the API (`vertex-2023-10-16`) in the body.
    Cloud(&'a str),
}

/// What goes to the vendor.
#[derive(Debug)]
pub struct Outgoing {
    /// The body of `POST /v1/messages`.
    pub body: Vec<u8>,
    /// The beta features that the options and the caller's `anthropic_beta` ask for, for the header; none: no header.
    pub beta: Option<String>,
}

/// The body, in the API reference's words.
#[derive(Serialize)]
struct MessagesRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
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
    vendor: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct Metadata {
    user_id: String,
}

/// Translates a canonical body for this model.
///
/// # Errors
/// What can't be served as written, with its `param`.
pub fn translate(
    body: &[u8],
    model: &str,
    streaming: bool,
    options: &Options,
    destination: Destination<'_>,
) -> Result<Outgoing, Problem> {
    let fields = Fields::parse(body)?;
    let generation = Model::named(model);
    parameters::refuse_unsupported(&fields, options)?;

    let mut conversation = messages::translate(&fields)?;
    let tools = tools::definitions(&fields, options)?;
    let tool_choice = tools::choice(&fields, !tools.is_empty())?;
    let max_tokens =
        fields.max_tokens()?.or(options.max_tokens).unwrap_or_else(|| generation.default_max_tokens());
    let reasoning = thinking::Request {
        max_tokens,
        forced_tool: tool_choice.as_ref().is_some_and(ToolChoice::is_forced),
        bare_tool_turn: conversation.bare_tool_turn,
    };
    let (thinking, effort) = thinking::decide(&fields, generation, options, &reasoning)?;
    let (output_config, instruction) = parameters::output(&fields, generation, options, effort)?;
    conversation.system.extend(instruction.map(|text| Block::text(Text::Made(text))));
    let sampling = parameters::sampling(&fields, generation, options, thinking.as_ref())?;
    let (vendor, beta) = parameters::vendor_members(&fields)?;

    let request = MessagesRequest {
        anthropic_version: match destination {
            Destination::Anthropic => None,
            Destination::Cloud(version) => Some(version),
        },
        model: (destination == Destination::Anthropic).then_some(model),
        max_tokens,
        system: conversation.system,
        messages: conversation.turns,
        tools,
        tool_choice,
        stop_sequences: fields.stop()?,
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
    let betas: Vec<_> = options.beta.iter().chain(&beta).map(String::as_str).collect();
    Ok(Outgoing { body, beta: (!betas.is_empty()).then(|| betas.join(",")) })
}

#[cfg(test)]
mod tests;
