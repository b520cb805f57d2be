//! Key files on the command line.

use std::path::{Path, PathBuf};

use brokle_runtime::trust::{PublicKey, SecretKey, TrustError, files};

/// The largest key file that is read, in bytes.
const MAX_KEY: usize = 16 << 10;

/// Writes `NAME.key.pem` (0600) and `NAME.pub.pem`; neither may be there yet. Gives back the secret one's path.
pub(crate) fn write_pair(folder: &Path, name: &str, key: &SecretKey) -> Result<PathBuf, TrustError> {
    let secret = folder.join(format!("{name}.key.pem"));
    files::create(&secret, key.to_pem()?.as_bytes(), 0o600)?;
    files::create(&folder.join(format!("{name}.pub.pem")), key.public().to_pem().as_bytes(), 0o644)?;
    Ok(secret)
}

/// Reads private keys.
pub(crate) fn secrets(paths: &[PathBuf]) -> Result<Vec<SecretKey>, Box<dyn std::error::Error + Send + Sync>> {
    let mut keys = Vec::with_capacity(paths.len());
    for path in paths {
        let pem = text(path)?;
        keys.push(SecretKey::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(keys)
}

/// Reads a public key.
pub(crate) fn public(path: &Path) -> Result<PublicKey, Box<dyn std::error::Error + Send + Sync>> {
    let pem = text(path)?;
    Ok(PublicKey::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn text(path: &Path) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let bytes = files::read_named(path, MAX_KEY)?;
    Ok(String::from_utf8(bytes).map_err(|_| format!("{}: no PEM file", path.display()))?)
}
