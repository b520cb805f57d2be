//! What telemetry costs: CPU time per call of each thread, from `record` to the month's file.
//!
//! `cargo run --release -p brokle-telemetry --example cost -- [packed|rows] [calls] [calls per second] [bytes per body]`
//!
//! `packed` records a call as one observation with three steps; `rows` records the same call as four observations. The
//! main thread's time includes building the observations and pacing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId, RequestId};
use brokle_core::observation::{Kind, Observation, SpanId, Status, Step, TraceId};
use brokle_core::random::SystemRandom as Random;
use brokle_core::tenancy::Tenant;
use brokle_core::usage::Usage;
use brokle_storage::observations::SqliteObservations;
use brokle_telemetry::{Options, Recorder};
use bytes::Bytes;

fn call(tenant: Tenant, key: ApiKeyId, body: &Bytes) -> Observation {
    let provider: Arc<str> = "openai".into();
    let model: Arc<str> = "gpt-4o-mini-2024-07-18".into();
    let step = |kind, name: &'static str, offset_us, duration_us| Step {
        span_id: SpanId::generate(&Random),
        parent_span_id: None,
        kind,
        name: name.into(),
        offset_us,
        duration_us,
        status: Status::Ok,
        http_status: (kind == Kind::Attempt).then_some(200),
        provider: Some(Arc::clone(&provider)),
        connection: None,
        model: Some(Arc::clone(&model)),
        error_class: None,
        error_message: None,
        attributes: Default::default(),
    };
    let new = Observation::new(
        tenant,
        TraceId::generate(&Random),
        SpanId::generate(&Random),
        Kind::Generation,
        SystemClock.now().timestamp_micros(),
    );
    Observation {
        key_id: Some(key),
        request_id: Some(RequestId::generate(&SystemClock, &Random)),
        name: "chat gpt-4o-mini".into(),
        operation: "chat".into(),
        duration_us: 812_345,
        first_token_us: Some(212_000),
        provider: Some(Arc::clone(&provider)),
        model_requested: Some("gpt-4o-mini".into()),
        model_served: Some(Arc::clone(&model)),
        usage: Some(Usage { input: 1_203, output: 311, cached_read: 1_024, ..Usage::default() }),
        cost: "0.000289".parse().ok(),
        streaming: true,
        http_status: Some(200),
        finish_reason: Some("stop".into()),
        user: Some("user-4711".into()),
        session: Some("session-0815".into()),
        steps: vec![
            step(Kind::Plugin, "policy-weighted", 10, 9),
            step(Kind::Plugin, "provider-openai", 25, 14),
            step(Kind::Attempt, "openai/gpt-4o-mini", 60, 812_000),
        ],
        input: (!body.is_empty()).then(|| body.clone()),
        output: (!body.is_empty()).then(|| body.clone()),
        ..new
    }
}

/// The same call as rows of their own.
fn rows(mut call: Observation) -> impl Iterator<Item = Observation> {
    let steps = std::mem::take(&mut call.steps);
    let parent = call.clone();
    let children = steps.into_iter().map(move |step| {
        let start_us = parent.start_us + i64::try_from(step.offset_us).unwrap_or_default();
        Observation {
            parent_span_id: Some(parent.span_id),
            name: step.name,
            duration_us: step.duration_us,
            provider: step.provider,
            model_served: step.model,
            http_status: step.http_status,
            ..Observation::new(parent.tenant, parent.trace_id, step.span_id, step.kind, start_us)
        }
    });
    std::iter::once(call).chain(children)
}

/// Nanoseconds on a CPU so far, of each of this process's threads.
fn threads() -> std::io::Result<Vec<(String, u64)>> {
    let mut times = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let name = std::fs::read_to_string(task.join("comm"))?.trim().to_owned();
        let stat = std::fs::read_to_string(task.join("schedstat"))?;
        times.push((name, stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()));
    }
    Ok(times)
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let packed = arguments.next().is_none_or(|shape| shape == "packed");
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let (calls, rate, body) = (number(50_000)?, number(5_000)?, number(0)?);
    let body = Bytes::from("{\"role\": \"user\", \"content\": \"What is it?\"} ".repeat(body as usize / 44));

    let directory = tempfile::tempdir()?;
    let store = Arc::new(SqliteObservations::open(directory.path())?);
    let recorder = Recorder::start(&Options::new(directory.path()), store, Arc::new(SystemClock))?;
    let tenant = Tenant {
        organization: OrganizationId::generate(&SystemClock, &Random),
        project: ProjectId::generate(&SystemClock, &Random),
        environment: EnvironmentId::generate(&SystemClock, &Random),
    };
    let key = ApiKeyId::generate(&SystemClock, &Random);

    // The threads name themselves once they run: flush what isn't there.
    recorder.flush().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = threads()?;
    let started = Instant::now();
    let (mut recorded, mut recording) = (0, Duration::ZERO);
    while recorded < calls {
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u32;
        while recorded < due.min(calls) {
            let call = call(tenant, key, &body);
            let begin = Instant::now();
            if packed {
                recorder.record(call);
            } else {
                rows(call).for_each(|row| recorder.record(row));
            }
            recording += begin.elapsed();
            recorded += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    recorder.flush().await;
    let wall = started.elapsed();
    let stats = recorder.stats();
    let after = threads()?;
    let mut background = 0;
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        println!("{name:18} {:6.2} µs of CPU per call", (after - before) as f64 / 1e3 / f64::from(calls));
        background += if name.starts_with("telemetry") { after - before } else { 0 };
    }
    println!("both threads       {:6.2} µs of CPU per call", background as f64 / 1e3 / f64::from(calls));
    println!("in record()        {:6.2} µs per call", recording.as_secs_f64() * 1e6 / f64::from(calls));
    recorder.shutdown().await;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory.path())? {
        bytes += entry?.metadata()?.len();
    }
    println!(
        "{} inserted, {} dropped, in {wall:.1?}; {} bytes on disk per call",
        stats.inserted,
        stats.dropped,
        bytes / u64::from(calls)
    );
    Ok(())
}
