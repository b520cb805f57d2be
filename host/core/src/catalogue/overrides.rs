//! The operator's rows.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Catalogue;
use super::data::{CatalogueError, PatternRow};
use super::index::Index;
use super::model::{Capability, Mode, Model, RowProblem, is_name};
use super::price::{Prices, Tier};

/// One `[[models]]` table of the configuration: adds a model, or changes one.
///
/// What the row doesn't say it inherits: from `base` if given, else from the row that the built-in
/// catalogue has for this provider and name (by name, alias or pattern), else nothing. A price that it
/// gives replaces that one price; `tiers` replaces all tiers, so an operator with a flat price writes
/// `tiers = []`. With `replace = true` and no `base` it inherits nothing.
///
/// ```toml
/// [[models]]                      # a negotiated price
/// provider = "openai"
/// name = "gpt-4o"
/// prices = { input = "2.00", output = "8.00" }
///
/// [[models]]                      # an Azure deployment
/// provider = "azure"
/// name = "chat-prod"
/// base = "gpt-4o"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelOverride {
    /// The provider's id.
    pub provider: String,
    /// The name as the vendor's API takes it.
    pub name: String,
    /// The model to inherit from: a name of this provider, or `provider/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Don't inherit from the built-in row of this name.
    #[serde(default)]
    pub replace: bool,
    /// Other names for it. An alias of a built-in row moves here; another row's name is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
    /// Globs (`*` only) for further names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// What it is for; `chat` when nothing is inherited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The most input tokens it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u32>,
    /// The most output tokens it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u32>,
    /// Everything that it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// Prices by kind, in dollars per million tokens or per unit, as strings.
    #[serde(default)]
    pub prices: Prices,
    /// Prices for large inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Vec<Tier>>,
}

/// Lays the rows over the catalogue, in their order. A row may inherit from those before it.
pub(super) fn apply(before: Catalogue, overrides: Vec<ModelOverride>) -> Result<Catalogue, CatalogueError> {
    let mut models = before.models.clone();
    let mut patterns = before.patterns.clone();
    // The operator's rows so far, by position.
    let mut ours: Vec<usize> = Vec::with_capacity(overrides.len());
    let mut seen = HashSet::new();
    for row in overrides {
        let label = format!("{}/{}", row.provider, row.name);
        let refuse = |problem| CatalogueError::Override { row: label.clone(), problem };
        if !seen.insert(label.clone()) {
            return Err(refuse(RowProblem::Duplicate));
        }
        let known = |provider: &str, name: &str| {
            let own = ours.iter().filter_map(|at| models.get(*at));
            let mut own = own.filter(|model| model.provider == provider && model.name == name);
            own.next().or_else(|| before.find(provider, name)).cloned()
        };
        let inherited = inherit(&row, known).map_err(refuse)?;
        let globs = row.patterns.clone();
        let model = overlay(row, inherited);
        if let Some(problem) = model.problem() {
            return Err(refuse(problem));
        }
        for glob in globs {
            if !is_glob(&glob) {
                return Err(refuse(RowProblem::BadPattern { pattern: glob }));
            }
            // The operator's pattern takes the place of the same one in the tables.
            patterns.retain(|other| other.provider != model.provider || other.pattern != glob);
            patterns.push(PatternRow {
                provider: model.provider.clone(),
                pattern: glob,
                model: model.name.clone(),
            });
        }
        let place = models.iter().position(|old| old.provider == model.provider && old.name == model.name);
        claim_aliases(&model, place, &ours, &mut models).map_err(refuse)?;
        match place.and_then(|at| models.get_mut(at)) {
            Some(old) => {
                *old = model;
                ours.extend(place);
            }
            None => {
                ours.push(models.len());
                models.push(model);
            }
        }
    }
    let index = Index::build(&models, &patterns, &before.providers)?;
    Ok(Catalogue { models, patterns, index, ..before })
}

/// The row that this one starts from.
fn inherit(
    row: &ModelOverride,
    known: impl Fn(&str, &str) -> Option<Model>,
) -> Result<Option<Model>, RowProblem> {
    if let Some(base) = &row.base {
        let elsewhere = || base.split_once('/').and_then(|(provider, name)| known(provider, name));
        let found = known(&row.provider, base).or_else(elsewhere);
        return found.map(Some).ok_or_else(|| RowProblem::UnknownBase { base: base.clone() });
    }
    Ok(if row.replace { None } else { known(&row.provider, &row.name) })
}

/// What the row says, over what it inherits.
fn overlay(row: ModelOverride, inherited: Option<Model>) -> Model {
    let changes_prices = row.tiers.is_some() || row.prices != Prices::default();
    let is_new = inherited.is_none();
    let is_same = inherited.as_ref().is_some_and(|old| old.provider == row.provider && old.name == row.name);
    let mut model = inherited.unwrap_or_default();
    if !is_same {
        // Another model's names stay its own.
        model.aliases.clear();
    }
    if changes_prices || is_new {
        model.source = Some("configuration".to_owned());
        model.as_of = None;
    }
    Model {
        aliases: row.aliases.unwrap_or(model.aliases),
        mode: row.mode.unwrap_or(model.mode),
        context_window: row.context_window.or(model.context_window),
        max_output: row.max_output.or(model.max_output),
        capabilities: row.capabilities.unwrap_or(model.capabilities),
        prices: row.prices.or(&model.prices),
        tiers: row.tiers.unwrap_or(model.tiers),
        name: row.name,
        provider: row.provider,
        ..model
    }
}

/// Takes the row's aliases from the built-in rows that have them; refuses another row's name, and an
/// alias that the operator gave twice.
fn claim_aliases(
    model: &Model,
    place: Option<usize>,
    ours: &[usize],
    models: &mut [Model],
) -> Result<(), RowProblem> {
    for alias in &model.aliases {
        for (at, other) in models.iter_mut().enumerate() {
            if Some(at) == place || other.provider != model.provider {
                continue;
            }
            let has_alias = other.aliases.contains(alias);
            if other.name == *alias || (has_alias && ours.contains(&at)) {
                return Err(RowProblem::AliasTaken { alias: alias.clone(), owner: other.name.clone() });
            }
            if has_alias {
                other.aliases.retain(|name| name != alias);
            }
        }
    }
    Ok(())
}

/// A star, and something beside it: `*` alone would price everything.
fn is_glob(pattern: &str) -> bool {
    is_name(pattern) && pattern.contains('*') && pattern.chars().any(|letter| letter != '*')
}
