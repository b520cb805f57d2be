//! E-mail addresses, URLs, IP and MAC addresses.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::{Candidate, Entity, begins, ends};

fn local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | b'&' | b'=' | b'~')
        || byte >= 0x80
}

/// Addresses (RFC 5321, without quoted local parts): 64 bytes, an `@`, a name with a top-level domain.
pub(super) fn emails(bytes: &[u8], word: Range<usize>, mut offer: impl FnMut(Candidate)) {
    for at in word.filter(|&at| bytes.get(at) == Some(&b'@')) {
        let head = bytes.get(..at).unwrap_or_default();
        let length = head.iter().rev().take(64).take_while(|&&byte| local(byte)).count();
        let mut start = at - length;
        // Quotes and dots around an address aren't part of it, nor is a written-out line end.
        while bytes.get(start).is_some_and(|byte| matches!(byte, b'.' | b'\'' | b'=' | b'-' | b'&'))
            && start < at
        {
            start += 1;
        }
        if start > 0
            && bytes.get(start - 1) == Some(&b'\\')
            && matches!(bytes.get(start), Some(b'n' | b'r' | b't'))
        {
            start += 1;
        }
        let tail = bytes.get(at + 1..).unwrap_or_default();
        let mut length = tail
            .iter()
            .take(100)
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
            .count();
        while length > 0 && matches!(tail.get(length - 1), Some(b'.' | b'-')) {
            length -= 1;
        }
        let domain = tail.get(..length).unwrap_or_default();
        let top = domain.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
        let named = domain.contains(&b'.')
            && !domain.starts_with(b".")
            && !domain.windows(2).any(|pair| pair == b"..");
        // A character's second byte begins no text.
        let whole = bytes.get(start).is_some_and(|byte| *byte & 0xC0 != 0x80);
        if start < at && named && whole && top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic) {
            offer(Candidate::new(start..at + 1 + length, Entity::Email, 0.95));
        }
    }
}

fn url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Absolute URLs (RFC 3986) of the schemes that name a person's place on the net, and `www.`.
pub(super) fn urls(bytes: &[u8], word: Range<usize>, mut offer: impl FnMut(Candidate)) {
    const SCHEMES: [&[u8]; 8] =
        [b"http://", b"https://", b"ftp://", b"ftps://", b"sftp://", b"ws://", b"wss://", b"www."];
    for at in word.clone() {
        let Some(rest) = bytes.get(at..word.end) else { return };
        if !matches!(rest.first(), Some(b'h' | b'H' | b'f' | b'F' | b's' | b'S' | b'w' | b'W'))
            || !begins(bytes, at)
        {
            continue;
        }
        let scheme = SCHEMES
            .iter()
            .find(|scheme| rest.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)));
        let Some(scheme) = scheme else { continue };
        let all = rest.iter().take_while(|&&byte| url(byte)).count();
        let mut length = all;
        while length > 0
            && matches!(
                rest.get(length - 1),
                Some(b'.' | b',' | b';' | b':' | b'!' | b'?' | b')' | b']' | b'\'')
            )
        {
            length -= 1;
        }
        let host = rest.get(scheme.len()..length).unwrap_or_default();
        if host.iter().any(u8::is_ascii_alphanumeric) && (host.contains(&b'.') || scheme.ends_with(b"//")) {
            let more: Option<fn(u8) -> bool> = Some(url);
            offer(Candidate { more, ..Candidate::new(at..at + length, Entity::Url, 0.9) });
            return;
        }
    }
}

/// IPv4 in dotted form, IPv6 (RFC 4291).
pub(super) fn ip(bytes: &[u8], at: usize, dots: bool, colons: bool) -> Option<Candidate> {
    let rest = bytes.get(at..)?;
    if dots {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let mut length = 0;
        let mut parts = 0;
        while parts < 4 {
            let digits = rest.get(length..)?.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
            let part = std::str::from_utf8(rest.get(length..length + digits)?).ok()?;
            if !(1..=3).contains(&digits) || part.parse::<u8>().is_err() {
                break;
            }
            length += digits;
            parts += 1;
            if parts < 4 {
                if rest.get(length) != Some(&b'.') {
                    break;
                }
                length += 1;
            }
        }
        let next = rest.get(length);
        let goes_on = next == Some(&b'.') && rest.get(length + 1).is_some_and(u8::is_ascii_digit);
        if parts == 4 && !goes_on && ends(bytes, at + length) && before != Some(&b'.') {
            return Some(Candidate::new(at..at + length, Entity::Ip, 0.9));
        }
    }
    if colons {
        let length = rest
            .iter()
            .take(46)
            .take_while(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            .count();
        let mut text = std::str::from_utf8(rest.get(..length)?).ok()?;
        while text.ends_with(['.', ':']) && !text.ends_with("::") {
            text = text.get(..text.len() - 1)?;
        }
        let colons = text.bytes().filter(|&byte| byte == b':').count();
        // `a::b` is a path in some languages.
        let digits = text.bytes().any(|byte| byte.is_ascii_digit()) || colons > 2;
        if digits && colons >= 2 && ends(bytes, at + text.len()) && text.parse::<Ipv6Addr>().is_ok() {
            return Some(Candidate::new(at..at + text.len(), Entity::Ip, 0.9));
        }
    }
    None
}

/// Six pairs of hexadecimal digits with one kind of separator (IEEE 802).
pub(super) fn mac(bytes: &[u8], at: usize) -> Option<Candidate> {
    let text = bytes.get(at..at + 17)?;
    let separator = *text.get(2)?;
    let pairs = text.iter().enumerate().all(|(index, byte)| match index % 3 {
        2 => *byte == separator,
        _ => byte.is_ascii_hexdigit(),
    });
    let whole =
        matches!(separator, b':' | b'-') && ends(bytes, at + 17) && bytes.get(at + 17) != Some(&separator);
    (pairs && whole).then(|| Candidate::new(at..at + 17, Entity::Mac, 0.85))
}
