//! Deleting what nobody keeps any longer: when, whose, and by whom.

use std::sync::Arc;

use brokle_core::clock::ManualClock;
use brokle_core::observation::Observation;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::blobs::{BlobStore as _, Folder};
use brokle_storage::observations::{AnalyticsStore as _, Inserted, Month};
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_telemetry::retention::{Report, Retention, Settings};
use chrono::{DateTime, TimeDelta, Utc};

use crate::harness::{self, Fixture};

struct Scene {
    fixture: Fixture,
    database: Database,
    clock: Arc<ManualClock>,
    blobs: Arc<Folder>,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl Scene {
    async fn new(fixture: Fixture) -> Self {
        let url = format!("sqlite:{}", fixture.directory.path().join("brokle.db").display());
        let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
        Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
        let clock = Arc::new(ManualClock::new(at("2026-06-10T15:00:00Z")));
        let blobs = Arc::new(Folder::new(fixture.directory.path().join("files")));
        let scene = Self { fixture, database, clock, blobs };
        scene.add(scene.fixture.tenant, "first").await;
        scene
    }

    async fn add(&self, tenant: Tenant, name: &str) {
        let now = at("2026-01-01T00:00:00Z");
        self.database.organizations().create(tenant.organization, name, name, now).await.unwrap();
        self.database.projects().create(tenant.organization, tenant.project, "p", now).await.unwrap();
    }

    /// One process' own.
    fn process(&self) -> Retention {
        let settings = Settings { days: 60, ..Settings::default() };
        let (store, blobs) = (self.fixture.store.clone(), self.blobs.clone());
        let (clock, random) = (self.clock.clone(), Arc::new(SystemRandom));
        Retention::new(self.database.clone(), store, blobs, clock, random, settings)
    }

    fn insert(&self, tenant: Tenant, starts: &[&str]) {
        let rows: Vec<_> = starts
            .iter()
            .map(|start| Observation {
                start_us: at(start).timestamp_micros(),
                ..harness::observation(tenant, start)
            })
            .collect();
        self.fixture.store.insert(&rows, &mut Inserted::default()).unwrap();
    }

    async fn left(&self, tenant: Tenant) -> Vec<String> {
        harness::names(&*self.fixture.store, tenant.project).await
    }
}

#[tokio::test]
async fn each_project_keeps_its_days_and_a_dry_run_tells_before() {
    let scene = Scene::new(Fixture::embedded()).await;
    let (first, second) = (scene.fixture.tenant, harness::tenant());
    scene.add(second, "second").await;
    scene
        .database
        .projects()
        .set_retention(second.organization, second.project, Some(9), at("2026-06-01T00:00:00Z"))
        .await
        .unwrap();
    // 60 days before June the 10th, to the day, is April the 11th; 9 days, June the 1st.
    let starts =
        ["2026-03-31T23:59:59Z", "2026-04-10T23:59:59Z", "2026-04-11T00:00:00Z", "2026-06-01T00:00:00Z"];
    scene.insert(first, &starts);
    scene.insert(second, &starts);

    let process = scene.process();
    let told = process.run(true).await.unwrap();
    assert_eq!(told.removed.observations, 2 + 1 + 2, "March as a whole; then each project's own");
    assert_eq!(told.removed.months, [Month::new(2026, 3).unwrap()]);
    assert_eq!(
        scene.left(first).await.len() + scene.left(second).await.len(),
        8,
        "a dry run deletes nothing"
    );
    let done = process.take_turn().await.unwrap().unwrap();
    assert_eq!(done.removed.observations, told.removed.observations);
    assert_eq!(scene.left(first).await, starts[2..]);
    assert_eq!(scene.left(second).await, starts[3..]);
    assert_eq!(
        process.run_project(first.organization, first.project, true).await.unwrap(),
        Default::default()
    );
}

#[tokio::test]
async fn what_a_deleted_project_left_goes_at_once_and_again_when_all_has_arrived() {
    let scene = Scene::new(Fixture::embedded()).await;
    let (gone, other) = (scene.fixture.tenant, harness::tenant());
    scene.add(other, "other").await;
    for tenant in [gone, other] {
        scene.insert(tenant, &["2026-06-10T14:00:00Z"]);
        let name = format!("{}/file", tenant.project);
        scene.blobs.put(&name, Box::pin(&b"bytes"[..])).await.unwrap();
    }
    let process = scene.process();
    assert_eq!(process.take_turn().await.unwrap(), Some(Report::default()));
    assert_eq!(process.take_turn().await.unwrap(), None, "it was done just now");

    scene.database.projects().delete(gone.organization, gone.project).await.unwrap();
    let report = process.take_turn().await.unwrap().unwrap();
    assert_eq!((report.removed.observations, report.removed.blobs), (1, 1));
    assert_eq!(report.deleted_projects, [gone.project]);
    assert_eq!(scene.left(gone).await.len(), 0);
    assert_eq!(scene.left(other).await.len(), 1);
    assert!(scene.blobs.get(&format!("{}/file", other.project)).await.is_ok());

    // A call that was on its way.
    scene.insert(gone, &["2026-06-10T14:59:59Z"]);
    scene.clock.advance(TimeDelta::days(2));
    let report = process.take_turn().await.unwrap().unwrap();
    assert_eq!(report.removed.observations, 1);
    assert_eq!(scene.left(gone).await.len(), 0);
    assert_eq!(scene.database.retention().deleted().await.unwrap(), [], "and that was the last of it");
}

#[tokio::test]
async fn of_those_that_share_a_store_one_does_it() {
    let scene = Scene::new(Fixture::new()).await;
    let (one, other) = (scene.process(), scene.process());
    let (first, second) = tokio::join!(one.take_turn(), other.take_turn());
    let turns = [first.unwrap(), second.unwrap()];
    assert_eq!(turns.iter().flatten().count(), 1, "{turns:?}");
    assert_eq!(other.take_turn().await.unwrap(), None, "it was done just now");
    scene.clock.advance(TimeDelta::hours(1));
    assert_eq!(other.take_turn().await.unwrap(), Some(Report::default()));

    // One that dies in the middle never ends it: its lease does.
    scene.clock.advance(TimeDelta::hours(1));
    let now = scene.database.jobs();
    let (at, until) = (scene_now(&scene), scene_now(&scene) + TimeDelta::minutes(30));
    assert!(now.take("retention", "dead", at, until, at).await.unwrap());
    assert_eq!(one.take_turn().await.unwrap(), None);
    scene.clock.advance(TimeDelta::minutes(30));
    assert_eq!(one.take_turn().await.unwrap(), Some(Report::default()));
}

fn scene_now(scene: &Scene) -> DateTime<Utc> {
    brokle_core::clock::Clock::now(&*scene.clock)
}
