//! How far a string goes on without anything to look at.

/// Most strings are shorter than what it takes to begin with longer steps.
pub(super) const SHORT: usize = 32;

/// Leading bytes of a string that need no look: no quote, backslash or control character.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plain {
    pub(super) length: usize,
    /// All of them and perhaps some after them, one on the other.
    seen: u64,
}

impl Plain {
    fn and(self, next: Self) -> Self {
        Self { length: self.length + next.length, seen: self.seen | next.seen }
    }

    /// False if they are all ASCII.
    pub(super) fn beyond_ascii(self) -> bool {
        self.seen & HIGH != 0
    }
}

/// Most strings are short, but a long prompt's time goes here too: blocks of a fixed length become vector instructions.
pub(super) fn plain(bytes: &[u8]) -> Plain {
    let short = bytes.get(..SHORT).unwrap_or(bytes);
    let mut plain = plain_words(short);
    if plain.length < short.len() {
        return plain;
    }
    let rest = |done| bytes.get(done..).unwrap_or_default();
    let (blocks, _) = rest(plain.length).as_chunks::<64>();
    for block in blocks {
        let read = |(stop, seen), &byte| (stop | stops(byte), seen | byte);
        let (stop, seen) = block.iter().fold((false, 0), read);
        if stop {
            break;
        }
        plain = plain.and(Plain { length: 64, seen: seen.into() });
    }
    plain.and(plain_words(rest(plain.length)))
}

/// Whether a string can't go on with this byte as it is.
fn stops(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// The same as [`plain`], eight at a time.
pub(super) fn plain_words(bytes: &[u8]) -> Plain {
    let zero_byte = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut plain = Plain::default();
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = zero_byte(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_byte(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = quote | backslash | control;
        if found != 0 {
            // Borrows only run upwards, so the lowest hit is a true one.
            return plain.and(Plain { length: (found.trailing_zeros() / 8) as usize, seen: word });
        }
        plain = plain.and(Plain { length: 8, seen: word });
    }
    let length = rest.iter().position(|&byte| stops(byte)).unwrap_or(rest.len());
    let seen = rest.iter().fold(0, |seen, &byte| seen | u64::from(byte));
    plain.and(Plain { length, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_stops_where_it_must_wherever_that_is() {
        for length in 0..200 {
            for at in 0..length {
                for byte in [b'"', b'\\', 0, b'\n', 0x1f] {
                    // Neighbors of the bytes that stop, and beyond ASCII.
                    let mut text: Vec<u8> =
                        b"a !#[]\x7f\xc3\xa9".iter().copied().cycle().take(length).collect();
                    assert_eq!(plain(&text).length, length);
                    text[at] = byte;
                    assert_eq!(plain(&text).length, at, "{byte} at {at} of {length}");
                }
            }
        }
    }
}
