//! Observations in the order in which they arrived.
//!
//! Within a month's file rows are numbered as they are committed, by one writer. A number is given once: the file remembers
//! the last one when retention deletes rows. A part is a file, by its month and a number that it gets by chance when it is made:
//! one that was deleted and made anew is another part. Files have no order among each other: a mark has a place in each. A
//! file that has given fewer numbers than the mark says was put back from a copy: it begins anew.

use brokle_core::ids::ProjectId;
use rusqlite::Connection;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::super::arrivals::{Arrival, Arrivals, MAX_BODIES, MAX_LOOKED_AT, Mark};
use super::super::query::{Filter, Limits, Subject};
use super::super::view::Node;
use super::super::{AnalyticsError, Month};
use super::query::{Beside, Budget, Needs, Sql, ask};
use super::reader::Readers;
use super::{body, columns, schema};

/// `file` is what tells it from others of its month, 0 for one that was made before there were such numbers; `given` the last
/// number of a row that was there when rows were deleted.
const TABLE: &str = "CREATE TABLE arrivals (file INTEGER NOT NULL, given INTEGER NOT NULL) STRICT";

/// Makes the table.
pub(super) fn create(connection: &Connection, is_new: bool) -> Result<(), AnalyticsError> {
    connection.execute(TABLE, [])?;
    // Its numbers needn't be secret, and SQLite's own chance is there wherever the file is made.
    let sql = "INSERT INTO arrivals SELECT iif(?1, abs(random() / 2) + 1, 0), 0";
    connection.execute(sql, [is_new])?;
    Ok(())
}

/// The last number that a row was given.
pub(super) fn given(connection: &Connection) -> Result<i64, AnalyticsError> {
    let number = |sql| -> rusqlite::Result<Option<i64>> {
        connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    };
    let last = number("SELECT max(rid) FROM observations")?;
    let kept = match schema::has_arrivals(connection)? {
        true => number("SELECT given FROM arrivals")?,
        false => None,
    };
    Ok(last.max(kept).unwrap_or_default())
}

/// Remembers that number: rows are about to be deleted.
pub(super) fn keep_given(connection: &Connection) -> Result<(), AnalyticsError> {
    connection.execute("UPDATE arrivals SET given = ?1", [given(connection)?])?;
    Ok(())
}

/// What the file is called in marks.
fn part(connection: &Connection, month: Month) -> Result<String, AnalyticsError> {
    let file: i64 = match schema::has_arrivals(connection)? {
        true => connection.query_row("SELECT file FROM arrivals", [], |row| row.get(0))?,
        false => 0,
    };
    Ok(if file == 0 { month.to_string() } else { format!("{month}-{file:x}") })
}

/// What is behind `after`, and not behind `to`.
pub(super) fn arrivals(
    readers: &Readers,
    project: ProjectId,
    filter: &Filter,
    (after, to): (&Mark, Option<&Mark>),
    limit: usize,
    limits: Limits,
) -> Result<Arrivals, AnalyticsError> {
    let budget = Budget::new(limits);
    let needs = Needs::of(filter);
    let months: Vec<Month> = readers.months(None, None)?.collect();
    let mut end = after.clone();
    end.keep(|part| months.iter().any(|month| is_of(part, *month)));
    let mut reader = Reading { project, filter, limit, left: MAX_LOOKED_AT, bytes: 0, rows: Vec::new() };
    let mut more = false;
    for month in months {
        let passed = ask(readers, month, needs, &budget, |connection, beside| {
            let part = part(connection, month)?;
            let bound = to.map(|to| to.last(&part));
            // One that wasn't there when the end was named.
            if bound == Some(None) {
                return Ok(None);
            }
            let passed = reader.read(connection, beside, &part, after.row(&part), bound.flatten())?;
            Ok(Some((part, passed)))
        })?;
        let Some((part, (passed, is_all))) = passed.flatten() else { continue };
        end.keep(|other| !is_of(other, month));
        end.pass(&part, passed);
        more |= !is_all;
        if reader.is_full() {
            more = true;
            break;
        }
    }
    Ok(Arrivals { rows: reader.rows, end, more })
}

/// The last row of each file.
pub(super) fn mark(readers: &Readers) -> Result<Mark, AnalyticsError> {
    let mut mark = Mark::default();
    for month in readers.months(None, None)? {
        let place = readers.with(month, |connection| Ok((part(connection, month)?, given(connection)?)))?;
        if let Some((part, last)) = place {
            mark.pass(&part, last);
        }
    }
    Ok(mark)
}

/// Whether the part is a file of this month.
fn is_of(part: &str, month: Month) -> bool {
    part.split('-').next() == Some(&month.to_string())
}

struct Reading<'a> {
    project: ProjectId,
    filter: &'a Filter,
    limit: usize,
    /// Rows that may still be looked at.
    left: i64,
    bytes: usize,
    rows: Vec<Arrival>,
}

impl Reading<'_> {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= MAX_BODIES || self.left <= 0
    }

    /// Reads on in one file. The row up to which everything is passed now, and whether that is the last.
    fn read(
        &mut self,
        connection: &Connection,
        beside: Beside,
        part: &str,
        after: i64,
        to: Option<i64>,
    ) -> Result<(i64, bool), AnalyticsError> {
        let last = given(connection)?;
        let after = if last < after { 0 } else { after };
        let last = to.map_or(last, |to| to.min(last));
        let bound = last.min(after.saturating_add(self.left));
        self.left -= (bound - after).max(0);
        // `+`: by row, not by the list's index, which is in another order.
        let mut sql = Sql::new(&format!(
            "SELECT {}, (SELECT input FROM bodies b WHERE b.rid = o.rid), (SELECT output FROM bodies b WHERE b.rid = o.rid)
             FROM observations o WHERE o.rid > ",
            columns::SUMMARY
        ));
        sql.bind(Value::Integer(after)).push(" AND o.rid <= ").bind(Value::Integer(bound));
        sql.push(" AND +o.project = ").bind(Value::Blob(self.project.as_u128().to_be_bytes().to_vec()));
        sql.filter(self.filter, Subject::Observations, beside);
        sql.push(" ORDER BY o.rid");
        let mut statement = connection.prepare_cached(&sql.text)?;
        let width = statement.column_count();
        let mut rows = statement.query(params_from_iter(&sql.values))?;
        while let Some(row) = rows.next()? {
            if self.rows.len() >= self.limit || self.bytes >= MAX_BODIES {
                let passed = self.rows.last().map_or(after, |arrival| arrival.row);
                return Ok((passed, false));
            }
            let summary = columns::summary(row)?;
            let (input, output) =
                (body::show(row.get_ref(width - 2)?)?, body::show(row.get_ref(width - 1)?)?);
            self.bytes += [&input, &output].into_iter().flatten().map(|body| body.get().len()).sum::<usize>();
            let children =
                columns::steps(row)?.into_iter().map(|step| Node::of_step(&summary, step)).collect();
            let node = Node { summary, input, output, children };
            self.rows.push(Arrival { part: part.to_owned(), row: row.get(0)?, node });
        }
        Ok((bound.max(after), bound >= last))
    }
}
