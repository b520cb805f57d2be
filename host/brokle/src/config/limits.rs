//! Limits: how much callers may.

use brokle_gateway::limits::{self, Amounts, MAX_AMOUNT};
use brokle_gateway::who::{By, Filter, Who};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much somebody may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// What refusals call it: 1 to 64 characters; unique.
    pub(crate) name: String,
    /// What tells callers apart: each combination of these has an allowance of its own. At least one of `key`, `user`,
    /// `project`, `organization`, `model`.
    #[schemars(with = "Vec<String>")]
    pub(crate) by: Vec<By>,
    /// Requests in a minute. What isn't named isn't limited; 0 allows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    /// Requests in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_day: Option<u64>,
    /// Tokens in a minute, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_day: Option<u64>,
    /// Requests under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concurrent_requests: Option<u64>,
    /// Which calls count; without it, all.
    #[serde(default, skip_serializing_if = "Only::is_empty")]
    pub(crate) only: Only,
}

impl Limit {
    /// As the gateway takes it.
    ///
    /// # Errors
    /// A value that can't be, with its key.
    pub(crate) fn to_limit(&self) -> Result<limits::Limit, String> {
        let amounts = Amounts {
            requests_per_minute: self.requests_per_minute,
            requests_per_day: self.requests_per_day,
            tokens_per_minute: self.tokens_per_minute,
            tokens_per_day: self.tokens_per_day,
            concurrent_requests: self.concurrent_requests,
        };
        let each = [
            ("requests_per_minute", self.requests_per_minute),
            ("requests_per_day", self.requests_per_day),
            ("tokens_per_minute", self.tokens_per_minute),
            ("tokens_per_day", self.tokens_per_day),
            ("concurrent_requests", self.concurrent_requests),
        ];
        if let Some((key, _)) =
            each.iter().find(|(_, amount)| amount.is_some_and(|amount| amount > MAX_AMOUNT))
        {
            return Err(format!("{key}: 0 to {MAX_AMOUNT} is expected"));
        }
        if amounts == Amounts::default() {
            let keys = each.map(|(key, _)| key).join(", ");
            return Err(format!("it limits nothing: at least one of {keys} is expected"));
        }
        let who = Who { by: told_apart(&self.by)?, only: self.only.to_filter()? };
        Ok(limits::Limit { name: named(&self.name)?, who, amounts })
    }
}

/// Which calls count: those that each list which isn't empty has an entry for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Only {
    /// Only calls of these organizations, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) organizations: Vec<String>,
    /// Only calls of these projects, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) projects: Vec<String>,
    /// Only calls with these API keys, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<String>,
    /// Only calls for these users, by the name that the caller gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) users: Vec<String>,
    /// Only calls of these models, as the provider names them: `gpt-4o`, or `openai/gpt-4o`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
}

impl Only {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn to_filter(&self) -> Result<Filter, String> {
        Ok(Filter {
            organizations: ids("only.organizations", &self.organizations)?,
            projects: ids("only.projects", &self.projects)?,
            keys: ids("only.keys", &self.keys)?,
            users: self.users.clone(),
            models: self.models.clone(),
        })
    }
}

/// A rule's name.
pub(super) fn named(name: &str) -> Result<String, String> {
    match name.trim().is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        true => Err("name: 1 to 64 characters are expected".to_owned()),
        false => Ok(name.to_owned()),
    }
}

/// What tells callers apart, each once.
pub(super) fn told_apart(by: &[By]) -> Result<Vec<By>, String> {
    let mut once = by.to_vec();
    once.sort_unstable();
    once.dedup();
    match once.is_empty() {
        true => Err("by: at least one of key, user, project, organization, model is expected".to_owned()),
        false => Ok(once),
    }
}

pub(super) fn ids<T: std::str::FromStr>(key: &str, given: &[String]) -> Result<Vec<T>, String> {
    let read = |(index, text): (usize, &String)| {
        text.parse().map_err(|_| format!("{key}.{index}: '{text}' is no id (26 characters, a ULID)"))
    };
    given.iter().enumerate().map(read).collect()
}

/// Finds what no type can refuse.
pub(super) fn check(limits: &[Limit]) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    for (index, limit) in limits.iter().enumerate() {
        if !names.insert(&limit.name) {
            return Err(format!("limits.{index}.name: there are two limits '{}'", limit.name));
        }
        limit.to_limit().map_err(|problem| format!("limits.{index}.{problem}"))?;
    }
    Ok(())
}
