//! An upstream that costs next to nothing: fixed bytes, at once, on one thread.
//!
//! `POST /v1/chat/completions` answers about 600 bytes with a usage of 200 tokens, or, when the body says
//! `"stream":true`, [`CHUNKS`] chunks, a usage chunk and `[DONE]`. Other vendors' paths have answers in their forms
//! ([`Vendors`]). The run steers it over two paths of its own:
//! `POST /__delay/MS` sets the pause between chunks, `POST /__think/MS` that before a whole answer, `GET /__served` tells how many completions it has answered.

use crate::vendors::Vendors;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Content chunks in a stream.
pub(crate) const CHUNKS: usize = 50;
/// Tokens of every answer.
pub(crate) const TOTAL_TOKENS: u64 = 200;

const USAGE: &str = r#"{"prompt_tokens":25,"completion_tokens":175,"total_tokens":200,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}"#;
const CONTENT: &str = "A gateway stands between applications and the providers of their models, and what it adds to each call should be too little to notice.";

/// What the chunks of a stream add up to.
pub(crate) fn streamed_content() -> String {
    (0..CHUNKS).map(word).collect()
}

pub(crate) fn word(index: usize) -> String {
    format!(" word{index:02}")
}

/// Serves until the process ends.
///
/// # Errors
/// When the address can't be had.
pub(crate) async fn serve(listen: SocketAddr, delay: Duration) -> io::Result<()> {
    let listener = crate::listen::listen(listen)?;
    let fixed = Arc::new(Fixed::new(delay));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let fixed = Arc::clone(&fixed);
        let service = service_fn(move |request| answer(Arc::clone(&fixed), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Everything that is ever said.
struct Fixed {
    whole: Bytes,
    events: Vec<Bytes>,
    vendors: Vendors,
    stream: Finder<'static>,
    delay_ms: AtomicU64,
    think_ms: AtomicU64,
    served: AtomicU64,
}

impl Fixed {
    fn new(delay: Duration) -> Self {
        let head = r#""created":1700000000,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_bench""#;
        let whole = format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion",{head},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{CONTENT}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE}}}"#
        );
        let event = |rest: String| {
            Bytes::from(format!(
                "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",{head},{rest}}}\n\n"
            ))
        };
        let chunk = |index: usize| {
            let role = if index == 0 { r#""role":"assistant","# } else { "" };
            let finish = if index + 1 == CHUNKS { r#""stop""# } else { "null" };
            let word = word(index);
            event(format!(
                r#""choices":[{{"index":0,"delta":{{{role}"content":"{word}"}},"logprobs":null,"finish_reason":{finish}}}],"usage":null"#
            ))
        };
        let mut events: Vec<Bytes> = (0..CHUNKS).map(chunk).collect();
        events.push(event(format!(r#""choices":[],"usage":{USAGE}"#)));
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Self {
            whole: whole.into(),
            events,
            vendors: Vendors::new(),
            stream: Finder::new(br#""stream""#),
            delay_ms: AtomicU64::new(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            think_ms: AtomicU64::new(0),
            served: AtomicU64::new(0),
        }
    }
}

async fn answer(fixed: Arc<Fixed>, mut request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let path = path.as_str();
    let is_chat = path == "/v1/chat/completions";
    if request.method() == Method::POST && (is_chat || fixed.vendors.answer(path, false).is_some()) {
        let mut flag = StreamFlag::default();
        while let Some(frame) = request.body_mut().frame().await {
            if let Ok(data) = frame?.into_data() {
                flag.push(&data, &fixed.stream);
            }
        }
        fixed.served.fetch_add(1, Ordering::Relaxed);
        let vendors = fixed.vendors.answer(path, flag.found);
        let (content_type, body) = if let Some((kind, body)) = vendors {
            (kind, Answer::Whole(Some(body)))
        } else if flag.found {
            let delay = Duration::from_millis(fixed.delay_ms.load(Ordering::Relaxed));
            ("text/event-stream; charset=utf-8", Answer::stream(fixed, delay))
        } else {
            let think = Duration::from_millis(fixed.think_ms.load(Ordering::Relaxed));
            if !think.is_zero() {
                tokio::time::sleep(think).await;
            }
            ("application/json", Answer::Whole(Some(fixed.whole.clone())))
        };
        return Ok(response(StatusCode::OK, content_type, body));
    }
    let set = [("/__delay/", &fixed.delay_ms), ("/__think/", &fixed.think_ms)]
        .into_iter()
        .find_map(|(prefix, setting)| Some((setting, path.strip_prefix(prefix)?.parse().ok()?)));
    let (status, text) = match (path, set) {
        ("/health/ready", _) => (StatusCode::OK, "ready".to_owned()),
        ("/__served", _) => (StatusCode::OK, fixed.served.load(Ordering::Relaxed).to_string()),
        (_, Some((setting, pause))) => {
            setting.store(pause, Ordering::Relaxed);
            (StatusCode::OK, pause.to_string())
        }
        _ => (StatusCode::NOT_FOUND, "not served here".to_owned()),
    };
    Ok(response(status, "text/plain", Answer::Whole(Some(text.into()))))
}

fn response(status: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// Looks for `"stream":true` in a body that comes in pieces, without keeping it.
#[derive(Default)]
struct StreamFlag {
    found: bool,
    /// The end of what came before: less than one whole match.
    tail: Vec<u8>,
}

/// No match is longer: `"stream"`, some blanks, `:`, some blanks, `true`.
const MATCH: usize = 24;

impl StreamFlag {
    fn push(&mut self, data: &[u8], key: &Finder<'_>) {
        if self.found {
            return;
        }
        self.tail.extend(data.iter().take(MATCH));
        self.found = says_true(&self.tail, key) || says_true(data, key);
        self.tail.extend(data.iter().skip(MATCH.max(data.len().saturating_sub(MATCH))));
        self.tail.drain(..self.tail.len().saturating_sub(MATCH));
    }
}

fn says_true(data: &[u8], key: &Finder<'_>) -> bool {
    key.find_iter(data).any(|at| {
        let after = data.get(at + key.needle().len()..).unwrap_or_default().trim_ascii_start();
        after.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}

/// The body of an answer.
enum Answer {
    Whole(Option<Bytes>),
    Stream { fixed: Arc<Fixed>, next: usize, pause: Option<Pause> },
}

struct Pause {
    delay: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Answer {
    fn stream(fixed: Arc<Fixed>, delay: Duration) -> Self {
        let pause = || Pause { delay, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) };
        Self::Stream { fixed, next: 0, pause: (!delay.is_zero()).then(pause) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Whole(body) => body.take(),
            Self::Stream { fixed, next, pause } => {
                // The usage and `[DONE]` follow the last chunk at once.
                if let Some(pause) = pause.as_mut().filter(|_| *next < CHUNKS) {
                    ready!(pause.sleep.as_mut().poll(context));
                    let due: Instant = pause.sleep.deadline() + pause.delay;
                    pause.sleep.as_mut().reset(due);
                }
                let event = fixed.events.get(*next).cloned();
                *next += 1;
                event
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_found_wherever_the_body_is_cut() {
        let key = Finder::new(br#""stream""#);
        for (body, expected) in [
            (&br#"{"model":"gpt-4o-mini","stream" : true,"messages":[{"content":"padding padding padding"}]}"#[..], true),
            (br#"{"messages":[{"content":"padding padding padding"}],"stream":true}"#, true),
            (br#"{"stream":false,"messages":[{"content":"is \"stream\":true here? padding"}]}"#, false),
            (br#"{"stream_options":{"include_usage":true},"messages":[]}"#, false),
        ] {
            for size in 1..body.len() {
                let mut flag = StreamFlag::default();
                body.chunks(size).for_each(|piece| flag.push(piece, &key));
                assert_eq!(flag.found, expected, "in pieces of {size}");
            }
        }
    }
}
