//! Gzip (RFC 1952) with stored blocks (RFC 1951 §3.2.4): not smaller, but every reader must inflate it, and each block
//! can be read as soon as it is there, as from a provider that flushes its compressor after each event.

/// The most that one stored block holds.
const MAX_BLOCK: usize = 0xffff;

/// A gzip member under way.
#[derive(Debug)]
pub(crate) struct Gzip {
    started: bool,
    crc: u32,
    length: u32,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self { started: false, crc: !0, length: 0 }
    }

    /// The bytes that carry `data`.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 64);
        if !std::mem::replace(&mut self.started, true) {
            // Deflate, no flags, no time, no extra flags, unknown system.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        }
        for block in data.chunks(MAX_BLOCK) {
            stored(&mut out, block, false);
        }
        self.crc = data.iter().fold(self.crc, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        // ISIZE is the length modulo 2^32.
        self.length = self.length.wrapping_add(u32::try_from(data.len() & 0xffff_ffff).unwrap_or(0));
        out
    }

    /// The last block and the trailer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = self.push(&[]);
        stored(&mut out, &[], true);
        out.extend_from_slice(&(!self.crc).to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out
    }
}

fn stored(out: &mut Vec<u8>, block: &[u8], last: bool) {
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
    out.push(u8::from(last));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// What the system's gzip makes of it.
    fn inflate(bytes: Vec<u8>) -> Vec<u8> {
        let mut child =
            Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn another_gzip_reads_it() {
        let long: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut gzip = Gzip::new();
        let bytes = [gzip.push(b"first"), gzip.push(&long), gzip.push(b"last"), gzip.finish()].concat();
        assert_eq!(inflate(bytes), [&b"first"[..], &long, b"last"].concat());
        assert_eq!(inflate(Gzip::new().finish()), b"");
    }
}
