//! Rows that couldn't be stored.

use brokle_core::ids::ProjectId;
use brokle_core::observation::Observation;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Queue, insert_batch};
use crate::frame::{self, Dead};

/// An observation that the analytics database refused, or that couldn't be read from the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its number, in the order they died.
    pub id: i64,
    /// When it was given up.
    pub died: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// What it says, when it can be read.
    pub observation: Option<Observation>,
}

/// Whose dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A project's.
    Project(ProjectId),
    /// Every tenant's, and those that can't be read and so are nobody's: for those who run the server only.
    Everybody,
}

/// Numbers aren't used again, not even the last one's.
pub(super) const TABLE: &str = "
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    died_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    project TEXT
) STRICT;
CREATE INDEX dead_letters_by_project ON dead_letters (project, id);
";

/// The letters that a statement's first parameter lets through: a project's, or with null everybody's.
const THEIRS: &str = "(?1 IS NULL OR project = ?1)";

impl Whose {
    fn project(self) -> Option<String> {
        match self {
            Self::Project(project) => Some(project.to_string()),
            Self::Everybody => None,
        }
    }
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    died_us: i64,
    dead: &[Dead],
) -> Result<(), rusqlite::Error> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO dead_letters (died_us, reason, body, project) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for letter in dead {
        let project = letter.project.map(|project| project.to_string());
        insert.execute(params![died_us, letter.reason, letter.body, project])?;
    }
    Ok(())
}

/// From the layout before this one: letters didn't say whose they are.
pub(super) fn name_projects(connection: &mut Connection, version: i64) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("ALTER TABLE dead_letters RENAME TO old_letters")?;
    transaction.execute_batch(TABLE)?;
    transaction.execute_batch(
        "INSERT INTO dead_letters (id, died_us, reason, body) SELECT id, died_us, reason, body FROM old_letters;
         DROP TABLE old_letters",
    )?;
    {
        let mut select = transaction.prepare("SELECT id, body FROM dead_letters")?;
        let mut update = transaction.prepare("UPDATE dead_letters SET project = ?2 WHERE id = ?1")?;
        let mut letters = select.query([])?;
        while let Some(letter) = letters.next()? {
            let (rows, _) = frame::decode(letter.get_ref(1)?.as_blob()?);
            if let Some(observation) = rows.observations.last() {
                let id: i64 = letter.get(0)?;
                update.execute(params![id, observation.tenant.project.to_string()])?;
            }
        }
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

impl Queue {
    /// At most `limit` dead letters behind `after`, in the order they died.
    pub(crate) fn dead_letters(
        &self,
        whose: Whose,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, rusqlite::Error> {
        let file = self.file.lock();
        let mut select = file.prepare_cached(&format!(
            "SELECT id, died_us, reason, body FROM dead_letters WHERE {THEIRS} AND id > ?2 ORDER BY id LIMIT ?3"
        ))?;
        let rows = select.query_map(params![whose.project(), after, limit], |row| {
            let (mut rows, _) = frame::decode(row.get_ref(3)?.as_blob()?);
            Ok(DeadLetter {
                id: row.get(0)?,
                died: DateTime::from_timestamp_micros(row.get(1)?).unwrap_or_default(),
                reason: row.get(2)?,
                observation: rows.observations.pop(),
            })
        })?;
        rows.collect()
    }

    /// Puts a dead letter back at the end of the queue and tells its batch; none when there is no such letter.
    pub(crate) fn redrive(&self, whose: Whose, id: i64, now_us: i64) -> Result<Option<i64>, rusqlite::Error> {
        let mut file = self.file.lock();
        let transaction = file.transaction()?;
        let Some(body) = take(&transaction, whose, id)? else { return Ok(None) };
        let batch_id = self.next_id();
        insert_batch(&transaction, batch_id, now_us, 1, &body)?;
        transaction.commit()?;
        let mut listing = self.listing.lock();
        listing.dead_letters = listing.dead_letters.saturating_sub(1);
        listing.push(batch_id, now_us, 1, body.len(), None);
        Ok(Some(batch_id))
    }

    /// Deletes a dead letter; false when there is no such one.
    pub(crate) fn discard(&self, whose: Whose, id: i64) -> Result<bool, rusqlite::Error> {
        let file = self.file.lock();
        let was_there = take(&file, whose, id)?.is_some();
        if was_there {
            let mut listing = self.listing.lock();
            listing.dead_letters = listing.dead_letters.saturating_sub(1);
        }
        Ok(was_there)
    }
}

fn take(connection: &Connection, whose: Whose, id: i64) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    let delete = format!("DELETE FROM dead_letters WHERE {THEIRS} AND id = ?2 RETURNING body");
    connection.query_row(&delete, params![whose.project(), id], |row| row.get(0)).optional()
}
