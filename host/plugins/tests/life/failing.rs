//! Components that fail: back to the last good version, or out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokle_plugins::{Admission, Candidate, Catalogue, Gate, Refusal, Settings, State};
use brokle_runtime::Body;
use brokle_runtime::exchange::Call;
use chrono::TimeDelta;

use crate::harness::*;

const HOSTILE: &str = "test.hostile";

/// Has the component that serves as `hostile` trap; none serving is well too.
async fn trap(catalogue: &Catalogue, times: usize) {
    for _ in 0..times {
        let snapshot = catalogue.snapshots().load();
        let Some(active) = snapshot.instance().provider("hostile") else { return };
        let mut instance = active.plugin.open(active.context.clone()).await.unwrap();
        let call = Call {
            operation: "chat.completions".into(),
            model: "panic".into(),
            streaming: false,
            format: "canonical".into(),
            content_type: "application/json".into(),
            request_id: "r".into(),
            created: 0,
            options: b"{}".to_vec(),
            attributes: Vec::new(),
        };
        assert!(instance.prepare(&call, Body::json("{}".into())).await.is_err(), "it traps");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no task tracker; the runtime's end ends it")]
fn supervise(catalogue: &Arc<Catalogue>) {
    tokio::spawn(catalogue.clone().supervise());
}

#[tokio::test]
async fn after_repeated_traps_the_last_good_version_serves_again() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    supervise(&catalogue);
    upload(&catalogue, component("hostile")).await.unwrap();
    upload(&catalogue, release("hostile", "0.2.0")).await.unwrap();
    trap(&catalogue, 4).await;
    assert_eq!(serving_all(&catalogue, "hostile").as_deref(), Some("0.2.0"), "four are borne");
    trap(&catalogue, 1).await;
    until(|| serving_all(&catalogue, "hostile").as_deref() == Some("0.1.0")).await;
    let bad = version(&catalogue, HOSTILE, "0.2.0");
    assert_eq!((bad.state, bad.code.as_deref()), (State::Quarantined, Some("PLUGIN_TRAPS")));
    assert!(bad.reason.unwrap().contains("prepare"));
    let events = history(&catalogue, HOSTILE).await;
    assert!(events.contains(&"quarantined 0.2.0 health PLUGIN_TRAPS".to_owned()), "{events:#?}");
    assert!(events.contains(&"rolled_back 0.1.0 health".to_owned()), "{events:#?}");

    world.clock.advance(TimeDelta::hours(2));
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.2.0"), State::Quarantined, "nothing wants it: it stays out");
}

#[tokio::test]
async fn without_a_last_good_version_it_is_taken_out_and_comes_back_on_probation() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    supervise(&catalogue);
    upload(&catalogue, component("hostile")).await.unwrap();
    trap(&catalogue, 5).await;
    until(|| state(&catalogue, HOSTILE, "0.1.0") == State::Quarantined).await;
    assert_eq!(serving_all(&catalogue, "hostile"), None);
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.1.0"), State::Quarantined, "the back-off isn't over");

    world.clock.advance(TimeDelta::seconds(61));
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.1.0"), State::Degraded);
    assert_eq!(serving_all(&catalogue, "hostile").as_deref(), Some("0.1.0"));
    trap(&catalogue, 1).await;
    until(|| state(&catalogue, HOSTILE, "0.1.0") == State::Quarantined).await;
    world.clock.advance(TimeDelta::seconds(61));
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.1.0"), State::Quarantined, "the back-off has doubled");
    world.clock.advance(TimeDelta::seconds(60));
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.1.0"), State::Degraded);
    world.clock.advance(TimeDelta::seconds(61));
    catalogue.tick().await;
    assert_eq!(state(&catalogue, HOSTILE, "0.1.0"), State::Enabled, "a window without a failure");
}

#[tokio::test]
async fn an_operator_lets_a_quarantined_version_go() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    supervise(&catalogue);
    upload(&catalogue, component("hostile")).await.unwrap();
    trap(&catalogue, 5).await;
    until(|| state(&catalogue, HOSTILE, "0.1.0") == State::Quarantined).await;
    drop(catalogue);
    let again = world.dev(Vec::new()).await;
    assert_eq!(state(&again, HOSTILE, "0.1.0"), State::Quarantined, "a restart is no pardon");
    assert_eq!(serving_all(&again, "hostile"), None);
    again.enable(HOSTILE, INSTANCE, None, &operator()).await.unwrap();
    assert_eq!(state(&again, HOSTILE, "0.1.0"), State::Enabled);
}

/// Believes everybody until it is told otherwise.
#[derive(Debug, Default)]
struct Fickle(std::sync::atomic::AtomicBool);

#[derive(Debug, Clone)]
struct Shared(Arc<Fickle>);

impl Gate for Shared {
    fn admit(&self, _: &Candidate<'_>) -> Result<Admission, Refusal> {
        if self.0.0.load(Ordering::SeqCst) {
            return Err(Refusal::new("PLUGIN_REVOKED", "taken back"));
        }
        Ok(Admission { level: "verified", release_seq: Some(1) })
    }

    fn look(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_is_revoked_while_it_serves_stops() {
    let world = World::new().await;
    let gate = Shared(Arc::default());
    let catalogue = world.start(gate.clone(), Settings::default(), Vec::new()).await;
    upload(&catalogue, component("provider_echo")).await.unwrap();
    catalogue.tick().await;
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"));
    gate.0.0.store(true, Ordering::SeqCst);
    catalogue.tick().await;
    assert_eq!(serving_all(&catalogue, "echo"), None);
    let shown = version(&catalogue, "brokle.provider-echo", "0.1.0");
    assert_eq!((shown.state, shown.code.as_deref()), (State::Rejected, Some("PLUGIN_REVOKED")));
}
