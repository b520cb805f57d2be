//! Bodies on disk: one byte that says how, then the bytes.

use brokle_core::observation::Observation;
use rusqlite::types::ValueRef;
use serde_json::value::RawValue;
use zstd::bulk::Compressor;

use super::super::AnalyticsError;
use super::super::view::show as show_body;
use super::corrupt;

const PLAIN: u8 = 0;
/// Then four bytes of the length it had (little endian), and a zstd frame.
const ZSTD: u8 = 1;
/// Shorter bodies stay as they are: they would save some hundred bytes of disk for 4 µs each.
const WORTH_IT: usize = 1 << 10;
/// The fastest of zstd's regular levels: it runs for every captured call.
const LEVEL: i32 = 1;

/// Turns bodies into what is stored, with one working memory for all.
pub(super) struct Packer {
    compressor: Option<Compressor<'static>>,
}

/// An observation's bodies as they are stored.
pub(super) struct Bodies {
    pub(super) input: Option<Vec<u8>>,
    pub(super) output: Option<Vec<u8>>,
}

impl Packer {
    pub(super) fn new() -> Self {
        // Without memory for a compressor bodies are stored as they are.
        Self { compressor: Compressor::new(LEVEL).ok() }
    }

    pub(super) fn bodies(&mut self, observation: &Observation) -> Bodies {
        Bodies {
            input: observation.input.as_ref().map(|body| self.pack(body)),
            output: observation.output.as_ref().map(|body| self.pack(body)),
        }
    }

    fn pack(&mut self, body: &[u8]) -> Vec<u8> {
        if let (Some(compressor), Ok(length)) = (&mut self.compressor, u32::try_from(body.len()))
            && body.len() >= WORTH_IT
            && let Ok(frame) = compressor.compress(body)
            && frame.len() < body.len()
        {
            let mut packed = Vec::with_capacity(5 + frame.len());
            packed.push(ZSTD);
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(&frame);
            return packed;
        }
        let mut packed = Vec::with_capacity(1 + body.len());
        packed.push(PLAIN);
        packed.extend_from_slice(body);
        packed
    }
}

/// The body as it came.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, AnalyticsError> {
    match packed.split_first() {
        Some((&PLAIN, body)) => Ok(body.to_vec()),
        Some((&ZSTD, rest)) => {
            let (length, frame) = rest.split_first_chunk().ok_or_else(|| corrupt("a body is cut off"))?;
            zstd::bulk::decompress(frame, u32::from_le_bytes(*length) as usize).map_err(corrupt)
        }
        _ => Err(corrupt("a body is stored in an unknown way")),
    }
}

/// A body column for a reader: the JSON as it came, or a string where it isn't JSON (bytes that aren't UTF-8 become
/// U+FFFD).
pub(super) fn show(column: ValueRef<'_>) -> Result<Option<Box<RawValue>>, AnalyticsError> {
    let Some(packed) = column.as_blob_or_null().map_err(corrupt)? else { return Ok(None) };
    show_body(unpack(packed)?).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &[u8]) -> String {
        show(ValueRef::Blob(&Packer::new().pack(body))).unwrap().unwrap().get().to_owned()
    }

    #[test]
    fn json_comes_back_byte_for_byte() {
        let long = format!(r#"{{"b": 1, "a": [1.0, "{}"]}}"#, "0 \\ud800".repeat(500));
        for json in [r#"{"b":1,"a":1.0,"b":2}"#, r#""lone \ud800""#, "null", &long] {
            assert_eq!(shown(json.as_bytes()), json);
        }
        assert!(Packer::new().pack(long.as_bytes()).len() < 100, "and small");
    }

    #[test]
    fn anything_else_comes_back_as_a_string() {
        assert_eq!(shown("data: nul \0 \u{1f980}".as_bytes()), "\"data: nul \\u0000 \u{1f980}\"");
        assert_eq!(shown(b"\xff\xfe"), "\"\u{fffd}\u{fffd}\"");
        assert_eq!(shown(b""), r#""""#);
    }

    #[test]
    fn damage_is_an_error() {
        let mut packed = Packer::new().pack(&[7; 2_000]);
        packed.truncate(8);
        for bad in [&packed[..], b"", b"\x01\x00", b"\x09x"] {
            assert!(matches!(show(ValueRef::Blob(bad)), Err(AnalyticsError::Corrupt(_))));
        }
    }
}
