//! The cells, found by rule and subject.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;

use super::cell::Cell;

/// Maps that are locked apart, so that a new subject holds up few others.
const SHARDS: usize = 16;

/// A subject's 128 bits, by two hashes whose keys nobody knows: no two names that somebody sends are the same one.
type Name = (u64, u64);

/// The cells of many subjects.
#[derive(Debug)]
pub(super) struct Table {
    shards: [RwLock<HashMap<Name, Arc<Cell>>>; SHARDS],
    hashes: (RandomState, RandomState),
    kept_in_shard: usize,
}

impl Table {
    /// A table that keeps about this many cells.
    pub(super) fn new(kept: usize) -> Self {
        Self {
            shards: Default::default(),
            hashes: (RandomState::new(), RandomState::new()),
            kept_in_shard: kept.div_ceil(SHARDS),
        }
    }

    /// The subject's cell. When there is no room for another one, the one that the rule's newcomers share.
    pub(super) fn cell<S: Hash + ?Sized>(&self, rule: usize, subject: &S, now: u64) -> Arc<Cell> {
        let name = self.name(&(rule, false, subject));
        let shard = self.shard(name);
        if let Some(cell) = shard.read().get(&name) {
            return Arc::clone(cell);
        }
        {
            let mut cells = shard.write();
            if cells.len() >= self.kept_in_shard {
                // One that somebody is just taking from isn't idle: he holds it.
                cells.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_idle(now));
            }
            if cells.len() < self.kept_in_shard {
                return Arc::clone(cells.entry(name).or_default());
            }
        }
        let name = self.name(&(rule, true, ""));
        Arc::clone(self.shard(name).write().entry(name).or_default())
    }

    fn name<T: Hash>(&self, value: &T) -> Name {
        (self.hashes.0.hash_one(value), self.hashes.1.hash_one(value))
    }

    fn shard(&self, name: Name) -> &RwLock<HashMap<Name, Arc<Cell>>> {
        let [first, ..] = &self.shards;
        let index = usize::try_from(name.0 % SHARDS as u64).unwrap_or_default();
        self.shards.get(index).unwrap_or(first)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}
