//! Words that say what stands beside them.

/// How much a context word adds to a confidence.
pub(super) const BONUS: f32 = 0.35;

pub(super) const PHONE: &[&str] = &[
    "phone",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "call",
    "fax",
    "dial",
    "ring",
    "reach",
    "contact",
    "whatsapp",
    "sms",
    "text",
    "answering",
    "desk",
    "office",
    "hotline",
    "number",
    "registered",
    "direct",
    "handy",
    "téléphone",
];
pub(super) const SSN: &[&str] = &["ssn", "social", "security", "ss#", "socials"];
pub(super) const CARD: &[&str] =
    &["card", "credit", "debit", "visa", "mastercard", "amex", "maestro", "cc", "pan", "charge"];
pub(super) const PASSPORT: &[&str] = &["passport", "passports", "passeport", "reisepass", "pasaporte"];
pub(super) const LICENSE: &[&str] =
    &["driver", "drivers", "driver's", "driving", "licence", "license", "dl", "dl#"];
pub(super) const MEDICAL: &[&str] = &["mrn", "medical", "patient", "chart", "record"];
pub(super) const NATIONAL: &[&str] = &[
    "nhs",
    "nino",
    "insurance",
    "aadhaar",
    "aadhar",
    "uidai",
    "pesel",
    "cpf",
    "dni",
    "nie",
    "nif",
    "bsn",
    "burgerservicenummer",
    "sin",
    "steuer",
    "steueridentifikationsnummer",
    "personnummer",
    "codice",
    "fiscale",
    "identity",
    "national",
    "id",
    "tax",
    "itin",
    "sécurité",
];
pub(super) const BIRTH: &[&str] = &["born", "birth", "dob", "birthday", "birthdate", "date"];

/// What a find's score becomes with a context word before it.
pub(super) fn with(bytes: &[u8], at: usize, words: &[&str], score: f32) -> f32 {
    if before(bytes, at, words) { (score + BONUS).min(0.99) } else { score }
}

/// Whether one of these words stands before a place, within [`super::CONTEXT`] bytes.
pub(super) fn before(bytes: &[u8], at: usize, words: &[&str]) -> bool {
    each(bytes, at, |word| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
}

/// Which lists have a word before a place, read once for all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near(u8);

impl Near {
    pub(super) const PHONE: u8 = 1;
    pub(super) const SSN: u8 = 2;
    pub(super) const CARD: u8 = 4;
    pub(super) const MEDICAL: u8 = 8;
    pub(super) const NATIONAL: u8 = 16;

    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        let lists = [
            (Self::PHONE, PHONE),
            (Self::SSN, SSN),
            (Self::CARD, CARD),
            (Self::MEDICAL, MEDICAL),
            (Self::NATIONAL, NATIONAL),
        ];
        let mut seen = 0;
        each(bytes, at, |word| {
            for (bit, words) in lists {
                if words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())) {
                    seen |= bit;
                }
            }
            false
        });
        Self(seen)
    }

    pub(super) fn has(self, lists: &[u8]) -> bool {
        lists.iter().any(|list| self.0 & list != 0)
    }
}

/// Shows the words before a place, the nearest first, until one is it.
fn each(bytes: &[u8], at: usize, mut is: impl FnMut(&[u8]) -> bool) -> bool {
    let start = at.saturating_sub(super::CONTEXT);
    let Some(mut near) = bytes.get(start..at) else { return false };
    let inside = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80 || matches!(byte, b'\'' | b'#');
    // The first word may be cut; the same bytes are cut in a stream.
    while let Some(end) = near.iter().rposition(inside) {
        let until = near.get(..=end).unwrap_or_default();
        let begin = until.iter().rposition(|byte| !inside(byte)).map_or(0, |at| at + 1);
        let word = until.get(begin..).unwrap_or_default();
        // `\nPhone` written out.
        let written = begin.checked_sub(1).and_then(|at| near.get(at)) == Some(&b'\\');
        if is(if written { word.get(1..).unwrap_or_default() } else { word }) {
            return true;
        }
        near = near.get(..begin).unwrap_or_default();
    }
    false
}

/// Whether one of these words follows a place directly, after a space or a dash.
pub(super) fn after(bytes: &[u8], at: usize, words: &[&str]) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let gap = rest.iter().take(2).take_while(|byte| matches!(byte, b' ' | b'-' | b'(')).count();
    let rest = rest.get(gap..).unwrap_or_default();
    let length = rest.iter().take(12).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = rest.get(..length).unwrap_or_default();
    gap > 0 && words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}
