//! The formats, by what their issuers document: a prefix, an alphabet, a length.
//!
//! Formats whose prefix is short ask for entropy besides, so that `sk-learn-is-a-library` isn't a key: Shannon entropy
//! of the part after the prefix, in bits a character.

use core::ops::Range;

/// Whose secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format(pub(crate) &'static str);

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

/// As long as it likes: what is looked at of it. The rest goes with it, as [`Secret`]'s third part says.
const ANY: usize = 512;
/// The same of a JWT, and of a private key's lines.
const JWT: usize = 2048;
const KEY: usize = 8192;

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
pub(crate) fn url_safe(byte: u8) -> bool {
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
pub(crate) fn value(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'(' | b')' | b'{' | b'}')
}

/// The schemes of database URLs that carry a password.
const DATABASES: [&str; 7] =
    ["postgres://", "postgresql://", "mysql://", "mongodb://", "mongodb+srv://", "redis://", "amqp://"];

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
    let cut = open && length >= token.length.end;
    let follows = !cut && body.get(length).is_some_and(u8::is_ascii_alphanumeric);
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
    let mut length = head
        + rest
            .get(head..)?
            .iter()
            .take(KEY)
            .position(|&byte| !pem(byte))
            .unwrap_or((rest.len() - head).min(KEY));
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
    let length = rest.iter().take(JWT).position(|&byte| !dotted(byte)).unwrap_or(rest.len().min(JWT));
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
    let length = rest.iter().take(ANY).position(|&byte| !value(byte)).unwrap_or(rest.len().min(ANY));
    let url = rest.get(..length)?;
    let start = url.windows(3).position(|window| window == b"://")? + 3;
    let authority = url.get(start..)?.split(|&byte| byte == b'/').next()?;
    let at = authority.iter().rposition(|&byte| byte == b'@')?;
    let colon = authority.get(..at)?.iter().position(|&byte| byte == b':')?;
    (at > colon + 1).then_some((length, Format("database_url"), Some(value as fn(u8) -> bool)))
}

/// Shannon entropy, in bits a character.
pub(crate) fn entropy(bytes: &[u8]) -> f32 {
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
        .map(|p| -p * libm::log2f(p))
        .sum()
}

/// Where a private key begins that hasn't ended; the text's length when there is none.
pub(crate) fn open_key(text: &str) -> usize {
    let key = text.rfind("-----BEGIN ");
    key.filter(|key| text.get(*key..).is_some_and(|key| !key.contains("-----END "))).unwrap_or(text.len())
}
