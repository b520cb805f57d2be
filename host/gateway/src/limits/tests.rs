use std::time::Duration;

use super::*;
use crate::who::By;
use crate::who::tests::{by, principal};

const SECOND: u64 = 1_000_000_000;

fn limits(who: Who, amounts: Amounts) -> Limits {
    Limits::new(vec![Limit { name: "rule".into(), who, amounts }], None)
}

fn per_minute(requests: u64) -> Amounts {
    Amounts { requests_per_minute: Some(requests), ..Amounts::default() }
}

#[test]
fn a_minutes_worth_at_once_then_evenly() {
    let limits = Limits::new(Vec::new(), None);
    let key = principal().key_id;
    let at = |seconds: u64| limits.take_key_at(key, Some(6), seconds * SECOND);
    for left in (0..6).rev() {
        assert_eq!(at(100).unwrap().remaining, left);
    }
    let exceeded = at(100).unwrap_err();
    assert_eq!(exceeded.standing.requests.unwrap().remaining, 0);
    assert_eq!(exceeded.refusal.retry_after, Some(Duration::from_secs(10)));
    assert!(at(109).is_err());
    assert_eq!(at(110).unwrap().remaining, 0);
    assert_eq!(at(400).unwrap().remaining, 5);
    // Others are untouched, and 0 means none at all.
    let other = principal().key_id;
    assert_eq!(limits.take_key_at(other, Some(6), 110 * SECOND).unwrap().remaining, 5);
    assert!(limits.take_key_at(other, Some(0), 900 * SECOND).is_err());
}

#[test]
fn sixty_four_threads_take_exactly_what_there_is() {
    let who = by(&[By::Project]);
    let amounts = Amounts {
        requests_per_minute: Some(1_000),
        tokens_per_day: Some(70_000),
        concurrent_requests: Some(500),
        ..Amounts::default()
    };
    let limits = limits(who, amounts);
    let principal = principal();
    let caller = Caller { principal: &principal, user: "", model: None };
    let round = |tokens: u64| {
        let held: Vec<Reservation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    scope.spawn(|| {
                        (0..100)
                            .filter_map(|_| limits.admit_at(&caller, tokens, SECOND).ok())
                            .map(|(taken, _)| taken)
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        held
    };
    // Each of the three is the tightest once, and a refused call leaves nothing behind in the others.
    let mut first = round(100);
    assert_eq!(first.len(), 500, "at once");
    first.iter_mut().for_each(|call| call.settle_at(100, SECOND));
    let mut second = round(100);
    assert_eq!(second.len(), 200, "70,000 tokens, of which 50,000 are used");
    second.iter_mut().for_each(|call| call.settle_at(0, SECOND));
    let mut third = round(1);
    assert_eq!(third.len(), 300, "1,000 requests, of which 700 were made");
    third.iter_mut().for_each(|call| call.settle_at(1, SECOND));
    let exceeded = limits.admit_at(&caller, 1, SECOND).unwrap_err();
    assert_eq!(exceeded.refusal.code, "rate_limit_exceeded");
    assert!(exceeded.refusal.message.contains("1000 per minute"), "{}", exceeded.refusal.message);
    assert!(exceeded.refusal.message.contains("'rule'"), "{}", exceeded.refusal.message);
}

#[test]
fn tokens_are_settled_with_what_was_used() {
    let amounts = Amounts { tokens_per_minute: Some(600), ..Amounts::default() };
    let limits = limits(by(&[By::User]), amounts);
    let principal = principal();
    let caller = Caller { principal: &principal, user: "ann", model: None };
    let left = |at: u64| match limits.admit_at(&caller, 0, at) {
        Ok((_, standing)) => standing.tokens.unwrap().remaining,
        Err(exceeded) => panic!("{}", exceeded.refusal),
    };
    let (mut call, standing) = limits.admit_at(&caller, 500, 0).unwrap();
    assert_eq!(standing.tokens.unwrap().remaining, 100);
    assert!(limits.admit_at(&caller, 101, 0).is_err());
    call.settle_at(200, 0);
    assert_eq!(left(0), 400, "too much is given back");

    let (mut call, _) = limits.admit_at(&caller, 100, 0).unwrap();
    call.settle_at(550, 0);
    let exceeded = limits.admit_at(&caller, 1, 0).unwrap_err();
    assert_eq!(exceeded.refusal.retry_after, Some(Duration::from_millis(15_100)), "too little is charged");

    // What time has given back isn't given back again.
    let (mut call, _) = limits.admit_at(&caller, 600, 600 * SECOND).unwrap();
    let (_other, _) = limits.admit_at(&caller, 600, 660 * SECOND).unwrap();
    call.settle_at(0, 661 * SECOND);
    assert!(limits.admit_at(&caller, 11, 661 * SECOND).is_err());

    let exceeded = limits.admit_at(&caller, 601, 900 * SECOND).unwrap_err();
    assert_eq!(exceeded.refusal.retry_after, None);
    assert!(exceeded.refusal.message.starts_with("Request too large"), "{}", exceeded.refusal.message);
}

#[test]
fn a_dropped_reservation_gives_its_tokens_and_its_place_back() {
    let amounts = Amounts { concurrent_requests: Some(1), tokens_per_day: Some(1_000), ..Amounts::default() };
    let limits = limits(by(&[By::Key]), amounts);
    let principal = principal();
    let caller = Caller { principal: &principal, user: "", model: None };
    let (call, _) = limits.admit_at(&caller, 1_000, 0).unwrap();
    let exceeded = limits.admit_at(&caller, 1, 0).unwrap_err();
    assert!(exceeded.refusal.message.contains("concurrent requests: 1 at once"), "{}", exceeded.refusal);
    assert_eq!(exceeded.refusal.retry_after, Some(Duration::from_secs(1)));
    drop(call);
    assert!(limits.admit_at(&caller, 1_000, SECOND).is_ok());
}

#[test]
fn the_tightest_limit_is_told() {
    let rule = |name: &str, requests| Limit {
        name: name.into(),
        who: by(&[By::Key]),
        amounts: per_minute(requests),
    };
    let limits = Limits::new(vec![rule("wide", 100), rule("tight", 10), rule("middle", 50)], None);
    let principal = principal();
    let caller = Caller { principal: &principal, user: "", model: None };
    let (_, standing) = limits.admit_at(&caller, 0, 0).unwrap();
    let requests = standing.requests.unwrap();
    assert_eq!((requests.limit, requests.remaining), (10, 9));
}

#[test]
fn each_subject_has_its_own_and_rules_about_models_wait_for_one() {
    let limits = limits(by(&[By::Key, By::Model]), per_minute(1));
    let (one, other) = (principal(), principal());
    let take = |principal, model| limits.admit_at(&Caller { principal, user: "", model }, 0, 0).is_ok();
    assert!(limits.has_rules(true) && !limits.has_rules(false));
    assert!(take(&one, None) && take(&one, None), "not before a candidate is known");
    assert!(take(&one, Some(("p", "m"))) && !take(&one, Some(("p", "m"))));
    assert!(take(&one, Some(("p", "n"))) && take(&other, Some(("p", "m"))));
    let again = Caller { principal: &one, user: "", model: Some(("p", "m")) };
    assert!(limits.admit_at(&again, 0, 0).unwrap_err().refusal.retryable, "another candidate may serve");
}

#[test]
fn made_up_names_share_what_is_left_and_memory_is_bounded() {
    let table = Table::new(160);
    let busy: Vec<_> = (0..1_000)
        .map(|name: u64| {
            let cell = table.cell(0, &name, 0);
            let _ = cell.rate(Measure::RequestsPerMinute).take(1, 10, MINUTE, 0);
            cell
        })
        .collect();
    assert!(table.len() <= 160 + 1, "{}", table.len());
    let newcomer = table.cell(0, "newcomer", 0);
    assert!(newcomer.rate(Measure::RequestsPerMinute).take(1, 10, MINUTE, 0).is_err(), "they share one");
    drop(busy);
    // A minute later everybody is forgotten who asks for nothing.
    let newcomer = table.cell(0, "newcomer", 61 * SECOND);
    assert!(newcomer.rate(Measure::RequestsPerMinute).take(1, 10, MINUTE, 61 * SECOND).is_ok());
}
