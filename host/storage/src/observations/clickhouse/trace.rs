//! A trace's query.

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;

use super::super::view::Node;
use super::super::{AnalyticsError, MAX_TRACE_ROWS, Trace, tree};
use super::ClickHouseObservations;
use super::rows::{BODIES, COLUMNS, Stored};
use super::sql::Sql;

/// Where it is to be looked for is told by `traces`, so that few granules are read; of those the wide columns only where the trace
/// is (`PREWHERE`). Of rows with one key the first to arrive counts, as it does when they are merged.
pub(super) async fn trace(
    store: &ClickHouseObservations,
    project: ProjectId,
    trace_id: TraceId,
) -> Result<Option<Trace>, AnalyticsError> {
    let (project, trace) = (project.to_string(), trace_id.to_string());
    let mut sql =
        Sql::new("WITH (SELECT (min(first_start), max(last_start)) FROM traces WHERE project_id = ");
    sql.text(&project).push(" AND trace_id = ").text(&trace).push(") AS stretch");
    sql.push(&format!(" SELECT {COLUMNS}, {BODIES} FROM observations AS o PREWHERE o.project_id = "));
    sql.text(&project).push(" AND o.trace_id = ").text(&trace);
    sql.push(" AND o.start_time >= stretch.1 AND o.start_time <= stretch.2");
    sql.push(&format!(
        " ORDER BY o.start_time, o.arrival LIMIT 1 BY o.start_time, o.span_id LIMIT {}",
        MAX_TRACE_ROWS + 1
    ));
    let mut rows: Vec<Stored> = store.ask(sql).await?;

    let truncated = rows.len() > MAX_TRACE_ROWS as usize;
    rows.truncate(MAX_TRACE_ROWS as usize);
    let mut nodes = Vec::with_capacity(rows.len());
    for row in rows {
        let steps = row.steps()?;
        let node = row.node()?;
        nodes.extend(steps.into_iter().map(|step| Node::of_step(&node.summary, step)));
        nodes.push(node);
    }
    let trace = Trace { trace_id, observations: tree::build(nodes), truncated };
    Ok((!trace.observations.is_empty()).then_some(trace))
}
