//! Plugins' requests, sent as everything is sent: through the filter for addresses, without redirects.
//!
//! An operator who names a private host in a grant (`http://127.0.0.1:9000`) means it, as one who configures a base URL
//! does; a host that a pattern lets a plugin choose is never dialed at a private address. Bodies are read as far as the
//! grant goes and no further.

use std::net::IpAddr;
use std::pin::Pin;

use brokle_runtime::capabilities::http::{HttpTransport, Outbound, TransportError};
use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::address::Refused;
use super::{Egress, Outgoing, Segments, bare};

impl HttpTransport for Egress {
    fn fetch(
        &self,
        outbound: Outbound,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let request = outbound.request.map(|body| Outgoing::from(Segments::from(body)));
            let host = request.uri().host().map(bare).unwrap_or_default().to_owned();
            if outbound.named {
                self.allow(&host);
            }
            // A literal address needs no resolver, so the resolver's filter doesn't see it.
            if let Ok(address) = host.parse::<IpAddr>() {
                self.policy.check(&host, address).map_err(|_| TransportError::AddressRefused)?;
            }
            let response = self.pool().request(request).await.map_err(|error| {
                tracing::info!(
                    host,
                    error = &error as &dyn std::error::Error,
                    "a request of the host for a plugin or a token failed"
                );
                if is_refusal(&error) {
                    TransportError::AddressRefused
                } else if error.is_connect() {
                    TransportError::Unreachable
                } else {
                    TransportError::Broken
                }
            })?;
            let (head, body) = response.into_parts();
            Ok(Response::from_parts(head, read(body, outbound.max_response_bytes).await?))
        })
    }
}

/// Whether the resolver's filter is behind an error.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<Refused>()) {
            return true;
        }
        source = cause.source();
    }
    false
}

async fn read(mut body: Incoming, most: usize) -> Result<Bytes, TransportError> {
    if body.size_hint().lower() > most as u64 {
        return Err(TransportError::TooLarge);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| TransportError::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(TransportError::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
