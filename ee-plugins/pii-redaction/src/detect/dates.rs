//! Dates: ISO 8601 and the numeric forms of Europe and America, with a time if there is one; months by their English
//! names; a year behind a word such as `in` or `since`. Weekdays, ages and dates in words aren't found.

use super::{Candidate, Entity, begins, context, ends};

const MONTHS: [(&str, usize); 12] = [
    ("january", 3),
    ("february", 3),
    ("march", 3),
    ("april", 3),
    ("may", 3),
    ("june", 3),
    ("july", 3),
    ("august", 3),
    ("september", 3),
    ("october", 3),
    ("november", 3),
    ("december", 3),
];

/// Words before a year.
const YEAR: &[&str] =
    &["in", "since", "during", "until", "till", "year", "from", "of", "before", "after", "born", "circa"];

/// Whether a word begins like a month's name. The cheap test for every word of a text.
pub(super) fn begins_like_month(word: &[u8]) -> bool {
    let Some([first, second, third]) = word.first_chunk::<3>() else { return false };
    let head = [first | 0x20, second | 0x20, third | 0x20];
    matches!(
        &head,
        b"jan"
            | b"feb"
            | b"mar"
            | b"apr"
            | b"may"
            | b"jun"
            | b"jul"
            | b"aug"
            | b"sep"
            | b"oct"
            | b"nov"
            | b"dec"
    )
}

/// How long a month's name is that stands here: the whole name, or its first three letters (`Sept` too), then an end.
fn month(rest: &[u8]) -> Option<usize> {
    let length = rest.iter().take(10).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = rest.get(..length)?;
    let known = MONTHS.iter().any(|(name, short)| {
        let (name, word) = (name.as_bytes(), word);
        word.eq_ignore_ascii_case(name)
            || name.get(..*short).is_some_and(|short| word.eq_ignore_ascii_case(short))
            || (word.eq_ignore_ascii_case(b"sept") && name.starts_with(b"sept"))
    });
    let dotted = usize::from(known && rest.get(length) == Some(&b'.') && length <= 4);
    known.then_some(length + dotted)
}

fn number(rest: &[u8], most: usize) -> (usize, u32) {
    let digits = rest.iter().take(most + 1).take_while(|byte| byte.is_ascii_digit());
    digits.fold((0, 0), |(length, value), byte| (length + 1, value * 10 + u32::from(byte - b'0')))
}

fn spaces(rest: &[u8]) -> usize {
    rest.iter().take(2).take_while(|&&byte| byte == b' ').count()
}

fn at(bytes: &[u8], place: usize) -> &[u8] {
    bytes.get(place..).unwrap_or_default()
}

/// A four-digit year, behind a comma or spaces.
fn year(bytes: &[u8], place: usize) -> Option<usize> {
    let rest = at(bytes, place);
    let comma = usize::from(rest.first() == Some(&b','));
    let gap = comma + spaces(at(rest, comma));
    let (length, value) = number(at(rest, gap), 4);
    (gap > 0 && length == 4 && (1800..2200).contains(&value) && ends(bytes, place + gap + 4))
        .then_some(place + gap + 4)
}

/// `5`, `05`, `5th`: where it ends.
fn day(bytes: &[u8], place: usize) -> Option<usize> {
    let rest = at(bytes, place);
    let (length, value) = number(rest, 2);
    if !(1..=2).contains(&length) || !(1..=31).contains(&value) {
        return None;
    }
    let suffix = rest.get(length..length + 2).map(<[u8]>::to_ascii_lowercase);
    let ordinal = matches!(suffix.as_deref(), Some(b"st" | b"nd" | b"rd" | b"th"));
    let end = place + length + if ordinal { 2 } else { 0 };
    ends(bytes, end).then_some(end)
}

/// `January 5, 2024`, `Jan 5th`, `January 2024`.
pub(super) fn month_first(bytes: &[u8], place: usize) -> Option<Candidate> {
    let start =
        place + at(bytes, place).iter().take(2).take_while(|byte| matches!(byte, b'(' | b'"')).count();
    let rest = at(bytes, start);
    // `may` and `march` are verbs.
    let length =
        month(rest).filter(|_| rest.first().is_some_and(u8::is_ascii_uppercase) && begins(bytes, start))?;
    if let Some(end) = year(bytes, start + length) {
        return Some(Candidate::new(start..end, Entity::Date, 0.8));
    }
    let gap = spaces(at(rest, length));
    let end = day(bytes, start + length + gap).filter(|_| gap > 0)?;
    let with_year = year(bytes, end);
    let confidence = if with_year.is_some() { 0.9 } else { 0.7 };
    Some(Candidate::new(start..with_year.unwrap_or(end), Entity::Date, confidence))
}

/// `5 January 2024`, `5th of Jan`, `05-Jan-2024`.
pub(super) fn day_first(bytes: &[u8], place: usize) -> Option<Candidate> {
    let mut end = day(bytes, place)?;
    let rest = at(bytes, end);
    let dashed = matches!(rest.first(), Some(b'-' | b'/'));
    let gap = if dashed { 1 } else { spaces(rest) };
    let of = if rest.get(gap..gap + 3).is_some_and(|word| word.eq_ignore_ascii_case(b"of ")) { 3 } else { 0 };
    let length = month(at(rest, gap + of)).filter(|_| gap > 0)?;
    end += gap + of + length;
    if dashed {
        let rest = at(bytes, end);
        let (digits, _) = number(at(rest, 1), 4);
        let whole = matches!(rest.first(), Some(b'-' | b'/'))
            && matches!(digits, 2 | 4)
            && ends(bytes, end + 1 + digits);
        return whole.then(|| Candidate::new(place..end + 1 + digits, Entity::Date, 0.9));
    }
    let with_year = year(bytes, end);
    let confidence = if with_year.is_some() { 0.9 } else { 0.6 };
    ends(bytes, end).then(|| Candidate::new(place..with_year.unwrap_or(end), Entity::Date, confidence))
}

/// `2024-01-05`, `5/1/2024`, `05.01.2024`, `1/5/24`, with a time behind it.
pub(super) fn numeric(bytes: &[u8], place: usize) -> Option<Candidate> {
    let rest = at(bytes, place);
    let (first_length, first) = number(rest, 4);
    let separator = *rest.get(first_length).filter(|byte| matches!(byte, b'-' | b'/' | b'.'))?;
    let second_at = first_length + 1;
    let (second_length, second) = number(at(rest, second_at), 2);
    let third_at = second_at + second_length + 1;
    if rest.get(third_at - 1) != Some(&separator) {
        return None;
    }
    let (third_length, third) = number(at(rest, third_at), 4);
    let end = place + third_at + third_length;
    let short = |length: usize| matches!(length, 1 | 2);
    let months = |a: u32, b: u32| {
        ((1..=12).contains(&a) && (1..=31).contains(&b)) || ((1..=12).contains(&b) && (1..=31).contains(&a))
    };
    let iso = first_length == 4
        && (1800..2200).contains(&first)
        && short(second_length)
        && short(third_length)
        && months(second, third);
    let year_last = short(first_length) && short(second_length) && months(first, second);
    let long_year = year_last && third_length == 4 && (1800..2200).contains(&third);
    let short_year = year_last && third_length == 2 && separator == b'/';
    // `T` may follow.
    let goes_on = bytes.get(end) == Some(&separator) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
    let (end, timed) = time(bytes, end);
    if goes_on || !ends(bytes, end) {
        return None;
    }
    let confidence = match (iso || long_year, short_year) {
        (true, _) => 0.85,
        (_, true) if timed => 0.8,
        (_, true) => context::with(bytes, place, context::BIRTH, 0.6),
        _ => return None,
    };
    Some(Candidate::new(place..end, Entity::Date, confidence))
}

/// A time of day behind a date: where it ends.
fn time(bytes: &[u8], place: usize) -> (usize, bool) {
    let rest = at(bytes, place);
    let clock = at(rest, 1);
    let (hours, hour) = number(clock, 2);
    let (minutes, minute) = number(at(clock, hours + 1), 2);
    let is_time = matches!(rest.first(), Some(b' ' | b'T'))
        && matches!(hours, 1 | 2)
        && hour < 24
        && clock.get(hours) == Some(&b':')
        && minutes == 2
        && minute < 60;
    if !is_time {
        return (place, false);
    }
    let mut end = place + 1 + hours + 3;
    for separator in [b':', b'.'] {
        let (digits, _) = number(at(bytes, end + 1), 9);
        if bytes.get(end) == Some(&separator) && digits > 0 {
            end += 1 + digits;
        }
    }
    if bytes.get(end) == Some(&b'Z') {
        end += 1;
    } else if matches!(bytes.get(end), Some(b'+' | b'-')) && number(at(bytes, end + 1), 2).0 == 2 {
        let colon = usize::from(bytes.get(end + 3) == Some(&b':'));
        let (digits, _) = number(at(bytes, end + 3 + colon), 2);
        if digits == 2 {
            end += 5 + colon;
        }
    }
    (end, true)
}

/// `in 1974`.
pub(super) fn year_alone(bytes: &[u8], place: usize) -> Option<Candidate> {
    let (length, value) = number(at(bytes, place), 4);
    if length != 4 || !(1900..2100).contains(&value) || !ends(bytes, place + 4) {
        return None;
    }
    let joined = matches!(bytes.get(place + 4), Some(b'-' | b'.' | b'/' | b':' | b','))
        && bytes.get(place + 5).is_some_and(u8::is_ascii_digit);
    let before = bytes.get(..place)?.trim_ascii_end();
    let word = before.iter().rev().take(7).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = before.get(before.len() - word..)?;
    let named = place > before.len() && YEAR.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    (named && !joined).then(|| Candidate::new(place..place + 4, Entity::Date, 0.5))
}
