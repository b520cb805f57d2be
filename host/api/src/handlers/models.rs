//! `GET /v1/models`: what can be asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use brokle_gateway::ModelObject;
use brokle_identity::Scope;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::gateway;
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, OpenAiError};

/// A model, in OpenAI's form.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// What to put into `model`.
    pub id: String,
    /// `model`
    pub object: String,
    /// Seconds since the Unix epoch; 0, since nobody knows.
    pub created: u64,
    /// The provider.
    pub owned_by: String,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// `list`
    pub object: String,
    /// The models, by name.
    pub data: Vec<Model>,
}

impl From<ModelObject> for Model {
    fn from(model: ModelObject) -> Self {
        let ModelObject { id, object, created, owned_by } = model;
        Self { id, object: object.to_owned(), created, owned_by }
    }
}

/// Lists the models and routes that this key can ask for.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The models", body = ModelList),
        (status = 401, description = "There is no valid key", body = OpenAiError)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
) -> Result<Json<ModelList>, ApiError> {
    caller.require(Scope::Gateway)?;
    let models = gateway(&app)?.models(&caller.0).await;
    Ok(Json(ModelList { object: "list".into(), data: models.into_iter().map(Model::from).collect() }))
}

/// Tells about one model. The name may hold slashes.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, description = "The model", body = Model),
        (status = 404, description = "There is no such model", body = OpenAiError)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    caller.require(Scope::Gateway)?;
    let models = gateway(&app)?.models(&caller.0).await;
    let bare = id.split_once('/').map(|(owner, rest)| (owner.to_owned(), rest.to_owned()));
    let found = models.into_iter().find(|model| {
        model.id == id
            || bare.as_ref().is_some_and(|(owner, rest)| model.owned_by == *owner && model.id == *rest)
    });
    let mut model = Model::from(found.ok_or_else(|| {
        let shown: String = id.chars().take(100).collect();
        let message = format!("The model '{shown}' does not exist or you do not have access to it.");
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
    })?);
    model.id = id;
    Ok(Json(model))
}
