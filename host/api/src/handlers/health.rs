//! `/health`: for orchestrators and people.
//!
//! - **live**: the process answers. Restart it if it doesn't.
//! - **ready**: send requests here. False from the beginning of a shutdown. A database that is away doesn't make it false:
//!   the gateway serves without it, and taking every server out of rotation would turn a part's outage into the whole's.
//! - **db**: an answer of the database within [`PING_TIMEOUT`].
//! - **analytics**: an answer of the store of observations, in the same time.
//! - **plugins**: every component, those that were refused included; 200 whatever their state.
//! - **providers**: the instance's own connections, with each known model's circuit; what tenants added is shown to nobody
//!   here, nor is a model's name that only a caller wrote. 200 whatever their state.
//! - the summary: 200 with `ok` or `degraded`.
//!
//! No answer says more of a failure than that it is there; the reason is in the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::app::{App, PING_TIMEOUT, PluginHealth, PluginStatus, QueueHealth};

/// A single check's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// All is well.
    Ok,
    /// It works, with something missing.
    Degraded,
    /// It doesn't answer.
    Unavailable,
    /// The server is shutting down.
    Draining,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// How it is.
    pub status: CheckStatus,
}

/// The database.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseHealth {
    /// How it is.
    pub status: CheckStatus,
    /// `sqlite` or `postgres`.
    pub kind: String,
}

/// The store of observations.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalyticsHealth {
    /// How it is.
    pub status: CheckStatus,
    /// `sqlite` or `clickhouse`; null in a worker, which has none.
    pub kind: Option<String>,
}

/// Everything in one answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`; `degraded` when the database or the store of observations is away, the telemetry queue isn't available, or a component was refused or quarantined; `draining`.
    pub status: CheckStatus,
    /// The server's version.
    pub version: String,
    /// The database.
    pub database: DatabaseHealth,
    /// The store of observations.
    pub analytics: AnalyticsHealth,
    /// The queue between calls and the store.
    pub telemetry: QueueHealth,
    /// How many components serve.
    pub plugins_active: usize,
    /// How many were refused or taken out.
    pub plugins_failed: usize,
}

/// The components.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginsHealth {
    /// `degraded` when one was refused or quarantined.
    pub status: CheckStatus,
    /// Each of them.
    pub plugins: Vec<PluginHealth>,
}

/// The instance's own ways to providers, on this server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvidersHealth {
    /// `degraded` when a circuit isn't closed.
    pub status: CheckStatus,
    /// Calls that the gateway has now.
    pub in_flight: u64,
    /// Each connection of the configuration and the environment, with the models that were asked for within the last hour:
    /// `{connection, provider, healthy, in_flight, waiting, check: {status, failed_in_a_row, checked_at, latency_ms, error},
    /// models: [{model, circuit, open_ms, cooling_ms, error_rate, in_flight, last_error}]}`.
    #[schema(value_type = Vec<Object>)]
    pub connections: Vec<brokle_gateway::ProviderHealth>,
}

/// Everything in one answer.
#[utoipa::path(get, path = "/health", tag = "operations",
    responses((status = 200, description = "How the server and its parts are", body = Health)))]
pub(crate) async fn summary(State(app): State<Arc<App>>) -> Json<Health> {
    let (database, analytics) = tokio::join!(check_database(&app), check_analytics(&app));
    let plugins = app.plugins.list();
    let telemetry = app.telemetry.queue();
    let plugins_failed = plugins.iter().filter(|plugin| has_failed(plugin)).count();
    let status = if !app.lifecycle.is_ready() {
        CheckStatus::Draining
    } else if [database.status, analytics.status] == [CheckStatus::Ok; 2]
        && telemetry.available
        && plugins_failed == 0
    {
        CheckStatus::Ok
    } else {
        CheckStatus::Degraded
    };
    let plugins_active = plugins.iter().filter(|plugin| plugin.status == PluginStatus::Active).count();
    Json(Health {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database,
        analytics,
        telemetry,
        plugins_active,
        plugins_failed,
    })
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process answers", body = Check)))]
pub(crate) async fn live() -> Json<Check> {
    Json(Check { status: CheckStatus::Ok })
}

/// Requests may be sent here.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "Requests may be sent here", body = Check),
        (status = 503, description = "The server is shutting down", body = Check),
    ))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Check>) {
    if app.lifecycle.is_ready() {
        (StatusCode::OK, Json(Check { status: CheckStatus::Ok }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Check { status: CheckStatus::Draining }))
    }
}

/// The database answers.
#[utoipa::path(get, path = "/health/db", tag = "operations",
    responses(
        (status = 200, description = "The database answers", body = DatabaseHealth),
        (status = 503, description = "It doesn't, or not in time", body = DatabaseHealth),
    ))]
pub(crate) async fn database(State(app): State<Arc<App>>) -> (StatusCode, Json<DatabaseHealth>) {
    let health = check_database(&app).await;
    let is_ok = health.status == CheckStatus::Ok;
    (if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

/// The store of observations answers.
#[utoipa::path(get, path = "/health/analytics", tag = "operations",
    responses(
        (status = 200, description = "The store of observations answers", body = AnalyticsHealth),
        (status = 503, description = "It doesn't, or not in time; calls are served, and the queue holds them",
            body = AnalyticsHealth),
    ))]
pub(crate) async fn analytics(State(app): State<Arc<App>>) -> (StatusCode, Json<AnalyticsHealth>) {
    let health = check_analytics(&app).await;
    let is_ok = health.status == CheckStatus::Ok;
    (if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

/// The instance's own connections, with what was learned of them.
#[utoipa::path(get, path = "/health/providers", tag = "operations",
    responses((status = 200, description = "Each connection's state on this server", body = ProvidersHealth)))]
pub(crate) async fn providers(State(app): State<Arc<App>>) -> Json<ProvidersHealth> {
    let Some(gateway) = &app.gateway else {
        return Json(ProvidersHealth { status: CheckStatus::Ok, in_flight: 0, connections: Vec::new() });
    };
    let connections = gateway.provider_health();
    let is_well = connections.iter().all(|connection| connection.healthy);
    let status = if is_well { CheckStatus::Ok } else { CheckStatus::Degraded };
    Json(ProvidersHealth { status, in_flight: gateway.in_flight() as u64, connections })
}

/// The components, those that were refused included.
#[utoipa::path(get, path = "/health/plugins", tag = "operations",
    responses((status = 200, description = "Each component's state", body = PluginsHealth)))]
pub(crate) async fn plugins(State(app): State<Arc<App>>) -> Json<PluginsHealth> {
    let plugins = app.plugins.list();
    let status = if plugins.iter().any(has_failed) { CheckStatus::Degraded } else { CheckStatus::Ok };
    Json(PluginsHealth { status, plugins })
}

fn has_failed(plugin: &PluginHealth) -> bool {
    matches!(plugin.status, PluginStatus::Quarantined | PluginStatus::Refused)
}

async fn check_database(app: &App) -> DatabaseHealth {
    let status = check("the database", app.database.ping()).await;
    DatabaseHealth { status, kind: app.database.kind().to_owned() }
}

async fn check_analytics(app: &App) -> AnalyticsHealth {
    let Some(store) = &app.observations else {
        return AnalyticsHealth { status: CheckStatus::Ok, kind: None };
    };
    let status = check("the store of observations", store.ping()).await;
    AnalyticsHealth { status, kind: Some(store.kind().to_owned()) }
}

async fn check<E: std::error::Error + 'static>(
    what: &str,
    ping: impl Future<Output = Result<(), E>>,
) -> CheckStatus {
    match timeout(PING_TIMEOUT, ping).await {
        Ok(Ok(())) => CheckStatus::Ok,
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "{what} doesn't answer");
            CheckStatus::Unavailable
        }
        Err(_) => {
            tracing::warn!(seconds = PING_TIMEOUT.as_secs(), "{what} doesn't answer in time");
            CheckStatus::Unavailable
        }
    }
}
