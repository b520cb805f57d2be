//! Going to a place in a document that [`scan`](super::scan) has accepted.

use std::borrow::Cow;
use std::ops::Range;

use super::names::name;
use super::scan::{Scanner, Visitor};

/// Where the value at an RFC 6901 pointer is; `None` when there is nothing, or when the document
/// was never scanned and turns out to be broken.
pub fn find(bytes: &[u8], pointer: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner::at(bytes, 0);
    scanner.skip_space();
    for token in tokens(pointer)? {
        match enter(&mut scanner, &token)? {
            true => {}
            false => return None,
        }
    }
    scanner.skip_space();
    let start = scanner.position();
    skip_value(&mut scanner)?;
    Some(start..scanner.position())
}

/// Where an object's members are: for a document in which several places are looked up, which is gone through once instead of
/// once for each. As a [`Visitor`] it takes them down while the document is checked.
#[derive(Debug, Clone, Default)]
pub struct Members(Vec<Member>);

/// A raw key, and its value.
type Member = (Range<usize>, Range<usize>);

impl Members {
    /// Those of a document that was scanned; none for anything but an object.
    pub fn of(bytes: &[u8]) -> Self {
        let mut found = Vec::new();
        let mut scanner = Scanner::at(bytes, 0);
        scanner.skip_space();
        if scanner.peek() == Some(b'{') {
            while let Some(member) = next_member(&mut scanner) {
                found.push(member);
            }
        }
        Self(found)
    }

    /// What [`find`] finds in the same document, but for the document itself.
    pub fn find(&self, bytes: &[u8], pointer: &str) -> Option<Range<usize>> {
        let pointer = pointer.strip_prefix('/')?;
        let end = pointer.find('/').unwrap_or(pointer.len());
        let (first, deeper) = pointer.split_at_checked(end)?;
        let first = unescaped(first);
        let same = |(key, _): &&Member| bytes.get(key.clone()).is_some_and(|key| same_key(key, &first));
        let (_, value) = self.0.iter().find(same)?;
        if deeper.is_empty() {
            return Some(value.clone());
        }
        let found = find(bytes.get(value.clone())?, deeper)?;
        Some(value.start + found.start..value.start + found.end)
    }
}

impl Visitor for Members {
    fn member(&mut self, key: Range<usize>, value: Range<usize>) {
        self.0.push((key, value));
    }
}

/// Where the next member is, from the brace or comma before it; none at the end.
fn next_member(scanner: &mut Scanner<'_>) -> Option<Member> {
    if !matches!(scanner.peek()?, b'{' | b',') {
        return None;
    }
    scanner.advance();
    scanner.skip_space();
    let opening = scanner.position();
    let key = scanner.key().ok()?.len();
    scanner.skip_space();
    let start = scanner.position();
    skip_value(scanner)?;
    let value = start..scanner.position();
    scanner.skip_space();
    Some((opening + 1..opening + 1 + key, value))
}

/// Where the elements of an array are, in a document that was scanned; empty for anything else.
pub fn elements(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut scanner = Scanner::at(bytes, 0);
    scanner.skip_space();
    if scanner.peek() != Some(b'[') {
        return found;
    }
    loop {
        scanner.advance();
        scanner.skip_space();
        let start = scanner.position();
        if matches!(scanner.peek(), None | Some(b']')) || skip_value(&mut scanner).is_none() {
            return found;
        }
        found.push(start..scanner.position());
        scanner.skip_space();
        if scanner.peek() != Some(b',') {
            return found;
        }
    }
}

/// The pointer's tokens, unescaped; `None` when it doesn't begin with a slash.
pub(super) fn tokens(pointer: &str) -> Option<Vec<Cow<'_, str>>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    Some(pointer.strip_prefix('/')?.split('/').map(unescaped).collect())
}

fn unescaped(token: &str) -> Cow<'_, str> {
    match token.contains('~') {
        true => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
        false => Cow::Borrowed(token),
    }
}

/// Moves from a container to the value under `token`; false when it has none.
pub(super) fn enter(scanner: &mut Scanner<'_>, token: &str) -> Option<bool> {
    scanner.skip_space();
    match scanner.peek()? {
        b'{' => {
            scanner.advance();
            scanner.skip_space();
            if scanner.peek()? == b'}' {
                return Some(false);
            }
            loop {
                scanner.skip_space();
                let key = scanner.key().ok()?;
                if same_key(key, token) {
                    return Some(true);
                }
                skip_value(scanner)?;
                scanner.skip_space();
                if scanner.peek()? != b',' {
                    return Some(false);
                }
                scanner.advance();
            }
        }
        b'[' => {
            let Ok(index) = token.parse::<usize>() else { return Some(false) };
            scanner.advance();
            scanner.skip_space();
            if scanner.peek()? == b']' {
                return Some(false);
            }
            for _ in 0..index {
                skip_value(scanner)?;
                scanner.skip_space();
                if scanner.peek()? != b',' {
                    return Some(false);
                }
                scanner.advance();
            }
            Some(true)
        }
        _ => Some(false),
    }
}

/// Whether a raw key is this name.
pub fn same_key(raw: &[u8], token: &str) -> bool {
    raw == token.as_bytes() || (raw.contains(&b'\\') && name(raw) == token)
}

/// Moves past one value, without recursion.
pub(super) fn skip_value(scanner: &mut Scanner<'_>) -> Option<()> {
    let mut depth = 0usize;
    loop {
        scanner.skip_space();
        match scanner.peek()? {
            b'"' => scanner.skip_string()?,
            b'{' | b'[' => {
                depth += 1;
                scanner.advance();
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                scanner.advance();
            }
            b',' | b':' if depth > 0 => {
                scanner.advance();
                continue;
            }
            b',' | b':' => return None,
            _ => {
                while !matches!(
                    scanner.peek(),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    scanner.advance();
                }
            }
        }
        if depth == 0 {
            return Some(());
        }
    }
}

/// The path of the value that a byte belongs to, as error messages name it
/// (`messages[0].content`); empty at the top. For documents that are broken at `offset`.
pub fn path_at(bytes: &[u8], offset: usize) -> String {
    enum Level<'a> {
        Object(&'a [u8]),
        Array(usize),
    }
    /// Nobody reads further than this, and the input may nest without end.
    const SHOWN: usize = 16;
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut scanner = Scanner::at(bytes, 0);
    let mut key_next = false;
    while scanner.position() < offset.min(bytes.len()) && levels.len() <= SHOWN {
        scanner.skip_space();
        let Some(byte) = scanner.peek() else { break };
        if scanner.position() >= offset {
            break;
        }
        match byte {
            b'{' => {
                levels.push(Level::Object(b""));
                key_next = true;
                scanner.advance();
            }
            b'[' => {
                levels.push(Level::Array(0));
                key_next = false;
                scanner.advance();
            }
            b'}' | b']' => {
                levels.pop();
                scanner.advance();
            }
            b',' => {
                match levels.last_mut() {
                    Some(Level::Array(index)) => *index += 1,
                    Some(Level::Object(key)) => {
                        *key = b"";
                        key_next = true;
                    }
                    None => {}
                }
                scanner.advance();
            }
            b'"' => {
                let Ok(text) = scanner.string() else { break };
                if let (true, Some(Level::Object(key))) = (key_next, levels.last_mut()) {
                    *key = text;
                    key_next = false;
                }
            }
            _ => scanner.advance(),
        }
    }
    let mut path = String::new();
    // Deeper than anybody reads: the outermost name says enough.
    let shown = if levels.len() > SHOWN { 1 } else { SHOWN };
    for level in levels.iter().take(shown) {
        match level {
            Level::Object(b"") => {}
            Level::Object(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(String::from_utf8_lossy(key).chars().take(64));
            }
            Level::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_pointer() {
        let text = r#" {"a":[1,{"b/c":"x"},[ ]],"m~n":true,"\u0061b":{"":null},"s":"}]\"{"} "#;
        let at = |pointer| find(text.as_bytes(), pointer).map(|range| &text[range]);
        assert_eq!(at("/a/0"), Some("1"));
        assert_eq!(at("/a/1/b~1c"), Some(r#""x""#));
        assert_eq!(at("/a/2"), Some("[ ]"));
        assert_eq!(at("/m~0n"), Some("true"));
        assert_eq!(at("/ab/"), Some("null"));
        assert_eq!(at("/s"), Some(r#""}]\"{""#));
        assert_eq!(at("/s/0"), None);
        assert_eq!(at("/a/3"), None);
        assert_eq!(at("/b"), None);
        assert_eq!(at("a"), None);
        assert_eq!(at(""), Some(text.trim()));
    }

    #[test]
    fn members_are_found_where_find_finds_them() {
        let text =
            r#" {"a":[1,{"b/c":"x"},[ ]], "m~n" : true ,"\u0061b":{"":null},"s":"}]\"{", "":{"a":2},"a":3} "#;
        let members = Members::of(text.as_bytes());
        for pointer in [
            "/a/0",
            "/a/1/b~1c",
            "/a/2",
            "/a/3",
            "/a",
            "/m~0n",
            "/ab",
            "/ab/",
            "/s",
            "/s/0",
            "/b",
            "a",
            "/",
            "//a",
            "//b",
        ] {
            assert_eq!(members.find(text.as_bytes(), pointer), find(text.as_bytes(), pointer), "{pointer}");
        }
        let mut visited = Members::default();
        super::super::visit(text.as_bytes(), &mut visited).unwrap();
        assert_eq!(visited.0, members.0, "the same as the scan saw");
        for other in ["", "{}", "[1]", "1", " { } "] {
            assert_eq!(Members::of(other.as_bytes()).find(other.as_bytes(), "/0"), None, "{other}");
        }
    }

    #[test]
    fn strings_end_where_the_scan_says() {
        for length in 0..200 {
            for tail in ["", "\\\"", "\\\\", "\\u0041", "ü", "\\\\\\\"x"] {
                let value = format!("\"{}{tail}{}\"", "x".repeat(length), "y".repeat(200 - length));
                let text = format!(r#"{{"a":{value},"b":1}}"#);
                assert_eq!(find(text.as_bytes(), "/b").map(|range| &text[range]), Some("1"), "{text}");
                assert_eq!(find(text.as_bytes(), "/a").map(|range| &text[range]), Some(value.as_str()));
            }
        }
        assert_eq!(find(br#"{"a":"x\"#, "/b"), None);
    }

    #[test]
    fn lists_elements() {
        let text = r#" [1, {"a":[2]} ,"x"] "#;
        let found: Vec<_> = elements(text.as_bytes()).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["1", r#"{"a":[2]}"#, r#""x""#]);
        assert!(elements(b"[ ]").is_empty() && elements(b"{}").is_empty());
    }

    #[test]
    fn names_the_field_at_fault() {
        let text = r#"{"model":"x","messages":[{"role":"user"},{"content":"\ud800"}]}"#;
        let offset = text.find("\\ud8").unwrap();
        assert_eq!(path_at(text.as_bytes(), offset), "messages[1].content");
        assert_eq!(path_at(b"{", 1), "");
        assert_eq!(path_at(&vec![b'['; 100_000], 99_999), "[0]");
    }
}
