//! Answers: a head, and a body that is either there or on its way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::account::Meter;
use crate::cache::CacheNote;
use crate::limits::Standing;
use crate::refusal::Refusal;

/// An answer's body.
pub enum AnswerBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// Piece by piece. It never fails: a stream that breaks says so in its own protocol and ends.
    Stream(ByteStream),
    /// Piece by piece, and not read on the way: there is no protocol to say anything in.
    Relayed(RelayedStream),
}

/// A provider's answer that is only relayed broke off. The caller's connection breaks off with it: a clean end would say
/// that what came is all.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the provider's answer broke off")]
pub struct BrokenOff;

/// Pieces of an answer that has an end of its own.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = Bytes> + Send>>;
/// Pieces of an answer that nobody reads.
pub(crate) type RelayedStream = Pin<Box<dyn Stream<Item = Result<Bytes, BrokenOff>> + Send>>;

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Whole(_)) { "Whole" } else { "Stream" })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|next| next.map(|b| Ok(Frame::data(b))))
            }
            Self::Relayed(stream) => {
                stream.as_mut().poll_next(context).map(|next| next.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::Relayed(_) => SizeHint::default(),
        }
    }
}

/// What the headers of every `/v1` answer tell.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    pub(crate) standing: Standing,
    /// What became of its look into the cache.
    pub(crate) cache: CacheNote,
    /// The budget that is nearly used up.
    pub(crate) budget: Option<String>,
    pub(crate) provider: Option<std::sync::Arc<str>>,
    pub(crate) model: Option<String>,
    pub(crate) attempts: u32,
    /// The route's, of the candidate that serves; none: the gateway's.
    pub(crate) timeouts: Option<crate::gateway::Timeouts>,
    /// The call's dialect, once its head was read.
    pub(crate) dialect: Option<std::sync::Arc<crate::dialects::Asked>>,
}

/// An answer whose body is there.
pub(crate) fn whole(
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    told: &Told,
    meter: &Meter,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(Some(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    tell(response.headers_mut(), told, meter);
    response
}

/// An answer whose body is on its way. The meter goes with the stream, so its part of the head is written first.
pub(crate) fn streamed(
    headers: HeaderMap,
    told: &Told,
    meter: Meter,
    stream: impl FnOnce(Meter) -> ByteStream,
) -> Response<AnswerBody> {
    on_its_way(headers, told, meter, |meter| AnswerBody::Stream(stream(meter)))
}

/// An answer that is only relayed.
pub(crate) fn relayed(
    headers: HeaderMap,
    told: &Told,
    meter: Meter,
    stream: impl FnOnce(Meter) -> RelayedStream,
) -> Response<AnswerBody> {
    on_its_way(headers, told, meter, |meter| AnswerBody::Relayed(stream(meter)))
}

fn on_its_way(
    mut headers: HeaderMap,
    told: &Told,
    meter: Meter,
    body: impl FnOnce(Meter) -> AnswerBody,
) -> Response<AnswerBody> {
    tell(&mut headers, told, &meter);
    let mut response = Response::new(body(meter));
    *response.headers_mut() = headers;
    response
}

/// A refusal, in OpenAI's form.
pub(crate) fn refused(refusal: &Refusal, told: &Told, meter: &Meter) -> Response<AnswerBody> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if refusal.code == "budget_exceeded" {
        // OpenAI's clients try a 429 again unless they are told not to.
        headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
    }
    whole(refusal.status, headers, refusal.json(), told, meter)
}

fn tell(headers: &mut HeaderMap, told: &Told, meter: &Meter) {
    let mut put = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let text = |text: &str| HeaderValue::from_str(text).ok();
    put("x-brokle-trace-id", meter.trace_id().and_then(|id| text(&id.to_string())));
    put("x-brokle-provider", told.provider.as_deref().and_then(text));
    put("x-brokle-model", told.model.as_deref().and_then(text));
    let (status, key) = match &told.cache {
        CacheNote::Bypass => ("bypass", None),
        CacheNote::Miss(key) => ("miss", Some(key)),
        CacheNote::Hit(key, age, score) => {
            put("age", Some(age.as_secs().into()));
            put("x-brokle-cache-score", score.and_then(|score| text(&format!("{score:.4}"))));
            (if score.is_some() { "semantic-hit" } else { "hit" }, Some(key))
        }
    };
    put("x-brokle-cache", Some(HeaderValue::from_static(status)));
    put("x-brokle-cache-key", key.and_then(|key| text(&key.to_string())));
    put("x-brokle-attempts", Some(told.attempts.into()));
    put("x-brokle-budget", told.budget.as_deref().and_then(text));
    put("x-brokle-cost", meter.cost().and_then(|cost| text(&cost.to_string())));
    if let Some(requests) = told.standing.requests {
        put("x-ratelimit-limit-requests", Some(requests.limit.into()));
        put("x-ratelimit-remaining-requests", Some(requests.remaining.into()));
        put("x-ratelimit-reset-requests", text(&reset(requests.reset)));
    }
    if let Some(tokens) = told.standing.tokens {
        put("x-ratelimit-limit-tokens", Some(tokens.limit.into()));
        put("x-ratelimit-remaining-tokens", Some(tokens.remaining.into()));
        put("x-ratelimit-reset-tokens", text(&reset(tokens.reset)));
    }
}

/// A duration as OpenAI writes it: `20ms`, `1s`, `6m0s`, `23h59m0s`.
fn reset(duration: Duration) -> String {
    let seconds = (duration.as_millis() + 500) / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        _ if duration < Duration::from_secs(1) => format!("{}ms", duration.as_millis()),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (ms, text) in [(0, "0ms"), (20, "20ms"), (1_000, "1s"), (59_600, "1m0s"), (360_000, "6m0s")] {
            assert_eq!(reset(Duration::from_millis(ms)), text);
        }
        assert_eq!(reset(Duration::from_secs(86_340)), "23h59m0s");
    }
}
