//! A running server, asked over HTTP.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, Url};
use serde_json::Value;

/// A pull from a registry and a compilation have their time too.
const TIMEOUT: Duration = Duration::from_secs(180);

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Where the server is.
    #[arg(long, env = "BROKLE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: Url,
    /// An API key with the scope; better in the variable, where other users of the machine don't see it.
    #[arg(long, env = "BROKLE_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What goes with a request.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Json(Value),
    Component { bytes: Vec<u8>, signature: Option<String> },
}

impl Server {
    /// Asks for a path below `/api/v1`; the answer's JSON, or `null` if it has none.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        payload: Payload,
    ) -> Result<Value, Failure> {
        let key = self.key.as_deref().ok_or("an API key is needed: set BROKLE_API_KEY, or give --key")?;
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| "--url: a URL such as http://127.0.0.1:8080 is expected")?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        let mut request = client()?.request(method, url).bearer_auth(key);
        request = match payload {
            Payload::Nothing => request,
            Payload::Json(value) => {
                request.header("content-type", "application/json").body(value.to_string())
            }
            Payload::Component { bytes, signature } => {
                let request = request.header("content-type", "application/wasm").body(bytes);
                match signature {
                    Some(signature) => request.header("x-plugin-signature", signature),
                    None => request,
                }
            }
        };
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(json);
        }
        let member = |name: &str| json.get(name).and_then(Value::as_str);
        let code = member("code").unwrap_or(status.as_str()).to_owned();
        let detail = member("detail").unwrap_or("the server said no more").to_owned();
        Err(format!("{code}: {detail}").into())
    }
}

fn client() -> Result<reqwest::Client, Failure> {
    // The one TLS library here is rustls with ring; the client takes the process' provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    // A key isn't sent to where a redirect leads.
    let redirects = reqwest::redirect::Policy::none();
    Ok(reqwest::Client::builder().redirect(redirects).timeout(TIMEOUT).build()?)
}
