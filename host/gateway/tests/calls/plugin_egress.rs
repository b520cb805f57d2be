//! Where plugins' own requests may go.

use std::time::Duration;

use brokle_gateway::egress::Egress;
use brokle_runtime::capabilities::http::{HttpTransport, Outbound, TransportError};
use brokle_test_upstream::Upstream;
use bytes::Bytes;
use http::Request;

fn outbound(url: &str, named: bool, max_response_bytes: usize) -> Outbound {
    let request = Request::get(url).header("authorization", "Bearer test").body(Bytes::new()).unwrap();
    Outbound { request, max_response_bytes, named }
}

fn egress() -> Egress {
    Egress::new(false, Duration::from_secs(2), 0)
}

#[tokio::test]
async fn a_plugin_reaches_no_private_address_of_its_own_choice() {
    let canary = Upstream::start().await.unwrap();
    let port = canary.addr().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1.2.3", "169.254.169.254"] {
        let url = format!("http://{host}:{port}/v1/models");
        let sent = egress().fetch(outbound(&url, false, 1 << 20)).await;
        assert_eq!(sent.unwrap_err(), TransportError::AddressRefused, "{host}");
    }
    // Metadata isn't reached though an operator names it.
    let sent = egress().fetch(outbound("http://169.254.169.254/latest", true, 1 << 20)).await;
    assert_eq!(sent.unwrap_err(), TransportError::AddressRefused);
    assert!(canary.requests().is_empty());
}

#[tokio::test]
async fn a_host_that_the_operator_names_is_reached_within_the_size_granted() {
    let upstream = Upstream::start().await.unwrap();
    let url = format!("{}/v1/models", upstream.origin());
    let response = egress().fetch(outbound(&url, true, 1 << 20)).await.unwrap();
    assert!(response.status().is_success());
    let size = response.body().len();
    assert!(size > 1);
    assert_eq!(upstream.requests()[0].header("authorization"), Some("Bearer test"));
    let sent = egress().fetch(outbound(&url, true, size)).await.unwrap();
    assert_eq!(sent.body().len(), size);
    assert_eq!(egress().fetch(outbound(&url, true, size - 1)).await.unwrap_err(), TransportError::TooLarge);
}

#[tokio::test]
async fn what_isnt_there_is_unreachable() {
    let gone = Upstream::start().await.unwrap();
    let url = format!("{}/v1/models", gone.origin());
    gone.stop().await;
    assert_eq!(egress().fetch(outbound(&url, true, 1)).await.unwrap_err(), TransportError::Unreachable);
}
