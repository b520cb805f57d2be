//! `/api/v1/queue/dead-letters`.

use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::Scope;
use serde_json::{Value, json};

use crate::harness::{KEY, Server};
use crate::plugins::other_tenant;

const PATH: &str = "/api/v1/queue/dead-letters";

/// What no store takes: it begins after the year 9999.
fn bad(tenant: Tenant, name: &'static str) -> Observation {
    let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
    let row = Observation::new(tenant, trace, span, Kind::Generation, i64::MAX);
    Observation { name: name.into(), input: Some("the prompt".into()), ..row }
}

async fn ask(server: &Server, key: &str, line: &str) -> (u16, Value) {
    let (method, rest) = line.split_once(' ').unwrap();
    let answer = server.send(&format!("{method} {PATH}{rest}\nx-api-key: {key}")).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_listed_shown_tried_again_and_dropped() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let recorder = &server.app.ingest.as_ref().unwrap().recorder;
    for name in ["first", "second", "third"] {
        recorder.record(bad(tenant, name));
    }
    recorder.flush().await;

    let (status, page) = ask(&server, KEY, "GET ?limit=2").await;
    assert_eq!((status, ids(&page), &page["next_cursor"]), (200, vec!["1", "2"], &json!("2")));
    let first = &page["data"][0];
    assert_eq!(first["project_id"], tenant.project.to_string());
    assert!(first["reason"].as_str().unwrap().contains("1970 to 9999"), "{first}");
    assert!(first.get("observation").is_none(), "a list has no content");
    let (_, rest) = ask(&server, KEY, "GET ?cursor=2").await;
    assert_eq!((ids(&rest), &rest["next_cursor"]), (vec!["3"], &Value::Null));

    let (_, letter) = ask(&server, KEY, "GET /2").await;
    assert_eq!(
        (&letter["observation"]["name"], &letter["observation"]["input"]),
        (&json!("second"), &json!("the prompt"))
    );
    assert_eq!(ask(&server, KEY, "POST /1/retry").await.0, 204);
    recorder.flush().await;
    assert_eq!(ids(&ask(&server, KEY, "GET ").await.1), ["2", "3", "4"], "it failed again");
    assert_eq!(ask(&server, KEY, "DELETE /2").await.0, 204);
    for line in ["DELETE /2", "GET /2", "POST /2/retry", "GET /1", "GET /x", "GET /9223372036854775807"] {
        let (status, problem) = ask(&server, KEY, line).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{line}");
    }
    for line in
        ["GET ?limit=0", "GET ?limit=101", "GET ?cursor=x", "GET ?scope=organization", "GET ?colour=red"]
    {
        assert_eq!(ask(&server, KEY, line).await.0, 400, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_sees_its_projects_letters_and_operators_see_whose_they_are_but_not_what_they_say() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let (other, theirs) = other_tenant(&server).await;
    let recorder = &server.app.ingest.as_ref().unwrap().recorder;
    recorder.record(bad(other, "theirs"));
    recorder.record(bad(tenant, "mine"));
    recorder.flush().await;
    assert_eq!(ids(&ask(&server, KEY, "GET ").await.1), ["2"]);
    let told = async |line: &str| {
        let (status, mut answer) = ask(&server, KEY, line).await;
        answer["request_id"].take();
        (status, answer)
    };
    for line in ["GET /1", "POST /1/retry", "DELETE /1"] {
        let (theirs, missing) = (told(line).await, told(&line.replace('1', "77")).await);
        assert_eq!((theirs.0, &theirs), (404, &missing), "{line}");
    }
    assert_eq!(ids(&ask(&server, KEY, "GET ?scope=instance").await.1), ["1", "2"]);
    let (status, letter) = ask(&server, KEY, "GET /1?scope=instance").await;
    assert_eq!((status, &letter["project_id"]), (200, &json!(other.project.to_string())));
    assert!(!letter.to_string().contains("prompt"), "{letter}");

    let reader = server.key(Scope::QueueRead).await;
    let writer = server.key(Scope::QueueWrite).await;
    assert_eq!(ask(&server, writer.expose(), "GET ").await.0, 403);
    assert_eq!(ask(&server, reader.expose(), "DELETE /2").await.0, 403);
    assert_eq!(ask(&server, reader.expose(), "POST /2/retry").await.0, 403);
    assert_eq!(ask(&server, reader.expose(), "GET /2").await.0, 200);
    assert_eq!(ask(&server, writer.expose(), "DELETE /1?scope=instance").await.0, 204);

    // Whose organization doesn't run the server has no instance.
    let (status, problem) = ask(&server, theirs.expose(), "GET ?scope=instance").await;
    assert_eq!((status, &problem["code"]), (403, &json!("operator_only")));
    assert_eq!(ask(&server, theirs.expose(), "GET /2").await.0, 404);
}
