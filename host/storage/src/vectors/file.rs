//! One machine's vectors, in a SQLite file of their own: written behind, and read once, at the start.

use std::path::Path;

use chrono::{DateTime, TimeZone, Utc};
use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::{Change, StoredVector};

/// The file can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the file of vectors can't be used")]
pub struct VectorFileError(#[from] rusqlite::Error);

/// A file of vectors.
#[derive(Debug)]
pub struct VectorFile {
    connection: Mutex<Connection>,
    max_entries: u32,
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS vectors (
        number INTEGER PRIMARY KEY,
        project TEXT NOT NULL,
        space TEXT NOT NULL,
        key TEXT NOT NULL UNIQUE,
        vector BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS vectors_expires_at ON vectors (expires_at);";

impl VectorFile {
    /// Opens the file, which is made if it isn't there; it keeps this many, the newest.
    ///
    /// # Errors
    /// It can't be used.
    pub fn open(path: &Path, max_entries: u32) -> Result<Self, VectorFileError> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection), max_entries })
    }

    /// Those that aren't over, the oldest first.
    ///
    /// # Errors
    /// It can't be read.
    pub fn load(&self, now: DateTime<Utc>) -> Result<Vec<StoredVector>, VectorFileError> {
        let connection = self.connection.lock();
        let mut select = connection.prepare(
            "SELECT project, space, key, vector, expires_at FROM vectors WHERE expires_at > ?1 ORDER BY number",
        )?;
        let rows = select.query_map([now.timestamp_micros()], |row| {
            let project: String = row.get(0)?;
            let bytes: Vec<u8> = row.get(3)?;
            let (numbers, _) = bytes.as_chunks::<4>();
            let vector = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
            let expires_at = Utc.timestamp_micros(row.get(4)?).single();
            Ok(project
                .parse()
                .ok()
                .zip(expires_at)
                .map(|(project, expires_at)| (project, expires_at, vector)))
            .and_then(|known| Ok((known, row.get(1)?, row.get(2)?)))
        })?;
        let mut loaded = Vec::new();
        for row in rows {
            let (known, space, key) = row?;
            // What somebody else wrote into it isn't ours.
            let Some((project, expires_at, vector)) = known else { continue };
            loaded.push(StoredVector { project, space, key, vector, expires_at });
        }
        Ok(loaded)
    }

    /// Writes these, all or none, and deletes what is over or too much.
    ///
    /// # Errors
    /// It can't be written.
    pub fn apply(&self, changes: &[Change], now: DateTime<Utc>) -> Result<(), VectorFileError> {
        let mut connection = self.connection.lock();
        let writing = connection.transaction()?;
        {
            let mut put = writing.prepare_cached(
                "INSERT OR REPLACE INTO vectors (project, space, key, vector, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            let mut remove = writing.prepare_cached("DELETE FROM vectors WHERE project = ?1 AND key = ?2")?;
            for change in changes {
                match change {
                    Change::Put(one) => {
                        let vector: Vec<u8> =
                            one.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                        let until = one.expires_at.timestamp_micros();
                        put.execute(params![one.project.to_string(), one.space, one.key, vector, until])?;
                    }
                    Change::Remove(project, keys) => {
                        for key in keys {
                            remove.execute(params![project.to_string(), key])?;
                        }
                    }
                }
            }
            writing.execute("DELETE FROM vectors WHERE expires_at <= ?1", [now.timestamp_micros()])?;
            writing.execute(
                "DELETE FROM vectors WHERE number <=
                    (SELECT number FROM vectors ORDER BY number DESC LIMIT 1 OFFSET ?1)",
                [self.max_entries],
            )?;
        }
        writing.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::{Clock, SystemClock};
    use brokle_core::ids::ProjectId;
    use brokle_core::random::SystemRandom;
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_was_written_is_there_after_a_restart_but_for_what_is_over_removed_or_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.db");
        let now = SystemClock.now();
        let project = ProjectId::generate(&SystemClock, &SystemRandom);
        let one = |key: &str, hours: i64| StoredVector {
            project,
            space: "s".into(),
            key: key.into(),
            vector: vec![0.6, -0.8],
            expires_at: DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap()
                + TimeDelta::hours(hours),
        };
        let file = VectorFile::open(&path, 3).unwrap();
        let puts = [one("over", -1), one("a", 1), one("b", 1), one("gone", 1), one("a", 2)];
        file.apply(&puts.map(Change::Put), now).unwrap();
        let other = ProjectId::generate(&SystemClock, &SystemRandom);
        file.apply(
            &[Change::Remove(other, vec!["a".into()]), Change::Remove(project, vec!["gone".into()])],
            now,
        )
        .unwrap();
        drop(file);
        let file = VectorFile::open(&path, 3).unwrap();
        assert_eq!(file.load(now).unwrap(), [one("b", 1), one("a", 2)]);
        assert_eq!(file.load(now + TimeDelta::minutes(90)).unwrap(), [one("a", 2)]);
        file.apply(&["c", "d"].map(|key| Change::Put(one(key, 3))), now).unwrap();
        let keys: Vec<String> = file.load(now).unwrap().into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["a", "c", "d"], "the oldest went");
    }
}
