//! What answered questions mean, and which of them is nearest.
//!
//! [`InMemory`] looks at every vector of a space: exact, and for as many as one server keeps quick enough (ADR 8 has the
//! figures). The oldest go first when there are too many, by number or by bytes.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::RwLock;

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

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<f32>() + size_of::<Item>() + 64
    }
}

/// A store of vectors. One that can't be asked knows nothing: a cache may forget.
pub trait Vectors: Send + Sync + Debug {
    /// Keeps what a question of this space means, until then. `key` is its answer's.
    fn put(&self, space: Key, key: Key, vector: Vector, until: DateTime<Utc>);
    /// The nearest of the space that isn't over, and how near: 1 is the same.
    fn nearest<'a>(
        &'a self,
        space: Key,
        vector: &'a Vector,
        now: DateTime<Utc>,
    ) -> Answer<'a, Option<(Key, f32)>>;
    /// Forgets what led to an answer.
    fn remove(&self, key: &Key);
    /// How many there are of these answers.
    fn count(&self, keys: &[Key]) -> u64;
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
    fn put(&self, space: Key, key: Key, vector: Vector, until: DateTime<Utc>) {
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

    fn remove(&self, key: &Key) {
        self.kept.write().remove(key);
    }

    fn count(&self, keys: &[Key]) -> u64 {
        let kept = self.kept.read();
        keys.iter().filter(|key| kept.places.contains_key(key)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::{Clock, SystemClock};
    use brokle_core::random::{Random, SeededRandom};
    use chrono::TimeDelta;

    use super::*;

    fn key(number: u32) -> Key {
        format!("{number:064x}").parse().unwrap()
    }

    fn vector(numbers: &[f32]) -> Vector {
        Vector::of(numbers).unwrap()
    }

    async fn nearest(store: &InMemory, space: u32, numbers: &[f32]) -> Option<(Key, f32)> {
        store.nearest(key(space), &vector(numbers), SystemClock.now()).await
    }

    #[tokio::test]
    async fn the_nearest_of_the_space_is_found_and_no_other() {
        let (store, later) = (InMemory::new(100, 1 << 20), SystemClock.now() + TimeDelta::hours(1));
        store.put(key(1), key(11), vector(&[1.0, 0.0]), later);
        store.put(key(1), key(12), vector(&[3.0, 3.0]), later);
        store.put(key(2), key(21), vector(&[0.0, 1.0]), later);
        store.put(key(1), key(13), vector(&[0.0, 1.0, 0.0]), later);
        store.put(key(1), key(14), vector(&[0.0, 1.0]), SystemClock.now() - TimeDelta::seconds(1));
        let (found, score) = nearest(&store, 1, &[0.2, 1.0]).await.unwrap();
        assert_eq!(
            found,
            key(12),
            "neither another space's, nor one that is over, nor one of other dimensions"
        );
        assert!((score - 0.832).abs() < 1e-3, "{score}");
        assert_eq!(nearest(&store, 3, &[1.0, 0.0]).await, None);
        store.remove(&key(12));
        assert_eq!(nearest(&store, 1, &[0.2, 1.0]).await.unwrap().0, key(11));
        assert_eq!(store.count(&[key(11), key(12), key(21)]), 2);
        for odd in [&[0.0, 0.0][..], &[f32::NAN], &[f32::INFINITY], &[], &[1.0; 4_097]] {
            assert_eq!(Vector::of(odd), None);
        }
    }

    #[test]
    fn similarity_is_the_cosine_whatever_the_dimensions() {
        let random = SeededRandom::new(7);
        let mut bytes = [0; 2 * 37];
        random.fill(&mut bytes);
        let numbers: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) - 127.5).collect();
        for size in [1, 7, 8, 9, 37] {
            let (a, b) = (&numbers[..size], &numbers[37..37 + size]);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let cosine = dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt());
            let found = vector(a).similarity(&vector(b)).unwrap();
            assert!((f64::from(found) - cosine).abs() < 1e-5, "{found} {cosine}");
        }
    }

    #[tokio::test]
    async fn the_oldest_go_and_nothing_grows() {
        let later = SystemClock.now() + TimeDelta::hours(1);
        let one = vector(&[1.0; 16]).bytes();
        for store in [InMemory::new(3, 1 << 20), InMemory::new(100, 3 * one)] {
            for number in 0..4 {
                // Kept anew, it isn't the oldest any more.
                store.put(key(1), key(0), vector(&[1.0; 16]), later);
                store.put(key(1), key(number), vector(&[1.0; 16]), later);
            }
            let there: Vec<u64> = (0..4).map(|number| store.count(&[key(number)])).collect();
            assert_eq!(there, [1, 0, 1, 1]);
            for round in 0..1_000 {
                store.put(key(round), key(7), vector(&[1.0; 16]), later);
                store.remove(&key(7));
            }
            let kept = store.kept.read();
            assert!(kept.order.len() < 200 && kept.bytes <= 3 * one && kept.spaces.len() == 1, "{kept:?}");
        }
        let tiny = InMemory::new(10, 8);
        tiny.put(key(1), key(1), vector(&[1.0; 16]), later);
        assert_eq!(tiny.count(&[key(1)]), 0);
    }
}
