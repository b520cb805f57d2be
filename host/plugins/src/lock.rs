//! `brokle-plugins.lock`: which hash each version has, so that the same version is the same bytes everywhere.
//!
//! ```toml
//! version = 1
//! [[plugin]]
//! id = "acme.provider-x"
//! version = "1.2.0"
//! sha256 = "9f86…"
//! source = "oci://registry.example/provider-x@sha256:…"
//! ```
//!
//! An installation writes its line. A line binds: another file of the same id and version is refused with
//! `PLUGIN_HASH_MISMATCH`. A line with `pinned = true` also vouches: an operator said so at the installation, or wrote it by
//! hand, so an unsigned component of that hash is let in. Files of the embedded set have no lines, nor have unsigned ones
//! that only development let in.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::files::{optional, read_capped, write_aside};

/// The largest lock file: 1 MiB.
const MAX_LOCK: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    #[serde(default, rename = "plugin")]
    plugins: Vec<Line>,
}

/// One version's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The component's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Hex SHA-256 of its file.
    pub sha256: String,
    /// Where it came from.
    pub source: String,
    /// An operator vouches for the hash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl Lock {
    /// Reads the file, if it is there.
    ///
    /// # Errors
    /// When it can't be read, or isn't a lock file of version 1.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let content = match optional(read_capped(&path, MAX_LOCK))? {
            None => Content { version: 1, plugins: Vec::new() },
            Some(bytes) => toml::from_slice(&bytes).map_err(|error| invalid(&path, error.message()))?,
        };
        if content.version != 1 {
            return Err(invalid(&path, "only version 1 is known"));
        }
        Ok(Self { path, content })
    }

    /// The hash that a version must have.
    #[must_use]
    pub fn sha256_of(&self, id: &str, version: &str) -> Option<&str> {
        let line = self.content.plugins.iter().find(|line| line.id == id && line.version == version);
        line.map(|line| line.sha256.as_str())
    }

    /// Does an operator vouch for this hash?
    #[must_use]
    pub fn pins(&self, sha256: &str) -> bool {
        self.content.plugins.iter().any(|line| line.pinned && line.sha256 == sha256)
    }

    /// Writes a version's line, in the place of the one that it has.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set(&mut self, line: Line) -> io::Result<()> {
        if self.content.plugins.contains(&line) {
            return Ok(());
        }
        self.content.plugins.retain(|old| old.id != line.id || old.version != line.version);
        self.content.plugins.push(line);
        self.content.plugins.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
        self.write()
    }

    /// Takes a version's line out.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn remove(&mut self, id: &str, version: &str) -> io::Result<()> {
        let before = self.content.plugins.len();
        self.content.plugins.retain(|line| line.id != id || line.version != version);
        if self.content.plugins.len() == before { Ok(()) } else { self.write() }
    }

    fn write(&self) -> io::Result<()> {
        let text = toml::to_string(&self.content).map_err(io::Error::other)?;
        let head =
            "# Written by Brokle. Keep it with your configuration: it says which bytes each version is.\n";
        write_aside(&self.path, format!("{head}{text}").as_bytes())
    }
}

fn invalid(path: &std::path::Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_outlives_the_process_and_binds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("brokle-plugins.lock");
        let mut lock = Lock::open(path.clone()).unwrap();
        let line = |version: &str, sha256: &str| Line {
            id: "acme.x".into(),
            version: version.into(),
            sha256: sha256.into(),
            source: "upload".into(),
            pinned: sha256 != "cc",
        };
        lock.set(line("1.0.0", "aa")).unwrap();
        lock.set(line("1.1.0", "bb")).unwrap();
        lock.set(line("1.0.0", "cc")).unwrap();
        let mut again = Lock::open(path.clone()).unwrap();
        assert_eq!(again.sha256_of("acme.x", "1.0.0"), Some("cc"));
        assert_eq!(again.sha256_of("acme.y", "1.0.0"), None);
        assert!(again.pins("bb") && !again.pins("aa") && !again.pins("cc"));
        again.remove("acme.x", "1.1.0").unwrap();
        assert!(!Lock::open(path.clone()).unwrap().pins("bb"));

        for wrong in ["version = 2", "version = 1\nplugins = 3", "nonsense"] {
            std::fs::write(&path, wrong).unwrap();
            let error = Lock::open(path.clone()).unwrap_err();
            assert!(error.to_string().contains("brokle-plugins.lock"), "{error}");
        }
    }
}
