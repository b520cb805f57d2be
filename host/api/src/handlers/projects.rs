//! `/api/v1/projects/{id}`: a project as a whole.

use std::sync::Arc;

use axum::extract::{Path, State};
use brokle_core::tenancy::Tenant;
use brokle_identity::Scope;
use http::StatusCode;

use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Deletes a project of the key's organization with everything in it, for good: environments, keys, connections, routes, files
/// and batches at once, telemetry and stored bytes within minutes.
#[utoipa::path(delete, path = "/api/v1/projects/{id}", tag = "operations",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 204, description = "It was there and is gone"),
        (status = 403, description = "The key lacks the scope `admin`", body = Problem),
        (status = 404, description = "There is no such project in the key's organization", body = Problem),
        (status = 409, description = "`default_project`: the one that the server itself begins with", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::Admin)?;
    let project = id.parse().map_err(|_| ApiError::not_found("There is no such project."))?;
    let organization = caller.0.tenant.organization;
    // Another organization isn't even told that it is this one.
    let is_default = |tenant: Tenant| (tenant.organization, tenant.project) == (organization, project);
    if app.database.default_tenant().await?.is_some_and(is_default) {
        let message = "The default project can't be deleted: the server would make it anew.";
        return Err(ApiError::new(StatusCode::CONFLICT, "default_project", message));
    }
    app.database.projects().delete(organization, project).await?;
    Ok(StatusCode::NO_CONTENT)
}
