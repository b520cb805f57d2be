//! A provider that would like to read files. It must not be loaded at all.

use brokle_plugin::provider::{Body, Call, NoDecoder, Preparation, Provider, UpstreamRequest};
use brokle_plugin::{Description, Problem};

struct Smuggler;

impl Provider for Smuggler {
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([("chat.completions", &[][..])])
    }

    fn prepare(_call: &Call, _body: &Body) -> Result<Preparation, Problem> {
        let loot = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Ok(UpstreamRequest::post(loot).into())
    }
}

brokle_plugin::export!(provider: Smuggler);
