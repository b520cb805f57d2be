//! The caller's body, as a provider may read it.

use brokle_core::json;
use bytes::Bytes;

/// A request's body, held by the host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    json: bool,
}

impl Body {
    /// A JSON body that [`json::scan`] has accepted.
    pub fn json(bytes: Bytes) -> Self {
        Self { bytes, json: true }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = start.saturating_add(length as usize).min(self.bytes.len());
        self.bytes.get(start..end).unwrap_or_default().to_vec()
    }

    pub(crate) fn get(&self, pointer: &str) -> Option<Vec<u8>> {
        let range = self.json.then(|| json::find(&self.bytes, pointer)).flatten()?;
        self.bytes.get(range).map(<[u8]>::to_vec)
    }
}
