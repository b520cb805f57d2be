//! OpenAI's operations on pictures and sound: what isn't JSON on the way in or on the way out.

use alloc::string::String;
use alloc::vec;

use brokle_plugin::provider::{BodyPlan, Call, Edit, FormEdit, ResponsePlan, SetField, UpstreamRequest};

/// The path of such an operation in OpenAI's API, and of the other ones that answer as they were asked.
pub fn path(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "images.generations" => "/images/generations",
        "images.edits" => "/images/edits",
        "audio.speech" => "/audio/speech",
        "audio.transcriptions" => "/audio/transcriptions",
        "audio.translations" => "/audio/translations",
        "moderations" => "/moderations",
        "rerank" => "/rerank",
        _ => return None,
    })
}

/// The request: the caller's, with the vendor's name of the model. `format` is the form's `response_format`.
pub fn request(
    call: &Call,
    mut request: UpstreamRequest,
    model: &str,
    format: Option<&str>,
) -> UpstreamRequest {
    let form = call.content_type == "multipart/form-data";
    request.body = match form {
        true => {
            BodyPlan::Form(vec![FormEdit::Set(SetField { name: "model".into(), value: String::from(model) })])
        }
        false => BodyPlan::Edits(vec![Edit::set("/model", model)]),
    };
    // Sound, subtitles and plain text have nothing in them to count; events of sound do.
    let opaque = (call.operation == "audio.speech" && !call.streaming)
        || (form
            && call.operation != "images.edits"
            && format.is_some_and(|format| !format.ends_with("json")));
    request.response = if opaque { ResponsePlan::Opaque } else { ResponsePlan::Native };
    request
}
