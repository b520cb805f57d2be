//! Compiled code, kept between starts.
//!
//! Compiled code is native code: whoever can put a file here can run anything in the host. So
//! the folder is 0700, each file carries an HMAC-SHA256 by a key that only this host has, over
//! the file's name and content, and a file is checked in memory before it is handed to the
//! engine. The name carries the component's hash, the runtime's version, the engine's
//! compatibility hash and [`POLICY_VERSION`], so that nothing stale is ever found. Files are
//! written aside and renamed. Anything that doesn't check is compiled anew.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Raised when the engine's settings change in a way that its own hash doesn't see.
const POLICY_VERSION: u32 = 1;
const MAC_LENGTH: usize = 32;

/// The cache of one host.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
}

impl Cache {
    /// Opens or makes the cache under a data folder. `fresh_key` is used when there is no key yet.
    pub(crate) fn open(data_dir: &Path, fresh_key: [u8; 32]) -> std::io::Result<Self> {
        let folder = data_dir.join("cache");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join("host.key");
        let key = match fs::read(&path) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice()).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let key = match key {
            Some(key) => key,
            None => {
                write_aside(&path, &[&fresh_key])?;
                fresh_key
            }
        };
        Ok(Self { folder, key })
    }

    /// The compiled form of a component, from the cache when it is there and true.
    pub(crate) fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
        let name = file_name(engine, digest);
        let file = fs::read(self.folder.join(&name)).ok()?;
        let (mac, code) = file.split_at_checked(MAC_LENGTH)?;
        if self.mac(&name, code).verify_slice(mac).is_err() {
            tracing::warn!(file = name, "compiled code in the cache fails its check; compiling anew");
            return None;
        }
        // SAFETY: the bytes were written by `store` with this host's key, which nobody else has,
        // and were checked in memory, so they are what `Component::serialize` gave.
        #[expect(unsafe_code, reason = "deserialize trusts its input, which was authenticated just above")]
        let component = unsafe { Component::deserialize(engine, code) };
        component.inspect_err(|error| tracing::warn!(file = name, %error, "compiling anew")).ok()
    }

    /// Keeps a compiled component. A cache that can't be written only costs time at the next start.
    pub(crate) fn store(&self, engine: &Engine, digest: &[u8; 32], component: &Component) {
        let name = file_name(engine, digest);
        let written = component.serialize().map_err(std::io::Error::other).and_then(|code| {
            let mac = self.mac(&name, &code).finalize().into_bytes();
            write_aside(&self.folder.join(&name), &[&mac, &code])
        });
        if let Err(error) = written {
            tracing::warn!(file = name, %error, "compiled code couldn't be kept");
        }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }
}

fn file_name(engine: &Engine, digest: &[u8; 32]) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let compatibility = hex(hasher.0.finalize().get(..8).unwrap_or_default());
    format!("{}-{compatibility}-{POLICY_VERSION}.cwasm", hex(digest))
}

/// Writes beside, then renames, so that a reader sees the old file or the new one.
fn write_aside(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    // A name of its own for each write: two that begin at once don't take each other's file away.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{write}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&aside, path)
}
