//! Lists of traces, sessions and users.
//!
//! Two passes: which of them have an observation that passes the filter (none without a filter), then the numbers of
//! those. Traces that a filter found are looked up by their index.

use std::collections::{HashMap, HashSet};

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use chrono::DateTime;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::super::super::query::{
    Filter, Group, GroupKind, Limits, Place, Query, SortBy, Subject, TooMuch, Totals,
};
use super::super::super::view::millis;
use super::super::super::{AnalyticsError, Month, Page};
use super::super::columns::{broken, count};
use super::super::reader::Readers;
use super::{Budget, Needs, Sql, ask, in_time, page_of};

/// As many traces are looked up one by one; more are read with everything else of the time.
const FEW: usize = 1_000;

/// What rows are put together by: a trace's 16 bytes, or a text's.
type Key = Vec<u8>;

pub(in super::super) fn groups(
    readers: &Readers,
    project: ProjectId,
    kind: GroupKind,
    query: &Query,
    limits: Limits,
) -> Result<Page<Group, Place>, AnalyticsError> {
    let scan = Scan { project, kind, query, budget: Budget::new(limits) };
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let months: Vec<_> = readers.months(Some(from), Some(to))?.collect();
    let keys = if query.filter == Filter::default() { None } else { Some(scan.keys(readers, &months)?) };
    let groups = scan.sums(readers, &months, keys.as_ref())?;

    let mut found: Vec<(Place, Group)> = groups
        .into_iter()
        .map(|(key, sums)| {
            let group = sums.finish(kind, &key);
            (Place::new(query.sort, rank(&group, query.sort.by), 0, 0, &group.id), group)
        })
        .collect();
    let order = |one: &Place, other: &Place| {
        let ascending = one.value.total_cmp(&other.value).then_with(|| one.key.cmp(&other.key));
        if query.sort.descending { ascending.reverse() } else { ascending }
    };
    found.retain(|(place, _)| query.after.as_ref().is_none_or(|after| order(place, after).is_gt()));
    found.sort_by(|(one, _), (other, _)| order(one, other));
    found.truncate(query.limit as usize + 1);
    Ok(page_of(found, query.limit))
}

fn rank(group: &Group, by: SortBy) -> f64 {
    match by {
        SortBy::Duration => group.duration_ms,
        SortBy::Cost => group.totals.cost.approximate(),
        SortBy::Tokens => (group.totals.input_tokens + group.totals.output_tokens) as f64,
        SortBy::Observations => group.totals.observations as f64,
        SortBy::Errors => group.totals.errors as f64,
        SortBy::Time | SortBy::FirstToken | SortBy::Value => group.start_time.timestamp_micros() as f64,
    }
}

struct Scan<'a> {
    project: ProjectId,
    kind: GroupKind,
    query: &'a Query,
    budget: Budget,
}

impl Scan<'_> {
    fn column(&self) -> &'static str {
        match self.kind {
            GroupKind::Trace => "o.trace_id",
            GroupKind::Session => "o.session",
            GroupKind::User => "o.user",
        }
    }

    fn sql(&self, select: &str) -> Sql {
        let column = self.column();
        let mut sql = Sql::new(&format!(
            "SELECT {select} FROM observations o WHERE {column} IS NOT NULL AND o.project = "
        ));
        sql.bind(Value::Blob(self.project.as_u128().to_be_bytes().to_vec()));
        in_time(&mut sql, "o.start_us", self.query.from, self.query.to);
        sql
    }

    /// Those that have an observation that passes the filter.
    fn keys(&self, readers: &Readers, months: &[Month]) -> Result<HashSet<Key>, AnalyticsError> {
        let (filter, most) = (&self.query.filter, self.budget.limits.groups);
        let mut keys = HashSet::new();
        for month in months {
            ask(readers, *month, Needs::of(filter), &self.budget, |connection, beside| {
                let mut sql = self.sql(&format!("DISTINCT {}", self.column()));
                sql.filter(filter, Subject::Observations, beside);
                let mut statement = connection.prepare_cached(&sql.text)?;
                let mut rows = statement.query(params_from_iter(&sql.values))?;
                while let Some(row) = rows.next()? {
                    keys.insert(key(row)?);
                    if keys.len() > most {
                        return Err(TooMuch::Groups(most).into());
                    }
                }
                Ok(())
            })?;
        }
        Ok(keys)
    }

    fn sums(
        &self,
        readers: &Readers,
        months: &[Month],
        keys: Option<&HashSet<Key>>,
    ) -> Result<HashMap<Key, Sums>, AnalyticsError> {
        let mut sums = Reading { groups: HashMap::new(), rows: 0, limits: self.budget.limits };
        let few = keys.filter(|keys| self.kind == GroupKind::Trace && keys.len() <= FEW);
        for month in months {
            ask(readers, *month, Needs::default(), &self.budget, |connection, _| {
                let columns = format!("{}, {COLUMNS}", self.column());
                match few {
                    Some(few) => few.iter().try_for_each(|key| {
                        let mut sql = self.sql(&columns);
                        sql.push(" AND o.trace_id = ").bind(Value::Blob(key.clone()));
                        sums.read(connection, &sql, None)
                    }),
                    None => sums.read(connection, &self.sql(&columns), keys),
                }
            })?;
        }
        Ok(sums.groups)
    }
}

const COLUMNS: &str =
    "o.trace_id, o.parent_span_id IS NULL, o.name, o.start_us, o.duration_us, o.status <> 'ok', o.user,
    o.session, o.input_tokens, o.output_tokens, o.cost";

fn key(row: &Row<'_>) -> Result<Key, AnalyticsError> {
    Ok(row.get_ref(0)?.as_bytes().map_err(super::super::corrupt)?.to_vec())
}

struct Reading {
    groups: HashMap<Key, Sums>,
    rows: u64,
    limits: Limits,
}

impl Reading {
    fn read(
        &mut self,
        connection: &Connection,
        sql: &Sql,
        keys: Option<&HashSet<Key>>,
    ) -> Result<(), AnalyticsError> {
        let mut statement = connection.prepare_cached(&sql.text)?;
        let mut rows = statement.query(params_from_iter(&sql.values))?;
        while let Some(row) = rows.next()? {
            self.rows += 1;
            if self.rows > self.limits.rows {
                return Err(TooMuch::Rows(self.limits.rows).into());
            }
            let key = key(row)?;
            if keys.is_some_and(|keys| !keys.contains(&key)) {
                continue;
            }
            self.groups.entry(key).or_default().add(row)?;
            if self.groups.len() > self.limits.groups {
                return Err(TooMuch::Groups(self.limits.groups).into());
            }
        }
        Ok(())
    }
}

/// A group in the making.
#[derive(Default)]
struct Sums {
    traces: HashSet<[u8; 16]>,
    sessions: HashSet<String>,
    totals: Totals,
    start_us: Option<i64>,
    end_us: i64,
    /// With what makes another one better: no parent, then an earlier beginning.
    name: Option<((bool, i64), String)>,
    user: Option<(i64, String)>,
    session: Option<(i64, String)>,
}

impl Sums {
    fn add(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let (is_root, start_us): (bool, i64) = (row.get(2)?, row.get(4)?);
        let end_us = start_us.saturating_add(row.get(5)?);
        self.traces.insert(row.get(1)?);
        self.start_us = Some(self.start_us.map_or(start_us, |before| before.min(start_us)));
        self.end_us = self.end_us.max(end_us);
        let place = (!is_root, start_us);
        if self.name.as_ref().is_none_or(|(before, _)| place < *before) {
            self.name = Some((place, row.get(3)?));
        }
        let is_first = |before: &Option<(i64, String)>| before.as_ref().is_none_or(|(at, _)| start_us < *at);
        if let Some(user) = row.get(7)?
            && is_first(&self.user)
        {
            self.user = Some((start_us, user));
        }
        if let Some(session) = row.get::<_, Option<String>>(8)? {
            if is_first(&self.session) {
                self.session = Some((start_us, session.clone()));
            }
            self.sessions.insert(session);
        }
        let totals = &mut self.totals;
        totals.observations += 1;
        totals.errors += u64::from(row.get::<_, bool>(6)?);
        totals.input_tokens = totals.input_tokens.saturating_add(count(row, 9)?);
        totals.output_tokens = totals.output_tokens.saturating_add(count(row, 10)?);
        if let Some(cost) = row.get::<_, Option<String>>(11)? {
            totals.cost += cost.parse().map_err(|error| broken(11, error))?;
        }
        Ok(())
    }

    fn finish(self, kind: GroupKind, key: &[u8]) -> Group {
        let text = || String::from_utf8_lossy(key).into_owned();
        let id = match kind {
            GroupKind::Trace => <[u8; 16]>::try_from(key)
                .ok()
                .and_then(|bytes| TraceId::from_bytes(bytes).ok())
                .map_or_else(text, |id| id.to_string()),
            GroupKind::Session | GroupKind::User => text(),
        };
        let start_us = self.start_us.unwrap_or_default();
        let time = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
        Group {
            id,
            name: self.name.map(|(_, name)| name).filter(|_| kind == GroupKind::Trace),
            user: self.user.map(|(_, user)| user),
            session: self.session.map(|(_, session)| session),
            start_time: time(start_us),
            end_time: time(self.end_us),
            duration_ms: millis(u64::try_from(self.end_us.saturating_sub(start_us)).unwrap_or_default()),
            totals: Totals {
                traces: self.traces.len() as u64,
                sessions: self.sessions.len() as u64,
                ..self.totals
            },
        }
    }
}
