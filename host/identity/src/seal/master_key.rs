//! The master key: from the environment, or from a file that the first start makes.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::KeyInit;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use brokle_core::random::Random;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Aes256Gcm, KEY_ID_LENGTH};

/// The file's name in the data directory.
pub const KEY_FILE: &str = "encryption.key";

const KEY_LENGTH: usize = 32;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// What is given isn't a key.
    #[error(
        "{origin} is not an encryption key: 32 bytes in base64 (44 characters) or hex (64 characters) are expected"
    )]
    Malformed {
        /// Where it comes from.
        origin: String,
    },
    /// The file can't be read or made.
    #[error("the encryption key's file {} can't be read or made", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The key that all stored secrets are sealed with. Losing it loses them.
pub struct MasterKey {
    cipher: Box<Aes256Gcm>,
    id: [u8; KEY_ID_LENGTH],
}

impl MasterKey {
    /// The key made of these bytes.
    #[must_use]
    pub fn new(key: [u8; KEY_LENGTH]) -> Self {
        let key = Zeroizing::new(key);
        let digest =
            Sha256::new().chain_update("brokle master key id").chain_update(key.as_slice()).finalize();
        let mut id = [0; KEY_ID_LENGTH];
        for (to, from) in id.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        Self { cipher: Box::new(Aes256Gcm::new((&*key).into())), id }
    }

    /// Takes the key from `BROKLE_ENCRYPTION_KEY`, whose value is `environment`, or else from `encryption.key` in the
    /// data directory, which is made with a new key (mode 0600) if it isn't there. Servers that share a database must
    /// share the key: give it to them in the environment.
    ///
    /// # Errors
    /// When the value or the file holds no key, or the file can't be read or made.
    pub fn from_env_or_file(
        environment: Option<&str>,
        data_directory: &Path,
        random: &dyn Random,
    ) -> Result<Self, MasterKeyError> {
        if let Some(text) = environment {
            return decode(text)
                .map(Self::new)
                .ok_or_else(|| MasterKeyError::Malformed { origin: "BROKLE_ENCRYPTION_KEY".to_owned() });
        }
        let path = data_directory.join(KEY_FILE);
        let text = read_or_make(&path, random)
            .map_err(|source| MasterKeyError::File { path: path.clone(), source })?;
        decode(&text)
            .map(Self::new)
            .ok_or_else(|| MasterKeyError::Malformed { origin: path.display().to_string() })
    }

    pub(super) fn id(&self) -> [u8; KEY_ID_LENGTH] {
        self.id
    }

    pub(super) fn cipher(&self) -> &Aes256Gcm {
        &self.cipher
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").finish_non_exhaustive()
    }
}

/// Base64 of either alphabet, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

fn decode(text: &str) -> Option<[u8; KEY_LENGTH]> {
    let text = text.trim();
    if text.len() == 2 * KEY_LENGTH {
        return decode_hex(text);
    }
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    Zeroizing::new(bytes).as_slice().try_into().ok()
}

fn decode_hex(text: &str) -> Option<[u8; KEY_LENGTH]> {
    let mut key = [0; KEY_LENGTH];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let mut digits = pair.iter().map(|digit| char::from(*digit).to_digit(16));
        let value = digits.next()?? << 4 | digits.next()??;
        *byte = u8::try_from(value).ok()?;
    }
    Some(key)
}

fn read_or_make(path: &Path, random: &dyn Random) -> io::Result<Zeroizing<String>> {
    if !path.try_exists()? {
        make(path, random)?;
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the encryption key: chmod 600 it");
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

/// Writes a new key beside the path and links it into place, which fails if another server was faster: then that one's
/// key is the one to read, and it is whole.
fn make(path: &Path, random: &dyn Random) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let (mut key, mut chance) = (Zeroizing::new([0_u8; KEY_LENGTH]), [0_u8; 8]);
    random.fill(key.as_mut_slice());
    random.fill(&mut chance);
    let text = Zeroizing::new(STANDARD.encode(key.as_slice()));
    // A name of its own: a process that died here left one behind that would be in the way for ever.
    let temporary = path.with_extension(format!("key.{:016x}", u64::from_be_bytes(chance)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let placed =
        writeln!(file, "{}", *text).and_then(|()| file.sync_all()).and_then(|()| place(&temporary, path));
    // It is gone already if it was moved.
    let _ = fs::remove_file(&temporary);
    placed
}

fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some network file systems have no links; there, servers that start together for the first time may collide.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
        {
            fs::rename(temporary, path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::random::SystemRandom;

    use super::*;

    #[test]
    fn one_key_has_many_spellings() {
        let bytes = std::array::from_fn(|index| if index % 2 == 0 { 0xfb } else { 0xff });
        let expected = MasterKey::new(bytes).id();
        let base64 = STANDARD.encode(bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for text in [
            base64.clone(),
            base64.trim_end_matches('=').to_owned(),
            base64.replace('+', "-").replace('/', "_"),
            hex.clone(),
            hex.to_uppercase(),
            format!("{hex}\n"),
        ] {
            let key = MasterKey::from_env_or_file(Some(&text), Path::new("/nowhere"), &SystemRandom).unwrap();
            assert_eq!(key.id(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        let short = STANDARD.encode([1; 31]);
        let long = STANDARD.encode([1; 33]);
        for text in ["", "hunter2", &short, &long, &"é".repeat(32), &"+1".repeat(32)] {
            let error =
                MasterKey::from_env_or_file(Some(text), Path::new("/nowhere"), &SystemRandom).unwrap_err();
            assert!(
                matches!(&error, MasterKeyError::Malformed { origin } if origin == "BROKLE_ENCRYPTION_KEY")
            );
            assert!(text.is_empty() || !error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn the_file_is_made_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = MasterKey::from_env_or_file(None, directory.path(), &SystemRandom).unwrap();
        let again = MasterKey::from_env_or_file(None, directory.path(), &SystemRandom).unwrap();
        assert_eq!(first.id(), again.id());
        let path = directory.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");

        make(&path, &SystemRandom).unwrap();
        let kept = MasterKey::from_env_or_file(None, directory.path(), &SystemRandom).unwrap();
        assert_eq!(kept.id(), first.id(), "whoever comes second takes the first one's key");

        fs::write(&path, "nonsense").unwrap();
        let error = MasterKey::from_env_or_file(None, directory.path(), &SystemRandom).unwrap_err();
        assert!(error.to_string().contains("encryption.key is not an encryption key"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error =
            MasterKey::from_env_or_file(None, Path::new("/dev/null/data"), &SystemRandom).unwrap_err();
        assert!(error.to_string().contains("/dev/null/data/encryption.key"), "{error}");
    }
}
