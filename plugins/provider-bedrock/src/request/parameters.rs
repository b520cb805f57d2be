//! Everything beside the conversation, the tools and what is one maker's. `README.md` has the table.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_canonical::Fields;

use super::model_fields::Reasoning;
use crate::family::Family;
use crate::options::Options;

/// Refuses what the vendor lacks and what would change the answer, by name.
pub(crate) fn refuse_unsupported(fields: &Fields<'_>, options: &Options) -> Result<(), Problem> {
    if fields.get::<u64>("n")?.is_some_and(|n| n != 1) {
        options.lacks("n", "Bedrock gives one answer a request: 'n' must be 1.")?;
    }
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "Bedrock gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Bedrock has no 'logit_bias'.")?;
    }
    if fields.get::<Vec<String>>("modalities")?.is_some_and(|all| all.iter().any(|one| one != "text")) {
        options.lacks("modalities", "Bedrock's Converse answers in text only.")?;
    }
    for (name, instead) in [
        ("functions", "use 'tools'"),
        ("function_call", "use 'tool_choice'"),
        ("web_search_options", "give a tool of the vendor's in 'tools'"),
    ] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Bedrock has no '{name}': {instead}."))?;
        }
    }
    Ok(())
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InferenceConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
}

impl InferenceConfig {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The limit and the sampling. Where a model takes no sampling, or thinks, it is dropped: most clients send a temperature
/// without anybody having chosen it.
pub(crate) fn inference(
    fields: &Fields<'_>,
    family: Family,
    reasoning: &Reasoning,
    options: &Options,
) -> Result<InferenceConfig, Problem> {
    let stop_sequences = fields.stop()?;
    let (mut temperature, mut top_p) = (fields.get::<f64>("temperature")?, fields.get::<f64>("top_p")?);
    let mut max_tokens = fields.max_tokens()?.or(reasoning.max_tokens);
    match family {
        Family::Claude(model) if reasoning.is_on || !model.samples() => (temperature, top_p) = (None, None),
        Family::Claude(model) if model.one_sampling_parameter() && temperature.is_some() => top_p = None,
        Family::Nova2 if reasoning.is_high => (temperature, top_p, max_tokens) = (None, None, None),
        _ => {}
    }
    if temperature.is_some_and(|value| value > 1.0) {
        options.lacks("temperature", "Bedrock's 'temperature' goes from 0 to 1.")?;
        temperature = None;
    }
    Ok(InferenceConfig { max_tokens, temperature, top_p, stop_sequences })
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
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputConfig<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: SchemaText<'a>,
}

/// The schema is a text here, not an object.
#[derive(Serialize)]
struct SchemaText<'a> {
    schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// What an answer is held to.
#[derive(Default)]
pub(crate) struct Form<'a> {
    pub(crate) config: Option<OutputConfig<'a>>,
    /// The schema of the tool that stands in.
    pub(crate) tool: Option<&'a RawValue>,
    /// What stands in for `json_object`, which the vendor lacks.
    pub(crate) instruction: Option<&'static str>,
}

pub(crate) fn output<'a>(
    fields: &Fields<'a>,
    family: Family,
    options: &Options,
) -> Result<Form<'a>, Problem> {
    let Some(wanted) = fields.get::<ResponseFormat<'a>>("response_format")? else {
        return Ok(Form::default());
    };
    match (wanted.kind.as_str(), wanted.json_schema) {
        ("text", _) => Ok(Form::default()),
        ("json_object", _) => {
            let instruction = Some("Answer with one JSON object and nothing else.");
            Ok(Form { instruction, ..Form::default() })
        }
        ("json_schema", Some(JsonSchema { schema: Some(schema), name, description })) => {
            if !family.has_schemas(options.json_schema) {
                return Ok(Form { tool: Some(schema), ..Form::default() });
            }
            let json_schema = SchemaText { schema: schema.get(), name, description };
            let text_format = TextFormat { kind: "json_schema", structure: Structure { json_schema } };
            Ok(Form { config: Some(OutputConfig { text_format }), ..Form::default() })
        }
        ("json_schema", _) => {
            Err(Problem::invalid("response_format.json_schema.schema", "A schema is required."))
        }
        (other, _) => {
            let message = format!("There is no response format '{other}'.");
            Err(Problem::invalid("response_format.type", message))
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum GuardrailConfig<'a> {
    Raw(&'a RawValue),
    #[serde(rename_all = "camelCase")]
    Made {
        guardrail_identifier: String,
        guardrail_version: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stream_processing_mode: Option<String>,
    },
}

/// The operator's guardrail; a caller's only where there is none, so that nobody gets round it.
pub(crate) fn guardrail<'a>(
    fields: &Fields<'a>,
    options: &Options,
    streaming: bool,
) -> Result<Option<GuardrailConfig<'a>>, Problem> {
    let wanted = super::either(fields, "guardrail_config", "guardrailConfig");
    match (&options.guardrail, wanted) {
        (Some(_), Some(_)) => {
            let message = "This connection has a guardrail of its own, which requests can't replace.";
            Err(Problem::invalid("guardrail_config", message))
        }
        (None, wanted) => Ok(wanted.map(GuardrailConfig::Raw)),
        (Some(own), None) => Ok(Some(GuardrailConfig::Made {
            guardrail_identifier: own.id.clone(),
            guardrail_version: own.version.clone(),
            trace: own.trace.clone(),
            // The API has it in streams only.
            stream_processing_mode: own.stream_mode.clone().filter(|_| streaming),
        })),
    }
}

#[derive(Serialize)]
pub(crate) struct ServiceTier {
    #[serde(rename = "type")]
    kind: String,
}

/// `service_tier`; `auto` is the vendor's default.
pub(crate) fn service_tier(fields: &Fields<'_>) -> Result<Option<ServiceTier>, Problem> {
    let wanted = fields.get::<String>("service_tier")?.filter(|tier| tier != "auto");
    Ok(wanted.map(|kind| ServiceTier { kind }))
}
