//! Answers from the hourly sums.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::super::super::super::query::metrics::summed::{EXACT, asks_for_percentiles};
use super::super::super::super::query::metrics::{Dimension, MetricsQuery};
use super::super::super::super::{AnalyticsError, Rollup};
use super::super::super::reader::Readers;
use super::super::super::rollups::{self, Hour};
use super::{Cells, begin};

/// The hours that answer a question; none when one of them doesn't know what is asked, or the rows are few enough to be exact.
pub(super) fn hours(
    readers: &Readers,
    project: ProjectId,
    query: &MetricsQuery,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Vec<Hour>>, AnalyticsError> {
    let hours = rollups::read(readers, project, from.timestamp_micros(), to.timestamp_micros())?;
    if asks_for_percentiles(query) {
        let rows: u64 = hours.iter().map(|hour| hour.rollup.sums.count).sum();
        if rows <= EXACT || hours.iter().any(|hour| hour.spread.is_none()) {
            return Ok(None);
        }
    }
    Ok(Some(hours))
}

impl Cells {
    pub(super) fn add_hours(&mut self, query: &MetricsQuery, hours: &[Hour]) -> Result<(), AnalyticsError> {
        for Hour { rollup: hour, spread } in hours {
            let place = query.dimensions.iter().map(|dimension| {
                let text = dimension_of(*dimension, hour);
                self.names.number(Some(text.as_str()).filter(|text| !text.is_empty()))
            });
            let place = place.collect();
            let bucket = begin(query.bucket, hour.key.hour.timestamp_micros());
            self.cell((bucket, place))?.add_rollup(hour, spread.as_ref());
        }
        Ok(())
    }
}

fn dimension_of(dimension: Dimension, hour: &Rollup) -> String {
    match dimension {
        Dimension::Provider => hour.key.provider.clone(),
        Dimension::Environment => hour.key.environment_id.to_string(),
        Dimension::Type => hour.key.kind.to_string(),
        _ => hour.key.model.clone(),
    }
}
