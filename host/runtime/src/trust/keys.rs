//! Ed25519 keys: PKCS#8 and SubjectPublicKeyInfo in PEM (RFC 8410), ids, strict verification.
//!
//! Keys of small order and keys that can't be decompressed are refused when they are read. Verification is
//! [`ed25519_dalek::VerifyingKey::verify_strict`]: it refuses `S` beyond the group's order (RFC 8032, 5.1.7), so that a
//! signature has one form only, and `A` or `R` of small order, so that no signature holds for two messages.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use brokle_core::random::Random;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::DecodePublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::TrustError;

/// What stands before the 32 bytes of a key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The hex SHA-256 of a public key's SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&super::hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for KeyId {
    type Err = String;

    /// 64 lower-case hex digits, and nothing else: an id has one spelling.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_sha256(text).map(Self).ok_or_else(|| "a key id is 64 lower-case hex digits".to_owned())
    }
}

/// 64 lower-case hex digits.
pub(crate) fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// A key that signatures are checked with. In JSON: base64 of its SubjectPublicKeyInfo, the middle line of its PEM file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.id())
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        STANDARD.encode(key.to_der())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let der = STANDARD.decode(text).map_err(|_| "a public key is base64 of its SPKI".to_owned())?;
        let raw = der.strip_prefix(&SPKI_PREFIX).ok_or("it is no Ed25519 SubjectPublicKeyInfo")?;
        Self::from_bytes(raw.try_into().map_err(|_| "an Ed25519 key has 32 bytes")?)
    }
}

impl PublicKey {
    /// From the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// When they are no point on the curve, or one of small order, for which anybody can sign.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, String> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| "it is no point on the curve")?;
        if key.is_weak() {
            return Err("a key of small order: anybody can sign for it".to_owned());
        }
        Ok(Self(key))
    }

    /// From a PEM file (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// When it is none, or no Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let malformed = |detail: String| TrustError::Malformed { what: "the public key", detail };
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|error| malformed(format!("PEM with an Ed25519 SPKI is expected ({error})")))?;
        Self::from_bytes(key.as_bytes()).map_err(malformed)
    }

    /// The PEM file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(self.to_der()))
    }

    fn to_der(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], self.0.as_bytes()].concat()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(super::sha256(&self.to_der()))
    }

    /// Whether `signature` is this key's over `message`, strictly.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// A key that signs. Wiped from memory when it is dropped; it has no `Display`, and its `Debug` shows the id only.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({})", self.public().id())
    }
}

impl SecretKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(seed.as_mut_slice());
        Self(SigningKey::from_bytes(&seed))
    }

    /// From a PEM file (`-----BEGIN PRIVATE KEY-----`, PKCS#8), such as `openssl genpkey -algorithm ed25519` writes too.
    ///
    /// # Errors
    /// When it is none, or no Ed25519 key. The message says nothing of its content.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| TrustError::Malformed {
            what: "the private key",
            detail: "PEM with an Ed25519 key in PKCS#8 is expected; `brokle plugin keygen` makes one"
                .to_owned(),
        })
    }

    /// The PEM file. PKCS#8 version 1, which every tool reads.
    ///
    /// # Errors
    /// When it can't be encoded, which no key makes happen.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, TrustError> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        bytes
            .to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF)
            .map_err(|error| TrustError::Malformed { what: "the private key", detail: error.to_string() })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}
