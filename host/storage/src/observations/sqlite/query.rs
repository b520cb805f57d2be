//! Questions over the month files.
//!
//! A question's SQL is made of fixed texts and parameters: [`Sql::bind`] is the only way for a value to get in. Lists
//! are ordered by SQLite in each month, and merged; groups and metrics are made here, from narrow rows, so that they
//! are exact over a month's end.

mod compile;
mod groups;
mod metrics;
mod observations;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

pub(super) use self::compile::Sql;
pub(super) use self::groups::groups;
pub(super) use self::metrics::metrics;
pub(super) use self::observations::observations;
pub(super) use super::super::query::page_of;
use super::super::query::{Filter, Limits, TooMuch};
use super::super::{AnalyticsError, Month};
use super::reader::Readers;
use super::scores;

/// SQLite's steps between two looks at the clock: well under a millisecond.
const STEPS: i32 = 20_000;

/// What a question may still cost, over all months.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limits: Limits,
    deadline: Instant,
    is_over: Arc<AtomicBool>,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, deadline: Instant::now() + limits.time, is_over: Arc::default() }
    }
}

/// What a question needs beside the month's tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// The scores.
    pub(super) scores: bool,
    /// What was said of traces.
    updates: bool,
}

/// What there is beside the month's tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Scores.
    pub(super) scores: bool,
    /// What was said of traces.
    pub(super) updates: bool,
}

impl Needs {
    pub(super) fn of(filter: &Filter) -> Self {
        Self { scores: filter.asks_for_scores(), updates: filter.asks_for_updates() }
    }
}

/// Asks a month's file; none when there is no such file (any more). The question is told what there is
/// beside the month's tables.
pub(super) fn ask<T>(
    readers: &Readers,
    month: Month,
    needs: Needs,
    budget: &Budget,
    question: impl FnOnce(&Connection, Beside) -> Result<T, AnalyticsError>,
) -> Result<Option<T>, AnalyticsError> {
    readers.with(month, |connection| {
        let beside = if needs.scores || needs.updates {
            scores::attach(connection, readers.directory())?
        } else {
            Beside::default()
        };
        prepare(connection, budget, |connection| question(connection, beside))
    })
}

/// Asks with the functions that filters use, and until the budget is used up.
pub(super) fn prepare<T>(
    connection: &Connection,
    budget: &Budget,
    question: impl FnOnce(&Connection) -> Result<T, AnalyticsError>,
) -> Result<T, AnalyticsError> {
    text::add_functions(connection)?;
    let (deadline, is_over) = (budget.deadline, Arc::clone(&budget.is_over));
    connection.progress_handler(
        STEPS,
        Some(move || {
            let late = Instant::now() >= deadline;
            if late {
                is_over.store(true, Ordering::Relaxed);
            }
            late
        }),
    )?;
    let answer = question(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    answer.map_err(|error| match &error {
        AnalyticsError::Unavailable(cause)
            if budget.is_over.load(Ordering::Relaxed)
                && cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
                    == Some(ErrorCode::OperationInterrupted) =>
        {
            TooMuch::Time(budget.limits.time).into()
        }
        _ => error,
    })
}

/// Narrows to rows of this time.
pub(super) fn in_time(sql: &mut Sql, column: &str, from: DateTime<Utc>, to: DateTime<Utc>) {
    for (comparison, time) in [(">=", from), ("<", to)] {
        sql.push(&format!(" AND {column} {comparison} "));
        sql.bind(Value::Integer(time.timestamp_micros()));
    }
}
