//! Between an observation and its row.

use brokle_core::observation::{Observation, Step};
use brokle_core::usage::Usage;
use chrono::DateTime;
use rusqlite::types::Type;
use rusqlite::{CachedStatement, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::view::{ErrorView, Summary, UsageView, millis};
use super::super::{AnalyticsError, MAX_TRACE_ROWS};

pub(super) const INSERT: &str = "INSERT INTO observations (
    project, trace_id, span_id, parent_span_id, organization, environment, key_id, request_id, kind, name,
    operation, start_us, duration_us, first_token_us, provider, connection, model_requested, model_served,
    usage_known, estimated,
    input_tokens, output_tokens, cached_read, cache_write, reasoning,
    audio_input, audio_output, image_input, image_output, cost,
    streaming, status, http_status, finish_reason, error_class, error_message, user, session, tags, attributes,
    steps, rid
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,
    ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42
) ON CONFLICT (project, trace_id, span_id) DO NOTHING";

/// What [`summary`] reads, in its order; `rid` first.
pub(super) const SUMMARY: &str = "rid, trace_id, span_id, parent_span_id, environment, key_id, request_id, kind,
    name, operation, start_us, duration_us, first_token_us, provider, connection, model_requested, model_served,
    usage_known, estimated, input_tokens, output_tokens, cached_read, cache_write, reasoning, audio_input,
    audio_output, image_input, image_output, cost, streaming, status, http_status, finish_reason, error_class,
    error_message, user, session, tags, attributes, steps";

/// Where `steps` stands in [`SUMMARY`].
const STEPS: usize = 39;

const _: () = assert!(MAX_TRACE_ROWS < i32::MAX as u32);

/// Appends the row by this number. False when it was there already.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    observation: &Observation,
    rid: i64,
) -> Result<bool, AnalyticsError> {
    let tenant = &observation.tenant;
    let usage = observation.usage.unwrap_or_default();
    let changed = statement.execute(params![
        tenant.project.as_u128().to_be_bytes(),
        observation.trace_id.as_bytes(),
        observation.span_id.as_bytes(),
        observation.parent_span_id.as_ref().map(|id| id.as_bytes()),
        tenant.organization.as_u128().to_be_bytes(),
        tenant.environment.as_u128().to_be_bytes(),
        observation.key_id.map(|id| id.as_u128().to_be_bytes()),
        observation.request_id.map(|id| id.as_u128().to_be_bytes()),
        observation.kind.as_str(),
        &*observation.name,
        &*observation.operation,
        observation.start_us,
        whole(observation.duration_us),
        observation.first_token_us.map(whole),
        observation.provider.as_deref(),
        observation.connection.as_deref(),
        observation.model_requested.as_deref(),
        observation.model_served.as_deref(),
        observation.usage.is_some(),
        usage.estimated,
        whole(usage.input),
        whole(usage.output),
        whole(usage.cached_read),
        whole(usage.cache_write),
        whole(usage.reasoning),
        whole(usage.audio_input),
        whole(usage.audio_output),
        whole(usage.image_input),
        whole(usage.image_output),
        observation.cost.map(|cost| cost.to_string()),
        observation.streaming,
        observation.status.as_str(),
        observation.http_status,
        observation.finish_reason.as_deref(),
        observation.error_class.as_deref(),
        observation.error_message.as_deref(),
        observation.user.as_deref(),
        observation.session.as_deref(),
        json(&observation.tags, observation.tags.is_empty())?,
        json(&observation.attributes, observation.attributes.is_empty())?,
        json(&observation.steps, observation.steps.is_empty())?,
        rid,
    ])?;
    Ok(changed > 0)
}

/// SQLite's integers are signed; no true count comes near the difference.
pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What [`whole`] wrote.
pub(super) fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or_default())
}

fn json<T: Serialize>(value: &T, empty: bool) -> Result<Option<String>, AnalyticsError> {
    if empty {
        return Ok(None);
    }
    // About what a call's steps take: grown from nothing it would be copied four times.
    let mut text = Vec::with_capacity(1 << 10);
    serde_json::to_writer(&mut text, value).map_err(|error| AnalyticsError::Rejected(error.into()))?;
    String::from_utf8(text).map(Some).map_err(|error| AnalyticsError::Rejected(error.into()))
}

/// A row of [`SUMMARY`], without its steps.
pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let usage = Usage {
        estimated: row.get(18)?,
        input: count(row, 19)?,
        output: count(row, 20)?,
        cached_read: count(row, 21)?,
        cache_write: count(row, 22)?,
        reasoning: count(row, 23)?,
        audio_input: count(row, 24)?,
        audio_output: count(row, 25)?,
        image_input: count(row, 26)?,
        image_output: count(row, 27)?,
    };
    let optional_micros =
        |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(i64::cast_unsigned));
    Ok(Summary {
        trace_id: convert(row, 1, brokle_core::observation::TraceId::from_bytes)?,
        span_id: convert(row, 2, brokle_core::observation::SpanId::from_bytes)?,
        parent_span_id: row
            .get::<_, Option<[u8; 8]>>(3)?
            .and_then(|bytes| brokle_core::observation::SpanId::from_bytes(bytes).ok()),
        environment_id: brokle_core::ids::EnvironmentId::from_u128(u128::from_be_bytes(row.get(4)?)),
        key_id: ulid(row, 5)?.map(brokle_core::ids::ApiKeyId::from_u128),
        request_id: ulid(row, 6)?.map(brokle_core::ids::RequestId::from_u128),
        kind: convert(row, 7, |text: String| text.parse())?,
        name: row.get(8)?,
        operation: row.get::<_, String>(9).map(|text| Some(text).filter(|text| !text.is_empty()))?,
        start_time: DateTime::from_timestamp_micros(row.get(10)?).unwrap_or_default(),
        duration_ms: millis(count(row, 11)?),
        time_to_first_token_ms: optional_micros(12)?.map(millis),
        provider: row.get(13)?,
        connection_id: row.get(14)?,
        model: row.get(15)?,
        model_served: row.get(16)?,
        usage: row.get::<_, bool>(17)?.then(|| UsageView::new(usage)),
        cost: match row.get::<_, Option<String>>(28)? {
            Some(text) => Some(text.parse().map_err(|error| broken(28, error))?),
            None => None,
        },
        streaming: row.get(29)?,
        status: convert(row, 30, |text: String| text.parse())?,
        status_code: row.get(31)?,
        finish_reason: row.get(32)?,
        error: ErrorView::new(row.get(33)?, row.get(34)?),
        user: row.get(35)?,
        session: row.get(36)?,
        tags: from_json(row, 37)?,
        attributes: from_json(row, 38)?,
    })
}

/// The steps of a row of [`SUMMARY`].
pub(super) fn steps(row: &Row<'_>) -> rusqlite::Result<Vec<Step>> {
    from_json(row, STEPS)
}

fn ulid(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u128>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(u128::from_be_bytes))
}

fn from_json<T: DeserializeOwned + Default>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(text) => serde_json::from_str(text).map_err(|error| broken(at, error)),
        None => Ok(T::default()),
    }
}

/// A column through its type's own reader.
pub(super) fn convert<R, T, E>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(R) -> Result<T, E>,
) -> rusqlite::Result<T>
where
    R: rusqlite::types::FromSql,
    E: std::error::Error + Send + Sync + 'static,
{
    read(row.get(at)?).map_err(|error| broken(at, error))
}

pub(super) fn broken(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}
