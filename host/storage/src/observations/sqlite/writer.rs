//! The one writer of the month files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use brokle_core::observation::Observation;
use brokle_core::signal::{LogRecord, MetricPoint};
use bytes::Bytes;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::super::payloads::BlobRow;
use super::super::{AnalyticsError, Inserted, Month};
use super::body::{Bodies, Packer};
use super::checkpoint::{Copier, Log};
use super::{arrivals, blobs, columns, files, rollups, schema, signals, unavailable};

/// From so many bytes of bodies on, a batch's are packed by a thread beside the one that inserts, which takes three times as long for a
/// row: a batch is there a quarter sooner.
const PACKED_APART: usize = 64 << 10;
/// Rows whose bodies are handed over at once, and how many times that may wait.
const PIECE: usize = 32;
const PIECES: usize = 4;
/// Files kept open: this month's and, around its end, its neighbour's; more while a backlog is worked off.
const MAX_OPEN: usize = 4;

pub(super) struct Writer {
    directory: PathBuf,
    open: HashMap<Month, (Connection, Log)>,
    copier: Copier,
    packer: Packer,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Writer {
    /// # Errors
    /// The thread that it needs isn't to be had.
    pub(super) fn new(directory: PathBuf) -> Result<Self, AnalyticsError> {
        let copier = Copier::start().map_err(unavailable)?;
        Ok(Self { directory, open: HashMap::new(), copier, packer: Packer::new() })
    }

    pub(super) fn insert(
        &mut self,
        batch: &[Observation],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        self.by_month(batch, |row| row.start_us, inserted, write)
    }

    pub(super) fn insert_logs(
        &mut self,
        batch: &[LogRecord],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        self.by_month(
            batch,
            |row| row.time_us,
            inserted,
            |transaction, _, rows, done| signals::insert_logs(transaction, rows, done),
        )
    }

    pub(super) fn insert_points(
        &mut self,
        batch: &[MetricPoint],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        self.by_month(
            batch,
            |row| row.time_us,
            inserted,
            |transaction, _, rows, done| signals::insert_points(transaction, rows, done),
        )
    }

    pub(super) fn log_blobs(&mut self, rows: &[BlobRow]) -> Result<(), AnalyticsError> {
        self.by_month(
            rows,
            |row| row.time_us,
            &mut Inserted::default(),
            |transaction, _, rows, done| blobs::insert(transaction, rows, done),
        )
    }

    /// One transaction per month. A failed one is rolled back as a whole and its file closed, so that the next attempt
    /// begins afresh.
    fn by_month<T>(
        &mut self,
        batch: &[T],
        time: fn(&T) -> i64,
        inserted: &mut Inserted,
        write: impl Fn(&Transaction<'_>, &mut Packer, &[&T], &mut Inserted) -> Result<(), AnalyticsError>,
    ) -> Result<(), AnalyticsError> {
        let mut months: BTreeMap<Month, Vec<&T>> = BTreeMap::new();
        for row in batch {
            let month = Month::of_micros(time(row)).ok_or_else(|| {
                AnalyticsError::Rejected("it is from outside of the years 1970 to 9999".into())
            })?;
            months.entry(month).or_default().push(row);
        }
        for (month, rows) in months {
            let mut done = Inserted::default();
            self.change(month, |transaction, packer| write(transaction, packer, &rows, &mut done))?;
            inserted.rows += done.rows;
            inserted.duplicates += done.duplicates;
        }
        Ok(())
    }

    /// Changes the month's file, which is made if it isn't there, in a transaction.
    pub(super) fn with<T>(
        &mut self,
        month: Month,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, AnalyticsError>,
    ) -> Result<T, AnalyticsError> {
        self.change(month, |transaction, _| change(transaction))
    }

    fn change<T>(
        &mut self,
        month: Month,
        change: impl FnOnce(&Transaction<'_>, &mut Packer) -> Result<T, AnalyticsError>,
    ) -> Result<T, AnalyticsError> {
        let (mut connection, log) = match self.open.remove(&month) {
            Some(open) => open,
            None => open(&files::path(&self.directory, month), &self.copier)?,
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = change(&transaction, &mut self.packer)?;
        transaction.commit()?;
        log.committed(&connection);
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        self.open.insert(month, (connection, log));
        Ok(answer)
    }

    /// Lets go of the month's file.
    pub(super) fn close(&mut self, month: Month) {
        self.open.remove(&month);
    }
}

fn open(path: &Path, copier: &Copier) -> Result<(Connection, Log), AnalyticsError> {
    let mut connection = Connection::open(path)?;
    // Another process may hold the lock for a moment: a backup, a person with a shell.
    connection.busy_timeout(crate::sql::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    schema::prepare(&mut connection)?;
    let log = copier.attach(&connection, path);
    Ok((connection, log))
}

fn write(
    transaction: &Transaction<'_>,
    packer: &mut Packer,
    rows: &[&Observation],
    inserted: &mut Inserted,
) -> Result<(), AnalyticsError> {
    let bodies = rows.iter().flat_map(|row| [&row.input, &row.output]).flatten();
    if bodies.map(Bytes::len).sum::<usize>() < PACKED_APART {
        return write_with(transaction, rows, inserted, |row| Ok(packer.bodies(row)));
    }
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Bodies>>(PIECES);
        scope.spawn(move || {
            for piece in rows.chunks(PIECE) {
                let packed = piece.iter().map(|row| packer.bodies(row)).collect();
                if sender.send(packed).is_err() {
                    // Who inserts has failed.
                    return;
                }
            }
        });
        let mut packed = receiver.into_iter().flatten();
        write_with(transaction, rows, inserted, |_| {
            packed.next().ok_or_else(|| unavailable("nobody packs bodies"))
        })
    })
}

/// `bodies` is asked for each row in turn.
fn write_with(
    transaction: &Transaction<'_>,
    rows: &[&Observation],
    inserted: &mut Inserted,
    mut bodies: impl FnMut(&Observation) -> Result<Bodies, AnalyticsError>,
) -> Result<(), AnalyticsError> {
    let mut sums = rollups::Batch::default();
    let mut rid = arrivals::given(transaction)? + 1;
    let mut insert = transaction.prepare_cached(columns::INSERT)?;
    let mut insert_bodies =
        transaction.prepare_cached("INSERT INTO bodies (rid, input, output) VALUES (?1, ?2, ?3)")?;
    for observation in rows {
        let Bodies { input, output } = bodies(observation)?;
        if !columns::insert(&mut insert, observation, rid)? {
            inserted.duplicates += 1;
            continue;
        }
        inserted.rows += 1;
        sums.add(observation);
        if input.is_some() || output.is_some() {
            insert_bodies.execute(params![rid, input, output])?;
        }
        rid += 1;
    }
    sums.write(transaction)
}
