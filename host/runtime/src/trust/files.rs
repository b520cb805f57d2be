//! Files that trust hangs on: read once, with a cap, never through a symbolic link; written aside and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::TrustError;
use super::dsse::MAX_ENVELOPE;

/// The largest component that is read: 64 MiB, as `inspect` has it.
pub const MAX_COMPONENT: usize = 64 << 20;

/// A component and what vouches for it. The bytes that are verified are the bytes that are compiled.
#[derive(Debug)]
pub struct PluginFile {
    /// The component.
    pub component: Vec<u8>,
    /// The content of the `.dsse.json` beside it, if there is one.
    pub envelope: Option<Vec<u8>>,
}

impl PluginFile {
    /// Reads `NAME.wasm` and, if it is there, `NAME.wasm.dsse.json`.
    ///
    /// # Errors
    /// When a file can't be read, is no regular file (a symbolic link isn't followed), or is too large.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let component = read(path, MAX_COMPONENT)?;
        let envelope = match read(&envelope_path(path), MAX_ENVELOPE) {
            Ok(envelope) => Some(envelope),
            Err(TrustError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { component, envelope })
    }
}

/// `NAME.wasm` → `NAME.wasm.dsse.json`.
#[must_use]
pub fn envelope_path(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".dsse.json");
    name.into()
}

/// Reads a regular file of at most `cap` bytes. Another process may change it meanwhile: what comes back is what is used.
///
/// # Errors
/// When it can't be read, is no regular file, or is larger.
pub fn read(path: &Path, cap: usize) -> Result<Vec<u8>, TrustError> {
    read_with(path, cap, libc::O_NOFOLLOW)
}

/// The same for a file that the operator's configuration names, which may be a link: orchestrators mount secrets so.
///
/// # Errors
/// As [`read`].
pub fn read_named(path: &Path, cap: usize) -> Result<Vec<u8>, TrustError> {
    read_with(path, cap, 0)
}

fn read_with(path: &Path, cap: usize, flags: i32) -> Result<Vec<u8>, TrustError> {
    let io = |source| TrustError::Io { path: path.to_owned(), source };
    // NONBLOCK: opening a FIFO that somebody put there would wait for a writer.
    let flags = flags | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let link = error.raw_os_error() == Some(libc::ELOOP);
        io(if link { io::Error::other("a symbolic link; name the file itself") } else { error })
    })?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::other("no regular file")));
    }
    let mut bytes = Vec::new();
    file.take(cap as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > cap {
        return Err(io(io::Error::other(format!("larger than {cap} bytes"))));
    }
    Ok(bytes)
}

/// The same, with `None` for a file that isn't there.
pub(crate) fn read_if_there(path: &Path, cap: usize) -> Result<Option<Vec<u8>>, TrustError> {
    match read(path, cap) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(TrustError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// When it can't be made.
pub fn private_folder(path: &Path) -> Result<(), TrustError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(TrustError::io(path))
}

/// Writes a file so that a reader, or a start after a power cut, sees the old content or the new one.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TrustError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = write_new(&aside, bytes, mode).and_then(|()| fs::rename(&aside, path));
    if let Err(source) = written {
        // Best effort: the error that is told is the first one.
        let _ = fs::remove_file(&aside);
        return Err(TrustError::Io { path: path.to_owned(), source });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(TrustError::io(folder))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file that must not be there yet: a key is never overwritten.
///
/// # Errors
/// When there is such a file, or it can't be written.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TrustError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(TrustError::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(TrustError::io(path))
}
