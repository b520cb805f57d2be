//! Whom a limit or a budget is about.
//!
//! A rule says by which properties of a call it counts ([`By`]) and which calls it counts at all ([`Filter`]). Each
//! combination of the properties' values has an allowance of its own, and **none is shared between organizations**: a
//! `model` is an organization's use of that model, a `user` is a name within a project. So no header tells one tenant
//! what another one did.
//!
//! - A call without a user counts for the user without a name, one for each project: leaving the name out is no way
//!   around a limit.
//! - `model` is the model that the provider is asked for, not the name that the caller wrote: an alias, a route or
//!   `provider/model` is no way around it either. It is known when candidates are asked, so a rule about models refuses
//!   a candidate, and the next one may serve.

use brokle_core::ids::{ApiKeyId, OrganizationId, ProjectId};
use brokle_identity::Principal;
use serde::{Deserialize, Serialize};

/// A property of a call that a rule counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The API key.
    Key,
    /// The end user: `x-brokle-user`, or the request's `user`. A name within its project.
    User,
    /// The project.
    Project,
    /// The organization.
    Organization,
    /// The model that the provider is asked for. A name within its organization.
    Model,
}

/// Which calls a rule counts: those that each list which isn't empty has an entry for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their organizations.
    pub organizations: Vec<OrganizationId>,
    /// Their projects.
    pub projects: Vec<ProjectId>,
    /// Their API keys.
    pub keys: Vec<ApiKeyId>,
    /// Their end users.
    pub users: Vec<String>,
    /// Their models, as the provider names them, or `provider/model`.
    pub models: Vec<String>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// What it counts by; at least one.
    pub by: Vec<By>,
    /// What it counts.
    pub only: Filter,
}

/// A call, as rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) user: &'a str,
    /// The provider's name and the model, once a candidate is asked.
    pub(crate) model: Option<(&'a str, &'a str)>,
}

impl Who {
    /// Whether it takes a candidate to know if a call counts, and for whom.
    #[must_use]
    pub fn needs_model(&self) -> bool {
        self.by.contains(&By::Model) || !self.only.models.is_empty()
    }

    pub(crate) fn counts(&self, caller: &Caller<'_>) -> bool {
        fn lists<T: PartialEq>(list: &[T], value: &T) -> bool {
            list.is_empty() || list.contains(value)
        }
        let (only, tenant) = (&self.only, &caller.principal.tenant);
        lists(&only.organizations, &tenant.organization)
            && lists(&only.projects, &tenant.project)
            && lists(&only.keys, &caller.principal.key_id)
            && (only.users.is_empty() || only.users.iter().any(|user| user == caller.user))
            && (only.models.is_empty()
                || caller.model.is_some_and(|(provider, model)| {
                    let both = |name: &str| name.split_once('/') == Some((provider, model));
                    only.models.iter().any(|name| name == model || both(name))
                }))
    }

    /// Whose allowance a call takes from.
    pub(crate) fn subject(&self, caller: &Caller<'_>) -> Subject {
        let tenant = &caller.principal.tenant;
        let mut subject =
            Subject { organization: tenant.organization, project: None, key: None, user: None, model: None };
        for by in &self.by {
            match by {
                By::Key => subject.key = Some(caller.principal.key_id),
                By::User => {
                    subject.project = Some(tenant.project);
                    subject.user = Some(caller.user.to_owned());
                }
                By::Project => subject.project = Some(tenant.project),
                By::Organization => {}
                By::Model => subject.model = Some(caller.model.unwrap_or_default().1.to_owned()),
            }
        }
        subject
    }
}

/// Whose allowance it is. As JSON it is the same text on every server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The organization; always.
    pub organization: OrganizationId,
    /// The project, if it matters; always with a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// The API key, if it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ApiKeyId>,
    /// The end user, if it matters; empty for calls without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The model, if it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Subject {
    /// Whether it is the caller's own, or its project's or organization's.
    #[must_use]
    pub fn is_seen_by(&self, principal: &Principal) -> bool {
        self.organization == principal.tenant.organization
            && self.project.is_none_or(|project| project == principal.tenant.project)
            && self.key.is_none_or(|key| key == principal.key_id)
    }
}

/// How a rule is named to people: `key`, or `user and model`.
pub(crate) fn named(by: &[By]) -> String {
    let names: Vec<&str> = by
        .iter()
        .map(|by| match by {
            By::Key => "API key",
            By::User => "user",
            By::Project => "project",
            By::Organization => "organization",
            By::Model => "model",
        })
        .collect();
    names.join(" and ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use brokle_core::clock::SystemClock;
    use brokle_core::ids::EnvironmentId;
    use brokle_core::random::SystemRandom;
    use brokle_core::tenancy::{Capture, Tenant};
    use brokle_identity::Scopes;

    pub(crate) fn principal() -> Principal {
        let (clock, random) = (SystemClock, SystemRandom);
        let tenant = Tenant {
            organization: OrganizationId::generate(&clock, &random),
            project: ProjectId::generate(&clock, &random),
            environment: EnvironmentId::generate(&clock, &random),
        };
        Principal {
            key_id: ApiKeyId::generate(&clock, &random),
            name: "test".into(),
            tenant,
            scopes: Scopes::all(),
            allowed: Default::default(),
            capture: Capture::Off,
            requests_per_minute: None,
            expires_at: None,
        }
    }

    pub(crate) fn by(by: &[By]) -> Who {
        Who { by: by.to_vec(), only: Filter::default() }
    }

    #[test]
    fn subjects_are_apart_where_their_parts_are() {
        let (one, other) = (principal(), principal());
        let who = by(&[By::User, By::Model]);
        let subject =
            |principal, user, model| who.subject(&Caller { principal, user, model: Some(("p", model)) });
        let first = subject(&one, "ann", "m");
        assert_eq!(first, subject(&one, "ann", "m"));
        for other in [subject(&other, "ann", "m"), subject(&one, "bob", "m"), subject(&one, "ann", "n")] {
            assert_ne!(first, other);
        }
        assert!(first.is_seen_by(&one) && !first.is_seen_by(&other));
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<Subject>(&text).unwrap(), first);
    }

    #[test]
    fn a_filter_takes_all_of_its_lists() {
        let (one, other) = (principal(), principal());
        let mut who = by(&[By::Key]);
        let caller = |principal, user, model| Caller { principal, user, model };
        assert!(who.counts(&caller(&one, "", None)));
        who.only.projects = vec![one.tenant.project];
        who.only.users = vec!["ann".into()];
        assert!(who.counts(&caller(&one, "ann", None)));
        assert!(!who.counts(&caller(&one, "bob", None)) && !who.counts(&caller(&other, "ann", None)));
        who.only.models = vec!["openai/gpt-4o".into(), "claude".into()];
        assert!(!who.counts(&caller(&one, "ann", None)));
        assert!(who.counts(&caller(&one, "ann", Some(("openai", "gpt-4o")))));
        assert!(!who.counts(&caller(&one, "ann", Some(("azure", "gpt-4o")))));
        assert!(who.counts(&caller(&one, "ann", Some(("any", "claude")))));
    }
}
