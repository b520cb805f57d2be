//! Keeps credentials out of logs, spans and errors.
//!
//! Two things are masked: the values of the plugin's own secrets (of 4 bytes and more, wherever they stand), and what
//! looks like a credential: `Bearer …`, `Basic …`, JSON Web Tokens, keys with a well-known prefix (`sk-`, `bk_`, `ghp_`,
//! `AKIA`, …), private keys in PEM. The second is a net for mistakes, not a promise: what must not be in a log must not
//! be written to it.

use super::secrets::SecretValue;

/// What stands for what was there.
pub(crate) const MASK: &str = "[redacted]";

/// A secret that is shorter is not looked for: it would be found everywhere.
const SHORTEST: usize = 4;

/// What credentials begin with, and how many characters of a token must follow.
const PREFIXES: [(&str, usize); 15] = [
    ("-----BEGIN ", 0),
    ("AKIA", 12),
    ("ASIA", 12),
    ("AIza", 20),
    ("Basic ", 8),
    ("Bearer ", 8),
    ("basic ", 8),
    ("bearer ", 8),
    ("bk_", 20),
    ("eyJ", 20),
    ("ghp_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("sk-", 16),
    ("xox", 16),
];

/// Masks in a text.
pub(crate) fn text(text: &str, secrets: &[SecretValue]) -> String {
    let mut masked = text.to_owned();
    for secret in secrets {
        let known = std::str::from_utf8(secret.expose()).ok().map(str::trim).filter(|s| s.len() >= SHORTEST);
        if let Some(known) = known.filter(|known| masked.contains(known)) {
            masked = masked.replace(known, MASK);
        }
    }
    shapes(&masked)
}

fn shapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = PREFIXES
            .iter()
            .filter_map(|(prefix, least)| next(rest, prefix, *least))
            .min_by_key(|(start, _)| *start);
        let Some((start, end)) = found else { break };
        out.push_str(rest.get(..start).unwrap_or_default());
        out.push_str(MASK);
        rest = rest.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The first place where `prefix` begins a word that a token of `least` characters follows.
fn next(text: &str, prefix: &str, least: usize) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find(prefix).map(|at| at + from) {
        let begins = text.get(..at)?.bytes().next_back().is_none_or(|b| !b.is_ascii_alphanumeric());
        let after = text.get(at + prefix.len()..)?;
        // All that is left of a private key: its lines are the key.
        if least == 0 && begins {
            return Some((at, text.len()));
        }
        let token = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.~+/=".contains(b)).count();
        if begins && token >= least {
            return Some((at, at + prefix.len() + token));
        }
        from = at + prefix.len();
    }
    None
}

/// Overwrites every place of `needle` in `bytes` with asterisks, and says whether there was one. For answers of
/// upstreams that give back what they were sent.
pub(crate) fn bytes(bytes: &mut [u8], needle: &[u8]) -> bool {
    if needle.len() < SHORTEST {
        return false;
    }
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, needle).collect();
    for at in &places {
        if let Some(place) = bytes.get_mut(*at..*at + needle.len()) {
            place.fill(b'*');
        }
    }
    !places.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_and_what_looks_like_one_are_masked() {
        let secrets = [SecretValue::new("hunter22"), SecretValue::new("ab")];
        let masked = |line: &str| text(line, &secrets);
        assert_eq!(masked("token=hunter22, about cabs"), "token=[redacted], about cabs");
        assert_eq!(masked("xhunter22x"), "x[redacted]x");
        assert_eq!(masked("authorization: Bearer abcdef123456 ok"), "authorization: [redacted] ok");
        assert_eq!(masked("key sk-proj-0123456789abcdef!"), "key [redacted]!");
        assert_eq!(masked("AKIAIOSFODNN7EXAMPLE"), "[redacted]");
        assert_eq!(masked("a -----BEGIN PRIVATE KEY-----\nMC4CAQ\n"), "a [redacted]");
        let plain = "task-0123456789abcdef, Bearer of news, eyJust, desk-lamp, ask-me";
        assert_eq!(masked(plain), plain);
    }

    #[test]
    fn echoed_bytes_keep_their_length() {
        let mut body = b"{\"sent\":\"hunter22\",\"again\":\"hunter22\"}".to_vec();
        assert!(bytes(&mut body, b"hunter22"));
        assert_eq!(body, b"{\"sent\":\"********\",\"again\":\"********\"}");
        assert!(!bytes(&mut body, b"hunter22"));
    }
}
