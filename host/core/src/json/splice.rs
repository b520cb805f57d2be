//! Edits that keep every other byte.

use std::borrow::Cow;
use std::ops::Range;

use super::find::{enter, find, same_key, skip_value, tokens};
use super::scan::Scanner;

/// One change to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets the value at an RFC 6901 pointer. Missing parents are made, as objects; `-` at the
    /// end appends to an array.
    Set(&'a str, Cow<'a, [u8]>),
    /// Removes what is at a pointer; nothing happens when there is nothing.
    Remove(&'a str),
}

/// Why a change can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The pointer isn't one.
    #[error("'{0}' is not a JSON pointer")]
    Pointer(String),
    /// The pointer goes through something that is neither object nor array, or past an array.
    #[error("there is nothing at '{0}' to put a value into")]
    Path(String),
    /// What is to be put in isn't JSON.
    #[error("the value for '{0}' is not JSON")]
    Value(String),
}

/// What is replaced, and by what.
type Piece = (Range<usize>, Vec<u8>);

/// A document as slices of the original with new pieces in between.
#[derive(Debug)]
pub struct Splices<'a> {
    original: Cow<'a, [u8]>,
    /// In order, not overlapping.
    pieces: Vec<Piece>,
}

impl<'a> Splices<'a> {
    /// Applies changes, in order, to a document that was scanned.
    ///
    /// # Errors
    /// The first change that can't be made.
    pub fn apply(document: &'a [u8], changes: &[Change<'_>]) -> Result<Self, EditError> {
        let mut splices = Self { original: Cow::Borrowed(document), pieces: Vec::new() };
        for change in changes {
            let mut place = splices.locate(change);
            // A change that may touch an earlier one's place sees the document as it then is.
            let overlaps = match &place {
                Ok(Some(piece)) => splices.touches(piece),
                Ok(None) => matches!(change, Change::Remove(_)),
                Err(_) => true,
            };
            if overlaps && !splices.pieces.is_empty() {
                splices = Self { original: Cow::Owned(splices.to_vec()), pieces: Vec::new() };
                place = splices.locate(change);
            }
            // What is there already needn't be put there.
            let differs = |(range, new): &Piece| splices.original.get(range.clone()) != Some(new.as_slice());
            if let Some(piece) = place?.filter(differs) {
                splices.pieces.push(piece);
                splices.pieces.sort_by_key(|(range, _)| range.start);
            }
        }
        Ok(splices)
    }

    /// Whether nothing changes.
    pub fn is_unchanged(&self) -> bool {
        self.pieces.is_empty() && matches!(self.original, Cow::Borrowed(_))
    }

    /// The document's new length in bytes.
    pub fn len(&self) -> usize {
        let removed: usize = self.pieces.iter().map(|(range, _)| range.len()).sum();
        let added: usize = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        self.original.len() - removed + added
    }

    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts, in order: `kept` gets ranges of the original document, `new` what is put in.
    /// When edits touched each other the whole document is one new part.
    pub fn parts<T>(self, kept: impl Fn(Range<usize>) -> T, new: impl Fn(Vec<u8>) -> T) -> Vec<T> {
        if let Cow::Owned(_) = self.original {
            return vec![new(self.to_vec())];
        }
        let mut parts = Vec::with_capacity(self.pieces.len() * 2 + 1);
        let mut at = 0;
        for (range, piece) in self.pieces {
            if at < range.start {
                parts.push(kept(at..range.start));
            }
            if !piece.is_empty() {
                parts.push(new(piece));
            }
            at = range.end;
        }
        if at < self.original.len() {
            parts.push(kept(at..self.original.len()));
        }
        parts
    }

    /// The whole document.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut document = Vec::with_capacity(self.len());
        let mut at = 0;
        for (range, piece) in &self.pieces {
            document.extend_from_slice(self.original.get(at..range.start).unwrap_or_default());
            document.extend_from_slice(piece);
            at = range.end;
        }
        document.extend_from_slice(self.original.get(at..).unwrap_or_default());
        document
    }

    /// Whether a piece has to see what the others have made of the document: they are at its place, or one of the two
    /// takes away what the other's comma depends on.
    fn touches(&self, (range, new): &Piece) -> bool {
        self.pieces.iter().any(|(other, other_new)| {
            let meet = range.start <= other.end && other.start <= range.end;
            let inserts_and_removes =
                (range.is_empty() && other_new.is_empty()) || (new.is_empty() && other.is_empty());
            meet || inserts_and_removes
        })
    }

    /// The range that a change replaces, and with what.
    fn locate(&self, change: &Change<'_>) -> Result<Option<Piece>, EditError> {
        match change {
            Change::Set(pointer, value) => {
                if super::scan(value, |_, _| {}).is_err() {
                    return Err(EditError::Value((*pointer).to_owned()));
                }
                let tokens = tokens(pointer).ok_or_else(|| EditError::Pointer((*pointer).to_owned()))?;
                if let Some(range) = find(&self.original, pointer) {
                    return Ok(Some((range, value.to_vec())));
                }
                insertion(&self.original, &tokens, value)
                    .map(Some)
                    .ok_or_else(|| EditError::Path((*pointer).to_owned()))
            }
            Change::Remove(pointer) => {
                let tokens = tokens(pointer).ok_or_else(|| EditError::Pointer((*pointer).to_owned()))?;
                Ok(removal(&self.original, &tokens).map(|range| (range, Vec::new())))
            }
        }
    }
}

/// Where a missing value goes: just before the end of the deepest container that is there.
fn insertion(document: &[u8], tokens: &[Cow<'_, str>], value: &[u8]) -> Option<Piece> {
    let mut present = 0;
    let mut scanner = Scanner::at(document, 0);
    let mut container = 0;
    for token in tokens {
        scanner.skip_space();
        container = scanner.position();
        if !enter(&mut scanner, token)? {
            break;
        }
        present += 1;
    }
    let (first, rest) = tokens.get(present..)?.split_first()?;
    // Only objects are made on the way.
    let nested = rest.iter().rev().fold(value.to_vec(), |inner, key| {
        [b"{", quoted(key).as_slice(), b":", inner.as_slice(), b"}"].concat()
    });
    let mut scanner = Scanner::at(document, container);
    let opened = scanner.peek()?;
    let empty = {
        let mut inside = Scanner::at(document, container + 1);
        inside.skip_space();
        matches!(inside.peek()?, b'}' | b']')
    };
    skip_value(&mut scanner)?;
    let end = scanner.position() - 1;
    let comma: &[u8] = if empty { b"" } else { b"," };
    let piece = match opened {
        b'{' => [comma, quoted(first).as_slice(), b":", nested.as_slice()].concat(),
        b'[' if first == "-" => [comma, nested.as_slice()].concat(),
        _ => return None,
    };
    Some((end..end, piece))
}

/// The range of a member or element with the comma that it leaves behind.
fn removal(document: &[u8], tokens: &[Cow<'_, str>]) -> Option<Range<usize>> {
    let (last, parents) = tokens.split_last()?;
    let mut scanner = Scanner::at(document, 0);
    for token in parents {
        if !enter(&mut scanner, token)? {
            return None;
        }
    }
    scanner.skip_space();
    let object = scanner.peek()? == b'{';
    if !object && scanner.peek()? != b'[' {
        return None;
    }
    scanner.advance();
    let mut before = scanner.position();
    let mut first = true;
    let mut index = 0usize;
    loop {
        scanner.skip_space();
        if matches!(scanner.peek()?, b'}' | b']') {
            return None;
        }
        let start = scanner.position();
        let hit = match object {
            true => same_key(scanner.key().ok()?, last),
            false => last.parse() == Ok(index),
        };
        skip_value(&mut scanner)?;
        let end = scanner.position();
        scanner.skip_space();
        let comma = scanner.peek()? == b',';
        if hit {
            return Some(match (first, comma) {
                (true, true) => start..scanner.position() + 1,
                (true, false) => start..end,
                (false, _) => before..end,
            });
        }
        if !comma {
            return None;
        }
        before = scanner.position();
        scanner.advance();
        first = false;
        index += 1;
    }
}

fn quoted(key: &str) -> Vec<u8> {
    serde_json::Value::from(key).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(document: &str, changes: &[Change<'_>]) -> String {
        let splices = Splices::apply(document.as_bytes(), changes).unwrap();
        let whole = String::from_utf8(splices.to_vec()).unwrap();
        assert_eq!(splices.len(), whole.len());
        let parts = splices.parts(|range| document[range].to_owned(), |new| String::from_utf8(new).unwrap());
        assert_eq!(parts.concat(), whole);
        whole
    }

    fn set<'a>(pointer: &'a str, value: &'a str) -> Change<'a> {
        Change::Set(pointer, value.as_bytes().into())
    }

    #[test]
    fn other_bytes_stay() {
        let document = r#"{ "model" : "a",  "x":[1, 2],"y":{} }"#;
        assert_eq!(edited(document, &[set("/model", r#""b""#)]), r#"{ "model" : "b",  "x":[1, 2],"y":{} }"#);
        assert_eq!(edited(document, &[set("/x/-", "3")]), r#"{ "model" : "a",  "x":[1, 2,3],"y":{} }"#);
        assert_eq!(edited(document, &[set("/y/k", "3")]), r#"{ "model" : "a",  "x":[1, 2],"y":{"k":3} }"#);
        assert_eq!(edited(document, &[set("/x/0", "[]")]), r#"{ "model" : "a",  "x":[[], 2],"y":{} }"#);
        assert_eq!(edited("{}", &[set("/a/b~1c", "1")]), r#"{"a":{"b/c":1}}"#);
    }

    #[test]
    fn removal_takes_its_comma() {
        let remove = |document, pointer| edited(document, &[Change::Remove(pointer)]);
        assert_eq!(remove(r#"{"a":1,"b":2,"c":3}"#, "/a"), r#"{"b":2,"c":3}"#);
        assert_eq!(remove(r#"{"a":1,"b":2,"c":3}"#, "/b"), r#"{"a":1,"c":3}"#);
        assert_eq!(remove(r#"{"a":1,"b":2,"c":3}"#, "/c"), r#"{"a":1,"b":2}"#);
        assert_eq!(remove(r#"{"a":1}"#, "/a"), "{}");
        assert_eq!(remove(r#"{"l":[1,2,3]}"#, "/l/1"), r#"{"l":[1,3]}"#);
        assert_eq!(remove(r#"{"l":[1]}"#, "/l/4"), r#"{"l":[1]}"#);
        assert_eq!(remove(r#"{"l":[1]}"#, "/no/4"), r#"{"l":[1]}"#);
    }

    #[test]
    fn edits_that_touch_each_other_see_the_result() {
        let changes = [set("/o/a", "1"), set("/o/b", "2"), set("/o/a", "{}"), set("/o/a/c", "3")];
        assert_eq!(edited("{}", &changes), r#"{"o":{"a":{"c":3},"b":2}}"#);
        // Commas depend on what else is there.
        let (remove, add) = (Change::Remove("/o/a"), set("/o/b", "2"));
        for changes in [[remove.clone(), add.clone()], [add, remove]] {
            let edited = edited(r#"{"o":{"a":1 }}"#, &changes);
            assert!([r#"{"o":{ "b":2}}"#, r#"{"o":{"b":2}}"#].contains(&edited.as_str()), "{edited}");
        }
        // Back to what it was.
        assert_eq!(edited(r#"{"a":1}"#, &[set("/a", "2"), set("/a", "1")]), r#"{"a":1}"#);
        let changes = [Change::Remove("/a"), Change::Remove("/b"), set("/c", "1")];
        assert_eq!(edited(r#"{"a":1,"b":2}"#, &changes), r#"{"c":1}"#);
    }

    #[test]
    fn equal_is_unchanged_and_bad_is_refused() {
        let document = br#"{"stream_options":{"include_usage":true},"s":"x"}"#;
        assert!(
            Splices::apply(document, &[set("/stream_options/include_usage", "true")]).unwrap().is_unchanged()
        );
        let refused = |change| Splices::apply(document, &[change]).unwrap_err();
        assert_eq!(refused(set("/s/deeper", "1")), EditError::Path("/s/deeper".into()));
        assert_eq!(refused(set("no-slash", "1")), EditError::Pointer("no-slash".into()));
        assert_eq!(refused(set("/s", "{")), EditError::Value("/s".into()));
    }
}
