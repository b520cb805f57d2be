//! The members of a JSON object, unparsed until they are asked for.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Problem;

/// A request's top-level members. `null` counts as absent.
#[derive(Debug)]
pub struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| Problem::invalid("", format!("The request isn't a JSON object: {error}.")))
    }

    /// A member's JSON.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A member, as your own type.
    ///
    /// # Errors
    /// It doesn't fit; the problem names it.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.raw(name).map(|value| parse(value, name)).transpose()
    }
}

/// Parses one value; what doesn't fit is the fault of `param`.
///
/// # Errors
/// It doesn't fit.
pub fn parse<'a, T: Deserialize<'a>>(value: &'a RawValue, param: &str) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|error| {
        Problem::invalid(param, format!("'{param}' doesn't have the expected form: {error}."))
    })
}
