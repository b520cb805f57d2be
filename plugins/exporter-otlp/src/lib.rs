//! Observations as spans, to any back end that takes OTLP over HTTP.
//!
//! A batch is one request: one resource (`service.name`, the organization and the project), one scope (`brokle`), and a span
//! for each observation and for what happened inside it, in protobuf or JSON. Ids stay what they are, so that spans that an
//! application sent to the same back end itself belong to the same traces. What becomes of what is in [`span`].
//!
//! 429, 502, 503 and 504 bring the batch again, when `Retry-After` says so; a partial success is counted and isn't.

mod encode;
mod response;
mod span;

use std::collections::BTreeMap;

use brokle_plugin::ConfigProblem;
use brokle_plugin::exporter::{Batch, Exporter, Failure, Receipt};
use brokle_plugin::host::{self, http};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::encode::Encoding;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    path: Option<String>,
    host: Option<String>,
    encoding: Encoding,
    headers: BTreeMap<String, String>,
    authentication: Authentication,
    service_name: Option<String>,
    resource: Map<String, Value>,
    content: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Authentication {
    #[default]
    None,
    Bearer {
        #[serde(default = "token")]
        secret: String,
    },
    Basic {
        #[serde(default = "token")]
        secret: String,
        #[serde(default)]
        username: String,
    },
    Header {
        #[serde(default = "token")]
        secret: String,
        #[serde(default)]
        header: String,
    },
}

fn token() -> String {
    "token".to_owned()
}

impl Authentication {
    fn credential(self) -> http::Credential {
        match self {
            Self::None => http::Credential::None,
            Self::Bearer { secret } => http::Credential::Bearer(secret),
            Self::Basic { secret, username } => {
                http::Credential::Basic(http::BasicCredential { username, secret })
            }
            Self::Header { secret, header } => http::Credential::Header(http::HeaderCredential {
                name: header.to_ascii_lowercase(),
                prefix: String::new(),
                secret,
            }),
        }
    }
}

impl Config {
    /// The resource's attributes.
    fn resource(&self, batch: &Batch) -> Map<String, Value> {
        let mut attributes = self.resource.clone();
        let name = self.service_name.as_deref().unwrap_or("brokle");
        for (key, value) in [
            ("service.name", name),
            ("brokle.organization_id", &batch.organization_id),
            ("brokle.project_id", &batch.project_id),
        ] {
            attributes.insert(key.to_owned(), value.into());
        }
        attributes
    }
}

struct Otlp;

impl Exporter for Otlp {
    fn check_config(config: Value) -> Result<(), Vec<ConfigProblem>> {
        let problem = |pointer: &str, message: &str| {
            Err(vec![ConfigProblem { pointer: pointer.to_owned(), message: message.to_owned() }])
        };
        let said = |name: &str| config.pointer(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        match said("/authentication/type") {
            Some("header") if said("/authentication/header").is_none() => {
                problem("/authentication/header", "the header's name is required")
            }
            Some("basic") if said("/authentication/username").is_none() => {
                problem("/authentication/username", "the user's name is required")
            }
            _ => Ok(()),
        }
    }

    fn export(batch: &Batch) -> Result<Receipt, Failure> {
        let config: Config = host::config().map_err(|error| Failure::config(&error))?;
        let mut spans = Vec::new();
        for observation in batch.read()? {
            span::collect(observation, config.content.unwrap_or(true), &mut spans);
        }
        let body = encode::request(config.encoding, &config.resource(batch), &spans);
        let mut request = http::Request::post("receiver", config.path.as_deref().unwrap_or("/v1/traces"));
        request.host = config.host;
        for (name, value) in &config.headers {
            request = request.header(&name.to_ascii_lowercase(), value);
        }
        let request = request
            .header("content-type", config.encoding.media_type())
            .credential(config.authentication.credential())
            .body(&body);
        let answer = request.send().map_err(Failure::unsent)?;
        Receipt::of_status(&answer, batch)?;
        Ok(response::receipt(&answer))
    }
}

brokle_plugin::export!(exporter: Otlp);
