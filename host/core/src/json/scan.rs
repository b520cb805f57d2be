//! The validating scan.

use std::ops::Range;

use super::plain::{SHORT, plain, plain_words};

/// How deep arrays and objects may nest: as `serde_json` has it, so that what passes here can be
/// parsed by everything behind.
pub const MAX_DEPTH: usize = 127;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ScanError {
    /// What.
    pub kind: ScanErrorKind,
    /// The byte at fault, counted from 0.
    pub offset: usize,
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanErrorKind {
    /// It stops too early.
    #[error("the JSON ends too early")]
    UnexpectedEnd,
    /// A byte that can't stand here.
    #[error("unexpected character")]
    UnexpectedByte,
    /// Deeper than [`MAX_DEPTH`].
    #[error("nested deeper than 127 levels")]
    TooDeep,
    /// A raw control character in a string.
    #[error("control character in a string")]
    ControlCharacter,
    /// A backslash before something that it can't stand before.
    #[error("invalid escape")]
    InvalidEscape,
    /// `\ud800` without its other half.
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    /// `\u0000`.
    #[error("NUL character in a string")]
    Nul,
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// Something after the document.
    #[error("something follows the JSON document")]
    TrailingData,
}

/// What a scan comes past, in the order in which it ends.
pub trait Visitor {
    /// A member of the top-level object: where its key is (between the quotes, escapes as they are), and its value.
    fn member(&mut self, key: Range<usize>, value: Range<usize>);

    /// An element of an array that is the member of this key, before the member itself.
    fn element(&mut self, _key: Range<usize>, _value: Range<usize>) {}

    /// The key of a member further down, escapes as they are.
    fn key(&mut self, _raw: &[u8]) {}

    /// Any value, before what is in it.
    fn value(&mut self) {}
}

/// Checks a whole document and calls `member` for each member of its top-level object, with the
/// key's bytes (between the quotes, escapes as they are) and where the value is.
///
/// Returns where the document is, without the white space around it.
///
/// # Errors
/// What is wrong and where. Members before it may have been reported.
pub fn scan<'a>(
    bytes: &'a [u8],
    member: impl FnMut(&'a [u8], Range<usize>),
) -> Result<Range<usize>, ScanError> {
    struct Called<'a, F>(&'a [u8], F);
    impl<'a, F: FnMut(&'a [u8], Range<usize>)> Visitor for Called<'a, F> {
        fn member(&mut self, key: Range<usize>, value: Range<usize>) {
            (self.1)(self.0.get(key).unwrap_or_default(), value);
        }
    }
    visit(bytes, &mut Called(bytes, member))
}

/// The same, for who wants to know more of what is there.
///
/// # Errors
/// As [`scan`].
pub fn visit(bytes: &[u8], visitor: &mut impl Visitor) -> Result<Range<usize>, ScanError> {
    // Strings are the only place for what isn't ASCII, and are looked at there. A document that isn't text is that before all else.
    Scanner { bytes, at: 0 }.document(visitor).map_err(|fault| match std::str::from_utf8(bytes) {
        Ok(_) => fault,
        Err(error) => ScanError { kind: ScanErrorKind::InvalidUtf8, offset: error.valid_up_to() },
    })
}

pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// One bit a level: whether it is an object. [`MAX_DEPTH`] bits.
#[derive(Default)]
struct Levels {
    depth: usize,
    objects: u128,
}

impl Levels {
    fn push(&mut self, object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        self.objects = (self.objects << 1) | u128::from(object);
        self.depth += 1;
        true
    }
    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }
    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
    /// In an array that is a member of the top-level object.
    fn in_top_array(&self) -> bool {
        self.depth == 2 && self.objects & 0b11 == 0b10
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn document(mut self, visitor: &mut impl Visitor) -> Result<Range<usize>, ScanError> {
        let mut levels = Levels::default();
        let mut key = 0..0;
        self.skip_space();
        let start = self.at;
        let (mut value_start, mut element_start) = (start, start);
        'value: loop {
            self.skip_space();
            visitor.value();
            match levels.depth {
                1 => value_start = self.at,
                2 => element_start = self.at,
                _ => {}
            }
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    let object = open == b'{';
                    if !levels.push(object) {
                        return Err(self.error(ScanErrorKind::TooDeep));
                    }
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.at += 1;
                        levels.pop();
                    } else {
                        if object {
                            self.named(&levels, &mut key, visitor)?;
                        }
                        continue 'value;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return Err(self.unexpected()),
            }
            // A value has ended here; so may the containers around it.
            loop {
                if levels.depth == 1 && levels.in_object() {
                    visitor.member(key.clone(), value_start..self.at);
                } else if levels.in_top_array() {
                    visitor.element(key.clone(), element_start..self.at);
                }
                if levels.depth == 0 {
                    let end = self.at;
                    self.skip_space();
                    if self.at < self.bytes.len() {
                        return Err(self.error(ScanErrorKind::TrailingData));
                    }
                    return Ok(start..end);
                }
                self.skip_space();
                let object = levels.in_object();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.skip_space();
                            self.named(&levels, &mut key, visitor)?;
                        }
                        continue 'value;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return Err(self.unexpected()),
                }
                self.at += 1;
                levels.pop();
            }
        }
    }

    /// Reads a key: one of the top level is kept.
    fn named(
        &mut self,
        levels: &Levels,
        top: &mut Range<usize>,
        visitor: &mut impl Visitor,
    ) -> Result<(), ScanError> {
        let start = self.at + 1;
        let raw = self.key()?;
        if levels.depth == 1 {
            *top = start..start + raw.len();
        } else {
            visitor.key(raw);
        }
        Ok(())
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// A key and its colon.
    pub(super) fn key(&mut self) -> Result<&'a [u8], ScanError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let key = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(key)
    }

    /// A string; its bytes between the quotes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], ScanError> {
        self.at += 1;
        let (start, mut beyond_ascii) = (self.at, false);
        loop {
            let plain = plain(self.bytes.get(self.at..).unwrap_or_default());
            self.at += plain.length;
            beyond_ascii |= plain.beyond_ascii();
            match self.peek() {
                Some(b'"') => {
                    let string = self.bytes.get(start..self.at).unwrap_or_default();
                    if beyond_ascii && let Err(error) = std::str::from_utf8(string) {
                        let offset = start + error.valid_up_to();
                        return Err(ScanError { kind: ScanErrorKind::InvalidUtf8, offset });
                    }
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.error(ScanErrorKind::ControlCharacter)),
                None => return Err(self.error(ScanErrorKind::UnexpectedEnd)),
            }
        }
    }

    /// Moves past a string of a document that was scanned: only its end is looked for.
    pub(super) fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let short = rest.get(..SHORT).unwrap_or(rest);
            let mut plain = plain_words(short).length;
            if plain == short.len() {
                plain += memchr::memchr2(b'"', b'\\', rest.get(plain..)?)?;
            }
            self.at += plain;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.at += 2,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        let fault = |kind| ScanError { kind, offset: start };
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => self.at += 1,
            Some(_) => return Err(fault(ScanErrorKind::InvalidEscape)),
            None => return Err(self.error(ScanErrorKind::UnexpectedEnd)),
        }
        match self.hex4().ok_or(fault(ScanErrorKind::InvalidEscape))? {
            0 => Err(fault(ScanErrorKind::Nul)),
            0xDC00..=0xDFFF => Err(fault(ScanErrorKind::LoneSurrogate)),
            0xD800..=0xDBFF => {
                let low = self.bytes.get(self.at..self.at + 2) == Some(b"\\u");
                self.at += 2;
                match low.then(|| self.hex4()).flatten() {
                    Some(0xDC00..=0xDFFF) => Ok(()),
                    _ => Err(fault(ScanErrorKind::LoneSurrogate)),
                }
            }
            _ => Ok(()),
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), ScanError> {
        for expected in text {
            if self.peek() != Some(*expected) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected());
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError { kind, offset: self.at }
    }

    fn unexpected(&self) -> ScanError {
        self.error(match self.peek() {
            Some(_) => ScanErrorKind::UnexpectedByte,
            None => ScanErrorKind::UnexpectedEnd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        scan(text.as_bytes(), |key, value| {
            found.push((String::from_utf8(key.to_vec()).unwrap(), text[value].to_owned()));
        })
        .unwrap();
        found
    }

    fn kind(text: &[u8]) -> ScanErrorKind {
        scan(text, |_, _| {}).unwrap_err().kind
    }

    #[test]
    fn members_of_the_top_level_only() {
        let found =
            members(r#" { "model" : "a" ,"messages":[{"model":"no"},{}],"n":-1.5e3,"e":{},"l":[] } "#);
        let expected = [
            ("model", r#""a""#),
            ("messages", r#"[{"model":"no"},{}]"#),
            ("n", "-1.5e3"),
            ("e", "{}"),
            ("l", "[]"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(members("[{\"a\":1}]").is_empty());
    }

    #[test]
    fn what_is_refused_says_why() {
        use ScanErrorKind::*;
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(scan(&deep(MAX_DEPTH), |_, _| {}).is_ok());
        assert_eq!(kind(&deep(MAX_DEPTH + 1)), TooDeep);
        assert_eq!(kind(&vec![b'['; 100_000]), TooDeep);
        assert_eq!(kind(b"{\"a\":"), UnexpectedEnd);
        assert_eq!(kind(b"{'a':1}"), UnexpectedByte);
        assert_eq!(kind(b"{\"a\":1,}"), UnexpectedByte);
        assert_eq!(kind(b"[01]"), UnexpectedByte);
        assert_eq!(kind(b"{} {}"), TrailingData);
        assert_eq!(kind(b"\"\n\""), ControlCharacter);
        assert_eq!(kind(b"\"\\x\""), InvalidEscape);
        assert_eq!(kind(b"\"\\u00\""), InvalidEscape);
        assert_eq!(kind(b"\"\\u0000\""), Nul);
        assert_eq!(kind(b"\"\\ud800\""), LoneSurrogate);
        assert_eq!(kind(b"\"\\udc00\\ud800\""), LoneSurrogate);
        assert_eq!(kind(b"\"\xff\""), InvalidUtf8);
        assert_eq!(kind(b"{} \xff"), InvalidUtf8, "before all else");
        assert!(scan(br#""\ud83d\ude00""#, |_, _| {}).is_ok());
    }

    /// What a visitor is told, one after the other.
    struct Told<'a>(&'a str, Vec<String>, usize);

    impl Visitor for Told<'_> {
        fn member(&mut self, key: Range<usize>, value: Range<usize>) {
            self.1.push(format!("{} is {}", &self.0[key], &self.0[value]));
        }
        fn element(&mut self, key: Range<usize>, value: Range<usize>) {
            self.1.push(format!("{} has {}", &self.0[key], &self.0[value]));
        }
        fn key(&mut self, raw: &[u8]) {
            self.1.push(String::from_utf8(raw.to_vec()).unwrap());
        }
        fn value(&mut self) {
            self.2 += 1;
        }
    }

    #[test]
    fn a_visitor_is_told_of_elements_and_deeper_keys() {
        let told = |text| {
            let mut told = Told(text, Vec::new(), 0);
            visit(text.as_bytes(), &mut told).unwrap();
            (told.1, told.2)
        };
        let (told_of, values) = told(r#"{"a":[ 1 ,{"k\u0031":[2,3]},[],"é"],"b":{"c":[4]} , "d":[]}"#);
        assert_eq!(values, 13);
        assert_eq!(
            told_of,
            [
                "a has 1",
                r"k\u0031",
                r#"a has {"k\u0031":[2,3]}"#,
                "a has []",
                "a has \"é\"",
                r#"a is [ 1 ,{"k\u0031":[2,3]},[],"é"]"#,
                "c",
                r#"b is {"c":[4]}"#,
                "d is []"
            ]
        );
        assert_eq!(told(r#"[[1],{"a":1}]"#).0, ["a"], "the array isn't a member");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(|f| serde_json::json!(f)),
            "[^\0]{0,20}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[^\0]{0,12}", inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_writes(value in json()) {
            let text = serde_json::to_vec_pretty(&value).unwrap();
            let mut count = 0;
            prop_assert!(scan(&text, |_, _| count += 1).is_ok());
            prop_assert_eq!(count, value.as_object().map_or(0, serde_json::Map::len));
        }

        /// Whatever is done to a document, the scan never accepts more than `serde_json` does.
        #[test]
        fn accepts_nothing_that_serde_json_refuses(
            value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = at.index(text.len());
            if cut { text.truncate(at); } else { text[at] = byte; }
            let scanned = scan(&text, |_, _| {});
            let is_text = !scanned.as_ref().is_err_and(|error| error.kind == ScanErrorKind::InvalidUtf8);
            prop_assert_eq!(is_text, std::str::from_utf8(&text).is_ok());
            if scanned.is_ok() {
                // Numbers out of range are valid JSON that serde_json can't hold.
                let parsed = serde_json::from_slice::<&serde_json::value::RawValue>(&text);
                prop_assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}
