//! Private keys, read once, and public keys, read each time.

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::der::{self, Family};
use super::unsupported;
use crate::bindings::capabilities::brokle::host::crypto::Error;

/// A private key.
pub(crate) enum PrivateKey {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
    /// One for each form of the signature: fixed, DER.
    P256(Box<[EcdsaKeyPair; 2]>),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// What an algorithm's name says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    RsaPkcs1,
    RsaPss,
    P256Fixed,
    P256Der,
}

impl Algorithm {
    fn named(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "ed25519" => Self::Ed25519,
            "rsa-pkcs1-sha-256" => Self::RsaPkcs1,
            "rsa-pss-sha-256" => Self::RsaPss,
            "ecdsa-p256-sha-256" => Self::P256Fixed,
            "ecdsa-p256-sha-256-der" => Self::P256Der,
            _ => return Err(unsupported(name)),
        })
    }

    fn family(self) -> Family {
        match self {
            Self::Ed25519 => Family::Ed25519,
            Self::RsaPkcs1 | Self::RsaPss => Family::Rsa,
            Self::P256Fixed | Self::P256Der => Family::P256,
        }
    }

    fn verification(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::Ed25519 => &signature::ED25519,
            Self::RsaPkcs1 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
            Self::P256Fixed => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P256Der => &signature::ECDSA_P256_SHA256_ASN1,
        }
    }
}

fn another_family() -> Error {
    Error::BadKey("the key isn't the algorithm's".into())
}

impl PrivateKey {
    /// Reads a PKCS#8 key, PEM or DER. What is wrong is said without the key in it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let pem;
        let der = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            pem = PrivatePkcs8KeyDer::from_pem_slice(bytes)
                .map_err(|_| "no PKCS#8 key in the PEM (`BEGIN PRIVATE KEY`)".to_owned())?;
            pem.secret_pkcs8_der()
        } else {
            bytes
        };
        let rejected =
            |reason: ring::error::KeyRejected| format!("a private key that can't be used: {reason}");
        match der::private_key_family(der) {
            Some(Family::Ed25519) => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519).map_err(rejected)
            }
            Some(Family::Rsa) => RsaKeyPair::from_pkcs8(der).map(Box::new).map(Self::Rsa).map_err(rejected),
            Some(Family::P256) => {
                let random = SystemRandom::new();
                let pair = |form| EcdsaKeyPair::from_pkcs8(form, der, &random).map_err(rejected);
                let fixed = pair(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?;
                let asn1 = pair(&signature::ECDSA_P256_SHA256_ASN1_SIGNING)?;
                Ok(Self::P256(Box::new([fixed, asn1])))
            }
            None => Err("no private key: PKCS#8 of Ed25519, RSA or ECDSA P-256 is expected".into()),
        }
    }

    pub(crate) fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |_| Error::Other("the signature couldn't be made".into());
        match (self, Algorithm::named(algorithm)?) {
            (Self::Ed25519(key), Algorithm::Ed25519) => Ok(key.sign(data).as_ref().to_vec()),
            (Self::Rsa(key), algorithm @ (Algorithm::RsaPkcs1 | Algorithm::RsaPss)) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    Algorithm::RsaPkcs1 => &signature::RSA_PKCS1_SHA256,
                    _ => &signature::RSA_PSS_SHA256,
                };
                let mut made = vec![0; key.public().modulus_len()];
                key.sign(padding, &SystemRandom::new(), data, &mut made).map_err(failed)?;
                Ok(made)
            }
            (Self::P256(pairs), algorithm @ (Algorithm::P256Fixed | Algorithm::P256Der)) => {
                let [fixed, asn1] = pairs.as_ref();
                let key = if algorithm == Algorithm::P256Fixed { fixed } else { asn1 };
                Ok(key.sign(&SystemRandom::new(), data).map_err(failed)?.as_ref().to_vec())
            }
            _ => Err(another_family()),
        }
    }

    pub(crate) fn verify(&self, algorithm: &str, data: &[u8], made: &[u8]) -> Result<bool, Error> {
        let algorithm = Algorithm::named(algorithm)?;
        let (family, public): (Family, &[u8]) = match self {
            Self::Ed25519(key) => (Family::Ed25519, key.public_key().as_ref()),
            Self::Rsa(key) => (Family::Rsa, key.public_key().as_ref()),
            Self::P256(pairs) => {
                let [fixed, _] = pairs.as_ref();
                (Family::P256, fixed.public_key().as_ref())
            }
        };
        if family != algorithm.family() {
            return Err(another_family());
        }
        Ok(UnparsedPublicKey::new(algorithm.verification(), public).verify(data, made).is_ok())
    }
}

/// Verifies with a `SubjectPublicKeyInfo`, PEM or DER.
pub(super) fn verify(algorithm: &str, public_key: &[u8], data: &[u8], made: &[u8]) -> Result<bool, Error> {
    let algorithm = Algorithm::named(algorithm)?;
    let pem;
    let der = if public_key.trim_ascii_start().starts_with(b"-----BEGIN") {
        pem = SubjectPublicKeyInfoDer::from_pem_slice(public_key)
            .map_err(|_| Error::BadKey("no `BEGIN PUBLIC KEY` in the PEM".into()))?;
        pem.as_ref()
    } else {
        public_key
    };
    let (family, key) = der::public_key(der)
        .ok_or_else(|| Error::BadKey("no public key: a SubjectPublicKeyInfo is expected".into()))?;
    if family != algorithm.family() {
        return Err(another_family());
    }
    Ok(UnparsedPublicKey::new(algorithm.verification(), key).verify(data, made).is_ok())
}
