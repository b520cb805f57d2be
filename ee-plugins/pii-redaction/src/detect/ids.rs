//! Numbers with check digits: account numbers, national ids; and passports, licences and records, which have none and
//! are found by the words before them.

use std::ops::Range;

use super::{Candidate, Entity, context, ends};

/// Luhn's check digit (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0u32, |sum, (index, &digit)| {
        let digit = u32::from(digit);
        sum + if index % 2 == 1 { digit * 2 - if digit > 4 { 9 } else { 0 } } else { digit }
    });
    digits.len() > 1 && sum.is_multiple_of(10) && digits.iter().any(|&digit| digit != 0)
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&digit, weight)| u32::from(digit) * weight).sum()
}

/// Verhoeff's check digit, over the dihedral group of order 10.
fn verhoeff(digits: &[u8]) -> bool {
    const P: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let product = |a: u8, b: u8| match (a, b) {
        (0..=4, 0..=4) => (a + b) % 5,
        (0..=4, _) => (a + b - 5) % 5 + 5,
        (_, 0..=4) => (a - 5 + 5 - b) % 5 + 5,
        _ => (a + 5 - b) % 5,
    };
    let check = digits.iter().rev().enumerate().fold(0, |check, (index, &digit)| {
        let permuted = P.get(index % 8).and_then(|row| row.get(digit as usize)).copied().unwrap_or(0);
        product(check, permuted)
    });
    check == 0
}

/// National numbers of digits alone, by count and groups. How sure each is without a word before it.
pub(super) fn digits(digits: &[u8], groups: &[usize]) -> Option<f32> {
    let same = digits.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
    if same {
        return None;
    }
    match (digits.len(), groups) {
        // Canada, social insurance number.
        (9, [3, 3, 3]) if luhn(digits) => Some(0.45),
        // Netherlands, burgerservicenummer: the test of eleven.
        (9, [9]) if eleven(digits) => Some(0.25),
        // United Kingdom, NHS number: modulus 11.
        (10, [3, 3, 4] | [10]) if nhs(digits) => Some(0.3),
        // Sweden, personnummer: a date and Luhn.
        (10, [6, 4]) if luhn(digits) && date(digits.get(2..6)?) => Some(0.7),
        // Brazil, CPF: two check digits.
        (11, [3, 3, 3, 2]) if cpf(digits) => Some(0.8),
        (11, [11]) if cpf(digits) => Some(0.55),
        // Poland, PESEL: a date whose month also tells the century.
        (11, [11]) if pesel(digits) => Some(0.55),
        // Germany, tax id: ISO 7064, MOD 11,10.
        (11, [11] | [2, 3, 3, 3]) if mod_11_10(digits) => Some(0.35),
        // India, Aadhaar: Verhoeff.
        (12, [4, 4, 4]) if *digits.first()? >= 2 && verhoeff(digits) => Some(0.8),
        (12, [12]) if *digits.first()? >= 2 && verhoeff(digits) => Some(0.4),
        // France, NIR: 97 less the rest of 13 digits by 97.
        (15, [15] | [1, 2, 2, 2, 3, 3, 2]) if nir(digits) => Some(0.85),
        _ => None,
    }
}

fn eleven(digits: &[u8]) -> bool {
    let last = digits.get(8).copied().unwrap_or(0);
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    sum % 11 == u32::from(last)
}

fn nhs(digits: &[u8]) -> bool {
    let check = (11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    check < 10 && digits.get(9).is_some_and(|&last| u32::from(last) == check)
}

fn cpf(digits: &[u8]) -> bool {
    let check = |weights: &[u32]| match weighted(digits, weights) * 10 % 11 {
        10 => 0,
        rest => rest,
    };
    let first = check(&[10, 9, 8, 7, 6, 5, 4, 3, 2]);
    let second = check(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    matches!(digits.get(9..), Some(&[a, b]) if (u32::from(a), u32::from(b)) == (first, second))
}

fn pesel(digits: &[u8]) -> bool {
    let check = (10 - weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    let Some(&[tens, ones, day_tens, day_ones]) = digits.get(2..6) else { return false };
    let month = (u32::from(tens) * 10 + u32::from(ones)) % 20;
    let day = u32::from(day_tens) * 10 + u32::from(day_ones);
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && digits.get(10).is_some_and(|&last| u32::from(last) == check)
}

fn mod_11_10(digits: &[u8]) -> bool {
    let Some((&last, rest)) = digits.split_last() else { return false };
    let product = rest.iter().fold(10, |product, &digit| {
        let sum = (u32::from(digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let repeated = (0..10).filter(|&digit| rest.iter().filter(|&&other| other == digit).count() > 1).count();
    (11 - product) % 10 == u32::from(last) && repeated == 1 && digits.first() != Some(&0)
}

fn nir(digits: &[u8]) -> bool {
    let (Some(body), Some(key)) = (digits.get(..13), digits.get(13..)) else { return false };
    let value = |digits: &[u8]| digits.iter().fold(0u64, |value, &digit| value * 10 + u64::from(digit));
    matches!(digits.first(), Some(1 | 2)) && 97 - value(body) % 97 == value(key)
}

/// A month and a day, two digits each.
fn date(digits: &[u8]) -> bool {
    let &[a, b, c, d] = digits else { return false };
    (1..=12).contains(&(a * 10 + b)) && (1..=31).contains(&(c * 10 + d))
}

/// What begins with letters, or has them: IBAN, and the ids of the United Kingdom, Spain and Italy; passports, licences
/// and records behind their words.
pub(super) fn alphanumeric(bytes: &[u8], place: usize, mut offer: impl FnMut(Candidate)) {
    let rest = bytes.get(place..).unwrap_or_default();
    if let Some(length) = iban(rest) {
        offer(Candidate::new(place..place + length, Entity::Iban, 0.95));
    }
    let length = rest.iter().take(20).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let Some(word) = rest.get(..length) else { return };
    let letters = word.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if letters == 0 || letters == length || !ends(bytes, place + length) {
        if let Some(length) = nino(rest).filter(|&length| ends(bytes, place + length)) {
            offer(Candidate::new(place..place + length, Entity::NationalId, 0.7));
        }
        return;
    }
    if let Some(length) = nino(rest).filter(|&length| ends(bytes, place + length)) {
        offer(Candidate::new(place..place + length, Entity::NationalId, 0.7));
    } else if dni(word) {
        offer(Candidate::new(place..place + length, Entity::NationalId, 0.85));
    } else if codice_fiscale(word) {
        offer(Candidate::new(place..place + length, Entity::NationalId, 0.95));
    }
    labelled(bytes, place..place + length, &mut offer);
}

/// A number that is what the word before it says.
pub(super) fn labelled(bytes: &[u8], range: Range<usize>, offer: &mut impl FnMut(Candidate)) {
    let word = bytes.get(range.clone()).unwrap_or_default();
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits < 4 {
        return;
    }
    let labels: [(&[&str], Entity, Range<usize>); 3] = [
        (context::PASSPORT, Entity::Passport, 6..10),
        (context::LICENSE, Entity::DriverLicense, 5..17),
        (context::MEDICAL, Entity::MedicalRecord, 5..13),
    ];
    for (words, entity, lengths) in labels {
        if lengths.contains(&word.len()) && context::before(bytes, range.start, words) {
            offer(Candidate::new(range.clone(), entity, 0.3 + context::BONUS));
        }
    }
}

/// ISO 13616: a country's two letters, two check digits, its account number; the rest by 97 is 1. In one piece, or in
/// groups of four. The length of what is written.
fn iban(rest: &[u8]) -> Option<usize> {
    let head = rest.first_chunk::<4>()?;
    if !(head[0].is_ascii_alphabetic()
        && head[1].is_ascii_alphabetic()
        && head[2].is_ascii_digit()
        && head[3].is_ascii_digit())
    {
        return None;
    }
    let country = [head[0].to_ascii_uppercase(), head[1].to_ascii_uppercase()];
    let (_, wanted) = LENGTHS.iter().find(|(code, _)| code.as_bytes() == country)?;
    let (mut count, mut length, mut group) = (0usize, 0usize, 0usize);
    let mut remainder = 0u32;
    let mut moved = [0u8; 4];
    let spaced = rest.get(4) == Some(&b' ');
    while count < *wanted {
        let byte = *rest.get(length)?;
        if byte == b' ' && spaced && group == 4 {
            group = 0;
            length += 1;
            continue;
        }
        if !byte.is_ascii_alphanumeric() {
            return None;
        }
        match moved.get_mut(count) {
            Some(place) => *place = byte,
            None => remainder = fold(remainder, byte),
        }
        count += 1;
        group += 1;
        length += 1;
    }
    let remainder = moved.iter().fold(remainder, |remainder, &byte| fold(remainder, byte));
    let over = rest.get(length).is_some_and(u8::is_ascii_alphanumeric);
    (remainder == 1 && !over).then_some(length)
}

fn fold(remainder: u32, byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    }
}

/// Countries of the IBAN registry, with the length of theirs.
const LENGTHS: [(&str, usize); 60] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("TR", 26),
    ("UA", 29),
];

/// United Kingdom, national insurance number: two letters, six digits, A to D; in pairs too.
fn nino(rest: &[u8]) -> Option<usize> {
    if !rest.first().is_some_and(u8::is_ascii_uppercase) {
        return None;
    }
    let spaced = rest.get(2) == Some(&b' ');
    let length = if spaced { 13 } else { 9 };
    let text = rest.get(..length)?;
    let plain: Vec<u8> = match spaced {
        true if text.iter().enumerate().all(|(index, byte)| (index % 3 == 2) == (*byte == b' ')) => {
            text.iter().copied().filter(|&byte| byte != b' ').collect()
        }
        true => return None,
        false => text.to_vec(),
    };
    let &[a, b, ref digits @ .., last] = plain.as_slice() else { return None };
    let letters = a.is_ascii_uppercase()
        && b.is_ascii_uppercase()
        && !b"DFIQUV".contains(&a)
        && !b"DFIOQUV".contains(&b);
    let unused = matches!(&[a, b], b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ");
    let whole = letters && !unused && digits.iter().all(u8::is_ascii_digit) && matches!(last, b'A'..=b'D');
    whole.then_some(length)
}

/// Spain, DNI and NIE: a letter that the number by 23 tells.
fn dni(word: &[u8]) -> bool {
    let &[first, ref middle @ .., last] = word else { return false };
    if word.len() != 9 || !middle.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let lead = match first {
        b'X' => 0,
        b'Y' => 1,
        b'Z' => 2,
        b'0'..=b'9' => u32::from(first - b'0'),
        _ => return false,
    };
    let value = middle.iter().fold(lead, |value, byte| value * 10 + u32::from(byte - b'0'));
    b"TRWAGMYFPDXBNJZSQVHLCKE".get((value % 23) as usize) == Some(&last)
}

/// Italy, codice fiscale: 16 characters, the last one a check over the values of odd and even places.
fn codice_fiscale(word: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const FORM: &[u8; 16] = b"AAAAAA00A00A000A";
    let Some((last, body)) = word.split_last().filter(|_| word.len() == 16) else { return false };
    let form = word.iter().zip(FORM).all(|(byte, form)| match form {
        b'A' => byte.is_ascii_uppercase(),
        // Letters stand for digits where two people would have the same.
        _ => byte.is_ascii_digit() || b"LMNPQRSTUV".contains(byte),
    });
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            let value = if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') };
            if index % 2 == 0 { ODD.get(value as usize).copied().unwrap_or(0) } else { u32::from(value) }
        })
        .sum();
    form && u32::from(last.wrapping_sub(b'A')) == sum % 26
}
