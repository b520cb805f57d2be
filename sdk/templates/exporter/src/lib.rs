//! Each batch of observations as lines of JSON, one observation a line.

use brokle_plugin::exporter::{Batch, Exporter, Failure, Receipt};
use brokle_plugin::host::{self, http};
use serde::Deserialize;

/// What an operator sets; the schema is in `plugin.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    path: Option<String>,
}

struct Acme;

impl Exporter for Acme {
    fn export(batch: &Batch) -> Result<Receipt, Failure> {
        let config: Config = host::config().map_err(|error| Failure::config(&error))?;
        let body = batch.observations.join(&b'\n');
        let request = http::Request::post("receiver", config.path.as_deref().unwrap_or("/"))
            .header("content-type", "application/x-ndjson")
            // The same when the batch comes again: what the receiver tells a repetition by.
            .header("idempotency-key", &batch.id)
            // The host puts the secret in; nobody here sees it.
            .bearer("token")
            .body(&body);
        let response = request.send().map_err(Failure::unsent)?;
        // 2xx: it has them. 429, 5xx and the like: again later. 400 and the like: never.
        Receipt::of_status(&response, batch)
    }
}

brokle_plugin::export!(exporter: Acme);
