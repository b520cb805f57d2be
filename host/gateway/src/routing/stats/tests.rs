use brokle_core::clock::ManualClock;
use chrono::TimeDelta;
use http::HeaderValue;

use super::*;

const START: i64 = 1_800_000_000_000_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn after(seconds: i64) -> i64 {
    START + seconds * 1_000_000
}

fn near(value: Option<f64>, wanted: f64) -> bool {
    value.is_some_and(|value| (value - wanted).abs() < wanted * 0.01)
}

fn enter(facts: &LiveFacts, name: &str) -> Result<Ticket, Duration> {
    facts.enter(name.to_owned(), &"openai".into())
}

/// A ticket for the pair, without a gateway around it.
fn ticket(facts: &LiveFacts, name: &str) -> Ticket {
    enter(facts, name).unwrap()
}

fn read(facts: &LiveFacts, name: &str) -> Reading {
    let settings = &facts.breaker;
    facts
        .pairs
        .get(name)
        .map_or_else(|| Pair::default().read(0, settings), |pair| pair.read(facts.now(), settings))
}

fn facts_with(breaker: Settings) -> (Arc<ManualClock>, LiveFacts) {
    let clock = Arc::new(ManualClock::new(chrono::DateTime::from_timestamp_micros(START).unwrap()));
    (clock.clone(), LiveFacts::new(clock, breaker, Family::default()))
}

/// Without a circuit: what is shown here is what policies are told.
fn facts() -> (Arc<ManualClock>, LiveFacts) {
    facts_with(Settings { enabled: false, ..Settings::default() })
}

fn failure(status: u16, retry_after: Option<u64>) -> Refusal {
    let retry_after = retry_after.map(Duration::from_secs);
    Refusal { retry_after, ..Refusal::upstream(status, "upstream_error", "") }
}

#[test]
fn a_peak_counts_at_once_and_fades() {
    let mut latency = PeakEwma::default();
    assert_eq!(latency.read(START), None);
    latency.record(START, ms(100));
    latency.record(START, ms(900));
    assert!(near(latency.read(START), 900.0));
    // A faster answer ten seconds later: a third of the peak is left above it.
    latency.record(after(10), ms(100));
    assert!(near(latency.read(after(10)), 100.0 + 800.0 * 0.3679), "{:?}", latency.read(after(10)));
    // Unused it fades, and in the end is forgotten.
    let now = latency.read(after(10)).unwrap();
    assert!(near(latency.read(after(20)), now * 0.3679));
    assert_eq!(latency.read(after(611)), None);
    // A burst of good answers at the same instant is believed, too.
    latency.record(after(700), ms(1_000));
    for _ in 0..50 {
        latency.record(after(700), ms(10));
    }
    assert!(latency.read(after(700)).unwrap() < 20.0);
    // A clock that goes back changes nothing.
    assert_eq!(latency.read(after(600)), latency.read(after(700)));
}

#[test]
fn the_error_rate_is_a_share_and_is_forgotten() {
    let mut errors = ErrorRate::default();
    assert_eq!(errors.read(START), None);
    for call in 0..10 {
        errors.record(START, call % 2 == 0);
    }
    assert!(near(errors.read(START), 0.5));
    // Old failures weigh less than new successes.
    for _ in 0..5 {
        errors.record(after(60), false);
    }
    assert!(errors.read(after(60)).unwrap() < 0.2);
    assert_eq!(errors.read(after(60 + 300)), None);
}

#[test]
fn a_429_cools_down_as_long_as_the_vendor_says() {
    let (clock, facts) = facts();
    ticket(&facts, "a").failed(&failure(429, Some(7)));
    assert_eq!(read(&facts, "a").cooling, Some(Duration::from_secs(7)));
    // A shorter word doesn't shorten it.
    ticket(&facts, "a").failed(&failure(429, Some(1)));
    clock.advance(TimeDelta::milliseconds(6_999));
    assert_eq!(read(&facts, "a").cooling, Some(ms(1)));
    clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(read(&facts, "a").cooling, None);
    assert_eq!(read(&facts, "b").cooling, None, "another candidate is another matter");
    // Nobody is believed for hours.
    ticket(&facts, "c").failed(&failure(503, Some(1_000_000)));
    assert_eq!(read(&facts, "c").cooling, Some(LONGEST_ASKED));
}

#[test]
fn without_a_word_cooldowns_double_until_one_succeeds() {
    let (clock, facts) = facts();
    let fail = |status| {
        ticket(&facts, "a").failed(&failure(status, None));
        let cooling = read(&facts, "a").cooling;
        clock.advance(TimeDelta::seconds(120));
        cooling.map(|left| left.as_secs())
    };
    assert_eq!([fail(429), fail(429), fail(429)], [Some(1), Some(2), Some(4)]);
    for _ in 0..20 {
        fail(429);
    }
    assert_eq!(fail(429), Some(60));
    ticket(&facts, "a").succeeded();
    assert_eq!([fail(500), fail(502), fail(504), fail(500)], [None, None, Some(1), Some(2)]);
}

#[test]
fn only_the_candidates_own_failures_count() {
    let (_, facts) = facts();
    for refusal in [
        Refusal::client(400, "content_filter", ""),
        Refusal { fault: Fault::Internal, ..Refusal::client(503, "server_stopping", "") },
        Refusal { fault: Fault::Plugin, ..Refusal::client(503, "plugin_busy", "") },
        Refusal { retryable: false, ..failure(404, None) },
    ] {
        ticket(&facts, "a").failed(&refusal);
    }
    drop(ticket(&facts, "a"));
    let stats = read(&facts, "a").stats;
    assert_eq!((stats.error_rate, stats.latency_ms, stats.in_flight), (None, None, 0));
    ticket(&facts, "a").failed(&Refusal { retryable: false, ..failure(401, None) });
    let reading = read(&facts, "a");
    assert_eq!((reading.stats.error_rate, reading.cooling), (Some(1.0), None));
    ticket(&facts, "b").failed(&Refusal { fault: Fault::Plugin, ..failure(502, None) });
    assert_eq!((read(&facts, "b").stats.error_rate, read(&facts, "b").cooling), (Some(1.0), None));
}

#[test]
fn a_call_is_in_flight_until_its_ticket_is_dropped_and_settles_once() {
    let (_, facts) = facts();
    let (mut one, two) = (ticket(&facts, "a"), ticket(&facts, "a"));
    assert_eq!(read(&facts, "a").stats.in_flight, 2);
    one.answered(200, &HeaderMap::new());
    one.first_token();
    one.succeeded();
    one.failed(&failure(502, None));
    assert_eq!(read(&facts, "a").stats.in_flight, 2);
    drop((one, two));
    let stats = read(&facts, "a").stats;
    assert_eq!((stats.in_flight, stats.error_rate), (0, Some(0.0)));
    assert!(stats.latency_ms.is_some() && stats.first_token_ms.is_some());
}

#[test]
fn the_vendors_remaining_limits_are_good_until_they_are_reset() {
    let (clock, facts) = facts();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-ratelimit-remaining-requests", "3"),
        ("x-ratelimit-reset-requests", "20s"),
        ("x-ratelimit-remaining-tokens", "1500"),
        ("retry-after", "9"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut limited = ticket(&facts, "a");
    limited.answered(429, &headers);
    // The plugin found no time to wait; the head has one.
    limited.failed(&failure(429, None));
    let reading = read(&facts, "a");
    assert_eq!((reading.stats.remaining_requests, reading.stats.remaining_tokens), (Some(3), Some(1500)));
    assert_eq!(reading.cooling, Some(Duration::from_secs(9)));
    assert_eq!(reading.stats.latency_ms, None, "a refusal is quick, and no measure");
    clock.advance(TimeDelta::seconds(21));
    let stats = read(&facts, "a").stats;
    assert_eq!((stats.remaining_requests, stats.remaining_tokens), (None, Some(1500)));
    clock.advance(TimeDelta::seconds(60));
    assert_eq!(read(&facts, "a").stats.remaining_tokens, None);
}

#[test]
fn made_up_names_dont_fill_the_memory() {
    let (_, facts) = facts();
    for name in 0..30_000 {
        drop(ticket(&facts, &name.to_string()));
        facts.turn("project", &name.to_string(), false);
    }
    facts.pairs.run_pending_tasks();
    facts.turns.run_pending_tasks();
    assert!(facts.pairs.entry_count() <= PAIRS && facts.turns.entry_count() <= TURNS);
}

#[test]
fn turns_are_taken_by_name_and_tenant() {
    let (_, facts) = facts();
    assert_eq!([0, 1, 2].map(|_| facts.turn("a", "smart", false)), [0, 1, 2]);
    assert_eq!((facts.turn("a", "smart", true), facts.turn("a", "smart", true)), (3, 3));
    assert_eq!((facts.turn("b", "smart", false), facts.turn("a", "cheap", false)), (0, 0));
}

#[test]
fn a_broken_candidate_is_passed_over_until_a_probe_succeeds() {
    let (clock, facts) = facts_with(Settings::default());
    for _ in 0..20 {
        ticket(&facts, "a").failed(&failure(429, Some(1)));
        ticket(&facts, "a").failed(&Refusal { retryable: false, ..failure(401, None) });
        drop(ticket(&facts, "a"));
    }
    assert_eq!(read(&facts, "a").circuit, Circuit::Closed, "none of these is a broken vendor");
    for _ in 0..5 {
        ticket(&facts, "a").failed(&failure(500, None));
    }
    assert_eq!(enter(&facts, "a").unwrap_err(), Duration::from_secs(5));
    let reading = read(&facts, "a");
    assert_eq!((reading.circuit.name(), reading.last_error.as_deref()), ("open", Some("upstream_error")));
    assert_eq!(read(&facts, "b").circuit, Circuit::Closed, "another candidate is another matter");
    clock.advance(TimeDelta::seconds(5));
    // A probe whose caller goes away says nothing, and lets the next one try.
    drop(ticket(&facts, "a"));
    let mut probe = ticket(&facts, "a");
    assert!(enter(&facts, "a").is_err());
    assert_eq!(read(&facts, "a").stats.in_flight, 1, "who is turned away isn't in flight");
    probe.succeeded();
    assert_eq!(read(&facts, "a").circuit, Circuit::Closed);
}
