//! Observations in the order in which they arrived.
//!
//! Each row has the number that its writer gave it, by its clock. A row counts as arrived when its writer must have stored
//! it or given up, and clocks that differ a little are right again ([`SETTLE`]): nothing comes in behind a mark any more. Rows
//! aren't merged: one that two writers stored at once may come twice.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::super::AnalyticsError;
use super::super::arrivals::{Arrival, Arrivals, MAX_BODIES, Mark};
use super::super::query::{Filter, Subject};
use super::super::view::Node;
use super::ClickHouseObservations;
use super::rows::{BODIES, COLUMNS, Stored};
use super::sql::Sql;
use super::writer::first_arrival;

/// The one part that a mark has.
const PART: &str = "arrival";

/// Where everything ends that has arrived.
pub(super) fn mark(store: &ClickHouseObservations, now: DateTime<Utc>) -> Mark {
    let mut mark = Mark::default();
    mark.pass(PART, settled(store, now));
    mark
}

/// Its number.
pub(super) fn settled(store: &ClickHouseObservations, now: DateTime<Utc>) -> i64 {
    first_arrival(now.checked_sub_signed(store.settle).unwrap_or(now))
}

/// What is behind `after`, and not behind `to`.
pub(super) async fn arrivals(
    store: &ClickHouseObservations,
    project: ProjectId,
    filter: &Filter,
    (after, to): (Mark, Mark),
    limit: usize,
) -> Result<Arrivals, AnalyticsError> {
    let (after, to) = (after.row(PART), to.row(PART));
    if to <= after {
        let mut end = Mark::default();
        end.pass(PART, after);
        return Ok(Arrivals { rows: Vec::new(), end, more: false });
    }
    let of = |select: &str| {
        let mut sql = Sql::new(&format!("{select} FROM observations AS o WHERE o.project_id = "));
        sql.text(&project.to_string()).push(" AND o.arrival > ").integer(after);
        sql.push(" AND o.arrival <= ").integer(to).filter(filter, Subject::Observations, project);
        sql
    };
    // How far the page goes is found in narrow columns, by their bytes too.
    let mut narrow =
        of("SELECT o.arrival AS row, ifNull(length(o.input), 0) + ifNull(length(o.output), 0) AS bytes");
    narrow.push(&format!(" ORDER BY o.arrival LIMIT {limit}"));
    let found: Vec<(i64, u64)> = store.ask(narrow).await?;
    let (mut bytes, mut bound, mut is_cut) = (0, None, found.len() >= limit);
    for (row, length) in found {
        if bytes >= MAX_BODIES {
            is_cut = true;
            break;
        }
        bytes = bytes.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        bound = Some(row);
    }
    let Some(bound) = bound else {
        let mut end = Mark::default();
        end.pass(PART, to);
        return Ok(Arrivals { rows: Vec::new(), end, more: false });
    };
    let mut wide = of(&format!("SELECT {COLUMNS}, {BODIES}"));
    wide.push(" AND o.arrival <= ").integer(bound).push(" ORDER BY o.arrival");
    let stored: Vec<Stored> = store.ask(wide).await?;
    let mut rows = Vec::with_capacity(stored.len());
    for row in stored {
        let (place, steps) = (row.arrival, row.steps()?);
        let mut node = row.node()?;
        node.children = steps.into_iter().map(|step| Node::of_step(&node.summary, step)).collect();
        rows.push(Arrival { part: PART.to_owned(), row: place, node });
    }
    let mut end = Mark::default();
    end.pass(PART, if is_cut { bound } else { to });
    Ok(Arrivals { rows, end, more: is_cut })
}
