//! What a sender is answered, in the encoding that it sent: `ExportTraceServiceResponse` and those of logs and metrics, which
//! differ in a member's name only, or `google.rpc.Status`.

use serde_json::json;

use super::Signal;
use super::wire::Writer;

/// How a request, and so its answer, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protocol Buffers' binary form.
    Protobuf,
    /// Its JSON form.
    Json,
}

impl Encoding {
    /// The encoding that a `Content-Type` names, in any case and whatever its parameters; none for another one.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|known| essence.eq_ignore_ascii_case(known.media_type()))
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// All were taken, or all but these, for this reason. Empty where there is nothing to say.
    #[must_use]
    pub fn accepted(self, signal: Signal, rejected: u64, reason: &str) -> Vec<u8> {
        match (self, rejected) {
            (Self::Protobuf, 0) => Vec::new(),
            (Self::Json, 0) => b"{}".to_vec(),
            (Self::Protobuf, _) => {
                let partial = Writer::default().integer(1, rejected).bytes(2, reason.as_bytes());
                Writer::default().bytes(1, &partial.finish()).finish()
            }
            // 64-bit numbers are strings in protobuf's JSON form.
            (Self::Json, _) => {
                let partial = json!({ signal.rejected(): rejected.to_string(), "errorMessage": reason });
                json!({ "partialSuccess": partial }).to_string().into_bytes()
            }
        }
    }

    /// A failure: `google.rpc.Status` with a `google.rpc.ErrorInfo`, whose `reason` is our stable code in upper case.
    #[must_use]
    pub fn failed(self, http_status: u16, code: &str, message: &str) -> Vec<u8> {
        let (grpc, reason) = (grpc_code(http_status), code.to_ascii_uppercase());
        match self {
            Self::Protobuf => {
                let info = Writer::default().bytes(1, reason.as_bytes()).bytes(2, DOMAIN.as_bytes()).finish();
                let any = Writer::default().bytes(1, ERROR_INFO.as_bytes()).bytes(2, &info).finish();
                Writer::default().integer(1, grpc).bytes(2, message.as_bytes()).bytes(3, &any).finish()
            }
            Self::Json => {
                let info = json!({ "@type": ERROR_INFO, "reason": reason, "domain": DOMAIN });
                json!({ "code": grpc, "message": message, "details": [info] }).to_string().into_bytes()
            }
        }
    }
}

const DOMAIN: &str = "brokle";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// `google.rpc.Code` for an HTTP status.
#[must_use]
pub const fn grpc_code(status: u16) -> u64 {
    match status {
        401 => 16,
        403 => 7,
        404 | 405 => 12,
        408 => 4,
        413 | 429 => 8,
        502..=504 => 14,
        500.. => 13,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_known_with_its_parameters() {
        for (header, encoding) in [
            ("application/x-protobuf", Some(Encoding::Protobuf)),
            ("Application/JSON; charset=utf-8", Some(Encoding::Json)),
            ("application/x-protobuf;messageType=\"x\"", Some(Encoding::Protobuf)),
            ("application/protobuf", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(Encoding::of(header), encoding, "{header}");
        }
    }

    #[test]
    fn full_success_says_nothing_and_partial_success_says_how_much() {
        assert!(Encoding::Protobuf.accepted(Signal::Traces, 0, "").is_empty());
        assert_eq!(Encoding::Json.accepted(Signal::Logs, 0, ""), b"{}");
        assert_eq!(Encoding::Protobuf.accepted(Signal::Metrics, 2, "no"), b"\x0a\x06\x08\x02\x12\x02no");
        assert_eq!(
            Encoding::Json.accepted(Signal::Traces, 2, "no"),
            br#"{"partialSuccess":{"errorMessage":"no","rejectedSpans":"2"}}"#
        );
        assert_eq!(
            Encoding::Json.accepted(Signal::Metrics, 2, "no"),
            br#"{"partialSuccess":{"errorMessage":"no","rejectedDataPoints":"2"}}"#
        );
    }

    #[test]
    fn a_failure_is_a_status() {
        let json: serde_json::Value =
            serde_json::from_slice(&Encoding::Json.failed(413, "request_too_large", "no")).unwrap();
        assert_eq!((json["code"].as_u64(), json["message"].as_str()), (Some(8), Some("no")));
        assert_eq!(json["details"][0]["reason"], "REQUEST_TOO_LARGE");
        let bytes = Encoding::Protobuf.failed(503, "queue_full", "later");
        assert!(bytes.starts_with(b"\x08\x0e\x12\x05later\x1a"), "{bytes:?}");
    }
}
