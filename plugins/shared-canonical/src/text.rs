//! A text on its way from the caller's JSON to the vendor's.

use alloc::borrow::Cow;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A text that is passed on as the JSON string that it came in, escapes and all: a prompt is the longest part of most
/// requests, and nobody has to read it or write it anew. Or one of the adapter's own.
#[derive(Debug, Clone, Copy)]
pub enum Text<'a> {
    /// The caller's, in JSON.
    Given(&'a RawValue),
    /// The adapter's.
    Made(&'static str),
}

impl<'a> Text<'a> {
    /// A value, if it is a string.
    pub fn of(value: &'a RawValue) -> Option<Self> {
        value.get().starts_with('"').then_some(Self::Given(value))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        match self {
            Self::Given(value) => value.get() == r#""""#,
            Self::Made(text) => text.is_empty(),
        }
    }

    /// The text itself, for those who have to read it.
    pub fn read(self) -> Cow<'a, str> {
        match self {
            // A string of JSON that was parsed is one: no default is ever taken.
            Self::Given(value) => match serde_json::from_str::<&str>(value.get()) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(serde_json::from_str(value.get()).unwrap_or_default()),
            },
            Self::Made(text) => Cow::Borrowed(text),
        }
    }
}

/// The empty one, which an absent member is.
impl Default for Text<'_> {
    fn default() -> Self {
        Self::Made("")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&'a RawValue>::deserialize(deserializer)?;
        Self::of(value)
            .ok_or_else(|| D::Error::invalid_type(Unexpected::Other("another JSON value"), &"a string"))
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Given(value) => value.serialize(serializer),
            Self::Made(text) => serializer.serialize_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn what_the_caller_wrote_is_what_the_vendor_gets() {
        for json in [r#""hi""#, r#""a \"b\" \u00e9\n""#, r#""""#, r#"" ü ""#] {
            let text: Text<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&text).unwrap(), json);
            let plain: String = serde_json::from_str(json).unwrap();
            assert_eq!(text.read(), plain);
            assert_eq!(text.is_empty(), plain.is_empty());
        }
        assert_eq!(serde_json::to_string(&Text::Made("a \"b\"")).unwrap(), r#""a \"b\"""#);
    }

    #[test]
    fn nothing_else_is_a_text() {
        for json in ["null", "1", "{}", r#"["a"]"#, "true"] {
            let error = serde_json::from_str::<Text<'_>>(json).unwrap_err().to_string();
            assert!(error.contains("expected a string"), "{error}");
        }
    }
}
