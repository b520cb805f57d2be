//! A trace's query.

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use rusqlite::{Connection, params};

use super::super::view::Node;
use super::super::{AnalyticsError, MAX_TRACE_ROWS, Trace, tree};
use super::reader::Readers;
use super::{body, columns};

/// Asks every month's unique index, since a trace says nothing about its time and may reach over a month's end.
pub(super) fn trace(
    readers: &Readers,
    project: ProjectId,
    trace_id: TraceId,
) -> Result<Option<Trace>, AnalyticsError> {
    let (mut nodes, mut rows, mut truncated) = (Vec::new(), 0, false);
    for month in readers.months(None, None)?.rev() {
        let left = MAX_TRACE_ROWS - rows;
        let found =
            readers.with(month, |connection| read(connection, project, trace_id, left, &mut nodes))?;
        let found = found.unwrap_or_default();
        truncated |= found > left;
        rows = MAX_TRACE_ROWS.min(rows + found);
    }
    Ok((rows > 0).then(|| Trace { trace_id, observations: tree::build(nodes), truncated }))
}

/// Adds at most `limit` rows and their steps. The number of rows that there are; `limit + 1` means that or more.
fn read(
    connection: &Connection,
    project: ProjectId,
    trace_id: TraceId,
    limit: u32,
    nodes: &mut Vec<Node>,
) -> Result<u32, AnalyticsError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {}, (SELECT input FROM bodies WHERE bodies.rid = observations.rid),
         (SELECT output FROM bodies WHERE bodies.rid = observations.rid)
         FROM observations WHERE project = ?1 AND trace_id = ?2 LIMIT ?3",
        columns::SUMMARY
    ))?;
    let width = statement.column_count();
    let mut rows =
        statement.query(params![project.as_u128().to_be_bytes(), trace_id.as_bytes(), limit + 1])?;
    let mut found = 0;
    while let Some(row) = rows.next()? {
        found += 1;
        if found > limit {
            break;
        }
        let summary = columns::summary(row)?;
        nodes.extend(columns::steps(row)?.into_iter().map(|step| Node::of_step(&summary, step)));
        let (input, output) = (body::show(row.get_ref(width - 2)?)?, body::show(row.get_ref(width - 1)?)?);
        nodes.push(Node { summary, input, output, children: Vec::new() });
    }
    Ok(found)
}
