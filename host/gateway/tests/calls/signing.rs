//! Signature Version 4 to a vendor that computes the signature anew, from what really came.

use std::sync::Arc;

use brokle_core::clock::{ManualClock, SystemClock};
use brokle_gateway::Operation;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::vendor::{Seen, Vendor, completion, dictated, reply};

pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// As AWS would: everything from the wire, the secret by the key's id. The paths of these tests have no characters but
/// `%` that are encoded again, their queries are in order.
pub fn verify(seen: &Seen) -> Result<Vec<String>, String> {
    let authorization = seen.header("authorization");
    let rest =
        authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/").ok_or("no signature")?;
    let (scope, rest) = rest.split_once(", SignedHeaders=").ok_or("no headers")?;
    let (names, signature) = rest.split_once(", Signature=").ok_or("no signature")?;
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let mut request = format!("{}\n{}\n{query}\n", seen.method, path.replace('%', "%25"));
    for name in names.split(';') {
        request += &format!("{name}:{}\n", seen.header(name).replace("  ", " "));
    }
    request += &format!("\n{names}\n{}", hex(Sha256::digest(&seen.body)));
    let stamp = seen.header("x-amz-date");
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(Sha256::digest(&request)));
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    if hex(mac(&key, &to_sign)) != signature {
        return Err(format!("the signature is of another request than\n{request}"));
    }
    assert_eq!(&stamp[..8], &scope[..8]);
    Ok([scope].into_iter().chain(names.split(';')).map(str::to_owned).collect())
}

async fn verifying() -> Vendor {
    Vendor::start(|seen| match verify(seen) {
        Ok(_) => completion(),
        Err(reason) => reply(403, &json!({"error": {"message": reason}})),
    })
    .await
}

#[tokio::test]
async fn what_is_sent_is_what_is_signed() {
    let vendor = verifying().await;
    let clock = Arc::new(ManualClock::new("2026-03-01T23:59:59Z".parse().unwrap()));
    let options = json!({"region": "eu-central-1"});
    let world = dictated(vendor.origin(), &format!("AKIDEXAMPLE:{SECRET}"), options, clock).await;
    for (ask, scope) in [
        (
            json!({"path": "/model/anthropic.claude%3A0/converse?a=1&b=2", "auth": {"scheme": "sigv4", "service": "bedrock"}}),
            "20260301/eu-central-1/bedrock/aws4_request",
        ),
        (
            json!({"path": "/x", "headers": {"x-amz-target": "a  b"}, "body": {"y": "é"}, "auth": {"scheme": "sigv4", "service": "s", "region": "us-east-1"}}),
            "20260301/us-east-1/s/aws4_request",
        ),
    ] {
        // What a caller says of itself to AWS isn't passed on, let alone signed; what else it says is.
        let mut headers = HeaderMap::new();
        for name in ["x-amz-target", "x-amz-security-token", "x-amz-date", "x-amz-anything", "x-other"] {
            headers.insert(name, HeaderValue::from_static("callers"));
        }
        let body =
            format!(r#"{{"model":"dictated/m","messages":[{{"role":"user","content":"hi"}}],"ask":{ask}}}"#);
        let answer = world.call_with(Operation::ChatCompletions, &body, headers).await;
        let status = answer.status();
        assert_eq!(status, 200, "{}", answer.text().await);
        let seen = vendor.seen("/").pop().unwrap();
        let signed = verify(&seen).unwrap();
        assert_eq!(signed[0], scope);
        assert!(
            signed.contains(&"host".to_owned()) && signed.contains(&"content-type".to_owned()),
            "{signed:?}"
        );
        assert_eq!((seen.header("x-other"), seen.header("x-amz-anything")), ("callers", ""));
        assert!(!seen.headers.contains_key("x-amz-security-token"));
        let own = seen.headers.keys().filter(|name| name.as_str().starts_with("x-amz-"));
        assert!(own.into_iter().all(|name| signed.iter().any(|signed| signed == name.as_str())));
    }
    assert_eq!(vendor.seen("/x")[0].header("x-amz-target"), "a  b");
}

#[tokio::test]
async fn a_session_token_is_signed_and_a_region_may_stand_in_the_credential() {
    let vendor = verifying().await;
    let secret = json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "session_token": "tok/en==", "region": "ap-south-1"});
    let world = dictated(vendor.origin(), &secret.to_string(), json!({}), Arc::new(SystemClock)).await;
    let answer = world.ask(&json!({"auth": {"scheme": "sigv4", "service": "bedrock"}}), "").await;
    assert_eq!(answer.status(), 200);
    let seen = vendor.seen("/x").remove(0);
    assert_eq!(seen.header("x-amz-security-token"), "tok/en==");
    let signed = verify(&seen).unwrap();
    assert!(signed[0].contains("/ap-south-1/") && signed.contains(&"x-amz-security-token".to_owned()));
}

#[tokio::test]
async fn what_cant_be_signed_is_told_without_the_secret() {
    let vendor = verifying().await;
    for (secret, region, code) in [
        ("hunter2-hunter2", "eu-west-1", "connection_credential_unusable"),
        (
            r#"{"access_key_id":"AKID","secret_access_key":{"x":"hunter2"}}"#,
            "eu-west-1",
            "connection_credential_unusable",
        ),
        ("AKID:hunter2", "", "connection_misconfigured"),
        ("AKID:hunter2", "eu/../west", "connection_misconfigured"),
    ] {
        let world = dictated(vendor.origin(), secret, json!({}), Arc::new(SystemClock)).await;
        let ask = json!({"auth": {"scheme": "sigv4", "service": "bedrock", "region": region}});
        let answer = world.ask(&ask, "").await;
        assert_eq!(answer.status(), 502);
        let text = answer.text().await;
        assert!(text.contains(code) && text.contains("'dictated'") && !text.contains("hunter2"), "{text}");
    }
    let world = dictated(vendor.origin(), "x", json!({}), Arc::new(SystemClock)).await;
    let text = world.ask(&json!({"auth": {"scheme": "kerberos"}}), "").await.text().await;
    assert!(text.contains("plugin_request_refused") && text.contains("'kerberos'"), "{text}");
    assert!(vendor.seen("/").is_empty());
}
