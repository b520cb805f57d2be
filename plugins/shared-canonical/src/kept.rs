//! OpenAI's operations on files and batches that a vendor keeps. The host streams an upload's form and a file's content; what
//! an errand is about is the call's attribute `object`.

use alloc::borrow::ToOwned;
use alloc::format;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, UpstreamRequest};

/// Whether an operation is one of them.
pub fn is_one(operation: &str) -> bool {
    operation.starts_with("files.") || operation.starts_with("batches.")
}

/// What an errand is about: an id, or the `custom_id` of a line.
pub fn object(call: &Call) -> &str {
    call.attributes.iter().find(|(name, _)| name == "object").map_or("", |(_, id)| id.as_str())
}

/// The same where it must be an id.
///
/// # Errors
/// It can't stand in a path.
pub fn id(call: &Call) -> Result<&str, Problem> {
    let invalid = || Problem::invalid("id", "That is no file's or batch's id.");
    Some(object(call)).filter(|id| plain(id)).ok_or_else(invalid)
}

/// The request of such an operation, at its path in OpenAI's API.
///
/// # Errors
/// The id can't stand in a path, or there is no such operation.
pub fn request(call: &Call) -> Result<UpstreamRequest, Problem> {
    let at = |before: &str, end: &str| Ok::<_, Problem>(format!("{before}{}{end}", id(call)?));
    let (method, path) = match call.operation.as_str() {
        "files.create" => return Ok(UpstreamRequest::post("/files").native()),
        "batches.create" => return Ok(UpstreamRequest::post("/batches").native()),
        "files.get" => ("GET", at("/files/", "")?),
        "files.content" => ("GET", at("/files/", "/content")?),
        "files.delete" => ("DELETE", at("/files/", "")?),
        "batches.get" => ("GET", at("/batches/", "")?),
        "batches.cancel" => ("POST", at("/batches/", "/cancel")?),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(UpstreamRequest { method: method.to_owned(), ..UpstreamRequest::get(path).native() })
}

/// Whether a text can stand in a URL as it is.
pub fn plain(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.,".contains(&b))
        && !text.starts_with('.')
}
