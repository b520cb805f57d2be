//! What an API key looks like: `bk_` and 40 characters of `[A-Za-z0-9]`, 238 bits of chance.
//!
//! Only the SHA-256 of a key is kept. A slow password hash would add nothing: there is no dictionary of 62^40 entries,
//! and the hash is computed on every request. The key itself is shown once, when it is made; after that there is its
//! preview, `bk_AbCd...XyZa`.

use std::fmt;

use brokle_core::random::Random;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::secret::Secret;

/// What every key begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "bk_";

/// How many characters follow.
pub const BODY_LENGTH: usize = 40;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// How much of either end of the body a preview shows.
const PREVIEW_LENGTH: usize = 4;

/// The SHA-256 of a whole key: what is stored, and looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    /// The first bytes only: enough to tell two apart in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(formatter, "KeyHash({a:02x}{b:02x}{c:02x}{d:02x}...)")
    }
}

/// A text that can't be a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: bk_ and 40 letters and digits are expected")]
pub struct MalformedKey;

/// Makes a key up.
#[must_use]
pub fn generate(random: &dyn Random) -> Secret {
    let mut key = String::with_capacity(PREFIX.len() + BODY_LENGTH);
    key.push_str(PREFIX);
    let mut bytes = [0_u8; 64];
    while key.len() < PREFIX.len() + BODY_LENGTH {
        random.fill(&mut bytes);
        // Six bits of each byte choose one of 64; the two beyond the alphabet are thrown away rather than folded back,
        // which would make two characters likelier than the others.
        let characters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 0x3f)));
        key.extend(characters.take(PREFIX.len() + BODY_LENGTH - key.len()).map(|byte| char::from(*byte)));
    }
    bytes.zeroize();
    Secret::new(key)
}

/// Checks a presented key's form and hashes it.
///
/// A text of the wrong length is refused at once; any other one is read to its end, so that the time says nothing about
/// where it differs, and nothing longer than a key is ever hashed.
///
/// # Errors
/// When it can't be a key.
pub fn parse(presented: &str) -> Result<KeyHash, MalformedKey> {
    if presented.len() != PREFIX.len() + BODY_LENGTH {
        return Err(MalformedKey);
    }
    let mut matches = presented.starts_with(PREFIX);
    for byte in presented.bytes().skip(PREFIX.len()) {
        matches &= byte.is_ascii_alphanumeric();
    }
    if matches { Ok(KeyHash(Sha256::digest(presented).into())) } else { Err(MalformedKey) }
}

/// Enough of a key to recognize it: `bk_AbCd...XyZa`.
#[must_use]
pub fn preview(key: &Secret) -> String {
    let body = key.expose().strip_prefix(PREFIX).unwrap_or_default();
    let ends = body.get(..PREVIEW_LENGTH).zip(body.get(body.len().saturating_sub(PREVIEW_LENGTH)..));
    let (head, tail) = ends.unwrap_or_default();
    format!("{PREFIX}{head}...{tail}")
}

/// The hash of a key that is known to be one.
pub(crate) fn hash(key: &Secret) -> KeyHash {
    KeyHash(Sha256::digest(key.expose()).into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use brokle_core::random::{SeededRandom, SystemRandom};

    use super::*;

    #[test]
    fn a_key_is_of_the_form_that_it_is_read_in() {
        let key = generate(&SystemRandom);
        assert_eq!(key.expose().len(), 43);
        assert_eq!(parse(key.expose()), Ok(hash(&key)));
        assert_ne!(generate(&SystemRandom), key);
    }

    #[test]
    fn the_hash_is_sha_256_of_the_whole_key() {
        let hash = parse("bk_AbCd0123456789AbCd0123456789AbCd01234567").unwrap();
        let hex: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "53e91902392f117101ad64e4ac507fa40bf5eadbceaf3e2896c73eff3fdc5c57");
    }

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        let random = SeededRandom::new(42);
        let mut counts: HashMap<char, u32> = HashMap::new();
        for _ in 0..2_000 {
            for character in generate(&random).expose().chars().skip(3) {
                *counts.entry(character).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 62);
        // 80,000 characters, 1,290 of each expected, standard deviation 36: a bias by modulo would give some 1,562.
        for (character, count) in counts {
            assert!((1_110..1_470).contains(&count), "{character}: {count}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let body = "A".repeat(40);
        for text in [
            String::new(),
            body.clone(),
            format!("bk_{body}A"),
            format!("bk_{}", &body[1..]),
            format!("sk_{body}"),
            format!("BK_{body}"),
            format!("bk_{}-", &body[1..]),
            format!("bk_ {}", &body[1..]),
            format!("bk_{}é", &body[2..]),
            "x".repeat(1_000_000),
        ] {
            assert_eq!(parse(&text), Err(MalformedKey), "{}", &text[..text.len().min(50)]);
        }
    }

    #[test]
    fn a_preview_shows_the_ends() {
        let key = Secret::new("bk_AbCd0123456789AbCd0123456789AbCd0123XyZa".to_owned());
        assert_eq!(preview(&key), "bk_AbCd...XyZa");
    }
}
