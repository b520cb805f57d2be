//! How long telemetry is kept, over HTTP, and deleting projects.

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::Scope;
use brokle_storage::observations::{Inserted, TraceFilter};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{KEY, Server};
use crate::plugins::other_tenant;

async fn ask(server: &Server, key: &str, line: &str, body: &Value) -> (u16, Value) {
    let head = format!("{line}\nx-api-key: {key}");
    let answer = match body {
        Value::Null => server.send(&head).await,
        body => server.send_body(&head, "application/json", body.to_string().as_bytes()).await,
    };
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

/// Calls of so many days ago.
fn insert(server: &Server, tenant: Tenant, days: &[i64]) {
    let row = |days: &i64| {
        let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
        let start = SystemClock.now() - TimeDelta::days(*days);
        Observation::new(tenant, trace, span, Kind::Generation, start.timestamp_micros())
    };
    let rows: Vec<_> = days.iter().map(row).collect();
    server.app.observations.as_ref().unwrap().insert(&rows, &mut Inserted::default()).unwrap();
}

async fn left(server: &Server, tenant: Tenant) -> usize {
    let store = server.app.observations.as_ref().unwrap();
    store.list(tenant.project, TraceFilter::default(), 100, None).await.unwrap().data.len()
}

#[tokio::test]
async fn a_project_keeps_what_it_says_and_a_dry_run_tells_before() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let path = format!("/api/v1/projects/{}/retention", tenant.project);
    let (status, kept) = ask(&server, KEY, &format!("GET {path}"), &Value::Null).await;
    assert_eq!((status, &kept["days"], &kept["default_days"]), (200, &Value::Null, &json!(365)), "{kept}");
    insert(&server, tenant, &[1, 40, 400]);

    let (_, told) = ask(&server, KEY, &format!("POST {path}/run"), &json!({"dry_run": true})).await;
    assert_eq!((&told["observations"], &told["dry_run"]), (&json!(1), &json!(true)), "{told}");
    let (status, kept) = ask(&server, KEY, &format!("PUT {path}"), &json!({"days": 30})).await;
    assert_eq!((status, &kept["days"]), (200, &json!(30)), "{kept}");
    let before: chrono::DateTime<chrono::Utc> = kept["before"].as_str().unwrap().parse().unwrap();
    let age = SystemClock.now() - before;
    assert!(age >= TimeDelta::days(30) && age < TimeDelta::days(31), "{before}");
    assert_eq!(left(&server, tenant).await, 3);
    let (_, told) = ask(&server, KEY, &format!("POST {path}/run"), &json!({"dry_run": false})).await;
    assert_eq!(told["observations"], json!(2), "{told}");
    assert_eq!(left(&server, tenant).await, 1);

    for bad in [json!({"days": 0}), json!({"days": 3651}), json!({"days": -1}), json!({"day": 1})] {
        let (status, problem) = ask(&server, KEY, &format!("PUT {path}"), &bad).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{bad}");
    }
    let reader = server.key(Scope::TracesRead).await;
    assert_eq!(ask(&server, reader.expose(), &format!("GET {path}"), &Value::Null).await.0, 200);
    assert_eq!(ask(&server, reader.expose(), &format!("PUT {path}"), &json!({"days": 1})).await.0, 403);
    assert_eq!(
        ask(&server, reader.expose(), &format!("POST {path}/run"), &json!({"dry_run": true})).await.0,
        403
    );
}

#[tokio::test]
async fn every_projects_is_for_who_runs_the_server() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let (other, theirs) = other_tenant(&server).await;
    insert(&server, tenant, &[400]);
    insert(&server, other, &[1, 400]);
    let (status, problem) =
        ask(&server, theirs.expose(), "POST /api/v1/retention/run", &json!({"dry_run": true})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("operator_only")));
    let path = format!("/api/v1/projects/{}/retention", tenant.project);
    for line in [format!("GET {path}"), format!("PUT {path}"), format!("POST {path}/run")] {
        let body = if line.starts_with("GET") { Value::Null } else { json!({"dry_run": true}) };
        assert_eq!(ask(&server, theirs.expose(), &line, &body).await.0, 404, "{line}");
    }
    let (_, told) = ask(&server, KEY, "POST /api/v1/retention/run", &json!({"dry_run": true})).await;
    assert_eq!(told["observations"], json!(2), "{told}");
    let (_, told) = ask(&server, KEY, "POST /api/v1/retention/run", &json!({"dry_run": false})).await;
    assert_eq!(told["observations"], json!(2), "{told}");
    assert_eq!((left(&server, tenant).await, left(&server, other).await), (0, 1));
}

#[tokio::test]
async fn a_deleted_project_is_gone_with_what_it_left() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let (other, theirs) = other_tenant(&server).await;
    insert(&server, other, &[1]);
    let (mine, their) = (
        format!("DELETE /api/v1/projects/{}", tenant.project),
        format!("DELETE /api/v1/projects/{}", other.project),
    );
    assert_eq!(ask(&server, KEY, &their, &Value::Null).await.0, 404, "another organization's");
    assert_eq!(ask(&server, KEY, "DELETE /api/v1/projects/x", &Value::Null).await.0, 404);
    let (status, problem) = ask(&server, KEY, &mine, &Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &json!("default_project")));
    let reader = server.key(Scope::TracesRead).await;
    assert_eq!(ask(&server, reader.expose(), &mine, &Value::Null).await.0, 403);

    assert_eq!(ask(&server, theirs.expose(), &their, &Value::Null).await.0, 204);
    let (_, told) = ask(&server, KEY, "POST /api/v1/retention/run", &json!({"dry_run": false})).await;
    assert_eq!(told["deleted_projects"], json!([other.project.to_string()]), "{told}");
    assert_eq!(left(&server, other).await, 0);
}
