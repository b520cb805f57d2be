//! Finding personal data: one pass over a text, by words.
//!
//! A word (what stands between spaces) is looked at when it has a digit, an `@`, a `://`, or begins like a month, an
//! account number or a secret. Recognisers look at the bytes around a place, never further back than [`CONTEXT`] and
//! never further on than the window, so that a stream finds what a whole text does.
//!
//! Confidence, 0 to 1: 0.95 where check digits prove it, 0.85 where the form leaves little doubt, 0.5 to 0.7 where the
//! form is right and others have it too, 0.3 where it would be a guess. A context word before it (`phone`, `passport`,
//! `born`) adds 0.35.

mod context;
mod dates;
mod ids;
mod net;
mod numbers;
#[path = "../../../plugins/guardrail-secrets/src/formats.rs"]
mod secrets;

use std::ops::Range;

use brokle_plugin::guardrail::scan::Finding;

/// The longest find but for those that go on by themselves, in bytes.
pub const WINDOW: usize = 192;
/// A word is looked at in parts of this length, so that a text without spaces costs no more than one with them; what a
/// part's places could lead to is looked for [`AHEAD`] beyond it.
const PART: usize = 256;
/// More than an address's local part and domain.
const AHEAD: usize = 192;
/// How far back context words are looked for, in bytes.
const CONTEXT: usize = 48;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "named as they are")]
pub enum Entity {
    Email,
    Phone,
    Ip,
    Mac,
    Url,
    CreditCard,
    Iban,
    Ssn,
    NationalId,
    Date,
    Passport,
    DriverLicense,
    MedicalRecord,
    Secret,
}

impl Entity {
    /// All of them, each at its own number.
    pub const ALL: [Self; 14] = [
        Self::Email,
        Self::Phone,
        Self::Ip,
        Self::Mac,
        Self::Url,
        Self::CreditCard,
        Self::Iban,
        Self::Ssn,
        Self::NationalId,
        Self::Date,
        Self::Passport,
        Self::DriverLicense,
        Self::MedicalRecord,
        Self::Secret,
    ];

    /// Its name in configuration, placeholders and annotations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::Ip => "IP",
            Self::Mac => "MAC",
            Self::Url => "URL",
            Self::CreditCard => "CREDIT_CARD",
            Self::Iban => "IBAN",
            Self::Ssn => "SSN",
            Self::NationalId => "NATIONAL_ID",
            Self::Date => "DATE",
            Self::Passport => "PASSPORT",
            Self::DriverLicense => "DRIVER_LICENSE",
            Self::MedicalRecord => "MEDICAL_RECORD",
            Self::Secret => "SECRET",
        }
    }
}

/// Something that was found, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// What.
    pub entity: Entity,
    /// 0 to 1.
    pub confidence: f32,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How sure it must be, for each entity by its number; above 1: never.
    pub least: [f32; Entity::ALL.len()],
}

impl Wanted {
    fn takes(&self, candidate: &Candidate) -> bool {
        let least = self.least.get(candidate.entity as usize).copied().unwrap_or(2.0);
        candidate.confidence >= least
    }
}

/// A find, before it is weighed.
#[derive(Debug, Clone)]
struct Candidate {
    range: Range<usize>,
    entity: Entity,
    confidence: f32,
    more: Option<fn(u8) -> bool>,
}

impl Candidate {
    fn new(range: Range<usize>, entity: Entity, confidence: f32) -> Self {
        Self { range, entity, confidence, more: None }
    }
}

/// The best find so far: the earliest; of those that begin together the surest.
struct Best<'a> {
    from: usize,
    /// Where the next part takes over.
    end: usize,
    wanted: &'a Wanted,
    found: Option<Candidate>,
}

impl Best<'_> {
    fn offer(&mut self, candidate: Option<Candidate>) {
        let here = |one: &Candidate| one.range.start >= self.from && one.range.start < self.end;
        let Some(candidate) = candidate.filter(|one| here(one) && self.wanted.takes(one)) else {
            return;
        };
        let better = self.found.as_ref().is_none_or(|found| {
            candidate.range.start < found.range.start
                || (candidate.range.start == found.range.start
                    && (candidate.confidence, candidate.range.end) > (found.confidence, found.range.end))
        });
        if better {
            self.found = Some(candidate);
        }
    }
}

/// The first find that begins at or after a place.
pub fn first(text: &str, from: usize, wanted: &Wanted) -> Option<Finding<Match>> {
    let bytes = text.as_bytes();
    let mut at = word_start(bytes, from);
    while let Some(&byte) = bytes.get(at) {
        if traits_of(byte) & SPACE != 0 {
            at += 1;
            continue;
        }
        let (seen, traits) = part(bytes, at);
        let end = seen.min(at + PART);
        if traits.interesting() {
            let mut best = Best { from, end, wanted, found: None };
            look(bytes, at..seen, traits, &mut best);
            if let Some(Candidate { range, entity, confidence, more }) = best.found {
                return Some(Finding { range, more, what: Match { entity, confidence } });
            }
        }
        at = end;
    }
    None
}

/// Where the word of a place begins, at most [`CONTEXT`] bytes back.
fn word_start(bytes: &[u8], from: usize) -> usize {
    let least = from.saturating_sub(CONTEXT);
    let before = bytes.get(least..from).unwrap_or_default();
    before.iter().rposition(u8::is_ascii_whitespace).map_or(least, |at| least + at + 1)
}

/// What a word has, as bits.
#[derive(Debug, Clone, Copy, Default)]
struct Traits(u8);

const DIGIT: u8 = 1;
const AT: u8 = 2;
const SLASH: u8 = 4;
const COLON: u8 = 8;
const DOT: u8 = 16;
const MONTH: u8 = 32;
const LONG: u8 = 64;
const SPACE: u8 = 128;

impl Traits {
    fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    fn interesting(self) -> bool {
        self.has(DIGIT | AT | MONTH | LONG) || (self.has(SLASH) && self.has(COLON))
    }
}

/// A byte's part in a word's traits.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const TRAITS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'@' => AT,
            b'/' => SLASH,
            b':' => COLON,
            b'.' => DOT,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0C => SPACE,
            _ => 0,
        };
        byte += 1;
    }
    table
};

fn traits_of(byte: u8) -> u8 {
    TRAITS.get(byte as usize).copied().unwrap_or(0)
}

/// The word that begins here, as far as it is looked at: its end, and what it has.
fn part(bytes: &[u8], at: usize) -> (usize, Traits) {
    let rest = bytes.get(at..).unwrap_or_default();
    let rest = rest.get(..PART + AHEAD).unwrap_or(rest);
    let mut bits = 0;
    let mut length = 0;
    for &byte in rest {
        let traits = traits_of(byte);
        if traits & SPACE != 0 {
            break;
        }
        bits |= traits;
        length += 1;
    }
    if length >= 20 || rest.starts_with(b"-----BEGIN") || rest.starts_with(b"www.") {
        bits |= LONG;
    }
    let bare = match rest {
        [b'(' | b'"' | b'\'', rest @ ..] => rest,
        rest => rest,
    };
    if dates::begins_like_month(bare) {
        bits |= MONTH;
    }
    (at + length, Traits(bits))
}

/// Everything that could begin in a word.
fn look(bytes: &[u8], word: Range<usize>, traits: Traits, best: &mut Best<'_>) {
    if traits.has(AT) {
        net::emails(bytes, word.clone(), |one| best.offer(Some(one)));
    }
    if traits.has(SLASH) || traits.has(LONG) {
        net::urls(bytes, word.clone(), |one| best.offer(Some(one)));
    }
    if traits.has(MONTH) {
        best.offer(dates::month_first(bytes, word.start));
    }
    let long = traits.has(LONG);
    if !traits.has(DIGIT) && !long {
        return;
    }
    let mut at = word.start.max(best.from);
    while at < best.end {
        // Nothing that begins later can be better.
        if best.found.as_ref().is_some_and(|found| found.range.start < at) {
            return;
        }
        let Some(&byte) = bytes.get(at) else { return };
        // Most places are in the middle of something.
        let begins = match at.checked_sub(1).and_then(|at| bytes.get(at)) {
            Some(before) if before.is_ascii_alphanumeric() && !matches!(before, b'n' | b'r' | b't') => false,
            _ => begins(bytes, at),
        };
        match byte {
            b'0'..=b'9' if begins => {
                best.offer(net::ip(bytes, at, traits.has(DOT), traits.has(COLON)));
                best.offer(net::mac(bytes, at));
                ids::alphanumeric(bytes, at, |one| best.offer(Some(one)));
                numbers::all(bytes, at, |one| best.offer(Some(one)));
            }
            b'+' | b'(' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                numbers::all(bytes, at, |one| best.offer(Some(one)));
            }
            b'a'..=b'z' | b'A'..=b'Z' if begins => {
                if traits.has(COLON) {
                    best.offer(net::ip(bytes, at, false, true));
                    best.offer(net::mac(bytes, at));
                }
                if traits.has(DIGIT) {
                    ids::alphanumeric(bytes, at, |one| best.offer(Some(one)));
                }
            }
            b':' if traits.has(DIGIT) && begins && bytes.get(at + 1) == Some(&b':') => {
                best.offer(net::ip(bytes, at, false, true));
            }
            _ => {}
        }
        if long && (begins || byte == b'-') {
            let secret = bytes.get(at..).and_then(secrets::secret);
            best.offer(secret.map(|(length, _, more)| Candidate {
                more,
                ..Candidate::new(at..at + length, Entity::Secret, 0.9)
            }));
        }
        at += 1;
    }
}

/// Whether a word's part may begin here: no letter or digit stands before. `\n` written out is no letter.
fn begins(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| bytes.get(at)).copied();
    match before(1) {
        Some(b'n' | b'r' | b't') => before(2) == Some(b'\\'),
        Some(byte) => !(byte.is_ascii_alphanumeric() || byte == b'_'),
        None => true,
    }
}

/// Whether a word's part may end here.
fn ends(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
}

/// From where on something could still begin, or be changed by what comes: the last word, and the words before it that
/// may belong to it (groups of digits, months, parts of account numbers), with one word of context after them.
pub fn undecided(text: &str) -> usize {
    let bytes = text.as_bytes();
    let word_before = |end: usize| {
        let end = bytes.get(..end)?.iter().rposition(|byte| !byte.is_ascii_whitespace())? + 1;
        let start = bytes.get(..end)?.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
        Some((start, bytes.get(start..end)?))
    };
    let part = |word: &[u8]| {
        word.iter().any(u8::is_ascii_digit)
            || dates::begins_like_month(word.trim_ascii_start().strip_prefix(b"(").unwrap_or(word))
            || word.eq_ignore_ascii_case(b"of")
            || (word.len() <= 4
                && word.iter().all(u8::is_ascii_alphabetic)
                && word.iter().all(u8::is_ascii_uppercase))
            || word.starts_with(b"-----")
            || word.ends_with(b"-----")
            || matches!(word, b"-" | b"(" | b"+")
    };
    let ends_open = bytes.last().is_some_and(|byte| !byte.is_ascii_whitespace());
    let mut at = match word_before(bytes.len()) {
        Some((start, _)) if ends_open => start,
        _ => bytes.len(),
    };
    // A word after a number says what the number is; it may not be complete.
    if let Some((start, _)) = word_before(at)
        && let Some((_, number)) = word_before(start)
        && number.iter().any(u8::is_ascii_digit)
    {
        at = start;
    }
    while let Some((start, word)) = word_before(at) {
        if !part(word) || bytes.len() - start > WINDOW {
            break;
        }
        at = start;
    }
    at.min(secrets::open_key(text))
}
