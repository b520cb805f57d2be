//! Components on disk: `DATA_DIR/plugins/<sha256>.wasm`, and beside it `<sha256>.wasm.dsse.json` if it is signed.
//!
//! The folder is 0700. A file is written aside, flushed and renamed, so that a reader sees all of it or nothing; the
//! envelope comes before the component, so that no signed component is ever seen without its signature. What is read is
//! capped before it is read, and its hash must be its name's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The largest component: 64 MiB.
pub const MAX_COMPONENT: u64 = 64 << 20;
/// The largest signature envelope: 256 KiB.
pub const MAX_ENVELOPE: u64 = 256 << 10;

/// A component's bytes, and its signature envelope's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The component.
    pub component: Vec<u8>,
    /// The envelope.
    pub envelope: Option<Vec<u8>>,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    /// Opens or makes the folder under a data folder.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("plugins");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn put(&self, sha256: &str, component: &[u8], envelope: Option<&[u8]>) -> io::Result<()> {
        if let Some(envelope) = envelope {
            write_aside(&self.envelope(sha256), envelope)?;
        }
        write_aside(&self.component(sha256), component)
    }

    pub(crate) fn get(&self, sha256: &str) -> io::Result<Stored> {
        let component = read_capped(&self.component(sha256), MAX_COMPONENT)?;
        if hex_digest(&component) != sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file's hash isn't its name"));
        }
        let envelope = optional(read_capped(&self.envelope(sha256), MAX_ENVELOPE))?;
        Ok(Stored { component, envelope })
    }

    pub(crate) fn remove(&self, sha256: &str) -> io::Result<()> {
        for path in [self.component(sha256), self.envelope(sha256)] {
            optional(fs::remove_file(path))?;
        }
        Ok(())
    }

    fn component(&self, sha256: &str) -> PathBuf {
        self.0.join(format!("{sha256}.wasm"))
    }

    fn envelope(&self, sha256: &str) -> PathBuf {
        self.0.join(format!("{sha256}.wasm.dsse.json"))
    }
}

/// Hex SHA-256.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a regular file that isn't a symbolic link, of `most` bytes at most.
pub(crate) fn read_capped(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

/// No such file is none.
pub(crate) fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn write_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let sha256 = hex_digest(b"component");
        files.put(&sha256, b"component", Some(b"{}")).unwrap();
        let stored = files.get(&sha256).unwrap();
        assert_eq!((&*stored.component, stored.envelope.as_deref()), (&b"component"[..], Some(&b"{}"[..])));

        fs::write(files.component(&sha256), b"c0mponent").unwrap();
        assert_eq!(files.get(&sha256).unwrap_err().kind(), io::ErrorKind::InvalidData);
        files.remove(&sha256).unwrap();
        files.remove(&sha256).unwrap();
        assert_eq!(files.get(&sha256).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_link_or_a_large_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, [0; 11]).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_capped(&link, 100).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read_capped(&file, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_capped(&file, 11).unwrap().len(), 11);
    }
}
