use brokle_core::clock::ManualClock;
use brokle_core::clock::SystemClock;
use brokle_core::random::SystemRandom;
use brokle_identity::bootstrap::bootstrap;
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};

use super::*;
use crate::who::tests::{by, principal};
use crate::who::{By, Filter};

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn dollars(text: &str) -> Use {
    Use { cost: Some(usd(text)), tokens: 1_000_000 }
}

fn budget(name: &str, limit: &str) -> Budget {
    Budget {
        name: name.into(),
        who: by(&[By::Organization]),
        per: Period::Day,
        unit: Unit::Usd,
        limit: usd(limit),
        on_exceeded: OnExceeded::Block,
        unknown_price: UnknownPrice::Allow,
        alert_at: vec![80],
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-03-01T22:00:00Z".parse().unwrap()))
}

fn budgets(rules: Vec<Budget>, clock: &Arc<ManualClock>) -> Budgets {
    Budgets::new(rules, clock.clone(), Arc::default(), None)
}

fn caller(principal: &Principal) -> Caller<'_> {
    Caller { principal, user: "ann", model: Some(("openai", "gpt-4o")) }
}

#[test]
fn two_hundred_calls_at_once_dont_overspend() {
    let budgets = budgets(vec![budget("wide", "1000"), budget("tight", "10")], &clock());
    let principal = principal();
    let passed: usize = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    let Ok(reserved) = budgets.reserve_use(&caller(&principal), dollars("0.3")) else {
                        return 0;
                    };
                    std::thread::yield_now();
                    budgets.settle(reserved.reservations, dollars("0.3"));
                    1
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).sum()
    });
    // 33 × 0.3 is 9.9, and a 34th would be too much. Those that were refused left nothing behind.
    let told = budgets.seen_by(&principal);
    assert_eq!((told[0].name.as_str(), told[1].name.as_str()), ("tight", "wide"));
    assert!((1..=33).contains(&passed));
    for state in &told {
        assert_eq!(state.spent, (0..passed).map(|_| usd("0.3")).sum(), "as the ledger says");
        assert_eq!(state.reserved, Usd::ZERO);
    }
    while budgets
        .reserve_use(&caller(&principal), dollars("0.3"))
        .map(|r| budgets.settle(r.reservations, dollars("0.3")))
        .is_ok()
    {}
    assert_eq!(budgets.seen_by(&principal)[0].spent, usd("9.9"));
}

#[test]
fn a_refusal_says_until_when_and_a_new_period_begins_at_nothing() {
    let clock = clock();
    let budgets = budgets(vec![budget("daily", "1")], &clock);
    let principal = principal();
    let reserve = |price: &str| budgets.reserve_use(&caller(&principal), dollars(price));
    let held = reserve("0.7").unwrap();
    let refused = reserve("0.4").unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref(), refused.retryable), (429, "budget_exceeded", true));
    assert_eq!(refused.retry_after, Some(std::time::Duration::from_secs(7_200)));
    assert!(refused.message.contains("may cost $0.4, and $0.3 of $1 per day is left"), "{refused}");
    drop(held);
    budgets.settle(reserve("0.1").unwrap().reservations, dollars("1.5"));
    let state = &budgets.seen_by(&principal)[0];
    assert_eq!((state.spent, state.remaining, state.blocked), (usd("1.5"), Usd::ZERO, true));
    assert!(reserve("0.1").unwrap_err().message.contains("$1 per day is spent"));
    assert!(reserve("0").is_ok(), "what costs nothing passes");
    clock.set("2026-03-02T00:00:00Z".parse().unwrap());
    assert!(reserve("0.1").is_ok());
}

#[test]
fn an_unknown_price_passes_while_something_is_left_or_not_at_all() {
    let clock = clock();
    let principal = principal();
    let lax = budgets(vec![budget("lax", "1")], &clock);
    assert!(lax.reserve_use(&caller(&principal), Use::default()).is_ok());
    lax.settle(lax.reserve_use(&caller(&principal), Use::default()).unwrap().reservations, dollars("1"));
    assert_eq!(lax.reserve_use(&caller(&principal), Use::default()).unwrap_err().code, "budget_exceeded");
    let strict = Budget { unknown_price: UnknownPrice::Refuse, ..budget("strict", "1") };
    let refused = budgets(vec![strict], &clock).reserve_use(&caller(&principal), Use::default()).unwrap_err();
    assert_eq!((refused.status, refused.code.as_ref(), refused.retryable), (403, "price_unknown", true));
}

#[test]
fn an_alert_comes_once_and_refuses_nothing() {
    let clock = clock();
    let principal = principal();
    let rule = Budget { on_exceeded: OnExceeded::Alert, alert_at: vec![50, 80], ..budget("soft", "1") };
    let budgets = budgets(vec![rule], &clock);
    let alerts = || {
        let labels = BudgetLabels { budget: "soft".into() };
        budgets.metrics.budget_alerts.get_or_create(&labels).get()
    };
    let mut notices = Vec::new();
    for _ in 0..6 {
        let reserved = budgets.reserve_use(&caller(&principal), dollars("0.3")).unwrap();
        notices.push(reserved.notice);
        budgets.settle(reserved.reservations, dollars("0.3"));
    }
    assert_eq!(alerts(), 3, "50, 80 and 100 percent, once each");
    let notices: Vec<_> = notices.iter().map(Option::as_deref).collect();
    assert_eq!(notices[..3], [None, None, Some("soft;used=60%")]);
    assert_eq!(notices[5], Some("soft;used=150%"));
    assert!(!budgets.seen_by(&principal)[0].blocked);
}

#[test]
fn each_sees_its_own() {
    let clock = clock();
    let (one, other) = (principal(), principal());
    let mut rules = vec![budget("key", "1"), budget("user", "1")];
    rules[0].who = by(&[By::Key]);
    rules[1].who = by(&[By::User]);
    let mut elsewhere = budget("elsewhere", "1");
    elsewhere.who = Who { by: vec![By::Key], only: Filter { keys: vec![other.key_id], ..Filter::default() } };
    rules.push(elsewhere);
    let budgets = budgets(rules, &clock);
    for principal in [&one, &other] {
        budgets.settle(
            budgets.reserve_use(&caller(principal), Use::default()).unwrap().reservations,
            dollars("0.5"),
        );
    }
    let names =
        |principal| -> Vec<String> { budgets.seen_by(principal).into_iter().map(|b| b.name).collect() };
    assert_eq!(names(&one), ["key", "user"]);
    assert_eq!(names(&other), ["elsewhere", "key", "user"]);
    assert_eq!(budgets.seen_by(&one)[1].subject.user.as_deref(), Some("ann"));
}

#[tokio::test]
async fn sums_survive_a_restart_and_are_shared_by_servers() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("brokle.db").display());
    let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
    Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
    let tenant = bootstrap(&database, &SystemClock, &SystemRandom, None).await.unwrap().tenant;
    let principal = Principal { tenant, ..principal() };
    let clock = clock();
    let server = || {
        let rules = vec![budget("daily", "10"), Budget { per: Period::Month, ..budget("monthly", "10") }];
        Budgets::new(rules, clock.clone(), Arc::default(), Some(database.budgets()))
    };
    let spend = |budgets: &Budgets, cost: &str| {
        let reserved = budgets.reserve_use(&caller(&principal), dollars("0.1")).unwrap();
        budgets.settle(reserved.reservations, dollars(cost));
    };
    let sums = |budgets: &Budgets| -> Vec<String> {
        budgets.seen_by(&principal).iter().map(|state| state.spent.to_string()).collect()
    };
    let (one, two) = (server(), server());
    spend(&one, "0.000000000000123");
    spend(&two, "1.5");
    one.synchronize().await.unwrap();
    two.synchronize().await.unwrap();
    one.synchronize().await.unwrap();
    for budgets in [&one, &two] {
        assert_eq!(sums(budgets), ["1.500000000000123"; 2]);
    }
    spend(&one, "0.25");
    one.synchronize().await.unwrap();
    one.synchronize().await.unwrap();
    let three = server();
    three.load().await.unwrap();
    assert_eq!(sums(&three), ["1.750000000000123"; 2]);
    clock.set("2026-03-02T08:00:00Z".parse().unwrap());
    let four = server();
    four.load().await.unwrap();
    assert_eq!(sums(&four), ["0", "1.750000000000123"], "a new day in the same month");

    // A database that is away loses nothing, and its return doesn't count twice.
    spend(&four, "1");
    database.close().await;
    assert!(four.synchronize().await.is_err() && four.synchronize().await.is_err());
    assert_eq!(sums(&four), ["1", "2.750000000000123"]);
}

#[test]
fn a_budget_of_tokens_counts_tokens_whatever_they_cost() {
    let clock = clock();
    let budget = Budget { unit: Unit::Tokens, ..budget("daily", "1000") };
    let budgets = budgets(vec![budget], &clock);
    let principal = principal();
    let reserve = |tokens| budgets.reserve_use(&caller(&principal), Use { cost: None, tokens });
    let first = reserve(900).unwrap();
    let refused = reserve(101).unwrap_err();
    assert_eq!((refused.status, &*refused.code), (429, "budget_exceeded"));
    assert!(
        refused
            .message
            .contains("the call may use 101 tokens, and 100 tokens of 1000 tokens per day is left"),
        "{refused}"
    );
    let state = || budgets.seen_by(&principal).remove(0);
    assert_eq!((state().reserved, state().remaining), (usd("900"), usd("100")));
    budgets.settle(first.reservations, Use { cost: Some(usd("7")), tokens: 250 });
    assert_eq!((state().spent, state().remaining, state().unit), (usd("250"), usd("750"), Unit::Tokens));
    // A call that didn't take place used nothing.
    drop(reserve(750).unwrap());
    let last = reserve(750).unwrap();
    budgets.settle(last.reservations, Use { cost: None, tokens: 751 });
    assert!(state().blocked);
    assert_eq!(reserve(1).unwrap_err().code, "budget_exceeded");
}
