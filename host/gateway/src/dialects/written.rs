//! Answers that a dialect's component writes from the canonical ones.
//!
//! The canonical answer is made as for any other call, its stream and its account included; what is here stands between
//! it and the caller. A stream's events come in whole and go out as what they amount to. When the component fails, the
//! canonical stream is dropped, the upstream with it, and the account says why ([`Outside`]).

use std::sync::Arc;

use brokle_runtime::{DialectEncoder, PluginError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, header};

use super::{Asked, broke, errors, failed, problem_of};
use crate::account::{Meter, Outside};
use crate::answer::{self, AnswerBody, ByteStream, Told};
use crate::attempts::{Served, next_piece};
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::stream::{data_of, event_end};

/// The largest whole answer that is translated: 16 MiB.
const HELD: usize = 16 << 20;

/// Answers the caller, or gives the refusal and the account back.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    asked: &Arc<Asked>,
    served: Served,
    told: &Told,
    mut meter: Meter,
) -> Result<Response<AnswerBody>, (Refusal, Meter)> {
    let (headers, whole) = match served {
        Served::Whole(headers, body) => (headers, body),
        Served::Relay { headers, head, body } => match held(gateway, &headers, head, body).await {
            Ok(whole) => (headers, whole),
            Err(refusal) => return Err((refusal, meter)),
        },
        stream => {
            let encoder = match asked.open().await {
                Ok(instance) => instance.encode(&asked.call, asked.state()).await,
                Err(error) => Err(error),
            };
            let encoder = match encoder {
                Ok(encoder) => encoder,
                Err(error) => return Err((failed(&meter, &error), meter)),
            };
            let outside = meter.outside(asked.plugin.label());
            let (mut head, body) = stream.answer(gateway, told, meter).into_parts();
            asked.dialect.identify(&mut head.headers, &asked.call.request_id);
            let body = match body {
                AnswerBody::Stream(inner) => {
                    if let Ok(kind) = HeaderValue::from_str(&asked.content_type) {
                        head.headers.insert(CONTENT_TYPE, kind);
                    }
                    AnswerBody::Stream(encoded(inner, encoder, Arc::clone(asked), outside))
                }
                whole => whole,
            };
            return Ok(Response::from_parts(head, body));
        }
    };
    match write(gateway, asked, &whole, &mut meter).await {
        Ok(written) => {
            meter.first_token();
            meter.output(&whole);
            meter.complete();
            let mut headers = vendors(headers);
            asked.dialect.identify(&mut headers, &asked.call.request_id);
            Ok(answer::whole(200, headers, written, told, &meter))
        }
        Err(refusal) => Err((refusal, meter)),
    }
}

/// The vendor's headers, but for those that describe its own bytes.
fn vendors(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

async fn write(gateway: &Gateway, asked: &Asked, whole: &Bytes, meter: &mut Meter) -> Result<Bytes, Refusal> {
    let mut instance = asked.open().await.map_err(|error| failed(meter, &error))?;
    let written = instance.write_answer(&asked.call, asked.state(), &whole.to_vec()).await;
    let written = written.map_err(|error| failed(meter, &error))?;
    let random = &*gateway.parts.random;
    meter.plugin(asked.plugin.label(), "write-answer", None, instance.spent().time, random);
    written.map(Bytes::from).map_err(Refusal::from_problem)
}

/// An answer that was too large to be held by the attempt.
async fn held(
    gateway: &Gateway,
    headers: &HeaderMap,
    head: Vec<Bytes>,
    mut body: hyper::body::Incoming,
) -> Result<Bytes, Refusal> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        let message = "The provider's answer is compressed, which wasn't asked for: it can't be translated.";
        return Err(Refusal::upstream(502, "upstream_error", message));
    }
    let mut whole = BytesMut::from(head.concat().as_slice());
    while let Some(piece) = next_piece(&mut body, gateway.parts.timeouts.idle).await? {
        whole.extend_from_slice(&piece);
        if whole.len() > HELD {
            let message = "The provider's answer is larger than 16 MiB, too large to be translated.";
            return Err(Refusal::upstream(502, "upstream_error", message));
        }
    }
    Ok(whole.freeze())
}

struct Encoding {
    /// None once the component has failed: nothing more is wanted of the upstream.
    inner: Option<ByteStream>,
    encoder: DialectEncoder,
    asked: Arc<Asked>,
    outside: Arc<Outside>,
    begun: bool,
    ended: bool,
}

/// How the canonical stream goes on after an item of it.
enum Next {
    More,
    Done,
    Failed(Refusal),
}

fn encoded(
    inner: ByteStream,
    encoder: DialectEncoder,
    asked: Arc<Asked>,
    outside: Arc<Outside>,
) -> ByteStream {
    let state = Encoding { inner: Some(inner), encoder, asked, outside, begun: false, ended: false };
    Box::pin(futures_util::stream::unfold(state, |mut state| async move {
        loop {
            let item = state.inner.as_mut()?.next().await?;
            if state.ended {
                // Its last word was said; it gives its connection back.
                continue;
            }
            let bytes = state.take(item).await;
            if !bytes.is_empty() {
                state.begun = true;
                return Some((bytes.into(), state));
            }
        }
    }))
}

impl Encoding {
    /// What the caller gets for these canonical events.
    async fn take(&mut self, events: Bytes) -> Vec<u8> {
        let (chunks, next) = read(events);
        let written = self.write(chunks, next).await;
        self.outside.spend(self.encoder.spent().time);
        match written {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(problem)) => self.give_up(Refusal::from_problem(problem)),
            Err(error) => {
                self.outside.trap();
                self.give_up(broke(error))
            }
        }
    }

    async fn write(
        &mut self,
        chunks: Vec<Vec<u8>>,
        next: Next,
    ) -> Result<Result<Vec<u8>, brokle_runtime::Problem>, PluginError> {
        let mut bytes = Vec::new();
        if !chunks.is_empty() {
            match self.encoder.push(&chunks).await? {
                Ok(more) => bytes = more,
                Err(problem) => return Ok(Err(problem)),
            }
        }
        match next {
            Next::More => {}
            Next::Done => {
                self.ended = true;
                match self.encoder.finish().await? {
                    Ok(more) => bytes.extend_from_slice(&more),
                    Err(problem) => return Ok(Err(problem)),
                }
            }
            Next::Failed(refusal) => {
                self.ended = true;
                let problem = problem_of(&refusal);
                bytes.extend_from_slice(&self.encoder.failed(refusal.status, &problem).await?);
            }
        }
        Ok(Ok(bytes))
    }

    fn give_up(&mut self, refusal: Refusal) -> Vec<u8> {
        tracing::warn!(code = %refusal.code, "{}", refusal.message);
        let event = self.asked.dialect.error_event(&refusal, &self.asked.content_type, self.begun);
        self.outside.refuse(refusal);
        self.ended = true;
        self.inner = None;
        event.to_vec()
    }
}

/// The chunks among these events, and what follows them.
fn read(mut events: Bytes) -> (Vec<Vec<u8>>, Next) {
    let mut chunks = Vec::new();
    while !events.is_empty() {
        let end = event_end(&events).unwrap_or(events.len());
        let event = events.split_to(end);
        match data_of(&event) {
            None => {}
            Some(b"[DONE]") => return (chunks, Next::Done),
            Some(data) if data.starts_with(b"{\"error\"") => {
                return (chunks, Next::Failed(errors::of_event(data)));
            }
            Some(data) => chunks.push(data.to_vec()),
        }
    }
    (chunks, Next::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_up_to_the_verdict() {
        let (chunks, next) = read(Bytes::from_static(b": hi\n\ndata: {\"a\":1}\n\ndata: {\"b\":2}\r\n\r\n"));
        assert_eq!(chunks, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
        assert!(matches!(next, Next::More));
        let (chunks, next) = read(Bytes::from_static(b"data: {}\n\ndata: [DONE]\n\ndata: {\"late\":1}\n\n"));
        assert!(chunks.len() == 1 && matches!(next, Next::Done));
        let (_, next) =
            read(Bytes::from_static(b"data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n"));
        assert!(matches!(next, Next::Failed(refusal) if refusal.message == "m"));
    }
}
