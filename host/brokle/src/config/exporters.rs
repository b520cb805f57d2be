//! Exporters: where observations go besides.

use super::limits::ids;
use brokle_exporters::{Exporter as Configured, Start};
use brokle_storage::observations::query::{Filter, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An exporter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exporter {
    /// What its cursors, metrics and log lines call it; unique. Another name begins anew. The plugin's, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The plugin's short name or id.
    pub(crate) plugin: String,
    /// The plugin's configuration; without it, what `brokle plugin config` set in the project's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Only observations of these organizations, by id; with `projects`: of any of them. Neither named: everybody's.
    #[serde(default)]
    pub(crate) organizations: Vec<String>,
    /// Only observations of these projects, by id.
    #[serde(default)]
    pub(crate) projects: Vec<String>,
    /// Only observations that pass this filter of the query language; without scores, which are given later.
    #[serde(default)]
    pub(crate) filter: String,
    /// `now`: a new exporter begins with what arrives from now on. `beginning`: with all that is stored.
    #[serde(default)]
    pub(crate) start: StartAt,
}

/// Where a new exporter begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StartAt {
    /// With what arrives from now on.
    #[default]
    Now,
    /// With all that is stored.
    Beginning,
}

impl Exporter {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.plugin)
    }

    /// As the service takes it.
    ///
    /// # Errors
    /// What is wrong, with its key.
    pub(crate) fn to_exporter(&self) -> Result<Configured, String> {
        let name = self.name();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_plain || !(1..=64).contains(&name.len()) {
            return Err("name: 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.' are expected".into());
        }
        let filter = Filter::parse(&self.filter, Subject::Observations);
        let filter = filter.map_err(|error| format!("filter: {error}"))?;
        if filter.asks_for_scores() {
            return Err("filter: scores are given after an observation has been exported".into());
        }
        Ok(Configured {
            name: name.to_owned(),
            plugin: self.plugin.clone(),
            config: self.config.clone().map(serde_json::Value::Object),
            organizations: ids("organizations", &self.organizations)?,
            projects: ids("projects", &self.projects)?,
            filter,
            start: match self.start {
                StartAt::Now => Start::Now,
                StartAt::Beginning => Start::Beginning,
            },
        })
    }
}

/// Finds what no type can refuse.
pub(super) fn check(exporters: &[Exporter]) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    for (index, exporter) in exporters.iter().enumerate() {
        if !names.insert(exporter.name()) {
            let name = exporter.name();
            return Err(format!("exporters.{index}.name: there are two exporters '{name}'"));
        }
        exporter.to_exporter().map_err(|problem| format!("exporters.{index}.{problem}"))?;
    }
    Ok(())
}
