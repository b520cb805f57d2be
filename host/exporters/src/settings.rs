//! What an operator says of an exporter.

use std::sync::Arc;

use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_plugins::{View, configuration};
use brokle_storage::observations::query::Filter;
use serde_json::Value;

/// Where an exporter begins that is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what arrives from now on.
    #[default]
    Now,
    /// With all that there is.
    Beginning,
}

/// A configured exporter.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// What cursors, metrics and logs call it; unique. Another name is another exporter, which begins anew.
    pub name: String,
    /// The component's short name or id.
    pub plugin: String,
    /// The component's configuration, a JSON object; none: what it is configured with in the project's scope.
    pub config: Option<Value>,
    /// Organizations whose observations it gets; with `projects`: of any of them. Neither: everybody's.
    pub organizations: Vec<OrganizationId>,
    /// Projects whose observations it gets.
    pub projects: Vec<ProjectId>,
    /// Which of them.
    pub filter: Filter,
    /// Where it begins.
    pub start: Start,
}

/// Why an exporter can't be used as it is configured: each problem's place, an RFC 6901 pointer below its own table, and what
/// is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(|(pointer, message)| format!("{pointer}: {message}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigFault {
    /// Each with its place.
    pub problems: Vec<(String, String)>,
}

impl Exporter {
    pub(crate) fn is_for(&self, organization: OrganizationId, project: ProjectId) -> bool {
        let everybody = self.organizations.is_empty() && self.projects.is_empty();
        everybody || self.organizations.contains(&organization) || self.projects.contains(&project)
    }

    pub(crate) fn own_config(&self) -> Option<Arc<[u8]>> {
        self.config.as_ref().map(|config| config.to_string().into_bytes().into())
    }

    /// Holds its configuration against the component's schema, and asks the component. False: none serves yet (it may wait
    /// for grants), so that nobody can be asked.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&self, view: &View) -> Result<bool, ConfigFault> {
        let Some(active) = view.exporter(&self.plugin) else { return Ok(false) };
        let Some(config) = &self.config else { return Ok(true) };
        let fault = |problems: Vec<(String, String)>| match problems.is_empty() {
            true => Ok(true),
            false => Err(ConfigFault { problems }),
        };
        let plugin = &active.plugin;
        let problems = configuration::check(plugin.manifest().config.as_ref(), config);
        if !problems.is_empty() {
            return fault(
                problems.into_iter().map(|p| (format!("/config{}", p.pointer), p.message)).collect(),
            );
        }
        match plugin.check_config(config.to_string().as_bytes()).await {
            Ok(found) => {
                fault(found.into_iter().map(|p| (format!("/config{}", p.pointer), p.message)).collect())
            }
            Err(error) => fault(vec![("/plugin".to_owned(), error.to_string())]),
        }
    }
}
