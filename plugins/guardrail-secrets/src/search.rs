//! Searching a text: one pass. A place is looked at when a word begins there (what stands before is no letter, digit or
//! underscore).
//!
//! `generic` is a long random value behind a word such as `api_key` or `password` and `=` or `:`.

use alloc::string::String;

use brokle_plugin::guardrail::scan::Finding;

use crate::formats::{Format, entropy, open_key, secret, url_safe, value};

/// Words that a random value behind them is a secret of.
const NAMES: [&str; 12] = [
    "api_key",
    "apikey",
    "api-key",
    "secret",
    "secret_key",
    "access_token",
    "auth_token",
    "token",
    "password",
    "passwd",
    "client_secret",
    "private_key",
];

/// How far a value may be from the beginning of its name: 24 bytes of name, 3 and 4 of quotes and spaces, the sign.
const NAMED: usize = 32;

/// The first secret that begins at or after a place.
pub(crate) fn first(text: &str, from: usize, ignore: &[String]) -> Option<Finding<Format>> {
    let bytes = text.as_bytes();
    // The name of a value may stand before the place.
    let mut at = from.saturating_sub(NAMED);
    while at < bytes.len() {
        let byte = *bytes.get(at)?;
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let begins = at.checked_sub(1).and_then(|before| bytes.get(before)).is_none_or(|byte| !word(byte));
        if (begins && byte.is_ascii_alphabetic()) || byte == b'-' {
            let rest = bytes.get(at..)?;
            let wanted = |name: &str| !ignore.iter().any(|ignored| ignored == name);
            if let Some((length, what, more)) = secret(rest).filter(|(_, format, _)| wanted(format.0)) {
                if at >= from {
                    return Some(Finding { range: at..at + length, more, what });
                }
            } else if let Some((skip, length)) =
                named(rest).filter(|(skip, _)| wanted("generic") && at + skip >= from)
            {
                // The name stays; only the value goes. A known format in it is called by its name.
                let start = at + skip;
                let inner = bytes.get(start..).and_then(secret);
                let (length, what, more) = inner.unwrap_or((length, Format("generic"), Some(value)));
                return Some(Finding { range: start..start + length, more, what });
            }
        }
        at += 1;
    }
    None
}

/// `api_key = "…"`: how far the value is from the name, and how long it is.
fn named(rest: &[u8]) -> Option<(usize, usize)> {
    let name = rest.iter().take(24).take_while(|&&byte| url_safe(byte)).count();
    let lower = rest.get(..name)?.to_ascii_lowercase();
    if !NAMES.iter().any(|known| lower.ends_with(known.as_bytes())) {
        return None;
    }
    let quiet = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'`');
    let mut at = name;
    at += rest.get(at..)?.iter().take(3).take_while(|byte| quiet(byte)).count();
    if !matches!(rest.get(at)?, b'=' | b':') {
        return None;
    }
    at += 1;
    at += rest.get(at..)?.iter().take(4).take_while(|byte| quiet(byte)).count();
    let length = rest.get(at..)?.iter().take_while(|&&byte| value(byte)).count();
    let secret = rest.get(at..at + length.min(64))?;
    let mixed = secret.iter().any(u8::is_ascii_digit) && secret.iter().any(u8::is_ascii_alphabetic);
    (length >= 16 && mixed && entropy(secret) >= 3.5).then_some((at, length))
}

/// From where on a secret could still begin or go on: the last word, and those before it that may belong to it (a name
/// and its sign, a private key's header and lines).
pub(crate) fn undecided(text: &str) -> usize {
    let bytes = text.as_bytes();
    let word = |end: usize| {
        let start = bytes.get(..end)?.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
        Some((start, bytes.get(start..end)?))
    };
    let Some((mut at, _)) = word(bytes.len()) else { return 0 };
    for _ in 0..8 {
        let Some((start, before)) = at.checked_sub(1).and_then(word) else { break };
        let lower = before.to_ascii_lowercase();
        let name = lower.as_slice();
        let belongs = before.is_empty()
            || matches!(before.last(), Some(b'=' | b':' | b'"' | b'\'' | b'`' | b'-'))
            || NAMES.iter().any(|known| name.ends_with(known.as_bytes()))
            || before.iter().all(u8::is_ascii_uppercase);
        if !belongs {
            break;
        }
        at = start;
    }
    at.min(open_key(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, &str)> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some(finding) = first(text, at, &[]) {
            at = finding.range.end;
            all.push((finding.what.0, &text[finding.range]));
        }
        all
    }

    /// Made up, and put together here so that no scanner of repositories takes them for real ones.
    fn sample(prefix: &str, length: usize) -> String {
        let letters = "q7WzR2mKx9TbN4vLs8HdY3cFj6PgA5eUi1oXkMtBnVrZ";
        prefix.chars().chain(letters.chars().cycle().take(length)).collect()
    }

    #[test]
    fn real_formats_are_found_whole() {
        for (format, prefix, length) in [
            ("anthropic", "sk-ant-api03-", 90),
            ("openai", "sk-proj-", 120),
            ("openai", "sk-", 48),
            ("stripe", "sk_live_", 24),
            ("github", "ghp_", 36),
            ("github", "github_pat_", 82),
            ("gitlab", "glpat-", 20),
            ("google", "AIza", 35),
            ("huggingface", "hf_", 34),
            ("npm", "npm_", 36),
            ("slack", "xoxb-", 40),
            ("brokle", "bk_", 40),
        ] {
            let key = sample(prefix, length);
            assert_eq!(found(&format!("use {key}, please")), [(format, key.as_str())]);
            assert_eq!(found(&format!("({key})")), [(format, key.as_str())], "{format}");
        }
        assert_eq!(found("id AKIAQYLPMN5HFZT2B7XK."), [("aws", "AKIAQYLPMN5HFZT2B7XK")]);
        let jwt = format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}", sample("", 20), sample("", 43));
        assert_eq!(found(&format!("Bearer {jwt}")), [("jwt", jwt.as_str())]);
        let url = "postgres://app:hunter2@db.internal:5432/main";
        assert_eq!(found(&format!("DSN={url} ok")), [("database_url", url)]);
        let key =
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", sample("MII", 300));
        assert_eq!(found(&format!("here:\n{key}\nthanks")), [("private_key", key.as_str())]);
        let secret = sample("", 24);
        assert_eq!(found(&format!("MY_API_KEY = \"{secret}\"")), [("generic", secret.as_str())]);
    }

    /// In a stream, cut anywhere, the same is found as in the whole text.
    #[test]
    fn every_cut_finds_the_same() {
        use brokle_plugin::guardrail::Fragment;
        use brokle_plugin::guardrail::scan::Scanner;
        let key =
            format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----", sample("MHcC", 600));
        let generic = sample("", 30);
        let text = format!(
            "My github token is {}; api_key = '{generic}' and this is {key} and so on, {} of prose. {} end",
            sample("ghp_", 36),
            "a lot ".repeat(40),
            sample("sk-proj-", 1400)
        );
        let masked = |cuts: &[usize]| {
            let mut scanner = Scanner::new(256);
            let (mut held, mut before, mut made, mut from) = (String::new(), String::new(), String::new(), 0);
            for (index, &cut) in cuts.iter().chain([&text.len()]).enumerate() {
                let value = format!("{held}{}", &text[from..cut]);
                from = cut;
                let last = index == cuts.len();
                let fragment = Fragment {
                    pointer: "/p".into(),
                    kind: "content".into(),
                    before: before.clone(),
                    value,
                    last,
                };
                let scanned = scanner.fragment(&fragment, |text, from| first(text, from, &[]), undecided);
                assert!(scanned.hold <= 256);
                let (end, mut at) = (fragment.value.len() - scanned.hold, 0);
                for (range, format) in scanned.found {
                    made.push_str(&fragment.value[at..range.start]);
                    made.push_str(format.map_or("", |format| format.0));
                    at = range.end;
                }
                made.push_str(&fragment.value[at..end]);
                before = format!("{before}{}", &fragment.value[..end]);
                before = before.split_off(before.len().saturating_sub(256));
                held = fragment.value[end..].to_owned();
            }
            made
        };
        let whole = masked(&[]);
        assert!(
            whole.starts_with("My github token is github; api_key = 'generic' and this is private_key"),
            "{whole}"
        );
        assert!(whole.ends_with("openai end"), "{whole}");
        for cut in 0..text.len() {
            assert_eq!(masked(&[cut]), whole, "cut at {cut}");
        }
        assert_eq!(masked(&(0..text.len()).collect::<Vec<_>>()), whole, "byte by byte");
        assert_eq!(masked(&(0..text.len()).step_by(7).collect::<Vec<_>>()), whole, "by sevens");
    }

    #[test]
    fn what_only_looks_like_one_is_left() {
        for text in [
            "sk-learn-is-a-library-for-machine-learning-in-python-and-more",
            "AKIAAAAAAAAAAAAAAAAA",
            "ghp_tooshort",
            "the password: please choose a new one",
            "password = aaaaaaaaaaaaaaaaaaaaaaaa1",
            "postgres://localhost/main",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "eyJust a word. eyJ",
            "the token: 1234567890123456789012",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
        assert_eq!(first(&sample("ghp_", 36), 0, &["github".into()]).map(|f| f.what.0), None);
    }
}
