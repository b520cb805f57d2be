//! What a project is called, in the forms that its files need.

use brokle_runtime::Kind;

use super::ProjectError;

/// A plugin's short name and its package's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    name: String,
    package: String,
}

/// What packages of a role begin with.
fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Provider => "provider",
        Kind::RoutingPolicy => "policy",
        Kind::Guardrail => "guardrail",
        Kind::Dialect => "dialect",
        Kind::Exporter => "exporter",
    }
}

impl Names {
    /// From `acme` or `provider-acme`, which are the same.
    ///
    /// # Errors
    /// It can't be a package's name and a plugin's.
    pub fn parse(kind: Kind, given: &str) -> Result<Self, ProjectError> {
        let prefix = prefix(kind);
        let name = given.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or(given);
        let plain =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let good = plain
            && (1..=40).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.ends_with('-')
            && !name.contains("--");
        if !good {
            return Err(ProjectError::Name(given.to_owned()));
        }
        Ok(Self { name: name.to_owned(), package: format!("{prefix}-{name}") })
    }

    /// The crate's name and the folder's: `provider-acme`.
    #[must_use]
    pub fn package(&self) -> &str {
        &self.package
    }

    /// A template's text with these names in the place of its own.
    pub(super) fn put(&self, kind: Kind, text: &str) -> String {
        let prefix = prefix(kind);
        let words = || self.name.split('-');
        let camel: String = words().map(capitalized).collect();
        let title = words().map(capitalized).collect::<Vec<_>>().join(" ");
        text.replace(&format!("{prefix}_acme"), &self.package.replace('-', "_"))
            .replace("\"title\": \"Acme\"", &format!("\"title\": \"{title}\""))
            .replace("# Acme\n", &format!("# {title}\n"))
            .replace("Acme's", &format!("{title}'s"))
            .replace("Acme", &camel)
            .replace("ACME", &self.name.to_uppercase().replace('-', "_"))
            .replace("acme", &self.name)
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_every_form() {
        let names = Names::parse(Kind::Provider, "provider-blue-whale").unwrap();
        assert_eq!(names, Names::parse(Kind::Provider, "blue-whale").unwrap());
        let text = "provider_acme provider-acme struct Acme; ACME_KEY x-acme-key Acme's";
        let expected = "provider_blue_whale provider-blue-whale struct BlueWhale; BLUE_WHALE_KEY x-blue-whale-key Blue Whale's";
        assert_eq!(names.put(Kind::Provider, text), expected);
        for bad in ["", "-a", "a-", "a--b", "A", "1a", "a b", "../a", "provider-", "é", &"a".repeat(41)] {
            assert!(Names::parse(Kind::Provider, bad).is_err(), "{bad}");
        }
    }
}
