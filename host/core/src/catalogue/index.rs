//! From a name to rows, in the order of preference that the module above states.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::MAX_NAME;
use super::data::{CatalogueError, PatternRow};
use super::model::Model;
use super::nearest::Spellings;

/// Lookup tables over a catalogue's rows, which they name by position.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Names and aliases; the rows of one name in order of preference.
    names: HashMap<String, Vec<usize>>,
    /// Patterns in order of precedence.
    globs: Vec<(Glob, usize)>,
    pub(super) spellings: Spellings,
}

impl Index {
    /// Fails when a pattern points to no row.
    pub(super) fn build(
        models: &[Model],
        patterns: &[PatternRow],
        providers: &[String],
    ) -> Result<Self, CatalogueError> {
        let ranks: HashMap<&str, usize> =
            providers.iter().enumerate().map(|(rank, id)| (id.as_str(), rank)).collect();
        let rank = |provider: &str| ranks.get(provider).copied().unwrap_or(usize::MAX);

        let mut entries: Vec<_> = models
            .iter()
            .enumerate()
            .flat_map(|(at, model)| {
                let provider = model.provider.as_str();
                std::iter::once((model.name.as_str(), false))
                    .chain(model.aliases.iter().map(|alias| (alias.as_str(), true)))
                    .map(move |(name, is_alias)| (rank(provider), provider, is_alias, name, at))
            })
            .collect();
        entries.sort_unstable();
        let mut names: HashMap<String, Vec<usize>> = HashMap::with_capacity(entries.len());
        let mut in_order = Vec::with_capacity(entries.len());
        for (.., name, at) in entries {
            if let Some(rows) = names.get_mut(name) {
                rows.push(at);
            } else {
                names.insert(name.to_owned(), vec![at]);
                in_order.push(name);
            }
        }

        let mut globs = Vec::with_capacity(patterns.len());
        for row in patterns {
            let target = names.get(&row.model).into_iter().flatten().copied().find(|at| {
                models.get(*at).is_some_and(|model| model.provider == row.provider && model.name == row.model)
            });
            let Some(target) = target else {
                let PatternRow { provider, pattern, model } = row.clone();
                return Err(CatalogueError::Pattern { provider, pattern, model });
            };
            globs.push((row, target));
        }
        globs.sort_by_key(|(row, _)| {
            (Reverse(literal_prefix(&row.pattern)), rank(&row.provider), &row.provider, &row.pattern)
        });
        let globs = globs.into_iter().map(|(row, target)| (Glob::new(&row.pattern), target)).collect();
        Ok(Self { spellings: Spellings::new(&in_order), names, globs })
    }

    /// Positions of the rows for a name: by name and alias, then by pattern. A row may come twice.
    pub(super) fn candidates(&self, name: &str) -> impl Iterator<Item = usize> {
        let globs = if name.len() <= MAX_NAME { self.globs.as_slice() } else { &[] };
        let by_name = self.names.get(name).into_iter().flatten().copied();
        by_name.chain(globs.iter().filter(move |(glob, _)| glob.matches(name)).map(|(_, at)| *at))
    }
}

fn literal_prefix(pattern: &str) -> usize {
    pattern.find('*').unwrap_or(pattern.len())
}

/// A pattern taken apart: what a name begins with, holds in this order, and ends with. Matching goes
/// over the name once, however many stars there are.
#[derive(Clone, Debug)]
struct Glob {
    prefix: String,
    middle: Vec<String>,
    /// `None` for a pattern without a star, which matches only itself.
    suffix: Option<String>,
}

impl Glob {
    fn new(pattern: &str) -> Self {
        let mut parts = pattern.split('*').map(str::to_owned);
        let prefix = parts.next().unwrap_or_default();
        let mut middle: Vec<String> = parts.collect();
        let suffix = middle.pop();
        Self { prefix, middle, suffix }
    }

    fn matches(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(suffix) = &self.suffix else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(suffix.as_str()) else { return false };
        for part in &self.middle {
            // The earliest place leaves the most for the parts that follow.
            let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
            rest = after;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn globs_match_by_their_literal_parts_in_order() {
        for (pattern, yes, no) in [
            ("gpt-4o-20*", "gpt-4o-2024-08-06", "gpt-4o-mini-2024"),
            ("gpt-4o-20*", "gpt-4o-20", "gpt-4o-2"),
            ("ft:*:acme:*", "ft:gpt-4o:acme:x:1", "ft:gpt-4o:acme"),
            ("*-latest", "any-latest", "latest"),
            ("a*b*b", "abb", "ab"),
            ("a*aba", "aaba", "aba"),
            ("a**c", "abc", "abd"),
        ] {
            assert!(Glob::new(pattern).matches(yes), "{pattern} should match {yes}");
            assert!(!Glob::new(pattern).matches(no), "{pattern} shouldn't match {no}");
        }
    }
}
