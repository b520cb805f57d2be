//! From a canonical chat request to `Converse`'s.
//!
//! The canonical body is read member by member; schemas, earlier arguments and signatures are carried as the bytes that
//! they came in. A member that is there and doesn't fit is a problem with its name as `param`; a member that this adapter
//! doesn't know is left out. The vendor's own go through, in OpenAI's spelling or in the vendor's:
//! `additional_model_request_fields`, `guardrail_config`, `performance_config`, `request_metadata`.

mod blocks;
mod messages;
mod model_fields;
mod parameters;
mod parts;
mod tools;

use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Serialize;
use serde_json::value::RawValue;
use shared_canonical::{Fields, Text};

use crate::family::Family;
use crate::options::Options;
use blocks::{Block, Turn};
use model_fields::ModelFields;
use parameters::{GuardrailConfig, InferenceConfig, OutputConfig, ServiceTier};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConverseRequest<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "InferenceConfig::is_empty")]
    inference_config: InferenceConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<tools::ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guardrail_config: Option<GuardrailConfig<'a>>,
    #[serde(skip_serializing_if = "ModelFields::is_empty")]
    additional_model_request_fields: ModelFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    performance_config: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<ServiceTier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_metadata: Option<&'a RawValue>,
}

/// The body for this model.
pub(crate) fn translate(
    body: &[u8],
    model: &str,
    streaming: bool,
    options: &Options,
) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    parameters::refuse_unsupported(&fields, options)?;
    let family = Family::of(model);
    let mut conversation = messages::translate(&fields)?;
    let output = parameters::output(&fields, family, options)?;
    conversation.system.extend(output.instruction.map(|text| Block::Text(Text::Made(text))));

    let limit = fields.max_tokens()?;
    let mut config = tools::config(&fields, options, output.tool, conversation.has_calls)?;
    let mut model_fields = ModelFields::of_caller(&fields)?;
    let reasoning = model_fields.reason(
        &fields,
        family,
        options,
        &model_fields::Around {
            limit,
            forced_tool: config.as_ref().is_some_and(tools::ToolConfig::is_forced),
            bare_tool_turn: conversation.bare_tool_turn,
        },
    )?;
    if reasoning.is_on
        && let Some(config) = &mut config
    {
        // A model that thinks by a budget can't be made to call the tool that stands in for a schema.
        config.relax(output.tool.is_some());
    }
    model_fields.one_call_at_a_time(&fields, family, options, config.as_mut())?;
    model_fields.top_k(&fields, family)?;

    let request = ConverseRequest {
        messages: conversation.turns,
        system: conversation.system,
        inference_config: parameters::inference(&fields, family, &reasoning, options)?,
        tool_config: config,
        output_config: output.config,
        guardrail_config: parameters::guardrail(&fields, options, streaming)?,
        additional_model_request_fields: model_fields,
        performance_config: either(&fields, "performance_config", "performanceConfig"),
        service_tier: parameters::service_tier(&fields)?,
        request_metadata: either(&fields, "request_metadata", "requestMetadata"),
    };
    serde_json::to_vec(&request)
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
}

/// A member of the vendor's own, in either spelling.
fn either<'a>(fields: &Fields<'a>, ours: &str, vendors: &str) -> Option<&'a RawValue> {
    fields.raw(ours).or_else(|| fields.raw(vendors))
}

#[cfg(test)]
mod tests;
