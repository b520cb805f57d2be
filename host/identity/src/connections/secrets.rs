//! Several secrets of one connection, stored as one text: ASCII's record separator stands between them, which no secret
//! may contain. One alone is stored as it is.

use crate::secret::Secret;

/// Between two secrets, and between two previews.
pub(super) const SEPARATOR: char = '\u{1e}';

/// The secrets as one; none if there are none.
pub(super) fn join(secrets: &[Secret]) -> Option<Secret> {
    match secrets {
        [] => None,
        [only] => Some(only.clone()),
        several => {
            // Its room is known beforehand: a text that grows would leave copies behind.
            let room = several.iter().map(|secret| secret.expose().len() + 1).sum();
            let mut joined = String::with_capacity(room);
            for (index, secret) in several.iter().enumerate() {
                if index > 0 {
                    joined.push(SEPARATOR);
                }
                joined.push_str(secret.expose());
            }
            Some(Secret::new(joined))
        }
    }
}

/// What was joined.
pub(super) fn split(joined: &Secret) -> Vec<Secret> {
    joined.expose().split(SEPARATOR).map(|text| Secret::new(text.to_owned())).collect()
}

/// Enough of each to recognize it, as it is stored.
pub(super) fn preview(secrets: &[Secret]) -> Option<String> {
    let masked: Vec<String> = secrets.iter().map(mask).collect();
    (!masked.is_empty()).then(|| masked.join("\u{1e}"))
}

/// The previews of a connection's secrets, in their order.
#[must_use]
pub fn previews(stored: Option<&str>) -> Vec<String> {
    stored.map(|text| text.split(SEPARATOR).map(str::to_owned).collect()).unwrap_or_default()
}

/// The ends of a secret that is long enough to spare them: `sk-p...wXyZ`.
fn mask(secret: &Secret) -> String {
    const SHOWN: usize = 4;
    const LONG_ENOUGH: usize = 16;
    let characters: Vec<char> = secret.expose().chars().collect();
    let (Some(head), Some(tail)) = (characters.first_chunk::<SHOWN>(), characters.last_chunk::<SHOWN>())
    else {
        return "...".to_owned();
    };
    if characters.len() < LONG_ENOUGH {
        return "...".to_owned();
    }
    head.iter().chain(&['.'; 3]).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split() {
        let secret = |text: &str| Secret::new(text.to_owned());
        for some in [vec![secret("a")], vec![secret("{\n}"), secret("b c"), secret("d")]] {
            assert_eq!(split(&join(&some).unwrap()), some);
            assert_eq!(previews(preview(&some).as_deref()).len(), some.len());
        }
        assert_eq!((join(&[]), preview(&[])), (None, None));
        assert!(previews(None).is_empty());
    }

    #[test]
    fn a_short_secret_shows_nothing() {
        let masked = |text: &str| mask(&Secret::new(text.to_owned()));
        assert_eq!(masked("sk-proj-0123456789wXyZ"), "sk-p...wXyZ");
        assert_eq!(masked("0123456789abcdef"), "0123...cdef");
        assert_eq!(masked("0123456789abcde"), "...");
        assert_eq!(masked(""), "...");
        assert_eq!(masked("ééééééééééééééééé"), "éééé...éééé");
    }
}
