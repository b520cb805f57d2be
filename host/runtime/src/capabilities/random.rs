//! `brokle:host/random`: bytes from the host's generator, which is a CSPRNG.

use super::crypto::MAX_RANDOM;
use crate::bindings::capabilities::brokle::host::random::{Error, Host};
use crate::instance::State;

impl State {
    /// Random bytes, when there is a host to ask.
    pub(crate) fn random_bytes_of(&self, length: u32) -> Option<Vec<u8>> {
        let instance = self.capabilities.as_ref()?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        instance.plugin.services.random.fill(&mut bytes);
        Some(bytes)
    }
}

impl Host for State {
    fn bytes(&mut self, length: u32) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if self.granted("random", |instance| instance.plugin.grants.random).is_none() {
            return Ok(Err(Error::Denied));
        }
        if length > MAX_RANDOM {
            return Ok(Err(Error::Invalid(format!("{length} bytes; {MAX_RANDOM} are the most"))));
        }
        Ok(self.random_bytes_of(length).ok_or(Error::Denied))
    }

    fn number(&mut self) -> wasmtime::Result<Result<u64, Error>> {
        let granted = self.granted("random", |instance| instance.plugin.grants.random);
        Ok(granted.ok_or(Error::Denied).map(|instance| {
            let mut bytes = [0; 8];
            instance.plugin.services.random.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        }))
    }
}
