//! Failures and overload: circuits, places, retries, fallbacks, and streams that fail before they have begun.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{ManualClock, SystemClock};
use brokle_gateway::gate::Gate;
use brokle_gateway::resilience::{Breaker, Resilience, Retries};
use brokle_gateway::routing::routes::{
    ChosenPolicy, Fallbacks, Hedge, Route, RouteCandidate, Routing, Rules, Target,
};
use brokle_gateway::{CircuitState, Operation, Timeouts};
use brokle_test_upstream::{Fault, Upstream};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::harness::{Extra, World, openai, request_id, world_extra};

fn faults(upstream: &Upstream, fault: &str, times: usize) {
    upstream.script(std::iter::repeat_n(fault.parse::<Fault>().unwrap(), times));
}

async fn two() -> [Upstream; 2] {
    [Upstream::start().await.unwrap(), Upstream::start().await.unwrap()]
}

fn to(connection: &str, model: &str) -> RouteCandidate {
    RouteCandidate {
        target: Target::Connection(connection.into()),
        model: model.into(),
        priority: 0,
        weight: 1,
        when: None,
    }
}

/// A route `smart` to `a`, with these rules.
fn smart(rules: Rules) -> Extra {
    let route = Route {
        name: "smart".into(),
        policy: ChosenPolicy::named("priority"),
        candidates: vec![to("a", "gpt-4o-mini")],
        rules: Some(Arc::new(rules)),
        ..Route::default()
    };
    let routing = Routing { routes: vec![route], ..Routing::default() };
    routing.check().unwrap();
    Extra { routing, ..Extra::default() }
}

async fn of([a, b]: [&Upstream; 2], extra: Extra) -> World {
    world_extra(vec![openai("a", a, 0), openai("b", b, 1)], Arc::new(SystemClock), extra).await
}

fn code(json: &Value) -> &str {
    json["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_broken_provider_is_left_alone_until_one_call_finds_it_well() {
    let upstream = Upstream::start().await.unwrap();
    let clock = Arc::new(ManualClock::new(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let world = world_extra(vec![openai("a", &upstream, 0)], clock.clone(), Extra::default()).await;
    faults(&upstream, "status=500", 6);
    for _ in 0..5 {
        assert_eq!(world.chat("a/gpt-4o-mini", "").await.status(), 500);
    }
    let health = world.gateway.provider_health();
    let model = &health[0].models[0];
    assert_eq!((health[0].connection.as_str(), health[0].healthy), ("a", false));
    assert_eq!((model.circuit, model.open_ms, model.in_flight), (CircuitState::Open, Some(5_000), 0));
    assert_eq!(model.error_rate, Some(1.0));
    assert!(model.last_error.is_some());

    let refused = world.chat("a/gpt-4o-mini", "").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.header("x-brokle-attempts"), Some("0"));
    assert_eq!(code(&refused.json().await), "circuit_open");
    assert_eq!(upstream.requests().len(), 5, "nothing was sent");
    assert_eq!(world.chat("a/gpt-4o", "").await.status(), 500, "another model is another matter");

    clock.advance(chrono::TimeDelta::seconds(5));
    assert_eq!(world.chat("a/gpt-4o-mini", "").await.status(), 200);
    let health = world.gateway.provider_health();
    let mini = health[0].models.iter().find(|one| one.model == "gpt-4o-mini").unwrap();
    assert_eq!((mini.circuit, mini.open_ms), (CircuitState::Closed, None));
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("brokle_circuit_opens_total{provider=\"openai\"} 1"), "{metrics}");
    // A name that only a caller knows is nobody else's business.
    world.chat("a/ft:acme-secret", "").await;
    let shown = serde_json::to_string(&world.gateway.provider_health()).unwrap();
    assert!(!shown.contains("acme"), "{shown}");
}

#[tokio::test]
async fn another_candidate_serves_while_a_circuit_is_open() {
    let [a, b] = two().await;
    let world = of([&a, &b], Extra::default()).await;
    faults(&a, "refuse", 50);
    for _ in 0..20 {
        assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200);
    }
    // It cools down after the third; five are the most that the circuit lets through.
    assert!(a.requests().len() <= 5, "{}", a.requests().len());
    assert_eq!(b.requests().len(), 20);
}

#[tokio::test]
async fn a_full_connection_hands_over_and_at_the_last_is_waited_for() {
    let [a, b] = two().await;
    let gate = Some(Arc::new(Gate::new(1, 8, Duration::from_secs(20))));
    let world = of([&a, &b], Extra { gate, ..Extra::default() }).await;
    faults(&a, "stall-after=3", 1);
    let held = world.chat("a/gpt-4o-mini", r#","stream":true"#).await;
    assert_eq!(held.status(), 200);
    // One gate for both: nobody else is left, so this one waits until the stream is dropped.
    let mut waits = Box::pin(world.chat("openai/gpt-4o-mini", ""));
    tokio::select! {
        biased;
        _ = &mut waits => panic!("there was no place"),
        () = until(|| world.gateway.provider_health().iter().any(|one| one.waiting == 1)) => {}
    }
    drop(held);
    assert_eq!(waits.await.status(), 200);
}

async fn until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never was");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_queue_ends_and_says_when_to_come_back() {
    let upstream = Upstream::start().await.unwrap();
    let gate = Some(Arc::new(Gate::new(1, 0, Duration::from_secs(20))));
    let extra = Extra { gate, ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    faults(&upstream, "stall-after=3", 1);
    let held = world.chat("a/gpt-4o-mini", r#","stream":true"#).await;
    let refused = world.chat("a/gpt-4o-mini", "").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(code(&refused.json().await), "connection_busy");
    drop(held);
    assert_eq!(world.chat("a/gpt-4o-mini", "").await.status(), 200);
}

/// C1: wherever a client leaves, its place at the connection and in the gateway is free again.
#[tokio::test]
async fn a_thousand_that_leave_take_no_place_with_them() {
    let upstream = Upstream::start().await.unwrap();
    let gate = Some(Arc::new(Gate::new(4, 64, Duration::from_secs(20))));
    let resilience = Resilience { max_in_flight: 16, ..Resilience::default() };
    let extra = Extra { gate, resilience, ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    let caller = world.keys.authenticate(&world.key).await;
    let headers = http::HeaderMap::new();
    let body = |stream: bool| {
        format!(
            r#"{{"model":"a/gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
        )
    };
    for round in 0..1_000_u32 {
        let place = world.gateway.admit().expect("places leaked");
        let (operation, body) = (Operation::ChatCompletions, body(round % 2 == 0).into());
        let call = world.gateway.serve(operation, caller.clone(), &headers, body, request_id());
        let mut call = Box::pin(async { place.hold(call.await.into_body()) });
        // Left after so many polls: before anything was sent, while the head is awaited, or in the middle of the body.
        for _ in 0..round % 7 {
            if let std::task::Poll::Ready(mut body) = futures_util::poll!(call.as_mut()) {
                let _ = futures_util::poll!(body.frame());
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(world.gateway.in_flight(), 0);
    let health = world.gateway.provider_health();
    assert_eq!((health[0].in_flight, health[0].waiting), (0, 0));
    // All four are there at once.
    faults(&upstream, "stall-after=3", 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(world.chat("a/gpt-4o-mini", r#","stream":true"#).await);
    }
    assert!(held.iter().all(|answer| answer.status() == 200));
}

#[tokio::test]
async fn a_gateway_without_room_says_so_and_goes_on_with_what_it_has() {
    let upstream = Upstream::start().await.unwrap();
    let resilience = Resilience { max_in_flight: 2, ..Resilience::default() };
    let extra = Extra { resilience, ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    let places = [world.gateway.admit().unwrap(), world.gateway.admit().unwrap()];
    assert!(world.gateway.admit().is_none());
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = std::time::Instant::now();
        assert!(world.gateway.admit().is_none());
        let shed = world.gateway.shed(None, Operation::ChatCompletions, request_id()).await;
        times.push(begun.elapsed());
        assert_eq!(
            (shed.status(), shed.headers()["retry-after"].to_str().unwrap()),
            (503.try_into().unwrap(), "1")
        );
    }
    times.sort();
    assert!(times[100] < Duration::from_millis(5), "half of them took {:?}", times[100]);
    let [first, _second] = places;
    let body = world.chat("a/gpt-4o-mini", "").await.0.into_body();
    let held = first.hold(body);
    assert!(world.gateway.admit().is_none(), "until the body's end");
    drop(held);
    assert!(world.gateway.admit().is_some());
    assert!(world.metrics.encode().unwrap().contains("brokle_shed_total 200"));
}

#[tokio::test]
async fn the_same_candidate_is_asked_again_where_that_may_help() {
    let upstream = Upstream::start().await.unwrap();
    let resilience =
        Resilience { retries: Retries { rounds: 2, ..Retries::default() }, ..Resilience::default() };
    let timeouts = Timeouts { first_byte: Duration::from_millis(300), ..Timeouts::default() };
    let extra = Extra { resilience, timeouts: Some(timeouts), ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    faults(&upstream, "status=503", 2);
    let answer = world.chat("a/gpt-4o-mini", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("3")));
    // Nor longer than somebody would wait.
    faults(&upstream, "status=429;retry-after=3600", 1);
    let begun = std::time::Instant::now();
    let answer = world.chat("a/gpt-4o-mini", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (429, Some("1")));
    assert!(begun.elapsed() < Duration::from_secs(3));
    // What may have been served isn't sent twice.
    for (fault, status) in [("hang-head", 504), ("refuse", 502), ("status=400", 400)] {
        faults(&upstream, fault, 1);
        let answer = world.chat("a/gpt-4o", "").await;
        assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (status, Some("1")), "{fault}");
    }
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("brokle_retries_total{provider=\"openai\"} 2"), "{metrics}");
}

/// U3: however much fails, what is sent is what was asked for and a fifth.
#[tokio::test]
async fn a_provider_that_fails_isnt_drowned_in_retries() {
    let upstream = Upstream::start().await.unwrap();
    let resilience = Resilience {
        retries: Retries { rounds: 3, longest_wait: Duration::from_secs(10) },
        breaker: Breaker { enabled: false, ..Breaker::default() },
        ..Resilience::default()
    };
    let extra = Extra { resilience, ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    faults(&upstream, "status=500", 1_000);
    let calls = (0..100).map(|_| world.chat("a/gpt-4o-mini", ""));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status() == 500));
    let sent = upstream.requests().len();
    assert!((110..=130).contains(&sent), "{sent} requests for 100 calls");
    assert!(world.metrics.encode().unwrap().contains("brokle_retry_budget_exhausted_total"));
}

#[tokio::test]
async fn each_kind_of_failure_has_its_own_fallback() {
    let [a, b] = two().await;
    let fallbacks = Fallbacks {
        context_length: vec![to("b", "gpt-4.1")],
        content_policy: vec![to("b", "lenient")],
        rate_limit: vec![to("b", "spare")],
        general: vec![to("b", "other")],
    };
    let world = of([&a, &b], smart(Rules { fallbacks, ..Rules::default() })).await;
    for (fault, model) in [("status=429", "spare"), ("status=500", "other"), ("empty-stream", "other")] {
        faults(&a, fault, 1);
        let more = if fault == "empty-stream" { r#","stream":true"# } else { "" };
        let answer = world.chat("smart", more).await;
        assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some(model)), "{fault}");
        assert_eq!(answer.header("x-brokle-attempts"), Some("2"));
    }
    // The caller's own mistake is nobody else's business.
    faults(&a, "status=400", 1);
    let answer = world.chat("smart", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (400, Some("1")));
    // Fallbacks have none of their own.
    faults(&a, "status=500", 1);
    faults(&b, "status=500", 1);
    let answer = world.chat("smart", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (500, Some("2")));
}

#[tokio::test]
async fn a_route_sets_parameters_and_times() {
    let [a, b] = two().await;
    let rules = Rules {
        set: vec![("/temperature".into(), b"0".to_vec()), ("/metadata".into(), br#"{"team":"x"}"#.to_vec())],
        timeouts: Some(Timeouts { first_byte: Duration::from_millis(200), ..Timeouts::default() }),
        ..Rules::default()
    };
    let world = of([&a, &b], smart(rules)).await;
    assert_eq!(world.chat("smart", r#","temperature":1.5,"seed":7"#).await.status(), 200);
    let sent: Value = serde_json::from_slice(&a.requests()[0].body).unwrap();
    assert_eq!((&sent["temperature"], &sent["seed"]), (&0.into(), &7.into()));
    assert_eq!(sent["metadata"]["team"], "x");
    faults(&a, "hang-head", 1);
    let begun = std::time::Instant::now();
    let answer = world.chat("smart", "").await;
    assert_eq!(answer.status(), 504);
    assert!(begun.elapsed() < Duration::from_secs(4), "the gateway's own is 5 s");
}

/// Until the first real token went out a stream that fails is a failure like any other.
#[tokio::test]
async fn a_stream_that_fails_before_its_first_token_is_tried_elsewhere() {
    let [a, b] = two().await;
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..Timeouts::default() };
    let extra = Extra { timeouts: Some(timeouts), ..Extra::default() };
    let world = of([&a, &b], extra).await;
    for fault in ["empty-stream", "stall-after=0", "stall-after=1", "error-in-stream=0", "error-in-stream=1"]
    {
        faults(&a, fault, 1);
        let answer = world.chat("openai/gpt-4o-mini", r#","stream":true"#).await;
        assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")), "{fault}");
        let events = answer.events().await;
        assert!(events.iter().all(|event| event.get("error").is_none()), "{fault}: {events:?}");
        assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"), "{fault}");
        // So that its circuit stays closed.
        assert_eq!(world.chat("a/gpt-4o-mini", "").await.status(), 200);
    }
    // Once it has begun it is told in the stream.
    faults(&a, "error-in-stream=2", 1);
    let answer = world.chat("openai/gpt-4o-mini", r#","stream":true"#).await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("1")));
    assert!(answer.events().await.last().unwrap().get("error").is_some());
}

#[tokio::test]
async fn a_first_token_that_takes_too_long_is_a_failure_where_a_route_says_so() {
    let [a, b] = two().await;
    let rules = Rules {
        timeouts: Some(Timeouts { first_token: Some(Duration::from_millis(250)), ..Timeouts::default() }),
        fallbacks: Fallbacks { general: vec![to("b", "gpt-4o-mini")], ..Fallbacks::default() },
        ..Rules::default()
    };
    let world = of([&a, &b], smart(rules)).await;
    faults(&a, "stall-after=1", 1);
    let answer = world.chat("smart", r#","stream":true"#).await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")));
    a.wait_until(|seen| seen.iter().all(|seen| seen.client_left())).await.unwrap();
}

#[tokio::test]
async fn the_time_to_the_first_token_is_not_that_to_an_empty_chunk() {
    let [a, b] = two().await;
    let world = of([&a, &b], smart(Rules::default())).await;
    // The first event has a role; the others come that much later, each.
    faults(&a, "delay=300", 1);
    world.chat("smart", r#","stream":true"#).await.text().await;
    let trace = world.only_trace().await;
    assert!(trace["time_to_first_token_ms"].as_f64().unwrap() >= 300.0, "{trace:#}");
}

/// A route to both, hedged.
fn hedged(hedge: Hedge) -> Extra {
    let mut extra = smart(Rules { hedge: Some(hedge), ..Rules::default() });
    extra.routing.routes[0].candidates.push(to("b", "gpt-4o"));
    extra
}

#[tokio::test]
async fn the_slow_one_is_overtaken_cancelled_and_on_the_trace() {
    let [a, b] = two().await;
    let world = of([&a, &b], hedged(Hedge::After(Duration::from_millis(100)))).await;
    for more in ["", r#","stream":true"#] {
        faults(&a, "hang-head", 1);
        let answer = world.chat("smart", more).await;
        assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some("gpt-4o")));
        assert_eq!(answer.header("x-brokle-attempts"), Some("2"));
        answer.text().await;
        a.wait_until(|seen| seen.iter().all(|seen| seen.client_left())).await.unwrap();
        let health = world.gateway.provider_health();
        assert!(health.iter().all(|one| one.in_flight == 0 && one.healthy), "{health:?}");
    }
    // One row for each call, with both attempts and the winner's usage.
    let traces = world.traces().await;
    assert_eq!(traces.len(), 2);
    for trace in &traces {
        let id = trace["trace_id"].as_str().unwrap().parse().unwrap();
        let whole = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        let text = serde_json::to_string(&whole).unwrap();
        assert!(text.contains("hedge_lost") && text.contains("openai/gpt-4o\""), "{text}");
    }
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("brokle_hedges_total{provider=\"openai\"} 2"), "{metrics}");
    assert!(metrics.contains("brokle_upstream_connections 0"), "{metrics}");
    // A quick one isn't doubled, and a failure doesn't wait.
    let sent = b.requests().len();
    assert_eq!(world.chat("smart", "").await.header("x-brokle-model"), Some("gpt-4o-mini"));
    assert_eq!(b.requests().len(), sent);
    faults(&a, "status=500", 1);
    let answer = world.chat("smart", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")));
    // The other one fails: the slow one is waited for.
    faults(&a, "slow-head=400", 1);
    faults(&b, "status=500", 1);
    let answer = world.chat("smart", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some("gpt-4o-mini")));
}

#[tokio::test]
async fn hedges_are_a_fifth_at_most_and_a_percentile_needs_answers() {
    let [a, b] = two().await;
    let world = of([&a, &b], hedged(Hedge::Percentile(95))).await;
    faults(&a, "slow-head=150", 1);
    assert_eq!(world.chat("smart", "").await.header("x-brokle-model"), Some("gpt-4o-mini"));
    assert!(b.requests().is_empty(), "too little is known");
    let [a, b] = two().await;
    let world = of([&a, &b], hedged(Hedge::After(Duration::from_millis(20)))).await;
    faults(&a, "slow-head=400", 60);
    let calls = (0..60).map(|_| world.chat("smart", ""));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let sent = b.requests().len();
    assert!((10..=10 + 12).contains(&sent), "{sent} of 60");
}

#[tokio::test]
async fn a_caller_who_leaves_a_hedged_call_leaves_one_row() {
    let [a, b] = two().await;
    let world = of([&a, &b], hedged(Hedge::After(Duration::from_millis(20)))).await;
    faults(&a, "hang-head", 1);
    faults(&b, "hang-head", 1);
    let mut call = Box::pin(world.chat("smart", ""));
    tokio::select! {
        biased;
        _ = &mut call => panic!("nobody answers"),
        seen = b.wait_until(|seen| !seen.is_empty()) => drop(seen.unwrap()),
    }
    drop(call);
    let traces = world.traces().await;
    assert_eq!((traces.len(), &traces[0]["status"]), (1, &"aborted".into()));
    let health = world.gateway.provider_health();
    assert!(health.iter().all(|one| one.in_flight == 0));
}
