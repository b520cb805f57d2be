//! ClickHouse's compressed blocks: 16 bytes of checksum, a byte for the method (0x82 is LZ4), the length with this header
//! of 9 bytes, the length that it had, then the block. Checksums aren't looked at: nothing leaves this machine.

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;

/// All blocks, inflated; none when they aren't what they should be.
pub(crate) fn inflate(mut blocks: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while !blocks.is_empty() {
        let block = blocks.get(CHECKSUM..)?;
        let (&method, sizes) = block.split_first()?;
        let (packed, sizes) = sizes.split_first_chunk()?;
        let (plain, _) = sizes.split_first_chunk()?;
        let packed = u32::from_le_bytes(*packed) as usize;
        let data = block.get(HEADER..packed).filter(|_| method == LZ4)?;
        whole.extend(lz4_flex::block::decompress(data, u32::from_le_bytes(*plain) as usize).ok()?);
        blocks = block.get(packed..)?;
    }
    Some(whole)
}
