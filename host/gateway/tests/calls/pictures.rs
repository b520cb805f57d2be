//! Large pictures and documents: components don't see them, and the vendor gets them whole.

use brokle_gateway::{Asking, Dialect, Operation};
use brokle_test_upstream::Upstream;
use http::HeaderMap;

use crate::harness::{To, World, asking, openai, world};

/// 600 KB in base64, the second with its slashes escaped, as some clients write them.
fn large() -> [String; 2] {
    [format!("{}+/8=", "iVBORw0K".repeat(75_000)), format!("{}Q==", r"JVBE\/+9p".repeat(75_000))]
}

const SMALL: [&str; 2] = ["iVBORw0KGgo=", "JVBERi0xLjQK"];

/// What the vendor gets for a request with small base64 is what it gets for one with large base64, but for that.
async fn carried(world: &World, upstream: &Upstream, dialect: Option<Asking>, body: &str) {
    let mut seen = Vec::new();
    for [picture, document] in [SMALL.map(str::to_owned), large()] {
        let body = body.replace("PICTURE", &picture).replace("DOCUMENT", &document);
        let answer = match &dialect {
            None => world.call(Operation::ChatCompletions, &body).await,
            Some(asking) => world.call_in(asking, &body, HeaderMap::new()).await,
        };
        assert_eq!(answer.status(), 200, "{}", answer.text().await);
        seen.push(upstream.requests().pop().unwrap().body);
    }
    let [small, whole] =
        <[_; 2]>::try_from(seen).unwrap().map(|body| String::from_utf8(body.into()).unwrap());
    let [picture, document] = large();
    assert!(SMALL.iter().all(|small_one| small.contains(small_one)), "{small}");
    let expected = small.replace(SMALL[0], &picture).replace(SMALL[1], &document);
    assert!(whole == expected, "{} bytes instead of {}: {:.400}", whole.len(), expected.len(), whole);
}

/// One beyond what a sandbox may be given (16 MiB) shows that it isn't given it.
#[tokio::test]
async fn a_picture_may_be_larger_than_a_sandbox() {
    let upstream = Upstream::start().await.unwrap();
    let claude =
        To { plugin: "provider_anthropic", url: upstream.origin(), ..openai("claude", &upstream, 0) };
    let world = world(vec![claude]).await;
    let picture = "iVBORw0K".repeat(17 << 17);
    let body = CHAT.replace("MODEL", "anthropic/claude-sonnet-4-5").replace("PICTURE", &picture);
    assert_eq!(world.call(Operation::ChatCompletions, &body).await.status(), 200);
    assert!(upstream.requests().pop().unwrap().body.len() > picture.len());
}

const CHAT: &str = r#"{"model":"MODEL","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},
    {"type":"image_url","image_url":{"url":"data:image/png;base64,PICTURE"}},
    {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,DOCUMENT"}}]}]}"#;
const MESSAGES: &str = r#"{"model":"MODEL","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},
    {"type":"image","source":{"type":"base64","media_type":"image/png","data":"PICTURE"}},
    {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"DOCUMENT"}}]}]}"#;
const RESPONSES: &str = r#"{"model":"MODEL","input":[{"role":"user","content":[{"type":"input_text","text":"What is it?"},
    {"type":"input_image","image_url":"data:image/png;base64,PICTURE"},
    {"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,DOCUMENT"}]}]}"#;

#[tokio::test]
async fn a_large_picture_reaches_the_vendor_whole() {
    let upstream = Upstream::start().await.unwrap();
    let claude =
        To { plugin: "provider_anthropic", url: upstream.origin(), ..openai("claude", &upstream, 0) };
    let world = world(vec![openai("main", &upstream, 0), claude]).await;
    let model = |body: &str, model| body.replace("MODEL", model);
    let messages = || Some(asking(Dialect::AnthropicMessages, "messages"));
    let responses = || Some(asking(Dialect::OpenAiResponses, "responses"));
    let (gpt, sonnet) = ("openai/gpt-4o", "anthropic/claude-sonnet-4-5");
    carried(&world, &upstream, None, &model(CHAT, gpt)).await;
    carried(&world, &upstream, None, &model(CHAT, sonnet)).await;
    carried(&world, &upstream, messages(), &model(MESSAGES, gpt)).await;
    carried(&world, &upstream, messages(), &model(MESSAGES, sonnet)).await;
    carried(&world, &upstream, responses(), &model(RESPONSES, sonnet)).await;
}
