//! What is told live, by a recorder and between instances.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_core::random::SystemRandom;
use brokle_telemetry::live::{Live, Relay, Subscription, Tickets};
use brokle_telemetry::{NotDurable, Options};
use tokio::task::JoinSet;

use crate::harness::{Fixture, Scene, observation, tenant};

const PATIENCE: Duration = Duration::from_secs(20);

fn live() -> Arc<Live> {
    Arc::new(Live::new(Arc::new(SystemClock), Arc::new(SystemRandom)))
}

async fn hear(subscription: &mut Subscription) -> String {
    let event = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("an event").unwrap();
    event.observation.name.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_hears_its_projects_calls_and_acknowledged_spans() {
    let (fixture, live) = (Fixture::new(), live());
    let options = Options { live: Some(Arc::clone(&live)), ..Options::new(fixture.directory.path()) };
    let recorder = fixture.start_with(&options);
    fixture.record(&recorder, ["before"]);
    recorder.flush().await;
    let mut subscription = live.subscribe(fixture.tenant.project, None);
    recorder.record(observation(tenant(), "another's"));
    fixture.record(&recorder, ["call"]);
    assert_eq!(hear(&mut subscription).await, "call");
    recorder.record_durably(vec![fixture.observation("span")], PATIENCE).await.unwrap();
    assert_eq!(hear(&mut subscription).await, "span");
    // The queue takes nothing: whoever sent these keeps them, and nobody hears of them.
    fixture.queue().execute_batch("ALTER TABLE batches RENAME TO gone").unwrap();
    let refused = recorder.record_durably(vec![fixture.observation("refused")], PATIENCE).await;
    assert_eq!(refused, Err(NotDurable::Failed));
    fixture.queue().execute_batch("ALTER TABLE gone RENAME TO batches").unwrap();
    fixture.record(&recorder, ["after"]);
    assert_eq!(hear(&mut subscription).await, "after");
    assert!(!fixture.store.down.load(Ordering::SeqCst));
    recorder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_hears_other_instances_also_after_redis_was_away() {
    let Some(mut scene) = Scene::redis() else { return };
    let (here, there, mut tasks) = (live(), live(), JoinSet::new());
    for live in [&here, &there] {
        tasks.spawn(
            Relay::new(Arc::clone(live), redis::Client::open(scene.redis_url()).unwrap()).unwrap().run(),
        );
    }
    let other = scene.recorder_with("there", Some(Arc::clone(&there)));
    assert!(!there.is_wanted());
    let project = scene.fixture.tenant.project;
    let mut subscription = here.subscribe(project, None);
    let wanted = async |is: bool| {
        crate::harness::until("the other one knows", async || there.is_wanted() == is).await;
    };
    wanted(true).await;
    other.record(observation(tenant(), "another's"));
    other.record(scene.fixture.observation("far"));
    assert_eq!(hear(&mut subscription).await, "far");

    scene.stop_redis();
    wanted(false).await;
    scene.start_redis();
    wanted(true).await;
    other.record(scene.fixture.observation("again"));
    assert_eq!(hear(&mut subscription).await, "again");
    other.shutdown().await;
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_good_at_another_instance_and_once() {
    let Some(mut scene) = Scene::redis() else { return };
    let tickets = || {
        Tickets::new(
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
            Some(redis::Client::open(scene.redis_url()).unwrap()),
        )
        .unwrap()
    };
    let (here, there) = (tickets(), tickets());
    let ticket = here.issue([9; 32]).await.unwrap();
    assert_eq!(there.redeem(&ticket).await.unwrap(), Some([9; 32]));
    assert_eq!(here.redeem(&ticket).await.unwrap(), None);
    scene.stop_redis();
    assert!(here.issue([9; 32]).await.is_err() && there.redeem(&ticket).await.is_err());
}
