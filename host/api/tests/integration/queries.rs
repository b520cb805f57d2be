//! Scores, lists, exports and metrics over HTTP; and every request of `docs/queries.md`.

use std::fmt::Write as _;

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::Scope;
use brokle_storage::observations::Inserted;
use brokle_storage::observations::query::metrics::{Counter, Dimension, Quantity, ScoreStatistic, Statistic};
use brokle_storage::observations::query::{Filter, Key, Subject};
use serde_json::{Value, json};

use crate::harness::{Answer, KEY, Server};

const TRACE: &str = "5b8efff798038103d269b633813fc60c";
const PAGE: &str = include_str!("../../../../docs/queries.md");

async fn start() -> (Server, Tenant, String) {
    started(Server::with_telemetry(1 << 20).await).await
}

/// Runs `async fn name(server, tenant, project's path)` with the observations in SQLite and in ClickHouse.
macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name(super::start().await).await;
            }

            #[tokio::test]
            async fn clickhouse() {
                if let Some(server) = crate::harness::Server::with_clickhouse().await {
                    super::$name(super::started(server).await).await;
                }
            }
        }
    )+};
}

on_every_store!(
    every_request_of_the_page_is_answered,
    pages_and_exports_have_every_row_once,
    what_is_said_of_a_trace_is_shown,
);

async fn started(server: Server) -> (Server, Tenant, String) {
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let project = format!("/api/v1/projects/{}", tenant.project);
    (server, tenant, project)
}

async fn get(server: &Server, path: &str) -> Answer {
    server.send(&format!("GET {path}\nx-api-key: {KEY}")).await
}

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let head = format!("POST {path}\nx-api-key: {KEY}");
    server.send_body(&head, "application/json", body.to_string().as_bytes()).await
}

/// Calls of the last minute; each with a second more.
fn insert(server: &Server, tenant: Tenant, count: u32) -> Vec<Observation> {
    let now = SystemClock.now().timestamp_micros();
    let rows: Vec<_> = (0..count)
        .map(|n| {
            let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
            let new = Observation::new(tenant, trace, span, Kind::Generation, now - 1_000_000 - i64::from(n));
            Observation { name: format!("call {n}").into(), duration_us: u64::from(n) * 1_000_000, ..new }
        })
        .collect();
    let mut inserted = Inserted::default();
    server.app.observations.as_ref().unwrap().insert(&rows, &mut inserted).unwrap();
    rows
}

fn code(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    let code = body["error"]["code"].as_str().or(body["code"].as_str()).unwrap_or_default();
    (answer.status, code.to_owned())
}

async fn every_request_of_the_page_is_answered((server, tenant, _): (Server, Tenant, String)) {
    let mut call = insert(&server, tenant, 1).remove(0);
    call.trace_id = TRACE.parse().unwrap();
    let mut inserted = Inserted::default();
    server.app.observations.as_ref().unwrap().insert(&[call], &mut inserted).unwrap();

    let mut fence = "";
    let (mut requests, mut filters) = (Vec::new(), 0);
    for line in PAGE.lines() {
        if let Some(name) = line.strip_prefix("```") {
            fence = name;
        } else if fence == "http" {
            requests.push(line.replace("PROJECT", &tenant.project.to_string()));
        } else if fence == "filter" {
            filters += 1;
            Filter::parse(line, Subject::Observations).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    assert!(requests.len() >= 15 && filters >= 10);
    // What the page says last, scores, is there for what it asks first; deleting them goes last.
    requests.sort_by_key(|line| (!line.starts_with("POST /v1/scores"), line.starts_with("DELETE")));
    for line in requests {
        let mut parts = line.splitn(3, ' ');
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        let head = format!("{method} {path}\nx-api-key: {KEY}");
        let answer = match parts.next() {
            Some(body) => server.send_body(&head, "application/json", body.as_bytes()).await,
            None => server.send(&head).await,
        };
        assert!((200..300).contains(&answer.status), "{line}: {answer:?}");
        if line.contains("scores.helpfulness:%3E0.8") {
            assert_eq!(answer.json()["data"][0]["id"], TRACE, "{line}");
        }
        if line.contains("scores.helpfulness.avg") {
            assert_eq!(answer.json()["data"][0]["scores.helpfulness.count"], json!(1), "{answer:?}");
        }
    }
}

#[test]
fn the_page_has_every_name() {
    let names = Key::ALL.iter().map(|key| key.as_str());
    let names = names.chain(Counter::ALL.iter().map(|one| one.as_str()));
    let names = names.chain(Quantity::ALL.iter().map(|one| one.as_str()));
    let names = names.chain(Dimension::ALL.iter().map(|one| one.as_str()));
    for name in names {
        assert!(PAGE.contains(&format!("| `{name}` |")), "{name} isn't in docs/queries.md");
    }
    let names = Statistic::ALL.iter().map(|one| one.as_str());
    for name in names.chain(ScoreStatistic::ALL.iter().map(|one| one.as_str())) {
        assert!(PAGE.contains(&format!("`{name}`")), "{name} isn't in docs/queries.md");
    }
}

#[tokio::test]
async fn a_score_is_stored_once_listed_and_deleted() {
    let (server, ..) = start().await;
    let score = json!({"id": "mine", "trace_id": TRACE, "name": "good", "value": 0.5, "metadata": {"a": 1}});
    for _ in 0..2 {
        let stored = post(&server, "/v1/scores", &score).await;
        assert_eq!(
            (stored.status, &stored.json()["id"], &stored.json()["data_type"]),
            (201, &json!("mine"), &json!("numeric"))
        );
    }
    let listed = get(&server, &format!("/v1/scores?trace_id={TRACE}")).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["value"], json!(0.5));
    let delete = format!("DELETE /v1/scores/mine\nx-api-key: {KEY}");
    assert_eq!(server.send(&delete).await.status, 204);
    assert_eq!(code(&server.send(&delete).await), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn bad_scores_name_their_member_and_a_bad_one_keeps_its_batch_out() {
    let (server, ..) = start().await;
    let good = json!({"trace_id": TRACE, "name": "n", "value": 1});
    let with = |member: &str, value: Value| {
        let mut score = good.clone();
        score[member] = value;
        score
    };
    let cases = [
        (with("name", json!("")), "name"),
        (with("name", json!("x".repeat(201))), "name"),
        (with("value", json!(null)), "value"),
        (with("value", json!({})), "value"),
        (with("value", json!("x".repeat(501))), "value"),
        (with("data_type", json!("boolean")), ""),
        (with("data_type", json!("text")), "value"),
        (with("data_type", json!("other")), "body"),
        (with("source", json!("me")), "body"),
        (with("trace_id", json!("ABC")), "trace_id"),
        (with("trace_id", json!(null)), "trace_id"),
        (with("span_id", json!("zz")), "span_id"),
        (with("session", json!("both")), "trace_id"),
        (with("comment", json!("x".repeat(9_000))), "comment"),
        (with("metadata", json!({"x": "y".repeat(17_000)})), "metadata"),
        (with("id", json!("a\nb")), "id"),
        (with("timestamp", json!("yesterday")), "body"),
        (with("colour", json!("red")), "body"),
    ];
    for (score, member) in cases {
        let answer = post(&server, "/v1/scores", &score).await;
        if member.is_empty() {
            assert_eq!(answer.json()["value"], json!(true), "1 is a flag if it is said to be one");
            continue;
        }
        assert_eq!(code(&answer), (400, "invalid_score".to_owned()), "{score}");
        assert_eq!(answer.json()["error"]["param"], json!(member), "{score}");
        let batch =
            post(&server, "/v1/scores/batch", &json!({"scores": [with("name", json!("batch")), score]}))
                .await;
        assert_eq!(batch.status, 400);
    }
    let listed = get(&server, "/v1/scores?name=batch").await.json();
    assert_eq!(listed["data"], json!([]), "all or none");
    for scores in [json!([]), json!(vec![good.clone(); 1_001])] {
        assert_eq!(post(&server, "/v1/scores/batch", &json!({ "scores": scores })).await.status, 400);
    }
}

#[tokio::test]
async fn scopes_and_projects_are_borders() {
    let (server, tenant, project) = start().await;
    insert(&server, tenant, 1);
    let reader = server.key(Scope::TracesRead).await;
    let writer = server.key(Scope::TracesWrite).await;
    let as_key = async |key: &str, line: &str| server.send(&format!("{line}\nx-api-key: {key}")).await.status;
    for path in ["observations", "traces", "sessions", "users", "scores", "metrics?measures=count"] {
        assert_eq!(as_key(reader.expose(), &format!("GET {project}/{path}")).await, 200, "{path}");
        assert_eq!(as_key(writer.expose(), &format!("GET {project}/{path}")).await, 403, "{path}");
        // Another's, and none at all, answer the same.
        let mut answers = Vec::new();
        for other in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
            let answer = get(&server, &format!("/api/v1/projects/{other}/{path}")).await;
            answers.push((code(&answer), answer.json()["detail"].clone()));
        }
        assert_eq!(answers[0].0, (404, "not_found".to_owned()));
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(as_key(reader.expose(), "DELETE /v1/scores/x").await, 403);
    assert_eq!(as_key(writer.expose(), "GET /v1/scores").await, 403);
    let head = format!("POST /v1/scores\nx-api-key: {}", reader.expose());
    let score = json!({"trace_id": TRACE, "name": "n", "value": 1}).to_string();
    assert_eq!(server.send_body(&head, "application/json", score.as_bytes()).await.status, 403);
}

#[tokio::test]
async fn what_makes_no_sense_says_so() {
    let (server, _, project) = start().await;
    let cases = [
        ("observations?filter=colour:red", "invalid_filter", "filter"),
        ("observations?filter=status:ok%20-", "invalid_filter", "filter"),
        ("traces?sort=ttft", "invalid_request", "sort"),
        ("users?limit=101", "invalid_request", "limit"),
        ("users?cursor=AAAA", "invalid_request", "cursor"),
        ("observations?fields=name,secret", "invalid_request", "fields"),
        ("observations?format=xml", "invalid_request", "format"),
        ("observations?format=csv&sort=-cost", "invalid_request", "sort"),
        ("observations?from=2024-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "range_too_long", "from"),
        ("observations?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "invalid_request", "from"),
        ("metrics?measures=happiness", "invalid_request", "measures"),
        ("metrics?measures=count&dimensions=a", "invalid_request", "dimensions"),
        ("metrics?measures=count&dimensions=user,model,name,tag", "invalid_request", "dimensions"),
        ("metrics?measures=count&bucket=year", "invalid_request", "bucket"),
        (
            "metrics?measures=count&bucket=minute&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z",
            "query_too_expensive",
            "bucket",
        ),
    ];
    for (path, expected, param) in cases {
        let answer = get(&server, &format!("{project}/{path}")).await;
        assert_eq!(code(&answer), (400, expected.to_owned()), "{path}");
        if expected != "query_too_expensive" {
            assert_eq!(answer.json()["param"], json!(param), "{path}");
        }
    }
    let at = get(&server, &format!("{project}/observations?filter=status:ok%20colour:red")).await.json();
    assert!(at["detail"].as_str().unwrap().contains("at byte 10"), "{at}");
}

async fn pages_and_exports_have_every_row_once((server, tenant, project): (Server, Tenant, String)) {
    let rows = insert(&server, tenant, 1_234);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            get(&server, &format!("{project}/observations?limit=100&sort=duration&fields=name{cursor}"))
                .await
                .json();
        for row in page["data"].as_array().unwrap() {
            assert_eq!(row.as_object().unwrap().len(), 1, "only what was picked: {row}");
            seen.push(row["name"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<_> = rows.iter().map(|row| row.name.to_string()).collect();
    assert_eq!(seen, expected);

    let ndjson = get(&server, &format!("{project}/observations?format=ndjson&fields=name")).await;
    assert_eq!(ndjson.header("content-type"), Some("application/x-ndjson"));
    let names = plain(&ndjson)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone())
        .collect::<Vec<_>>();
    assert_eq!(names, expected.iter().map(|name| json!(name)).collect::<Vec<_>>());

    let mut csv = String::from("span_id,name,duration_ms\r\n");
    for row in rows.iter().take(700) {
        let _ = write!(csv, "{},{},{:.1}\r\n", row.span_id, row.name, row.duration_us as f64 / 1e3);
    }
    let head = format!(
        "GET {project}/observations?fields=span_id,name,duration_ms&limit=700\naccept: text/csv\nx-api-key: {KEY}"
    );
    let answer = server.send(&head).await;
    assert_eq!(plain(&answer), csv);
    for accepted in
        ["/observations?fields=name\naccept: application/vnd.apache.parquet", "/scores?format=parquet"]
    {
        let file = server.send(&format!("GET {project}{accepted}\nx-api-key: {KEY}")).await;
        assert_eq!(file.header("content-type"), Some("application/vnd.apache.parquet"));
        assert_eq!(file.body.matches("PAR1").count(), 2, "whole");
    }
    for list in ["traces", "sessions", "users", "scores"] {
        let lines = plain(&get(&server, &format!("{project}/{list}?format=csv")).await).lines().count();
        assert_eq!(lines, if list == "traces" { 1_235 } else { 1 }, "{list}");
    }
}

/// A body without the framing of its chunks.
fn plain(answer: &Answer) -> String {
    if answer.header("transfer-encoding") != Some("chunked") {
        return answer.body.clone();
    }
    let (mut text, mut left) = (String::new(), answer.body.as_str());
    while let Some((size, rest)) = left.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        left = &rest[size + 2..];
        if size == 0 {
            return text;
        }
    }
    panic!("the stream isn't complete: {answer:?}");
}

#[tokio::test]
async fn metrics_are_told_by_group_and_time() {
    let (server, tenant, project) = start().await;
    insert(&server, tenant, 5);
    let wanted = json!({"measures": ["count", "latency_p50", "cost", "ttft_avg"], "dimensions": ["type", "user"], "bucket": "month", "filter": "call"});
    let found = post(&server, &format!("{project}/metrics"), &wanted).await.json();
    let (mut count, mut rows) = (0, found["data"].as_array().unwrap().clone());
    for row in &mut rows {
        count += row["count"].as_u64().unwrap();
        assert!(row["bucket"].as_str().unwrap().ends_with("-01T00:00:00Z"), "{row}");
        assert_eq!((&row["type"], &row["user"]), (&json!("generation"), &Value::Null));
        assert_eq!((&row["cost"], &row["ttft_avg"]), (&json!("0"), &Value::Null));
    }
    assert_eq!((count, &found["source"]), (5, &json!("rows")));
    if rows.len() == 1 {
        assert_eq!(rows[0]["latency_p50"], json!(2_000.0));
    }
    let summed = get(&server, &format!("{project}/metrics?measures=count")).await.json();
    assert_eq!((&summed["data"], &summed["source"]), (&json!([{"count": 5}]), &json!("rollups")));
}

#[tokio::test]
async fn langfuses_scores_are_taken_and_other_events_refused() {
    use base64::Engine as _;
    let (server, ..) = start().await;
    let pair = |key: &str| base64::engine::general_purpose::STANDARD.encode(format!("pk-lf-any:{key}"));
    let send = async |key: &str, path: &str, body: Value| {
        let head = format!("POST {path}\nauthorization: Basic {}", pair(key));
        server.send_body(&head, "application/json", body.to_string().as_bytes()).await
    };
    let score = json!({"id": "s1", "traceId": TRACE, "name": "good", "value": 1, "dataType": "BOOLEAN", "environment": "default", "metadata": null});
    assert_eq!(send(KEY, "/api/public/scores", score.clone()).await.json(), json!({"id": "s1"}));
    assert_eq!(
        send(&format!("bk_{}", "x".repeat(40)), "/api/public/scores", score.clone()).await.status,
        401
    );
    let mut wrong = score.clone();
    wrong["dataType"] = json!("ODD");
    assert_eq!(
        code(&send(KEY, "/api/public/scores", wrong.clone()).await),
        (400, "invalid_score".to_owned())
    );

    // As the SDK's version 5 sends them.
    let mut third = score.clone();
    third["id"] = json!("s3");
    third["name"] = json!("listed");
    third["source"] = json!("ANNOTATION");
    let all = send(KEY, "/api/public/scores", json!([third])).await;
    assert_eq!((all.status, all.json()), (202, json!({"message": "Accepted", "accepted": 1})));
    let some = send(KEY, "/api/public/scores", json!([third, wrong])).await;
    assert_eq!(
        (some.status, &some.json()["accepted"], &some.json()["rejected"]),
        (207, &json!(1), &json!(1))
    );
    assert_eq!(some.json()["errors"][0]["index"], json!(1));
    let listed = get(&server, "/v1/scores?name=listed&source=annotation").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);

    let event = |id: &str, kind: &str, body: &Value| json!({"id": id, "type": kind, "timestamp": "2026-03-01T00:00:00Z", "body": body});
    let mut second = score.clone();
    second["id"] = json!("s2");
    let batch = json!({"batch": [
        event("e1", "score-create", &second), event("e2", "trace-create", &json!({"id": "t"})), event("e3", "score-create", &wrong),
    ], "metadata": {"sdk_name": "any"}});
    let answer = send(KEY, "/api/public/ingestion", batch).await;
    assert_eq!(answer.status, 207);
    let body = answer.json();
    assert_eq!(body["successes"], json!([{"id": "e1", "status": 201}]));
    let refused: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|error| (&error["id"], &error["status"])).collect();
    assert_eq!(refused, [(&json!("e2"), &json!(400)), (&json!("e3"), &json!(400))]);
    let listed = get(&server, "/v1/scores?name=good").await.json();
    let ids: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|score| (&score["id"], &score["value"])).collect();
    assert_eq!(ids, [(&json!("s2"), &json!(true)), (&json!("s1"), &json!(true))]);
}

#[tokio::test]
async fn scores_are_what_their_config_says() {
    let (server, _, project) = start().await;
    let configs = format!("{project}/score-configs");
    let made = post(
        &server,
        &configs,
        &json!({"name": "tone", "data_type": "categorical", "categories": ["kind", "rude"]}),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let numeric =
        json!({"name": "good", "data_type": "numeric", "min": 0, "max": 1, "description": "How good"});
    let good = post(&server, &configs, &numeric).await.json();
    assert_eq!((&good["min"], &good["description"]), (&json!(0.0), &json!("How good")));
    post(&server, &configs, &json!({"name": "note", "data_type": "text"})).await;
    assert_eq!(code(&post(&server, &configs, &numeric).await), (409, "already_exists".to_owned()));
    let names: Vec<_> = get(&server, &configs).await.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(json!(names), json!(["good", "note", "tone"]));

    let score = |name: &str, value: Value| json!({"trace_id": TRACE, "name": name, "value": value});
    for (name, value, status) in [
        ("good", json!(1), 201),
        ("good", json!(1.01), 400),
        ("good", json!(-1), 400),
        ("good", json!(true), 400),
        ("tone", json!("kind"), 201),
        ("tone", json!("Kind"), 400),
        // A config's type is the score's, where a text alone would be a category.
        ("note", json!("well said"), 201),
        ("free", json!("anything"), 201),
    ] {
        let answer = post(&server, "/v1/scores", &score(name, value.clone())).await;
        assert_eq!(answer.status, status, "{name} {value}: {answer:?}");
        if status == 400 {
            assert_eq!(code(&answer).1, "invalid_score");
            assert_eq!(answer.json()["error"]["param"], "value");
        }
        if name == "note" {
            assert_eq!(answer.json()["data_type"], "text");
        }
    }
    let mismatch = json!({"trace_id": TRACE, "name": "good", "value": 1, "data_type": "boolean"});
    assert_eq!(post(&server, "/v1/scores", &mismatch).await.status, 400);
    let batch = json!({"scores": [score("good", json!(0)), score("good", json!(2))]});
    let answer = post(&server, "/v1/scores/batch", &batch).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("scores[1].value")));
    let theirs = json!({"traceId": TRACE, "name": "good", "value": 7});
    assert_eq!(post(&server, "/api/public/scores", &theirs).await.status, 400);

    let path = format!("{configs}/{}", good["id"].as_str().unwrap());
    let head = |method: &str| format!("{method} {path}\nx-api-key: {KEY}");
    let patch = async |body: Value| {
        server.send_body(&head("PATCH"), "application/json", body.to_string().as_bytes()).await
    };
    let changed = patch(json!({"max": 7, "description": null})).await;
    assert_eq!((&changed.json()["max"], changed.json().get("description")), (&json!(7.0), None));
    assert_eq!(patch(json!({"max": -1})).await.status, 400);
    assert_eq!(patch(json!({"name": "other"})).await.status, 400);
    assert_eq!(post(&server, "/api/public/scores", &theirs).await.status, 200);
    assert_eq!(get(&server, &path).await.json()["min"], 0.0);
    assert_eq!(server.send(&head("DELETE")).await.status, 204);
    assert_eq!(server.send(&head("DELETE")).await.status, 404);
    assert_eq!(post(&server, "/v1/scores", &score("good", json!("free again"))).await.status, 201);
    for bad in [
        json!({"name": "", "data_type": "text"}),
        json!({"name": "x", "data_type": "text", "min": 1}),
        json!({"name": "x", "data_type": "numeric", "min": 2, "max": 1}),
        json!({"name": "x", "data_type": "categorical"}),
        json!({"name": "x", "data_type": "boolean", "categories": ["a"]}),
        json!({"name": "x", "data_type": "vibes"}),
    ] {
        assert_eq!(code(&post(&server, &configs, &bad).await), (400, "invalid_request".to_owned()), "{bad}");
    }
    let reader = server.key(Scope::TracesRead).await;
    let head = format!("POST {configs}\nx-api-key: {}", reader.expose());
    assert_eq!(server.send_body(&head, "application/json", numeric.to_string().as_bytes()).await.status, 403);
}

async fn what_is_said_of_a_trace_is_shown((server, tenant, project): (Server, Tenant, String)) {
    let rows = insert(&server, tenant, 2);
    let path = format!("{project}/traces/{}", rows[0].trace_id);
    let patch = async |path: &str, body: Value| {
        let head = format!("PATCH {path}\nx-api-key: {KEY}");
        server.send_body(&head, "application/json", body.to_string().as_bytes()).await
    };
    let said = patch(&path, json!({"tags": ["b", "a", "b"], "user": "ann"})).await;
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(said.json()["update"], json!({"tags": ["b", "a"], "user": "ann"}));
    patch(&path, json!({"bookmarked": true})).await;
    let all = json!({"tags": ["b", "a"], "user": "ann", "bookmarked": true});
    let trace = get(&server, &format!("/api/v1/traces/{}", rows[0].trace_id)).await.json();
    assert_eq!(trace["update"], all);
    assert_eq!(
        get(&server, &format!("/api/v1/traces/{}", rows[1].trace_id)).await.json().get("update"),
        None
    );
    let listed =
        get(&server, &format!("{project}/traces?filter=bookmarked:true%20tag:a%20user:ann")).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!((&listed["data"][0]["user"], &listed["data"][0]["update"]), (&json!("ann"), &all));
    patch(&path, json!({"user": null})).await;
    let listed = get(&server, &format!("{project}/traces?format=ndjson&fields=id,user,update")).await;
    let line = listed.body.lines().find(|line| line.contains(&rows[0].trace_id.to_string())).unwrap();
    assert!(line.contains(r#""user":null"#), "{line}");

    for (path, body, status) in [
        (path.clone(), json!({}), 400),
        (path.clone(), json!({"tags": ["x".repeat(513)]}), 400),
        (path.clone(), json!({"user": ""}), 400),
        (path.clone(), json!({"name": "x"}), 400),
        (format!("{project}/traces/nonsense"), json!({"user": "x"}), 404),
        (format!("/api/v1/projects/01ARZ3NDEKTSV4RRFFQ69G5FAV/traces/{TRACE}"), json!({"user": "x"}), 404),
    ] {
        assert_eq!(patch(&path, body.clone()).await.status, status, "{path} {body}");
    }
    let reader = server.key(Scope::TracesRead).await;
    let head = format!("PATCH {path}\nx-api-key: {}", reader.expose());
    assert_eq!(server.send_body(&head, "application/json", b"{\"bookmarked\":true}").await.status, 403);
}
