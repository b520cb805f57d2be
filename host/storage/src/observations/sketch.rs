//! How values are spread, in little room: a percentile of any number of them is off by [`ERROR`] at most.
//!
//! DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB
//! 2019): a value counts in the bin of its logarithm. Sketches of parts add up to the sketch of the whole, exactly, which is
//! what rollups need. There are 2,225 bins up to an hour of microseconds; answers of one to thirty seconds use 340 of them.
//!
//! Every commit reads, merges and writes some: bins are in order in one piece of memory, and all three go through it once.

/// The relative error of a percentile.
pub(crate) const ERROR: f64 = 0.005;
/// Each bin's upper bound is so many times the one before.
const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// Counts of whole numbers by their size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch {
    /// By the bin's number, in its order: 0 for zero, `n` for `γ^(n-2) < value ≤ γ^(n-1)`.
    bins: Vec<(u16, u64)>,
    count: u64,
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        let bin = bin(value);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => {
                if let Some((_, count)) = self.bins.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.bins.insert(at, (bin, 1)),
        }
        self.count = self.count.saturating_add(1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let mut merged = Self { bins: Vec::with_capacity(self.bins.len() + other.bins.len()), count: 0 };
        let (mut ours, mut theirs) = (self.bins.iter().peekable(), other.bins.iter().peekable());
        while let Some((bin, count)) = match (ours.peek(), theirs.peek()) {
            (Some((our, _)), Some((their, _))) if their < our => theirs.next(),
            (None, _) => theirs.next(),
            _ => ours.next(),
        } {
            merged.push(*bin, *count);
        }
        *self = merged;
    }

    /// Counts in the last bin, or in one behind it.
    fn push(&mut self, bin: u16, count: u64) {
        match self.bins.last_mut() {
            Some((last, of_bin)) if *last == bin => *of_bin = of_bin.saturating_add(count),
            _ => self.bins.push((bin, count)),
        }
        self.count = self.count.saturating_add(count);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value at `rank` (0 to 1) of all in order, between the two nearest.
    pub(crate) fn percentile(&self, rank: f64) -> Option<f64> {
        let place = rank * self.count.checked_sub(1)? as f64;
        let (below, above) = (self.at(place.floor() as u64)?, self.at(place.ceil() as u64)?);
        Some(below + (above - below) * place.fract())
    }

    /// The value at this place, the smallest at 0.
    fn at(&self, place: u64) -> Option<f64> {
        let mut before = 0_u64;
        let found = self.bins.iter().find(|(_, count)| {
            before = before.saturating_add(*count);
            before > place
        });
        found.map(|(bin, _)| value(*bin))
    }

    /// Pairs of varints (LEB128): how far a bin is from the one before, and its count.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (mut out, mut before) = (Vec::with_capacity(self.bins.len() * 3), 0);
        for (bin, count) in &self.bins {
            varint(&mut out, u64::from(bin - before));
            varint(&mut out, *count);
            before = *bin;
        }
        out
    }

    /// None for bytes that no sketch wrote.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (mut sketch, mut bin) = (Self::default(), 0_u16);
        while !bytes.is_empty() {
            let (more, rest) = unvarint(bytes)?;
            let (count, rest) = unvarint(rest)?;
            bin = bin.checked_add(u16::try_from(more).ok()?)?;
            sketch.push(bin, count);
            bytes = rest;
        }
        Some(sketch)
    }
}

/// The bin of a value: 4,437 at most, for 2^64.
fn bin(value: u64) -> u16 {
    match value {
        0 => 0,
        value => ((value as f64).ln() / GAMMA.ln()).ceil() as u16 + 1,
    }
}

/// What stands for a bin's values: as far from its lower bound as from its upper one, relatively.
fn value(bin: u16) -> f64 {
    match bin {
        0 => 0.0,
        bin => 2.0 * GAMMA.powi(i32::from(bin) - 1) / (GAMMA + 1.0),
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn unvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(values: &mut [u64], rank: f64) -> f64 {
        values.sort_unstable();
        let place = rank * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize] as f64, values[place.ceil() as usize] as f64);
        below + (above - below) * place.fract()
    }

    proptest! {
        #[test]
        fn percentiles_are_off_by_the_error_at_most(
            mut values in prop::collection::vec(prop_oneof![0..3_u64, 0..5_000_000_000_u64, any::<u64>()], 1..300),
            rank in 0.0..=1.0,
        ) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(*value));
            let (found, wanted) = (sketch.percentile(rank).unwrap(), exact(&mut values, rank));
            prop_assert!((found - wanted).abs() <= wanted * ERROR * 1.000_001, "{found} {wanted}");
        }

        #[test]
        fn parts_add_up_to_the_whole(values in prop::collection::vec(any::<u64>(), 0..100), at in 0..100_usize) {
            let of = |values: &[u64]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|value| sketch.add(*value));
                sketch
            };
            let (one, other) = values.split_at(at.min(values.len()));
            let mut both = of(one);
            both.merge(&of(other));
            prop_assert_eq!(&both, &of(&values));
            prop_assert_eq!(Sketch::from_bytes(&both.to_bytes()), Some(both));
        }

        #[test]
        fn bytes_that_no_sketch_wrote_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Sketch::from_bytes(&bytes);
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Sketch::default().percentile(0.5), None);
        assert!(Sketch::default().is_empty());
    }
}
