//! Reading a grant, each mistake with the pointer to it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{GrantProblem, Grants, HttpGrants, UpstreamGrants, below};

type Problems = Vec<GrantProblem>;

impl Grants {
    /// Reads a grant.
    ///
    /// # Errors
    /// Everything that is wrong with its form. Whether it fits a manifest is for
    /// [`effective`](super::effective()) to say.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<GrantProblem>> {
        let value = serde_json::from_slice(json).map_err(|error| {
            vec![GrantProblem { pointer: String::new(), message: format!("no JSON: {error}") }]
        })?;
        Self::from_value(&value)
    }

    /// Reads a grant that is parsed already.
    ///
    /// # Errors
    /// As [`Grants::parse`].
    pub fn from_value(value: &Value) -> Result<Self, Vec<GrantProblem>> {
        const KNOWN: [&str; 8] =
            ["clock", "crypto", "http", "kv", "limits", "random", "secrets", "telemetry"];
        let mut problems = Problems::new();
        let Some(object) = object(value, "", &mut problems) else { return Err(problems) };
        for name in object.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
            let message = format!("there is no such capability; there are {}", KNOWN.join(", "));
            problems.push(GrantProblem { pointer: below("", name), message });
        }
        let grants = Self {
            kv: section(object, "kv", &mut problems),
            http: object.get("http").and_then(|value| http(value, &mut problems)),
            secrets: object.get("secrets").map(|value| secrets(value, &mut problems)).unwrap_or_default(),
            crypto: section(object, "crypto", &mut problems),
            telemetry: section(object, "telemetry", &mut problems),
            clock: section(object, "clock", &mut problems),
            random: section(object, "random", &mut problems),
            limits: section(object, "limits", &mut problems),
        };
        if problems.is_empty() { Ok(grants) } else { Err(problems) }
    }
}

fn object<'a>(value: &'a Value, pointer: &str, problems: &mut Problems) -> Option<&'a Map<String, Value>> {
    let object = value.as_object();
    if object.is_none() {
        problems.push(GrantProblem { pointer: pointer.to_owned(), message: "an object is expected".into() });
    }
    object
}

fn section<T: DeserializeOwned>(
    object: &Map<String, Value>,
    name: &str,
    problems: &mut Problems,
) -> Option<T> {
    object.get(name).and_then(|value| read(value, &below("", name), problems))
}

/// Reads a value. All members of our sections are optional, so that each can be tried alone to find the one at fault.
fn read<T: DeserializeOwned>(value: &Value, pointer: &str, problems: &mut Problems) -> Option<T> {
    let members = object(value, pointer, problems)?;
    match serde_json::from_value(value.clone()) {
        Ok(read) => return Some(read),
        Err(whole) => {
            let before = problems.len();
            for (name, member) in members {
                let alone: Map<_, _> = [(name.clone(), member.clone())].into_iter().collect();
                if let Err(error) = serde_json::from_value::<T>(Value::Object(alone)) {
                    problems.push(GrantProblem { pointer: below(pointer, name), message: error.to_string() });
                }
            }
            if problems.len() == before {
                problems.push(GrantProblem { pointer: pointer.to_owned(), message: whole.to_string() });
            }
        }
    }
    None
}

fn http(value: &Value, problems: &mut Problems) -> Option<HttpGrants> {
    let members = object(value, "/http", problems)?;
    let mut upstreams = BTreeMap::new();
    let mut others = members.clone();
    if let Some(listed) = others.remove("upstreams") {
        for (name, upstream) in object(&listed, "/http/upstreams", problems)? {
            let read: Option<UpstreamGrants> = read(upstream, &below("/http/upstreams", name), problems);
            upstreams.insert(name.clone(), read.unwrap_or_default());
        }
    }
    let mut grants: HttpGrants = read(&Value::Object(others), "/http", problems)?;
    grants.upstreams = upstreams;
    Some(grants)
}

fn secrets(value: &Value, problems: &mut Problems) -> BTreeMap<String, super::SecretReference> {
    let mut references = BTreeMap::new();
    let Some(object) = object(value, "/secrets", problems) else { return references };
    for (name, value) in object {
        let reference = value.as_str().map(str::to_owned).ok_or(super::BadReference);
        match reference.and_then(super::SecretReference::try_from) {
            Ok(reference) => {
                references.insert(name.clone(), reference);
            }
            Err(error) => {
                problems.push(GrantProblem { pointer: below("/secrets", name), message: error.to_string() });
            }
        }
    }
    references
}
