//! Rows that couldn't be stored.

use brokle_core::observation::Observation;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Queue, insert_batch};
use crate::frame::{self, Unreadable};

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

pub(super) fn insert(
    transaction: &Transaction<'_>,
    died_us: i64,
    dead: &[Unreadable],
) -> Result<(), rusqlite::Error> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO dead_letters (died_us, reason, body) VALUES (?1, ?2, ?3)")?;
    for letter in dead {
        insert.execute(params![died_us, letter.reason, letter.body])?;
    }
    Ok(())
}

impl Queue {
    /// At most `limit` dead letters behind `after`, in the order they died.
    pub(crate) fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, rusqlite::Error> {
        let file = self.file.lock();
        let mut select = file.prepare_cached(
            "SELECT id, died_us, reason, body FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = select.query_map(params![after, limit], |row| {
            let (mut observations, _) = frame::decode(row.get_ref(3)?.as_blob()?);
            Ok(DeadLetter {
                id: row.get(0)?,
                died: DateTime::from_timestamp_micros(row.get(1)?).unwrap_or_default(),
                reason: row.get(2)?,
                observation: observations.pop(),
            })
        })?;
        rows.collect()
    }

    /// Puts a dead letter back at the end of the queue and tells its batch; none when there is no such letter.
    pub(crate) fn redrive(&self, id: i64, now_us: i64) -> Result<Option<i64>, rusqlite::Error> {
        let mut file = self.file.lock();
        let transaction = file.transaction()?;
        let body: Option<Vec<u8>> = transaction
            .query_row("DELETE FROM dead_letters WHERE id = ?1 RETURNING body", [id], |row| row.get(0))
            .optional()?;
        let Some(body) = body else { return Ok(None) };
        let batch_id = self.next_id();
        insert_batch(&transaction, batch_id, now_us, 1, &body)?;
        transaction.commit()?;
        let mut listing = self.listing.lock();
        listing.dead_letters = listing.dead_letters.saturating_sub(1);
        listing.push(batch_id, now_us, 1, body.len(), None);
        Ok(Some(batch_id))
    }
}
