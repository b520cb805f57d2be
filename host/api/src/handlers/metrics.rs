//! `/metrics`: for Prometheus.
//!
//! Open to who can reach the port, as is usual; nothing in it names a tenant. Keep it from the public at the proxy.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use brokle_telemetry::metrics::QueueState;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::error::ApiError;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that the server counts, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    let queue = app.telemetry.queue();
    app.metrics.observe_queue(QueueState {
        depth: queue.depth,
        dropped: queue.dropped,
        dead_letters: queue.dead_letters,
        spilled: queue.spilled,
    });
    let text = app.metrics.encode().map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}
