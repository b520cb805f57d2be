//! `/api/v1/projects/{id}/score-configs`: what scores of a name must be.
//!
//! A score whose name has a config is of its type, within its range or one of its categories, or it is refused (400
//! `invalid_score`), by whichever way it comes. Names without one are free. What is stored already stays.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use brokle_core::ids::{ProjectId, ScoreConfigId};
use brokle_identity::Scope;
use brokle_storage::observations::{DataType, MAX_CATEGORY, MAX_NAME, ScoreValue};
use brokle_storage::sql::score_configs::{MAX_CONFIGS, ScoreConfig};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::queries::own_project;
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::{self, CappedBody};
use crate::error::{ApiError, Problem};

/// Categories of a config.
const MAX_CATEGORIES: usize = 100;
/// Bytes of a description.
const MAX_DESCRIPTION: usize = 2_000;

/// What scores of a name must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rule {
    data_type: DataType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// A project's rules, by the scores' name.
pub(super) type Rules = HashMap<String, Rule>;

/// A config to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConfig {
    /// The scores' name: 1 to 200 bytes.
    name: String,
    /// `numeric`, `categorical`, `boolean` or `text`.
    #[schema(value_type = String)]
    data_type: DataType,
    /// The least number.
    min: Option<f64>,
    /// The largest.
    max: Option<f64>,
    /// The categories: 1 to 100.
    #[serde(default)]
    categories: Vec<String>,
    /// What it is about, for people.
    description: Option<String>,
}

/// What of a config is to be changed; name and type stay.
#[derive(Deserialize, ToSchema)]
#[schema(as = ScoreConfigChange)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// The least number; null for none.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<f64>)]
    min: Option<Option<f64>>,
    /// The largest; null for none.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<f64>)]
    max: Option<Option<f64>>,
    /// The categories.
    categories: Option<Vec<String>>,
    /// What it is about; null for nothing.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
}

/// A config, as it is shown.
#[derive(Serialize)]
struct Shown {
    id: ScoreConfigId,
    name: String,
    #[serde(flatten)]
    rule: Rule,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Rule {
    fn check(&self) -> Result<(), ApiError> {
        let is_numeric = self.data_type == DataType::Numeric;
        if !is_numeric && let Some(name) = self.min.map(|_| "min").or(self.max.map(|_| "max")) {
            return Err(invalid(name, "only numeric scores have bounds"));
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(invalid("max", "at least `min` is expected"));
        }
        let is_categorical = self.data_type == DataType::Categorical;
        if is_categorical == self.categories.is_empty() || self.categories.len() > MAX_CATEGORIES {
            return Err(invalid("categories", "1 to 100 are expected of categorical scores, none of others"));
        }
        if !self.categories.iter().all(|text| (1..=MAX_CATEGORY).contains(&text.len())) {
            return Err(invalid("categories", "1 to 500 bytes are expected of each"));
        }
        if self.description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION) {
            return Err(invalid("description", "at most 2,000 bytes are expected"));
        }
        Ok(())
    }

    /// What kind of value is expected, if none or another one is said.
    pub(super) fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Whether a score may have this value, or what is expected.
    pub(super) fn admits(&self, value: &ScoreValue) -> Result<(), String> {
        match value {
            value if value.data_type() != self.data_type => {
                Err(format!("the score config says {}", self.data_type.as_str()))
            }
            ScoreValue::Numeric(number) if self.min.is_some_and(|min| *number < min) => {
                Err(format!("the score config says at least {}", self.min.unwrap_or_default()))
            }
            ScoreValue::Numeric(number) if self.max.is_some_and(|max| *number > max) => {
                Err(format!("the score config says at most {}", self.max.unwrap_or_default()))
            }
            ScoreValue::Categorical(text) if !self.categories.contains(text) => {
                Err(format!("the score config says one of {}", self.categories.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// The rules of the caller's project.
pub(super) async fn rules(app: &App, caller: &Authenticated) -> Result<Rules, ApiError> {
    let tenant = caller.0.tenant;
    let configs = app.database.score_configs().list(tenant.organization, tenant.project).await?;
    configs.into_iter().map(|config| Ok((config.name.clone(), rule(&config)?))).collect()
}

/// Lists the project's score configs, by name.
#[utoipa::path(get, path = "/api/v1/projects/{id}/score-configs", tag = "scores",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, description = "`{data, next_cursor}`: all of them", body = Value),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, Scope::TracesRead, &id)?;
    let configs = app.database.score_configs().list(caller.0.tenant.organization, project).await?;
    let data: Vec<Shown> = configs.into_iter().map(shown).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "data": data, "next_cursor": null })))
}

/// Makes a score config.
#[utoipa::path(post, path = "/api/v1/projects/{id}/score-configs", tag = "scores",
    security(("bearer" = []), ("api_key" = [])), request_body = NewConfig,
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 201, description = "The config", body = Value),
        (status = 400, description = "`invalid_request` with the member; `too_many_score_configs`", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:write`", body = Problem),
        (status = 409, description = "`already_exists`: the name has one", body = Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let project = project(&caller, Scope::TracesWrite, &id)?;
    let new: NewConfig = body::json(&body)?;
    if !(1..=MAX_NAME).contains(&new.name.len()) || new.name.chars().any(char::is_control) {
        return Err(invalid("name", "1 to 200 bytes without control characters are expected"));
    }
    let NewConfig { name, data_type, min, max, categories, description } = new;
    let rule = Rule { data_type, min, max, categories, description };
    rule.check()?;
    let now = app.clock.now();
    let config = ScoreConfig {
        id: ScoreConfigId::generate(&*app.clock, &*app.random),
        name,
        definition: definition(&rule)?,
        created_at: now,
        updated_at: now,
    };
    if !app.database.score_configs().create(caller.0.tenant.organization, project, &config).await? {
        let message = format!("A project has at most {MAX_CONFIGS} score configs.");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "too_many_score_configs", message));
    }
    Ok((StatusCode::CREATED, as_json(shown(config)?)?))
}

/// Shows a score config.
#[utoipa::path(get, path = "/api/v1/projects/{id}/score-configs/{config}", tag = "scores",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), ("config" = String, Path, description = "Its id")),
    responses((status = 200, description = "The config", body = Value),
        (status = 404, description = "There is no such config in the key's project", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path((id, config)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, Scope::TracesRead, &id)?;
    let config =
        app.database.score_configs().get(caller.0.tenant.organization, project, named(&config)?).await?;
    as_json(shown(config)?)
}

/// Changes a score config's range, categories or description.
#[utoipa::path(patch, path = "/api/v1/projects/{id}/score-configs/{config}", tag = "scores",
    security(("bearer" = []), ("api_key" = [])), request_body = Change,
    params(("id" = String, Path, description = "The project's id"), ("config" = String, Path, description = "Its id")),
    responses((status = 200, description = "The config as it is now", body = Value),
        (status = 400, description = "`invalid_request` with the member", body = Problem),
        (status = 404, description = "There is no such config in the key's project", body = Problem),
        (status = 409, description = "`conflict`: somebody else changed it meanwhile", body = Problem)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path((id, config)): Path<(String, String)>,
    CappedBody(body): CappedBody,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, Scope::TracesWrite, &id)?;
    let organization = caller.0.tenant.organization;
    let wanted: Change = body::json(&body)?;
    let configs = app.database.score_configs();
    let there = configs.get(organization, project, named(&config)?).await?;
    let mut rule = rule(&there)?;
    rule.min = wanted.min.unwrap_or(rule.min);
    rule.max = wanted.max.unwrap_or(rule.max);
    rule.categories = wanted.categories.unwrap_or(rule.categories);
    rule.description = wanted.description.unwrap_or(rule.description);
    rule.check()?;
    let seen = there.updated_at;
    let changed = ScoreConfig { definition: definition(&rule)?, updated_at: app.clock.now(), ..there };
    if !configs.change(organization, project, &changed, seen).await? {
        let message = "The score config was changed or deleted meanwhile. Read it again.";
        return Err(ApiError::new(StatusCode::CONFLICT, "conflict", message));
    }
    as_json(shown(changed)?)
}

/// Deletes a score config. Scores stay.
#[utoipa::path(delete, path = "/api/v1/projects/{id}/score-configs/{config}", tag = "scores",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), ("config" = String, Path, description = "Its id")),
    responses((status = 204, description = "It was there and is gone"),
        (status = 404, description = "There is no such config in the key's project", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path((id, config)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = project(&caller, Scope::TracesWrite, &id)?;
    let organization = caller.0.tenant.organization;
    if app.database.score_configs().remove(organization, project, named(&config)?).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(missing())
}

fn project(caller: &Authenticated, scope: Scope, id: &str) -> Result<ProjectId, ApiError> {
    caller.require(scope)?;
    own_project(caller, id)
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such score config.")
}

fn named(id: &str) -> Result<ScoreConfigId, ApiError> {
    id.parse().map_err(|_| missing())
}

fn invalid(member: &'static str, message: &str) -> ApiError {
    ApiError::invalid_request(format!("{member}: {message}")).param(member)
}

fn rule(config: &ScoreConfig) -> Result<Rule, ApiError> {
    serde_json::from_value(Value::Object(config.definition.clone())).map_err(ApiError::internal)
}

fn definition(rule: &Rule) -> Result<Map<String, Value>, ApiError> {
    match serde_json::to_value(rule).map_err(ApiError::internal)? {
        Value::Object(members) => Ok(members),
        _ => Err(ApiError::internal("a rule isn't an object")),
    }
}

fn shown(config: ScoreConfig) -> Result<Shown, ApiError> {
    let rule = rule(&config)?;
    let ScoreConfig { id, name, created_at, updated_at, .. } = config;
    Ok(Shown { id, name, rule, created_at, updated_at })
}

fn as_json(config: Shown) -> Result<Json<Value>, ApiError> {
    Ok(Json(serde_json::to_value(config).map_err(ApiError::internal)?))
}
