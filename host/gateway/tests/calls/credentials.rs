//! Tokens that are bought: once, for as long as they live, and without a word about what they are bought with.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brokle_core::clock::{ManualClock, SystemClock};
use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::World;
use crate::vendor::{Seen, Vendor, completion, dictated, reply};

const PEM: &str = include_str!("../../../runtime/tests/capabilities/keys/rsa-2048.pem");
const SECRET: &str = "hunter2-of-the-client";

/// A vendor that is its own token endpoint: tokens `t1`, `t2`, … for an hour; `good` says which are taken.
async fn selling(good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Vendor {
    let sold = AtomicUsize::new(0);
    Vendor::start(move |seen| match seen.path.as_str() {
        "/token" => {
            let token = format!("t{}", sold.fetch_add(1, Ordering::SeqCst) + 1);
            reply(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": 3_600}))
        }
        _ if seen.header("authorization").strip_prefix("Bearer ").is_some_and(&good) => completion(),
        _ => reply(401, &json!({"error": {"message": "no such token"}})),
    })
    .await
}

fn client_credentials(vendor: &Vendor) -> Value {
    json!({"auth": {"scheme": "client-credentials", "token_url": format!("{}/token", vendor.origin()), "scope": "a b"}})
}

async fn client(vendor: &Vendor) -> World {
    dictated(vendor.origin(), &format!("my-id:{SECRET}"), json!({}), Arc::new(SystemClock)).await
}

fn tokens(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.header("authorization")).collect()
}

#[tokio::test]
async fn a_token_is_kept_until_a_minute_before_its_end() {
    let vendor = selling(|_| true).await;
    let clock = Arc::new(ManualClock::new("2026-03-01T10:00:00Z".parse().unwrap()));
    let world = dictated(vendor.origin(), &format!("my-id:{SECRET}"), json!({}), clock.clone()).await;
    let ask = client_credentials(&vendor);
    for advance in [0, 0, 3_539, 1] {
        clock.advance(TimeDelta::seconds(advance));
        assert_eq!(world.ask(&ask, "").await.status(), 200);
    }
    assert_eq!(tokens(&vendor.seen("/x")), ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"]);
    let bought = vendor.seen("/token");
    assert_eq!(bought.len(), 2);
    assert_eq!(bought[0].text(), "grant_type=client_credentials&scope=a%20b");
    assert_eq!(bought[0].header("content-type"), "application/x-www-form-urlencoded");
    assert!(bought[0].header("authorization").starts_with("Basic "));
    // Another scope is another token.
    let mut other = ask;
    other["auth"]["scope"] = "c".into();
    assert_eq!(world.ask(&other, "").await.status(), 200);
    assert_eq!(vendor.seen("/token").len(), 3);
}

thread_local! {
    /// What was logged on this thread since somebody listens, in all detail.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Here;

impl std::io::Write for Here {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.iter_mut().for_each(|logged| logged.extend_from_slice(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn fifty_calls_buy_one_token_and_share_one_failure() {
    // For the whole process: one for a thread alone doesn't hear what another thread has come by first.
    let lines =
        tracing_subscriber::fmt().with_env_filter("brokle_gateway=trace,hyper=trace,hyper_util=trace");
    tracing::subscriber::set_global_default(lines.with_writer(|| Here).with_ansi(false).finish()).unwrap();
    LOGGED.set(Some(Vec::new()));
    for status in [200, 400] {
        let open = Arc::new(Semaphore::new(0));
        let gate = open.clone();
        let vendor = Vendor::slow(move |seen| {
            let gate = gate.clone();
            Box::pin(async move {
                if seen.path != "/token" {
                    return completion();
                }
                gate.acquire().await.unwrap().forget();
                // What it says beside the code quotes what it was sent.
                let said = json!({"error": "invalid_client", "error_description": SECRET, "access_token": "t", "expires_in": 60});
                reply(status, &said)
            })
        })
        .await;
        let world = client(&vendor).await;
        let ask = client_credentials(&vendor);
        let calls = join_all((0..50).map(|_| world.ask(&ask, "")));
        let opened = async {
            // A call asks for its token in the same breath in which its plugin's answer is counted.
            let prepared = || {
                let metrics = world.metrics.encode().unwrap();
                metrics.lines().any(|line| {
                    line.starts_with("brokle_plugin_call_seconds_count")
                        && line.contains(r#"export="prepare""#)
                        && line.ends_with(" 50")
                })
            };
            while !prepared() || vendor.seen("/token").is_empty() {
                tokio::task::yield_now().await;
            }
            open.add_permits(50);
        };
        let (answers, ()) = futures_util::future::join(calls, opened).await;
        assert_eq!(vendor.seen("/token").len(), 1, "status {status}");
        for answer in answers {
            if status == 200 {
                assert_eq!(answer.status(), 200);
                continue;
            }
            assert_eq!(answer.status(), 502);
            let error = answer.json().await["error"].take();
            assert_eq!(error["code"], "upstream_auth_failed");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("'dictated'") && message.contains("400 (invalid_client)"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        // Nothing of it is kept for the next call: neither a failure nor a secret in the trace.
        if status == 400 {
            assert_eq!(world.ask(&ask, "").await.status(), 502);
            assert_eq!(vendor.seen("/token").len(), 2);
        }
        let traces = serde_json::to_string(&world.traces().await).unwrap();
        assert!(!traces.contains("hunter2") && traces.contains("dictated"));
    }
    let logged = String::from_utf8(LOGGED.take().unwrap()).unwrap();
    assert!(logged.contains("the token endpoint answered 400 (invalid_client)"), "{logged}");
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("my-id:{SECRET}"));
    assert!(!logged.contains("hunter2") && !logged.contains(&basic));
}

#[tokio::test]
async fn a_refused_token_is_bought_anew_once() {
    let vendor = selling(|token| token != "t1").await;
    let world = client(&vendor).await;
    let ask = client_credentials(&vendor);
    for _ in 0..2 {
        assert_eq!(world.ask(&ask, "").await.status(), 200);
    }
    assert_eq!(tokens(&vendor.seen("/x")), ["Bearer t1", "Bearer t2", "Bearer t2"]);
    assert_eq!(vendor.seen("/x")[0].body, vendor.seen("/x")[1].body, "the same request");
    assert_eq!(vendor.seen("/token").len(), 2);

    let never = selling(|_| false).await;
    let world = client(&never).await;
    let answer = world.ask(&client_credentials(&never), "").await;
    assert_eq!(answer.status(), 401);
    assert_eq!((never.seen("/token").len(), never.seen("/x").len()), (2, 2));
}

#[tokio::test]
async fn a_service_accounts_assertion_buys_a_token() {
    let vendor = selling(|_| true).await;
    let token_uri = format!("{}/token", vendor.origin());
    let file = json!({"type": "service_account", "client_email": "a@b.example", "private_key": PEM, "token_uri": token_uri});
    let secret = serde_json::to_string_pretty(&file).unwrap();
    let world = dictated(vendor.origin(), &secret, json!({}), Arc::new(SystemClock)).await;
    let ask = json!({"auth": {"scheme": "service-account", "token_url": "https://elsewhere.invalid/", "scope": "s", "audience": "https://aud.example/"}});
    assert_eq!(world.ask(&ask, "").await.status(), 200);
    assert_eq!(tokens(&vendor.seen("/x")), ["Bearer t1"]);
    let bought = vendor.seen("/token").remove(0);
    assert!(
        bought
            .text()
            .starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey")
    );
    assert_eq!(bought.header("authorization"), "");
}

#[tokio::test]
async fn a_credential_goes_to_its_own_endpoint_and_nowhere_else() {
    let (vendor, canary) = (selling(|_| true).await, selling(|_| true).await);
    let url = |vendor: &Vendor| format!("{}/token", vendor.origin());
    let json = |token_url: &str| {
        json!({"client_id": "a", "client_secret": SECRET, "token_url": token_url}).to_string()
    };
    for (secret, asked, code) in [
        // The plugin chooses another origin.
        (format!("a:{SECRET}"), url(&canary), "connection_misconfigured"),
        (format!("a:{SECRET}"), String::new(), "connection_misconfigured"),
        // In the clear, to what isn't this machine; or with something else's credential.
        (json("http://10.0.0.1/token"), String::new(), "connection_misconfigured"),
        (json("http://user:pass@127.0.0.1/token"), String::new(), "connection_misconfigured"),
        (json("ftp://127.0.0.1/token"), String::new(), "connection_misconfigured"),
        // Loopback that nobody configured: the filter for addresses.
        (json("http://127.0.0.2:9/token"), String::new(), "upstream_auth_failed"),
        (json("https://169.254.169.254/token"), String::new(), "upstream_auth_failed"),
        (SECRET.to_owned(), url(&vendor), "connection_credential_unusable"),
    ] {
        let world = dictated(vendor.origin(), &secret, json!({}), Arc::new(SystemClock)).await;
        let ask = json!({"auth": {"scheme": "client-credentials", "token_url": asked}});
        let answer = world.ask(&ask, "").await;
        assert_eq!(answer.status(), 502, "{asked}");
        let text = answer.text().await;
        assert!(text.contains(code) && !text.contains("hunter2"), "{text}");
    }
    assert!(canary.seen("/").is_empty() && vendor.seen("/").is_empty());
    // The credential names its endpoint: that is where it goes, whatever the plugin says.
    let world = dictated(vendor.origin(), &json(&url(&vendor)), json!({}), Arc::new(SystemClock)).await;
    let ask = json!({"auth": {"scheme": "client-credentials", "token_url": url(&canary)}});
    assert_eq!(world.ask(&ask, "").await.status(), 200);
    assert_eq!((vendor.seen("/token").len(), canary.seen("/").len()), (1, 0));
}

#[tokio::test]
async fn what_a_token_endpoint_mustnt_answer_is_no_token() {
    for (status, body, words) in [
        (200, "{}".to_owned(), "no bearer token"),
        (200, "<html>".to_owned(), "no bearer token"),
        (200, json!({"access_token": "a", "token_type": "mac"}).to_string(), "no bearer token"),
        (302, "{}".to_owned(), "answered 302"),
        (503, "hunter2".to_owned(), "answered 503"),
        (200, "x".repeat((64 << 10) + 1), "too large"),
    ] {
        let said = body.clone();
        let vendor = Vendor::start(move |_| (status, "application/json", said.clone().into())).await;
        let world = client(&vendor).await;
        let answer = world.ask(&client_credentials(&vendor), "").await;
        assert_eq!(answer.status(), 502);
        let text = answer.text().await;
        assert!(
            text.contains("upstream_auth_failed") && text.contains(words) && !text.contains("hunter2"),
            "{text}"
        );
        assert!(vendor.seen("/x").is_empty());
    }
}
