//! What goes over the wire: requests, the pieces of their answers, and which headers pass.

use std::time::Duration;

use brokle_core::json;
use brokle_core::usage::Usage;
use brokle_runtime::exchange::{ResponseHead, ResponsePlan, UpstreamRequest};
use brokle_runtime::{Body, Header};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, request};
use http_body_util::BodyExt;
use hyper::body::Incoming as Upstream;

use crate::account::Meter;
use crate::decoding;
use crate::egress::{self, Segments};
use crate::gateway::Gateway;
use crate::keys::Key;
use crate::refusal::Refusal;
use crate::routing::Candidate;

use super::ERROR_BODY;

/// Sends a plugin's request; the answer's head has come. With several keys the call takes the next one whose turn it is; one
/// that the vendor refuses (401, 429) is passed over for a while, and the call goes on with another that isn't.
pub(crate) async fn send(
    gateway: &Gateway,
    candidate: &Candidate,
    wanted: &UpstreamRequest,
    body: &Body,
    passed: &HeaderMap,
) -> Result<Response<Upstream>, Refusal> {
    let connection = &candidate.connection;
    if let ResponsePlan::Decoded(framing) = &wanted.response {
        // Refused before anything is sent.
        decoding::framer(framing)?;
    }
    let (content_type, body) = egress::planned(&wanted.body, body)?;
    let content_type = content_type.as_deref();
    for _ in 1..connection.keys.len() {
        let key = gateway.cooling.pick(connection);
        let answer = send_with(gateway, candidate, key, wanted, content_type, body.clone(), passed).await?;
        if !gateway.cooling.heard(connection, key, &answer) {
            return Ok(answer);
        }
    }
    let key = gateway.cooling.pick(connection);
    let answer = send_with(gateway, candidate, key, wanted, content_type, body, passed).await?;
    gateway.cooling.heard(connection, key, &answer);
    Ok(answer)
}

/// Sends it with this key.
async fn send_with(
    gateway: &Gateway,
    candidate: &Candidate,
    key: Option<&Key>,
    wanted: &UpstreamRequest,
    content_type: Option<&str>,
    body: Segments,
    passed: &HeaderMap,
) -> Result<Response<Upstream>, Refusal> {
    let connection = &candidate.connection;
    let (tokens, clock) = (&gateway.tokens, &*gateway.parts.clock);
    let token = tokens.authorization(gateway, connection, key, &wanted.auth, None).await?;
    // A token can be taken back before its time: one that is refused is bought anew, once.
    let again = token.is_some().then(|| body.clone());
    let request = egress::build(connection, key, wanted, content_type, body, passed, token.as_ref(), clock)?;
    let answer = head(gateway, candidate, request).await?;
    let Some(body) = again.filter(|_| answer.status() == http::StatusCode::UNAUTHORIZED) else {
        return Ok(answer);
    };
    let token = tokens.authorization(gateway, connection, key, &wanted.auth, token.as_ref()).await?;
    let request = egress::build(connection, key, wanted, content_type, body, passed, token.as_ref(), clock)?;
    head(gateway, candidate, request).await
}

/// Sends a request; the answer's head has come in time.
pub(super) async fn head(
    gateway: &Gateway,
    candidate: &Candidate,
    request: request::Request<Segments>,
) -> Result<Response<Upstream>, Refusal> {
    let first_byte = candidate.timeouts(gateway).first_byte;
    let connection = &candidate.connection;
    gateway.room.others_first().await;
    match tokio::time::timeout(first_byte, gateway.parts.egress.send(connection, request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!(
                "Provider '{}' didn't answer in {} s.",
                connection.provider,
                first_byte.as_secs_f32()
            );
            Err(Refusal::upstream(504, "upstream_timeout", message))
        }
    }
}

/// The next bytes of an answer; none at its end.
pub(crate) async fn next_piece(body: &mut Upstream, idle: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(broke());
            }
            Err(_) => {
                let message = format!("The provider sent nothing for {} s.", idle.as_secs_f32());
                return Err(Refusal::upstream(504, "upstream_timeout", message));
            }
        }
    }
}

/// The connection that an answer came over.
pub(super) fn broke() -> Refusal {
    Refusal::upstream(502, "upstream_disconnected", "The provider's connection broke.")
}

/// An answer, as far as it is held.
pub(super) enum Held {
    /// All of it.
    Whole(Bytes),
    /// It is larger than what is held: its beginning, with the rest on its way.
    Beginning(Vec<Bytes>),
}

/// Holds an answer until it is complete, up to `most` bytes.
pub(super) async fn hold(body: &mut Upstream, most: usize, idle: Duration) -> Result<Held, Refusal> {
    let mut held: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(piece) = next_piece(body, idle).await? {
        size += piece.len();
        held.push(piece);
        if size > most {
            return Ok(Held::Beginning(held));
        }
    }
    Ok(Held::Whole(match held.len() {
        1 => held.pop().unwrap_or_default(),
        _ => held.concat().into(),
    }))
}

/// What there is of an error answer, cut at [`ERROR_BODY`].
pub(crate) async fn error_body(body: &mut Upstream, idle: Duration) -> Vec<u8> {
    let mut text = Vec::new();
    // A body that breaks off still says something.
    while let Ok(Some(piece)) = next_piece(body, idle).await {
        text.extend_from_slice(&piece);
        if text.len() >= ERROR_BODY {
            break;
        }
    }
    text.truncate(ERROR_BODY);
    text
}

/// Reads what the account needs from a whole canonical answer, which proves on the way that it is one.
pub(crate) fn read_canonical(answer: &[u8], meter: &mut Meter) -> Result<(), Refusal> {
    let mut usage = None;
    let mut model = None;
    let mut finish = None;
    let at = |range: std::ops::Range<usize>| answer.get(range).unwrap_or_default();
    let document = json::scan(answer, |key, range| match key {
        b"usage" => usage = Usage::from_openai(at(range)),
        b"model" => model = serde_json::from_slice::<String>(at(range)).ok(),
        b"choices" => {
            let choices = at(range);
            finish = json::find(choices, "/0/finish_reason")
                .and_then(|range| serde_json::from_slice::<Option<String>>(choices.get(range)?).ok()?);
        }
        _ => {}
    });
    if document.is_err() {
        return Err(broken_answer());
    }
    if let Some(usage) = usage {
        meter.usage(&usage);
    }
    meter.note(|observation| {
        if let Some(model) = model {
            observation.model_served = Some(model.into());
        }
        observation.finish_reason = finish.map(Into::into);
    });
    Ok(())
}

pub(super) fn broken_answer() -> Refusal {
    Refusal::upstream(502, "upstream_error", "The provider's answer can't be understood.")
}

/// The caller's headers that belong to the provider: all but those of the hop (which are also those that `Connection`
/// names, RFC 9110 §7.6.1), of the host and of browsers.
pub(crate) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let ours = |name: &HeaderName| {
        let text = name.as_str();
        egress::is_reserved(name)
            || text.starts_with("x-brokle-")
            || text.starts_with("sec-")
            || text.starts_with("x-stainless-")
            || matches!(
                text,
                "api-key"
                    | "content-type"
                    | "content-encoding"
                    | "origin"
                    | "referer"
                    | "x-real-ip"
                    | "x-request-id"
                    | "traceparent"
                    | "tracestate"
                    | "baggage"
                    | "user-agent"
                    | "accept"
            )
    };
    let hop = |name: &HeaderName| {
        let lists = headers.get_all(CONNECTION).into_iter().filter_map(|list| list.to_str().ok());
        lists.flat_map(|list| list.split(',')).any(|option| option.trim().eq_ignore_ascii_case(name.as_str()))
    };
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !ours(name) && !hop(name)) {
        passed.append(name, value.clone());
    }
    passed
}

/// What the provider would set itself, had the caller not said it: the attributes `header.NAME`.
pub(crate) fn said(passed: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    passed
        .iter()
        .filter_map(|(name, value)| Some((format!("header.{name}"), value.to_str().ok()?.to_owned())))
}

/// The provider's headers that belong to the caller.
pub(crate) fn answer_headers(upstream: &HeaderMap) -> HeaderMap {
    let hops = |name: &HeaderName| {
        let text = name.as_str();
        egress::is_reserved(name)
            || text.starts_with("x-ratelimit-")
            || text.starts_with("x-brokle-")
            || text.starts_with("access-control-")
            || matches!(text, "date" | "server" | "alt-svc" | "strict-transport-security" | "x-request-id")
    };
    let mut headers = HeaderMap::with_capacity(upstream.len() + 16);
    for (name, value) in upstream.iter().filter(|(name, _)| !hops(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// A head as plugins see it: at most 64 headers, no cookies, visible text only.
pub(crate) fn plugin_head(status: u16, headers: &HeaderMap) -> ResponseHead {
    let visible = headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE);
    let visible = visible.filter_map(|(name, value)| {
        Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
    });
    ResponseHead { status, headers: visible.take(64).collect() }
}

pub(super) fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

pub(super) fn event_stream() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers
}
