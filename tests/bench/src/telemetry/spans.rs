//! Requests with spans as instrumented applications send them: OTLP over HTTP, Protobuf, uncompressed. A trace has four spans
//! (an agent, two calls of a model, a tool), each about 2 KB with its input and output.
//!
//! The bytes are written once; a request is a copy with other ids, times and texts (each a piece of a long one, so that a store
//! finds no more to compress in many spans than in each), so that the generator takes next to nothing of the processors that it
//! shares with what is measured. Source of the fields' numbers: `opentelemetry/proto/trace/v1/trace.proto`.

use crate::request::API_KEY;

/// Spans of a trace.
pub(super) const PER_TRACE: usize = 4;
/// Bytes of a span, about.
const SPAN: usize = 2_048;
const MODELS: [&str; 4] = ["gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash"];
const WORDS: [&str; 16] = [
    "invoice", "the", "customer", "was", "refund", "to", "by", "agent", "policy", "and", "after", "of",
    "ticket", "answers", "which", "gateway",
];
/// Bytes of which every input and output is a piece.
const WORDS_BYTES: usize = 16 << 20;
/// So long after the first one each of a trace's spans begins, in nanoseconds.
const AFTER_NS: [u64; PER_TRACE] = [0, 5_000_000, 900_000_000, 1_500_000_000];
/// So long takes a span, in nanoseconds.
const LENGTH_NS: u64 = 850_000_000;

/// Where in the bytes a span's ids and times stand.
#[derive(Debug, Clone, Copy)]
struct Places {
    trace: usize,
    span: usize,
    parent: Option<usize>,
    start: usize,
    end: usize,
    /// Input and output: where the text begins, and its bytes.
    texts: [(usize, usize); 2],
}

/// A request's bytes, and what is to be changed in each copy.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    spans: Vec<Places>,
    words: Vec<u8>,
}

impl Template {
    /// A request with so many traces.
    pub(crate) fn new(traces: usize) -> Self {
        let (mut out, mut spans) = (Vec::new(), Vec::new());
        for trace in 0..traces {
            for place in 0..PER_TRACE {
                let (span, places) = span(trace, place);
                field(&mut out, 2, &span);
                let base = out.len() - span.len();
                spans.push(places.moved(base));
            }
        }
        let (mut scope, mut resource, mut resource_spans) = (Vec::new(), Vec::new(), Vec::new());
        field(&mut scope, 1, &nested(|scope| field(scope, 1, b"bench.instrumentation")));
        let inner = scope.len();
        scope.extend_from_slice(&out);
        attribute(&mut resource, 1, "service.name", Value::Text("support"));
        field(&mut resource_spans, 1, &resource);
        field(&mut resource_spans, 2, &scope);
        let outer = resource_spans.len() - scope.len() + inner;
        let mut body = Vec::new();
        field(&mut body, 1, &resource_spans);
        let outer = body.len() - resource_spans.len() + outer;
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: gateway\r\nx-api-key: {API_KEY}\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        let base = bytes.len() + outer;
        bytes.extend_from_slice(&body);
        let spans = spans.into_iter().map(|places| places.moved(base)).collect();
        Self { bytes, spans, words: text(WORDS_BYTES).into_bytes() }
    }

    /// Spans in each request.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The request of this number; each trace begins when `start` says, in nanoseconds since the Unix epoch.
    pub(crate) fn request(&self, number: u64, start: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let traces = (self.spans.len() / PER_TRACE) as u64;
        for (index, places) in (0_u64..).zip(&self.spans) {
            let trace = number * traces + index / PER_TRACE as u64;
            let place = index % PER_TRACE as u64;
            let start = start(trace) + AFTER_NS.get(place as usize).copied().unwrap_or_default();
            put(&mut bytes, places.trace, &trace_id(trace));
            put(&mut bytes, places.span, &(trace * PER_TRACE as u64 + place + 1).to_be_bytes());
            if let Some(parent) = places.parent {
                put(&mut bytes, parent, &(trace * PER_TRACE as u64 + 1).to_be_bytes());
            }
            put(&mut bytes, places.start, &start.to_le_bytes());
            put(&mut bytes, places.end, &(start + LENGTH_NS + trace % 1_000 * 1_000_000).to_le_bytes());
            for (which, (at, size)) in (0..).zip(places.texts) {
                let piece = mixed((trace * PER_TRACE as u64 + place) * 2 + which) as usize
                    % (self.words.len() - size);
                put(&mut bytes, at, self.words.get(piece..piece + size).unwrap_or_default());
            }
        }
        bytes
    }
}

/// The id of the trace of this number: its bits are spread, as those of random ids are.
pub(crate) fn trace_id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    put(&mut id, 0, &mixed(number).to_be_bytes());
    put(&mut id, 8, &mixed(number ^ 0x5555_5555).to_be_bytes());
    id
}

/// A number's bits, mixed one to one (the finalizer of SplitMix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Places {
    fn moved(self, by: usize) -> Self {
        let Self { trace, span, parent, start, end, texts } = self;
        let parent = parent.map(|at| at + by);
        let texts = texts.map(|(at, size)| (at + by, size));
        Self { trace: trace + by, span: span + by, parent, start: start + by, end: end + by, texts }
    }
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(u64),
}

/// One span, and where its ids and times are in it.
fn span(trace: usize, place: usize) -> (Vec<u8>, Places) {
    let mut out = Vec::with_capacity(SPAN + 64);
    let id = |out: &mut Vec<u8>, number, size| {
        field(out, number, &vec![0; size]);
        out.len() - size
    };
    let (trace_at, span_at) = (id(&mut out, 1, 16), id(&mut out, 2, 8));
    let parent = (place > 0).then(|| id(&mut out, 4, 8));
    let model = MODELS.get(trace % MODELS.len()).copied().unwrap_or_default();
    let (name, operation) = match place {
        0 => ("invoke_agent support".to_owned(), "invoke_agent"),
        2 => ("execute_tool lookup".to_owned(), "execute_tool"),
        _ => (format!("chat {model}"), "chat"),
    };
    field(&mut out, 5, name.as_bytes());
    let time = |out: &mut Vec<u8>, number: u64| {
        varint(out, number << 3 | 1);
        out.extend_from_slice(&[0; 8]);
        out.len() - 8
    };
    let (start, end) = (time(&mut out, 7), time(&mut out, 8));
    attribute(&mut out, 9, "gen_ai.operation.name", Value::Text(operation));
    attribute(&mut out, 9, "session.id", Value::Text(&format!("session-{}", trace % 7)));
    attribute(&mut out, 9, "user.id", Value::Text(&format!("user-{}", trace % 5)));
    if operation == "chat" {
        attribute(&mut out, 9, "gen_ai.provider.name", Value::Text("openai"));
        attribute(&mut out, 9, "gen_ai.request.model", Value::Text(model));
        attribute(&mut out, 9, "gen_ai.response.model", Value::Text(model));
        attribute(&mut out, 9, "gen_ai.usage.input_tokens", Value::Number(900 + trace as u64));
        attribute(&mut out, 9, "gen_ai.usage.output_tokens", Value::Number(120 + trace as u64));
    }
    let left = SPAN.saturating_sub(out.len() + 240);
    let texts =
        [("gen_ai.input.messages", "user", left * 3 / 4), ("gen_ai.output.messages", "assistant", left / 4)]
            .map(|(key, role, size)| {
                let (head, tail) =
                    (format!(r#"[{{"role":"{role}","parts":[{{"type":"text","content":""#), r#""}]}]"#);
                let message = format!("{head}{:size$}{tail}", "");
                attribute(&mut out, 9, key, Value::Text(&message));
                (out.len() - tail.len() - size, size)
            });
    // One in fifty failed (STATUS_CODE_ERROR).
    if trace.is_multiple_of(50) && place == 0 {
        field(&mut out, 15, &nested(|status| status.extend_from_slice(&[3 << 3, 2])));
    }
    (out, Places { trace: trace_at, span: span_at, parent, start, end, texts })
}

/// Words in no order, so that they compress as text does.
fn text(size: usize) -> String {
    let (mut out, mut bits) = (String::with_capacity(size + 16), 0);
    while out.len() < size {
        bits = mixed(bits);
        out.push_str(WORDS.get(bits as usize % WORDS.len()).copied().unwrap_or_default());
        out.push_str(if bits.is_multiple_of(5) { &"0123456789"[..(bits >> 32) as usize % 10] } else { " " });
    }
    out.truncate(size);
    out
}

fn attribute(out: &mut Vec<u8>, number: u64, key: &str, value: Value<'_>) {
    let value = nested(|any| match value {
        Value::Text(text) => field(any, 1, text.as_bytes()),
        Value::Number(number) => {
            varint(any, 3 << 3);
            varint(any, number);
        }
    });
    let pair = nested(|pair| {
        field(pair, 1, key.as_bytes());
        field(pair, 2, &value);
    });
    field(out, number, &pair);
}

fn nested(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A field of bytes: its tag, its length, itself.
fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_differ_in_ids_times_and_texts_alone() {
        let template = Template::new(3);
        assert_eq!(template.len(), 12);
        let (one, other) = (template.request(0, |_| 1), template.request(1, |_| 2));
        assert_eq!(one.len(), other.len());
        assert!((one.len() / 12).abs_diff(SPAN) < 100, "{}", one.len() / 12);
        let texts: usize = template.spans.iter().flat_map(|places| places.texts).map(|(_, size)| size).sum();
        assert!(texts > 12 * SPAN / 2, "{texts}");
        let differ = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        let others = differ.saturating_sub(texts);
        assert!(differ > texts / 2 && others <= 12 * (16 + 8 + 8 + 8 + 8), "{differ}");
        for request in [&one, &other] {
            let spaces = format!("{:64}", "");
            assert_eq!(memchr::memmem::find(request, spaces.as_bytes()), None, "a text that nobody wrote");
        }
        for request in [&one, &other] {
            for number in [0, 2] {
                let trace = trace_id(if std::ptr::eq(request, &one) { number } else { 3 + number });
                assert_eq!(memchr::memmem::find_iter(request, &trace).count(), PER_TRACE);
            }
        }
    }
}
