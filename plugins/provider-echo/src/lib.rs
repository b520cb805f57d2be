//! A provider that answers by itself.
//!
//! No vendor, no account, no network: the first call of a fresh installation, examples and tests.
//! The answer follows from the request alone, so that the same request always gets the same one.
//! `README.md` says what the answer is for each kind of request, and which texts ask for an error.

mod chat;
mod completion;
mod embedding;
mod error;
mod schema;
mod tokens;
mod tools;
mod write;

use brokle_plugin::provider::{Body, Call, NoDecoder, Output, Preparation, Provider};
use brokle_plugin::{Description, Problem};

struct Echo;

impl Provider for Echo {
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([
            ("chat.completions", &["stream", "tools", "parallel_tool_calls", "vision", "json_schema"][..]),
            ("completions", &["stream"]),
            ("embeddings", &["base64", "dimensions"]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        match tokens::count("one, two") {
            3 => Ok(()),
            other => Err(Problem::bad_answer(format!("'one, two' has {other} tokens"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let bytes = body.read(0, u32::try_from(body.size()).unwrap_or(u32::MAX));
        answer(call, &bytes).map(Preparation::Answer)
    }
}

/// The whole answer to a canonical body.
fn answer(call: &Call, body: &[u8]) -> Result<Vec<Output>, Problem> {
    match call.operation.as_str() {
        "chat.completions" => chat::answer(call, &parse(body)?),
        "completions" => completion::answer(call, &parse(body)?),
        "embeddings" => embedding::answer(call, &parse(body)?),
        _ => Err(Problem::unsupported_operation(call)),
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::invalid("", format!("The request doesn't have the expected form: {error}."))
    })
}

brokle_plugin::export!(provider: Echo);

#[cfg(test)]
mod tests;
