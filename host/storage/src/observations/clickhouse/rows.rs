//! Between an observation and its row.

use std::str::FromStr;

use brokle_core::money::Usd;
use brokle_core::observation::{Observation, Step};
use brokle_core::usage::Usage;
use bytes::Bytes;
use chrono::DateTime;
use clickhouse::Row;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::super::view::{ErrorView, Node, Summary, UsageView, millis, show};
use super::super::{AnalyticsError, Month};

/// The columns of [`Stored`] without the bodies.
pub(super) const COLUMNS: &str = "o.project_id, o.organization_id, o.environment_id, o.trace_id, o.span_id,
    o.parent_span_id, o.key_id, o.request_id, o.kind, o.name, o.operation, o.start_time, o.duration_us,
    o.first_token_us, o.provider, o.connection_id, o.model_requested, o.model_served, o.usage_known, o.estimated,
    o.input_tokens, o.output_tokens, o.cached_read, o.cache_write, o.reasoning, o.audio_input, o.audio_output,
    o.image_input, o.image_output, o.cost, o.streaming, o.status, o.http_status, o.finish_reason, o.error_class,
    o.error_message, o.user_id, o.session_id, o.tags, o.attributes, o.steps, o.arrival";
/// Both bodies.
pub(super) const BODIES: &str = "o.input, o.output";
/// Neither of them.
pub(super) const NO_BODIES: &str =
    "CAST(NULL, 'Nullable(String)') AS input, CAST(NULL, 'Nullable(String)') AS output";

/// Places after the point of money.
const SCALE: u32 = 18;
/// 10¹⁵ dollars: beyond it a sum of many could overflow.
const MAX_COST: i128 = 10_i128.pow(15 + SCALE);
/// Where the server's times of 32 bits end, by which hours are summed up and rows expire.
const LAST_YEAR: i32 = 2105;

/// A row of `observations`.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) project_id: String,
    organization_id: String,
    environment_id: String,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    parent_span_id: Option<String>,
    key_id: Option<String>,
    request_id: Option<String>,
    kind: String,
    name: String,
    operation: String,
    pub(super) start_time: i64,
    pub(super) duration_us: u64,
    pub(super) first_token_us: Option<u64>,
    provider: Option<String>,
    connection_id: Option<String>,
    model_requested: Option<String>,
    model_served: Option<String>,
    usage_known: bool,
    estimated: bool,
    input_tokens: u64,
    output_tokens: u64,
    cached_read: u64,
    cache_write: u64,
    reasoning: u64,
    audio_input: u64,
    audio_output: u64,
    image_input: u64,
    image_output: u64,
    pub(super) cost: Option<i128>,
    streaming: bool,
    status: String,
    http_status: Option<u16>,
    finish_reason: Option<String>,
    error_class: Option<String>,
    error_message: Option<String>,
    user_id: Option<String>,
    session_id: Option<String>,
    tags: Vec<String>,
    attributes: Vec<(String, String)>,
    steps: String,
    pub(super) arrival: i64,
    input: Option<Bytes>,
    output: Option<Bytes>,
}

impl Stored {
    /// The row of an observation, `arrival` left at 0.
    ///
    /// # Errors
    /// When it began in a year that can't be stored, or costs more than can be.
    pub(super) fn new(observation: &Observation) -> Result<Self, AnalyticsError> {
        check_time(observation.start_us)?;
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        let boxed = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let usage = observation.usage.unwrap_or_default();
        let tenant = &observation.tenant;
        Ok(Self {
            project_id: tenant.project.to_string(),
            organization_id: tenant.organization.to_string(),
            environment_id: tenant.environment.to_string(),
            trace_id: observation.trace_id.to_string(),
            span_id: observation.span_id.to_string(),
            parent_span_id: observation.parent_span_id.map(|id| id.to_string()),
            key_id: observation.key_id.map(|id| id.to_string()),
            request_id: observation.request_id.map(|id| id.to_string()),
            kind: observation.kind.as_str().to_owned(),
            name: observation.name.clone().into_owned(),
            operation: observation.operation.clone().into_owned(),
            start_time: observation.start_us,
            duration_us: whole(observation.duration_us),
            first_token_us: observation.first_token_us.map(whole),
            provider: text(&observation.provider),
            connection_id: text(&observation.connection),
            model_requested: text(&observation.model_requested),
            model_served: text(&observation.model_served),
            usage_known: observation.usage.is_some(),
            estimated: usage.estimated,
            input_tokens: whole(usage.input),
            output_tokens: whole(usage.output),
            cached_read: whole(usage.cached_read),
            cache_write: whole(usage.cache_write),
            reasoning: whole(usage.reasoning),
            audio_input: whole(usage.audio_input),
            audio_output: whole(usage.audio_output),
            image_input: whole(usage.image_input),
            image_output: whole(usage.image_output),
            cost: observation.cost.map(scaled).transpose()?,
            streaming: observation.streaming,
            status: observation.status.as_str().to_owned(),
            http_status: observation.http_status,
            finish_reason: observation.finish_reason.as_deref().map(str::to_owned),
            error_class: observation.error_class.as_deref().map(str::to_owned),
            error_message: boxed(&observation.error_message),
            user_id: boxed(&observation.user),
            session_id: boxed(&observation.session),
            tags: observation.tags.iter().map(|tag| (**tag).to_owned()).collect(),
            // In the names' order, which a B-tree has: the same attributes are the same bytes, and pack well.
            attributes: observation
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
            steps: if observation.steps.is_empty() {
                String::new()
            } else {
                serde_json::to_string(&observation.steps)
                    .map_err(|error| AnalyticsError::Rejected(error.into()))?
            },
            arrival: 0,
            input: observation.input.clone(),
            output: observation.output.clone(),
        })
    }

    /// What it is known by within its project.
    pub(super) fn id(&self) -> (String, String, String) {
        (self.project_id.clone(), self.trace_id.clone(), self.span_id.clone())
    }

    /// Tokens in and out, if they are known.
    pub(super) fn tokens(&self) -> Option<u64> {
        self.usage_known.then(|| self.input_tokens.saturating_add(self.output_tokens))
    }

    pub(super) fn summary(&self) -> Result<Summary, AnalyticsError> {
        let usage = Usage {
            estimated: self.estimated,
            input: self.input_tokens,
            output: self.output_tokens,
            cached_read: self.cached_read,
            cache_write: self.cache_write,
            reasoning: self.reasoning,
            audio_input: self.audio_input,
            audio_output: self.audio_output,
            image_input: self.image_input,
            image_output: self.image_output,
        };
        let attributes = self.attributes.iter().map(|(name, json)| {
            let value = serde_json::from_str(json).map_err(corrupt)?;
            Ok((name.clone(), value))
        });
        Ok(Summary {
            trace_id: parse(&self.trace_id)?,
            span_id: parse(&self.span_id)?,
            parent_span_id: self.parent_span_id.as_deref().map(parse).transpose()?,
            environment_id: parse(&self.environment_id)?,
            key_id: self.key_id.as_deref().map(parse).transpose()?,
            request_id: self.request_id.as_deref().map(parse).transpose()?,
            kind: parse(&self.kind)?,
            name: self.name.clone(),
            operation: Some(self.operation.clone()).filter(|text| !text.is_empty()),
            start_time: DateTime::from_timestamp_micros(self.start_time).unwrap_or_default(),
            duration_ms: millis(self.duration_us),
            time_to_first_token_ms: self.first_token_us.map(millis),
            provider: self.provider.clone(),
            connection_id: self.connection_id.clone(),
            model: self.model_requested.clone(),
            model_served: self.model_served.clone(),
            usage: self.usage_known.then(|| UsageView::new(usage)),
            cost: self.cost.map(money),
            streaming: self.streaming,
            status: parse(&self.status)?,
            status_code: self.http_status,
            finish_reason: self.finish_reason.clone(),
            error: ErrorView::new(self.error_class.clone(), self.error_message.clone()),
            user: self.user_id.clone(),
            session: self.session_id.clone(),
            tags: self.tags.clone(),
            attributes: attributes.collect::<Result<_, AnalyticsError>>()?,
        })
    }

    /// With its bodies, if they were asked for; its steps are left behind.
    pub(super) fn node(self) -> Result<Node, AnalyticsError> {
        let summary = self.summary()?;
        let body = |body: Option<Bytes>| body.map(|body| show(body.into())).transpose();
        Ok(Node { summary, input: body(self.input)?, output: body(self.output)?, children: Vec::new() })
    }

    pub(super) fn steps(&self) -> Result<Vec<Step>, AnalyticsError> {
        if self.steps.is_empty() {
            Ok(Vec::new())
        } else {
            serde_json::from_str(&self.steps).map_err(corrupt)
        }
    }
}

/// As SQLite has it: no true count comes near the difference, and sums of a few don't overflow.
const fn whole(count: u64) -> u64 {
    if count > i64::MAX as u64 { i64::MAX as u64 } else { count }
}

/// Whether a moment can be stored.
pub(super) fn check_time(micros: i64) -> Result<(), AnalyticsError> {
    let last = Month::new(LAST_YEAR, 12);
    if Month::of_micros(micros).is_some_and(|month| Some(month) <= last) {
        return Ok(());
    }
    Err(AnalyticsError::Rejected(format!("it is from outside of the years 1970 to {LAST_YEAR}").into()))
}

fn scaled(cost: Usd) -> Result<i128, AnalyticsError> {
    let decimal = cost.as_decimal().round_dp(SCALE);
    let factor = 10_i128.pow(SCALE.saturating_sub(decimal.scale()));
    let scaled = decimal.mantissa().checked_mul(factor).filter(|scaled| scaled.abs() <= MAX_COST);
    scaled.ok_or_else(|| AnalyticsError::Rejected("it costs more than 10^15 dollars".into()))
}

/// What [`scaled`] wrote, or a sum of such. Beyond what a decimal holds (28 digits, some of 29) the last ones go.
pub(super) fn money(scaled: i128) -> Usd {
    let (mut mantissa, mut scale) = (scaled, SCALE);
    loop {
        let is_short = mantissa % 10 != 0 || scale == 0;
        match Decimal::try_from_i128_with_scale(mantissa, scale) {
            Ok(decimal) if is_short => return Usd::new(decimal),
            Err(_) if scale == 0 => return Usd::MAX,
            _ => (mantissa, scale) = (mantissa / 10, scale - 1),
        }
    }
}

pub(super) fn parse<T>(text: &str) -> Result<T, AnalyticsError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(corrupt)
}

pub(super) fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AnalyticsError {
    AnalyticsError::Corrupt(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_comes_back() {
        for text in [
            "0",
            "0.000345",
            "1",
            "-2.5",
            "999999999999999",
            "0.000000000000000001",
            "12345678901.000000000000000001",
        ] {
            let cost: Usd = text.parse().unwrap();
            assert_eq!(money(scaled(cost).unwrap()).to_string(), text);
        }
        // Beyond 18 places it is rounded, beyond what a decimal holds cut, beyond what can be summed up refused.
        assert_eq!(money(scaled("0.00000000000000000049".parse().unwrap()).unwrap()), Usd::ZERO);
        assert_eq!(
            money(123_456_789_012_345_678_901_234_567_890_123).to_string(),
            "123456789012345.67890123456789"
        );
        assert!(scaled("1000000000000001".parse().unwrap()).is_err() && scaled(Usd::MAX).is_err());
    }
}
