//! The latencies of a candidate's last answers, for percentiles.

use std::time::Duration;

/// How many are kept.
const KEPT: usize = 64;
/// How many there must be for a share of them to mean something.
const ENOUGH: usize = 20;

/// The last [`KEPT`], in milliseconds.
#[derive(Debug)]
pub(super) struct Latest {
    values: [f32; KEPT],
    count: usize,
}

impl Default for Latest {
    fn default() -> Self {
        Self { values: [0.0; KEPT], count: 0 }
    }
}

impl Latest {
    pub(super) fn record(&mut self, sample: Duration) {
        if let Some(slot) = self.values.get_mut(self.count % KEPT) {
            *slot = sample.as_secs_f32() * 1e3;
        }
        // Stays above KEPT once it is full, and keeps its place in the ring.
        self.count = if self.count + 1 >= 2 * KEPT { KEPT } else { self.count + 1 };
    }

    /// What so many percent of them are at most.
    pub(super) fn percentile(&self, share: u8) -> Option<Duration> {
        let count = self.count.min(KEPT);
        if count < ENOUGH {
            return None;
        }
        let mut sorted = self.values;
        let sorted = sorted.get_mut(..count)?;
        sorted.sort_unstable_by(f32::total_cmp);
        let at = (count * usize::from(share)).div_ceil(100).clamp(1, count) - 1;
        sorted.get(at).map(|millis| Duration::from_secs_f32(millis / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_last_ones() {
        let mut latest = Latest::default();
        for ms in 1..=19 {
            latest.record(Duration::from_millis(ms));
        }
        assert_eq!(latest.percentile(50), None, "too few");
        for ms in 20..=1_000 {
            latest.record(Duration::from_millis(ms));
        }
        let at = |share| latest.percentile(share).unwrap().as_secs_f32().mul_add(1e3, 0.5) as u32;
        // 937 to 1000 are left.
        assert_eq!((at(50), at(99)), (968, 1_000));
    }
}
