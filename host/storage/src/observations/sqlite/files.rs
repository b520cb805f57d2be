//! The month files' names.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::{AnalyticsError, Month};
use super::unavailable;

pub(super) fn path(directory: &Path, month: Month) -> PathBuf {
    directory.join(format!("observations-{month}.db"))
}

pub(super) fn create_directory(directory: &Path) -> Result<(), AnalyticsError> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory).map_err(unavailable)
}

/// The months that have a file.
pub(super) fn months(directory: &Path) -> Result<BTreeSet<Month>, AnalyticsError> {
    let mut months = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(unavailable)? {
        let name = entry.map_err(unavailable)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("observations-")?.strip_suffix(".db"));
        months.extend(digits.and_then(Month::parse));
    }
    Ok(months)
}

/// Deletes the month's file, its log and its index of the log. The database itself goes first: a crash in between
/// leaves a log without a database, which SQLite drops when it makes the file anew.
pub(super) fn delete(directory: &Path, month: Month) -> Result<(), AnalyticsError> {
    let database = path(directory, month);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unavailable(error)),
            _ => {}
        }
    }
    Ok(())
}
