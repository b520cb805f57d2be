//! One file per group of endpoints. A handler parses, calls and shapes; nothing else.

pub mod api_keys;
pub mod batches;
pub mod budgets;
pub mod cache;
mod call;
pub mod chat_completions;
pub mod completions;
pub mod connections;
pub mod docs;
pub mod embeddings;
pub mod files;
pub mod generate_content;
pub mod health;
pub mod keys;
pub mod langfuse;
pub mod media;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod otlp;
pub mod plugins;
pub mod projects;
pub mod queries;
pub mod queue;
pub mod realtime;
pub mod relay;
pub mod responses;
pub mod retention;
pub mod routes;
pub mod routing;
pub mod score_configs;
pub mod scores;
pub mod streaming;
pub mod trace_updates;
pub mod traces;
pub mod usage;

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::{JsonRejection, QueryRejection};

use crate::error::ApiError;

/// A body of an endpoint of ours, or what is wrong with it.
fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(body)| body).map_err(|rejection| ApiError::invalid_request(rejection.body_text()))
}

/// A query string, or what is wrong with it.
fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| ApiError::invalid_request(rejection.body_text()))
}

/// Tells `null` from nothing: for a member that is left as it is when it isn't there, and cleared when it is null.
pub(crate) fn present<'de, T, D>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    <Option<T> as serde::Deserialize>::deserialize(from).map(Some)
}
