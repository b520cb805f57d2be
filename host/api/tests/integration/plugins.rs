//! `/api/v1/plugins`: who may what, and what each answers.

use std::path::PathBuf;

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::keys::NewKey;
use brokle_identity::{Scope, Secret};
use brokle_plugins::PinnedOnly;

use crate::harness::{Answer, KEY, Server};

const ECHO: &str = "brokle.provider-echo";

fn echo() -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let found: Option<PathBuf> = exe
        .ancestors()
        .map(|folder| folder.join("wasm32-wasip2/guest/provider_echo.wasm"))
        .find(|path| path.exists());
    std::fs::read(found.expect("provider_echo.wasm isn't built: run `make plugins`")).unwrap()
}

async fn install(server: &Server, key: &str, query: &str, body: &[u8]) -> Answer {
    let head = format!("POST /api/v1/plugins{query}\nx-api-key: {key}");
    server.send_body(&head, "application/wasm", body).await
}

async fn json(server: &Server, key: &str, line: &str, body: &str) -> Answer {
    server.send_body(&format!("{line}\nx-api-key: {key}"), "application/json", body.as_bytes()).await
}

/// A key with every scope, of an organization that doesn't run the server.
pub(crate) async fn other_tenant(server: &Server) -> (Tenant, Secret) {
    let (clock, random) = (SystemClock, SystemRandom);
    let tenant = Tenant {
        organization: OrganizationId::generate(&clock, &random),
        project: ProjectId::generate(&clock, &random),
        environment: EnvironmentId::generate(&clock, &random),
    };
    let (database, now) = (&server.app.database, clock.now());
    database.organizations().create(tenant.organization, "umbrella", "umbrella", now).await.unwrap();
    database.projects().create(tenant.organization, tenant.project, "default", now).await.unwrap();
    database.environments().create(tenant, "development", now).await.unwrap();
    let scopes = vec![Scope::Admin.to_string()];
    let new = NewKey { name: "theirs".to_owned(), scopes, ..NewKey::default() };
    (tenant, server.app.keys.create(tenant, new).await.unwrap().1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_scope_sees_or_changes_anything() {
    let server = Server::with_plugins(PinnedOnly { dev: true }).await;
    let (reader, gateway) = (server.key(Scope::PluginsRead).await, server.key(Scope::Gateway).await);
    for line in [
        "GET /api/v1/plugins",
        "GET /api/v1/plugins/x",
        "GET /api/v1/plugins/x/versions",
        "GET /api/v1/plugins/x/events",
        "GET /api/v1/plugins/x/config",
        "GET /api/v1/plugins/x/grants",
    ] {
        assert_eq!(server.send(line).await.status, 401, "{line}");
        let weak = server.send(&format!("{line}\nx-api-key: {}", gateway.expose())).await;
        assert_eq!((weak.status, weak.json()["code"].as_str()), (403, Some("insufficient_scope")), "{line}");
    }
    for line in [
        "POST /api/v1/plugins",
        "PATCH /api/v1/plugins/x",
        "DELETE /api/v1/plugins/x",
        "POST /api/v1/plugins/x/rollback",
        "PUT /api/v1/plugins/x/config",
        "PUT /api/v1/plugins/x/grants",
    ] {
        assert_eq!(server.send(line).await.status, 401, "{line}");
        let weak = json(&server, reader.expose(), line, "{}").await;
        assert_eq!((weak.status, weak.json()["code"].as_str()), (403, Some("insufficient_scope")), "{line}");
    }
    assert_eq!(
        server.send(&format!("GET /api/v1/plugins\nx-api-key: {}", reader.expose())).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_decides_for_itself_only() {
    let server = Server::with_plugins(PinnedOnly { dev: true }).await;
    let (tenant, theirs) = other_tenant(&server).await;
    let theirs = theirs.expose();
    assert_eq!(install(&server, KEY, "", &echo()).await.status, 201);
    let path = format!("/api/v1/plugins/{ECHO}");
    for (line, body) in [
        ("POST /api/v1/plugins".to_owned(), r#"{"reference":"oci://127.0.0.1:1/x:1"}"#),
        (format!("PATCH {path}"), r#"{"enabled":false}"#),
        (format!("DELETE {path}"), ""),
        (format!("POST {path}/rollback"), ""),
        (format!("PUT {path}/config"), "{}"),
        (format!("PUT {path}/grants"), "{}"),
        (format!("GET {path}/events"), ""),
        (format!("GET {path}/grants"), ""),
    ] {
        let refused = json(&server, theirs, &line, body).await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("operator_only")), "{line}");
    }
    let off =
        json(&server, theirs, &format!("PATCH {path}"), r#"{"enabled":false,"scope":"organization"}"#).await;
    assert_eq!(off.status, 200, "{off:?}");
    let snapshot = server.app.plugin_catalogue.as_ref().unwrap().snapshots().load();
    assert!(snapshot.of(tenant).provider("echo").is_none(), "off for them");
    assert!(snapshot.instance().provider("echo").is_some(), "and for nobody else");
    let scopes = off.json()["scopes"].as_array().unwrap().clone();
    assert_eq!(scopes.len(), 1, "they see their own setting: {scopes:?}");
    let ours = server.send(&format!("GET {path}/events?scope=organization\nx-api-key: {KEY}")).await.json();
    assert_eq!(ours["data"].as_array().unwrap().len(), 0, "and we don't see theirs: {ours}");
    let events =
        server.send(&format!("GET {path}/events?scope=organization\nx-api-key: {theirs}")).await.json();
    assert_eq!(events["data"][0]["event"], "disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_comes_in_is_switched_and_goes() {
    let server = Server::with_plugins(PinnedOnly { dev: true }).await;
    let path = format!("/api/v1/plugins/{ECHO}");
    let made = install(&server, KEY, "?enable=false&name=echo.wasm", &echo()).await;
    assert_eq!(
        (made.status, made.json()["versions"][0]["state"].as_str()),
        (201, Some("installed")),
        "{made:?}"
    );
    let on = json(&server, KEY, &format!("PATCH {path}"), r#"{"enabled":true,"version":"0.1.0"}"#).await;
    assert_eq!((on.status, on.json()["versions"][0]["state"].as_str()), (200, Some("enabled")), "{on:?}");
    let used = json(&server, KEY, &format!("DELETE {path}"), "").await;
    assert_eq!((used.status, used.json()["code"].as_str()), (409, Some("PLUGIN_IN_USE")));
    let back = json(&server, KEY, &format!("POST {path}/rollback"), "").await;
    assert_eq!((back.status, back.json()["code"].as_str()), (409, Some("PLUGIN_NO_PREVIOUS")));
    let wrong = json(&server, KEY, &format!("PUT {path}/config?scope=project"), r#"{"colour":"red"}"#).await;
    assert_eq!((wrong.status, wrong.json()["param"].as_str()), (422, Some("/colour")), "{wrong:?}");
    assert_eq!(wrong.json()["code"], "PLUGIN_CONFIG");
    let unasked = json(&server, KEY, &format!("PUT {path}/grants"), r#"{"kv":{}}"#).await;
    assert_eq!((unasked.status, unasked.json()["param"].as_str()), (422, Some("/kv")), "{unasked:?}");
    let page = server.send(&format!("GET {path}/events?limit=1\nx-api-key: {KEY}")).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let next =
        server.send(&format!("GET {path}/events?limit=1&cursor={cursor}\nx-api-key: {KEY}")).await.json();
    assert_ne!(page["data"][0]["id"], next["data"][0]["id"]);
    assert!(page["data"][0]["actor"].as_str().unwrap().starts_with("key:"), "{page}");
    assert_eq!(json(&server, KEY, &format!("PATCH {path}"), r#"{"enabled":false}"#).await.status, 200);
    assert_eq!(json(&server, KEY, &format!("DELETE {path}"), "").await.status, 204);
    assert_eq!(server.send(&format!("GET {path}\nx-api-key: {KEY}")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_by_its_code() {
    let server = Server::with_plugins(PinnedOnly::default()).await;
    let refused = install(&server, KEY, "", &echo()).await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (422, Some("PLUGIN_UNSIGNED")),
        "{refused:?}"
    );
    let broken = install(&server, KEY, "", b"not a component").await;
    assert_eq!((broken.status, broken.json()["code"].as_str()), (422, Some("PLUGIN_INVALID")));
    let kind = server.send_body(&format!("POST /api/v1/plugins\nx-api-key: {KEY}"), "text/plain", b"x").await;
    assert_eq!(kind.status, 415);
    let signature = format!("POST /api/v1/plugins\nx-api-key: {KEY}\nx-plugin-signature: %%%");
    assert_eq!(server.send_body(&signature, "application/wasm", &echo()).await.status, 400);
    let away = json(&server, KEY, "POST /api/v1/plugins", r#"{"reference":"oci://127.0.0.1:1/x:1"}"#).await;
    assert_eq!((away.status, away.json()["code"].as_str()), (502, Some("plugin_source")), "{away:?}");
    let head = format!("POST /api/v1/plugins\nx-api-key: {KEY}\ncontent-type: application/wasm");
    let huge = server.send(&format!("{head}\ncontent-length: 70000000")).await;
    assert_eq!((huge.status, huge.json()["code"].as_str()), (413, Some("request_too_large")));
}
