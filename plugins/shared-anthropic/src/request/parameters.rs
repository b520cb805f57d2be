//! Everything beside the conversation, the tools and thinking. `README.md` has the table.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alloc::collections::BTreeMap;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::thinking::{Format, OutputConfig, Thinking};
use crate::model::Model;
use crate::options::Options;
use shared_canonical::{Fields, parse};

/// Members that this adapter writes itself, which `anthropic_NAME` can't name.
const OURS: [&str; 16] = [
    "anthropic_version",
    "model",
    "max_tokens",
    "system",
    "messages",
    "tools",
    "tool_choice",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "thinking",
    "output_config",
    "cache_control",
    "stream",
];

/// Refuses what the vendor lacks and what would change the answer, by name.
pub(crate) fn refuse_unsupported(fields: &Fields<'_>, options: &Options) -> Result<(), Problem> {
    if fields.get::<u64>("n")?.is_some_and(|n| n != 1) {
        options.lacks("n", "Anthropic gives one answer a request: 'n' must be 1.")?;
    }
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "Anthropic gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Anthropic has no 'logit_bias'.")?;
    }
    if fields.get::<Vec<String>>("modalities")?.is_some_and(|all| all.iter().any(|one| one != "text")) {
        options.lacks("modalities", "Anthropic answers in text only.")?;
    }
    for (name, instead) in [
        ("functions", "use 'tools'"),
        ("function_call", "use 'tool_choice'"),
        ("web_search_options", "give Anthropic's web search tool in 'tools'"),
    ] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Anthropic has no '{name}': {instead}."))?;
        }
    }
    Ok(())
}

/// `safety_identifier`, else its older name `user`.
pub(crate) fn user_id(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    let newer = fields.get("safety_identifier")?;
    let older = fields.get("user")?;
    Ok(newer.or(older))
}

#[derive(Default)]
pub(crate) struct Sampling<'a> {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<&'a RawValue>,
}

/// What the model takes of temperature, `top_p` and `top_k`. Where it takes none, or thinks, they
/// are dropped: most clients send a temperature without anybody having chosen it.
pub(crate) fn sampling<'a>(
    fields: &Fields<'a>,
    model: Model,
    options: &Options,
    thinking: Option<&Thinking<'_>>,
) -> Result<Sampling<'a>, Problem> {
    let mut temperature = fields.get::<f64>("temperature")?;
    let top_p = fields.get::<f64>("top_p")?;
    if !model.samples() || thinking.is_some_and(Thinking::is_on) {
        return Ok(Sampling::default());
    }
    if temperature.is_some_and(|value| value > 1.0) {
        options.lacks("temperature", "Anthropic's 'temperature' goes from 0 to 1.")?;
        temperature = None;
    }
    let top_p = top_p.filter(|_| temperature.is_none() || !model.one_sampling_parameter());
    Ok(Sampling { temperature, top_p, top_k: fields.raw("top_k") })
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
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

/// The `output_config`, and the instruction that stands in for `json_object`, which the vendor
/// lacks. The caller's own `output_config` goes through as it came, and wins.
pub(crate) fn output<'a>(
    fields: &Fields<'a>,
    model: Model,
    options: &Options,
    effort: Option<&'static str>,
) -> Result<(Option<OutputConfig<'a>>, Option<&'static str>), Problem> {
    let wanted = fields.get::<ResponseFormat<'a>>("response_format")?;
    let (mut format, mut instruction) = (None, None);
    match wanted {
        Some(ResponseFormat { kind, json_schema }) if kind == "json_schema" => {
            let Some(schema) = json_schema.and_then(|json_schema| json_schema.schema) else {
                return Err(Problem::invalid("response_format.json_schema.schema", "A schema is required."));
            };
            match model.structured_outputs() {
                true => format = Some(Format { kind: "json_schema", schema }),
                false => options.lacks("response_format", "This model can't be held to a JSON Schema.")?,
            }
        }
        Some(ResponseFormat { kind, .. }) if kind == "json_object" => {
            instruction = Some("Answer with one JSON object and nothing else.");
        }
        Some(ResponseFormat { kind, .. }) if kind != "text" => {
            return Err(Problem::invalid(
                "response_format.type",
                format!("There is no response format '{kind}'."),
            ));
        }
        _ => {}
    }
    let config = match fields.raw("output_config") {
        Some(raw) => Some(OutputConfig::Raw(raw)),
        None if effort.is_none() && format.is_none() => None,
        None => Some(OutputConfig::Made { effort, format }),
    };
    Ok((config, instruction))
}

type VendorMembers<'a> = (BTreeMap<&'a str, &'a RawValue>, Vec<String>);

/// `anthropic_NAME` as `NAME`; `anthropic_beta` apart, for the header.
pub(crate) fn vendor_members<'f, 'a: 'f>(fields: &'f Fields<'a>) -> Result<VendorMembers<'f>, Problem> {
    let mut members = BTreeMap::new();
    let mut beta: Vec<String> = Vec::new();
    for (full, value) in fields.iter() {
        match full.strip_prefix("anthropic_") {
            None => {}
            Some("beta") => {
                beta = parse(value, full)?;
                if beta.iter().any(|name| {
                    !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                }) {
                    return Err(Problem::invalid(full, "'anthropic_beta' must be a list of feature names."));
                }
            }
            Some(name) if OURS.contains(&name) => {
                return Err(Problem::invalid(
                    full,
                    format!("'{full}' would set '{name}', which this gateway writes."),
                ));
            }
            Some(name) => {
                members.insert(name, value);
            }
        }
    }
    Ok((members, beta))
}
