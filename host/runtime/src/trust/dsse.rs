//! DSSE v1: an envelope whose signatures cover its payload *and* the payload's type, so that a statement can't be passed
//! off as a root (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>).
//!
//! Stricter than the protocol: members other than its own are refused, base64 is the standard alphabet with padding and has
//! one form only, `keyid` must be there, and no key may sign twice. At most 256 KiB and 16 signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::keys::{KeyId, PublicKey, SecretKey};

/// The largest envelope that is parsed, in bytes.
pub const MAX_ENVELOPE: usize = 256 << 10;
/// The most signatures in one.
pub const MAX_SIGNATURES: usize = 16;

/// A parsed envelope. Nothing in it is believed before its signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The signed bytes, as they were signed.
    pub payload: Vec<u8>,
    /// Who signed.
    pub signatures: Vec<KeySignature>,
}

/// A signature and the key that it claims to be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySignature {
    /// The claimed key.
    pub keyid: KeyId,
    /// `R` and `S` of RFC 8032.
    pub signature: [u8; 64],
}

/// Why bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the envelope is malformed: {0}")]
pub struct MalformedEnvelope(pub String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Parses an envelope's JSON.
    ///
    /// # Errors
    /// When it is too large, or not exactly of the form above. Never panics, whatever the bytes are.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedEnvelope> {
        let malformed = |text: &str| MalformedEnvelope(text.to_owned());
        if bytes.len() > MAX_ENVELOPE {
            return Err(MalformedEnvelope(format!("{} bytes; {MAX_ENVELOPE} are the most", bytes.len())));
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|error| MalformedEnvelope(error.to_string()))?;
        if !(1..=MAX_SIGNATURES).contains(&wire.signatures.len()) {
            return Err(MalformedEnvelope(format!("1 to {MAX_SIGNATURES} signatures are expected")));
        }
        let payload =
            STANDARD.decode(&wire.payload).map_err(|_| malformed("'payload' isn't standard base64"))?;
        let mut signatures: Vec<KeySignature> = Vec::with_capacity(wire.signatures.len());
        for WireSignature { keyid, sig } in wire.signatures {
            let bytes = STANDARD.decode(sig).map_err(|_| malformed("'sig' isn't standard base64"))?;
            let signature = bytes.try_into().map_err(|_| malformed("an Ed25519 signature has 64 bytes"))?;
            if signatures.iter().any(|other| other.keyid == keyid) {
                return Err(malformed("one key signed twice"));
            }
            signatures.push(KeySignature { keyid, signature });
        }
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// Signs a payload.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, keys: &[&SecretKey]) -> Self {
        let message = pae(payload_type, &payload);
        let signatures = keys
            .iter()
            .map(|key| KeySignature { keyid: key.public().id(), signature: key.sign(&message) })
            .collect();
        Self { payload_type: payload_type.to_owned(), payload, signatures }
    }

    /// Adds a key's signature, in the place of an older one of the same key: for what takes several people.
    pub fn cosign(&mut self, key: &SecretKey) {
        let keyid = key.public().id();
        let signature = key.sign(&self.message());
        self.signatures.retain(|other| other.keyid != keyid);
        self.signatures.push(KeySignature { keyid, signature });
    }

    /// What the signatures cover.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// Whether this signature holds for this key. `message` is [`Envelope::message`], made once for all of them.
    #[must_use]
    pub fn holds(message: &[u8], signature: &KeySignature, key: &PublicKey) -> bool {
        signature.keyid == key.id() && key.verifies(message, &signature.signature)
    }

    /// Its JSON, in one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self
                .signatures
                .iter()
                .map(|each| WireSignature { keyid: each.keyid, sig: STANDARD.encode(each.signature) })
                .collect(),
        };
        // Strings and lists of strings: there is nothing that JSON couldn't hold.
        serde_json::to_vec(&wire).unwrap_or_default()
    }
}

/// The protocol's pre-authentication encoding.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use brokle_core::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_encoding_is_the_protocols() {
        // The example of the protocol's own text.
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    fn signed() -> (SecretKey, Envelope) {
        let key = SecretKey::generate(&SeededRandom::new(1));
        let envelope = Envelope::sign("a/b", b"{\"a\":1}".to_vec(), &[&key]);
        (key, envelope)
    }

    #[test]
    fn an_envelope_survives_its_json() {
        let (key, envelope) = signed();
        let back = Envelope::parse(&envelope.to_json()).unwrap();
        assert_eq!(back, envelope);
        assert!(Envelope::holds(&back.message(), &back.signatures[0], &key.public()));
        let other = SecretKey::generate(&SeededRandom::new(2)).public();
        assert!(!Envelope::holds(&back.message(), &back.signatures[0], &other));
    }

    #[test]
    fn the_type_is_signed_too() {
        let (key, mut envelope) = signed();
        envelope.payload_type = "a/c".into();
        assert!(!Envelope::holds(&envelope.message(), &envelope.signatures[0], &key.public()));
    }

    #[test]
    fn other_forms_are_refused() {
        let (key, envelope) = signed();
        let good = String::from_utf8(envelope.to_json()).unwrap();
        let twice = Envelope::sign("a/b", vec![], &[&key, &key]).to_json();
        let none = Envelope::sign("a/b", vec![], &[]).to_json();
        let id = key.public().id().to_string();
        for bad in [
            String::from_utf8(twice).unwrap(),
            String::from_utf8(none).unwrap(),
            String::new(),
            "[]".into(),
            good.replacen('{', "{\"x\":1,", 1),
            good.replacen("\"payload\"", "\"payload\":\"\",\"payload\"", 1),
            good.replace("==", ""),
            good.replace(&id, &id.to_uppercase()),
            good.replace(&id, &id[1..]),
            format!("{good} {good}"),
            " ".repeat(MAX_ENVELOPE) + &good,
        ] {
            assert!(Envelope::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Envelope::parse(&bytes);
        }

        #[test]
        fn what_is_parsed_is_written_again(payload in proptest::collection::vec(any::<u8>(), 0..64), kind in "[ -~]{0,20}") {
            let key = SecretKey::generate(&SeededRandom::new(3));
            let envelope = Envelope::sign(&kind, payload, &[&key]);
            prop_assert_eq!(Envelope::parse(&envelope.to_json()).unwrap(), envelope);
        }
    }
}
