//! The sandbox against guests that behave, and against one that doesn't.
//!
//! The components are built by `make plugins`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_runtime::exchange::{BodyPlan, Call, Edit, Frame, Preparation, ResponseHead};
use brokle_runtime::facts::{Candidate, Request, Stats};
use brokle_runtime::{
    Body, CallContext, Fault, Limits, LoadError, PolicyPlugin, ProviderPlugin, Runtime, RuntimeConfig,
};

fn component(profile: &str, name: &str) -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let path: PathBuf = exe
        .ancestors()
        .map(|folder| folder.join(format!("wasm32-wasip2/{profile}/{name}.wasm")))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name}.wasm isn't built: run `make plugins`"));
    std::fs::read(path).unwrap()
}

fn runtime(folder: &tempfile::TempDir) -> Runtime {
    let config = RuntimeConfig {
        max_instances: 16,
        // A deadline that a busy machine doesn't reach before the budget is spent.
        provider: Limits {
            cpu: Duration::from_secs(1),
            deadline: Duration::from_secs(60),
            ..Limits::provider()
        },
        policy: Limits {
            cpu: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            ..Limits::policy()
        },
        ..RuntimeConfig::default()
    };
    Runtime::start(config, folder.path(), [7; 32]).unwrap()
}

fn call(model: &str, streaming: bool) -> Call {
    Call {
        operation: "chat.completions".into(),
        model: model.into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "01J0000000000000000000TEST".into(),
        created: 1_700_000_000,
        options: b"{}".to_vec(),
        attributes: vec![],
    }
}

fn body() -> Body {
    Body::json(r#"{"model":"x","secret":"/from-the-body","messages":[]}"#.into())
}

async fn hostile(folder: &tempfile::TempDir) -> (Runtime, ProviderPlugin) {
    let runtime = runtime(folder);
    let plugin = ProviderPlugin::load(&runtime, &component("guest-test", "hostile")).await.unwrap();
    (runtime, plugin)
}

async fn fault(plugin: &ProviderPlugin, model: &str) -> Fault {
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    let error = instance.prepare(&call(model, false), body()).await.unwrap_err();
    assert_eq!(&*error.plugin, "test.hostile 0.1.0");
    error.fault
}

#[tokio::test]
async fn a_component_of_our_own_is_compiled_when_it_is_first_used() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, bytes) = (runtime(&folder), component("guest", "provider_openai"));
    let compiled = || std::fs::read_dir(folder.path().join("cache")).unwrap().count() - 1;
    let inspection = brokle_runtime::inspect(&bytes).unwrap();
    let plugin = Arc::new(ProviderPlugin::later(&runtime, bytes.into(), inspection.clone()).unwrap());
    assert_eq!(compiled(), 0);
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let plugin = Arc::clone(&plugin);
        work.spawn(async move { plugin.open(CallContext::default()).await.map(|i| i.offers("embeddings")) });
    }
    for offers in work.join_all().await {
        assert!(offers.unwrap());
    }
    assert_eq!(compiled(), 1);

    // What can't be compiled says so at each call, and brings nothing else down.
    let elsewhere = tempfile::tempdir().unwrap();
    let broken =
        ProviderPlugin::later(&self::runtime(&elsewhere), b"\0asm".to_vec().into(), inspection).unwrap();
    for _ in 0..2 {
        let error = broken.open(CallContext::default()).await.unwrap_err();
        assert!(matches!(&error.fault, Fault::Instantiate(_)), "{error}");
    }
}

#[tokio::test]
async fn the_openai_provider_edits_two_members() {
    let folder = tempfile::tempdir().unwrap();
    let plugin =
        ProviderPlugin::load(&runtime(&folder), &component("guest", "provider_openai")).await.unwrap();
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    assert!(instance.offers("embeddings") && !instance.offers("rerank"));
    let Preparation::Request(request) =
        instance.prepare(&call("gpt-4o", true), body()).await.unwrap().unwrap()
    else {
        panic!("no request")
    };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/chat/completions"));
    let BodyPlan::Edits(edits) = request.body else { panic!("no edits") };
    let edits: Vec<_> = edits
        .iter()
        .map(|edit| match edit {
            Edit::Set(set) => (set.pointer.as_str(), std::str::from_utf8(&set.value).unwrap()),
            Edit::Remove(pointer) => (pointer.as_str(), ""),
        })
        .collect();
    assert_eq!(edits, [("/model", "\"gpt-4o\""), ("/stream_options/include_usage", "true")]);
    assert_eq!(instance.spent().calls, 1);
}

#[tokio::test]
async fn a_forms_fields_are_read_and_its_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = ProviderPlugin::load(&runtime(&folder), &component("guest-test", "dictated")).await.unwrap();
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    let form = "--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nsound\r\n--b\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper-1\r\n--b--";
    let body = Body::form("multipart/form-data; boundary=b", form.into()).unwrap();
    let call = Call { content_type: "multipart/form-data".into(), ..call("m", false) };
    let Preparation::Request(request) = instance.prepare(&call, body).await.unwrap().unwrap() else {
        panic!("no request")
    };
    assert_eq!(request.path, "/whisper-1/none");
    let BodyPlan::Form(edits) = request.body else { panic!("no edits of a form") };
    assert_eq!(edits.len(), 3);
}

fn candidate(connection: &str, priority: i32, available: bool) -> Candidate {
    Candidate {
        connection: connection.into(),
        provider: "p".into(),
        model: "m".into(),
        priority,
        weight: 1,
        available,
        stats: Stats {
            latency_ms: None,
            first_token_ms: None,
            error_rate: None,
            in_flight: 0,
            remaining_requests: None,
            remaining_tokens: None,
        },
        input_price: None,
        output_price: None,
        context_window: None,
        features: vec![],
        attributes: vec![],
    }
}

fn request() -> Request {
    Request {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming: false,
        body_size: 10,
        input_tokens: 2,
        max_output_tokens: None,
        features: vec![],
        affinity: None,
        entropy: 1,
        attributes: vec![],
    }
}

#[tokio::test]
async fn the_priority_policy_keeps_the_operators_order() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = PolicyPlugin::load(&runtime(&folder), &component("guest", "policy_priority")).await.unwrap();
    let candidates = vec![candidate("c", 3, true), candidate("a", 1, false), candidate("b", 2, true)];
    let (plan, spent) = plugin.decide(CallContext::default(), &request(), &candidates).await.unwrap();
    assert_eq!(plan.unwrap().order, [2, 0, 1]);
    assert!(spent.time > Duration::ZERO);
}

#[tokio::test]
async fn a_policy_hears_no_text_that_it_doesnt_name() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = PolicyPlugin::load(&runtime(&folder), &component("guest-test", "misrouting")).await.unwrap();
    let request = Request {
        model: "told".into(),
        features: vec!["vision".into()],
        attributes: vec![("team".into(), "red".into())],
        ..request()
    };
    let candidates = [candidate("main-connection", 7, true)];
    let (plan, _) = plugin.decide(CallContext::default(), &request, &candidates).await.unwrap();
    let told = plan.unwrap().reason;
    for named in ["told", "priority: 7", "body-size: 10", &*candidates[0].model] {
        assert!(told.contains(named), "{named}: {told}");
    }
    for unnamed in ["chat.completions", "vision", "red", "main-connection"] {
        assert!(!told.contains(unnamed), "{unnamed}: {told}");
    }
}

/// Tried at once, it is interrupted by a tick (5 ms); it is made anew and has its whole budget.
#[tokio::test]
async fn a_decision_that_a_tick_finds_at_work_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = PolicyPlugin::load(&runtime(&folder), &component("guest", "policy_priority")).await.unwrap();
    let many: Vec<_> = (0..40_000).rev().map(|priority| candidate("x", priority, true)).collect();
    let (plan, spent) = plugin.decide(CallContext::default(), &request(), &many).await.unwrap();
    assert_eq!(plan.unwrap().order, (0..40_000).rev().collect::<Vec<u32>>());
    assert!(spent.time > Duration::from_millis(10), "it ran for a tick: {:?}", spent.time);
    assert_eq!(spent.calls, 1, "as the account has it");
}

#[tokio::test]
async fn every_limit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, plugin) = hostile(&folder).await;
    assert_eq!(fault(&plugin, "spin").await, Fault::Cpu(1_000));
    assert_eq!(fault(&plugin, "memory").await, Fault::Memory(64 << 20));
    assert_eq!(fault(&plugin, "huge-answer").await, Fault::HostcallFuel(16 << 20));
    let claim = fault(&plugin, "huge-claim").await;
    assert!(
        matches!(&claim, Fault::Trap(text) if text.contains("out of bounds"))
            || claim == Fault::HostcallFuel(16 << 20),
        "{claim:?}"
    );
    let panic = fault(&plugin, "panic").await;
    assert!(matches!(&panic, Fault::Trap(text) if text.contains("unreachable")), "{panic:?}");
    assert!(matches!(fault(&plugin, "exit").await, Fault::Trap(text) if text.contains("exit")));
    let overflow = fault(&plugin, "recurse").await;
    assert!(
        matches!(&overflow, Fault::Stack) || matches!(&overflow, Fault::Trap(text) if text.contains("stack")),
        "{overflow:?}"
    );
}

#[tokio::test]
async fn nothing_outside_is_to_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, plugin) = hostile(&folder).await;
    let path = async |model: &str| {
        let mut instance = plugin.open(CallContext::default()).await.unwrap();
        match instance.prepare(&call(model, false), body()).await.unwrap().unwrap() {
            Preparation::Request(request) => request.path,
            Preparation::Answer(_) => panic!("an answer"),
        }
    };
    assert_eq!(path("environment").await, "0 0");
    assert_eq!(path("read").await, "/from-the-body");
    assert_eq!(path("flood").await, "/flooded");
}

/// A tick every 5 ms takes none of its second away.
#[tokio::test]
async fn a_call_of_many_ticks_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, plugin) = hostile(&folder).await;
    for asked in 0..3 {
        let mut instance = plugin.open(CallContext::default()).await.unwrap();
        let prepared = instance.prepare(&call("long", false), body()).await.unwrap().unwrap();
        assert!(matches!(prepared, Preparation::Request(request) if request.path == "/long"), "{asked}");
        assert_eq!(instance.spent().calls, 1, "as the account has it");
        // What answers is decoded by the instance that was asked last.
        let head = ResponseHead { status: 200, headers: vec![] };
        instance.begin_decoding(&call("long", false), &head, &[]).await.unwrap();
        instance.push(&[Frame { event: String::new(), data: b"x".to_vec() }]).await.unwrap().unwrap();
    }
    assert_eq!(runtime.instances(), 0);
}

/// Two spinning guests on two threads: a third call still gets its turn, long before they end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_guests_give_their_threads_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = RuntimeConfig {
        provider: Limits {
            cpu: Duration::from_millis(500),
            deadline: Duration::from_secs(60),
            ..Limits::provider()
        },
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::start(config, folder.path(), [7; 32]).unwrap();
    let plugin = Arc::new(ProviderPlugin::load(&runtime, &component("guest-test", "hostile")).await.unwrap());
    let spin = |plugin: Arc<ProviderPlugin>| async move { fault(&plugin, "spin").await };
    #[expect(clippy::disallowed_methods, reason = "a test has no server whose tracker could hold them")]
    let spinners = [tokio::spawn(spin(plugin.clone())), tokio::spawn(spin(plugin.clone()))];
    let other = async {
        while runtime.instances() < 2 {
            tokio::task::yield_now().await;
        }
        let mut instance = plugin.open(CallContext::default()).await.unwrap();
        instance.prepare(&call("fine", false), body()).await.unwrap().unwrap();
        runtime.instances()
    };
    assert_eq!(other.await, 3, "the spinners were still at it");
    for spinner in spinners {
        assert_eq!(spinner.await.unwrap(), Fault::Cpu(500));
    }
    assert_eq!(runtime.instances(), 0);
}

/// Who reads the log of a trap finds the guest's functions by the names that its author gave them.
#[tokio::test]
async fn a_trap_is_logged_with_readable_frames() {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    // For the whole process: one thread's subscriber may not be asked about what another thread's test was first to log.
    tracing::subscriber::set_global_default(log).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, plugin) = hostile(&folder).await;
    assert!(matches!(fault(&plugin, "recurse").await, Fault::Trap(_)));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("hostile::recurse"), "{text}");
    assert!(text.contains(plugin.label().as_ref()), "{text}");
    assert!(!text.contains("_ZN") && !text.contains("_RN"), "mangled: {text}");
}

#[tokio::test]
async fn a_failed_stream_leaves_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, plugin) = hostile(&folder).await;
    let head = ResponseHead { status: 200, headers: vec![] };
    let frames = vec![Frame { event: String::new(), data: b"{}".to_vec() }];
    let mut good = plugin.open(CallContext::default()).await.unwrap();
    good.begin_decoding(&call("fine", true), &head, &[]).await.unwrap();
    for model in ["panic-in-stream", "spin-in-stream"] {
        let mut bad = plugin.open(CallContext::default()).await.unwrap();
        bad.begin_decoding(&call(model, true), &head, &[]).await.unwrap();
        bad.push(&frames).await.unwrap_err();
        // The instance is of no more use, and says so rather than going on.
        bad.push(&frames).await.unwrap_err();
    }
    assert_eq!(good.push(&frames).await.unwrap().unwrap().len(), 1);
    assert!(good.finish().await.unwrap().unwrap().next.is_none());
    drop(good);
    assert_eq!(runtime.instances(), 0);
}

#[tokio::test]
async fn slots_are_bounded_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, plugin) = hostile(&folder).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(plugin.open(CallContext::default()).await.unwrap());
    }
    assert_eq!(plugin.open(CallContext::default()).await.unwrap_err().fault, Fault::Busy);
    held.pop();
    plugin.open(CallContext::default()).await.unwrap();
}

#[tokio::test]
async fn what_cant_be_loaded_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(&folder);
    let good = component("guest", "provider_openai");
    let refused = async |bytes: &[u8]| ProviderPlugin::load(&runtime, bytes).await.unwrap_err();
    let error = refused(b"not wasm").await.to_string();
    assert!(error.contains("it isn't WebAssembly") && !error.contains('\n'), "{error}");
    assert!(matches!(refused(&good[..good.len() / 2]).await, LoadError::NotAPlugin(_)));
    assert!(
        matches!(refused(b"\0asm\x01\0\0\0").await, LoadError::NotAPlugin(text) if text.contains("core module"))
    );
    let error = refused(&component("guest-test", "smuggler")).await;
    assert_eq!(error.code(), "PLUGIN_CAPABILITY");
    assert!(error.to_string().contains("wasi:filesystem/types"), "{error}");
    // The same bytes with another import, of the same length.
    let swap = |from: &str, to: &str| {
        let mut bytes = good.clone();
        let mut hits = 0;
        for at in 0..bytes.len() - from.len() {
            if &bytes[at..at + from.len()] == from.as_bytes() {
                bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
                hits += 1;
            }
        }
        assert!(hits > 0, "{from} isn't in the component");
        bytes
    };
    let error = refused(&swap("brokle:provider/exchange@0.1.0", "brokle:provider/exchanga@0.1.0")).await;
    assert_eq!(error.code(), "PLUGIN_CAPABILITY");
    let text = error.to_string();
    assert!(
        text.contains("brokle:provider/exchanga@0.1.0") && text.contains("brokle:host/log@0.1"),
        "{text}"
    );
    let error = refused(&swap("\"brokle:provider@0.1.0\"", "\"brokle:provider@0.9.0\"")).await;
    assert_eq!(error.code(), "PLUGIN_ABI");
    assert!(error.to_string().contains("brokle:provider@0.9.0"), "{error}");
    assert!(matches!(refused(&component("guest", "policy_priority")).await, LoadError::Manifest(_)));
}

#[tokio::test]
async fn compiled_code_is_kept_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = component("guest", "provider_openai");
    ProviderPlugin::load(&runtime(&folder), &bytes).await.unwrap();
    let cached = || {
        let entries = std::fs::read_dir(folder.path().join("cache")).unwrap();
        let mut files = entries.map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|e| e == "cwasm")).unwrap()
    };
    // A second host takes it as it is: the file isn't written again.
    let before = std::fs::metadata(cached()).unwrap().modified().unwrap();
    let started = Instant::now();
    ProviderPlugin::load(&runtime(&folder), &bytes).await.unwrap();
    assert_eq!(std::fs::metadata(cached()).unwrap().modified().unwrap(), before, "{:?}", started.elapsed());
    // Changed by one bit, it is compiled anew and the file mended.
    let mut code = std::fs::read(cached()).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(cached(), &code).unwrap();
    ProviderPlugin::load(&runtime(&folder), &bytes).await.unwrap();
    assert_ne!(std::fs::read(cached()).unwrap(), code);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("cache")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
}
