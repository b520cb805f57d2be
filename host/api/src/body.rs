//! Reading a request's body into memory: capped, and not for ever.
//!
//! - More than [`BodyLimits::max_bytes`] (32 MiB) is answered 413. A `Content-Length` that says so is refused before a byte
//!   is read; a body without one is given up at the first byte beyond.
//! - A body may take [`BodyLimits::grace`] (10 s) plus a second for each [`BodyLimits::min_bytes_per_second`] (1,024) that
//!   have come; one that is slower is answered 408.
//! - One that breaks off is answered 400, if there is still anybody to hear it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::error::ApiError;

/// The buffer that a body without a length begins with.
const FIRST_BUFFER: u64 = 16 * 1024;
/// How many times what has come a buffer may be, of what a client says will. What isn't written to takes up no memory, but
/// addresses; what is outgrown is copied.
const STEP: u64 = 64;

/// A body up to this many bytes is copied: a piece of the connection's buffer would keep all 8 KiB of that for as long as the answer
/// takes, and make the connection get another.
const SMALL: usize = 4 * 1024;

/// What a request's body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes at most.
    pub max_bytes: u64,
    /// How long it may take whatever its size.
    pub grace: Duration,
    /// How fast it must be beyond that.
    pub min_bytes_per_second: u32,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { max_bytes: 32 * 1024 * 1024, grace: Duration::from_secs(10), min_bytes_per_second: 1_024 }
    }
}

/// A request's whole body, within the server's limits.
#[derive(Clone, Debug)]
pub struct CappedBody(pub Bytes);

impl FromRequest<Arc<App>> for CappedBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        read(request.into_body(), app.body).await.map(Self)
    }
}

/// Reads a body as JSON of this shape.
///
/// # Errors
/// 400 `invalid_request`, which says what is wrong where.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid_request(format!("body: {error}")))
}

/// Reads a body to its end.
///
/// # Errors
/// 413 `request_too_large`, 408 `request_timeout`, 400 `incomplete_body`.
pub async fn read(body: Body, limits: BodyLimits) -> Result<Bytes, ApiError> {
    read_counted(body, limits, &mut |_| Ok(())).await
}

/// The same; `grow` is told of each piece's bytes before the piece is kept, and can break off.
///
/// # Errors
/// As [`read`], and what `grow` says.
pub async fn read_counted(
    mut body: Body,
    limits: BodyLimits,
    grow: &mut (dyn FnMut(usize) -> Result<(), ApiError> + Send),
) -> Result<Bytes, ApiError> {
    let hint = body.size_hint();
    if hint.lower() > limits.max_bytes {
        return Err(too_large(limits));
    }
    let begun = Instant::now();
    let mut received = 0_u64;
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    loop {
        let earned = Duration::from_secs(received / u64::from(limits.min_bytes_per_second.max(1)));
        let frame = timeout_at(begun + limits.grace + earned, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
        received += data.len() as u64;
        if received > limits.max_bytes {
            return Err(too_large(limits));
        }
        grow(data.len())?;
        // Most bodies come in one piece.
        if let Some(rest) = &mut rest {
            if rest.capacity() - rest.len() < data.len() {
                // In large steps: what was read is copied each time.
                let expected = usize::try_from(hint.lower().min(received.saturating_mul(STEP)));
                rest.reserve(expected.unwrap_or_default().saturating_sub(rest.len()).max(data.len()));
            }
            rest.extend_from_slice(&data);
        } else if first.is_empty() {
            first = data;
        } else {
            // A length that a client only claims isn't worth more memory than what has come suggests.
            let expected = hint.lower().min(received.saturating_mul(STEP)).max(FIRST_BUFFER);
            let mut buffer = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
            buffer.extend_from_slice(&first);
            buffer.extend_from_slice(&data);
            rest = Some(buffer);
        }
    }
    Ok(match rest {
        Some(rest) => rest.freeze(),
        None if first.len() <= SMALL => Bytes::copy_from_slice(&first),
        None => first,
    })
}

fn too_large(limits: BodyLimits) -> ApiError {
    let message =
        format!("The request's body is larger than the {} bytes that are allowed.", limits.max_bytes);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request's body came too slowly.")
}

fn incomplete(error: axum::Error) -> ApiError {
    let message = "The request's body broke off.";
    ApiError {
        source: Some(Arc::new(error)),
        ..ApiError::new(StatusCode::BAD_REQUEST, "incomplete_body", message)
    }
}
