//! `/v1/budgets`: where the caller's budgets stand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use brokle_identity::Scope;
use serde::Serialize;

use super::call::gateway;
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, OpenAiError};

/// Budgets, by name.
#[derive(Debug, Serialize)]
pub(crate) struct BudgetList {
    object: &'static str,
    data: Vec<brokle_gateway::budgets::BudgetState>,
}

/// Tells where the budgets stand that count the key's calls, or others of its project and organization.
#[utoipa::path(get, path = "/v1/budgets", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "`data`, by name, 1,000 at most: `name`, `subject` (`organization` and what else \
            tells this one apart: `project`, `key`, `user`, `model`), `per` (day, week, month), `unit` (usd, tokens), `limit`, `spent`, \
            `reserved` (by calls under way) and `remaining` in that unit, as text, `started_at`, `resets_at`, \
            `on_exceeded` (block, alert), `blocked`", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`", body = OpenAiError),
    ))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
) -> Result<Json<BudgetList>, ApiError> {
    caller.require(Scope::Gateway)?;
    let data = gateway(&app)?.budgets().seen_by(&caller.0);
    Ok(Json(BudgetList { object: "list", data }))
}
