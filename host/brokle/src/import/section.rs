//! A mapping of which whatever is understood is taken out. What is left at the end has no equal.

use serde_json::{Map, Value};

use super::{Kind, Notes};

/// A mapping, and where it stands.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) path: String,
    members: Map<String, Value>,
}

impl Section {
    pub(super) fn new(path: impl Into<String>, value: Value, notes: &mut Notes) -> Self {
        let path = path.into();
        match value {
            Value::Object(members) => return Self { path, members },
            Value::Null => {}
            _ => notes.add(Kind::NoEqual, path.clone(), "a mapping is expected"),
        }
        Self { path, members: Map::new() }
    }

    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a member out; null is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn section(&mut self, name: &str, notes: &mut Notes) -> Self {
        let value = self.take(name).unwrap_or_default();
        Self::new(self.key(name), value, notes)
    }

    pub(super) fn list(&mut self, name: &str, notes: &mut Notes) -> Vec<Value> {
        match self.take(name) {
            Some(Value::Array(list)) => list,
            Some(_) => {
                notes.add(Kind::NoEqual, self.key(name), "a list is expected");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    pub(super) fn text(&mut self, name: &str, notes: &mut Notes) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                notes.add(Kind::NoEqual, self.key(name), "a text is expected");
                None
            }
        }
    }

    /// A number, which people write in quotes, too.
    pub(super) fn number(&mut self, name: &str, notes: &mut Notes) -> Option<f64> {
        let number = match self.take(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if fits.is_none() {
            notes.add(Kind::NoEqual, self.key(name), "a number is expected");
        }
        fits
    }

    /// The same, whole.
    pub(super) fn count(&mut self, name: &str, notes: &mut Notes) -> Option<u64> {
        self.number(name, notes).map(whole)
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        matches!(self.take(name), Some(Value::Bool(true)))
    }

    pub(super) fn into_members(self) -> Map<String, Value> {
        self.members
    }

    /// What this version of ours can't say.
    pub(super) fn rest(self, notes: &mut Notes) {
        for name in self.members.keys() {
            notes.add(Kind::NoEqual, self.key(name), "there is nothing like it: left out");
        }
    }
}

/// The number without its fraction; at most what a 32-bit number holds, which is more than any setting takes.
pub(super) fn whole(number: f64) -> u64 {
    // Never negative, and far below where a double is exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on both sides")]
    let whole = number.clamp(0.0, f64::from(u32::MAX)) as u64;
    whole
}
