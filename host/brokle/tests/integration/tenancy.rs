//! Every operation of the HTTP surface, by whoever may not: without a key, with a key that has ended, with one whose scopes
//! don't cover it, and with another organization's, to which what is somebody else's is as good as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use brokle_core::clock::{Clock as _, ManualClock, SystemClock};
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::KeyService;
use brokle_identity::keys::NewKey;
use brokle_storage::sql::{ConnectOptions, Database};
use serde_json::{Value, json};

use crate::cli::{KEY, Server, brokle};

/// What is for everybody, or says who it is in another way.
const OPEN: &[&str] = &[
    "GET /health",
    "GET /health/analytics",
    "GET /health/db",
    "GET /health/live",
    "GET /health/plugins",
    "GET /health/providers",
    "GET /health/ready",
    "GET /metrics",
    "GET /openapi.json",
    // In the first message, or by a ticket.
    "GET /ws",
];
/// What a key may whatever its scopes.
const WITHOUT_A_SCOPE: &[&str] = &["POST /v1/auth/validate-key"];
/// Names in paths that aren't of something that an organization has, or of nothing that can be had here.
const NOBODYS: &[&str] = &[
    // The instance's components, models by their names, connections by theirs.
    "/api/v1/plugins/{id}",
    "/v1/models/{id}",
    "/v1/providers/{name}/{path}",
    "/v1beta/models/{call}",
    // What can't be stored is made in host/api/tests/integration/queue.rs.
    "/api/v1/queue/dead-letters/{id}",
];

struct Answer {
    status: u16,
    body: String,
}

fn ask(server: &Server, key: &str, operation: &str, kind: &str, body: &str) -> Answer {
    let key = if key.is_empty() { String::new() } else { format!("\r\nauthorization: Bearer {key}") };
    let answer = server.send_as(&format!("{operation} HTTP/1.1{key}"), kind, body);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{operation}: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: body.to_owned() }
}

/// What is made as the bootstrap key's own.
fn made(server: &Server, operation: &str, body: &Value) -> Value {
    let Answer { status, body } = ask(server, KEY, operation, "application/json", &body.to_string());
    assert!((200..300).contains(&status), "{operation}: {status} {body}");
    serde_json::from_str(&body).unwrap()
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Method and path of all operations.
fn operations(server: &Server) -> Vec<String> {
    let described = ask(server, "", "GET /openapi.json", "application/json", "");
    let described: Value = serde_json::from_str(&described.body).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let methods = |path: &Value| path.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let operations = paths.iter().flat_map(|(path, of)| {
        methods(of).into_iter().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let operations: Vec<_> = operations.collect();
    assert!(operations.len() >= 120, "{operations:?}");
    operations
}

/// A path with these names in the places of `{id}` and the like.
fn filled(operation: &str, names: &BTreeMap<&str, String>) -> String {
    names.iter().fold(operation.to_owned(), |path, (place, name)| path.replace(&format!("{{{place}}}"), name))
}

/// A server, an organization beside the one that it begins with, and keys of that one: with every scope, and with one.
struct Scene {
    server: Server,
    stranger: String,
    narrow: String,
    ended: Vec<String>,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
        let server = Server::start(command);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let [stranger, narrow, revoked, expired] =
            runtime.block_on(keys(&directory.path().join("data/brokle.db")));
        Self { server, stranger, narrow, ended: vec![revoked, expired], _directory: directory }
    }
}

/// An organization beside the one that a server makes, with a project.
pub(crate) async fn another_organization(database: &Database) -> Tenant {
    let (clock, random) = (SystemClock, SystemRandom);
    let tenant = Tenant {
        organization: OrganizationId::generate(&clock, &random),
        project: ProjectId::generate(&clock, &random),
        environment: EnvironmentId::generate(&clock, &random),
    };
    let now = clock.now();
    database.organizations().create(tenant.organization, "Other", "other", now).await.unwrap();
    database.projects().create(tenant.organization, tenant.project, "default", now).await.unwrap();
    database.environments().create(tenant, "development", now).await.unwrap();
    tenant
}

/// Keys of another organization: with every scope, with one, and two that have ended.
async fn keys(database: &Path) -> [String; 4] {
    let (clock, random) = (SystemClock, SystemRandom);
    let database = format!("sqlite:{}", database.display());
    let database = Database::connect(&database, ConnectOptions::default()).await.unwrap();
    let tenant = another_organization(&database).await;
    // An hour ago: what was to expire since has.
    let then = Arc::new(ManualClock::new(clock.now() - chrono::TimeDelta::hours(1)));
    let keys = KeyService::new(database.clone(), then.clone(), Arc::new(random));
    let of = |scope: &str| NewKey { name: scope.into(), scopes: vec![scope.into()], ..NewKey::default() };
    let (_, every) = keys.create(tenant, of("admin")).await.unwrap();
    let (_, narrow) = keys.create(tenant, of("queue:read")).await.unwrap();
    let (key, revoked) = keys.create(tenant, of("admin")).await.unwrap();
    keys.revoke(tenant.organization, key.id).await.unwrap();
    let soon = Some(then.now() + chrono::TimeDelta::minutes(1));
    let (_, expired) = keys.create(tenant, NewKey { expires_at: soon, ..of("admin") }).await.unwrap();
    database.close().await;
    [every, narrow, revoked, expired].map(|key| key.expose().to_owned())
}

#[test]
fn without_a_key_that_may_nothing_is_done() {
    let scene = Scene::new();
    let server = &scene.server;
    let names = ["id", "route", "config", "trace_id", "name", "path"];
    let names = names.into_iter().map(|name| (name, "01KZZZZZZZZZZZZZZZZZZZZZZZ".to_owned()));
    let names = names.chain([("call", "gemini:generateContent".to_owned())]).collect();
    let (mut open, mut without) = (BTreeSet::new(), BTreeSet::new());
    for operation in operations(server) {
        let path = filled(&operation, &names);
        let is_form = ["/audio/trans", "/images/edits", "/v1/files"].iter().any(|form| path.contains(form));
        let kind = if is_form { "multipart/form-data; boundary=x" } else { "application/json" };
        let status = |key: &str| ask(server, key, &path, kind, "{}").status;
        if status("") != 401 {
            open.insert(operation);
            continue;
        }
        for key in &scene.ended {
            assert_eq!(status(key), 401, "{operation}, with a key that has ended");
        }
        match status(&scene.narrow) {
            403 => {}
            // Its one scope is for these.
            _ if operation.starts_with("GET /api/v1/queue/") => {}
            _ => {
                without.insert(operation);
            }
        }
    }
    assert_eq!(open, OPEN.iter().map(|&one| one.to_owned()).collect());
    assert_eq!(without, WITHOUT_A_SCOPE.iter().map(|&one| one.to_owned()).collect());
}

#[test]
fn what_is_another_organizations_is_as_good_as_missing() {
    const TRACE: &str = "0123456789abcdef0123456789abcdef";
    let scene = Scene::new();
    let server = &scene.server;
    let project =
        made(server, "POST /v1/auth/validate-key", &json!({}))["project_id"].as_str().unwrap().to_owned();
    let span = json!({"traceId": TRACE, "spanId": "0123456789abcdef", "name": "a", "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000000000001"});
    made(server, "POST /v1/traces", &json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}));
    let connection = json!({"name": "mine", "provider": "openai", "secret": "sk-1", "base_url": "https://api.openai.com/v1"});
    let connection = id(&made(server, "POST /api/v1/connections?verify=false", &connection));
    let key = id(&made(server, "POST /api/v1/keys", &json!({"name": "another"})));
    let route = json!({"name": "mine", "candidates": [{"provider": "echo", "model": "echo-1"}]});
    let route = id(&made(server, "POST /api/v1/routes", &route));
    let config = json!({"name": "quality", "data_type": "numeric"});
    let config = id(&made(server, &format!("POST /api/v1/projects/{project}/score-configs"), &config));
    let score = id(&made(server, "POST /v1/scores", &json!({"name": "mine", "value": 1, "trace_id": TRACE})));
    let response = id(&made(server, "POST /v1/responses", &json!({"model": "echo/echo-1", "input": "hi"})));
    let form = "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; \
                name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\
                \"body\":{\"model\":\"echo/echo-1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}}\r\n--x--\r\n";
    let file = ask(server, KEY, "POST /v1/files", "multipart/form-data; boundary=x", form);
    let file = id(&serde_json::from_str(&file.body).unwrap_or_else(|_| panic!("{}", file.body)));
    let batch =
        json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let batch = id(&made(server, "POST /v1/batches", &batch));

    // Whose, by the path up to it; what is missing; and a body with which its owner is heard.
    let missing = |id: &str| -> String {
        let (kept, changed) = id.split_at(id.len() - 4);
        format!("{kept}{}", if changed == "0000" { "1111" } else { "0000" })
    };
    let things: Vec<(&str, &str, String)> = vec![
        ("/api/v1/connections/", "id", connection),
        ("/api/v1/keys/", "id", key),
        ("/api/v1/routes/", "route", route),
        ("/api/v1/traces/", "trace_id", TRACE.to_owned()),
        ("/v1/files/", "id", file),
        ("/v1/batches/", "id", batch),
        ("/v1/responses/", "id", response),
        ("/v1/scores/", "id", score),
        ("/api/v1/projects/", "id", project),
    ];
    let bodies: BTreeMap<&str, Value> = BTreeMap::from([
        ("PATCH /api/v1/connections/{id}", json!({"name": "theirs"})),
        ("PATCH /api/v1/routes/{route}", json!({"policy": "weighted"})),
        ("POST /api/v1/routes/{route}/rollback", json!({"version": 1})),
        ("POST /api/v1/projects/{id}/metrics", json!({"measures": ["count"]})),
        ("PUT /api/v1/projects/{id}/retention", json!({"days": 1})),
        ("POST /api/v1/projects/{id}/retention/run", json!({"dry_run": true})),
        ("POST /api/v1/projects/{id}/score-configs", json!({"name": "theirs", "data_type": "numeric"})),
        ("PATCH /api/v1/projects/{id}/score-configs/{config}", json!({"description": "theirs"})),
        ("PATCH /api/v1/projects/{id}/traces/{trace_id}", json!({"tags": ["theirs"]})),
    ]);
    let query = |operation: &str| match operation {
        "GET /api/v1/projects/{id}/metrics" => "?measures=count",
        "GET /api/v1/projects/{id}/metrics/points" => "?name=a",
        _ => "",
    };
    let mut checked = 0;
    for operation in operations(server).into_iter().filter(|operation| operation.contains('{')) {
        let path = operation.split_once(' ').unwrap().1;
        if NOBODYS.iter().any(|nobodys| path.starts_with(nobodys)) {
            continue;
        }
        let thing = things.iter().find(|(prefix, ..)| path.starts_with(prefix));
        let (_, place, name) = thing.unwrap_or_else(|| panic!("nobody says whose {path} is"));
        let mut theirs = BTreeMap::from([(*place, name.clone())]);
        theirs.insert("config", config.clone());
        theirs.entry("trace_id").or_insert_with(|| TRACE.to_owned());
        let none: BTreeMap<_, _> = theirs.iter().map(|(place, name)| (*place, missing(name))).collect();
        let body = bodies.get(operation.as_str()).map_or_else(|| "{}".to_owned(), Value::to_string);
        let asked = |names: &BTreeMap<&str, String>| {
            let path = filled(&operation, names) + query(&operation);
            let Answer { status, mut body } = ask(server, &scene.stranger, &path, "application/json", &body);
            // Who asks for it may see its name again, and each answer has an id of its own.
            let id =
                body.split_once("\"request_id\":\"").and_then(|(_, rest)| rest.get(..26)).map(str::to_owned);
            for name in names.values().chain(&id) {
                body = body.replace(name.as_str(), "…");
            }
            Answer { status, body }
        };
        let (foreign, absent) = (asked(&theirs), asked(&none));
        assert_eq!(absent.status, 404, "{operation}: {}", absent.body);
        assert_eq!((foreign.status, foreign.body), (absent.status, absent.body), "{operation}");
        checked += 1;
    }
    assert!(checked >= 40, "{checked}");
    // Nor does a list, a sum or an export show any of it, and all of it is still there.
    for operation in [
        "GET /api/v1/connections",
        "GET /api/v1/routes",
        "GET /api/v1/traces",
        "GET /v1/files",
        "GET /v1/batches",
        "GET /v1/scores",
    ] {
        let list = |key: &str| -> Value {
            let Answer { status, body } = ask(server, key, operation, "application/json", "");
            assert_eq!(status, 200, "{operation}: {body}");
            let document = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
            serde_json::from_str(document.unwrap()).unwrap()
        };
        assert_eq!(list(&scene.stranger)["data"], json!([]), "{operation}");
        assert_ne!(list(KEY)["data"], json!([]), "{operation}");
    }
}
