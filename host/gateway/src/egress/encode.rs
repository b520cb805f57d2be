//! Percent-encoding as RFC 3986 has it for data: everything but letters, digits and `-._~`, in upper-case hex.

use std::fmt::Write as _;

/// Appends bytes, encoded.
pub(super) fn percent(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string doesn't fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// A value of an `application/x-www-form-urlencoded` body. A space is `%20`, which every reader of that form takes too.
pub(crate) fn form_value(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 8);
    percent(&mut text, value.as_bytes());
    text
}

/// What encoded text of a query stands for: `+` is a space. A `%` without two hex digits stands for itself.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.split_at_checked(2).filter(|_| byte == b'%');
        let value = digits.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        match value {
            Some((value, after)) => {
                bytes.push(value);
                rest = after;
            }
            None if byte == b'+' => bytes.push(b' '),
            None => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let all: String = (0..=127).map(char::from).chain("é€".chars()).collect();
        let encoded = form_value(&all);
        assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        assert_eq!(decoded(&encoded), all.as_bytes());
        assert_eq!(decoded("a+b%2B%2b%zz%4"), b"a b++%zz%4");
        assert_eq!(decoded("%+1"), b"% 1");
    }
}
