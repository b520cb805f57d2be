//! What the server does besides answering.
//!
//! | task | every | why |
//! |---|---|---|
//! | look for changed keys and connections | 1 s | a revoked key stops within about a second |
//! | write the keys' last use | 10 s | not a write per request |
//! | send what calls used of limits that servers share | at once | the other servers' counts are right |
//! | write what was spent of budgets, read what other servers spent | 1 s | a budget is everybody's, and outlives a restart |
//! | read the scores that policies are told, of those projects that are due | 1 s | no decision waits for the store |
//! | ask connections that want it whether they are there | as they say | what is down is known before a call finds out |
//! | make the calls once more that routes want shadows of | at once | beside the callers |
//! | look after the plugins: other servers' changes, the watched folder, back-offs | 1 s | what is dropped in is there soon |
//! | take out plugins that fail | at once | the next call shouldn't fail too |
//! | bring ClickHouse's schema up, if it was away at the start | 1 s | the queue is emptied as soon as it is there |
//! | tell other servers, and hear from them, what is watched live | at once | a watcher sees all servers' calls |
//! | work on batches | at once | until the server stops; then what is under way is finished within the drain |
//! | send what has arrived where exporters want it | 1 s, at once while there is more | never in a call's way |
//! | mask what is stored of calls, where guardrails do that | at once | beside the callers |
//! | delete telemetry that nobody keeps any longer, and what deleted projects left | a minute or so, an hour | disks are finite, and so are promises to keep things |
//! | sum up ClickHouse's hours again of which rows arrived | 60 s | long ranges are answered in time |
//! | forget old files | 60 s | a project's quota is for what it still needs |
//! | give the memory of the program's own file back | 5 s | most of what ran runs once: the start, the compiler |
//! | log how many calls were refused for want of room | 1 s | a line for each would be most of what an overloaded server does |
//! | end the streams that a shutdown cuts | once | their callers hear why before the connection is closed |
//!
//! A task that fails says so (the key service logs an outage's beginning and end) and tries again at its next turn.

use std::sync::Arc;
use std::time::Duration;

use brokle_api::App;
use brokle_exporters::Service as Exporters;
use brokle_plugins::Catalogue;
use brokle_telemetry::live::Relay;
use brokle_telemetry::retention::Retention;
use brokle_telemetry::rollups::Rollups;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::analytics::Pending;

const POLL: Duration = Duration::from_secs(1);
const LET_GO: Duration = Duration::from_secs(2);
const FLUSH: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(60);
/// How long a batch that is being exported keeps a server that stops. One that isn't acknowledged by then comes again.
const LAST_BATCH: Duration = Duration::from_secs(3);

/// Who looks after the store of observations.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) retention: Arc<Retention>,
    /// None: the store sums up while it inserts.
    pub(super) rollups: Option<Rollups>,
}

/// The running tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl Tasks {
    pub(super) fn start(
        app: &App,
        plugins: Option<Arc<Catalogue>>,
        pending: Option<Pending>,
        relay: Option<Relay>,
        exporters: Option<Arc<Exporters>>,
        upkeep: Option<Upkeep>,
        runs_batches: bool,
    ) -> Self {
        let (keys, gateway, lifecycle) = (Arc::clone(&app.keys), app.gateway.as_ref(), &app.lifecycle);
        let tasks = Self { tracker: TaskTracker::new(), end: CancellationToken::new() };
        if let Some(batches) = app.batches.clone().filter(|_| runs_batches) {
            // Not ended in the middle: what is asked has an answer that is paid for. The drain waits for it.
            let working = batches.run(lifecycle.draining().clone().cancelled_owned());
            tasks.tracker.spawn(lifecycle.busy().track_future(working));
        }
        if let Some(files) = app.files.clone() {
            tasks.every(SWEEP, move || {
                let files = Arc::clone(&files);
                async move { files.sweep().await }
            });
        }
        if let Some(pending) = pending {
            tasks.tracker.spawn(tasks.end.clone().run_until_cancelled_owned(pending.finish()));
        }
        if let Some(exporters) = exporters {
            let end = tasks.end.clone();
            tasks.tracker.spawn(async move {
                let late = async {
                    end.cancelled().await;
                    tokio::time::sleep(LAST_BATCH).await;
                };
                tokio::select! {
                    () = exporters.run(end.clone()) => {}
                    () = late => {}
                }
            });
        }
        if let Some(Upkeep { retention, rollups }) = upkeep {
            let end = tasks.end.clone();
            tasks.tracker.spawn(end.run_until_cancelled_owned(async move { retention.work().await }));
            if let Some(rollups) = rollups {
                let end = tasks.end.clone();
                tasks.tracker.spawn(end.run_until_cancelled_owned(async move { rollups.work().await }));
            }
        }
        if let Some(relay) = relay {
            tasks.tracker.spawn(tasks.end.clone().run_until_cancelled_owned(relay.run()));
        }
        if let Some(gateway) = gateway.cloned() {
            // Ends when what waits is stored.
            let end = tasks.end.clone();
            tasks.tracker.spawn(async move { gateway.masking().run(end).await });
        }
        if let Some(gateway) = gateway.cloned() {
            let (cutting, end) = (lifecycle.cutting().clone(), tasks.end.clone());
            tasks.tracker.spawn(end.run_until_cancelled_owned(async move {
                cutting.cancelled().await;
                gateway.cut();
            }));
        }
        if let Some(plugins) = plugins {
            let (watched, end) = (Arc::clone(&plugins), tasks.end.clone());
            tasks.tracker.spawn(end.run_until_cancelled_owned(watched.supervise()));
            tasks.every(POLL, move || {
                let plugins = Arc::clone(&plugins);
                async move { plugins.tick().await }
            });
        }
        let (polled, polling) = (Arc::clone(&keys), gateway.cloned());
        tasks.every(POLL, move || {
            let (keys, gateway) = (Arc::clone(&polled), polling.clone());
            async move {
                // An outage is logged by the service, once.
                let _ = keys.poll_revision().await;
                if let Some(gateway) = gateway {
                    gateway.poll_revision().await;
                }
            }
        });
        if let Some(scores) = gateway.and_then(|gateway| gateway.scores()) {
            let scores = Arc::clone(scores);
            tasks.every(POLL, move || {
                let scores = Arc::clone(&scores);
                async move { scores.refresh().await }
            });
        }
        if let Some(gateway) = gateway.cloned() {
            let (shadowing, end) = (Arc::clone(&gateway), tasks.end.clone());
            tasks.tracker.spawn(async move { shadowing.run_shadows(end.cancelled_owned()).await });
            let (checking, end) = (Arc::clone(&gateway), tasks.end.clone());
            tasks.tracker.spawn(async move { checking.run_health_checks(end.cancelled_owned()).await });
            let (shared, end) = (Arc::clone(&gateway), tasks.end.clone());
            tasks.tracker.spawn(async move { shared.settle_shared(end.cancelled_owned()).await });
            let end = tasks.end.clone();
            tasks.tracker.spawn(async move {
                let mut interval = interval(POLL);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                // Not ended in the middle: nobody would know what was written, and it would be written twice.
                while end.run_until_cancelled(interval.tick()).await.is_some() {
                    gateway.tell_shed();
                    // An outage is logged by the budgets, once.
                    let _ = gateway.budgets().synchronize().await;
                }
                gateway.tell_shed();
            });
        }
        tasks.every(LET_GO, || async { brokle_runtime::let_go() });
        tasks.every(FLUSH, move || {
            let keys = Arc::clone(&keys);
            async move {
                if let Err(error) = keys.flush_last_used().await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the keys' last use wasn't written"
                    );
                }
            }
        });
        tasks
    }

    /// Runs `work` now and then again and again, never two at once, until the tasks are stopped.
    fn every<W, F>(&self, period: Duration, mut work: W)
    where
        W: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let end = self.end.clone();
        self.tracker.spawn(end.run_until_cancelled_owned(async move {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                work().await;
            }
        }));
    }

    /// Ends the tasks and waits for them.
    pub(super) async fn stop(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
