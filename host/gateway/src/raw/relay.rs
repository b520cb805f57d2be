//! The vendor's answer on its way to the caller, untouched. What has OpenAI's form is read on the side.

use std::time::Duration;

use brokle_core::json;
use brokle_core::usage::Usage;
use http::StatusCode;

use super::{BytesMut, CONTENT_ENCODING, CONTENT_TYPE, Cut, HeaderMap, Meter, Upstream, refused};
use crate::answer::{BrokenOff, RelayedStream};
use crate::attempts::{HELD, next_piece, read_canonical};
use crate::stream::{data_of, event_end, read_chunk};

/// Reads what goes past.
enum Tap {
    /// Nothing of it.
    Blind,
    /// One document, kept until it is complete.
    Document(BytesMut),
    /// Events; one whose end hasn't come is kept.
    Events(BytesMut),
}

impl Tap {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !status.is_success() || headers.contains_key(CONTENT_ENCODING) {
            Self::Blind
        } else if kind.starts_with("application/json") {
            Self::Document(BytesMut::new())
        } else if kind.starts_with("text/event-stream") {
            Self::Events(BytesMut::new())
        } else {
            Self::Blind
        }
    }

    fn feed(&mut self, piece: &[u8], meter: &mut Meter) {
        let (Self::Document(held) | Self::Events(held)) = self else { return };
        meter.output(piece);
        held.extend_from_slice(piece);
        if let Self::Events(held) = self {
            while let Some(end) = event_end(held) {
                let event = held.split_to(end);
                if let Some(data) = data_of(&event) {
                    read_event(data, meter);
                }
            }
        }
        if let Self::Document(held) | Self::Events(held) = self
            && held.len() > HELD
        {
            *self = Self::Blind;
        }
    }

    fn end(&mut self, meter: &mut Meter) {
        if let Self::Document(held) = self
            && is_openai(held)
        {
            // One that breaks off says nothing.
            let _ = read_canonical(held, meter);
        }
    }
}

/// Documents of OpenAI's API say what they are; other vendors count differently.
fn is_openai(document: &[u8]) -> bool {
    json::find(document, "/object").is_some_and(|at| {
        let object = document.get(at).unwrap_or_default();
        object.starts_with(b"\"") && object != b"\"\""
    })
}

fn read_event(data: &[u8], meter: &mut Meter) {
    if is_openai(data) {
        read_chunk(data, meter);
    } else if let Some(response) = json::find(data, "/response").and_then(|at| data.get(at))
        && is_openai(response)
        && let Some(usage) = json::find(response, "/usage").and_then(|at| response.get(at))
        && let Some(usage) = Usage::from_openai(usage)
    {
        // The last event of a Responses stream holds the whole response.
        meter.usage(&usage);
        let model = json::find(response, "/model").and_then(|at| response.get(at));
        if let Some(Ok(model)) = model.map(serde_json::from_slice::<String>) {
            meter.note(|observation| observation.model_served = Some(model.into()));
        }
    }
}

/// The answer's body.
pub(super) fn answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: Upstream,
    mut meter: Meter,
    idle: Duration,
    left: Duration,
    cut: Cut,
) -> RelayedStream {
    let deadline = tokio::time::Instant::now() + left;
    let tap = Tap::of(status, headers);
    let streaming = matches!(tap, Tap::Events(_));
    meter.note(|observation| observation.streaming = streaming);
    let state = Some((body, tap, meter, cut));
    Box::pin(futures_util::stream::unfold(state, move |state| async move {
        let (mut body, mut tap, mut meter, mut cut) = state?;
        match cut.or(deadline, next_piece(&mut body, idle)).await {
            Ok(Some(bytes)) => {
                // It reads the model from what comes before the first token.
                tap.feed(&bytes, &mut meter);
                meter.first_token();
                Some((Ok(bytes), Some((body, tap, meter, cut))))
            }
            Ok(None) => {
                tap.end(&mut meter);
                match status.as_u16() {
                    code @ 400.. => {
                        let refusal = refused(code);
                        meter.end_attempt(Some(&refusal));
                        meter.refuse(&refusal, Some(code));
                    }
                    code => {
                        meter.end_attempt(None);
                        meter.complete();
                        meter.note(|observation| observation.http_status = Some(code));
                    }
                }
                None
            }
            Err(refusal) => {
                meter.end_attempt(Some(&refusal));
                meter.refuse(&refusal, Some(status.as_u16()));
                Some((Err(BrokenOff), None))
            }
        }
    }))
}
