//! `ExportMetricsServiceRequest` in its binary form; numbers are those of `metrics/v1`.

use super::super::record::{Buckets, Exponential, Kind, Metric, Point};
use super::super::span::{Budget, MAX_SPAN_BYTES, reason};
use super::super::wire::{Field, Message};
use super::super::{Broken, VisitPoint};
use super::{Refusal, items, key_value, spend, text};

/// Of `DataPointFlags`: there was nothing to record.
const NO_RECORDED_VALUE: u64 = 1;

/// Hands each point over, or why it, or its whole metric, can't be decoded.
pub(in super::super) fn decode(body: &[u8], visit: &mut VisitPoint<'_>) -> Result<(), Broken> {
    items(body, &mut |origin, bytes| {
        let (head, data) = match metric(bytes) {
            Ok(found) => found,
            Err(reason) => return visit(origin, Err(reason)),
        };
        let Some(kind) = head.kind else { return visit(origin, Err(reason::NO_DATA)) };
        let mut message = Message::new(data);
        while let Some((number, field)) = message.field()? {
            if let (1, Some(bytes)) = (number, field.bytes()) {
                visit(origin, point(kind, bytes).map(|point| (&head, point)))?;
            }
        }
        Ok(())
    })
}

/// What it is, and the bytes of its data, which are well formed.
fn metric(bytes: &[u8]) -> Result<(Metric, &[u8]), Refusal> {
    if bytes.len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let (mut metric, mut data) = (Metric::default(), &[][..]);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        let kind = match number {
            1 => {
                metric.name = text(field)?;
                continue;
            }
            2 => {
                metric.description = text(field)?;
                continue;
            }
            3 => {
                metric.unit = text(field)?;
                continue;
            }
            5 => Kind::Gauge,
            7 => Kind::Sum,
            9 => Kind::Histogram,
            10 => Kind::ExponentialHistogram,
            11 => Kind::Summary,
            _ => continue,
        };
        if let Some(bytes) = field.bytes() {
            (metric.kind, data) = (Some(kind), bytes);
        }
    }
    let mut message = Message::new(data);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (2, Field::Varint(temporality)) => metric.temporality = temporality.cast_signed(),
            (3, Field::Varint(flag)) => metric.is_monotonic = flag != 0,
            _ => {}
        }
    }
    Ok((metric, data))
}

fn point(kind: Kind, bytes: &[u8]) -> Result<Point, Refusal> {
    let (mut point, mut budget) = (Point::default(), Budget::new());
    let mut exponential = Exponential::default();
    let is_empty = &mut false;
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match kind {
            Kind::Gauge | Kind::Sum => of_number(number, field, &mut point, &mut budget, is_empty)?,
            Kind::Histogram => of_histogram(number, field, &mut point, &mut budget)?,
            Kind::ExponentialHistogram => {
                of_exponential(number, field, &mut point, &mut exponential, &mut budget)?;
            }
            Kind::Summary => of_summary(number, field, &mut point, &mut budget)?,
        }
    }
    point.value = point.value.filter(|_| !*is_empty);
    point.exponential = (kind == Kind::ExponentialHistogram).then_some(exponential);
    Ok(point)
}

fn of_number(
    number: u32,
    field: Field<'_>,
    point: &mut Point,
    budget: &mut Budget,
    is_empty: &mut bool,
) -> Result<(), Refusal> {
    match (number, field) {
        (2, Field::Fixed64(time)) => point.start_ns = time,
        (3, Field::Fixed64(time)) => point.time_ns = time,
        (4, Field::Fixed64(bits)) => point.value = Some(f64::from_bits(bits)),
        (6, Field::Fixed64(bits)) => point.value = Some(bits.cast_signed() as f64),
        (7, Field::Bytes(bytes)) => key_value(bytes, &mut point.attributes, budget, 0)?,
        (8, Field::Varint(flags)) => *is_empty = flags & NO_RECORDED_VALUE != 0,
        _ => {}
    }
    Ok(())
}

fn of_histogram(
    number: u32,
    field: Field<'_>,
    point: &mut Point,
    budget: &mut Budget,
) -> Result<(), Refusal> {
    match (number, field) {
        (2, Field::Fixed64(time)) => point.start_ns = time,
        (3, Field::Fixed64(time)) => point.time_ns = time,
        (4, Field::Fixed64(count)) => point.count = count,
        (5, Field::Fixed64(bits)) => point.sum = f64::from_bits(bits),
        (6, field) => fixed(field, budget, &mut |bits| point.counts.push(bits))?,
        (7, field) => fixed(field, budget, &mut |bits| point.bounds.push(f64::from_bits(bits)))?,
        (9, Field::Bytes(bytes)) => key_value(bytes, &mut point.attributes, budget, 0)?,
        (11, Field::Fixed64(bits)) => point.min = Some(f64::from_bits(bits)),
        (12, Field::Fixed64(bits)) => point.max = Some(f64::from_bits(bits)),
        _ => {}
    }
    Ok(())
}

fn of_exponential(
    number: u32,
    field: Field<'_>,
    point: &mut Point,
    found: &mut Exponential,
    budget: &mut Budget,
) -> Result<(), Refusal> {
    match (number, field) {
        (1, Field::Bytes(bytes)) => key_value(bytes, &mut point.attributes, budget, 0)?,
        (2, Field::Fixed64(time)) => point.start_ns = time,
        (3, Field::Fixed64(time)) => point.time_ns = time,
        (4, Field::Fixed64(count)) => point.count = count,
        (5, Field::Fixed64(bits)) => point.sum = f64::from_bits(bits),
        (6, Field::Varint(scale)) => found.scale = zigzag(scale),
        (7, Field::Fixed64(count)) => found.zero_count = count,
        (8, Field::Bytes(bytes)) => found.positive = buckets(bytes, budget)?,
        (9, Field::Bytes(bytes)) => found.negative = buckets(bytes, budget)?,
        (12, Field::Fixed64(bits)) => point.min = Some(f64::from_bits(bits)),
        (13, Field::Fixed64(bits)) => point.max = Some(f64::from_bits(bits)),
        (14, Field::Fixed64(bits)) => found.zero_threshold = f64::from_bits(bits),
        _ => {}
    }
    Ok(())
}

fn buckets(bytes: &[u8], budget: &mut Budget) -> Result<Buckets, Refusal> {
    let mut buckets = Buckets::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (1, Field::Varint(offset)) => buckets.offset = zigzag(offset),
            (2, Field::Varint(count)) => {
                spend(budget)?;
                buckets.counts.push(count);
            }
            (2, Field::Bytes(packed)) => {
                let mut packed = Message::new(packed);
                while let Some(count) = packed.packed()? {
                    spend(budget)?;
                    buckets.counts.push(count);
                }
            }
            _ => {}
        }
    }
    Ok(buckets)
}

fn of_summary(number: u32, field: Field<'_>, point: &mut Point, budget: &mut Budget) -> Result<(), Refusal> {
    match (number, field) {
        (2, Field::Fixed64(time)) => point.start_ns = time,
        (3, Field::Fixed64(time)) => point.time_ns = time,
        (4, Field::Fixed64(count)) => point.count = count,
        (5, Field::Fixed64(bits)) => point.sum = f64::from_bits(bits),
        (6, Field::Bytes(bytes)) => {
            spend(budget)?;
            let mut pair = (0.0, 0.0);
            let mut message = Message::new(bytes);
            while let Some((number, field)) = message.field()? {
                match (number, field) {
                    (1, Field::Fixed64(bits)) => pair.0 = f64::from_bits(bits),
                    (2, Field::Fixed64(bits)) => pair.1 = f64::from_bits(bits),
                    _ => {}
                }
            }
            point.quantiles.push(pair);
        }
        (7, Field::Bytes(bytes)) => key_value(bytes, &mut point.attributes, budget, 0)?,
        _ => {}
    }
    Ok(())
}

/// Repeated numbers of 64 bits, packed or one by one.
fn fixed(field: Field<'_>, budget: &mut Budget, push: &mut dyn FnMut(u64)) -> Result<(), Refusal> {
    match field {
        Field::Fixed64(bits) => {
            spend(budget)?;
            push(bits);
        }
        Field::Bytes(packed) => {
            let (numbers, rest) = packed.as_chunks();
            if !rest.is_empty() {
                return Err(reason::MALFORMED);
            }
            for number in numbers {
                spend(budget)?;
                push(u64::from_le_bytes(*number));
            }
        }
        Field::Varint(_) | Field::Fixed32(_) => {}
    }
    Ok(())
}

/// `sint32`.
fn zigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
