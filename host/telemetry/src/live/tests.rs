use brokle_core::clock::ManualClock;
use brokle_core::ids::{EnvironmentId, OrganizationId};
use brokle_core::observation::{Kind, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use chrono::{DateTime, TimeDelta};
use futures_util::FutureExt as _;

use super::*;

fn scene() -> (Arc<ManualClock>, Arc<Live>) {
    let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_000_000, 0).unwrap()));
    (clock.clone(), Arc::new(Live::new(clock, Arc::new(SystemRandom))))
}

fn tenant(project: u128) -> Tenant {
    Tenant {
        organization: OrganizationId::from_u128(1),
        project: ProjectId::from_u128(project),
        environment: EnvironmentId::from_u128(1),
    }
}

fn row(project: u128, name: usize) -> Observation {
    let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
    let new = Observation::new(tenant(project), trace, span, Kind::Span, 0);
    Observation { name: name.to_string().into(), ..new }
}

/// What comes without waiting.
fn names(subscription: &mut Subscription) -> (Vec<String>, Option<EventId>) {
    let (mut names, mut last) = (Vec::new(), None);
    while let Some(event) = subscription.next().now_or_never() {
        let event = event.unwrap();
        names.push(event.observation.name.to_string());
        last = Some(event.id);
    }
    (names, last)
}

#[test]
fn a_listener_hears_its_project_from_now_on() {
    let (_, live) = scene();
    assert!(!live.is_wanted() && live.wanted(&[row(1, 0)]).is_empty());
    live.publish(vec![row(1, 0)]);
    let mut subscription = live.subscribe(ProjectId::from_u128(1), None);
    assert_eq!(live.wanted(&[row(1, 1), row(2, 1)]).len(), 1, "nobody listens to the other project");
    live.publish(vec![row(1, 1), row(2, 1), row(1, 2)]);
    let (heard, last) = names(&mut subscription);
    assert_eq!(heard, ["1", "2"]);
    assert_eq!(last.unwrap().to_string().parse(), Ok(last.unwrap()));
    assert_eq!("x-1-1".parse::<EventId>(), Err(ParseEventIdError));
}

#[tokio::test]
async fn waiting_ends_with_the_next_event() {
    let (_, live) = scene();
    let mut subscription = live.subscribe(ProjectId::from_u128(1), None);
    let heard = tokio::join!(subscription.next(), async { live.publish(vec![row(1, 7)]) }).0;
    assert_eq!(heard.unwrap().observation.name, "7");
}

#[test]
fn whoever_comes_back_goes_on_where_it_was() {
    let (clock, live) = scene();
    let mut subscription = live.subscribe(ProjectId::from_u128(1), None);
    let begun = subscription.place();
    live.publish(vec![row(1, 1)]);
    let (_, last) = names(&mut subscription);
    drop(subscription);
    clock.advance(TimeDelta::seconds(59));
    assert!(live.is_wanted(), "it is kept for whoever was cut off");
    live.publish(vec![row(1, 2)]);
    let mut again = live.subscribe(ProjectId::from_u128(1), last);
    assert!(!again.has_gap());
    assert_eq!(names(&mut again).0, ["2"]);
    assert_eq!(names(&mut live.subscribe(ProjectId::from_u128(1), Some(begun))).0, ["1", "2"]);
    drop(again);
    clock.advance(TimeDelta::seconds(61));
    live.publish(vec![row(1, 3)]);
    assert!(!live.is_wanted(), "nobody came back");
    assert!(live.subscribe(ProjectId::from_u128(1), last).has_gap(), "another channel, which began later");
}

#[test]
fn elsewhere_it_goes_on_by_time_and_repeats_rather_than_loses() {
    let (clock, there) = scene();
    let here = Arc::new(Live::new(clock.clone(), Arc::new(SystemRandom)));
    let (mut one, mut other) =
        (there.subscribe(ProjectId::from_u128(1), None), here.subscribe(ProjectId::from_u128(1), None));
    for name in 0..5 {
        clock.advance(TimeDelta::seconds(1));
        for live in [&here, &there] {
            live.publish(vec![row(1, name)]);
        }
    }
    let (_, last) = names(&mut one);
    clock.advance(TimeDelta::seconds(1));
    here.publish(vec![row(1, 5)]);
    let mut again = here.subscribe(ProjectId::from_u128(1), last);
    assert!(!again.has_gap());
    assert_eq!(names(&mut again).0, ["2", "3", "4", "5"], "two seconds are repeated");
    assert_eq!(names(&mut other).0.len(), 6);
}

#[test]
fn a_slow_listener_is_told_and_memory_is_bounded() {
    let (clock, live) = scene();
    let mut slow = live.subscribe(ProjectId::from_u128(1), None);
    let begun = slow.place();
    clock.advance(TimeDelta::seconds(1));
    live.publish((0..RING_EVENTS + 3).map(|name| row(1, name)).collect());
    assert_eq!(slow.next().now_or_never().unwrap().unwrap_err(), Lagged { missed: 3 });
    assert!(live.subscribe(ProjectId::from_u128(1), Some(begun)).has_gap());
    let large = Observation { input: Some(vec![0; RING_BYTES].into()), ..row(1, 1) };
    live.publish(vec![large, row(1, 2)]);
    let channels = live.channels.lock();
    let ring = channels.values().next().unwrap().ring.lock();
    assert_eq!((ring.events.len(), ring.first()), (1, RING_EVENTS as u64 + 5));
}

#[tokio::test]
async fn a_ticket_is_good_once_and_not_for_long() {
    let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
    let tickets = Tickets::new(clock.clone(), Arc::new(SystemRandom), None).unwrap();
    let ticket = tickets.issue([7; 32]).await.unwrap();
    assert_eq!(tickets.redeem("nonsense").await.unwrap(), None);
    assert_eq!(tickets.redeem(&ticket).await.unwrap(), Some([7; 32]));
    assert_eq!(tickets.redeem(&ticket).await.unwrap(), None, "used");
    let late = tickets.issue([7; 32]).await.unwrap();
    clock.advance(TimeDelta::seconds(30));
    assert_eq!(tickets.redeem(&late).await.unwrap(), None, "too old");
}
