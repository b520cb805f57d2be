//! Requests go where they may, with the secret that the guest never has.

use brokle_runtime::capabilities::http::TransportError;
use brokle_testkit::mocks::{MockHost, Reply, answer};
use serde_json::json;

use crate::harness::{Fixture, everything};

fn header<'a>(sent: &'a brokle_testkit::mocks::Sent, name: &str) -> Option<&'a str> {
    sent.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn the_secret_is_put_in_and_never_comes_back() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let http = &fixture.host.http;
    let echo = http::Response::builder()
        .header("x-echo", "Bearer Jefe")
        .body(r#"{"you sent":"Jefe"}"#.into())
        .unwrap();
    http.expect("POST", "https://a.example.com/v1/check?x=1", Reply::Response(echo));
    let words = "http POST checker a.example.com /v1/check?x=1 bearer:token x-mine:yes hello";
    let came = fixture.tell(&granted, words).await;
    assert_eq!(came, r#"Ok((200, ["x-echo: Bearer ****"], "{\"you sent\":\"****\"}"))"#);
    http.expect("POST", "http://127.0.0.1:9000/", answer(200, "dXNlcjpKZWZl"));
    let came = fixture.tell(&granted, "http POST checker http://127.0.0.1:9000 / basic:token none -").await;
    assert_eq!(came, r#"Ok((200, [], "************"))"#);
    http.expect("GET", "https://a.example.com/", answer(302, ""));
    let came = fixture.tell(&granted, "http GET checker a.example.com / x-key:token none -").await;
    assert!(came.starts_with("Ok((302"), "a redirect is an answer: {came}");
    let sent = http.sent();
    assert_eq!(header(&sent[0], "authorization"), Some("Bearer Jefe"));
    assert_eq!((header(&sent[0], "x-mine"), &sent[0].body[..]), (Some("yes"), &b"hello"[..]));
    assert_eq!(header(&sent[1], "authorization"), Some("Basic dXNlcjpKZWZl"));
    assert_eq!(header(&sent[2], "x-key"), Some("key Jefe"));
    assert!(sent.iter().all(|sent| sent.named), "the operator named these very hosts");
    assert_eq!(http.unmet(), Vec::<String>::new());
}

#[tokio::test]
async fn what_isnt_granted_is_denied_by_name() {
    let fixture = Fixture::new().await;
    let mut grants = everything();
    grants["http"]["upstreams"]["checker"]["secrets"] = json!([]);
    let granted = fixture.grant(&grants);
    for (words, what) in [
        ("http GET elsewhere none / none none -", "the upstream 'elsewhere'"),
        ("http GET checker b.example.com / none none -", "the host 'b.example.com'"),
        ("http GET checker a.example.com:8443 / none none -", "the host 'a.example.com:8443'"),
        ("http GET checker http://a.example.com / none none -", "the host 'http://a.example.com'"),
        ("http DELETE checker a.example.com / none none -", "the method 'DELETE'"),
        ("http GET checker a.example.com / bearer:token none -", "the secret 'token'"),
        ("http GET checker a.example.com / bearer:rsa none -", "the secret 'rsa'"),
    ] {
        let came = fixture.tell(&granted, words).await;
        assert!(came.contains("Denied") && came.contains(what), "{words}: {came}");
    }
    for words in [
        "http GET checker none / none none -",
        "http GET checker *.example.com / none none -",
        "http GET checker a.example.com/x / none none -",
        "http GET checker a.example.com //evil.example/ none none -",
        "http GET checker a.example.com @evil.example/ none none -",
        "http GET checker a.example.com /a#b none none -",
        "http GET checker a.example.com / none authorization:mine -",
        "http GET checker a.example.com / none host:evil.example -",
        "http GET checker a.example.com / none x-forwarded-for:1.2.3.4 -",
        "http GET checker a.example.com / none a\u{b}:b -",
    ] {
        let came = fixture.tell(&granted, words).await;
        assert!(came.contains("Invalid"), "{words}: {came}");
    }
    assert!(fixture.host.http.sent().is_empty(), "nothing went out");
}

#[tokio::test]
async fn sizes_are_bounded_both_ways() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let large = "x".repeat(33);
    let came = fixture.tell(&granted, &format!("http POST checker a.example.com / none none {large}")).await;
    assert_eq!(came, "Err(Error::RequestTooLarge(32))");
    fixture.host.http.expect("GET", "https://a.example.com/", answer(200, &"y".repeat(65)));
    let get = "http GET checker a.example.com / none none -";
    assert_eq!(fixture.tell(&granted, get).await, "Err(Error::ResponseTooLarge(64))");
    fixture.host.http.expect("GET", "https://a.example.com/", Reply::Failure(TransportError::AddressRefused));
    assert!(fixture.tell(&granted, get).await.contains("may not be dialed"));
}

#[tokio::test]
async fn permits_are_counted_by_plugin_and_tenant() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let get = "http GET checker a.example.com / none none -";
    for _ in 0..2 {
        fixture.host.http.expect("GET", "https://a.example.com/", Reply::Hang);
    }
    let [first, second, third] = [1, 2, 3].map(MockHost::tenant);
    let hanging = async {
        tokio::join!(fixture.tell_for(&granted, first, get), fixture.tell_for(&granted, second, get))
    };
    let others = async {
        while fixture.host.http.sent().is_empty() {
            tokio::task::yield_now().await;
        }
        // The tenant has one, whatever the plugin has.
        assert_eq!(fixture.tell_for(&granted, first, get).await, "Err(Error::Busy)");
        while fixture.host.http.sent().len() < 2 {
            tokio::task::yield_now().await;
        }
        // The plugin has two.
        assert_eq!(fixture.tell_for(&granted, third, get).await, "Err(Error::Busy)");
    };
    tokio::select! {
        _ = hanging => panic!("they hang"),
        () = others => {}
    }
    // Given up, they gave their permits back.
    fixture.host.http.expect("GET", "https://a.example.com/", answer(200, ""));
    assert!(fixture.tell_for(&granted, first, get).await.starts_with("Ok((200"));
}
