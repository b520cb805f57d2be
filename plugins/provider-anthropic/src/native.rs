//! Calls that came in Anthropic's own dialect: nothing but the model's name changes.
//!
//! What the caller says in `anthropic-version` and `anthropic-beta` goes; the connection's options fill in what it doesn't
//! say, and add to the beta features.

use alloc::format;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Edit, UpstreamRequest};

use shared_anthropic::Options;

use crate::options::Address;

/// Its name.
pub(crate) const DIALECT: &str = "anthropic.messages";

/// The request, with the caller's own body.
pub(crate) fn upstream(call: &Call) -> Result<UpstreamRequest, Problem> {
    let (address, options) = (Address::parse(&call.options)?, Options::parse(&call.options)?);
    let path = match call.operation.as_str() {
        "messages" => "/messages",
        "messages.count-tokens" => "/messages/count_tokens",
        _ => return Err(Problem::unsupported_operation(call)),
    };
    // The API's clients name its beta surface so.
    let query = if attribute(call, "query.beta") == Some("true") { "?beta=true" } else { "" };
    let path = format!("{}{path}{query}", address.prefix(crate::base_path(call)));
    let request = UpstreamRequest::post(path).edits([Edit::set("/model", &call.model)]).native();
    let mut request = crate::identified(request, &address);
    if attribute(call, "header.anthropic-version").is_some() {
        request.headers.retain(|header| header.name != "anthropic-version");
    }
    if !options.beta.is_empty() {
        let mut betas = options.beta.join(",");
        if let Some(asked) = attribute(call, "header.anthropic-beta") {
            betas = format!("{asked},{betas}");
        }
        request = request.header("anthropic-beta", betas);
    }
    Ok(request)
}

fn attribute<'a>(call: &'a Call, wanted: &str) -> Option<&'a str> {
    call.attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}
