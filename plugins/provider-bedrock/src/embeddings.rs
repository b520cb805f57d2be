//! Embeddings by `InvokeModel`: Amazon Titan, a text at a time, and Cohere, lists.
//!
//! The counts are in the answer's head (`x-amzn-bedrock-input-token-count`), for Titan also in the body.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Output, ResponseHead};
use serde::Deserialize;
use serde_json::json;
use shared_canonical::{Fields, embeddings};

use crate::options::Options;

/// The body for this model.
pub(crate) fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let (texts, _) = embeddings::texts(&fields)?;
    let dimensions = fields.get::<u32>("dimensions")?;
    let made = if model.contains("amazon.titan-embed") {
        titan(&texts, model, dimensions)?
    } else if model.contains("cohere.embed") {
        let input_type = fields.get::<String>("input_type")?;
        let wanted = input_type.as_deref().or(options.input_type.as_deref()).unwrap_or("search_document");
        let mut made = json!({"texts": texts, "input_type": wanted, "embedding_types": ["float"]});
        if let Some(made) = made.as_object_mut() {
            made.extend(dimensions.map(|length| ("output_dimension".into(), length.into())));
            made.extend(fields.get::<String>("truncate")?.map(|how| ("truncate".into(), how.into())));
        }
        made
    } else {
        let message = format!("Embeddings of '{model}' aren't offered: Titan's and Cohere's are.");
        return Err(Problem::unsupported("model", message));
    };
    serde_json::to_vec(&made)
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
}

/// Titan takes one text; the first version of its text model has vectors of one length.
fn titan(texts: &[Cow<'_, str>], model: &str, dimensions: Option<u32>) -> Result<serde_json::Value, Problem> {
    let [text] = texts else {
        let message = "Titan embeds one text a request: 'input' must have one.";
        return Err(Problem::unsupported("input", message));
    };
    let mut made = json!({ "inputText": text });
    match (made.as_object_mut(), dimensions) {
        (Some(made), Some(dimensions)) if model.contains("titan-embed-image") => {
            made.insert("embeddingConfig".into(), json!({ "outputEmbeddingLength": dimensions }));
        }
        (Some(made), Some(dimensions)) => drop(made.insert("dimensions".into(), dimensions.into())),
        _ => {}
    }
    Ok(made)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// Titan's.
    #[serde(default)]
    embedding: Option<Vec<f32>>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
    /// Cohere's.
    #[serde(default)]
    embeddings: Option<Vectors>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vectors {
    Floats(Vec<Vec<f32>>),
    ByType { float: Vec<Vec<f32>> },
}

pub(crate) struct EmbeddingsDecoder {
    model: String,
    /// As the head says.
    counted: Option<u64>,
    seen: bool,
}

impl EmbeddingsDecoder {
    pub(crate) fn new(model: String, head: &ResponseHead) -> Self {
        let counted =
            head.header("x-amzn-bedrock-input-token-count").and_then(|text| text.trim().parse().ok());
        Self { model, counted, seen: false }
    }

    pub(crate) fn document(&mut self, data: &[u8]) -> Result<Vec<Output>, Problem> {
        self.seen = true;
        let answer: Answer = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let vectors = match (answer.embedding, answer.embeddings) {
            (Some(vector), _) => Vec::from([vector]),
            (None, Some(Vectors::Floats(vectors) | Vectors::ByType { float: vectors })) => vectors,
            (None, None) => return Err(Problem::bad_answer("it has no embeddings")),
        };
        Ok(embeddings::list(&self.model, vectors, answer.input_text_token_count.or(self.counted)))
    }

    pub(crate) fn finish(&mut self) -> Result<(), Problem> {
        match self.seen {
            true => Ok(()),
            false => Err(Problem::bad_answer("it is empty")),
        }
    }
}
