//! Names of members, as readers take them.

use std::borrow::Cow;
use std::collections::HashSet;

/// A member's name: its raw bytes between the quotes, with the escapes undone.
///
/// `\u006dodel` is `model` to everybody who reads the document, so it must be here too.
pub fn name(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(name) => Cow::Owned(name),
        Err(_) => String::from_utf8_lossy(raw),
    }
}

/// Few enough to be compared one by one: faster than hashing, and what nearly every request has.
const COMPARED: usize = 24;

/// The names that an object's members have had so far.
///
/// RFC 8259 §4 leaves it to the reader which of two members of one name counts. Where one reader decides who may be
/// asked and another one answers, they must not read two different documents.
#[derive(Debug, Default)]
pub struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// False if there was one of this name.
    pub fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < COMPARED {
            if self.few.capacity() == 0 {
                self.few.reserve_exact(COMPARED);
            }
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        for (raw, expected) in
            [("model", "model"), ("\\u006dodel", "model"), ("a\\\"b", "a\"b"), ("gr\\u00f6ße", "größe")]
        {
            assert_eq!(name(raw.as_bytes()), expected);
        }
    }

    #[test]
    fn the_second_of_a_name_is_noticed_among_few_and_among_many() {
        let mut names = Names::default();
        for index in 0..200 {
            assert!(names.insert(index.to_string().into()), "{index}");
        }
        for again in ["0", "23", "24", "199"] {
            assert!(!names.insert(again.into()), "{again}");
        }
        assert!(names.insert("200".into()));
    }
}
