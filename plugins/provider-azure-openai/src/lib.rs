//! OpenAI's models on Azure.
//!
//! The wire format is OpenAI's, so bodies and answers go through untouched, `content_filter_results` and the first
//! chunk with `prompt_filter_results` included. What differs is the address: a deployment in the path and a version in
//! the query, or the v1 API, where the deployment is the `model`. The key is in `api-key`; Microsoft Entra tokens go
//! as bearer tokens. A prompt that the content filter refused is a `content-policy` problem, in each of the two forms
//! that the service tells it in. Source: Azure OpenAI's REST API reference (`2024-10-21`, and v1).
//!
//! **Base URL.** `https://RESOURCE.openai.azure.com`, the same with `/openai`, or with `/openai/v1`, which chooses the
//! v1 API: what the path of the base URL (`base_path`) already has isn't said again.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, Call, ClientCredentialsAuth, Edit, ErrorOutcome, HeaderAuth, NoDecoder, Preparation,
    Provider, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};
use shared_canonical::{kept, media};

mod error;

/// The version of the deployments' API that is sent when none is configured: the newest that isn't a preview.
const API_VERSION: &str = "2024-10-21";

struct AzureOpenAi;

/// The connection's options; see `plugin.json`.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Options {
    route: Option<Route>,
    api_version: Option<String>,
    deployments: BTreeMap<String, String>,
    auth: Credential,
    tenant_id: Option<String>,
    scope: String,
    stream_usage: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Route {
    Deployment,
    V1,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Credential {
    ApiKey,
    Bearer,
    Entra,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            route: None,
            api_version: None,
            deployments: BTreeMap::new(),
            auth: Credential::ApiKey,
            tenant_id: None,
            scope: "https://cognitiveservices.azure.com/.default".to_owned(),
            stream_usage: true,
        }
    }
}

impl Provider for AzureOpenAi {
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &[
                    "stream",
                    "tools",
                    "parallel_tool_calls",
                    "vision",
                    "json_schema",
                    "reasoning",
                    "audio",
                    "logprobs",
                ][..],
            ),
            ("completions", &["stream", "logprobs"]),
            ("embeddings", &["base64", "dimensions"]),
            ("images.generations", &["stream"]),
            ("images.edits", &["stream"]),
            ("audio.speech", &["stream"]),
            ("audio.transcriptions", &["stream"]),
            ("audio.translations", &[]),
            ("realtime", &["audio", "tools"]),
            ("files", &[]),
            ("batches", &[]),
            ("models", &[]),
            ("raw", &[]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        let path = path("chat.completions", "my deployment", None, &Options::default());
        match path.as_deref() {
            Some("/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21") => Ok(()),
            other => Err(Problem::bad_answer(format!("chat completions are at {other:?}"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let options = options(&call.options)?;
        if call.operation == "raw" {
            return Ok(UpstreamRequest::raw().auth(auth(&options)?).into());
        }
        let base =
            call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str());
        let deployment = options.deployments.get(&call.model).unwrap_or(&call.model);
        let auth = auth(&options)?;
        if kept::is_one(&call.operation) {
            let mut request = kept::request(call)?.auth(auth);
            request.path = options.address(request.path.trim_start_matches('/'), None, base);
            return Ok(request.into());
        }
        if call.operation == "realtime" {
            let path = realtime(deployment, base, &options);
            return Ok(UpstreamRequest::get(path).auth(auth).native().into());
        }
        let path = path(&call.operation, deployment, base, &options)
            .ok_or_else(|| Problem::unsupported_operation(call))?;
        if call.operation == "models" {
            return Ok(UpstreamRequest::get(path).auth(auth).native().into());
        }
        if media::path(&call.operation).is_some() {
            let format = body.form_field("response_format");
            let request = UpstreamRequest::post(path).auth(auth);
            return Ok(media::request(call, request, deployment, format.as_deref()).into());
        }
        let mut edits = vec![Edit::set("/model", deployment)];
        if call.streaming && options.stream_usage && call.operation != "embeddings" {
            edits.push(Edit::set("/stream_options/include_usage", &true));
        }
        Ok(UpstreamRequest::post(path).auth(auth).edits(edits).native().into())
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(error::from_answer(head, body))
    }
}

/// Path and query of an operation; none for one that isn't offered.
fn path(operation: &str, deployment: &str, base: Option<&str>, options: &Options) -> Option<String> {
    let name = match operation {
        "chat.completions" => "chat/completions",
        "completions" => "completions",
        "embeddings" => "embeddings",
        "models" => "models",
        // What Azure's own services are for.
        "moderations" | "rerank" => return None,
        other => media::path(other)?.trim_start_matches('/'),
    };
    let deployment = Some(deployment).filter(|_| operation != "models");
    Some(options.address(name, deployment, base))
}

/// Path and query of a realtime session. The deployments' API has it in previews only: who names one gets that, all others
/// the v1 API.
fn realtime(deployment: &str, base: Option<&str>, options: &Options) -> String {
    let (route, version) = match (options.route(base), options.api_version.as_deref()) {
        (Route::Deployment, Some(version)) if version.ends_with("-preview") => {
            (Route::Deployment, Some(version))
        }
        // The version of one API means nothing to the other.
        (Route::Deployment, _) => (Route::V1, None),
        (Route::V1, version) => (Route::V1, version),
    };
    let path = address("realtime", None, base, route, version);
    let before = if version.is_some() { '&' } else { '?' };
    let name = if route == Route::V1 { "model" } else { "deployment" };
    format!("{path}{before}{name}={}", encoded(deployment))
}

/// Path and query of what has this name in the API, of a deployment or of the resource.
fn address(
    name: &str,
    deployment: Option<&str>,
    base: Option<&str>,
    route: Route,
    version: Option<&str>,
) -> String {
    let base = base.unwrap_or_default().trim_end_matches('/');
    let prefix = match base.ends_with("/openai") {
        true => "",
        false => "/openai",
    };
    let mut path = match (route, deployment) {
        (Route::V1, _) if base.ends_with("/openai/v1") => format!("/{name}"),
        (Route::V1, _) => format!("{prefix}/v1/{name}"),
        (Route::Deployment, None) => format!("{prefix}/{name}"),
        (Route::Deployment, Some(deployment)) => {
            format!("{prefix}/deployments/{}/{name}", encoded(deployment))
        }
    };
    if let Some(version) = version {
        path.push_str("?api-version=");
        path.push_str(version);
    }
    path
}

impl Options {
    /// Which API is asked.
    fn route(&self, base: Option<&str>) -> Route {
        let at_v1 = base.is_some_and(|base| base.trim_end_matches('/').ends_with("/openai/v1"));
        self.route.unwrap_or(if at_v1 { Route::V1 } else { Route::Deployment })
    }

    /// What has this name in the API that is asked.
    fn address(&self, name: &str, deployment: Option<&str>, base: Option<&str>) -> String {
        let route = self.route(base);
        let version = self.api_version.as_deref().or((route == Route::Deployment).then_some(API_VERSION));
        address(name, deployment, base, route, version)
    }
}

/// One segment of a path (RFC 3986 section 2.3).
fn encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn auth(options: &Options) -> Result<Auth, Problem> {
    Ok(match (options.auth, &options.tenant_id) {
        (Credential::ApiKey, _) => {
            Auth::Header(HeaderAuth { name: "api-key".to_owned(), prefix: String::new() })
        }
        (Credential::Bearer, _) => Auth::Bearer,
        (Credential::Entra, Some(tenant)) => Auth::ClientCredentials(ClientCredentialsAuth {
            token_url: format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"),
            scope: options.scope.clone(),
        }),
        (Credential::Entra, None) => {
            return Err(Problem::invalid(
                "",
                "The connection's option 'tenant_id' is missing: auth 'entra' needs it.",
            ));
        }
    })
}

/// `{}` is by far the most frequent, and needs no parser.
fn options(json: &[u8]) -> Result<Options, Problem> {
    if json == b"{}" {
        return Ok(Options::default());
    }
    serde_json::from_slice(json)
        .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
}

brokle_plugin::export!(provider: AzureOpenAi);
brokle_plugin::no_std!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_tokens_from_its_tenant() {
        let options = options(br#"{"auth":"entra","tenant_id":"contoso.com"}"#).unwrap_or_default();
        let Ok(Auth::ClientCredentials(asked)) = auth(&options) else { panic!("no client credentials") };
        assert_eq!(asked.token_url, "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token");
        assert_eq!(asked.scope, "https://cognitiveservices.azure.com/.default");
    }
}
