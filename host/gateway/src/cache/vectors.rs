//! What answered questions mean, and which of them is nearest.
//!
//! [`InMemory`] looks at every vector of a space: exact, and for as many as one server keeps quick enough (ADR 8 has the
//! figures). The oldest go first when there are too many, by number or by bytes. [`OnDisk`] is the same, and remembers over a
//! restart; [`InClickHouse`] is shared by servers.

mod behind;
mod clickhouse;
mod disk;

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use parking_lot::RwLock;

pub use self::clickhouse::InClickHouse;
pub use self::disk::OnDisk;
use super::Key;
use super::store::Answer;

/// A direction: its length is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(Arc<[f32]>);

impl Vector {
    /// The most dimensions.
    pub const MAX_DIMENSIONS: usize = 4_096;

    /// The direction of an embedding; none if it has none, isn't finite, or is too large.
    #[must_use]
    pub fn of(embedding: &[f32]) -> Option<Self> {
        let length = embedding.iter().map(|one| f64::from(*one).powi(2)).sum::<f64>().sqrt();
        let is_one = length.is_finite() && length > 0.0 && embedding.len() <= Self::MAX_DIMENSIONS;
        is_one.then(|| Self(embedding.iter().map(|one| (f64::from(*one) / length) as f32).collect()))
    }

    /// The cosine of the angle between the two, -1 to 1; none if they have different dimensions.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> Option<f32> {
        // In lanes, since the compiler may not reorder a sum of floats: eight sums of their own fill its registers.
        let mut lanes = [0.0_f32; 8];
        let (a, a_rest) = self.0.as_chunks::<8>();
        let (b, b_rest) = other.0.as_chunks::<8>();
        for (a, b) in a.iter().zip(b) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += a * b;
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        (self.0.len() == other.0.len()).then(|| lanes.iter().sum::<f32>() + rest)
    }

    /// One that was written down.
    fn written(numbers: Vec<f32>) -> Option<Self> {
        let is_one = !numbers.is_empty() && numbers.len() <= Self::MAX_DIMENSIONS;
        (is_one && numbers.iter().all(|number| number.is_finite())).then(|| Self(numbers.into()))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<f32>() + size_of::<Item>() + 64
    }
}

/// Where a vector is: whose, among which, and the answer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub project: ProjectId,
    /// Everything but the question's text.
    pub space: Key,
    /// The answer's.
    pub key: Key,
}

/// A store of vectors. One that can't be asked knows nothing: a cache may forget.
pub trait Vectors: Send + Sync + Debug {
    /// Keeps what a question means, until then, without waiting.
    fn put(&self, place: Place, vector: Vector, until: DateTime<Utc>);
    /// The nearest of the project's space that isn't over, and how near: 1 is the same.
    fn nearest<'a>(
        &'a self,
        project: ProjectId,
        space: Key,
        vector: &'a Vector,
        now: DateTime<Utc>,
    ) -> Answer<'a, Option<(Key, f32)>>;
    /// Forgets what led to these answers of the project's, without waiting.
    fn remove(&self, project: ProjectId, keys: &[Key]);
    /// How many there are of these answers of the project's.
    fn count<'a>(&'a self, project: ProjectId, keys: &'a [Key], now: DateTime<Utc>) -> Answer<'a, u64>;
    /// Writes what is to be written elsewhere, until the end; for the server to run once.
    fn run<'a>(&'a self, _end: Answer<'a, ()>) -> Answer<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// In this server's memory.
#[derive(Debug)]
pub struct InMemory {
    max_entries: usize,
    max_bytes: usize,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spaces: HashMap<Key, Vec<Item>>,
    /// Which space an answer's is in.
    places: HashMap<Key, Key>,
    /// The oldest first; one that was removed since, or kept anew, may be there still.
    order: VecDeque<(Key, u64)>,
    bytes: usize,
    /// Counts what is kept up.
    count: u64,
}

#[derive(Debug)]
struct Item {
    key: Key,
    number: u64,
    until: DateTime<Utc>,
    vector: Vector,
}

impl InMemory {
    /// A store of so many vectors and bytes.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { max_entries, max_bytes, kept: RwLock::default() }
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        let Some(space) = self.places.remove(key) else { return };
        let Some(items) = self.spaces.get_mut(&space) else { return };
        if let Some(at) = items.iter().position(|item| item.key == *key) {
            self.bytes -= items.swap_remove(at).vector.bytes();
        }
        if items.is_empty() {
            self.spaces.remove(&space);
        }
    }

    fn number(&self, key: &Key) -> Option<u64> {
        let items = self.spaces.get(self.places.get(key)?)?;
        items.iter().find(|item| item.key == *key).map(|item| item.number)
    }

    /// What was removed leaves its place in the order; when that is most of it, they are taken out.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.places.len() + 64 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(key, number)| self.number(key) == Some(*number));
            self.order = order;
        }
    }
}

impl Vectors for InMemory {
    fn put(&self, Place { space, key, .. }: Place, vector: Vector, until: DateTime<Utc>) {
        let size = vector.bytes();
        if size > self.max_bytes || self.max_entries == 0 {
            return;
        }
        let mut kept = self.kept.write();
        kept.remove(&key);
        while kept.places.len() >= self.max_entries || kept.bytes + size > self.max_bytes {
            let Some((oldest, number)) = kept.order.pop_front() else { break };
            if kept.number(&oldest) == Some(number) {
                kept.remove(&oldest);
            }
        }
        kept.count += 1;
        let number = kept.count;
        kept.bytes += size;
        kept.places.insert(key, space);
        kept.order.push_back((key, number));
        kept.spaces.entry(space).or_default().push(Item { key, number, until, vector });
        kept.tidy();
    }

    fn nearest<'a>(
        &'a self,
        // Spaces are hashes of it, too.
        _project: ProjectId,
        space: Key,
        vector: &'a Vector,
        now: DateTime<Utc>,
    ) -> Answer<'a, Option<(Key, f32)>> {
        Box::pin(async move {
            let kept = self.kept.read();
            let items = kept.spaces.get(&space).into_iter().flatten().filter(|item| item.until > now);
            let near = items.filter_map(|item| Some((item.key, item.vector.similarity(vector)?)));
            near.max_by(|(_, a), (_, b)| a.total_cmp(b))
        })
    }

    fn remove(&self, _project: ProjectId, keys: &[Key]) {
        let mut kept = self.kept.write();
        keys.iter().for_each(|key| kept.remove(key));
    }

    fn count<'a>(&'a self, _project: ProjectId, keys: &'a [Key], _now: DateTime<Utc>) -> Answer<'a, u64> {
        Box::pin(async move {
            let kept = self.kept.read();
            keys.iter().filter(|key| kept.places.contains_key(key)).count() as u64
        })
    }
}

#[cfg(test)]
mod tests;
