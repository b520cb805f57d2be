//! A route as operators write it, in the configuration file or by the API: one form, read and checked in one place.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::tenancy::Capture;
use brokle_expression::Expression;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::routes::{self, ChosenPolicy, Fault, Route, RouteCandidate, Target};
use crate::gateway;
use crate::shadow::WHOLE;

/// A name that callers put into `model`, or choose by the header `x-brokle-route`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// 1 to 64 letters, digits and any of `-_.:`; unique. It goes before a model of the same name.
    pub name: String,
    /// The policy's short name or id; without it `gateway.policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The policy's configuration; without it, what `brokle plugin config` set in the caller's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Who may serve, 1 to 64 of them.
    pub candidates: Vec<Candidate>,
    /// Who is asked when all of them have failed, by the kind of failure.
    #[serde(default, skip_serializing_if = "Fallbacks::is_empty")]
    pub fallbacks: Fallbacks,
    /// How long a provider may take, where it isn't as everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// How often candidates that have failed are asked again, 0 to 5; without it `gateway.retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Other names that it is for: `gpt-4`, or with `*` and `?` all that look so, `gpt-4*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Members of the request's body that are set where the caller wrote nothing.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub defaults: Map<String, Value>,
    /// Members of the request's body that are taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// What the cache does for its calls, where it isn't as everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cached>,
    /// Configured guardrails that rule on its calls beside those that do so anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardrails: Vec<String>,
    /// The most that its calls leave behind: `full`, `metadata` or `off`; never more than the project's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["full", "metadata", "off"]))]
    pub capture: Option<Capture>,
    /// Members of the request's body that are set, whatever the caller wrote: `{ temperature = 0 }`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// When a second candidate is asked beside the first; without it none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// Who is asked once more for a share of the calls; nobody gets its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// Who is asked once more for a share of a route's calls. Either `connection` or `provider` says whom that goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// A connection's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// A provider's short name: the first of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model, as the provider names it; `*`: as the caller wrote it.
    pub model: String,
    /// It is one for such requests only: `not tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The share of the calls: more than 0, 1 at most.
    pub share: f64,
    /// What that may cost in a day (UTC), for each project and server, in dollars; without it, it isn't bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_day: Option<Usd>,
}

impl Shadow {
    fn to_shadow(&self) -> Result<routes::Shadow, Fault> {
        let whom = Candidate {
            connection: self.connection.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            when: self.when.clone(),
            priority: 0,
            weight: one(),
        };
        let share = millionths(self.share);
        Ok(routes::Shadow { candidate: whom.read("shadow")?, share, usd_per_day: self.usd_per_day })
    }
}

/// A share in millionths. What isn't within 0 and 1 isn't within 0 and [`WHOLE`] either, and is refused with the rest.
fn millionths(share: f64) -> u32 {
    (share * f64::from(WHOLE)).round().clamp(0.0, f64::from(WHOLE) + 1.0) as u32
}

/// What the cache does for a route's calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cached {
    /// `false`: nothing is looked up or kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long an answer is kept, in seconds, unless the caller says; `cache.max_ttl_s` is the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// `false`: nothing that only means the same is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic: Option<bool>,
    /// How near a question has to be whose answer is given: more than 0, 1 at most; without it as `[cache.semantic]` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic_threshold: Option<f64>,
}

/// When a second candidate is asked beside the first. Either of the two is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// After so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// When it takes longer than this share of its last answers did, in percent, 50 to 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<u8>,
}

impl Hedge {
    fn to_hedge(&self) -> Result<routes::Hedge, Fault> {
        match (self.after_ms, self.percentile) {
            (Some(after), None) => Ok(routes::Hedge::After(Duration::from_millis(after))),
            (None, Some(share)) => Ok(routes::Hedge::Percentile(share)),
            _ => Err(Fault::new("hedge", "either after_ms or percentile is expected")),
        }
    }
}

/// Who is asked when all candidates have failed. They have no fallbacks of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fallbacks {
    /// The request is too long for the model.
    pub context_length: Vec<Candidate>,
    /// The vendor doesn't want to answer this.
    pub content_policy: Vec<Candidate>,
    /// The vendor has had too many requests.
    pub rate_limit: Vec<Candidate>,
    /// Anything else that another one may do better; also for a rate limit without a list of its own.
    pub general: Vec<Candidate>,
}

impl Fallbacks {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn to_fallbacks(&self) -> Result<routes::Fallbacks, Fault> {
        Ok(routes::Fallbacks {
            context_length: read("fallbacks.context_length", &self.context_length)?,
            content_policy: read("fallbacks.content_policy", &self.content_policy)?,
            rate_limit: read("fallbacks.rate_limit", &self.rate_limit)?,
            general: read("fallbacks.general", &self.general)?,
        })
    }
}

/// How long a provider may take; what isn't named is as everywhere. In milliseconds, at least 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To an answer's first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// From a stream's head to its first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// Between two pieces of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// For the whole call, retries and fallbacks included; at most `gateway.total_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
}

impl Timeouts {
    fn to_timeouts(&self, usual: gateway::Timeouts) -> Result<gateway::Timeouts, Fault> {
        let of = |key: &str, given: Option<u64>, usual: Duration| match given {
            Some(0) => Err(Fault::new(format!("timeouts.{key}"), "0 would fail every call")),
            Some(millis) => Ok(Duration::from_millis(millis)),
            None => Ok(usual),
        };
        let total = of("total_ms", self.total_ms, usual.total)?;
        if total > usual.total {
            return Err(Fault::new("timeouts.total_ms", "gateway.total_ms is the most"));
        }
        let first_token = of("first_token_ms", self.first_token_ms, Duration::ZERO)?;
        Ok(gateway::Timeouts {
            first_byte: of("first_byte_ms", self.first_byte_ms, usual.first_byte)?,
            first_token: (!first_token.is_zero()).then_some(first_token),
            idle: of("idle_ms", self.idle_ms, usual.idle)?,
            total,
        })
    }
}

/// One way to serve a route. Either `connection` or `provider` says whom it goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// A connection's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// A provider's short name: each of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model, as the provider names it; `*`: as the caller wrote it.
    pub model: String,
    /// It is one for such requests only: `tools and input_tokens > 8000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Lower ones are tried first.
    #[serde(default)]
    pub priority: i32,
    /// The share among candidates of the same priority, 0 to 1000000, for policies that look at it.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl Definition {
    /// Its JSON Schema, without references, and open: it may stand among other members.
    #[must_use]
    pub fn json_schema() -> Value {
        let settings = schemars::generate::SchemaSettings::openapi3().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = settings.into_generator().into_root_schema_for::<Self>();
        schema.remove("additionalProperties");
        schema.to_value()
    }

    /// Reads one that came as JSON.
    ///
    /// # Errors
    /// A member that is unknown, missing or of the wrong type, with its key.
    pub fn read(definition: Map<String, Value>) -> Result<Self, Fault> {
        use serde_path_to_error::Segment;
        serde_path_to_error::deserialize(Value::Object(definition)).map_err(|error| {
            let key = error.path().iter().filter_map(|segment| match segment {
                Segment::Seq { index } => Some(index.to_string()),
                Segment::Map { key } => Some(key.clone()),
                Segment::Enum { .. } | Segment::Unknown => None,
            });
            Fault::new(key.collect::<Vec<_>>().join("."), error.inner().to_string())
        })
    }

    /// As the gateway takes it, with this policy; checked but for the policy, which only a component can.
    ///
    /// # Errors
    /// What can't be, with its key.
    pub fn to_route(&self, policy: ChosenPolicy, usual: gateway::Timeouts) -> Result<Route, Fault> {
        let candidates = read("candidates", &self.candidates)?;
        let member = |(name, value): (&String, &Value)| (pointer(name), value.to_string().into_bytes());
        let cache = self.cache.as_ref();
        let ttl = cache.and_then(|cache| cache.ttl_s);
        let rules = routes::Rules {
            fallbacks: self.fallbacks.to_fallbacks()?,
            timeouts: self.timeouts.as_ref().map(|timeouts| timeouts.to_timeouts(usual)).transpose()?,
            retries: self.retries,
            set: self.set.iter().map(member).collect(),
            defaults: self.defaults.iter().map(member).collect(),
            remove: self.remove.iter().map(|name| pointer(name)).collect(),
            uncached: cache.is_some_and(|cache| cache.enabled == Some(false)),
            exact_only: cache.is_some_and(|cache| cache.semantic == Some(false)),
            semantic_threshold: cache.and_then(|cache| cache.semantic_threshold).map(millionths),
            cache_ttl: ttl.map(Duration::from_secs),
            guardrails: self.guardrails.clone(),
            capture: self.capture,
            hedge: self.hedge.as_ref().map(Hedge::to_hedge).transpose()?,
            shadow: self.shadow.as_ref().map(Shadow::to_shadow).transpose()?,
        };
        let rules = (!rules.is_empty()).then(|| Arc::new(rules));
        let (name, aliases) = (self.name.clone(), self.aliases.clone());
        let route = Route { name, policy, candidates, rules, aliases, ..Route::default() };
        route.check()?;
        Ok(route)
    }
}

/// The RFC 6901 pointer to a member of the body: a name with a slash is one member, too.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn read(key: &str, written: &[Candidate]) -> Result<Vec<RouteCandidate>, Fault> {
    let each = written.iter().enumerate();
    each.map(|(at, one)| one.read(&format!("{key}.{at}"))).collect()
}

impl Candidate {
    fn read(&self, key: &str) -> Result<RouteCandidate, Fault> {
        let target = match (&self.connection, &self.provider) {
            (Some(name), None) if !name.is_empty() => Target::Connection(name.clone()),
            (None, Some(name)) if !name.is_empty() => Target::Provider(name.clone()),
            _ => return Err(Fault::new(key, "either connection or provider is expected")),
        };
        let when = self.when.as_deref().map(Expression::read).transpose();
        let when = when.map_err(|error| Fault::new(format!("{key}.when"), error.to_string()))?;
        let (model, priority, weight) = (self.model.clone(), self.priority, self.weight);
        Ok(RouteCandidate { target, model, priority, weight, when })
    }
}
