//! Secrets at rest: AES-256-GCM under one master key.
//!
//! A sealed secret is `version (1 byte, 1) · key id (4 bytes) · nonce (12 bytes) · ciphertext · tag (16 bytes)`. The key
//! id is the beginning of a hash of the master key: it tells an operator that the wrong key is in use from data that was
//! tampered with, and leaves room for changing keys. The nonce is random, which is safe for 2^32 secrets under one key
//! (NIST SP 800-38D, 8.3). The associated data are the header and the ids of the organization and the connection, so a
//! sealed secret that is copied to another row or another tenant doesn't open there.

mod master_key;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Payload};
use brokle_core::ids::{ConnectionId, OrganizationId};
use brokle_core::random::Random;
use zeroize::Zeroize;

pub use self::master_key::{KEY_FILE, MasterKey, MasterKeyError};
use crate::secret::Secret;

const VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 4;
const NONCE_LENGTH: usize = 12;
const HEADER_LENGTH: usize = 1 + KEY_ID_LENGTH;

/// Why a secret can't be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It isn't a sealed secret, or a newer version wrote it.
    #[error("the stored secret is of an unknown form")]
    Format,
    /// It was sealed under another master key.
    #[error("the stored secret was sealed with another BROKLE_ENCRYPTION_KEY than the one in use")]
    WrongKey,
    /// It was changed, or belongs to another connection.
    #[error("the stored secret was tampered with or belongs to another connection")]
    Tampered,
    /// It is longer than the cipher allows: 64 GiB.
    #[error("the secret is too long")]
    TooLong,
}

/// Whose secret it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The organization.
    pub organization: OrganizationId,
    /// Its connection.
    pub connection: ConnectionId,
}

impl Binding {
    fn associated_data(self, header: &[u8]) -> Vec<u8> {
        let ids = [self.organization.as_u128().to_be_bytes(), self.connection.as_u128().to_be_bytes()];
        [header, ids.as_flattened()].concat()
    }
}

impl MasterKey {
    /// Seals a secret for one connection.
    ///
    /// # Errors
    /// [`SealError::TooLong`].
    pub fn seal(&self, secret: &Secret, binding: Binding, random: &dyn Random) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LENGTH];
        random.fill(&mut nonce);
        let mut sealed = [&[VERSION][..], &self.id()].concat();
        let aad = binding.associated_data(&sealed);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let ciphertext = self.cipher().encrypt(&nonce.into(), payload).map_err(|_| SealError::TooLong)?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed for this connection.
    ///
    /// # Errors
    /// [`SealError::Format`], [`SealError::WrongKey`] or [`SealError::Tampered`].
    pub fn open(&self, sealed: &[u8], binding: Binding) -> Result<Secret, SealError> {
        let (header, rest) = sealed.split_first_chunk::<HEADER_LENGTH>().ok_or(SealError::Format)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LENGTH>().ok_or(SealError::Format)?;
        let [version, key_id @ ..] = header;
        if *version != VERSION {
            return Err(SealError::Format);
        }
        if *key_id != self.id() {
            return Err(SealError::WrongKey);
        }
        let payload = Payload { msg: ciphertext, aad: &binding.associated_data(header) };
        let plain = self.cipher().decrypt(&(*nonce).into(), payload).map_err(|_| SealError::Tampered)?;
        let text = String::from_utf8(plain).map_err(|error| {
            error.into_bytes().zeroize();
            SealError::Format
        })?;
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::SystemClock;
    use brokle_core::random::SystemRandom;

    use super::*;

    fn binding() -> Binding {
        Binding {
            organization: OrganizationId::generate(&SystemClock, &SystemRandom),
            connection: ConnectionId::generate(&SystemClock, &SystemRandom),
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_connection_alone() {
        let (key, secret, binding) =
            (MasterKey::new([7; 32]), Secret::new("sk-secret".to_owned()), binding());
        let sealed = key.seal(&secret, binding, &SystemRandom).unwrap();
        assert_eq!(sealed.len(), 1 + 4 + 12 + 9 + 16);
        assert!(!sealed.windows(9).any(|window| window == b"sk-secret"));
        assert_eq!(key.open(&sealed, binding), Ok(secret.clone()));
        assert_ne!(key.seal(&secret, binding, &SystemRandom).unwrap(), sealed, "a nonce is used once");

        let other = self::binding();
        for stolen in [
            Binding { organization: other.organization, ..binding },
            Binding { connection: other.connection, ..binding },
        ] {
            assert_eq!(key.open(&sealed, stolen), Err(SealError::Tampered));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, binding) = (MasterKey::new([7; 32]), binding());
        let sealed = key.seal(&Secret::new("sk-secret".to_owned()), binding, &SystemRandom).unwrap();
        for byte in 0..sealed.len() {
            for bit in 0..8 {
                let mut tampered = sealed.clone();
                tampered[byte] ^= 1 << bit;
                let expected = match byte {
                    0 => SealError::Format,
                    1..=4 => SealError::WrongKey,
                    _ => SealError::Tampered,
                };
                assert_eq!(key.open(&tampered, binding), Err(expected), "bit {bit} of byte {byte}");
            }
        }
        for length in 0..sealed.len() {
            assert!(key.open(&sealed[..length], binding).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn another_master_key_is_called_that() {
        let binding = binding();
        let sealed =
            MasterKey::new([7; 32]).seal(&Secret::new(String::new()), binding, &SystemRandom).unwrap();
        assert_eq!(MasterKey::new([8; 32]).open(&sealed, binding), Err(SealError::WrongKey));
    }
}
