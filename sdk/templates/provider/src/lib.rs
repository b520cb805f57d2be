//! Acme's chat API, which speaks OpenAI's format at another path and with a key header of its own.

use brokle_plugin::provider::{Auth, Body, Call, Edit, HeaderAuth, NoDecoder, Preparation, Provider, UpstreamRequest};
use brokle_plugin::{Description, Problem};

struct Acme;

impl Provider for Acme {
    // Answers are OpenAI's already. A vendor with another format has a `Decoder` here: see
    // plugins/provider-anthropic.
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([("chat.completions", &["stream", "tools"][..])])
    }

    fn prepare(call: &Call, _body: &Body) -> Result<Preparation, Problem> {
        if call.operation != "chat.completions" {
            return Err(Problem::unsupported_operation(call));
        }
        let mut edits = vec![Edit::set("/model", &call.model)];
        if call.streaming {
            // Without it a stream has no token counts.
            edits.push(Edit::set("/stream_options/include_usage", &true));
        }
        Ok(UpstreamRequest::post("/v2/chat")
            .auth(Auth::Header(HeaderAuth { name: "x-acme-key".into(), prefix: String::new() }))
            .edits(edits)
            .native()
            .into())
    }
}

brokle_plugin::export!(provider: Acme);
