//! A watched folder: what is dropped in is offered to the catalogue.
//!
//! Polled each second by name, size and time of change, rather than by the operating system's notifications: those are
//! silent on network file systems and miss what Kubernetes does to a mounted ConfigMap, queues of them overflow, and a
//! second is soon enough. A file is read once it has looked the same in two polls, so that one that is still being
//! copied isn't taken for a broken one. `NAME.wasm.dsse.json` is the signature of `NAME.wasm`: a component is looked at
//! again when its signature comes later. A file that goes away changes nothing: removing is a decision, not an accident.
//!
//! At most [`MAX_FILES`] components are looked at, in the order of their names; symbolic links aren't followed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::{MAX_COMPONENT, MAX_ENVELOPE, Stored, optional, read_capped};

/// Components in a folder at most.
pub const MAX_FILES: usize = 256;

/// What a file looked like.
type Look = (u64, Option<SystemTime>);

/// A component and its signature, as they looked; and whether they were read like this.
#[derive(Debug)]
struct Seen {
    component: Look,
    envelope: Option<Look>,
    read: bool,
}

/// A new or changed file.
#[derive(Debug)]
pub struct Found {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub read: io::Result<Stored>,
}

/// A watched folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    seen: HashMap<String, Seen>,
}

impl Folder {
    /// Watches a folder, which needn't be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: HashMap::new() }
    }

    /// What is new or changed since the last time, and has come to rest. Blocks on the file system.
    pub fn look(&mut self) -> Vec<Found> {
        let names = self.names();
        self.seen.retain(|name, _| names.contains(name));
        let mut found = Vec::new();
        for name in names {
            let path = self.path.join(&name);
            let Some(component) = look_at(&path) else { continue };
            let envelope_path = self.path.join(format!("{name}.dsse.json"));
            let envelope = look_at(&envelope_path);
            match self.seen.get_mut(&name) {
                Some(seen) if seen.component == component && seen.envelope == envelope => {
                    if !seen.read {
                        seen.read = true;
                        found.push(Found { read: read(&path, &envelope_path), name });
                    }
                }
                _ => {
                    self.seen.insert(name, Seen { component, envelope, read: false });
                }
            }
        }
        found
    }

    /// Offers every file again at the next look: what was refused may be let in now.
    pub fn offer_again(&mut self) {
        for seen in self.seen.values_mut() {
            seen.read = false;
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".wasm") && !name.starts_with('.'))
            .collect();
        names.sort();
        if names.len() > MAX_FILES {
            tracing::warn!(folder = %self.path.display(), files = names.len(), "only {MAX_FILES} plugins are looked at");
            names.truncate(MAX_FILES);
        }
        names
    }
}

fn look_at(path: &Path) -> Option<Look> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}

fn read(component: &Path, envelope: &Path) -> io::Result<Stored> {
    Ok(Stored {
        component: read_capped(component, MAX_COMPONENT)?,
        envelope: optional(read_capped(envelope, MAX_ENVELOPE))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_has_come_to_rest_and_again_when_it_changes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("drop");
        let mut folder = Folder::new(path.clone());
        assert!(folder.look().is_empty(), "a folder that isn't there yet is no error");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.wasm"), b"one").unwrap();
        fs::write(path.join("readme.txt"), b"no").unwrap();
        assert!(folder.look().is_empty(), "seen for the first time");
        fs::write(path.join("a.wasm"), b"one and more").unwrap();
        assert!(folder.look().is_empty(), "still being written");
        let found = folder.look();
        assert_eq!((found.len(), found[0].name.as_str()), (1, "a.wasm"));
        assert_eq!(found[0].read.as_ref().unwrap().component, b"one and more");
        assert!(folder.look().is_empty());
        folder.offer_again();
        assert_eq!(folder.look().len(), 1);

        fs::write(path.join("a.wasm.dsse.json"), b"{}").unwrap();
        folder.look();
        let found = folder.look();
        assert_eq!(found[0].read.as_ref().unwrap().envelope.as_deref(), Some(&b"{}"[..]));

        std::os::unix::fs::symlink("/etc/passwd", path.join("b.wasm")).unwrap();
        folder.look();
        assert!(folder.look()[0].read.is_err(), "a link isn't followed");
    }
}
