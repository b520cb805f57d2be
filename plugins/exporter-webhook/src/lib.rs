//! Observations to an endpoint of the operator's own, signed as Standard Webhooks says.
//!
//! ```json
//! {"type": "observations", "batch_id": "5f4d…", "organization_id": "01…", "project_id": "01…", "observations": [{…}]}
//! ```
//!
//! | header | what |
//! |---|---|
//! | `webhook-id`, `idempotency-key` | the batch's id, the same whenever the same batch comes again |
//! | `webhook-timestamp` | seconds since 1970, of this delivery |
//! | `webhook-signature` | `v1,` and the base64 of HMAC-SHA-256 over `ID.TIMESTAMP.BODY` by the secret `signing-key` |
//!
//! The body is the same bytes at each delivery. An observation whose body can't be signed in one piece (more than 1 MiB) goes
//! without its input and output, and says so: `"withheld": ["input", "output"]`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use brokle_plugin::exporter::{Batch, Exporter, Failure, Receipt};
use brokle_plugin::host::{self, clock, crypto, http, secrets};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What the host signs at once, less what is signed beside the body.
const MAX_BODY: usize = (1 << 20) - 256;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    path: Option<String>,
    host: Option<String>,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    batch_id: &'a str,
    organization_id: &'a str,
    project_id: &'a str,
    observations: Vec<Box<RawValue>>,
}

struct Webhook;

fn raw(json: &[u8]) -> Result<Box<RawValue>, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::Refused(format!("an observation can't be read: {error}")))
}

fn body(batch: &Batch, observations: Vec<Box<RawValue>>) -> Result<Vec<u8>, Failure> {
    let body = Body {
        kind: "observations",
        batch_id: &batch.id,
        organization_id: &batch.organization_id,
        project_id: &batch.project_id,
        observations,
    };
    serde_json::to_vec(&body).map_err(|error| Failure::Other(error.to_string()))
}

/// The whole body; of one observation that is too large, without its content.
fn written(batch: &Batch) -> Result<Vec<u8>, Failure> {
    let observations = batch.observations.iter().map(|json| raw(json)).collect::<Result<_, _>>()?;
    let whole = body(batch, observations)?;
    if whole.len() <= MAX_BODY {
        return Ok(whole);
    }
    let too_large = || Failure::Refused(format!("it has more than {MAX_BODY} bytes"));
    let [alone] = batch.observations.as_slice() else { return Err(too_large()) };
    let mut members: Map<String, Value> =
        serde_json::from_slice(alone).map_err(|error| Failure::Refused(error.to_string()))?;
    for content in ["input", "output"] {
        members.insert(content.into(), Value::Null);
    }
    members.insert("withheld".into(), Value::from(vec!["input", "output"]));
    let less = body(batch, vec![raw(Value::Object(members).to_string().as_bytes())?])?;
    if less.len() <= MAX_BODY { Ok(less) } else { Err(too_large()) }
}

fn signature(id: &str, timestamp: u64, body: &[u8]) -> Result<String, Failure> {
    let missing = |what: String| Failure::Misconfigured(format!("it can't be signed: {what}"));
    let key = secrets::open("signing-key").map_err(|error| missing(format!("the secret: {error:?}")))?;
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let mac = crypto::hmac("sha-256", &key, &signed).map_err(|error| missing(format!("{error:?}")))?;
    Ok(format!("v1,{}", STANDARD.encode(mac)))
}

impl Exporter for Webhook {
    fn export(batch: &Batch) -> Result<Receipt, Failure> {
        let config: Config = host::config().map_err(|error| Failure::config(&error))?;
        let body = written(batch)?;
        let now = clock::now().map_err(|error| Failure::Misconfigured(format!("the clock: {error:?}")))?;
        let timestamp = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut request = http::Request::post("receiver", config.path.as_deref().unwrap_or("/"));
        request.host = config.host;
        for (name, value) in &config.headers {
            request = request.header(&name.to_ascii_lowercase(), value);
        }
        let request = request
            .header("content-type", "application/json")
            .header("idempotency-key", &batch.id)
            .header("webhook-id", &batch.id)
            .header("webhook-timestamp", &timestamp.to_string())
            .header("webhook-signature", &signature(&batch.id, timestamp, &body)?)
            .body(&body);
        Receipt::of_status(&request.send().map_err(Failure::unsent)?, batch)
    }
}

brokle_plugin::export!(exporter: Webhook);

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(observations: &[Value]) -> Batch {
        Batch {
            id: "b".into(),
            organization_id: "o".into(),
            project_id: "p".into(),
            attempt: 1,
            observations: observations.iter().map(|one| one.to_string().into_bytes()).collect(),
            attributes: Vec::new(),
        }
    }

    #[test]
    fn the_body_is_the_same_each_time() {
        let one = serde_json::json!({"span_id": "1", "input": {"b": 1, "a": 2}});
        let mut batch = batch(&[one]);
        let first = written(&batch).unwrap();
        batch.attempt = 7;
        assert_eq!(written(&batch).unwrap(), first);
        assert!(String::from_utf8(first).unwrap().contains(r#""type":"observations","batch_id":"b""#));
    }

    #[test]
    fn what_cant_be_signed_goes_alone_and_without_its_content() {
        let large =
            serde_json::json!({"span_id": "1", "input": "x".repeat(1 << 20), "output": "y", "name": "n"});
        let small = serde_json::json!({"span_id": "2"});
        assert!(matches!(written(&batch(&[large.clone(), small])), Err(Failure::Refused(_))), "to be halved");
        let sent: Value = serde_json::from_slice(&written(&batch(&[large])).unwrap()).unwrap();
        let sent = &sent["observations"][0];
        assert_eq!(
            (&sent["input"], &sent["output"], &sent["name"]),
            (&Value::Null, &Value::Null, &"n".into())
        );
        assert_eq!(sent["withheld"], serde_json::json!(["input", "output"]));
    }
}
