//! `POST /v1/traces`, `/v1/logs`, `/v1/metrics`: OpenTelemetry's three signals, from its senders and from whoever speaks their
//! protocol.
//!
//! As [OTLP/HTTP](https://opentelemetry.io/docs/specs/otlp/#otlphttp) has it. A 200 says that what was sent is on disk.
//! Senders try again after 429, 502, 503 and 504 only, so whatever may pass by itself (a full or failing queue, a key
//! that can't be checked) is 503 with `Retry-After`, never 500; what won't is 4xx.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use brokle_identity::Scope;
use brokle_telemetry::NotDurable;
use brokle_telemetry::metrics::{SpanLabels, SpanOutcome};
use brokle_telemetry::otlp::{
    Coding, DecodeError, Decoded, Encoding, InflateError, Settings, Signal, decode, inflate,
};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::app::App;
use crate::auth::{self, Authenticated};
use crate::body::{self, BodyLimits};
use crate::error::ApiError;
use crate::ingest::{Ingest, Share};

/// Where each signal is taken: the specification's path, one that says what it is, and Langfuse's.
pub(crate) const PATHS: [&str; 7] = [
    "/v1/traces",
    "/v1/otlp/traces",
    LANGFUSE_PATH,
    "/v1/logs",
    "/v1/otlp/logs",
    "/v1/metrics",
    "/v1/otlp/metrics",
];
/// Where Langfuse's SDKs send.
pub(crate) const LANGFUSE_PATH: &str = "/api/public/otel/v1/traces";

/// How long a request waits for the queue's commit; senders give up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Bodies up to this size that aren't compressed are decoded where they are; others on a thread that may block.
const INLINE: usize = 32 * 1024;

/// Takes spans from OpenTelemetry.
#[utoipa::path(post, path = "/v1/traces", tag = "traces",
    security(("bearer" = []), ("api_key" = [])),
    request_body(description = "`ExportTraceServiceRequest`, as `application/x-protobuf` or `application/json`; gzip, \
        deflate and zstd are understood. Also at `/v1/otlp/traces`, and at `/api/public/otel/v1/traces` with a Langfuse key pair", content_type = "application/json",
        content = serde_json::Value),
    responses((status = 200, description = "On disk; `partialSuccess` says how many spans weren't taken, and why. In the \
            encoding that was sent, like every answer", body = serde_json::Value),
        (status = 400, description = "`google.rpc.Status`: it can't be read", body = serde_json::Value),
        (status = 403, description = "`google.rpc.Status`: the key lacks the scope `traces:write`", body = serde_json::Value),
        (status = 413, description = "`google.rpc.Status`: too large, before or after it was inflated", body = serde_json::Value),
        (status = 415, description = "`google.rpc.Status`: another media type or coding", body = serde_json::Value),
        (status = 503, description = "`google.rpc.Status`: not taken; try again after `Retry-After`", body = serde_json::Value)))]
pub(crate) async fn traces(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    request: Request,
) -> Result<Response, ApiError> {
    accept(&app, &caller, Signal::Traces, request).await
}

macro_rules! signals {
    ($($name:ident, $path:literal, $signal:expr, $doc:literal, $message:literal;)+) => {$(
        #[doc = $doc]
        #[utoipa::path(post, path = $path, tag = "traces", security(("bearer" = []), ("api_key" = [])),
            request_body(description = $message, content_type = "application/json", content = serde_json::Value),
            responses((status = 200, description = "On disk; `partialSuccess` says how many weren't taken, and why. In the \
                    encoding that was sent, like every answer", body = serde_json::Value),
                (status = 400, description = "`google.rpc.Status`: it can't be read", body = serde_json::Value),
                (status = 403, description = "`google.rpc.Status`: the key lacks the scope `traces:write`", body = serde_json::Value),
                (status = 413, description = "`google.rpc.Status`: too large, before or after it was inflated", body = serde_json::Value),
                (status = 415, description = "`google.rpc.Status`: another media type or coding", body = serde_json::Value),
                (status = 503, description = "`google.rpc.Status`: not taken; try again after `Retry-After`", body = serde_json::Value)))]
        pub(crate) async fn $name(
            State(app): State<Arc<App>>,
            caller: Authenticated,
            request: Request,
        ) -> Result<Response, ApiError> {
            accept(&app, &caller, $signal, request).await
        }
    )+};
}

signals! {
    logs, "/v1/logs", Signal::Logs, "Takes log records from OpenTelemetry.",
        "`ExportLogsServiceRequest`, as `/v1/traces` takes spans. Also at `/v1/otlp/logs`";
    metrics, "/v1/metrics", Signal::Metrics, "Takes metrics' data points from OpenTelemetry.",
        "`ExportMetricsServiceRequest`, as `/v1/traces` takes spans. Also at `/v1/otlp/metrics`";
}

async fn accept(
    app: &Arc<App>,
    caller: &Authenticated,
    signal: Signal,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::TracesWrite)?;
    let ingest = app.ingest.as_ref().ok_or_else(|| ApiError::internal("this server takes no telemetry"))?;
    let encoding = encoding(request.headers()).ok_or_else(|| {
        unsupported("application/x-protobuf or application/json is expected as Content-Type")
    })?;
    let coding = coding(request.headers()).ok_or_else(|| {
        unsupported("one of gzip, deflate and zstd is expected as Content-Encoding, or none")
    })?;
    ingest.recorder.has_room().map_err(not_durable)?;

    let mut share = ingest.share();
    let limits = BodyLimits { max_bytes: ingest.max_bytes as u64, ..app.body };
    let mut grow = |bytes| if share.grow(bytes) { Ok(()) } else { Err(no_room()) };
    let body = body::read_counted(request.into_body(), limits, &mut grow).await?;
    let answer = take(app, ingest, caller, Sent { signal, encoding, coding, body, share }).await?;
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    Ok(response)
}

/// Takes spans from Langfuse's SDKs, which send their key pair as `Authorization: Basic`: the secret key is an API key,
/// the public key may be anything.
pub(crate) async fn langfuse(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let caller = auth::authenticate_pair(&app, request.extensions(), request.headers()).await?;
    traces(State(app), caller, request).await
}

/// A request as it was sent, and its share of the memory for bodies.
pub(crate) struct Sent {
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
    pub(crate) coding: Coding,
    pub(crate) body: Bytes,
    pub(crate) share: Share,
}

/// Puts what was sent on disk; the answer's body.
pub(crate) async fn take(
    app: &Arc<App>,
    ingest: &Ingest,
    caller: &Authenticated,
    sent: Sent,
) -> Result<Vec<u8>, ApiError> {
    let (signal, encoding) = (sent.signal, sent.encoding);
    let mut decoded = read(app, ingest, caller, sent).await?;
    let (rejected, reason) = (decoded.rejected.count(), decoded.rejected.message(signal));
    let taken = decoded.rows.len() as u64;
    ingest.recording.retain(caller.0.tenant, &mut decoded.rows.observations);
    app.metrics.unrecorded.inc_by(taken - decoded.rows.len() as u64);
    if let Some(gateway) = &app.gateway {
        gateway.masking().mask_all(caller.0.key_id, &mut decoded.rows).await;
    }
    decoded.rows.observations.iter_mut().for_each(|row| ingest.recording.cut(row));
    let count = |outcome, items: u64| {
        let counter = match signal {
            Signal::Traces => &app.metrics.spans,
            Signal::Logs => &app.metrics.log_records,
            Signal::Metrics => &app.metrics.data_points,
        };
        counter.get_or_create(&SpanLabels { outcome }).inc_by(items);
    };
    if let Err(error) = ingest.recorder.record_durably(decoded.rows, PATIENCE).await {
        count(SpanOutcome::refused, taken);
        return Err(not_durable(error));
    }
    count(SpanOutcome::accepted, taken);
    count(SpanOutcome::rejected, rejected);
    Ok(encoding.accepted(signal, rejected, &reason))
}

/// The encoding that a request says it has.
pub(crate) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    Encoding::of(headers.get(CONTENT_TYPE)?.to_str().ok()?)
}

/// The coding that a request says it has; none for one that isn't understood, or several.
fn coding(headers: &HeaderMap) -> Option<Coding> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let coding = given.next().map_or(Some(Coding::Identity), |value| Coding::of(value.to_str().ok()?));
    if given.next().is_some() { None } else { coding }
}

/// Inflates and decodes. The share lives as long as the bodies do, also when the client goes away meanwhile.
async fn read(
    app: &Arc<App>,
    ingest: &Ingest,
    caller: &Authenticated,
    sent: Sent,
) -> Result<Decoded, ApiError> {
    let Sent { signal, encoding, coding, body, mut share } = sent;
    let (app, principal) = (Arc::clone(app), Arc::clone(&caller.0));
    let capture = ingest.recording.capture(principal.tenant, principal.capture);
    let (max_bytes, max_weight) = (ingest.max_bytes, ingest.recorder.max_durable().1);
    let is_inline = coding == Coding::Identity && body.len() <= INLINE;
    let mut work = move || {
        let inflated;
        let plain = if coding == Coding::Identity {
            &body[..]
        } else {
            inflated =
                inflate(coding, &body, max_bytes, &mut |more| share.grow(more)).map_err(not_inflated)?;
            &inflated
        };
        let settings = Settings {
            tenant: principal.tenant,
            key_id: principal.key_id,
            capture,
            catalogue: &app.catalogue,
            now_us: app.clock.now().timestamp_micros(),
            max_weight,
        };
        decode(signal, encoding, plain, &settings).map_err(|error| not_decoded(&error))
    };
    if is_inline {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

fn unsupported(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
}

pub(crate) fn no_room() -> ApiError {
    let message = "Too much telemetry is on its way at once. Try again.";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ingest_overloaded", message).retry_after(RETRY_AFTER)
}

fn not_inflated(error: InflateError) -> ApiError {
    match error {
        InflateError::TooLarge(max) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!(
                "The request's body is larger than the {max} bytes that are allowed, once it is inflated."
            ),
        ),
        InflateError::NoRoom => no_room(),
        InflateError::Invalid(_) => ApiError {
            source: Some(Arc::new(error)),
            ..ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid_encoding",
                "The request's body isn't what its Content-Encoding says.",
            )
        },
    }
}

fn not_decoded(error: &DecodeError) -> ApiError {
    let (status, code) = match error {
        DecodeError::Malformed(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        DecodeError::TooMuch(_) => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
    };
    ApiError::new(status, code, error.to_string())
}

pub(crate) fn not_durable(error: NotDurable) -> ApiError {
    let (code, message) = match error {
        NotDurable::Full => ("queue_full", "The telemetry queue is full. Try again."),
        NotDurable::Closed => ("shutting_down", "The server is shutting down. Try again."),
        NotDurable::Failed | NotDurable::Late => {
            ("queue_unavailable", "The telemetry queue can't be written at the moment. Try again.")
        }
    };
    ApiError {
        source: Some(Arc::new(error)),
        ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(RETRY_AFTER)
    }
}
