//! Numbers in groups: cards, social security numbers, phones, national numbers of digits alone.

use super::context::Near;
use super::{Candidate, Entity, context, dates, ends, ids};

/// The most groups and digits that are looked at.
const GROUPS: usize = 8;
const DIGITS: usize = 24;

/// Groups of digits with up to three bytes of separators between them.
struct Phrase {
    /// Begin and end of each group.
    groups: [(usize, usize); GROUPS],
    /// The length of each.
    sizes: [usize; GROUPS],
    count: usize,
    digits: [u8; DIGITS],
    /// Digits up to the end of each group.
    totals: [usize; GROUPS],
}

impl Phrase {
    fn read(bytes: &[u8], place: usize) -> Option<Self> {
        let mut phrase = Self {
            groups: [(0, 0); GROUPS],
            sizes: [0; GROUPS],
            count: 0,
            digits: [0; DIGITS],
            totals: [0; GROUPS],
        };
        let mut at = place;
        let mut total = 0;
        while phrase.count < GROUPS {
            let gap = if phrase.count == 0 { 2 } else { 3 };
            let separators = bytes.get(at..)?.iter().take(gap).take_while(|byte| separator(**byte)).count();
            let start = at + separators;
            let mut end = start;
            while let Some(digit) = bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
                *phrase.digits.get_mut(total)? = digit - b'0';
                total += 1;
                end += 1;
                if total == DIGITS {
                    return (phrase.count > 0).then_some(phrase);
                }
            }
            if end == start || (phrase.count > 0 && separators == 0) {
                break;
            }
            *phrase.groups.get_mut(phrase.count)? = (start, end);
            *phrase.totals.get_mut(phrase.count)? = total;
            *phrase.sizes.get_mut(phrase.count)? = end - start;
            phrase.count += 1;
            at = end;
        }
        (phrase.count > 0).then_some(phrase)
    }

    fn end(&self, count: usize) -> usize {
        self.groups.get(count - 1).map_or(0, |group| group.1)
    }

    fn digits(&self, count: usize) -> &[u8] {
        let total = self.totals.get(count - 1).copied().unwrap_or(0);
        self.digits.get(..total).unwrap_or_default()
    }

    /// The lengths of the first groups.
    fn lengths(&self, count: usize) -> &[usize] {
        self.sizes.get(..count).unwrap_or_default()
    }

    /// Whether the separators of the first groups are all of one kind.
    fn evenly(&self, bytes: &[u8], count: usize, kinds: &[u8]) -> bool {
        let mut between = self.groups.iter().take(count).zip(self.groups.iter().take(count).skip(1));
        let first = self.groups.first().and_then(|group| bytes.get(group.1)).copied();
        between.all(|(a, b)| {
            b.0 - a.1 == 1
                && bytes.get(a.1).copied() == first
                && first.is_some_and(|kind| kinds.contains(&kind))
        })
    }

    /// Whether the number may end behind its first groups: what follows isn't joined to it.
    fn closes(&self, bytes: &[u8], count: usize) -> bool {
        let end = self.end(count);
        if !ends(bytes, end) {
            return false;
        }
        match self.groups.get(count).filter(|_| count < self.count) {
            Some(next) => bytes.get(end..next.0).is_some_and(|gap| gap.contains(&b' ')),
            None => {
                !(matches!(bytes.get(end), Some(b'-' | b'/' | b'.'))
                    && bytes.get(end + 1).is_some_and(u8::is_ascii_digit))
            }
        }
    }
}

fn separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'+')
}

/// Everything that a number at this place could be.
pub(super) fn all(bytes: &[u8], place: usize, mut offer: impl FnMut(Candidate)) {
    if !opens(bytes, place) {
        return;
    }
    dates::numeric(bytes, place).into_iter().for_each(&mut offer);
    dates::day_first(bytes, place).into_iter().for_each(&mut offer);
    dates::year_alone(bytes, place).into_iter().for_each(&mut offer);
    let Some(phrase) = Phrase::read(bytes, place) else { return };
    let words = std::cell::OnceCell::new();
    let near = || *words.get_or_init(|| Near::read(bytes, place));
    let with =
        |words: u8, score: f32| if near().has(&[words]) { (score + context::BONUS).min(0.99) } else { score };
    for count in (1..=phrase.count).rev().filter(|&count| phrase.digits(count).len() >= 7) {
        if let Some(phone) = phone(bytes, place, &phrase, count, near) {
            offer(phone);
        }
        if !phrase.closes(bytes, count) || !bytes.get(place).is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let range = place..phrase.end(count);
        if let Some(confidence) = card(bytes, &phrase, count) {
            let confidence = with(Near::CARD, confidence);
            offer(Candidate::new(range.clone(), Entity::CreditCard, confidence));
        }
        if let Some(confidence) = ssn(bytes, &phrase, count) {
            let confidence = with(Near::SSN, confidence);
            offer(Candidate::new(range.clone(), Entity::Ssn, confidence));
        }
        // Brazil writes two kinds.
        let plain =
            count == 1 || phrase.evenly(bytes, count, b" -./") || phrase.lengths(count) == [3, 3, 3, 2];
        if let Some(confidence) = ids::digits(phrase.digits(count), phrase.lengths(count)).filter(|_| plain) {
            let confidence = with(Near::NATIONAL, confidence);
            offer(Candidate::new(range.clone(), Entity::NationalId, confidence));
        }
        if count == 1 {
            ids::labelled(bytes, range, &mut offer);
        }
    }
}

/// Whether a number may begin here: it isn't the middle of a longer one, or an amount of money.
fn opens(bytes: &[u8], place: usize) -> bool {
    let before = |back: usize| place.checked_sub(back).and_then(|at| bytes.get(at)).copied();
    match before(1) {
        Some(b'-' | b'/' | b'.') => !before(2).is_some_and(|byte| byte.is_ascii_alphanumeric()),
        Some(b',') => !before(2).is_some_and(|byte| byte.is_ascii_digit()),
        Some(b'$' | b'+' | b'#') => false,
        Some(b'(') => before(2) != Some(b'+') && !before(2).is_some_and(|byte| byte.is_ascii_digit()),
        _ => true,
    }
}

/// ISO/IEC 7812: 12 to 19 digits of a known issuer range with the check digit of Luhn.
fn card(bytes: &[u8], phrase: &Phrase, count: usize) -> Option<f32> {
    let digits = phrase.digits(count);
    let lengths = phrase.lengths(count);
    let grouped = count == 1
        || (phrase.evenly(bytes, count, b" -")
            && (matches!(lengths, [4, 6, 5] | [4, 6, 4])
                || lengths
                    .split_last()
                    .is_some_and(|(last, rest)| *last <= 7 && rest.iter().all(|&length| length == 4))));
    if !(12..=19).contains(&digits.len()) || !grouped || !ids::luhn(digits) {
        return None;
    }
    let head =
        |count: usize| digits.iter().take(count).fold(0u32, |value, &digit| value * 10 + u32::from(digit));
    let issuer = match head(1) {
        4 | 6 => true,
        5 => (50..=58).contains(&head(2)),
        2 => {
            ((2221..=2720).contains(&head(4)) && digits.len() == 16)
                || (head(4) == 2131 && digits.len() == 15)
        }
        3 => matches!(head(2), 30 | 34..=39),
        1 => head(4) == 1800 && digits.len() == 15,
        _ => false,
    };
    issuer.then_some(if digits.len() >= 14 { 0.9 } else { 0.6 })
}

/// A social security number of the United States, without those that the administration never gives out.
fn ssn(bytes: &[u8], phrase: &Phrase, count: usize) -> Option<f32> {
    let &[a, b, c, d, e, f, g, h, i] = phrase.digits(count) else { return None };
    let area = u32::from(a) * 100 + u32::from(b) * 10 + u32::from(c);
    if matches!(area, 0 | 666) || (d, e) == (0, 0) || (f, g, h, i) == (0, 0, 0, 0) {
        return None;
    }
    let grouped = phrase.lengths(count) == [3, 2, 4];
    // From 900 on they are taxpayers' numbers, of the same form and as personal.
    match (grouped, count) {
        (true, _) if phrase.evenly(bytes, count, b"-") => Some(0.85),
        (true, _) if phrase.evenly(bytes, count, b" .") => Some(0.6),
        (false, 1) => Some(0.3),
        _ => None,
    }
}

/// Phones: `+` and a country's code; North America's form; national forms, surer with a word such as `call` before or
/// `office` behind them.
fn phone(
    bytes: &[u8],
    place: usize,
    phrase: &Phrase,
    count: usize,
    near: impl Fn() -> Near,
) -> Option<Candidate> {
    let digits = phrase.digits(count);
    let lengths = phrase.lengths(count);
    let mut end = phrase.end(count);
    let extension = extension(bytes, end);
    if extension == end && !phrase.closes(bytes, count) {
        return None;
    }
    end = extension;
    let tight = phrase
        .groups
        .iter()
        .take(count)
        .zip(phrase.groups.iter().skip(1).take(count - 1))
        .all(|(a, b)| bytes.get(a.1..b.0).is_some_and(|gap| !gap.contains(&b'/') || gap == b"/"));
    if !tight || !(7..=15).contains(&digits.len()) {
        return None;
    }
    let plus = bytes.get(place) == Some(&b'+');
    let bracket = count > 1
        && bytes.get(place) == Some(&b'(')
        && lengths.first().is_some_and(|&length| length <= 5)
        && phrase.groups.first().is_some_and(|group| bytes.get(group.1) == Some(&b')'));
    let american = match digits {
        [1, a, _, _, b, ..] if digits.len() == 11 => *a >= 2 && *b >= 2,
        [a, _, _, b, ..] if digits.len() == 10 => *a >= 2 && *b >= 2,
        _ => false,
    };
    let thousands = lengths.split_first().is_some_and(|(first, rest)| {
        *first <= 3 && !rest.is_empty() && rest.iter().all(|&length| length == 3)
    });
    let score: f32 = match lengths {
        _ if plus && digits.len() >= 8 => 0.85,
        _ if bytes.get(place) == Some(&b'(') && !bracket => return None,
        [3, 3, 4] | [1, 3, 3, 4] if american => 0.75,
        [3, 3, 4] if phrase.evenly(bytes, count, b"-.") || bracket => 0.55,
        [3, 3, 3, 4] if digits.starts_with(&[0, 0, 1]) => 0.75,
        _ if digits.starts_with(&[0]) && (9..=13).contains(&digits.len()) && count > 1 => 0.6,
        [_] if digits.starts_with(&[0]) && (10..=11).contains(&digits.len()) => 0.5,
        [10] if american => 0.3,
        _ if bracket && digits.len() >= 8 => 0.55,
        _ if thousands && phrase.evenly(bytes, count, b" .") => 0.25,
        _ if count >= 3 && (8..=12).contains(&digits.len()) => 0.4,
        [3, 4] | [2, 6] | [2, 5] | [4, 4] | [4, 7] | [5, 6] | [3, 2, 3] | [3, 3, 3] => 0.25,
        [8..=12] => 0.2,
        _ if count >= 2 => 0.2,
        _ => return None,
    };
    let behind = context::after(bytes, end, &["office", "fax", "mobile", "cell", "home", "work", "desk"]);
    let near = near();
    // Another word says that it is another number, of which there are many with a phone's form.
    let other = !behind && near.has(&[Near::NATIONAL, Near::CARD, Near::SSN, Near::MEDICAL]);
    let score = match (behind || near.has(&[Near::PHONE]), other) {
        (_, true) => score - 0.3,
        (true, false) => (score + context::BONUS).min(0.99),
        (false, false) => score,
    };
    Some(Candidate::new(place..end, Entity::Phone, score))
}

/// `x123`, ` ext. 123`: where it ends.
fn extension(bytes: &[u8], end: usize) -> usize {
    let rest = bytes.get(end..).unwrap_or_default();
    let gap = rest.iter().take(1).take_while(|&&byte| byte == b' ').count();
    let body = rest.get(gap..).unwrap_or_default();
    let word = ["ext. ", "ext.", "ext ", "ext", "x"]
        .iter()
        .find(|word| body.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes())));
    let Some(word) = word else { return end };
    let digits = body.iter().skip(word.len()).take(7).take_while(|byte| byte.is_ascii_digit()).count();
    let stop = end + gap + word.len() + digits;
    if (1..=6).contains(&digits) && ends(bytes, stop) { stop } else { end }
}
