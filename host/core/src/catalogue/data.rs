//! The format of the data files, and the two that are built in.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::Catalogue;
use super::index::Index;
use super::model::{Capability, Mode, Model, RowProblem};
use super::price::{Prices, Tier};

/// The built-in files, in the order of their providers' preference.
const FILES: [(&str, &str); 2] = [
    ("models.json", include_str!("../../data/models.json")),
    ("builtin.json", include_str!("../../data/builtin.json")),
];

/// Why a catalogue can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// An embedded file isn't in the format.
    #[error("the embedded {file} isn't a model table")]
    Data {
        /// The file in `host/core/data`.
        file: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A pattern of an embedded file points to no row.
    #[error("the pattern {pattern} points to {provider}/{model}, which isn't in the catalogue")]
    Pattern {
        /// The pattern's provider.
        provider: String,
        /// The pattern.
        pattern: String,
        /// The name that it points to.
        model: String,
    },
    /// An operator's row is wrong.
    #[error("models: {row}: {problem}")]
    Override {
        /// The row's `provider/name`.
        row: String,
        /// What is wrong with it.
        problem: RowProblem,
    },
}

/// Where a table's facts come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    /// Whose table it is.
    pub source: String,
    /// Its version there.
    pub source_version: String,
    /// The day on which that version was the newest.
    pub as_of: NaiveDate,
    /// Its licence (SPDX).
    pub license: String,
}

/// Names made by rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatternRow {
    pub(super) provider: String,
    pub(super) pattern: String,
    /// The name of the row that it gives, in the same provider.
    pub(super) model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: String,
    source_version: String,
    as_of: NaiveDate,
    license: String,
    providers: Vec<String>,
    /// Price pages; rows point into it.
    sources: Vec<String>,
    patterns: Vec<PatternRow>,
    models: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    provider: String,
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    mode: Mode,
    context_window: Option<u32>,
    max_output: Option<u32>,
    #[serde(default)]
    capabilities: Vec<Capability>,
    #[serde(default)]
    prices: Prices,
    #[serde(default)]
    tiers: Vec<Tier>,
    deprecated: Option<NaiveDate>,
    source: Option<usize>,
}

/// The built-in catalogue.
pub(super) fn builtin() -> Result<Catalogue, CatalogueError> {
    let mut providers = Vec::new();
    let mut patterns = Vec::new();
    let mut models = Vec::new();
    let mut tables = Vec::new();
    for (file, text) in FILES {
        let table: Table =
            serde_json::from_str(text).map_err(|source| CatalogueError::Data { file, source })?;
        providers.extend(table.providers);
        patterns.extend(table.patterns);
        let (sources, as_of) = (table.sources, table.as_of);
        models.extend(table.models.into_iter().map(|row| row.into_model(&sources, as_of)));
        tables.push(TableInfo {
            source: table.source,
            source_version: table.source_version,
            as_of,
            license: table.license,
        });
    }
    let index = Index::build(&models, &patterns, &providers)?;
    Ok(Catalogue { models, providers, patterns, tables, index })
}

impl Row {
    fn into_model(self, sources: &[String], as_of: NaiveDate) -> Model {
        Model {
            name: self.name,
            provider: self.provider,
            aliases: self.aliases,
            mode: self.mode,
            context_window: self.context_window,
            max_output: self.max_output,
            capabilities: self.capabilities,
            prices: self.prices,
            tiers: self.tiers,
            deprecated: self.deprecated,
            source: self.source.and_then(|at| sources.get(at)).cloned(),
            as_of: Some(as_of),
        }
    }
}
