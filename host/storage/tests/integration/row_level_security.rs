//! PostgreSQL's second lock: a statement that forgets its tenant sees nothing, whoever owns the tables.

use brokle_core::tenancy::Tenant;
use brokle_storage::sql::Database;
use brokle_storage::sql::migrate::{MigrateError, Migrator};
use sqlx::{PgConnection, PgPool};

use crate::harness::{Fixture, add_tenant, connect, new_connection, new_key, new_route};

const TABLES: [&str; 10] = [
    "SELECT count(*) FROM organizations",
    "SELECT count(*) FROM projects",
    "SELECT count(*) FROM environments",
    "SELECT count(*) FROM api_keys",
    "SELECT count(*) FROM connections",
    "SELECT count(*) FROM routes",
    "SELECT count(*) FROM route_versions",
    "SELECT count(*) FROM files",
    "SELECT count(*) FROM batches",
    "SELECT count(*) FROM batch_lines",
];

/// Two tenants with a row in every table.
async fn two_tenants() -> Option<(Fixture, Tenant, Tenant)> {
    let fixture = Fixture::postgres().await?;
    let database = fixture.migrated().await;
    let mut tenants = Vec::new();
    for name in ["acme", "umbrella"] {
        let tenant = add_tenant(database, name).await;
        database.api_keys().create(tenant, &new_key("ci")).await.unwrap();
        database.connections().create(tenant.organization, &new_connection("main")).await.unwrap();
        database.routes().create(tenant.organization, &new_route("smart")).await.unwrap();
        crate::batches::add_batch(database, tenant).await;
        tenants.push(tenant);
    }
    Some((fixture, tenants[0], tenants[1]))
}

fn pool(database: &Database) -> &PgPool {
    let Database::Postgres(pool) = database else { panic!("not PostgreSQL") };
    pool
}

async fn counts(connection: &mut PgConnection) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(sqlx::query_scalar(table).fetch_one(&mut *connection).await.unwrap());
    }
    counts
}

async fn set(connection: &mut PgConnection, name: &str, value: &str) {
    sqlx::query("SELECT set_config($1, $2, true)").bind(name).bind(value).execute(connection).await.unwrap();
}

#[tokio::test]
async fn without_a_tenant_there_are_no_rows() {
    let Some((fixture, tenant, _)) = two_tenants().await else { return };
    for database in [&fixture.app, &fixture.owner] {
        let mut fresh = pool(database).acquire().await.unwrap();
        assert_eq!(counts(&mut fresh).await, [0; 10]);

        let mut transaction = pool(database).begin().await.unwrap();
        set(&mut transaction, "brokle.organization_id", &tenant.organization.to_string()).await;
        assert_eq!(counts(&mut transaction).await, [1; 10], "with one, that one's");
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_neither_writes_nor_changes_anothers_rows() {
    let Some((fixture, ours, theirs)) = two_tenants().await else { return };
    let mut transaction = pool(&fixture.app).begin().await.unwrap();
    set(&mut transaction, "brokle.organization_id", &ours.organization.to_string()).await;
    let changed =
        sqlx::query("UPDATE api_keys SET revoked_at = now()").execute(&mut *transaction).await.unwrap();
    assert_eq!(changed.rows_affected(), 1, "ours only, though the statement named nobody");
    let moved = sqlx::query("UPDATE projects SET organization_id = $1")
        .bind(theirs.organization.to_string())
        .execute(&mut *transaction)
        .await
        .unwrap_err();
    assert!(moved.to_string().contains("row-level security"), "{moved}");
}

#[tokio::test]
async fn an_errand_sees_what_it_needs_and_writes_nothing() {
    let Some((fixture, ..)) = two_tenants().await else { return };
    for (errand, visible) in [
        ("key_lookup", [0, 2, 0, 2, 0, 0, 0, 0, 0, 0]),
        ("bootstrap", [2, 0, 0, 2, 0, 0, 0, 0, 0, 0]),
        ("budgets", [0; 10]),
        ("batches", [0, 0, 0, 0, 0, 0, 0, 2, 2, 0]),
        ("exporters", [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("other", [0; 10]),
    ] {
        let mut transaction = pool(&fixture.app).begin().await.unwrap();
        set(&mut transaction, "brokle.system", errand).await;
        assert_eq!(counts(&mut transaction).await, visible, "{errand}");
        let changed =
            sqlx::query("UPDATE api_keys SET revoked_at = now()").execute(&mut *transaction).await.unwrap();
        assert_eq!(changed.rows_affected(), 0, "{errand}");
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn whoever_passes_the_lock_is_warned() {
    let Some((fixture, ..)) = two_tenants().await else { return };
    assert_eq!(fixture.app.warnings().await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.owner.warnings().await.unwrap(), Vec::<String>::new());
    let superuser = connect(&fixture.postgres.unwrap().superuser_url).await;
    let warnings = superuser.warnings().await.unwrap();
    assert!(
        matches!(&*warnings, [warning] if warning.contains("\"postgres\" is a superuser")),
        "{warnings:?}"
    );
}

/// Tables without an organization's rows, or which hold the instance's own beside them and say so in their migration.
#[tokio::test]
async fn every_table_with_an_organization_is_locked() {
    let Some((fixture, ..)) = two_tenants().await else { return };
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
           AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
                       AND a.attname IN ('organization_id', 'project_id'))
         ORDER BY c.relname",
    )
    .fetch_all(pool(&fixture.owner))
    .await
    .unwrap();
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test]
async fn who_serves_owns_nothing_and_changes_no_table() {
    let Some((fixture, ..)) = two_tenants().await else { return };
    let owned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)",
    )
    .fetch_one(pool(&fixture.app))
    .await
    .unwrap();
    assert_eq!(owned, 0);
    for statement in [
        "ALTER TABLE api_keys DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON api_keys",
        "CREATE TABLE mine (id INTEGER)",
        "TRUNCATE api_keys",
    ] {
        let refused = sqlx::query(statement).execute(pool(&fixture.app)).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("must be owner") || text.contains("permission denied"), "{statement}: {text}");
    }
    // With nothing to migrate it may ask, as a server does at its start; with something, it can't.
    assert_eq!(Migrator::new(&fixture.app).up(None, false, |_| {}).await.unwrap(), 0);
    Migrator::new(&fixture.owner).down(Some(1), false, |_| {}).await.unwrap();
    let refused = Migrator::new(&fixture.app).up(None, false, |_| {}).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Failed { .. }), "{refused:?}");
}
