//! Files and batches that a provider keeps: whose they are, and what they cost.

use std::collections::HashMap;
use std::sync::Mutex;

use brokle_gateway::Refusal;
use brokle_gateway::budgets::{Budget, OnExceeded, Unit, UnknownPrice};
use brokle_gateway::egress::CallerBody;
use brokle_identity::Principal;
use brokle_storage::sql::api_keys::Restrictions;
use brokle_storage::sql::files::File;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::*;
use crate::guardrails::{guard, guardrail};
use crate::harness::until;

const FORM: &str = "multipart/form-data; boundary=x";

/// What a vendor has, and what it is told to say.
#[derive(Default)]
struct Kept {
    files: HashMap<String, Bytes>,
    /// The batch's status, and its output's lines.
    status: &'static str,
    output: Vec<Value>,
    /// Answered to the batch's creation instead.
    refusal: Option<(u16, Value)>,
}

/// A vendor that keeps files and one batch.
async fn keeper() -> (Vendor, Arc<Mutex<Kept>>) {
    let kept = Arc::new(Mutex::new(Kept { status: "in_progress", ..Kept::default() }));
    let told = Arc::clone(&kept);
    let vendor = Vendor::start(move |seen| {
        let mut kept = told.lock().unwrap();
        let not_found = || reply(404, &json!({"error": {"message": "none", "type": "invalid_request_error"}}));
        let batch = |kept: &Kept| {
            let ended = kept.status == "completed" || kept.status == "cancelled";
            json!({"id": "batch_theirs", "object": "batch", "status": kept.status, "input_file_id": "file-theirs",
                "output_file_id": if ended { "file-out" } else { "" },
                "request_counts": {"total": 2, "completed": kept.output.len(), "failed": 0}})
        };
        match (seen.method.as_str(), seen.path.trim_start_matches('/')) {
            ("POST", "files") => {
                let text = seen.text();
                let purpose = if text.contains("vision") { "vision" } else { "batch" };
                let lines: String = text.lines().filter(|line| line.starts_with('{')).map(|l| l.to_owned() + "\n").collect();
                let bytes = lines.len();
                kept.files.insert("file-theirs".into(), lines.into());
                reply(200, &json!({"id": "file-theirs", "object": "file", "bytes": bytes, "purpose": purpose,
                    "filename": "lines.jsonl", "status": "pending"}))
            }
            ("POST", "batches") => match kept.refusal.take() {
                Some((status, body)) => reply(status, &body),
                None => reply(200, &batch(&kept)),
            },
            ("GET", "batches/batch_theirs") => reply(200, &batch(&kept)),
            ("POST", "batches/batch_theirs/cancel") => {
                kept.status = "cancelled";
                reply(200, &batch(&kept))
            }
            (method, path) => {
                let Some((id, end)) = path.strip_prefix("files/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
                else { return not_found() };
                if id == "file-out" && end == "content" {
                    let lines: String = kept.output.iter().map(|line| format!("{line}\n")).collect();
                    return (200, "application/jsonl", lines.into());
                }
                match (method, end, kept.files.get(id)) {
                    ("GET", "", Some(bytes)) => reply(200, &json!({"id": id, "object": "file", "bytes": bytes.len(),
                        "purpose": "batch", "filename": "lines.jsonl", "status": "processed"})),
                    ("GET", "content", Some(bytes)) => (200, "application/octet-stream", bytes.clone()),
                    ("DELETE", "", Some(_)) => {
                        kept.files.remove(id);
                        reply(200, &json!({"id": id, "object": "file", "deleted": true}))
                    }
                    _ => not_found(),
                }
            }
        }
    })
    .await;
    (vendor, kept)
}

fn form(purpose: &str, lines: &[String]) -> CallerBody {
    let text = format!(
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--x\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"lines.jsonl\"\r\n\r\n{}\r\n--x--\r\n",
        lines.join("\n")
    );
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn asks(id: &str, model: &str) -> String {
    json!({"custom_id": id, "method": "POST", "url": URL, "body": {"model": model, "messages": []}})
        .to_string()
}

fn answered(id: &str, model: &str, input: u64, output: u64) -> Value {
    json!({"custom_id": id, "error": null, "response": {"status_code": 200, "body": {"object": "chat.completion",
        "model": model, "choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}}}})
}

impl Server {
    async fn sent(&self, caller: &Principal) -> Result<File, Refusal> {
        let lines = [asks("a", "gpt-4o-mini"), asks("b", "gpt-4o-mini")];
        self.files.upload(caller, "vendor", FORM, None, form("batch", &lines)).await
    }

    async fn begun(&self, caller: &Arc<Principal>, file: &File) -> Result<Batch, Refusal> {
        let new = NewBatch {
            endpoint: URL.into(),
            input_file_id: files::write_id(file.id),
            completion_window: "24h".into(),
            metadata: serde_json::Map::new(),
        };
        self.batches.create(caller, new).await
    }
}

fn budget(limit: &str) -> Budget {
    Budget {
        name: "all".into(),
        limit: limit.parse().unwrap(),
        who: Who { by: vec![By::Project], only: Filter::default() },
        per: brokle_gateway::budgets::Period::Day,
        unit: Unit::Usd,
        alert_at: Vec::new(),
        on_exceeded: OnExceeded::Block,
        unknown_price: UnknownPrice::Allow,
    }
}

#[tokio::test]
async fn a_providers_batch_is_accounted_once_however_many_servers_look() {
    let (vendor, kept) = keeper().await;
    let extra = Extra { budgets: vec![budget("1")], ..Extra::default() };
    let place = Place::new(&vendor, extra).await;
    let (first, second) = (place.started(), place.started());
    let caller = place.world.caller().await;
    let file = first.sent(&caller).await.unwrap();
    assert_eq!((file.filename.as_str(), file.connection.as_deref()), ("lines.jsonl", Some("vendor")));
    assert_eq!(first.files.state(&file).await.unwrap(), "processed", "as its provider says");
    let id = batches::write_id(first.begun(&caller, &file).await.unwrap().id);
    let tenant = place.world.tenant;
    first.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    let asked: Value = serde_json::from_slice(&vendor.seen("/batches")[0].body).unwrap();
    assert_eq!(
        (&asked["input_file_id"], &asked["metadata"]["brokle_batch_id"]),
        (&json!("file-theirs"), &json!(id))
    );
    {
        let mut kept = kept.lock().unwrap();
        kept.output =
            vec![answered("a", "gpt-4o-mini", 1_000_000, 0), answered("b", "gpt-4o-mini", 0, 1_000_000)];
        kept.status = "completed";
    }
    let batch = first.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (2, 2, 0)));
    let output = second.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), ["a", "b"], "read through us");
    let creations = vendor.seen("/batches").iter().filter(|seen| seen.path == "/batches").count();
    assert_eq!(creations, 1);
    // Batch prices: half of 0.15 and 0.60.
    let trace = place.world.only_trace().await;
    assert_eq!((&trace["cost"], &trace["usage"]["total"]), (&json!("0.375"), &json!(2_000_000)), "{trace:#}");
    assert_eq!(trace["tags"], json!([id]));
    let spent = place.world.gateway.budgets().seen_by(&caller)[0].spent;
    assert_eq!(spent.to_string(), "0.375");
    first.stopped().await;
    second.stopped().await;
}

/// As often as the store fails, or a server dies, between the two. Threads: the database is waited for beside the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_accounted_and_not_ended_is_charged_once() {
    let (vendor, kept) = keeper().await;
    let extra = Extra { budgets: vec![budget("1")], ..Extra::default() };
    let place = Place::new(&vendor, extra).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let caller = place.world.caller().await;
    let file = server.sent(&caller).await.unwrap();
    let id = batches::write_id(server.begun(&caller, &file).await.unwrap().id);
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    let database = rusqlite::Connection::open(place.world.folder.path().join("brokle.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let refuse =
        "CREATE TRIGGER refuse BEFORE UPDATE OF ended_at ON batches BEGIN SELECT RAISE(ABORT, 'no'); END";
    database.execute_batch(refuse).unwrap();
    {
        let mut kept = kept.lock().unwrap();
        kept.output = vec![answered("a", "gpt-4o-mini", 1_000_000, 0)];
        kept.status = "completed";
    }
    let looks = || vendor.seen("/files/file-out/content").len();
    until("it is accounted again and again", async || looks() >= 3).await;
    let budgets = place.world.gateway.budgets();
    budgets.synchronize().await.unwrap();
    assert!(server.batches.get(tenant, &id).await.unwrap().ended_at.is_none());
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    server.ended(tenant, &id).await;
    let trace = place.world.only_trace().await;
    assert_eq!(trace["cost"], json!("0.075"), "{trace:#}");
    budgets.synchronize().await.unwrap();
    assert_eq!(budgets.seen_by(&caller)[0].spent.to_string(), "0.075");
    // By whoever starts next, too.
    let stored =
        database.query_row("SELECT sum(spent) FROM budget_spend", [], |row| row.get::<_, f64>(0)).unwrap();
    assert!((stored - 0.075).abs() < 1e-9, "{stored}");
    server.stopped().await;
}

#[tokio::test]
async fn another_project_has_none_of_it() {
    let (vendor, kept) = keeper().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let server = place.server();
    let caller = place.world.caller().await;
    let file = server.sent(&caller).await.unwrap();
    let (id, theirs) =
        (files::write_id(file.id), Tenant { project: ProjectId::from_u128(7), ..place.world.tenant });
    for refused in [
        server.files.get(theirs, &id).await.err(),
        server.files.delete(theirs, &id).await.err(),
        server.files.get(place.world.tenant, "file-theirs").await.err(),
    ] {
        assert_eq!(refused.unwrap().status, 404);
    }
    assert_eq!(kept.lock().unwrap().files.len(), 1);
    assert!(server.files.list(theirs, "", true, None, 10).await.unwrap().is_empty());
    server.files.delete(place.world.tenant, &id).await.unwrap();
    assert!(kept.lock().unwrap().files.is_empty(), "gone there, too");
}

#[tokio::test]
async fn what_isnt_a_batchs_doesnt_go_to_a_provider() {
    let (vendor, kept) = keeper().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let server = place.server();
    let caller = place.world.caller().await;
    let refused = server.files.upload(&caller, "vendor", FORM, None, form("vision", &[])).await.unwrap_err();
    assert_eq!((refused.status, refused.param.as_deref()), (400, Some("purpose")));
    assert!(kept.lock().unwrap().files.is_empty(), "it isn't left there");
    let refused = server.files.upload(&caller, "nobody", FORM, None, form("batch", &[])).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref()), (404, "provider_not_found"));
    let large = files::Settings { max_bytes: 10, ..place.settings };
    let small = Place { settings: large, ..place };
    let lines: Vec<_> = (0..1_000).map(|line| asks(&line.to_string(), "m")).collect();
    let refused =
        small.server().files.upload(&caller, "vendor", FORM, None, form("batch", &lines)).await.unwrap_err();
    assert_eq!(refused.status, 413, "{refused:?}");
    let listed = small.server().files.list(small.world.tenant, "", true, None, 10).await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn a_keys_models_hold_for_lines_that_a_provider_works_on() {
    let (vendor, _) = keeper().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let server = place.started();
    let restrictions = Restrictions { models: vec!["gpt-4o".into()], ..Restrictions::default() };
    let key = place.world.restricted_key(restrictions).await;
    let caller = place.world.keys.authenticate(&key).await.unwrap();
    let file = server.sent(&caller).await.unwrap();
    let id = batches::write_id(server.begun(&caller, &file).await.unwrap().id);
    let batch = server.ended(place.world.tenant, &id).await;
    assert_eq!(batch.status, BatchStatus::Failed);
    let told = |error: &Value| (error["code"].clone(), error["line"].clone());
    let told: Vec<_> = batch.errors.as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [(json!("model_not_allowed"), json!(1)), (json!("model_not_allowed"), json!(2))]);
    assert!(vendor.seen("/batches").is_empty(), "the provider wasn't asked");
    server.stopped().await;
}

#[tokio::test]
async fn what_is_spent_and_what_the_provider_refuses_is_told() {
    let (vendor, kept) = keeper().await;
    let extra = Extra { budgets: vec![budget("0.1")], ..Extra::default() };
    let place = Place::new(&vendor, extra).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let caller = place.world.caller().await;
    let file = server.sent(&caller).await.unwrap();
    let error = json!({"error": {"message": "no such endpoint", "type": "invalid_request_error", "code": "bad_endpoint"}});
    kept.lock().unwrap().refusal = Some((400, error));
    let id = batches::write_id(server.begun(&caller, &file).await.unwrap().id);
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, &batch.errors[0]["code"]), (BatchStatus::Failed, &json!("bad_endpoint")));
    // One that is busy is asked again.
    kept.lock().unwrap().refusal = Some((503, json!({"error": {"message": "busy", "type": "server_error"}})));
    let id = batches::write_id(server.begun(&caller, &file).await.unwrap().id);
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    // What was used until it is cancelled is used.
    kept.lock().unwrap().output = vec![answered("a", "gpt-4o-mini", 1_000_000, 1_000_000)];
    server.batches.cancel(tenant, &id).await.unwrap();
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts.1), (BatchStatus::Cancelled, 1));
    let refused = server.begun(&caller, &file).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref()), (429, "budget_exceeded"));
    server.stopped().await;
}

#[tokio::test]
async fn a_batch_whose_creation_nobody_knows_of_isnt_made_twice() {
    let (vendor, _) = keeper().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.server(), place.world.tenant);
    let caller = place.world.caller().await;
    let file = server.sent(&caller).await.unwrap();
    let batch = server.begun(&caller, &file).await.unwrap();
    // A server has noted that it asks, and died.
    let lease = brokle_storage::sql::batches::Lease {
        organization: tenant.organization,
        batch: batch.id,
        holder: "dead".into(),
    };
    let (database, now) = (&place.world.database, place.clock.now());
    database.batches().lease(&lease, now, now).await.unwrap().unwrap();
    database.batches().name(&lease, Some("")).await.unwrap();
    let next = place.started();
    let ended = next.ended(tenant, &batches::write_id(batch.id)).await;
    assert_eq!((ended.status, &ended.errors[0]["code"]), (BatchStatus::Failed, &json!("creation_unknown")));
    assert!(vendor.seen("/batches").is_empty());
    next.stopped().await;
}

#[tokio::test]
async fn a_key_on_which_guardrails_rule_sends_nothing_to_a_provider() {
    let (vendor, _) = keeper().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, caller) = (place.server(), place.world.caller().await);
    let file = server.sent(&caller).await.unwrap();
    let rules = json!({"deny": [{"pattern": "zephyr", "category": "confidential"}]});
    guard(&place.world, vec![guardrail("regex", rules)]).await;
    let refused = [server.sent(&caller).await.err(), server.begun(&caller, &file).await.err()];
    assert!(refused.iter().flatten().all(|refusal| refusal.code == "guarded"), "{refused:?}");
    assert_eq!(refused.iter().flatten().count(), 2);
    assert_eq!(vendor.seen("/files").len(), 1);
}
