//! Read-only connections, a few kept open per month.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

use super::super::{AnalyticsError, Month};
use super::{files, schema};

/// Connections kept open, over all months.
const MAX_IDLE: usize = 24;

pub(super) struct Readers {
    directory: PathBuf,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Grows when files are deleted; a connection of an earlier generation may be to a file that is gone.
    generation: u64,
    count: usize,
    connections: HashMap<Month, Vec<Connection>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readers").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Readers {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, idle: Mutex::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The months that have a file and a part in `from..=to` (microseconds), oldest first.
    pub(super) fn months(
        &self,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<impl DoubleEndedIterator<Item = Month> + use<>, AnalyticsError> {
        // A bound that has no month is before or after all of them.
        let (first, last) = (from.and_then(Month::of_micros), to.and_then(Month::of_micros));
        Ok(files::months(&self.directory)?.into_iter().filter(move |month| {
            first.is_none_or(|first| *month >= first) && last.is_none_or(|last| *month <= last)
        }))
    }

    /// Reads from the month's file; none when there is no such file (any more).
    pub(super) fn with<T>(
        &self,
        month: Month,
        query: impl FnOnce(&Connection) -> Result<T, AnalyticsError>,
    ) -> Result<Option<T>, AnalyticsError> {
        let (generation, idle) = self.take(month);
        let connection = match idle {
            Some(connection) => connection,
            None => match self.open(month)? {
                Some(connection) => connection,
                None => return Ok(None),
            },
        };
        let answer = query(&connection)?;
        self.give_back(month, generation, connection);
        Ok(Some(answer))
    }

    /// Files were deleted: no connection that is open now is used again.
    pub(super) fn forget_files(&self) {
        let mut idle = self.idle.lock();
        *idle = Idle { generation: idle.generation + 1, ..Idle::default() };
    }

    fn take(&self, month: Month) -> (u64, Option<Connection>) {
        let mut idle = self.idle.lock();
        let connection = idle.connections.get_mut(&month).and_then(Vec::pop);
        idle.count -= usize::from(connection.is_some());
        (idle.generation, connection)
    }

    fn give_back(&self, month: Month, generation: u64, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.generation == generation && idle.count < MAX_IDLE {
            idle.count += 1;
            idle.connections.entry(month).or_default().push(connection);
        }
    }

    fn open(&self, month: Month) -> Result<Option<Connection>, AnalyticsError> {
        let path = files::path(&self.directory, month);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(&path, flags) {
            Err(_) if !path.exists() => return Ok(None),
            opened => opened?,
        };
        // Waits only while the writer makes a new file's tables or recovers one after a crash.
        connection.busy_timeout(crate::sql::BUSY_TIMEOUT)?;
        Ok(schema::is_ready(&connection)?.then_some(connection))
    }
}
