//! The model catalogue: what models exist, what they can do, and what they cost.
//!
//! The built-in rows are data, not code: `data/models.json` (about 2,000 models from a public price
//! table, made by `data/refresh.py`) and `data/builtin.json` (Brokle's own `echo` provider). Each
//! table names its source, the source's version, its date and its licence. Operators add rows or
//! change them in configuration ([`ModelOverride`]).
//!
//! **A row tells what a name costs and can do; it isn't a name to send.** Aliases and patterns bring
//! several names to one row, so the gateway sends upstream the name that the client wrote, never
//! [`Model::name`].
//!
//! **Matching.** Within a provider the exact name wins over an alias, and both over a pattern. A bare
//! name that several providers have goes to the first in the tables' `providers` order: who makes
//! models, then the clouds that resell them, then who hosts open weights; providers that only the
//! configuration knows come last, by id. A pattern is a glob whose `*` stands for any characters or
//! none; of the patterns that match, the longest text before the first `*` wins, then the provider's
//! order, then the pattern's own text. Names match case and all, and no pattern matches a name over
//! 256 bytes. A provider prefix (`openai/gpt-4o`) isn't parsed here, since model names contain slashes
//! too: the gateway splits it off and calls [`Catalogue::find`].
//!
//! **Cost.** See [`Model::cost`]: an unknown price makes an unknown cost, never zero and never an
//! error.

use std::collections::HashSet;

mod data;
mod index;
mod model;
mod nearest;
mod overrides;
mod price;

pub use data::{CatalogueError, TableInfo};
pub use model::{Capability, Mode, Model, RowProblem};
pub use overrides::ModelOverride;
pub use price::{Prices, Tier};

use data::PatternRow;
use index::Index;

/// The longest name that patterns and [`Catalogue::nearest`] look at, in bytes. Names come from
/// clients; no vendor's is over 120.
const MAX_NAME: usize = 256;

/// Every known model, and the ways to find one. Immutable: a changed configuration makes a new one.
#[derive(Clone, Debug)]
pub struct Catalogue {
    models: Vec<Model>,
    /// Preference of providers for a bare name, first one first.
    providers: Vec<String>,
    patterns: Vec<PatternRow>,
    tables: Vec<TableInfo>,
    index: Index,
}

impl Catalogue {
    /// The built-in tables.
    ///
    /// # Errors
    /// When the embedded data doesn't parse or a pattern points nowhere: a broken build.
    pub fn builtin() -> Result<Self, CatalogueError> {
        data::builtin()
    }

    /// The same catalogue with the operator's rows laid over it, in order; see [`ModelOverride`].
    ///
    /// # Errors
    /// [`CatalogueError::Override`] with the row's `provider/name` for the first row that is wrong.
    pub fn with_overrides(self, overrides: Vec<ModelOverride>) -> Result<Self, CatalogueError> {
        overrides::apply(self, overrides)
    }

    /// The row for a bare name as a client writes it, from the provider that is preferred for it.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<&Model> {
        self.matching(name).next()
    }

    /// One provider's row for a name.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str) -> Option<&Model> {
        self.matching(model).find(|row| row.provider == provider)
    }

    /// One row from each provider that has the name, the preferred provider first.
    pub fn providers_of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Model> + use<'a> {
        let mut seen = HashSet::new();
        let rows: Vec<&Model> =
            self.matching(name).filter(|row| seen.insert(row.provider.as_str())).collect();
        rows.into_iter()
    }

    /// Names that look like this one, nearest first, for "did you mean": at most `limit`, none for a
    /// name over 256 bytes or when nothing is near.
    #[must_use]
    pub fn nearest(&self, name: &str, limit: usize) -> Vec<&str> {
        if name.len() > MAX_NAME { Vec::new() } else { self.index.spellings.nearest(name, limit) }
    }

    /// Every row: the tables' in their order, then those that only the configuration has.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// Where the built-in rows come from, and of which date they are.
    #[must_use]
    pub fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn matching(&self, name: &str) -> impl Iterator<Item = &Model> {
        self.index.candidates(name).filter_map(|at| self.models.get(at))
    }
}

#[cfg(test)]
mod tests;
