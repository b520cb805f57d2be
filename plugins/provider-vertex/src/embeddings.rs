//! Text embeddings by `:predict`: an instance for each text, their counts in the answer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::Output;
use serde::{Deserialize, Serialize};
use shared_canonical::{Fields, embeddings};

use crate::options::Options;

#[derive(Serialize)]
struct PredictRequest<'a> {
    instances: Vec<Instance<'a>>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_truncate: Option<bool>,
}

/// The body for a canonical embeddings request.
pub(crate) fn request(body: &[u8], options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let (texts, _) = embeddings::texts(&fields)?;
    let task_type = fields.get::<String>("task_type")?;
    let task_type = task_type.as_deref().or(options.task_type.as_deref());
    let title = fields.get::<String>("title")?;
    let instances =
        texts.iter().map(|text| Instance { content: text, task_type, title: title.as_deref() }).collect();
    let parameters = Parameters {
        output_dimensionality: fields.get("dimensions")?,
        auto_truncate: fields.get("auto_truncate")?,
    };
    serde_json::to_vec(&PredictRequest { instances, parameters })
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
}

#[derive(Deserialize)]
struct PredictAnswer {
    predictions: Vec<Prediction>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Embedding,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
    #[serde(default)]
    statistics: Statistics,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Statistics {
    /// Written as `8` or `8.0`.
    token_count: f64,
}

/// The outputs of an answer.
pub(crate) fn answer(data: &[u8], model: &str) -> Result<Vec<Output>, Problem> {
    let answer: PredictAnswer = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let counts = answer.predictions.iter().map(|one| one.embeddings.statistics.token_count);
    let tokens = counts.filter(|count| (0.0..1e15).contains(count)).sum::<f64>() as u64;
    let vectors = answer.predictions.into_iter().map(|one| one.embeddings.values).collect();
    Ok(embeddings::list(model, vectors, Some(tokens)))
}
