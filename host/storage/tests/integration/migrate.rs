//! The schema goes up, down and up again.

use brokle_storage::sql::Database;
use brokle_storage::sql::migrate::{Direction, MigrateError, Migration, MigrationState, Migrator};

use crate::harness::{Fixture, on_both_databases};

on_both_databases!(
    up_down_up_gives_the_same_schema,
    steps_and_dry_runs_do_as_told,
    a_failing_step_leaves_nothing_behind,
    a_changed_file_is_named,
    an_older_binary_refuses_a_newer_schema,
    starters_do_not_collide,
);

const TRIVIAL: [Migration; 3] = [
    Migration { version: 1, name: "one", up: "CREATE TABLE one (a TEXT)", down: "DROP TABLE one" },
    Migration { version: 2, name: "two", up: "CREATE TABLE two (a TEXT)", down: "DROP TABLE two" },
    Migration { version: 4, name: "four", up: "CREATE TABLE four (a TEXT)", down: "DROP TABLE four" },
];

/// Everything that makes up the schema, as the database itself describes it.
async fn schema(database: &Database) -> Vec<String> {
    match database {
        Database::Sqlite(pool) => sqlx::query_scalar(
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master
             WHERE name NOT LIKE 'schema_migrations%' AND tbl_name != 'schema_migrations' ORDER BY 1",
        )
        .fetch_all(pool)
        .await
        .unwrap(),
        Database::Postgres(pool) => sqlx::query_scalar(
            "SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable FROM
                 information_schema.columns WHERE table_schema = 'public' AND table_name != 'schema_migrations'
             UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
                 WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text != 'schema_migrations'
             UNION ALL SELECT 'index ' || indexdef FROM pg_indexes
                 WHERE schemaname = 'public' AND tablename != 'schema_migrations'
             UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
             UNION ALL SELECT 'policy ' || tablename || ' ' || policyname || ' ' || cmd || ' ' || qual FROM pg_policies
             UNION ALL SELECT 'table ' || relname || ' ' || relrowsecurity || ' ' || relforcerowsecurity FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname != 'schema_migrations'
             UNION ALL SELECT 'function ' || proname || ' ' || prosrc FROM pg_proc
                 WHERE pronamespace = 'public'::regnamespace
             ORDER BY 1",
        )
        .fetch_all(pool)
        .await
        .unwrap(),
    }
}

async fn up_down_up_gives_the_same_schema(fixture: Fixture) {
    let database = &fixture.owner;
    let migrator = Migrator::new(database);
    let all = u32::try_from(migrator.status().await.unwrap().len()).unwrap();
    assert_eq!(migrator.up(None, false, |_| {}).await.unwrap(), all);
    let first = schema(database).await;
    assert!(first.iter().any(|line| line.contains("api_keys")), "{first:?}");

    assert_eq!(migrator.up(None, false, |_| {}).await.unwrap(), 0, "nothing is left to do");
    assert_eq!(migrator.down(None, false, |_| {}).await.unwrap(), all);
    assert_eq!(schema(database).await, Vec::<String>::new(), "nothing is left over");
    migrator.up(None, false, |_| {}).await.unwrap();
    assert_eq!(schema(database).await, first);
}

async fn steps_and_dry_runs_do_as_told(fixture: Fixture) {
    let migrator = Migrator::with_migrations(&fixture.owner, &TRIVIAL);
    let mut seen = Vec::new();
    assert_eq!(migrator.up(None, true, |step| seen.push((step.version, step.dry_run))).await.unwrap(), 3);
    assert_eq!(seen, [(1, true), (2, true), (4, true)]);
    assert_eq!(migrator.info().await.unwrap().current, 0, "a dry run does nothing");

    assert_eq!(migrator.up(Some(2), false, |_| {}).await.unwrap(), 2);
    let info = migrator.info().await.unwrap();
    assert_eq!((info.database, info.current, info.latest, info.pending), (fixture.owner.kind(), 2, 4, 1));
    let states: Vec<_> =
        migrator.status().await.unwrap().into_iter().map(|line| (line.version, line.state)).collect();
    use MigrationState::{Applied, Pending};
    assert_eq!(states, [(1, Applied), (2, Applied), (4, Pending)]);

    let mut seen = Vec::new();
    migrator.down(Some(1), false, |step| seen.push((step.name, step.direction))).await.unwrap();
    assert_eq!(seen, [("two", Direction::Down)]);
    assert_eq!(schema(&fixture.owner).await.iter().filter(|line| line.contains("two")).count(), 0);
}

async fn a_failing_step_leaves_nothing_behind(fixture: Fixture) {
    let [one, two, _] = TRIVIAL;
    let broken = [one, Migration { up: "CREATE TABLE two (a TEXT); INSERT INTO nowhere VALUES (1)", ..two }];
    let migrator = Migrator::with_migrations(&fixture.owner, &broken);
    let error = migrator.up(None, false, |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "migration 0002_two failed and was rolled back");
    assert_eq!(migrator.info().await.unwrap().current, 1);

    let mended = [one, two];
    assert_eq!(Migrator::with_migrations(&fixture.owner, &mended).up(None, false, |_| {}).await.unwrap(), 1);
}

async fn a_changed_file_is_named(fixture: Fixture) {
    let [one, two, four] = TRIVIAL;
    Migrator::with_migrations(&fixture.owner, &TRIVIAL).up(Some(2), false, |_| {}).await.unwrap();
    let changed = [one, Migration { up: "CREATE TABLE two (a TEXT, b TEXT)", ..two }, four];
    let migrator = Migrator::with_migrations(&fixture.owner, &changed);
    for error in [
        migrator.up(None, false, |_| {}).await.unwrap_err(),
        migrator.up(None, true, |_| {}).await.unwrap_err(),
        migrator.down(None, false, |_| {}).await.unwrap_err(),
    ] {
        assert!(matches!(&error, MigrateError::Changed { version: 2, name } if name == "two"), "{error:?}");
        assert!(error.to_string().contains("0002_two"), "{error}");
    }
    assert_eq!(migrator.status().await.unwrap()[1].state, MigrationState::Changed);

    migrator.force(2).await.unwrap();
    assert_eq!(migrator.up(None, false, |_| {}).await.unwrap(), 1, "forced, the file counts as applied");
    migrator.force(1).await.unwrap();
    assert_eq!(migrator.info().await.unwrap().current, 1);
    assert!(matches!(migrator.force(3).await, Err(MigrateError::NoSuchVersion(3))));
}

async fn an_older_binary_refuses_a_newer_schema(fixture: Fixture) {
    Migrator::with_migrations(&fixture.owner, &TRIVIAL).up(None, false, |_| {}).await.unwrap();
    let older = Migrator::with_migrations(&fixture.owner, &TRIVIAL[..2]);
    let error = older.up(None, false, |_| {}).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Unknown { version: 4, .. }), "{error:?}");
    assert_eq!(older.status().await.unwrap()[2].state, MigrationState::Unknown);
}

async fn starters_do_not_collide(fixture: Fixture) {
    let starters = (0..6).map(|_| {
        let database = fixture.owner.clone();
        // Tasks of their own, so that they run at the same time on several connections.
        #[expect(clippy::disallowed_methods, reason = "a test has no task tracker")]
        tokio::spawn(
            async move { Migrator::with_migrations(&database, &TRIVIAL).up(None, false, |_| {}).await },
        )
    });
    let mut applied = 0;
    for starter in starters.collect::<Vec<_>>() {
        applied += starter.await.unwrap().unwrap();
    }
    assert_eq!(applied, 3, "each migration was applied once, by one of them");
}
