//! `brokle:host/crypto`: digests, and keys that stay in the host.
//!
//! The arithmetic is `ring`'s, which compares and signs in constant time. A key fits one family of algorithms, by the
//! object identifier inside of it: an RSA key can't be used as an HMAC key's public half or the other way round, which
//! is how signatures get forged elsewhere. A private key is read once for each configured plugin.
//!
//! ECDSA and RSA-PSS signatures need randomness of `ring`'s own kind, which is the operating system's: these two can't
//! be repeated in a test. Everything else can.

mod der;
mod keys;

use ring::{digest, hmac};
use wasmtime::component::Resource;

pub(crate) use keys::PrivateKey;

use super::secrets::{Handle, Material};
use crate::bindings::capabilities::brokle::host::crypto::{Error, Host};
use crate::instance::State;

/// Data of one call: 1 MiB, about 5 ms of hashing. Epochs don't fire in a host call.
const MAX_DATA: usize = 1 << 20;

/// Random bytes of one call.
pub(crate) const MAX_RANDOM: u32 = 65_536;

fn sized(data: &[u8]) -> Result<(), Error> {
    if data.len() > MAX_DATA {
        return Err(Error::Invalid(format!("{} bytes; {MAX_DATA} are the most", data.len())));
    }
    Ok(())
}

/// The name as the plugin wrote it, fit for an error.
fn unsupported(algorithm: &str) -> Error {
    let name: String = algorithm.chars().take(64).collect();
    Error::Unsupported(name.escape_debug().to_string())
}

fn hmac_key(algorithm: &str, secret: &Material) -> Result<hmac::Key, Error> {
    let algorithm = match algorithm {
        "sha-256" => hmac::HMAC_SHA256,
        "sha-512" => hmac::HMAC_SHA512,
        _ => return Err(unsupported(algorithm)),
    };
    Ok(hmac::Key::new(algorithm, secret.value.expose()))
}

impl State {
    fn crypto(&self) -> Result<(), Error> {
        self.granted("crypto", |instance| instance.plugin.grants.crypto).map(drop).ok_or(Error::Denied)
    }

    fn key(&self, handle: &Resource<Handle>) -> Result<&Material, Error> {
        self.crypto()?;
        self.secret(handle).ok_or(Error::Denied)
    }

    fn private_key(&self, handle: &Resource<Handle>) -> Result<&PrivateKey, Error> {
        let material = self.key(handle)?;
        let key = material.key.get_or_init(|| PrivateKey::read(material.value.expose()));
        key.as_ref().map_err(|message| Error::BadKey(format!("secret '{}': {message}", material.name)))
    }
}

fn made_digest(state: &State, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
    state.crypto()?;
    sized(data)?;
    let algorithm = match algorithm {
        "sha-256" => &digest::SHA256,
        "sha-384" => &digest::SHA384,
        "sha-512" => &digest::SHA512,
        _ => return Err(unsupported(algorithm)),
    };
    Ok(digest::digest(algorithm, data).as_ref().to_vec())
}

impl Host for State {
    fn digest(&mut self, algorithm: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        Ok(made_digest(self, &algorithm, &data))
    }

    fn hmac(
        &mut self,
        algorithm: String,
        key: Resource<Handle>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let key = self.key(&key).and_then(|secret| hmac_key(&algorithm, secret));
        Ok(key.and_then(|key| sized(&data).map(|()| hmac::sign(&key, &data).as_ref().to_vec())))
    }

    fn hmac_verify(
        &mut self,
        algorithm: String,
        key: Resource<Handle>,
        data: Vec<u8>,
        mac: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let key = self.key(&key).and_then(|secret| hmac_key(&algorithm, secret));
        Ok(key.and_then(|key| sized(&data).map(|()| hmac::verify(&key, &data, &mac).is_ok())))
    }

    fn sign(
        &mut self,
        algorithm: String,
        key: Resource<Handle>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        Ok(self.private_key(&key).and_then(|key| sized(&data).and_then(|()| key.sign(&algorithm, &data))))
    }

    fn verify(
        &mut self,
        algorithm: String,
        public_key: Vec<u8>,
        data: Vec<u8>,
        signature: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let checked = self.crypto().and_then(|()| sized(&data)).and_then(|()| sized(&public_key));
        Ok(checked.and_then(|()| keys::verify(&algorithm, &public_key, &data, &signature)))
    }

    fn verify_own(
        &mut self,
        algorithm: String,
        key: Resource<Handle>,
        data: Vec<u8>,
        signature: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let key = self.private_key(&key);
        Ok(key.and_then(|key| sized(&data).and_then(|()| key.verify(&algorithm, &data, &signature))))
    }

    fn constant_time_equal(
        &mut self,
        left: Vec<u8>,
        right: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Error>> {
        use subtle::ConstantTimeEq as _;
        Ok(self.crypto().map(|()| left.ct_eq(&right).into()))
    }

    fn random_bytes(&mut self, length: u32) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if let Err(error) = self.crypto() {
            return Ok(Err(error));
        }
        if length > MAX_RANDOM {
            return Ok(Err(Error::Invalid(format!("{length} bytes; {MAX_RANDOM} are the most"))));
        }
        Ok(self.random_bytes_of(length).ok_or(Error::Denied))
    }
}
