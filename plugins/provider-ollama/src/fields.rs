//! The members of a JSON object, unparsed until they are asked for.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request's top-level members. `null` counts as absent, as it does at OpenAI.
pub(crate) struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| Problem::invalid("", format!("The request isn't a JSON object: {error}.")))
    }

    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    pub(crate) fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.raw(name).map(|value| parse(value, name)).transpose()
    }
}

/// Parses one value; what doesn't fit is the fault of `param`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(value: &'a RawValue, param: &str) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|error| {
        Problem::invalid(param, format!("'{param}' doesn't have the expected form: {error}."))
    })
}
