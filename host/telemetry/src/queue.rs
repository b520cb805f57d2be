//! The durable queue: `queue.db`, SQLite in WAL mode with `synchronous=FULL`.
//!
//! A batch is one row, so a commit costs one fsync whatever the batch's size. Both threads share one connection, which
//! is what makes their order plain. What is in the file is also listed in memory (16 to 40 bytes a batch), oldest first,
//! so that neither statistics nor the next batch need a query.

mod dead;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};

pub use self::dead::{DeadLetter, Whose};
use crate::frame::Dead;
use crate::rows::Rows;

/// How long a commit waits for another process that holds the lock (a backup, a person with a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Batches whose observations are also kept in memory for the drainer, so that it needn't read what has just been
/// written: up to this many bytes, then it reads.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// The layout's version; a file of a later one is refused.
const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    created_us INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
";

/// The queue's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// SQLite says no: the disk is full, the file is locked or damaged.
    #[error("the telemetry queue can't be used")]
    Sqlite(#[from] rusqlite::Error),
    /// The directory can't be made, or a thread not be started.
    #[error("the telemetry queue can't be opened")]
    Io(#[from] std::io::Error),
    /// Redis doesn't answer, or its URL is none.
    #[error("the telemetry queue's Redis can't be used")]
    Redis(#[from] redis::RedisError),
    /// Another version wrote the file.
    #[error("the telemetry queue has layout {0}; this version of brokle knows {VERSION}")]
    Version(i64),
}

#[derive(Debug)]
pub(crate) struct Queue {
    file: Mutex<Connection>,
    listing: Mutex<Listing>,
}

#[derive(Debug, Default)]
struct Listing {
    batches: VecDeque<Batch>,
    rows: usize,
    bytes: usize,
    kept_bytes: usize,
    last_id: i64,
    dead_letters: u64,
}

/// A batch in the queue.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: i64,
    pub(crate) created_us: i64,
    pub(crate) rows: usize,
    /// Of its body on disk.
    pub(crate) bytes: usize,
    /// The observations, when they are still in memory, and their weight.
    kept: Option<(Rows, usize)>,
}

/// What is in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// When the oldest batch was committed.
    pub(crate) oldest_us: Option<i64>,
    pub(crate) dead_letters: u64,
}

impl Queue {
    pub(crate) fn open(path: &Path) -> Result<Self, QueueError> {
        if let Some(directory) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(directory)?;
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        // Pages are written and freed many times between two checkpoints, which write each once.
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(TABLES)?;
                transaction.execute_batch(dead::TABLE)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
            1 => dead::name_projects(&mut connection, VERSION)?,
            VERSION => {}
            later => return Err(QueueError::Version(later)),
        }
        let listing = Listing::read(&connection)?;
        Ok(Self { file: Mutex::new(connection), listing: Mutex::new(listing) })
    }

    /// The last batch that was ever added.
    pub(crate) fn last_id(&self) -> i64 {
        self.listing.lock().last_id
    }

    /// Commits a batch and tells its id. When it fails the batch comes back. Should it be in the file all the same (a
    /// commit may succeed and be reported as failed), then under an id of its own: its rows come twice, which the
    /// database bears.
    pub(crate) fn append(
        &self,
        created_us: i64,
        body: &[u8],
        batch: Rows,
        weight: usize,
    ) -> Result<i64, (Rows, rusqlite::Error)> {
        let file = self.file.lock();
        let id = self.next_id();
        match insert_batch(&file, id, created_us, batch.len(), body) {
            Ok(()) => {
                self.listing.lock().push(id, created_us, batch.len(), body.len(), Some((batch, weight)));
                Ok(id)
            }
            Err(error) => Err((batch, error)),
        }
    }

    /// An id that no batch had before.
    fn next_id(&self) -> i64 {
        let mut listing = self.listing.lock();
        listing.last_id += 1;
        listing.last_id
    }

    /// Rows in the queue.
    pub(crate) fn rows(&self) -> usize {
        self.listing.lock().rows
    }

    pub(crate) fn depth(&self) -> Depth {
        let listing = self.listing.lock();
        Depth {
            rows: listing.rows,
            bytes: listing.bytes,
            oldest_us: listing.batches.front().map(|batch| batch.created_us),
            dead_letters: listing.dead_letters,
        }
    }

    /// The oldest batches, up to this many rows and bytes but at least one. They stay in the queue; what is in memory of
    /// them is handed out once.
    pub(crate) fn peek(&self, max_rows: usize, max_bytes: usize) -> Vec<Batch> {
        let mut listing = self.listing.lock();
        let (mut rows, mut bytes, mut freed, mut peeked) = (0, 0, 0, Vec::new());
        for batch in &mut listing.batches {
            rows += batch.rows;
            bytes += batch.bytes;
            if !peeked.is_empty() && (rows > max_rows || bytes > max_bytes) {
                break;
            }
            let kept = batch.kept.take();
            freed += kept.as_ref().map_or(0, |(_, weight)| *weight);
            peeked.push(Batch { kept, ..*batch });
        }
        listing.kept_bytes -= freed;
        peeked
    }

    /// A batch's observations, from memory or from the file, and those that can't be read.
    pub(crate) fn load(&self, batch: Batch) -> Result<(Rows, Vec<Dead>), rusqlite::Error> {
        if let Some((observations, _)) = batch.kept {
            return Ok((observations, Vec::new()));
        }
        let body: Option<Vec<u8>> = {
            let file = self.file.lock();
            let mut select = file.prepare_cached("SELECT body FROM batches WHERE id = ?1")?;
            select.query_row([batch.id], |row| row.get(0)).optional()?
        };
        // A batch that somebody deleted by hand has nothing to store.
        Ok(body.map_or_else(Default::default, |body| crate::frame::decode(&body)))
    }

    /// Takes the batches up to `last_id` out of the queue, and keeps what couldn't be stored: both or neither.
    pub(crate) fn finish(&self, last_id: i64, died_us: i64, dead: &[Dead]) -> Result<(), rusqlite::Error> {
        let mut file = self.file.lock();
        let transaction = file.transaction()?;
        dead::insert(&transaction, died_us, dead)?;
        transaction.prepare_cached("DELETE FROM batches WHERE id <= ?1")?.execute([last_id])?;
        transaction.commit()?;
        let mut listing = self.listing.lock();
        listing.dead_letters += dead.len() as u64;
        while let Some(batch) = listing.batches.pop_front_if(|batch| batch.id <= last_id) {
            listing.rows -= batch.rows;
            listing.bytes -= batch.bytes;
        }
        Ok(())
    }
}

impl Listing {
    fn read(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut listing = Self::default();
        let mut select =
            connection.prepare("SELECT id, created_us, rows, length(body) FROM batches ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (rows, bytes): (u32, u32) = (row.get(2)?, row.get(3)?);
            listing.push(row.get(0)?, row.get(1)?, rows as usize, bytes as usize, None);
        }
        listing.dead_letters = connection
            .query_row("SELECT count(*) FROM dead_letters", [], |row| row.get::<_, i64>(0))?
            .cast_unsigned();
        Ok(listing)
    }

    fn push(&mut self, id: i64, created_us: i64, rows: usize, bytes: usize, kept: Option<(Rows, usize)>) {
        let kept = kept.filter(|(_, weight)| self.kept_bytes + weight <= MAX_KEPT_BYTES);
        self.kept_bytes += kept.as_ref().map_or(0, |(_, weight)| *weight);
        self.rows += rows;
        self.bytes += bytes;
        self.last_id = self.last_id.max(id);
        self.batches.push_back(Batch { id, created_us, rows, bytes, kept });
    }
}

fn insert_batch(
    connection: &Connection,
    id: i64,
    created_us: i64,
    rows: usize,
    body: &[u8],
) -> Result<(), rusqlite::Error> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    connection
        .prepare_cached("INSERT INTO batches (id, created_us, rows, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, created_us, rows, body])?;
    Ok(())
}
