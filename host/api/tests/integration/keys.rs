//! `/api/v1/keys`: what a key gives, and what it can't.

use brokle_identity::Scope;
use brokle_identity::keys::NewKey;
use brokle_storage::sql::api_keys::Restrictions;
use serde_json::{Value, json};

use crate::harness::{Answer, KEY, Server};

async fn post(server: &Server, key: &str, path: &str, body: &Value) -> Answer {
    let head = format!("POST {path}\nx-api-key: {key}");
    server.send_body(&head, "application/json", body.to_string().as_bytes()).await
}

async fn status(server: &Server, key: &str) -> u16 {
    server.send(&format!("POST /v1/auth/validate-key\nx-api-key: {key}")).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_shown_rotated_and_revoked() {
    let server = Server::default().await;
    let body = json!({ "name": "team", "scopes": ["gateway", "keys:read"], "requests_per_minute": 60,
        "restrictions": { "models": ["gpt-4o*"], "cidrs": ["127.0.0.0/8"] } });
    let made = post(&server, KEY, "/api/v1/keys", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(made["restrictions"]["models"], json!(["gpt-4o*"]));
    let shown = server.send(&format!("GET /api/v1/keys/{id}\nx-api-key: {key}")).await;
    assert_eq!((shown.status, shown.json()["requests_per_minute"].as_u64()), (200, Some(60)));
    let page = server.send(&format!("GET /api/v1/keys?limit=1\nx-api-key: {KEY}")).await.json();
    let next = page["next_cursor"].as_str().unwrap();
    let page = server.send(&format!("GET /api/v1/keys?limit=1&cursor={next}\nx-api-key: {KEY}")).await;
    assert_eq!(page.json()["data"][0]["id"], id);
    assert!(!page.body.contains(key) && !shown.body.contains(key));

    let rotate = format!("/api/v1/keys/{id}/rotate");
    let rotated = post(&server, KEY, &rotate, &json!({})).await.json();
    let fresh = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["id"], id);
    assert!(rotated["previous_expires_at"].is_string());
    assert_eq!((status(&server, key).await, status(&server, fresh).await), (200, 200));
    let past = json!({ "old_until": "2020-01-01T00:00:00Z" });
    let last = post(&server, KEY, &rotate, &past).await.json();
    let last = last["key"].as_str().unwrap();
    assert_eq!((status(&server, fresh).await, status(&server, last).await), (401, 200));
    let far = post(&server, KEY, &rotate, &json!({ "old_until": "2999-01-01T00:00:00Z" })).await;
    assert_eq!((far.status, &far.json()["param"]), (422, &"old_until".into()));

    let revoked = server.send(&format!("DELETE /api/v1/keys/{id}\nx-api-key: {KEY}")).await;
    assert!(revoked.json()["revoked_at"].is_string());
    assert_eq!(status(&server, last).await, 401);
    assert_eq!(post(&server, KEY, &rotate, &json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_gives_more_than_it_has() {
    let server = Server::default().await;
    let writer = server.key(Scope::KeysWrite).await;
    let refused = async |key: &str, path: &str, body: &Value, status: u16, code: &str| {
        let answer = post(&server, key, path, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{answer:?}");
    };
    let gateway = json!({ "name": "x" });
    refused(writer.expose(), "/api/v1/keys", &gateway, 403, "insufficient_scope").await;
    let page = server.send(&format!("GET /api/v1/keys\nx-api-key: {KEY}")).await.json();
    let bootstrap = format!("/api/v1/keys/{}/rotate", page["data"][0]["id"].as_str().unwrap());
    refused(writer.expose(), &bootstrap, &json!({}), 403, "insufficient_scope").await;
    assert_eq!(server.send(&format!("GET /api/v1/keys\nx-api-key: {}", writer.expose())).await.status, 403);
    let own = json!({ "name": "x", "scopes": ["keys:write"] });
    assert_eq!(post(&server, writer.expose(), "/api/v1/keys", &own).await.status, 201);

    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let only = Restrictions { cidrs: vec!["127.0.0.1".into()], ..Restrictions::default() };
    let scopes = vec!["admin".to_owned()];
    let new = NewKey { name: "narrow".into(), scopes, restrictions: only, ..NewKey::default() };
    let narrow = server.app.keys.create(tenant, new).await.unwrap().1;
    refused(narrow.expose(), "/api/v1/keys", &gateway, 403, "key_restricted").await;
    refused(narrow.expose(), &bootstrap, &json!({}), 403, "key_restricted").await;

    for (body, param) in [
        (json!({ "name": "x", "scopes": ["all"] }), "scopes"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x", "restrictions": { "cidrs": ["nowhere"] } }), "cidrs"),
        (json!({ "name": "x", "restrictions": { "endpoints": ["chat"] } }), "endpoints"),
    ] {
        let answer = post(&server, KEY, "/api/v1/keys", &body).await;
        assert_eq!((answer.status, &answer.json()["param"]), (422, &param.into()), "{answer:?}");
    }
    refused(KEY, "/api/v1/keys", &json!({ "name": "x", "restriction": {} }), 400, "invalid_request").await;
    refused(KEY, "/api/v1/keys/nonsense/rotate", &json!({}), 404, "not_found").await;
}
