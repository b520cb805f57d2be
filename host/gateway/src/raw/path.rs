//! A path that is relayed means what it says, to whatever server reads it.

use crate::egress::decoded;
use crate::refusal::Refusal;

/// The longest path and query.
const LONGEST: usize = 8 << 10;
/// How often a segment may be encoded before it is given up.
const LAYERS: usize = 4;

/// Refuses a path that could lead out of the base URL: each segment, however it is encoded, is a name.
pub(super) fn check(path: &str) -> Result<(), Refusal> {
    let invalid =
        |what: &str| Err(Refusal::client(400, "invalid_path", format!("The path can't be relayed: {what}.")));
    if path.len() > LONGEST {
        return invalid("it is too long");
    }
    let only_path = path.split_once('?').map_or(path, |(path, _)| path);
    let Some(segments) = only_path.strip_prefix('/') else { return invalid("it has no beginning") };
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        // A slash at the end is as the caller wrote it.
        if segment.is_empty() && segments.peek().is_some() {
            return invalid("it has an empty segment");
        }
        if !is_name(segment) {
            return invalid("it has a segment that is no name");
        }
    }
    Ok(())
}

fn is_name(segment: &str) -> bool {
    let mut text = segment.to_owned();
    for _ in 0..LAYERS {
        let bytes = text.as_bytes();
        if bytes.iter().any(|byte| byte.is_ascii_control() || b"/\\".contains(byte)) {
            return false;
        }
        // Some servers take what follows a semicolon for parameters.
        let name = text.split(';').next().unwrap_or_default();
        if name == "." || name == ".." {
            return false;
        }
        if !text.contains('%') {
            return true;
        }
        // A plus is itself in a path.
        let Ok(next) = String::from_utf8(decoded(&text.replace('+', "%2B"))) else { return false };
        if next == text {
            return true;
        }
        text = next;
    }
    false
}

/// The path without a query parameter.
pub(super) fn without(path: &str, name: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let other = |pair: &&str| decoded(pair.split('=').next().unwrap_or_default()) != name.as_bytes();
    let kept: Vec<&str> = query.split('&').filter(other).collect();
    match kept.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", kept.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_only() {
        for path in
            ["/", "/a", "/a/b/", "/models/a%20b:x?y=../z", "/a..b/...", "/100%25", "/é%C3%A9", "/a+b", "/%zz"]
        {
            assert!(check(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "a",
            "//evil.example/x",
            "/a//b",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2E/a",
            "/.%2e/a",
            "/%252e%252e/a",
            "/%25252e%25252e/a",
            "/a%2fb",
            "/a%252Fb",
            "/a%5cb",
            "/a\\b",
            "/..;x/a",
            "/%00",
            "/a%0d%0aHost:x",
            "/%ff",
        ] {
            assert_eq!(check(path).unwrap_err().code, "invalid_path", "{path}");
        }
        assert!(check(&format!("/{}", "a".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_credentials_name_is_taken_out_of_the_query() {
        assert_eq!(without("/a?key=1&b=2&%6bey=3", "key"), "/a?b=2");
        assert_eq!(without("/a?key", "key"), "/a");
        assert_eq!(without("/a", "key"), "/a");
    }
}
