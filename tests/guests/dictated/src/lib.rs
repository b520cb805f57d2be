//! A provider that asks for what the caller's own request tells it to, in its member `ask`: path, headers, authorization,
//! framing. For the host's tests of what providers may ask for.
//!
//! A form has no members: it says that it read the field `model`, and edits it.
#![expect(clippy::indexing_slicing, reason = "of JSON, which answers null for what isn't there")]

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, ClientCredentialsAuth, Decoder, Ending, FormEdit, Frame, OtherAuth, Output,
    Preparation, Provider, RenameField, ResponseHead, ServiceAccountAuth, SetField, Sigv4Auth,
    UpstreamRequest,
};
use brokle_plugin::{Description, Problem};
use serde_json::{Value, json};

struct Dictated;

/// Gives back what it gets: of a stream each frame with its event's name, else the frame itself.
struct Repeat {
    streaming: bool,
}

impl Provider for Dictated {
    type Decoder = Repeat;

    fn describe() -> Description {
        Description::provider([("chat.completions", &["stream"][..]), ("audio.transcriptions", &[][..])])
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        if call.content_type == "multipart/form-data" {
            return Ok(form(body).into());
        }
        let ask: Value = body.field("/ask").unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut request =
            UpstreamRequest::post(ask["path"].as_str().unwrap_or("/x")).auth(auth(&ask["auth"]));
        for (name, value) in ask["headers"].as_object().into_iter().flatten() {
            request = request.header(name, text(value));
        }
        if let Some(framing) = ask["framing"].as_str() {
            request = request.decoded(framing);
        }
        if let Some(body) = ask.get("body") {
            request = request.json(body);
        }
        Ok(request.into())
    }
}

fn auth(ask: &Value) -> Auth {
    let text = |pointer: &str| ask.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    match ask["scheme"].as_str() {
        Some("sigv4") => Auth::Sigv4(Sigv4Auth { service: text("/service"), region: text("/region") }),
        Some("client-credentials") => Auth::ClientCredentials(ClientCredentialsAuth {
            token_url: text("/token_url"),
            scope: text("/scope"),
        }),
        Some("service-account") => Auth::ServiceAccount(ServiceAccountAuth {
            token_url: text("/token_url"),
            scope: text("/scope"),
            audience: text("/audience"),
        }),
        Some(scheme) => Auth::Other(OtherAuth { scheme: scheme.to_owned(), params: Vec::new() }),
        None => Auth::Bearer,
    }
}

fn form(body: &Body) -> UpstreamRequest {
    let model = body.form_field("model").unwrap_or_else(|| "none".into());
    let file = body.form_field("file").unwrap_or_else(|| "none".into());
    let mut request = UpstreamRequest::post(format!("/{model}/{file}"));
    request.body = BodyPlan::Form(vec![
        FormEdit::Set(SetField { name: "model".into(), value: format!("vendor-{model}") }),
        FormEdit::Rename(RenameField { name: "file".into(), to: "audio".into() }),
        FormEdit::Remove("prompt".into()),
    ]);
    request
}

impl Decoder for Repeat {
    fn new(call: Call, _: ResponseHead, _: Vec<u8>) -> Self {
        Self { streaming: call.streaming }
    }
    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let output = |frame: Frame| match self.streaming {
            true => {
                Output::json(&json!({"event": frame.event, "data": String::from_utf8_lossy(&frame.data)}))
            }
            false => Output::Chunk(frame.data),
        };
        Ok(frames.into_iter().map(output).collect())
    }
    fn finish(&mut self) -> Result<Ending, Problem> {
        Ok(Ending { outputs: Vec::new(), next: None })
    }
}

brokle_plugin::export!(provider: Dictated);
