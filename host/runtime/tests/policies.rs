//! Routing policies of ours in the real sandbox: over many decisions each does what it says.
//!
//! The components are built by `make plugins`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashMap;

use brokle_core::random::{Random, SeededRandom};
use brokle_runtime::facts::{Candidate, Plan, Request, Stats};
use brokle_runtime::{CallContext, PolicyPlugin, Runtime, RuntimeConfig};

/// What a share may be off by: over 10,000 draws of a quarter four standard deviations are 0.017.
const TOLERANCE: f64 = 0.02;
const DECISIONS: usize = 10_000;

/// A policy, and chance that repeats itself.
struct World {
    plugin: PolicyPlugin,
    random: SeededRandom,
    config: &'static str,
    _folder: tempfile::TempDir,
}

async fn world(name: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [7; 32]).unwrap();
    let path = std::env::current_exe().unwrap();
    let path = path
        .ancestors()
        .map(|folder| folder.join(format!("wasm32-wasip2/guest/policy_{name}.wasm")))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("policy_{name}.wasm isn't built: run `make plugins`"));
    let plugin = PolicyPlugin::load(&runtime, &std::fs::read(path).unwrap()).await.unwrap();
    World { plugin, random: SeededRandom::new(5), config: "{}", _folder: folder }
}

impl World {
    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    async fn plan(&self, request: &Request, candidates: &[Candidate]) -> Plan {
        let context = CallContext { config: self.config.as_bytes().into(), ..CallContext::default() };
        let (plan, _) = self.plugin.decide(context, request, candidates).await.unwrap();
        let plan = plan.unwrap();
        let mut order = plan.order.clone();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..u32::try_from(candidates.len()).unwrap()), "all, each once");
        plan
    }

    async fn first(&self, request: &Request, candidates: &[Candidate]) -> usize {
        self.plan(request, candidates).await.order[0] as usize
    }

    /// How often each is first, as a share.
    async fn shares(&self, candidates: &[Candidate]) -> Vec<f64> {
        let mut counts = vec![0_u32; candidates.len()];
        for _ in 0..DECISIONS {
            counts[self.first(&request(self.chance()), candidates).await] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / DECISIONS as f64).collect()
    }
}

fn request(entropy: u64) -> Request {
    Request {
        operation: "chat.completions".into(),
        model: "smart".into(),
        streaming: false,
        body_size: 4_000,
        input_tokens: 1_000,
        max_output_tokens: Some(100),
        features: vec![],
        affinity: None,
        entropy,
        attributes: vec![],
    }
}

fn candidate(connection: &str) -> Candidate {
    Candidate {
        connection: connection.into(),
        provider: "openai".into(),
        model: "m".into(),
        priority: 0,
        weight: 1,
        available: true,
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

fn four() -> Vec<Candidate> {
    ["a", "b", "c", "d"].map(candidate).into()
}

fn near(shares: &[f64], wanted: &[f64]) {
    for (share, wanted) in shares.iter().zip(wanted) {
        assert!((share - wanted).abs() < TOLERANCE, "{shares:?} instead of {wanted:?}");
    }
}

#[tokio::test]
async fn weighted_gives_shares() {
    let world = world("weighted").await;
    let mut candidates = four();
    for (candidate, weight) in candidates.iter_mut().zip([5, 3, 2, 0]) {
        candidate.weight = weight;
    }
    near(&world.shares(&candidates).await, &[0.5, 0.3, 0.2, 0.0]);
    // The next try is shared out too: of the calls that a is first for, b has three fifths.
    let mut seconds = [0.0; 4];
    let mut firsts = 0.0;
    for _ in 0..DECISIONS {
        let plan = world.plan(&request(world.chance()), &candidates).await;
        if plan.order[0] == 0 {
            firsts += 1.0;
            seconds[plan.order[1] as usize] += 1.0;
        }
    }
    near(&seconds.map(|count: f64| count / firsts), &[0.0, 0.6, 0.4, 0.0]);
    // What cools down gets nothing; what is left keeps its proportions.
    candidates[0].available = false;
    near(&world.shares(&candidates).await, &[0.0, 0.6, 0.4, 0.0]);
    // A lower priority comes first, whatever the weights.
    candidates[2].priority = -1;
    near(&world.shares(&candidates).await, &[0.0, 0.0, 1.0, 0.0]);
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let world = world("round_robin").await;
    let mut candidates = four();
    let turn = |turn: u64| Request {
        attributes: vec![("brokle.turn".into(), turn.to_string())],
        ..request(turn.wrapping_mul(77))
    };
    for number in 0..100 {
        assert_eq!(world.first(&turn(number), &candidates).await, (number % 4) as usize);
    }
    candidates[1].available = false;
    let mut firsts = Vec::new();
    for number in 0..6 {
        firsts.push(world.first(&turn(number), &candidates).await);
    }
    assert_eq!(firsts, [0, 2, 3, 0, 2, 3]);
    // A host that doesn't count: chance.
    near(&world.shares(&four()).await, &[0.25; 4]);
}

#[tokio::test]
async fn least_busy_takes_the_idle_one() {
    let world = world("least_busy").await;
    let mut candidates = four();
    near(&world.shares(&candidates).await, &[0.25; 4]);
    for (candidate, in_flight) in candidates.iter_mut().zip([3, 1, 9, 1]) {
        candidate.stats.in_flight = in_flight;
    }
    near(&world.shares(&candidates).await, &[0.0, 0.5, 0.0, 0.5]);
    // By weight: three and this one on a weight of 8 is less than one and this one on 1.
    candidates[0].weight = 8;
    near(&world.shares(&candidates).await, &[1.0, 0.0, 0.0, 0.0]);
    // Placed one after the other, calls spread out by weight.
    let mut candidates = four();
    for (candidate, weight) in candidates.iter_mut().zip([4, 3, 2, 1]) {
        candidate.weight = weight;
    }
    for _ in 0..100 {
        let first = world.first(&request(world.chance()), &candidates).await;
        candidates[first].stats.in_flight += 1;
    }
    assert_eq!(candidates.iter().map(|one| one.stats.in_flight).collect::<Vec<_>>(), [40, 30, 20, 10]);
}

#[tokio::test]
async fn latency_avoids_the_slow_one() {
    let world = world("latency").await;
    let mut candidates = four();
    for (candidate, millis) in candidates.iter_mut().zip([100.0, 110.0, 2_000.0, 120.0]) {
        candidate.stats.latency_ms = Some(millis);
    }
    // Two are drawn: the fastest wins all of its three pairs of six, the next two of its, and so on; the slowest none.
    near(&world.shares(&candidates).await, &[0.5, 1.0 / 3.0, 0.0, 1.0 / 6.0]);
    // Without a measurement it is as fast as the fastest.
    candidates[2].stats.latency_ms = None;
    let shares = world.shares(&candidates).await;
    assert!(shares[2] > 0.3, "{shares:?}");
    // One that is slow to answer fills up before it is known to be slow, and one that fails isn't fast.
    candidates[2].stats.in_flight = 30;
    candidates[0].stats.error_rate = Some(0.9);
    let shares = world.shares(&candidates).await;
    assert!(shares[2] == 0.0 && shares[0] < 0.2, "{shares:?}");
    // Streams go by their first token.
    let mut candidates = four()[..2].to_vec();
    candidates[0].stats =
        Stats { latency_ms: Some(10.0), first_token_ms: Some(900.0), ..candidates[0].stats };
    candidates[1].stats = Stats { latency_ms: Some(50.0), first_token_ms: Some(60.0), ..candidates[1].stats };
    let streamed = Request { streaming: true, ..request(1) };
    assert_eq!(world.first(&streamed, &candidates).await, 1);
    assert_eq!(world.first(&request(1), &candidates).await, 0);
}

#[tokio::test]
async fn cost_takes_the_cheapest_that_can_serve() {
    let mut world = world("cost").await;
    let mut candidates = four();
    for (candidate, (input, output)) in
        candidates.iter_mut().zip([(2.0, 8.0), (0.1, 20.0), (0.5, 1.0), (0.2, 0.4)])
    {
        (candidate.input_price, candidate.output_price) = (Some(input), Some(output));
        (candidate.context_window, candidate.features) = (Some(128_000), vec!["tools".into()]);
    }
    // d is cheapest but small and can't call tools.
    (candidates[3].context_window, candidates[3].features) = (Some(2_000), vec![]);
    let order = async |world: &World, request: &Request| world.plan(request, &candidates).await.order;
    assert_eq!(order(&world, &request(1)).await, [3, 2, 1, 0]);
    let tools = Request { features: vec!["tools".into()], ..request(1) };
    assert_eq!(order(&world, &tools).await, [2, 1, 0, 3]);
    let long = Request { input_tokens: 1_950, ..request(1) };
    assert_eq!(order(&world, &long).await, [2, 1, 0, 3]);
    // A long answer makes b the dearest of them; without a limit the configuration says what to expect.
    let long_answer = Request { max_output_tokens: Some(50_000), ..tools.clone() };
    assert_eq!(order(&world, &long_answer).await, [2, 0, 1, 3]);
    let unlimited = Request { max_output_tokens: None, ..tools.clone() };
    world.config = r#"{"output_tokens":50000}"#;
    assert_eq!(order(&world, &unlimited).await, [2, 0, 1, 3]);
    world.config = r#"{"output_tokens":0}"#;
    assert_eq!(order(&world, &unlimited).await, [1, 2, 0, 3]);
    let plan = world.plan(&Request { features: vec!["vision".into()], ..request(1) }, &candidates).await;
    assert!(plan.reason.contains("none is known"), "{}", plan.reason);
    // One that cools down is after those that can, and before those that can't.
    candidates[2].available = false;
    candidates[0].input_price = None;
    candidates[0].output_price = None;
    assert_eq!(world.plan(&tools, &candidates).await.order, [1, 0, 2, 3]);
}

#[tokio::test]
async fn sticky_keeps_sessions_where_they_are() {
    let world = world("sticky").await;
    let mut candidates = four();
    for (candidate, weight) in candidates.iter_mut().zip([4, 3, 2, 1]) {
        candidate.weight = weight;
    }
    let session = |affinity: u64, chance: u64| Request { affinity: Some(affinity), ..request(chance) };
    let mut home = HashMap::new();
    let mut counts = [0.0; 4];
    // Affinities that differ little are spread as well as any.
    for affinity in 0..DECISIONS as u64 {
        let first = world.first(&session(affinity, world.chance()), &candidates).await;
        home.insert(affinity, candidates[first].connection.clone());
        counts[first] += 1.0 / DECISIONS as f64;
    }
    near(&counts, &[0.4, 0.3, 0.2, 0.1]);
    // b leaves: only its own sessions move, to the others by their weights. It cools down: the same.
    let mut without = candidates.clone();
    let gone = without.remove(1);
    let mut cooling = candidates.clone();
    cooling[1].available = false;
    let mut moved = [0.0; 3];
    for (affinity, before) in &home {
        let request = session(*affinity, world.chance());
        let first = world.first(&request, &without).await;
        match *before == gone.connection {
            true => moved[first] += 1.0,
            false => assert_eq!(without[first].connection, *before),
        }
        let cooled = world.first(&request, &cooling).await;
        assert_eq!(cooling[cooled].connection, without[first].connection);
    }
    let all: f64 = moved.iter().sum();
    let shares = moved.map(|count| count / all);
    for (share, wanted) in shares.iter().zip([4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]) {
        assert!((share - wanted).abs() < 0.04, "{shares:?}");
    }
    // Neither the order in which candidates stand nor chance matters; without a session chance does.
    candidates.reverse();
    for (affinity, before) in home.iter().take(200) {
        let first = world.first(&session(*affinity, world.chance()), &candidates).await;
        assert_eq!(candidates[first].connection, *before);
    }
    near(&world.shares(&candidates).await, &[0.1, 0.2, 0.3, 0.4]);
}

fn said(attributes: &[(&str, &str)]) -> Request {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Request { attributes: attributes.iter().map(owned).collect(), ..request(1) }
}

#[tokio::test]
async fn conditional_takes_the_first_rule_that_holds() {
    let mut world = world("conditional").await;
    world.config = r#"{"rules": [
        {"when": "tools and input_tokens > 500", "use": ["c"]},
        {"when": "metadata.tier == 'gold' or tags contains 'vip'", "use": ["d/m", "a/other", "b"]},
        {"when": "stream", "use": ["nobody"]}
    ], "otherwise": ["b"]}"#;
    let tools = Request { features: vec!["tools".into()], ..said(&[("metadata.tier", "gold")]) };
    let (gold, vip) = (said(&[("metadata.tier", "gold")]), said(&[("tags", "a, vip")]));
    let streamed = Request { streaming: true, ..said(&[]) };
    for (request, order, reason) in [
        (tools, [2, 0, 1, 3], "tools and input_tokens > 500"),
        (gold, [3, 1, 0, 2], "metadata.tier == 'gold' or tags contains 'vip'"),
        (vip, [3, 1, 0, 2], "metadata.tier == 'gold' or tags contains 'vip'"),
        (streamed, [0, 1, 2, 3], "stream"),
        (said(&[("metadata.tier", "tin")]), [1, 0, 2, 3], "no condition holds"),
    ] {
        let plan = world.plan(&request, &four()).await;
        assert_eq!((plan.order.as_slice(), plan.reason.as_str()), (&order[..], reason));
    }
    let mut candidates = four();
    candidates[3].available = false;
    assert_eq!(world.plan(&said(&[("metadata.tier", "gold")]), &candidates).await.order, [1, 0, 2, 3]);
}

#[tokio::test]
async fn the_deepest_condition_fits_on_the_stack() {
    let mut world = world("conditional").await;
    let deep = format!("{}stream{}", "not (".repeat(16), ")".repeat(16));
    world.config = String::leak(format!(r#"{{"rules": [{{"when": "{deep}", "use": ["d"]}}]}}"#));
    assert_eq!(world.first(&Request { streaming: true, ..request(1) }, &four()).await, 3);
}

#[tokio::test]
async fn a_bad_condition_is_refused_with_its_place() {
    let world = world("conditional").await;
    let config =
        br#"{"rules": [{"when": "stream", "use": ["a"]}, {"when": "stream and nothing", "use": ["a"]}]}"#;
    let problems = world.plugin.check_config(config).await.unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].pointer, "/rules/1/when");
    assert!(
        problems[0].message.starts_with("column 12: there is no fact 'nothing'"),
        "{}",
        problems[0].message
    );
}

const TRIAL: &str = r#"{"experiment": "one", "variants": [
    {"name": "control", "weight": 3, "use": ["b"]}, {"name": "new", "use": ["c", "d"]}]}"#;

fn session(affinity: u64) -> Request {
    Request { affinity: Some(affinity), ..request(affinity) }
}

#[tokio::test]
async fn ab_assigns_in_shares_and_for_good() {
    let mut world = world("ab").await;
    world.config = TRIAL;
    near(&world.shares(&four()).await, &[0.0, 0.75, 0.25, 0.0]);
    let sessions: Vec<u64> = (0..4_000).map(|_| world.chance()).collect();
    let mut counts = HashMap::new();
    let mut assigned = Vec::new();
    for &affinity in &sessions {
        let plan = world.plan(&session(affinity), &four()).await;
        // Chance has no part in it.
        let again = Request { entropy: world.chance(), ..session(affinity) };
        assert_eq!(world.plan(&again, &four()).await.order, plan.order);
        let order: &[u32] = if plan.reason == "variant control" { &[1, 0, 2, 3] } else { &[2, 3, 0, 1] };
        assert_eq!(plan.order, order, "{}", plan.reason);
        *counts.entry(plan.reason.clone()).or_insert(0_u32) += 1;
        assigned.push(plan.reason);
    }
    let share = f64::from(counts["variant new"]) / 4_000.0;
    assert!((share - 0.25).abs() < 0.03, "{counts:?}");

    // The new one gets more: nobody leaves it.
    world.config = r#"{"experiment": "one", "variants": [
        {"name": "control", "use": ["b"]}, {"name": "new", "use": ["c"]}]}"#;
    let mut joined = 0;
    for (affinity, before) in sessions.iter().zip(&assigned) {
        let now = world.plan(&session(*affinity), &four()).await.reason;
        assert!(before == "variant control" || now == *before);
        joined += u32::from(now != *before);
    }
    assert!((f64::from(joined) / 4_000.0 - 0.25).abs() < 0.03, "{joined} of 4000 joined");

    // Another experiment assigns independently: a quarter of the first one's new are new here, too.
    world.config = r#"{"experiment": "two", "variants": [
        {"name": "control", "weight": 3, "use": ["b"]}, {"name": "new", "use": ["c"]}]}"#;
    let mut both = 0;
    for (affinity, _) in sessions.iter().zip(&assigned).filter(|(_, before)| *before == "variant new") {
        both += u32::from(world.plan(&session(*affinity), &four()).await.reason == "variant new");
    }
    let share = f64::from(both) / f64::from(counts["variant new"]);
    assert!((share - 0.25).abs() < 0.06, "{share}");
}

#[tokio::test]
async fn ab_refuses_variants_that_cant_be_told_apart_or_have_no_share() {
    let world = world("ab").await;
    let twice = br#"{"variants": [{"name": "a", "use": ["a"]}, {"name": "a", "use": ["b"]}]}"#;
    let nothing = br#"{"variants": [{"name": "a", "weight": 0, "use": ["a"]}, {"name": "b", "weight": 0, "use": ["b"]}]}"#;
    for (config, pointer) in [(&twice[..], "/variants/1/name"), (nothing, "/variants")] {
        let problems = world.plugin.check_config(config).await.unwrap();
        assert_eq!(problems.iter().map(|one| one.pointer.as_str()).collect::<Vec<_>>(), [pointer]);
    }
}

#[tokio::test]
async fn usage_shares_by_what_is_left_at_the_vendor() {
    let mut world = world("usage").await;
    let mut candidates = four();
    // A call of `request` is 1,100 tokens.
    for (candidate, left) in candidates.iter_mut().zip([44_000, 33_000, 22_000, 11_000]) {
        candidate.stats.remaining_tokens = Some(left);
    }
    near(&world.shares(&candidates).await, &[0.4, 0.3, 0.2, 0.1]);
    // Calls under way will take theirs: 30 of a's 40.
    candidates[0].stats.in_flight = 30;
    near(&world.shares(&candidates).await, &[1.0 / 7.0, 3.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
    // Of whom nothing is known counts as the one that has the most left.
    candidates[0].stats.remaining_tokens = None;
    near(&world.shares(&candidates).await, &[1.0 / 3.0, 1.0 / 3.0, 2.0 / 9.0, 1.0 / 9.0]);
    // Who has no room, in tokens or requests, is never first, and of those the one with the most left comes first.
    candidates[1].stats.remaining_tokens = Some(1_099);
    candidates[2].stats.remaining_tokens = Some(1_000);
    (candidates[0].stats.in_flight, candidates[0].stats.remaining_requests) = (3, Some(3));
    let plan = world.plan(&request(1), &candidates).await;
    assert_eq!(plan.order, [3, 0, 1, 2]);
    // Who has said nothing has room, also where nobody else has.
    let mut unsaid = four();
    unsaid[0].stats.remaining_tokens = Some(1_099);
    near(&world.shares(&unsaid).await, &[0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    // A longer answer wants more room: d has some for 11,000 tokens, not for more.
    let longer = |output| Request { max_output_tokens: Some(output), ..request(1) };
    assert_eq!(world.first(&longer(10_000), &candidates).await, 3);
    candidates[1].stats.remaining_tokens = Some(12_000);
    assert_eq!(world.first(&longer(10_001), &candidates).await, 1);
    world.config = r#"{"output_tokens":10001}"#;
    let unlimited = Request { max_output_tokens: None, ..request(1) };
    assert_eq!(world.first(&unlimited, &candidates).await, 1);
    // Nobody has said anything: by weight.
    let mut candidates = four();
    for (candidate, weight) in candidates.iter_mut().zip([5, 3, 2, 0]) {
        candidate.weight = weight;
    }
    near(&world.shares(&candidates).await, &[0.5, 0.3, 0.2, 0.0]);
    candidates[0].available = false;
    near(&world.shares(&candidates).await, &[0.0, 0.6, 0.4, 0.0]);
}

/// What `auto` decides by, when nothing is configured and of three prices.
fn tiers() -> Vec<Candidate> {
    let mut candidates = four()[..3].to_vec();
    for (candidate, price) in candidates.iter_mut().zip([10.0, 0.1, 1.0]) {
        (candidate.input_price, candidate.output_price) = (Some(price), Some(price * 4.0));
        let features = ["tools", "json_schema", "vision", "reasoning"];
        candidate.features = features.map(str::to_owned).into();
    }
    candidates
}

#[tokio::test]
async fn auto_takes_the_cheapest_tier_that_fits() {
    let mut world = world("auto").await;
    let candidates = tiers();
    let needs = |feature: &str| Request { features: vec![feature.into()], ..request(1) };
    let long = |tokens| Request { input_tokens: tokens, ..request(1) };
    for (request, order, reason) in [
        (request(1), [1, 2, 0], "small (nothing special)"),
        (long(2_000), [1, 2, 0], "small (nothing special)"),
        (long(2_001), [2, 0, 1], "medium (2001 tokens)"),
        (needs("tools"), [2, 0, 1], "medium (tools)"),
        (needs("json_schema"), [2, 0, 1], "medium (json_schema)"),
        (needs("vision"), [2, 0, 1], "medium (vision)"),
        (needs("reasoning"), [0, 2, 1], "large (reasoning)"),
        (long(16_001), [0, 2, 1], "large (16001 tokens)"),
    ] {
        let plan = world.plan(&request, &candidates).await;
        assert_eq!((plan.order.as_slice(), plan.reason.as_str()), (&order[..], reason));
    }
    // Whatever tier it is in, one that can't serve the request comes last, and one that cools down before that.
    let mut limited = tiers();
    limited[2].features.clear();
    limited[0].available = false;
    assert_eq!(world.plan(&needs("tools"), &limited).await.order, [1, 0, 2]);
    limited[1].context_window = Some(1_000);
    let plan = world.plan(&request(1), &limited).await;
    assert_eq!((plan.order, plan.reason.as_str()), (vec![2, 0, 1], "medium (nothing special)"));
    // Two of one price are in one tier; who has no price is large.
    let mut four = tiers();
    four.push(Candidate { priority: -1, ..four[1].clone() });
    four[0].input_price = None;
    four[0].output_price = None;
    assert_eq!(world.plan(&request(1), &four).await.order, [3, 1, 2, 0]);
    assert_eq!(world.plan(&needs("reasoning"), &four).await.order, [0, 2, 3, 1]);
    // As the operator has it.
    world.config = r#"{"medium":{"input_tokens":500,"features":[]},"large":{"features":["tools"]},
        "tiers":{"small":["a"],"medium":["c/m","nobody"]}}"#;
    for (request, order) in [
        (long(400), [0, 2, 1]),
        (request(1), [2, 1, 0]),
        (needs("tools"), [1, 2, 0]),
        (needs("vision"), [2, 1, 0]),
    ] {
        assert_eq!(world.plan(&request, &candidates).await.order, order);
    }
}

#[tokio::test]
async fn auto_halves_the_bill_of_mixed_traffic_and_asks_nobody_for_what_it_cant() {
    let world = world("auto").await;
    let mut candidates = tiers();
    candidates[1].features.retain(|feature| feature != "vision");
    let (mut spent, mut dearest) = (0.0, 0.0);
    for _ in 0..2_000 {
        let chance = world.chance();
        let features = match chance % 10 {
            0 => vec!["vision".to_owned()],
            1 => vec!["reasoning".to_owned()],
            _ => vec![],
        };
        let request = Request { features, input_tokens: chance % 3_000, ..request(chance) };
        let first = &candidates[world.first(&request, &candidates).await];
        assert!(request.features.iter().all(|feature| first.features.contains(feature)));
        let price = |one: &Candidate| {
            request.input_tokens as f64 * one.input_price.unwrap() + 100.0 * one.output_price.unwrap()
        };
        spent += price(first);
        dearest += price(&candidates[0]);
    }
    assert!(spent < dearest * 0.3, "{spent} of {dearest}");
}

fn scored(scores: [Option<(f64, u32)>; 4]) -> Vec<Candidate> {
    let mut candidates = four();
    for (candidate, score) in candidates.iter_mut().zip(scores) {
        let Some((average, count)) = score else { continue };
        candidate.attributes = vec![
            ("brokle.score.other".into(), "1000".into()),
            ("brokle.score.helpful".into(), average.to_string()),
            ("brokle.scores.helpful".into(), count.to_string()),
        ];
    }
    candidates
}

#[tokio::test]
async fn quality_takes_the_best_and_explores_a_share() {
    let mut world = world("quality").await;
    world.config = r#"{"score":"helpful"}"#;
    let candidates = scored([Some((0.6, 500)), Some((0.9, 20)), Some((1.0, 19)), None]);
    // 5 % go to each with the same chance, so that b has its share of those too.
    near(&world.shares(&candidates).await, &[0.0125, 0.9625, 0.0125, 0.0125]);
    world.config = r#"{"score":"helpful","explore":0.4}"#;
    near(&world.shares(&candidates).await, &[0.1, 0.7, 0.1, 0.1]);
    world.config = r#"{"score":"helpful","explore":0}"#;
    let order = async |world: &World, candidates: &[Candidate]| {
        let mut order = world.plan(&request(world.chance()), candidates).await.order;
        // Of whom nothing is known comes in any order.
        order[2..].sort_unstable();
        order
    };
    assert_eq!(order(&world, &candidates).await, [1, 0, 2, 3]);
    world.config = r#"{"score":"helpful","explore":0,"min_scores":19}"#;
    assert_eq!(order(&world, &candidates).await, [2, 1, 0, 3]);
    world.config = r#"{"score":"helpful","explore":0,"lower_is_better":true}"#;
    assert_eq!(order(&world, &candidates).await, [0, 1, 2, 3]);
    world.config = r#"{"score":"other","explore":0,"min_scores":1}"#;
    let plan = world.plan(&request(1), &candidates).await;
    assert_eq!(plan.reason, "none has enough scores: by weight", "another score's count isn't known");
    near(&world.shares(&candidates).await, &[0.25; 4]);
    // Nearly as good is good enough for the cheapest of them.
    let mut close = scored([Some((0.89, 50)), Some((0.9, 50)), Some((0.8, 50)), Some((0.1, 50))]);
    for (candidate, price) in close.iter_mut().zip([0.1, 5.0, 0.05, 0.01]) {
        candidate.input_price = Some(price);
    }
    world.config = r#"{"score":"helpful","explore":0,"tolerance":0.02}"#;
    assert_eq!(world.plan(&request(1), &close).await.order, [0, 1, 2, 3]);
    world.config = r#"{"score":"helpful","explore":0}"#;
    assert_eq!(world.plan(&request(1), &close).await.order, [1, 0, 2, 3]);
    close[1].available = false;
    assert_eq!(world.first(&request(1), &close).await, 0);
}
