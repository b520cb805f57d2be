//! `/v1/usage`: what a key may, what is left of it, and what it has spent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use brokle_core::money::Usd;
use brokle_gateway::budgets::BudgetState;
use brokle_gateway::limits::LimitState;
use brokle_identity::Scope;
use brokle_storage::observations::query::fields::Key;
use brokle_storage::observations::query::filter::{Field, Filter, Term, Test, Value};
use brokle_storage::observations::query::metrics::{Bucket, Counter, Measure, Measured, MetricsQuery};
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::api_keys::KeyRestrictions;
use super::call::gateway;
use super::traces::{failed, store};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, OpenAiError};

/// A key's standing.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    object: &'static str,
    key: KeyUsage,
    limits: Vec<LimitState>,
    spend: Spend,
    budgets: Vec<BudgetState>,
}

/// The key, as far as its holder may know.
#[derive(Debug, Serialize)]
struct KeyUsage {
    id: String,
    name: String,
    restrictions: KeyRestrictions,
    expires_at: Option<DateTime<Utc>>,
}

/// What the key's calls came to in the calendar's day, week and month, in UTC.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Spend {
    day: Spent,
    week: Spent,
    month: Spent,
}

/// What calls came to.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Spent {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Dollars.
    #[schema(value_type = String)]
    cost: Usd,
}

impl Spent {
    fn add(&mut self, values: &[Measured]) {
        for (at, value) in values.iter().enumerate() {
            match (at, value) {
                (0, Measured::Count(count)) => self.requests += count,
                (1, Measured::Count(count)) => self.input_tokens += count,
                (2, Measured::Count(count)) => self.output_tokens += count,
                (3, Measured::Money(cost)) => self.cost += *cost,
                _ => {}
            }
        }
    }
}

/// Tells where the key stands: its limits and what is left of them, what its calls came to (some seconds late, as traces are),
/// and the budgets that count its calls. It costs no request.
#[utoipa::path(get, path = "/v1/usage", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("x-brokle-user" = Option<String>, Header, description = "Whose limits by user are told")),
    responses(
        (status = 200, description = "`key` (id, name, restrictions, expires_at), `limits` (name, null for the key's own, by, \
            measure, limit, remaining, reset_ms), `spend` (`day`, `week`, `month`: requests, input_tokens, output_tokens, \
            cost in dollars as text), `budgets` as `/v1/budgets` has them", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`", body = OpenAiError),
        (status = 503, description = "Traces can't be read", body = OpenAiError),
    ))]
pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    headers: HeaderMap,
) -> Result<Json<Usage>, ApiError> {
    caller.require(Scope::Gateway)?;
    let (gateway, principal) = (gateway(&app)?, &caller.0);
    let user = headers.get("x-brokle-user").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Json(Usage {
        object: "usage",
        key: KeyUsage {
            id: principal.key_id.to_string(),
            name: principal.name.clone(),
            restrictions: principal.allowed.restrictions().clone().into(),
            expires_at: principal.expires_at,
        },
        limits: gateway.limits_of(principal, user.trim()).await,
        spend: spend(&app, &caller).await?,
        budgets: gateway.budgets().seen_by(principal),
    }))
}

/// One question by days, of which the periods are made.
async fn spend(app: &App, caller: &Authenticated) -> Result<Spend, ApiError> {
    let now = app.clock.now();
    let begins = [Bucket::Day, Bucket::Week, Bucket::Month].map(|bucket| bucket.begin(now));
    let [day, week, month] = begins;
    let is = |test| Term { negated: false, test };
    let key = Value::Id(caller.0.key_id.as_u128().to_be_bytes().to_vec());
    let question = MetricsQuery {
        // Calls through the gateway: spans from elsewhere that came with the key have no request.
        filter: Filter {
            terms: vec![
                is(Test::AnyOf(Field::Key(Key::ApiKey), vec![key])),
                is(Test::Present(Field::Key(Key::Request))),
            ],
        },
        from: week.min(month),
        to: now + TimeDelta::microseconds(1),
        measures: [Counter::Count, Counter::InputTokens, Counter::OutputTokens, Counter::Cost]
            .map(Measure::Counter)
            .to_vec(),
        dimensions: Vec::new(),
        bucket: Some(Bucket::Day),
    };
    let found = store(app)?.metrics(caller.0.tenant.project, question).await.map_err(failed)?;
    let mut spend = Spend::default();
    for cell in found.cells {
        let Some(begin) = cell.bucket else { continue };
        let periods = [(day, &mut spend.day), (week, &mut spend.week), (month, &mut spend.month)];
        for (_, spent) in periods.into_iter().filter(|(first, _)| begin >= *first) {
            spent.add(&cell.values);
        }
    }
    Ok(spend)
}
