//! Bodies that were compressed on their way, taken apart within bounds.
//!
//! `gzip` (all members of it: some senders concatenate), `deflate` (zlib's form, as HTTP means it) and `zstd`; one coding
//! only. Whatever a body claims to become, no more than the cap is ever made of it; what becomes larger than [`UNMEASURED`]
//! is inflated once for its size first, and kept only if that is within the cap: a bomb costs time, and little memory.

use std::io::{self, Read};

use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// How much is inflated between two looks at the cap.
const STEP: usize = 64 * 1024;
/// Up to here a body is inflated at once: batches of exporters are smaller.
const UNMEASURED: usize = 4 << 20;
/// zstd's window is memory that the sender chooses: 8 MiB at most, what RFC 9659 lets HTTP use.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A `Content-Encoding` that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The coding that a `Content-Encoding` names, in any case; none for another one, or for several.
    #[must_use]
    pub fn of(header: &str) -> Option<Self> {
        let name = header.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if name.is_empty() || is("identity") {
            Some(Self::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why a body can't be inflated.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// It becomes larger than allowed.
    #[error("the body is larger than {0} bytes once it is inflated")]
    TooLarge(usize),
    /// The server has no memory for it now.
    #[error("there is no room to inflate the body")]
    NoRoom,
    /// It isn't what its header says.
    #[error("the body isn't what its Content-Encoding says")]
    Invalid(#[source] std::io::Error),
}

/// The body as it was before it was compressed. `grow` is asked before each further piece is kept, with its bytes; it
/// says no when the server's memory is used up.
///
/// # Errors
/// As [`InflateError`] says.
pub fn inflate(
    coding: Coding,
    body: &[u8],
    max_bytes: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    match coding {
        Coding::Identity => read(|| Ok(body), max_bytes, grow),
        Coding::Gzip => read(|| Ok(MultiGzDecoder::new(body)), max_bytes, grow),
        Coding::Deflate => read(|| Ok(ZlibDecoder::new(body)), max_bytes, grow),
        Coding::Zstd => {
            let decoder = || {
                let mut decoder = zstd::stream::read::Decoder::new(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            };
            read(decoder, max_bytes, grow)
        }
    }
}

fn read<R: Read>(
    source: impl Fn() -> io::Result<R>,
    max_bytes: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let mut inflating = source().map_err(InflateError::Invalid)?;
    let (mut inflated, mut is_measured) = (Vec::new(), false);
    loop {
        if inflated.len() >= UNMEASURED && !is_measured {
            let size = measure(source().map_err(InflateError::Invalid)?, max_bytes)?;
            inflated.reserve_exact(size.saturating_sub(inflated.len()));
            is_measured = true;
        }
        // One byte beyond the cap tells that there is more.
        let step = STEP.min(max_bytes + 1 - inflated.len()) as u64;
        let more = (&mut inflating).take(step).read_to_end(&mut inflated).map_err(InflateError::Invalid)?;
        if inflated.len() > max_bytes {
            return Err(InflateError::TooLarge(max_bytes));
        }
        if more == 0 {
            return Ok(inflated);
        }
        if !grow(more) {
            return Err(InflateError::NoRoom);
        }
    }
}

/// How many bytes a body becomes.
fn measure(source: impl Read, max_bytes: usize) -> Result<usize, InflateError> {
    let counted = io::copy(&mut source.take(max_bytes as u64 + 1), &mut io::sink());
    let size = usize::try_from(counted.map_err(InflateError::Invalid)?).unwrap_or(usize::MAX);
    if size > max_bytes { Err(InflateError::TooLarge(max_bytes)) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(coding: Coding, body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        inflate(coding, body, max, &mut |_| true)
    }

    #[test]
    fn every_coding_gives_the_bytes_back() {
        let text = b"spans ".repeat(50_000);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        for (coding, body) in [
            (Coding::Identity, text.clone()),
            (Coding::Gzip, gzip(&text)),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Zstd, zstd::bulk::compress(&text, 1).unwrap()),
        ] {
            assert!(all(coding, &body, text.len()).unwrap() == text, "{coding:?}");
            let too_large = all(coding, &body, text.len() - 1);
            assert!(matches!(too_large, Err(InflateError::TooLarge(_))), "{coding:?}");
            if coding != Coding::Identity {
                let cut = all(coding, &body[..body.len() - 5], text.len());
                assert!(matches!(cut, Err(InflateError::Invalid(_))), "{coding:?}: {cut:?}");
                let other = all(coding, b"{\"resourceSpans\":[]}", 100);
                assert!(matches!(other, Err(InflateError::Invalid(_))), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_cap() {
        let bomb = gzip(&vec![0; 32 << 20]);
        let mut grown = 0;
        let answer = inflate(Coding::Gzip, &bomb, 1 << 20, &mut |more| {
            grown += more;
            true
        });
        assert!(matches!(answer, Err(InflateError::TooLarge(_))) && grown <= 1 << 20, "{grown}");
        let mut grown = 0;
        let answer = inflate(Coding::Gzip, &bomb, 20 << 20, &mut |more| {
            grown += more;
            true
        });
        assert!(matches!(answer, Err(InflateError::TooLarge(_))) && grown <= UNMEASURED, "{grown}");
        let mut room = 100_000_usize;
        let answer = inflate(Coding::Gzip, &bomb, 64 << 20, &mut |more| {
            room.checked_sub(more).map(|left| room = left).is_some()
        });
        assert!(matches!(answer, Err(InflateError::NoRoom)));
    }

    #[test]
    fn what_is_large_and_allowed_takes_no_more_memory_than_it_has_bytes() {
        let text = b"spans ".repeat(1 << 20);
        for body in [gzip(&text), gzip(&text[..text.len() / 2]).repeat(2)] {
            let inflated = all(Coding::Gzip, &body, 64 << 20).unwrap();
            assert!(inflated == text && inflated.capacity() <= text.len(), "{}", inflated.capacity());
        }
    }

    #[test]
    fn members_of_gzip_count_together() {
        let members = gzip(&[b'x'; 1_000]).repeat(1_000);
        assert_eq!(all(Coding::Gzip, &members, 1_000_000).unwrap().len(), 1_000_000);
        assert!(matches!(all(Coding::Gzip, &members, 999_999), Err(InflateError::TooLarge(_))));
    }

    #[test]
    fn a_window_of_the_senders_choice_is_bounded() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![1; 20 << 20]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(all(Coding::Zstd, &body, 64 << 20), Err(InflateError::Invalid(_))));
    }

    #[test]
    fn one_known_coding_is_understood() {
        for (header, coding) in [
            ("", Some(Coding::Identity)),
            ("GZIP", Some(Coding::Gzip)),
            (" deflate ", Some(Coding::Deflate)),
            ("zstd", Some(Coding::Zstd)),
            ("br", None),
            ("gzip, gzip", None),
            ("gzip;q=1", None),
        ] {
            assert_eq!(Coding::of(header), coding, "{header}");
        }
    }
}
