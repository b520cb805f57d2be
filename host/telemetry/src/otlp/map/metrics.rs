//! From OTLP's data points to ours.
//!
//! - **Exponential histograms** become explicit ones: each of their buckets has its two bounds.
//! - **Summaries** become a point with count and sum, and one for each quantile, told apart by the attribute `quantile`, as
//!   Prometheus has it.
//! - **The same point** is the one of the same metric, series and time: sent again it is the same, and of two with other values one
//!   stays.
//! - Attributes of points are what a sender counts by, and are kept whatever the project captures, within the bounds of
//!   spans'; content has no place there, and what is known to be content isn't kept.

use brokle_core::signal::MetricPoint;
use brokle_core::tenancy::Capture;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::Settings;
use super::super::record::{Exponential, Kind, Metric, Point};
use super::super::span::{Attributes, Origin, reason};
use super::places::cut;
use super::{MAX_MESSAGE, MAX_NAME, content, credible, keep};

/// Makes points of ours (several of a summary), or tells why it can't be kept.
pub(in super::super) fn points(
    metric: &Metric,
    point: Point,
    origin: &Origin,
    settings: &Settings<'_>,
) -> Result<Vec<MetricPoint>, &'static str> {
    let kind = metric.kind.ok_or(reason::NO_DATA)?;
    if metric.name.is_empty() {
        return Err(reason::NO_NAME);
    }
    let (bounds, counts) = match &point.exponential {
        Some(exponential) => explicit(exponential),
        None => (point.bounds, point.counts),
    };
    if !counts.is_empty() && counts.len() != bounds.len() + 1 {
        return Err(reason::BUCKETS);
    }
    let finite = |value: &f64| value.is_finite();
    let name = cut(&metric.name, MAX_NAME).to_owned();
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Sum => "sum",
        Kind::Histogram | Kind::ExponentialHistogram => "histogram",
        Kind::Summary => "summary",
    };
    let base = MetricPoint {
        tenant: settings.tenant,
        description: cut(&metric.description, MAX_MESSAGE).to_owned(),
        unit: cut(&metric.unit, MAX_NAME).to_owned(),
        kind: kind.to_owned(),
        temporality: match metric.temporality {
            1 => "delta".to_owned(),
            2 => "cumulative".to_owned(),
            _ => String::new(),
        },
        is_monotonic: metric.is_monotonic,
        series: series(&name, kind, &point.attributes, origin),
        start_us: credible(point.start_ns, settings.now_us).unwrap_or_default(),
        time_us: credible(point.time_ns, settings.now_us).unwrap_or(settings.now_us),
        value: point.value.filter(finite),
        count: point.count,
        sum: if point.sum.is_finite() { point.sum } else { 0.0 },
        min: point.min.filter(finite),
        max: point.max.filter(finite),
        bucket_bounds: bounds,
        bucket_counts: counts,
        attributes: kept(point.attributes.clone()),
        resource: kept(origin.resource.clone()),
        scope: cut(&origin.scope_name, MAX_NAME).to_owned(),
        name,
    };
    let of_quantile = |(quantile, value): &(f64, f64)| {
        let mut attributes = point.attributes.clone();
        attributes.insert("quantile".to_owned(), Value::String(quantile.to_string()));
        MetricPoint {
            series: series(&base.name, kind, &attributes, origin),
            value: Some(*value).filter(finite),
            count: 0,
            sum: 0.0,
            attributes: kept(attributes),
            ..base.clone()
        }
    };
    let mut points: Vec<_> = point.quantiles.iter().map(of_quantile).collect();
    points.push(base);
    Ok(points)
}

fn kept(mut attributes: Attributes) -> Attributes {
    attributes.retain(|name, _| !content::is_content(name));
    keep::plain(attributes, Capture::Full, 0)
}

/// Never negative, since not every database has unsigned numbers.
fn series(name: &str, kind: &str, attributes: &Attributes, origin: &Origin) -> i64 {
    // Values of these types are always JSON, members in their names' order.
    let what = serde_json::to_vec(&(name, kind, attributes, &origin.resource, &origin.scope_name));
    let hash: [u8; 32] = Sha256::digest(what.unwrap_or_default()).into();
    hash.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes) & i64::MAX)
}

/// Bounds and counts of the same buckets, from the least to the largest.
fn explicit(histogram: &Exponential) -> (Vec<f64>, Vec<u64>) {
    let base = 2_f64.powf(2_f64.powi(-histogram.scale.clamp(-20, 20)));
    let bound = |offset: i32, at: usize| {
        base.powf(f64::from(offset) + f64::from(u32::try_from(at).unwrap_or(u32::MAX)))
    };
    // Where each bucket begins, and what it counts; it ends where the next one begins.
    let mut buckets = Vec::new();
    let (negative, positive) = (&histogram.negative, &histogram.positive);
    for (at, count) in negative.counts.iter().enumerate().rev() {
        buckets.push((-bound(negative.offset, at + 1), *count));
    }
    let threshold = histogram.zero_threshold.abs();
    let has_negative = !negative.counts.is_empty();
    if has_negative || histogram.zero_count > 0 {
        buckets
            .push((if has_negative { -bound(negative.offset, 0) } else { -threshold }, histogram.zero_count));
    }
    for (at, count) in positive.counts.iter().enumerate() {
        buckets.push((bound(positive.offset, at), *count));
    }
    if buckets.is_empty() {
        return Default::default();
    }
    let end =
        if positive.counts.is_empty() { threshold } else { bound(positive.offset, positive.counts.len()) };
    buckets.push((end, 0));
    let mut last = f64::MIN;
    let bounds = buckets.iter().map(|(begin, _)| {
        last = begin.clamp(last, f64::MAX);
        last
    });
    // Nothing is below the first.
    (bounds.collect(), std::iter::once(0).chain(buckets.iter().map(|(_, count)| *count)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Buckets;
    use super::*;

    #[test]
    fn exponential_buckets_keep_their_bounds() {
        let buckets = |offset, counts: &[u64]| Buckets { offset, counts: counts.to_vec() };
        let (bounds, counts) = explicit(&Exponential {
            scale: 0,
            zero_count: 7,
            zero_threshold: 0.0,
            positive: buckets(0, &[1, 2]),
            negative: buckets(1, &[3, 4]),
        });
        assert_eq!(bounds, [-8.0, -4.0, -2.0, 1.0, 2.0, 4.0]);
        assert_eq!(counts, [0, 4, 3, 7, 1, 2, 0]);
        let (bounds, counts) =
            explicit(&Exponential { scale: 1, positive: buckets(2, &[5]), ..Exponential::default() });
        assert!((bounds[0] - 2.0).abs() < 1e-9 && (bounds[1] - 8_f64.sqrt()).abs() < 1e-9);
        assert_eq!(counts, [0, 5, 0]);
        assert_eq!(explicit(&Exponential::default()), (Vec::new(), Vec::new()));
        // Bounds that no number has are the largest that one has.
        let (bounds, _) =
            explicit(&Exponential { scale: -20, positive: buckets(9, &[1]), ..Exponential::default() });
        assert!(bounds.iter().all(|bound| bound.is_finite()));
    }
}
