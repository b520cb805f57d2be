//! The formats, by what their issuers document: a prefix, an alphabet, a length. One pass: a place is looked at when
//! a word begins there (what stands before is no letter, digit or underscore).
//!
//! Formats whose prefix is short ask for entropy besides, so that `sk-learn-is-a-library` isn't a key: Shannon entropy
//! of the part after the prefix, in bits a character. `generic` is a long random value behind a word such as `api_key`
//! or `password` and `=` or `:`.

use std::ops::Range;

use brokle_plugin::guardrail::scan::Finding;

/// Whose secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format(&'static str);

impl Format {
    pub(crate) fn name(self) -> &'static str {
        self.0
    }
}

/// A token: prefix, alphabet, how many characters follow, how random they must be.
struct Token {
    format: &'static str,
    prefix: &'static str,
    alphabet: fn(u8) -> bool,
    length: Range<usize>,
    entropy: f32,
}

const fn token(
    format: &'static str,
    prefix: &'static str,
    alphabet: fn(u8) -> bool,
    least: usize,
    most: usize,
    entropy: f32,
) -> Token {
    Token { format, prefix, alphabet, length: least..most + 1, entropy }
}

/// As long as it likes.
const ANY: usize = 4096;

/// The longer prefix stands before the shorter one.
const TOKENS: [Token; 30] = [
    token("anthropic", "sk-ant-", url_safe, 32, ANY, 3.0),
    token("openai", "sk-proj-", url_safe, 32, ANY, 3.0),
    token("openai", "sk-svcacct-", url_safe, 32, ANY, 3.0),
    token("openai", "sk-admin-", url_safe, 32, ANY, 3.0),
    token("openai", "sk-", alphanumeric, 40, ANY, 3.5),
    token("stripe", "sk_live_", alphanumeric, 16, ANY, 3.0),
    token("stripe", "sk_test_", alphanumeric, 16, ANY, 3.0),
    token("stripe", "rk_live_", alphanumeric, 16, ANY, 3.0),
    token("stripe", "whsec_", alphanumeric, 24, ANY, 3.0),
    token("aws", "AKIA", upper_base32, 16, 16, 2.5),
    token("aws", "ASIA", upper_base32, 16, 16, 2.5),
    token("github", "ghp_", alphanumeric, 36, 36, 3.0),
    token("github", "gho_", alphanumeric, 36, 36, 3.0),
    token("github", "ghu_", alphanumeric, 36, 36, 3.0),
    token("github", "ghs_", alphanumeric, 36, ANY, 3.0),
    token("github", "ghr_", alphanumeric, 36, ANY, 3.0),
    token("github", "github_pat_", url_safe, 60, ANY, 3.0),
    token("gitlab", "glpat-", url_safe, 20, ANY, 3.0),
    token("google", "AIza", url_safe, 35, 35, 3.0),
    token("google", "ya29.", url_safe, 40, ANY, 3.0),
    token("huggingface", "hf_", alphanumeric, 30, 60, 3.0),
    token("npm", "npm_", alphanumeric, 36, 36, 3.0),
    token("pypi", "pypi-AgEIcHlwaS5vcmc", url_safe, 50, ANY, 3.0),
    token("sendgrid", "SG.", dotted, 60, 80, 3.5),
    token("slack", "xoxb-", dashed, 20, ANY, 2.5),
    token("slack", "xoxp-", dashed, 20, ANY, 2.5),
    token("slack", "xoxa-", dashed, 20, ANY, 2.5),
    token("slack", "xapp-", dashed, 20, ANY, 2.5),
    token("twilio", "SK", lower_hex, 32, 32, 3.0),
    token("brokle", "bk_", alphanumeric, 40, 40, 3.0),
];

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}
fn url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
fn dashed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}
fn dotted(byte: u8) -> bool {
    url_safe(byte) || byte == b'.'
}
fn upper_base32(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7')
}
fn lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
/// PEM's lines, and the way they are written in JSON and environment files.
fn pem(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'\n' | b'\r' | b'\\')
}
fn value(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'(' | b')' | b'{' | b'}')
}

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

/// The schemes of database URLs that carry a password.
const DATABASES: [&str; 7] =
    ["postgres://", "postgresql://", "mysql://", "mongodb://", "mongodb+srv://", "redis://", "amqp://"];

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

pub(crate) type Secret = (usize, Format, Option<fn(u8) -> bool>);

/// The secret that begins here.
pub(crate) fn secret(rest: &[u8]) -> Option<Secret> {
    match rest.first()? {
        b'-' => private_key(rest),
        b'e' if rest.starts_with(b"eyJ") => jwt(rest),
        b'p' | b'm' | b'r' | b'a' if DATABASES.iter().any(|scheme| rest.starts_with(scheme.as_bytes())) => {
            database(rest)
        }
        _ => TOKENS.iter().find_map(|token| issued(token, rest)),
    }
}

fn issued(token: &Token, rest: &[u8]) -> Option<Secret> {
    let body = rest.strip_prefix(token.prefix.as_bytes())?;
    let length = body.iter().take(token.length.end).position(|&byte| !(token.alphabet)(byte));
    let length = length.unwrap_or(body.len().min(token.length.end));
    let open = token.length.end > ANY;
    let fits = token.length.contains(&length) || (open && length >= token.length.start);
    let follows = body.get(length).is_some_and(|&byte| byte.is_ascii_alphanumeric());
    let enough = entropy(body.get(..length.min(64))?) >= token.entropy;
    let more: Option<fn(u8) -> bool> = open.then_some(token.alphabet);
    (fits && !follows && enough).then_some((token.prefix.len() + length, Format(token.format), more))
}

/// RFC 7468: from the line that begins a private key to the one that ends it.
fn private_key(rest: &[u8]) -> Option<Secret> {
    let body = rest.strip_prefix(b"-----BEGIN ")?;
    let end = body.iter().take(40).position(|&byte| byte == b'-')?;
    let label = body.get(..end)?;
    let head = 11 + end + 5;
    if !label.ends_with(b"PRIVATE KEY") || !body.get(end..)?.starts_with(b"-----") {
        return None;
    }
    let mut length =
        head + rest.get(head..)?.iter().position(|&byte| !pem(byte)).unwrap_or(rest.len() - head);
    // `-----END RSA PRIVATE KEY-----` has spaces.
    let tail = rest.get(length..)?;
    let known = rest.get(..length)?.ends_with(b"-----END");
    if known && let Some(close) = tail.iter().take(40).position(|&byte| byte == b'-') {
        length += close + tail.get(close..)?.iter().take(5).take_while(|&&byte| byte == b'-').count();
    }
    Some((length, Format("private_key"), Some(pem)))
}

/// RFC 7519: three parts of base64url, the first two JSON objects.
fn jwt(rest: &[u8]) -> Option<Secret> {
    let length = rest.iter().position(|&byte| !dotted(byte)).unwrap_or(rest.len());
    let token = rest.get(..length)?;
    let mut parts = token.split(|&byte| byte == b'.');
    let (head, claims) = (parts.next()?, parts.next()?);
    (head.len() >= 10 && claims.starts_with(b"eyJ")).then_some((
        length,
        Format("jwt"),
        Some(dotted as fn(u8) -> bool),
    ))
}

/// A URL with a user and a password.
fn database(rest: &[u8]) -> Option<Secret> {
    let length = rest.iter().position(|&byte| !value(byte)).unwrap_or(rest.len());
    let url = rest.get(..length)?;
    let start = url.windows(3).position(|window| window == b"://")? + 3;
    let authority = url.get(start..)?.split(|&byte| byte == b'/').next()?;
    let at = authority.iter().rposition(|&byte| byte == b'@')?;
    let colon = authority.get(..at)?.iter().position(|&byte| byte == b':')?;
    (at > colon + 1).then_some((length, Format("database_url"), Some(value as fn(u8) -> bool)))
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

/// Shannon entropy, in bits a character.
fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    for &byte in bytes {
        if let Some(count) = counts.get_mut(byte as usize) {
            *count += 1;
        }
    }
    let total = bytes.len() as f32;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| f32::from(count) / total)
        .map(|p| -p * p.log2())
        .sum()
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
    // Inside a private key, whose last word was `KEY-----` once it is over.
    let key = text
        .rfind("-----BEGIN ")
        .filter(|key| text.get(*key..).is_some_and(|key| !key.contains("-----END ")));
    key.map_or(at, |key| at.min(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, &str)> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some(finding) = first(text, at, &[]) {
            at = finding.range.end;
            all.push((finding.what.name(), &text[finding.range]));
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
            sample("sk-proj-", 400)
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
                    made.push_str(format.map_or("", Format::name));
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
        assert_eq!(first(&sample("ghp_", 36), 0, &["github".into()]).map(|f| f.what.name()), None);
    }
}
