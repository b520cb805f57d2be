//! The members of a JSON object, unparsed until they are asked for.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request's top-level members. `null` counts as absent, as it does at OpenAI.
pub struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// It isn't a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| Problem::invalid("", format!("The request isn't a JSON object: {error}.")))
    }

    /// A member's bytes.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A member, as a type.
    ///
    /// # Errors
    /// It has another form: the member is the problem's `param`.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.raw(name).map(|value| parse(value, name)).transpose()
    }

    /// All members, those that are `null` as well, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// `max_completion_tokens`, else its older name `max_tokens`.
    ///
    /// # Errors
    /// Either is no whole number.
    pub fn max_tokens(&self) -> Result<Option<u64>, Problem> {
        let newer = self.get("max_completion_tokens")?;
        let older = self.get("max_tokens")?;
        Ok(newer.or(older))
    }

    /// `stop`: one sequence or several.
    ///
    /// # Errors
    /// It is neither a text nor a list of texts.
    pub fn stop(&self) -> Result<Vec<String>, Problem> {
        match self.raw("stop") {
            None => Ok(Vec::new()),
            Some(raw) if raw.get().starts_with('"') => Ok(vec![parse(raw, "stop")?]),
            Some(raw) => parse(raw, "stop"),
        }
    }
}

/// Parses one value.
///
/// # Errors
/// It has another form: the fault of `param`.
pub fn parse<'a, T: Deserialize<'a>>(value: &'a RawValue, param: &str) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|error| {
        Problem::invalid(param, format!("'{param}' doesn't have the expected form: {error}."))
    })
}
