//! Endpoints, ids, errors.

use brokle_identity::Scope;

use crate::harness::{KEY, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_a_request_id() {
    let server = Server::default().await;
    let own = server.send("GET /health/live").await;
    assert_eq!(own.header("x-request-id").map(str::len), Some(26));
    let kept = server.send("GET /nowhere\nx-request-id: abc-123").await;
    assert_eq!(kept.header("x-request-id"), Some("abc-123"));
    assert_eq!(kept.json()["request_id"], "abc-123");
    for bad in ["a b".to_owned(), "x".repeat(129), "é".to_owned()] {
        let replaced = server.send(&format!("GET /health/live\nx-request-id: {bad}")).await;
        assert_eq!(replaced.header("x-request-id").map(str::len), Some(26), "{bad}");
    }
    let peer = server.send("GET /test/peer").await;
    assert_eq!((peer.status, peer.body.as_str()), (200, "127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_the_form_of_their_path() {
    let server = Server::default().await;
    let unknown = server.send("GET /v1/nowhere").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/json")));
    assert_eq!(
        unknown.body,
        r#"{"error":{"message":"Invalid URL (GET /v1/nowhere)","type":"invalid_request_error","param":null,"code":"unknown_url"}}"#
    );
    let unknown = server.send("GET /api/v1/nowhere\nx-request-id: 1").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
    assert_eq!(
        unknown.body,
        r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"There is nothing at /api/v1/nowhere.","code":"not_found","request_id":"1"}"#
    );
    let method = server.send("GET /v1/auth/validate-key").await;
    assert_eq!((method.status, method.header("allow")), (405, Some("post")));
    assert_eq!(method.json()["error"]["code"], "method_not_allowed");
    let method = server.send("DELETE /health").await;
    assert_eq!((method.status, method.json()["code"].as_str()), (405, Some("method_not_allowed")));
    let dialect = server.send("GET /v1/messages\nx-request-id: 1").await;
    assert_eq!((dialect.status, dialect.header("request-id")), (405, Some("1")));
    assert_eq!(
        dialect.body,
        r#"{"error":{"message":"Not allowed to GET on /v1/messages.","type":"invalid_request_error"},"request_id":"1","type":"error"}"#
    );
    let dialect = server.send("GET /v1beta/nowhere").await;
    assert_eq!((dialect.status, &dialect.json()["error"]["status"]), (404, &"NOT_FOUND".into()));
    let dialect = server.send("PUT /v1/responses").await;
    assert_eq!((dialect.status, &dialect.json()["error"]["code"]), (405, &"method_not_allowed".into()));
    let internal = server.send("GET /v1/test/secret").await;
    assert_eq!((internal.status, internal.json()["error"]["type"].as_str()), (500, Some("server_error")));
    assert!(!internal.body.contains("the cause"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_one_requests_affair() {
    let server = Server::default().await;
    let openai = server.send("GET /v1/test/panic").await;
    assert_eq!((openai.status, openai.json()["error"]["code"].as_str()), (500, Some("internal_error")));
    let problem = server.send("GET /api/v1/test/panic").await;
    assert_eq!((problem.status, problem.json()["code"].as_str()), (500, Some("internal_error")));
    assert!(problem.header("x-request-id").is_some() && !problem.body.contains("as asked"));
    assert_eq!(server.send("GET /health/live").await.status, 200);
    assert!(server.send("GET /metrics").await.body.contains("brokle_panics_total 2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_validated() {
    let server = Server::default().await;
    for header in [format!("authorization: bearer {KEY}"), format!("x-api-key: {KEY}")] {
        let valid = server.send(&format!("POST /v1/auth/validate-key\n{header}")).await;
        assert_eq!(valid.status, 200, "{valid:?}");
        let json = valid.json();
        assert_eq!((json["valid"].as_bool(), json["preview"].as_str()), (Some(true), Some("bk_AbCd...4567")));
        let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
        assert_eq!(json["organization_id"], tenant.organization.to_string());
        assert_eq!(json["project_id"], tenant.project.to_string());
        assert_eq!(json["environment_id"], tenant.environment.to_string());
        assert!(json["scopes"].as_array().unwrap().iter().any(|scope| scope == "admin"));
    }
    for header in
        ["x-none: 1", "authorization: Bearer nonsense", &format!("x-api-key: bk_{}", "0".repeat(40))]
    {
        let refused = server.send(&format!("POST /v1/auth/validate-key\n{header}")).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("bearer")), "{header}");
        assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_guesses_keys_is_held_off_and_a_known_key_isnt() {
    let server = Server::default().await;
    let with = |key: &str| format!("POST /v1/auth/validate-key\nx-api-key: {key}");
    assert_eq!(server.send(&with(KEY)).await.status, 200);
    let before = server.app.keys.lookups();
    for guess in 0..20 {
        assert_eq!(server.send(&with(&format!("bk_{guess:040}"))).await.status, 401);
    }
    let other = server.key(Scope::Gateway).await;
    for key in [format!("bk_{:040}", 20), "nonsense".to_owned(), other.expose().to_owned()] {
        let refused = server.send(&with(&key)).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.json()["error"]["code"], "too_many_failed_keys");
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(server.app.keys.lookups() - before, 20, "and the database isn't asked");
    assert_eq!(server.send(&with(KEY)).await.status, 200);
    // Without a key nothing is guessed; the calls of models have the same door.
    assert_eq!(server.send("POST /v1/auth/validate-key").await.status, 401);
    let listed = server.send("GET /v1/models\nx-api-key: bk_nonsense").await;
    assert_eq!(listed.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_is_needed_and_admin_is_every_scope() {
    let server = Server::default().await;
    let weak = server.key(Scope::Gateway).await;
    let refused = server.send(&format!("GET /api/v1/test/admin\nx-api-key: {}", weak.expose())).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("insufficient_scope")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("`admin`"));
    let strong = server.key(Scope::Admin).await;
    let let_in = server.send(&format!("GET /api/v1/test/admin\nx-api-key: {}", strong.expose())).await;
    assert_eq!((let_in.status, let_in.body.as_str()), (200, "welcome"));
    assert_eq!(server.send("GET /api/v1/test/admin").await.json()["code"], "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_the_server_lives_and_unknown_keys_get_503() {
    let server = Server::default().await;
    let known = format!("POST /v1/auth/validate-key\nx-api-key: {KEY}");
    assert_eq!(server.send(&known).await.status, 200);
    assert_eq!(server.send("GET /health/db").await.status, 200);
    server.app.database.close().await;
    let away = server.send("GET /health/db").await;
    assert_eq!((away.status, away.body.as_str()), (503, r#"{"status":"unavailable","kind":"sqlite"}"#));
    assert_eq!(server.send("GET /health").await.json()["status"], "degraded");
    assert_eq!(server.send("GET /health/ready").await.status, 200);
    assert_eq!(server.send(&known).await.status, 200, "a key in memory goes on");
    let other = server.send(&format!("POST /v1/auth/validate-key\nx-api-key: bk_{}", "1".repeat(40))).await;
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (503, Some("auth_unavailable")));
    assert_eq!(other.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_are_in_the_binary() {
    let server = Server::default().await;
    let page = server.send("GET /docs/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "{}", page.body);
    let script = server.send("GET /docs/swagger-initializer.js").await;
    assert!(script.body.contains("/openapi.json"), "{}", script.body);
    assert_eq!(server.send("GET /docs").await.header("location"), Some("/docs/"));
    assert_eq!(server.send("GET /docs/nothing.js").await.status, 404);
    let described = server.send("GET /openapi.json").await.json();
    assert!(described["paths"]["/v1/auth/validate-key"]["post"].is_object());
}

#[test]
fn the_committed_description_is_the_current_one() {
    let current = serde_json::to_string_pretty(&brokle_api::router::openapi()).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == current, "docs/openapi.json is out of date: run `make docs`");
}
