//! What was committed goes from a file's log into the file beside the writer, not in its way.
//!
//! Left to itself SQLite copies in the commit that makes the log long enough: 16 MB and a flush of the file, which the senders of
//! those rows wait for. Here a thread copies while the writer goes on. What came meanwhile is little: the writer copies that
//! itself, after which its log begins anew instead of growing for as long as there is traffic.
//!
//! A copy that fails is tried again after a later commit; nothing depends on it but the log's length.

use std::cell::Cell;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

/// Pages (of 4 KiB) that are worth a copy: index pages are then written a quarter as often as with SQLite's own 1,000.
const WORTH: u32 = 4_000;
/// Pages that the writer copies in a commit.
const FEW: u32 = 1_000;
/// A log of so many pages is copied by the writer, whatever it takes: the thread can't keep up.
const TOO_LONG: u32 = 32_000;

thread_local! {
    /// Pages in the log that this thread committed to last.
    static PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The thread that copies. It ends with the last of these.
#[derive(Clone, Debug)]
pub(super) struct Copier(Sender<(PathBuf, Arc<Copied>)>);

/// How far a log has been copied.
#[derive(Debug, Default)]
struct Copied {
    pages: AtomicU32,
    /// The thread is about to, or at it. Only then it writes here.
    is_going_on: AtomicBool,
}

/// The log of a file that is written to.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    copier: Copier,
    copied: Arc<Copied>,
}

impl Copier {
    /// Starts it.
    ///
    /// # Errors
    /// No thread is to be had.
    pub(super) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = channel::<(PathBuf, Arc<Copied>)>();
        thread::Builder::new().name("checkpoint".into()).spawn(move || {
            for (path, copied) in receiver {
                match copy_beside(&path) {
                    Ok(pages) => copied.pages.store(pages, Ordering::Relaxed),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), error = &error as &dyn std::error::Error, "a log isn't copied yet");
                    }
                }
                copied.is_going_on.store(false, Ordering::Release);
            }
        })?;
        Ok(Self(sender))
    }

    /// Takes over from SQLite for this connection.
    pub(super) fn attach(&self, connection: &Connection, path: &Path) -> Log {
        connection.wal_hook(Some(note));
        Log { path: path.to_owned(), copier: self.clone(), copied: Arc::default() }
    }
}

/// SQLite tells the log's length to a function, which can't have anything of its own.
#[expect(clippy::unnecessary_wraps, reason = "what it is called as")]
fn note(_: &Wal, pages: c_int) -> rusqlite::Result<()> {
    PAGES.set(u32::try_from(pages).unwrap_or_default());
    Ok(())
}

impl Log {
    /// To be called by the thread that committed, after it.
    pub(super) fn committed(&self, connection: &Connection) {
        let (pages, copied) = (PAGES.take(), &*self.copied);
        if copied.is_going_on.load(Ordering::Acquire) && pages < TOO_LONG {
            return;
        }
        let done = copied.pages.load(Ordering::Relaxed);
        // Else the log has begun anew.
        let done = if done <= pages { done } else { 0 };
        let left = pages - done;
        if (done > 0 && left <= FEW) || pages >= TOO_LONG {
            // Whatever becomes of it: after a while there is as much again.
            let _ = copy(connection);
            copied.pages.store(0, Ordering::Relaxed);
        } else if left >= WORTH {
            copied.is_going_on.store(true, Ordering::Relaxed);
            // The thread lives as long as this does.
            let _ = self.copier.0.send((self.path.clone(), Arc::clone(&self.copied)));
        } else {
            copied.pages.store(done, Ordering::Relaxed);
        }
    }
}

/// By a connection of its own; a file that retention has deleted isn't made again.
fn copy_beside(path: &Path) -> rusqlite::Result<u32> {
    copy(&Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?)
}

/// Copies what no reader is in the way of, without waiting for anybody. Pages of the log that are in the file now.
fn copy(connection: &Connection) -> rusqlite::Result<u32> {
    let pages: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))?;
    // -1: the file has no log.
    Ok(u32::try_from(pages).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Commits so many pages, and says how long the log is now.
    fn commit(connection: &Connection, log: &Log, pages: u32) -> u32 {
        let sql = "INSERT INTO t SELECT randomblob(4000) FROM generate WHERE n <= ?1";
        connection.execute(sql, [pages]).unwrap();
        let length = PAGES.get();
        log.committed(connection);
        length
    }

    #[test]
    fn a_log_is_copied_beside_the_writer_and_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        let log = Copier::start().unwrap().attach(&connection, &path);
        connection
            .execute_batch(
                "CREATE TABLE t (b BLOB);
                 CREATE VIEW generate AS WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 9000) SELECT n FROM g",
            )
            .unwrap();
        let size = || std::fs::metadata(&path).unwrap().len();

        assert!(commit(&connection, &log, WORTH / 2) < WORTH);
        assert!(!log.copied.is_going_on.load(Ordering::Acquire));
        let before = size();
        assert!(commit(&connection, &log, WORTH) >= WORTH, "SQLite itself copied nothing");
        let told = Instant::now();
        while log.copied.is_going_on.load(Ordering::Acquire) {
            assert!(told.elapsed() < Duration::from_secs(60), "nobody copies");
            thread::park_timeout(Duration::from_millis(1));
        }
        assert!(log.copied.pages.load(Ordering::Relaxed) >= WORTH);
        assert!(size() > before + u64::from(WORTH) * 4_096);

        // What is left is the writer's, and the log begins anew.
        commit(&connection, &log, 10);
        assert!(commit(&connection, &log, 10) < 100);
    }

    #[test]
    fn a_reader_in_the_way_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("CREATE TABLE t (b BLOB)").unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        connection.execute("INSERT INTO t VALUES (randomblob(4000))", []).unwrap();
        let behind = copy_beside(&path).unwrap();
        reader.execute_batch("COMMIT").unwrap();
        assert!(copy_beside(&path).unwrap() > behind);
    }
}
