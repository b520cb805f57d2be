//! Fixed answers in other vendors' forms: Anthropic's Messages and Amazon Bedrock's Converse, whole and as streams.
//!
//! A stream has [`CHUNKS`](crate::upstream::CHUNKS) pieces of text and comes at once: what is measured is their translation.

use crate::upstream::{CHUNKS, word};
use bytes::Bytes;

/// What the vendors say.
pub(crate) struct Vendors {
    claude: Bytes,
    claude_stream: Bytes,
    bedrock: Bytes,
    bedrock_stream: Bytes,
}

impl Vendors {
    pub(crate) fn new() -> Self {
        let text = "A gateway stands between applications and the providers of their models.";
        let message = format!(
            r#"{{"id":"msg_bench","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":25,"output_tokens":175}}}}"#
        );
        let converse = format!(
            r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":"{text}"}}]}}}},"stopReason":"end_turn","usage":{{"inputTokens":25,"outputTokens":175,"totalTokens":200}},"metrics":{{"latencyMs":1}}}}"#
        );
        Self {
            claude: message.into(),
            claude_stream: claude_stream().into(),
            bedrock: converse.into(),
            bedrock_stream: bedrock_stream().into(),
        }
    }

    /// The answer to a request of this path, with its media type; none for paths that aren't theirs. Whether Claude's is a
    /// stream stands in its body.
    pub(crate) fn answer(&self, path: &str, streamed: bool) -> Option<(&'static str, Bytes)> {
        const JSON: &str = "application/json";
        Some(match (path, streamed) {
            ("/v1/messages", false) => (JSON, self.claude.clone()),
            ("/v1/messages", true) => ("text/event-stream; charset=utf-8", self.claude_stream.clone()),
            (path, _) if path.ends_with("/converse-stream") => {
                ("application/vnd.amazon.eventstream", self.bedrock_stream.clone())
            }
            (path, _) if path.ends_with("/converse") => (JSON, self.bedrock.clone()),
            _ => return None,
        })
    }
}

fn claude_stream() -> String {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let mut stream = event(
        "message_start",
        r#","message":{"id":"msg_bench","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}"#,
    );
    stream += &event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#);
    for index in 0..CHUNKS {
        let text = word(index);
        stream += &event(
            "content_block_delta",
            &format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#),
        );
    }
    stream += &event("content_block_stop", r#","index":0"#);
    stream += &event(
        "message_delta",
        r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":175}"#,
    );
    stream + &event("message_stop", "")
}

fn bedrock_stream() -> Vec<u8> {
    let mut stream = event_message("messageStart", r#"{"role":"assistant"}"#);
    for index in 0..CHUNKS {
        let text = word(index);
        let delta = format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}}}}"#);
        stream.extend(event_message("contentBlockDelta", &delta));
    }
    stream.extend(event_message("contentBlockStop", r#"{"contentBlockIndex":0}"#));
    stream.extend(event_message("messageStop", r#"{"stopReason":"end_turn"}"#));
    let usage =
        r#"{"usage":{"inputTokens":25,"outputTokens":175,"totalTokens":200},"metrics":{"latencyMs":1}}"#;
    stream.extend(event_message("metadata", usage));
    stream
}

/// A message of `application/vnd.amazon.eventstream`: two lengths and their checksum, headers, payload, checksum; headers are
/// a length and a name, type 7, a length of two bytes and the value.
fn event_message(kind: &str, payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.extend(name.as_bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = Vec::new();
    message.extend(length(16 + headers.len() + payload.len()));
    message.extend(length(headers.len()));
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}
