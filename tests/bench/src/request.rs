//! The requests, as bytes that are built once.

use bytes::Bytes;

/// The key that Brokle is started with: `bk_` and 40 characters.
pub(crate) const API_KEY: &str = "bk_benchmark0benchmark1benchmark2benchmark3";

/// A prompt's text as JSON carries it, escapes included.
const TEXT: &str = "The gateway reads what it must, changes what it was told to, and passes on the rest.\\n";

/// A chat request whose body has exactly `size` bytes (at least 200): the content is padded with text.
pub(crate) fn chat(size: usize, streamed: bool) -> Bytes {
    chat_with(size, streamed, "")
}

/// The same with further lines of the head, each with its end.
pub(crate) fn chat_with(size: usize, streamed: bool, lines: &str) -> Bytes {
    let options = if streamed { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let (before, after) =
        (format!(r#"{{"model":"gpt-4o-mini",{options}"messages":[{{"role":"user","content":""#), r#""}]}"#);
    let missing = size.saturating_sub(before.len() + after.len());
    let mut content: String = TEXT.chars().cycle().take(missing).collect();
    if content.ends_with('\\') {
        content.pop();
        content.push('.');
    }
    let body = format!("{before}{content}{after}");
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {API_KEY}\r\n\
         content-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// A request without a body.
pub(crate) fn bare(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_size_that_was_asked_for() {
        assert_eq!(API_KEY.len(), 43);
        for size in (200..400).chain([2_000, 50_000, 400_000]) {
            for streamed in [false, true] {
                let request = chat(size, streamed);
                let end = memchr::memmem::find(&request, b"\r\n\r\n").unwrap() + 4;
                let body: serde_json::Value = serde_json::from_slice(&request[end..]).unwrap();
                assert_eq!(request.len() - end, size);
                assert_eq!(body["stream"].as_bool(), streamed.then_some(true));
                assert!(
                    std::str::from_utf8(&request[..end])
                        .unwrap()
                        .contains(&format!("content-length: {size}\r\n"))
                );
            }
        }
    }
}
