//! Vendors by name, through a component that serves many.

use std::sync::Arc;

use brokle_gateway::connections::{Connection, NewConnection, Template};
use brokle_gateway::egress::Egress;
use brokle_plugins::{Active, View};
use brokle_runtime::ProviderPlugin;
use brokle_test_upstream::{Fault, Upstream, content as expected};

use crate::harness::{To, World, component, content, world};

fn to(plugin: &'static str, upstream: &Upstream) -> To {
    To { name: "mine", plugin, url: upstream.base_url(), priority: 0, models: Vec::new() }
}

#[tokio::test]
async fn a_vendor_is_called_by_its_presets_name() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![to("provider_openai_compatible:groq", &upstream)]).await;
    let answer = world.chat("groq/openai/gpt-oss-20b", r#","max_tokens":50"#).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-brokle-provider"), Some("groq"));
    assert!(answer.header("x-brokle-cost").is_some(), "the catalogue has its prices");
    let sent = upstream.requests().pop().unwrap().json().unwrap();
    assert_eq!((&sent["model"], &sent["max_completion_tokens"]), (&"openai/gpt-oss-20b".into(), &50.into()));
    assert_eq!(sent.get("max_tokens"), None);
    // By the catalogue, without the preset's name, and as a stream that is decoded.
    let events = world.chat("openai/gpt-oss-20b", r#","stream":true"#).await.events().await;
    assert_eq!(content(&events), expected(&Fault::default()));
    assert!(events.iter().all(|event| event["usage"].is_null()), "the caller didn't ask");
    let refused = world.chat("groq/openai/gpt-oss-20b", r#","n":2"#).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json().await["error"]["param"], "n");
}

async fn compatible(world: &World, embedded: bool) -> Active<ProviderPlugin> {
    let bytes = component("provider_openai_compatible");
    let plugin = ProviderPlugin::load(&world.runtime, &bytes).await.unwrap();
    Active { embedded, ..Active::plain(Arc::new(plugin)) }
}

fn bind(view: &View, provider: &str, preset: Option<&str>) -> Result<Connection, String> {
    let options = preset.map(|preset| ("preset".to_owned(), preset.into()));
    let new = NewConnection {
        name: "c".into(),
        options: options.into_iter().collect(),
        ..NewConnection::default()
    };
    let template = Template { provider: provider.into(), new, trusted: false };
    template.bind(view, &Egress::new(false, std::time::Duration::from_secs(1), 0))
}

#[tokio::test]
async fn an_address_is_filled_from_the_connections_options() {
    let world = world(Vec::new()).await;
    let mut view = View::new();
    view.add_provider(compatible(&world, true).await);
    let bind = |options: serde_json::Value| {
        let options = options.as_object().unwrap().clone();
        let new = NewConnection { name: "c".into(), options, ..NewConnection::default() };
        let template = Template { provider: "azure-foundry".into(), new, trusted: false };
        template.bind(&view, &Egress::new(false, std::time::Duration::from_secs(1), 0))
    };
    let ours = bind(serde_json::json!({"resource": "ours"})).unwrap();
    assert_eq!(ours.origin.unwrap().host(), "ours.services.ai.azure.com");
    let missing = bind(serde_json::json!({})).unwrap_err();
    assert!(missing.contains("connection 'c': its option 'resource' is missing"), "{missing}");
    assert!(bind(serde_json::json!({"resource": "evil.example/"})).is_err());
}

#[tokio::test]
async fn a_preset_gives_address_and_options_and_the_connection_may_say_otherwise() {
    let world = world(Vec::new()).await;
    let mut view = View::new();
    view.add_provider(compatible(&world, true).await);
    let groq = bind(&view, "groq", None).unwrap();
    assert_eq!((groq.origin.as_ref().unwrap().host(), groq.catalogue.as_str()), ("api.groq.com", "groq"));
    let options: serde_json::Value = serde_json::from_slice(&groq.options).unwrap();
    assert_eq!((&options["preset"], &options["reasoning"]), (&"groq".into(), &"reasoning".into()));
    assert!(groq.attributes.contains(&("credential".into(), "none".into())));

    let by_option = bind(&view, "openai-compatible", Some("together")).unwrap();
    assert_eq!(
        (by_option.provider_name(), by_option.origin.as_ref().unwrap().host()),
        ("together", "api.together.ai")
    );
    let unknown = bind(&view, "openai-compatible", Some("nobody")).unwrap_err();
    assert!(unknown.contains("there is no preset 'nobody'"), "{unknown}");
    let homeless = bind(&view, "databricks", None).unwrap_err();
    assert!(homeless.contains("no base URL"), "{homeless}");
}

#[tokio::test]
async fn only_the_servers_own_components_give_names_away() {
    let world = world(Vec::new()).await;
    let mut view = View::new();
    view.add_provider(compatible(&world, false).await);
    assert!(bind(&view, "groq", None).is_err(), "a stranger's component takes no vendor's name");
    assert!(bind(&view, "openai-compatible", Some("groq")).is_ok(), "it is named, and so meant");
}
