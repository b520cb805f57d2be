//! Batches: each line once, within what its key may, whatever happens in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_core::ids::ProjectId;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_gateway::batches::{self, BatchService, NewBatch};
use brokle_gateway::files::{self, FileService, NewFile};
use brokle_gateway::limits::{Amounts, Limit};
use brokle_gateway::who::{By, Filter, Who};
use brokle_storage::blobs::Folder;
use brokle_storage::sql::batches::{Batch, BatchStatus};
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{Extra, To, World, world_extra};
use crate::vendor::{Reply, Seen, Vendor, reply};

mod lines;
mod native;

const URL: &str = "/v1/chat/completions";

/// A server's files and batches; several of them share a world.
struct Server {
    files: Arc<FileService>,
    batches: Arc<BatchService>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// A world with a vendor, and where its files are.
struct Place {
    world: World,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    settings: files::Settings,
}

impl Place {
    async fn new(vendor: &Vendor, extra: Extra) -> Self {
        Self::of("provider_openai", vendor, extra).await
    }

    async fn of(plugin: &'static str, vendor: &Vendor, extra: Extra) -> Self {
        let to = To { name: "vendor", plugin, url: vendor.origin(), priority: 0, models: vec!["m".into()] };
        let world = world_extra(vec![to], Arc::new(SystemClock), extra).await;
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let folder = tempfile::tempdir().unwrap();
        Self { world, folder, clock, settings: files::Settings::default() }
    }

    /// A server that doesn't work on batches.
    fn server(&self) -> Server {
        let (database, random) = (self.world.database.clone(), Arc::new(SystemRandom));
        let blobs = Arc::new(Folder::new(self.folder.path()));
        let gateway = Arc::clone(&self.world.gateway);
        let files = FileService::new(
            database.clone(),
            blobs,
            gateway,
            self.clock.clone(),
            random.clone(),
            self.settings,
        );
        let files = Arc::new(files);
        let settings = batches::Settings {
            concurrency: 2,
            lease: Duration::from_millis(600),
            ..batches::Settings::default()
        };
        let gateway = Arc::clone(&self.world.gateway);
        // Leases go by the time that passes.
        let clock: Arc<dyn Clock> = Arc::new(Both(self.clock.clone(), SystemClock.now()));
        let batches = BatchService::new(database, files.clone(), gateway, clock, random, settings);
        Server { files, batches: Arc::new(batches), stop: watch::Sender::new(false), task: None }
    }

    fn started(&self) -> Server {
        let mut server = self.server();
        let mut stop = server.stop.subscribe();
        let end = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        server.task = Some(
            #[expect(clippy::disallowed_methods, reason = "a server that a test ends as it likes")]
            tokio::spawn(Arc::clone(&server.batches).run(end)),
        );
        server
    }
}

/// A clock that is set and runs on.
#[derive(Debug)]
struct Both(Arc<ManualClock>, chrono::DateTime<chrono::Utc>);

impl Clock for Both {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.now() + (SystemClock.now() - self.1)
    }
}

impl Server {
    async fn upload(&self, tenant: Tenant, content: &str) -> String {
        let new = NewFile {
            filename: "lines.jsonl".into(),
            purpose: "batch".into(),
            content: content.to_owned().into(),
            keep: None,
            connection: None,
        };
        files::write_id(self.files.create(tenant, new).await.unwrap().id)
    }

    async fn begin(&self, world: &World, key: &str, content: &str) -> String {
        let caller = world.keys.authenticate(key).await.unwrap();
        let input_file_id = self.upload(caller.tenant, content).await;
        let new = NewBatch {
            endpoint: URL.into(),
            input_file_id,
            completion_window: "24h".into(),
            metadata: serde_json::Map::from_iter([("why".to_owned(), "test".into())]),
        };
        batches::write_id(self.batches.create(&caller, new).await.unwrap().id)
    }

    async fn until(&self, tenant: Tenant, id: &str, is_so: impl Fn(&Batch) -> bool) -> Batch {
        for _ in 0..9_000 {
            let batch = self.batches.get(tenant, id).await.unwrap();
            if is_so(&batch) {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.batches.get(tenant, id).await);
    }

    async fn ended(&self, tenant: Tenant, id: &str) -> Batch {
        self.until(tenant, id, |batch| batch.ended_at.is_some()).await
    }

    /// The lines of a file.
    async fn lines(&self, tenant: Tenant, id: Option<brokle_core::ids::FileId>) -> Vec<Value> {
        let Some(id) = id else { return Vec::new() };
        let file = self.files.get(tenant, &files::write_id(id)).await.unwrap();
        let mut text = String::new();
        self.files.content(&file).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(file.bytes, text.len() as i64);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn stopped(mut self) {
        self.stop.send_replace(true);
        self.task.take().unwrap().await.unwrap();
    }
}

fn line(id: &str, says: &str) -> String {
    let body = json!({"model": "vendor/m", "messages": [{"role": "user", "content": says}]});
    json!({"custom_id": id, "method": "POST", "url": URL, "body": body}).to_string()
}

fn file(lines: &[(&str, &str)]) -> String {
    lines.iter().map(|(id, says)| line(id, says) + "\n").collect()
}

fn said(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

fn good(says: &str) -> Reply {
    let message = json!({"role": "assistant", "content": format!("to {says}\nthis")});
    let answer = json!({"id": "c", "object": "chat.completion", "model": "m", "created": 1,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}});
    // As some vendors write it, over several lines.
    (200, "application/json", serde_json::to_vec_pretty(&answer).unwrap().into())
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["custom_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_line_is_answered_and_accounted() {
    let vendor = Vendor::start(|seen| match said(seen).as_str() {
        "wrong" => reply(400, &json!({"error": {"message": "no", "type": "invalid_request_error"}})),
        says => good(says),
    })
    .await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let unknown = line("unknown", "hi").replace("vendor/m", "nobody-has-this");
    let content = file(&[("a", "one"), ("b", "wrong"), ("c", "three")])
        + "\r\n"
        + &unknown
        + "\r\n"
        + &line("d", "four");
    let id = server.begin(&place.world, &place.world.key, &content).await;
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (5, 3, 2)), "{batch:?}");
    assert_eq!(batch.metadata["why"], "test");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), ["a", "c", "d"], "in the order of their lines");
    let first = &output[0]["response"];
    assert_eq!((&first["status_code"], &output[0]["error"]), (&json!(200), &Value::Null));
    assert_eq!(first["body"]["choices"][0]["message"]["content"], "to one\nthis");
    let failures = server.lines(tenant, batch.failures).await;
    assert_eq!(ids(&failures), ["b", "unknown"]);
    assert_eq!(failures[0]["response"]["status_code"], 400);
    assert_eq!(failures[1]["response"]["body"]["error"]["code"], "model_not_found");
    // They are calls like others.
    let traces = place.world.traces().await;
    assert_eq!(traces.len(), 5);
    assert!(traces.iter().all(|trace| trace["tags"] == json!([id])), "{traces:#?}");
    assert_eq!(traces.iter().filter(|trace| trace["usage"]["total"] == 5).count(), 3);
    server.stopped().await;
}

/// A vendor whose answers to some wait, and who counts how often each was asked.
async fn gated() -> (Vendor, watch::Sender<bool>) {
    let (open, gate) = watch::channel(false);
    let vendor = Vendor::slow(move |seen| {
        let mut gate = gate.clone();
        Box::pin(async move {
            let says = said(&seen);
            if says.starts_with("slow") {
                let _ = gate.wait_for(|open| *open).await;
            }
            good(&says)
        })
    })
    .await;
    (vendor, open)
}

fn asked(vendor: &Vendor) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for seen in vendor.seen("/") {
        *counts.entry(said(&seen)).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn after_a_crash_another_server_goes_on_and_asks_nothing_twice_that_was_answered() {
    let (vendor, open) = gated().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (first, tenant) = (place.started(), place.world.tenant);
    let lines = [("a", "one"), ("b", "two"), ("c", "slow 3"), ("d", "slow 4"), ("e", "five"), ("f", "six")];
    let id = first.begin(&place.world, &place.world.key, &file(&lines)).await;
    first.until(tenant, &id, |batch| batch.counts.1 == 2).await;
    // Killed while two lines are under way.
    first.task.as_ref().unwrap().abort();
    let second = place.started();
    open.send_replace(true);
    let batch = second.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (6, 6, 0)));
    assert_eq!(ids(&second.lines(tenant, batch.output).await), ["a", "b", "c", "d", "e", "f"]);
    let counts = asked(&vendor);
    for answered in ["one", "two", "five", "six"] {
        assert_eq!(counts[answered], 1, "{answered}: {counts:?}");
    }
    second.stopped().await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_is_under_way_and_leaves_the_rest() {
    let (vendor, open) = gated().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (first, tenant) = (place.started(), place.world.tenant);
    let lines = [("a", "slow 1"), ("b", "slow 2"), ("c", "three"), ("d", "four")];
    let id = first.begin(&place.world, &place.world.key, &file(&lines)).await;
    while vendor.seen("/").len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.stop.send_replace(true);
    let watching = place.server();
    // What is under way isn't given up.
    tokio::time::sleep(Duration::from_millis(100)).await;
    open.send_replace(true);
    first.stopped().await;
    let batch = watching.batches.get(tenant, &id).await.unwrap();
    assert_eq!((batch.status, batch.counts), (BatchStatus::InProgress, (4, 2, 0)), "{batch:?}");
    let second = place.started();
    let batch = second.ended(tenant, &id).await;
    assert_eq!(batch.counts, (4, 4, 0));
    assert!(asked(&vendor).values().all(|count| *count == 1), "{:?}", asked(&vendor));
    second.stopped().await;
}

#[tokio::test]
async fn a_cancelled_batch_keeps_what_is_answered() {
    let (vendor, open) = gated().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = [("a", "one"), ("b", "slow 2"), ("c", "slow 3"), ("d", "four")];
    let id = server.begin(&place.world, &place.world.key, &file(&lines)).await;
    server.until(tenant, &id, |batch| batch.counts.1 == 1).await;
    while vendor.seen("/").len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let input = server.batches.get(tenant, &id).await.unwrap().input;
    let refused = server.files.delete(tenant, &files::write_id(input)).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref()), (409, "file_in_use"));
    assert_eq!(server.batches.cancel(tenant, &id).await.unwrap().status, BatchStatus::Cancelling);
    open.send_replace(true);
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Cancelled, (4, 3, 0)));
    assert_eq!(ids(&server.lines(tenant, batch.output).await), ["a", "b", "c"]);
    assert!(!asked(&vendor).contains_key("four"), "nothing was begun any more");
    let again = server.batches.cancel(tenant, &id).await.unwrap_err();
    assert_eq!((again.status, again.code.as_ref()), (409, "batch_ended"));
    server.files.delete(tenant, &files::write_id(input)).await.unwrap();
    server.stopped().await;
}

#[tokio::test]
async fn a_batch_past_its_time_says_so_line_by_line() {
    let (vendor, open) = gated().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = [("a", "one"), ("b", "slow 2"), ("c", "slow 3"), ("d", "four")];
    let id = server.begin(&place.world, &place.world.key, &file(&lines)).await;
    server.until(tenant, &id, |batch| batch.counts.1 == 1).await;
    place.clock.advance(TimeDelta::hours(25));
    open.send_replace(true);
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Expired, (4, 3, 1)), "{batch:?}");
    let failures = server.lines(tenant, batch.failures).await;
    assert_eq!((ids(&failures), &failures[0]["error"]["code"]), (vec!["d"], &json!("batch_expired")));
    server.stopped().await;
}

#[tokio::test]
async fn limits_slow_a_batch_down_and_fail_none_of_it() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (running.clone(), most.clone());
    let vendor = Vendor::slow(move |seen| {
        let (now, peak) = (now.clone(), peak.clone());
        Box::pin(async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            good(&said(&seen))
        })
    })
    .await;
    let limits = vec![Limit {
        name: "one".into(),
        who: Who { by: vec![By::Key], only: Filter::default() },
        amounts: Amounts { concurrent_requests: Some(1), ..Amounts::default() },
    }];
    let place = Place::new(&vendor, Extra { limits, ..Extra::default() }).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let id = server.begin(&place.world, &place.world.key, &file(&[("a", "1"), ("b", "2"), ("c", "3")])).await;
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (3, 3, 0)), "{batch:?}");
    assert_eq!(most.load(Ordering::SeqCst), 1);
    let refused = place.world.traces().await.iter().filter(|trace| trace["status_code"] == 429).count();
    assert!(refused > 0, "there were more at once than are allowed");
    server.stopped().await;
}

#[tokio::test]
async fn a_revoked_key_asks_nothing_more() {
    let (vendor, open) = gated().await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let key = place.world.limited_key(1_000).await;
    let lines = [("a", "slow 1"), ("b", "slow 2"), ("c", "three"), ("d", "four")];
    let id = server.begin(&place.world, &key, &file(&lines)).await;
    while vendor.seen("/").len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let holder = place.world.keys.authenticate(&key).await.unwrap();
    place.world.keys.revoke(tenant.organization, holder.key_id).await.unwrap();
    open.send_replace(true);
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (4, 2, 2)));
    let failures = server.lines(tenant, batch.failures).await;
    assert_eq!(ids(&failures), ["c", "d"]);
    assert_eq!(failures[0]["response"]["status_code"], 401);
    assert!(!asked(&vendor).contains_key("three"));
    server.stopped().await;
}

#[tokio::test]
async fn what_isnt_ones_own_isnt_there() {
    let vendor = Vendor::start(|seen| good(&said(seen))).await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.server(), place.world.tenant);
    let id = server.begin(&place.world, &place.world.key, &file(&[("a", "one")])).await;
    let input = files::write_id(server.batches.get(tenant, &id).await.unwrap().input);
    let stranger = Tenant { project: ProjectId::generate(&SystemClock, &SystemRandom), ..tenant };
    let told = |refusal: brokle_gateway::Refusal| (refusal.status, refusal.message);
    for (wanted, missing) in [(&id, "batch_01KJME5T5V7QZ8WXJ3N4P6R9ST"), (&id, "nonsense")] {
        let foreign = told(server.batches.get(stranger, wanted).await.unwrap_err());
        assert_eq!(foreign.0, 404);
        assert_eq!(foreign, told(server.batches.get(tenant, missing).await.unwrap_err()));
        assert_eq!(foreign, told(server.batches.cancel(stranger, wanted).await.unwrap_err()));
    }
    let foreign = told(server.files.get(stranger, &input).await.unwrap_err());
    assert_eq!(foreign.0, 404);
    assert_eq!(foreign, told(server.files.get(tenant, "file-01KJME5T5V7QZ8WXJ3N4P6R9ST").await.unwrap_err()));
    assert_eq!(foreign, told(server.files.delete(stranger, &input).await.unwrap_err()));
    assert!(server.batches.list(stranger, None, 10).await.unwrap().is_empty());
    assert!(server.files.list(stranger, "", true, None, 10).await.unwrap().is_empty());
    assert_eq!(server.files.list(tenant, "batch", true, None, 10).await.unwrap().len(), 1);
    let mut holder = (*place.world.caller().await).clone();
    holder.tenant = stranger;
    let new = NewBatch {
        endpoint: URL.into(),
        input_file_id: input,
        completion_window: "24h".into(),
        metadata: Default::default(),
    };
    let refused = server.batches.create(&Arc::new(holder), new).await.unwrap_err();
    assert_eq!((refused.status, refused.param.as_deref()), (404, Some("input_file_id")));
}

#[tokio::test]
async fn what_cant_be_a_batch_is_refused_or_fails() {
    let vendor = Vendor::start(|seen| good(&said(seen))).await;
    let place = Place::new(&vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let id = server.begin(&place.world, &place.world.key, "{}\nnonsense\n").await;
    let batch = server.ended(tenant, &id).await;
    assert_eq!(batch.status, BatchStatus::Failed);
    assert_eq!(
        (&batch.errors[1]["code"], &batch.errors[1]["line"]),
        (&json!("invalid_json_line"), &json!(2))
    );
    let caller = place.world.caller().await;
    let input_file_id = server.upload(tenant, "{}").await;
    let good = NewBatch {
        endpoint: URL.into(),
        input_file_id,
        completion_window: "24h".into(),
        metadata: Default::default(),
    };
    for (new, param) in [
        (NewBatch { endpoint: "/v1/files".into(), ..good.clone() }, "endpoint"),
        (NewBatch { completion_window: "1h".into(), ..good.clone() }, "completion_window"),
        (
            NewBatch { metadata: serde_json::Map::from_iter([("a".into(), 1.into())]), ..good.clone() },
            "metadata",
        ),
    ] {
        let refused = server.batches.create(&caller, new).await.unwrap_err();
        assert_eq!((refused.status, refused.param.as_deref()), (400, Some(param)));
    }
    assert!(vendor.seen("/").is_empty());
    server.stopped().await;
}

#[tokio::test]
async fn files_have_a_size_a_quota_and_an_end() {
    let vendor = Vendor::start(|seen| good(&said(seen))).await;
    let mut place = Place::new(&vendor, Extra::default()).await;
    place.settings = files::Settings {
        max_bytes: 100,
        project_bytes: 150,
        project_files: 3,
        ..files::Settings::default()
    };
    let (server, tenant) = (place.server(), place.world.tenant);
    let new = |bytes: usize| NewFile {
        filename: "f".into(),
        purpose: "user_data".into(),
        content: vec![b'x'; bytes].into(),
        keep: Some(Duration::from_secs(3_600)),
        connection: None,
    };
    let refused = async |bytes| {
        let refusal = server.files.create(tenant, new(bytes)).await.unwrap_err();
        (refusal.status, refusal.code.into_owned())
    };
    assert_eq!(refused(101).await, (413, "request_too_large".into()));
    let first = server.files.create(tenant, new(100)).await.unwrap();
    assert_eq!(refused(51).await, (403, "quota_exceeded".into()));
    server.files.create(tenant, new(50)).await.unwrap();
    server.files.create(tenant, new(0)).await.unwrap();
    assert_eq!(refused(0).await, (403, "quota_exceeded".into()), "there are three");
    server.files.delete(tenant, &files::write_id(first.id)).await.unwrap();
    server.files.create(tenant, new(1)).await.unwrap();
    let stored = || std::fs::read_dir(place.folder.path().join(tenant.project.to_string())).unwrap().count();
    assert_eq!(stored(), 3);
    place.clock.advance(TimeDelta::hours(2));
    assert!(server.files.list(tenant, "", true, None, 10).await.unwrap().is_empty(), "their time is over");
    server.files.sweep().await;
    assert_eq!(stored(), 0);
    server.files.create(tenant, new(100)).await.unwrap();
}
