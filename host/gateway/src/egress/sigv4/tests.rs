//! AWS's published suite (`aws-sig-v4-test-suite`): requests and the signatures that AWS computes for them.

use brokle_identity::Secret;

use super::*;

const STS: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn credential(session_token: Option<&str>) -> AwsCredential {
    AwsCredential {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
        session_token: session_token.map(|token| Secret::new(token.into())),
        region: None,
    }
}

fn signer(credential: &AwsCredential) -> Signer<'_> {
    let now = "2015-08-30T12:36:00Z".parse().unwrap();
    Signer { credential, region: "us-east-1", service: "service", now }
}

/// A request of the suite: method, path, query, headers beside `host` and `x-amz-date`, body.
fn authorization(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &str) -> String {
    let credential = credential(None);
    let mut signed: Vec<(&str, Vec<u8>)> =
        vec![("host", b"example.amazonaws.com".into()), ("x-amz-date", b"20150830T123600Z".into())];
    for (name, value) in headers {
        let value = canonical_value(value.as_bytes());
        match signed.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => *there = [&there[..], b",", &value].concat(),
            None => signed.push((name, value)),
        }
    }
    let payload = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
    signer(&credential).authorization(Canonical { method, path, query, headers: signed, payload: &payload })
}

#[track_caller]
fn expect(name: &str, authorization: &str, names: &str, signature: &str) {
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    assert_eq!(authorization, expected, "{name}");
}

#[test]
fn paths_and_queries_are_canonical() {
    let unreserved = format!("{UNRESERVED}={UNRESERVED}");
    for (name, method, path, query, signature) in [
        ("get-vanilla", "GET", "/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "get-vanilla-empty-query-key",
            "GET",
            "/",
            "Param1=value1",
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-order-key",
            "GET",
            "/",
            "Param1=value2&Param1=Value1",
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "get-vanilla-query-order-value",
            "GET",
            "/",
            "Param1=value2&Param1=value1",
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            "get-vanilla-query-order-encoded",
            "GET",
            "/",
            "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            "/",
            &unreserved,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-vanilla-utf8-query",
            "GET",
            "/",
            "ሴ=bar",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "get-unreserved",
            "GET",
            &format!("/{UNRESERVED}"),
            "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        ("get-utf8", "GET", "/ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "get-relative",
            "GET",
            "/example/..",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-relative-relative",
            "GET",
            "/example1/example2/../..",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        ("get-slash", "GET", "//", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "get-slash-dot-slash",
            "GET",
            "/./",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-slash-pointless-dot",
            "GET",
            "/./example",
            "",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            "get-slashes",
            "GET",
            "//example//",
            "",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "get-space",
            "GET",
            "/example space/",
            "",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
        (
            "get-special-character",
            "GET",
            "/example/$delete",
            "",
            "a853c9b21b528b19643d00910d35b83a10c366a10833ceefb45edd6c80e40f27",
        ),
        ("post-vanilla", "POST", "/", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "post-vanilla-query",
            "POST",
            "/",
            "Param1=value1",
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
    ] {
        expect(name, &authorization(method, path, query, &[], ""), "host;x-amz-date", signature);
    }
}

#[test]
fn headers_and_bodies_are_signed() {
    let form = "application/x-www-form-urlencoded";
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 7] = [
        (
            "get-header-key-duplicate",
            "GET",
            &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
            "",
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "get-header-value-order",
            "GET",
            &[
                ("my-header1", "value4"),
                ("my-header1", "value1"),
                ("my-header1", "value3"),
                ("my-header1", "value2"),
            ],
            "",
            "host;my-header1;x-amz-date",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "get-header-value-trim",
            "GET",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-header-key-sort",
            "POST",
            &[("my-header1", "value1")],
            "",
            "host;my-header1;x-amz-date",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "post-header-value-case",
            "POST",
            &[("my-header1", "VALUE1")],
            "",
            "host;my-header1;x-amz-date",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            &[("content-type", form)],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-x-www-form-urlencoded-parameters",
            "POST",
            &[("content-type", "application/x-www-form-urlencoded; charset=utf8")],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ];
    for (name, method, headers, body, names, signature) in cases {
        expect(name, &authorization(method, "/", "", headers, body), names, signature);
    }
}

fn request(method: &str, uri: &str, body: Segments) -> Request<Segments> {
    Request::builder().method(method).uri(uri).body(body).unwrap()
}

#[test]
fn a_request_is_signed_as_it_is_sent() {
    for (name, token, signature) in [
        ("post-vanilla", None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "post-sts-header-before",
            Some(STS),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    ] {
        let credential = credential(token);
        let mut request = request("POST", "https://example.amazonaws.com/", Segments::default());
        // Neither a caller nor a plugin dates or vouches for a request; other headers aren't signed.
        for name in ["x-amz-date", "x-amz-security-token", "user-agent", "accept"] {
            request.headers_mut().insert(name, HeaderValue::from_static("forged"));
        }
        signer(&credential).sign(&mut request).unwrap();
        let names = if token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
        let value = &request.headers()[AUTHORIZATION];
        expect(name, value.to_str().unwrap(), names, signature);
        assert!(value.is_sensitive());
        assert_eq!(request.headers().get(SECURITY_TOKEN).map(|token| token.to_str().unwrap()), token);
    }
    // A body in several pieces, and a port in the host.
    let credential = credential(None);
    let change = brokle_core::json::Change::Remove("/b");
    let pieces = Segments::changed(&bytes::Bytes::from_static(br#"{"a":1,"b":2,"c":3}"#), &[change]).unwrap();
    let mut signatures = Vec::new();
    for body in [pieces, bytes::Bytes::from_static(br#"{"a":1,"c":3}"#).into()] {
        let mut request = request("POST", "http://127.0.0.1:8080/model/a%3A0/converse?b=2&a=1", body);
        signer(&credential).sign(&mut request).unwrap();
        assert_eq!(request.headers()[HOST], "127.0.0.1:8080");
        signatures.push(request.headers()[AUTHORIZATION].clone());
    }
    assert_eq!(signatures[0], signatures[1]);
    assert_eq!(canonical_path("/model/a%3A0/converse"), "/model/a%253A0/converse");
}
