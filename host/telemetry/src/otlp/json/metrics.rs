//! `ExportMetricsServiceRequest` as JSON.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::record::{Buckets, Exponential, Kind, Metric, Point};
use super::super::span::{Budget, MAX_SPAN_BYTES, reason};
use super::super::{Broken, VisitPoint};
use super::{Loose, Raw, Refusal, attributes, each, elements, items, optional, parse, spend};

const TEMPORALITIES: [&str; 3] = [
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonMetric<'a> {
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    description: Loose<'a>,
    #[serde(borrow)]
    unit: Loose<'a>,
    #[serde(borrow)]
    gauge: Raw<'a>,
    #[serde(borrow)]
    sum: Raw<'a>,
    #[serde(borrow)]
    histogram: Raw<'a>,
    #[serde(borrow)]
    exponential_histogram: Raw<'a>,
    #[serde(borrow)]
    summary: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonData<'a> {
    #[serde(borrow)]
    data_points: Raw<'a>,
    #[serde(borrow)]
    aggregation_temporality: Loose<'a>,
    #[serde(borrow)]
    is_monotonic: Loose<'a>,
}

/// The members of all kinds of points.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPoint<'a> {
    #[serde(borrow)]
    start_time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
    #[serde(borrow)]
    flags: Loose<'a>,
    #[serde(borrow)]
    as_double: Loose<'a>,
    #[serde(borrow)]
    as_int: Loose<'a>,
    #[serde(borrow)]
    count: Loose<'a>,
    #[serde(borrow)]
    sum: Loose<'a>,
    #[serde(borrow)]
    min: Loose<'a>,
    #[serde(borrow)]
    max: Loose<'a>,
    #[serde(borrow)]
    bucket_counts: Raw<'a>,
    #[serde(borrow)]
    explicit_bounds: Raw<'a>,
    #[serde(borrow)]
    scale: Loose<'a>,
    #[serde(borrow)]
    zero_count: Loose<'a>,
    #[serde(borrow)]
    zero_threshold: Loose<'a>,
    #[serde(borrow)]
    positive: Raw<'a>,
    #[serde(borrow)]
    negative: Raw<'a>,
    #[serde(borrow)]
    quantile_values: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonBuckets<'a> {
    #[serde(borrow)]
    offset: Loose<'a>,
    #[serde(borrow)]
    bucket_counts: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonQuantile<'a> {
    #[serde(borrow)]
    quantile: Loose<'a>,
    #[serde(borrow)]
    value: Loose<'a>,
}

/// Hands each point over, or why it, or its whole metric, can't be decoded.
pub(in super::super) fn decode(body: &[u8], visit: &mut VisitPoint<'_>) -> Result<(), Broken> {
    items(body, ["resourceMetrics", "scopeMetrics", "metrics"], &mut |origin, raw| {
        let (head, points) = match metric(raw) {
            Ok(found) => found,
            Err(reason) => return visit(origin, Err(reason)),
        };
        let Some(kind) = head.kind else { return visit(origin, Err(reason::NO_DATA)) };
        let mut outcome = Ok(());
        let read = each(points, &mut |raw| {
            outcome = visit(origin, point(kind, raw).map(|point| (&head, point)));
            if outcome.is_ok() { Ok(()) } else { Err(()) }
        });
        // What is no list is the metric's own affair.
        if read.is_err() { visit(origin, Err(reason::MALFORMED)) } else { outcome }
    })
}

fn metric(raw: &RawValue) -> Result<(Metric, Raw<'_>), Refusal> {
    if raw.get().len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let json: JsonMetric<'_> = parse(raw)?;
    let kinds = [
        (Kind::Gauge, json.gauge),
        (Kind::Sum, json.sum),
        (Kind::Histogram, json.histogram),
        (Kind::ExponentialHistogram, json.exponential_histogram),
        (Kind::Summary, json.summary),
    ];
    let found = kinds.into_iter().find_map(|(kind, data)| Some((kind, data?)));
    let data: JsonData<'_> = optional(found.map(|(_, data)| data))?;
    let metric = Metric {
        name: json.name.text(),
        description: json.description.text(),
        unit: json.unit.text(),
        kind: found.map(|(kind, _)| kind),
        temporality: data.aggregation_temporality.name_of(&TEMPORALITIES),
        is_monotonic: data.is_monotonic == Loose::Flag(true),
    };
    Ok((metric, data.data_points))
}

fn point(kind: Kind, raw: &RawValue) -> Result<Point, Refusal> {
    let json: JsonPoint<'_> = parse(raw)?;
    let mut budget = Budget::new();
    let value = json.as_int.float().or_else(|| json.as_double.float());
    let mut point = Point {
        start_ns: json.start_time_unix_nano.number(),
        time_ns: json.time_unix_nano.number(),
        attributes: attributes(json.attributes, &mut budget, 0)?,
        value: value.filter(|_| json.flags.number() & 1 == 0),
        count: json.count.number(),
        sum: json.sum.float().unwrap_or_default(),
        min: json.min.float(),
        max: json.max.float(),
        ..Point::default()
    };
    elements(json.bucket_counts, &mut |raw| {
        spend(&mut budget)?;
        point.counts.push(scalar(raw)?.number());
        Ok(())
    })?;
    elements(json.explicit_bounds, &mut |raw| {
        spend(&mut budget)?;
        point.bounds.push(scalar(raw)?.float().ok_or(reason::MALFORMED)?);
        Ok(())
    })?;
    elements(json.quantile_values, &mut |raw| {
        spend(&mut budget)?;
        let pair: JsonQuantile<'_> = parse(raw)?;
        point
            .quantiles
            .push((pair.quantile.float().unwrap_or_default(), pair.value.float().unwrap_or_default()));
        Ok(())
    })?;
    if kind == Kind::ExponentialHistogram {
        point.exponential = Some(Exponential {
            scale: small(&json.scale)?,
            zero_count: json.zero_count.number(),
            zero_threshold: json.zero_threshold.float().unwrap_or_default(),
            positive: buckets(json.positive, &mut budget)?,
            negative: buckets(json.negative, &mut budget)?,
        });
    }
    Ok(point)
}

fn buckets(raw: Raw<'_>, budget: &mut Budget) -> Result<Buckets, Refusal> {
    let json: JsonBuckets<'_> = optional(raw)?;
    let mut buckets = Buckets { offset: small(&json.offset)?, counts: Vec::new() };
    elements(json.bucket_counts, &mut |raw| {
        spend(budget)?;
        buckets.counts.push(scalar(raw)?.number());
        Ok(())
    })?;
    Ok(buckets)
}

fn scalar(raw: &RawValue) -> Result<Loose<'_>, Refusal> {
    serde_json::from_str(raw.get()).map_err(|_| reason::MALFORMED)
}

fn small(number: &Loose<'_>) -> Result<i32, Refusal> {
    i32::try_from(number.integer().unwrap_or_default()).map_err(|_| reason::MALFORMED)
}
