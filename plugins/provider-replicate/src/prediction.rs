//! Predictions: reading them, asking again while they run.
//!
//! A prediction is `starting`, `processing`, then `succeeded`, `failed` or `canceled`; its output is a text, or a list of
//! texts that grows. Streamed, each answer's decoder is told by the one before how much has been passed on. It is asked
//! again after 0.5 s at first and 30 s at last: 15 times, in all 2 minutes, since the host allows 16 further requests.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Call, Decoder, Ending, Frame, NextRequest, Output, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared_canonical::url::segment;
use shared_canonical::{Chat, Usage};

use crate::error;

/// Before each further request, in milliseconds.
const WAITS: [u32; 15] =
    [500, 500, 500, 1000, 1000, 1500, 2000, 3000, 4000, 5000, 8000, 12_000, 20_000, 30_000, 30_000];

/// What one answer's decoder tells the next one's.
#[derive(Serialize, Deserialize, Default)]
struct Progress {
    /// Further requests so far.
    asked: usize,
    /// Whether the role was passed on.
    begun: bool,
    /// Bytes of the output that were.
    passed: usize,
}

#[derive(Deserialize)]
struct Prediction {
    id: String,
    status: String,
    #[serde(default)]
    output: Option<Piece>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    metrics: Option<Metrics>,
}

/// What models give: a text, or a list of texts; null while there is nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Texts(Vec<String>),
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    input_token_count: Option<u64>,
    #[serde(default)]
    output_token_count: Option<u64>,
}

/// One answer about a prediction.
pub(crate) struct PredictionDecoder {
    chat: Chat,
    streaming: bool,
    prefix: &'static str,
    progress: Progress,
    next: Option<NextRequest>,
    seen: bool,
}

impl Decoder for PredictionDecoder {
    fn new(call: Call, _head: ResponseHead, state: Vec<u8>) -> Self {
        Self {
            chat: Chat::new(&call),
            streaming: call.streaming,
            prefix: crate::prefix(&call),
            // The first answer has none.
            progress: serde_json::from_slice(&state).unwrap_or_default(),
            next: None,
            seen: false,
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::new();
        for frame in frames {
            self.seen = true;
            let prediction = serde_json::from_slice(&frame.data).map_err(Problem::bad_answer)?;
            self.prediction(prediction, &mut outputs)?;
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self.seen {
            true => Ok(Ending { outputs: Vec::new(), next: self.next.take() }),
            false => Err(Problem::bad_answer("it is empty")),
        }
    }
}

impl PredictionDecoder {
    fn prediction(&mut self, prediction: Prediction, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let text = match prediction.output {
            None => String::new(),
            Some(Piece::Text(text)) => text,
            Some(Piece::Texts(texts)) => texts.concat(),
        };
        self.chat.identify(&prediction.id);
        match prediction.status.as_str() {
            "succeeded" => {
                self.pass(&text, outputs);
                let usage = prediction.metrics.as_ref().and_then(Metrics::usage);
                outputs.extend(usage.as_ref().map(Usage::entries));
                self.chat.end(("stop", "succeeded"), Map::new(), usage.as_ref(), outputs);
            }
            "starting" | "processing" | "queued" => {
                if self.streaming && !text.is_empty() {
                    self.pass(&text, outputs);
                }
                self.next = Some(self.again(&prediction.id)?);
            }
            status => {
                let error = match prediction.error {
                    Some(Value::String(text)) if !text.is_empty() => text,
                    Some(Value::Null) | None => format!("The prediction ended as {status}."),
                    Some(other) => format!("The prediction ended as {status}: {other}"),
                };
                outputs.push(Output::Failure(error::of_prediction(&error)));
            }
        }
        Ok(())
    }

    /// Passes on what wasn't yet.
    fn pass(&mut self, text: &str, outputs: &mut Vec<Output>) {
        if !core::mem::replace(&mut self.progress.begun, true) {
            self.chat.begin(outputs);
        }
        // An output only grows; one that doesn't has nothing new.
        let new = text.get(self.progress.passed..).unwrap_or_default();
        self.chat.text("content", new, outputs);
        self.progress.passed = self.progress.passed.max(text.len());
    }

    fn again(&mut self, id: &str) -> Result<NextRequest, Problem> {
        let Some(delay_ms) = WAITS.get(self.progress.asked).copied() else {
            return Err(Problem::new(ProblemKind::Timeout, "The prediction took more than two minutes."));
        };
        self.progress.asked += 1;
        let request = UpstreamRequest::get(format!("{}/predictions/{}", self.prefix, segment(id)));
        let state = serde_json::to_vec(&self.progress).map_err(Problem::bad_answer)?;
        Ok(NextRequest { request, delay_ms, state })
    }
}

impl Metrics {
    fn usage(&self) -> Option<Usage> {
        let (input, output) = (self.input_token_count?, self.output_token_count?);
        Some(Usage { input, output, ..Usage::default() })
    }
}
