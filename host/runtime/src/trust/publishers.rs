//! Publishers whom the operator believes, each for the ids under one prefix.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::is_vendor_id;
use super::keys::PublicKey;

/// The ids that a key may sign for: `acme.` stands for `acme.` and all that follows. It ends with a dot, so that `acme.`
/// isn't `acmebank.`, and it is never the vendor's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Prefix(String);

impl Prefix {
    /// Whether an id is under it.
    #[must_use]
    pub fn covers(&self, id: &str) -> bool {
        id.strip_prefix(&self.0).is_some_and(|rest| !rest.is_empty()) && !is_vendor_id(id)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if !(2..=128).contains(&text.len())
            || !text.ends_with('.')
            || text.starts_with('.')
            || !text.bytes().all(plain)
        {
            return Err(format!(
                "'{text}' is no prefix of ids: a-z, 0-9, '-', '_' and '.', and a '.' at the end"
            ));
        }
        if is_vendor_id(&text) {
            return Err(format!("'{text}' is the vendor's; nobody else signs for it"));
        }
        Ok(Self(text))
    }
}

/// A publisher that the operator added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// For people.
    pub name: String,
    /// The ids that it may sign for.
    pub prefix: Prefix,
    /// Its key.
    pub public: PublicKey,
    /// Since when it is believed.
    pub added_at: DateTime<Utc>,
}
