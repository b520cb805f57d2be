//! An answer as bytes: a version, whether the rest is compressed (zstd, where that makes it smaller, above [`PLAIN`]), what is
//! known of it as JSON with its length before it, and its pieces one after the other.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::store::{About, Listed};
use super::{Content, Entry};

const VERSION: u8 = 1;
/// Up to so many bytes nothing is compressed.
const PLAIN: usize = 4 << 10;
/// The quickest: answers are text.
const LEVEL: i32 = 1;
/// What there may be beside an answer of the largest size: what is known of it, and the lengths of a stream's pieces.
const BESIDE: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    about: Cow<'a, About>,
    kind: Kind,
    content_type: Option<String>,
    /// Of each piece.
    lengths: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Whole,
    Stream,
    NativeWhole,
    NativeStream,
}

/// The entry, and how it is listed; none if that can't be written.
pub(super) fn write(entry: &Entry) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = |kind: &http::HeaderValue| kind.to_str().ok().map(str::to_owned);
    let (kind, content_type, pieces) = match &entry.content {
        Content::Whole(kind, body) => (Kind::Whole, kind.as_ref().and_then(text), std::slice::from_ref(body)),
        Content::Stream(chunks) => (Kind::Stream, None, chunks.as_slice()),
        Content::NativeWhole(kind, body) => {
            (Kind::NativeWhole, kind.as_ref().and_then(text), std::slice::from_ref(body))
        }
        Content::NativeStream(kind, pieces) => {
            (Kind::NativeStream, kind.as_ref().and_then(text), pieces.as_slice())
        }
    };
    let lengths = pieces.iter().map(Bytes::len).collect();
    let head = Head { about: Cow::Borrowed(&entry.about), kind, content_type, lengths };
    let head = serde_json::to_vec(&head).ok()?;
    let mut plain = u32::try_from(head.len()).ok()?.to_le_bytes().to_vec();
    plain.extend_from_slice(&head);
    pieces.iter().for_each(|piece| plain.extend_from_slice(piece));
    let compressed = match plain.len() > PLAIN {
        true => zstd::bulk::compress(&plain, LEVEL).ok().filter(|small| small.len() < plain.len()),
        false => None,
    };
    let mut answer = vec![VERSION, u8::from(compressed.is_some())];
    answer.extend_from_slice(compressed.as_ref().unwrap_or(&plain));
    let listed = Listed { about: entry.about.clone(), bytes: answer.len() as u64 };
    Some((answer, serde_json::to_vec(&listed).ok()?))
}

/// The entry that was written; none if it is another version's, larger than an answer may be, or broken.
pub(super) fn read(answer: &[u8], max_entry_bytes: usize) -> Option<Entry> {
    let (version, rest) = answer.split_first()?;
    let (compressed, rest) = rest.split_first()?;
    if *version != VERSION {
        return None;
    }
    let most = max_entry_bytes.saturating_add(BESIDE);
    let plain = match compressed {
        0 => Bytes::copy_from_slice(rest.get(..rest.len().min(most))?),
        _ => zstd::bulk::decompress(rest, most).ok()?.into(),
    };
    let (length, rest) = plain.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let head: Head<'_> = serde_json::from_slice(rest.get(..length)?).ok()?;
    let mut at = size_of::<u32>() + length;
    let mut pieces = Vec::with_capacity(head.lengths.len());
    for length in head.lengths {
        let end = at.checked_add(length).filter(|end| *end <= plain.len())?;
        pieces.push(plain.slice(at..end));
        at = end;
    }
    let kind = head.content_type.and_then(|kind| kind.parse().ok());
    let content = match head.kind {
        Kind::Whole => Content::Whole(kind, pieces.pop()?),
        Kind::Stream => Content::Stream(pieces),
        Kind::NativeWhole => Content::NativeWhole(kind, pieces.pop()?),
        Kind::NativeStream => Content::NativeStream(kind, pieces),
    };
    Some(Entry { about: head.about.into_owned(), content })
}
