//! Score configs belong to one project, and an overtaken change is refused.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{ProjectId, ScoreConfigId};
use brokle_core::random::SystemRandom;
use brokle_storage::sql::StorageError;
use brokle_storage::sql::score_configs::{MAX_CONFIGS, ScoreConfig};
use serde_json::json;

use crate::harness::{Fixture, add_tenant, at, on_both_databases};

on_both_databases!(
    what_is_written_is_read_changed_and_removed,
    a_foreign_config_and_a_missing_one_answer_the_same,
    only_so_many_are_kept,
);

fn new(name: &str) -> ScoreConfig {
    let serde_json::Value::Object(definition) = json!({"data_type": "numeric", "max": 0.1}) else {
        unreachable!()
    };
    ScoreConfig {
        id: ScoreConfigId::generate(&SystemClock, &SystemRandom),
        name: name.to_owned(),
        definition,
        created_at: at(1),
        updated_at: at(1),
    }
}

async fn what_is_written_is_read_changed_and_removed(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let (configs, organization, project) = (database.score_configs(), tenant.organization, tenant.project);
    let (tone, good) = (new("tone"), new("good"));
    for config in [&tone, &good] {
        assert!(configs.create(organization, project, config).await.unwrap());
    }
    let again = configs.create(organization, project, &new("tone")).await;
    assert!(matches!(again, Err(StorageError::Conflict(_))), "{again:?}");
    assert_eq!(configs.list(organization, project).await.unwrap(), [good.clone(), tone.clone()]);
    let mut changed = ScoreConfig { updated_at: at(2), ..tone.clone() };
    changed.definition.insert("min".into(), json!(0));
    assert!(configs.change(organization, project, &changed, tone.updated_at).await.unwrap());
    assert!(!configs.change(organization, project, &tone, tone.updated_at).await.unwrap(), "overtaken");
    assert_eq!(configs.get(organization, project, tone.id).await.unwrap(), changed);
    assert!(configs.remove(organization, project, tone.id).await.unwrap());
    assert!(!configs.remove(organization, project, tone.id).await.unwrap());
    assert_eq!(configs.list(organization, project).await.unwrap(), [good]);
}

async fn a_foreign_config_and_a_missing_one_answer_the_same(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (ours, theirs) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let (configs, config) = (database.score_configs(), new("tone"));
    configs.create(ours.organization, ours.project, &config).await.unwrap();
    let other = ProjectId::generate(&SystemClock, &SystemRandom);
    let foreign = configs.create(theirs.organization, ours.project, &new("good")).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)), "{foreign:?}");
    for (organization, project) in [
        (theirs.organization, theirs.project),
        (theirs.organization, ours.project),
        (ours.organization, other),
    ] {
        let got = configs.get(organization, project, config.id).await;
        assert!(matches!(got, Err(StorageError::NotFound)), "{got:?}");
        assert!(!configs.change(organization, project, &config, config.updated_at).await.unwrap());
        assert!(!configs.remove(organization, project, config.id).await.unwrap());
        assert!(configs.list(organization, project).await.unwrap().is_empty());
    }
}

async fn only_so_many_are_kept(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let configs = database.score_configs();
    for n in 0..MAX_CONFIGS {
        assert!(configs.create(tenant.organization, tenant.project, &new(&n.to_string())).await.unwrap());
    }
    assert!(!configs.create(tenant.organization, tenant.project, &new("more")).await.unwrap());
}
