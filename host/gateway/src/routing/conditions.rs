//! What a call says of itself: to the conditions of routes, and to policies.
//!
//! `metadata` is OpenAI's: up to 16 names of up to 64 bytes with texts of up to 512; conditions see numbers and booleans
//! as texts, too. Whatever is larger isn't seen.

use std::borrow::Cow;
use std::collections::BTreeMap;

use brokle_expression::{Facts, Value};
use brokle_identity::Principal;
use http::HeaderMap;

use crate::request::Request;

/// The most members of `metadata`.
const MAX_MEMBERS: usize = 16;
/// The longest name in it, and the longest text, in bytes.
const MAX_NAME: usize = 64;
const MAX_TEXT: usize = 512;

/// A call and its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request: &'a Request,
}

impl<'a> Said<'a> {
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The session that the call belongs to.
    pub(crate) fn session(&self) -> Option<&'a str> {
        self.header("x-brokle-session")
    }

    /// Whom the caller serves.
    pub(crate) fn user(&self) -> Option<&'a str> {
        self.header("x-brokle-user").or(self.request.user.as_deref())
    }

    /// What policies are told beside what has a place of its own: the names are those of conditions.
    pub(crate) fn attributes(&self) -> Vec<(String, String)> {
        let mut attributes = vec![("key".to_owned(), self.principal.name.clone())];
        let said =
            [("session", self.session()), ("tags", self.header("x-brokle-tags")), ("user", self.user())];
        for (name, text) in said {
            attributes.extend(text.map(|text| (name.to_owned(), text.to_owned())));
        }
        let metadata = self.request.body.find("/metadata");
        // What isn't an object is the provider's to refuse.
        let members: BTreeMap<&str, serde_json::Value> =
            metadata.and_then(|metadata| serde_json::from_slice(metadata).ok()).unwrap_or_default();
        let texts = members.into_iter().filter(|(name, _)| name.len() <= MAX_NAME).take(MAX_MEMBERS);
        attributes.extend(texts.filter_map(|(name, value)| Some((format!("metadata.{name}"), text(value)?))));
        attributes
    }

    fn metadata(&self, name: &str) -> Option<String> {
        let pointer = format!("/metadata/{}", name.replace('~', "~0").replace('/', "~1"));
        text(serde_json::from_slice(self.request.body.find(&pointer)?).ok()?)
    }
}

/// A member of `metadata` as a text.
fn text(value: serde_json::Value) -> Option<String> {
    let text = match value {
        serde_json::Value::String(text) => text,
        value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => value.to_string(),
        _ => return None,
    };
    (text.len() <= MAX_TEXT).then_some(text)
}

impl Facts for Said<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let request = self.request;
        let flag = |feature: &str| Some(Value::Flag(request.features.iter().any(|one| one == feature)));
        let borrowed = |text: &'static str| Some(Value::Text(Cow::Borrowed(text)));
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        #[expect(clippy::cast_precision_loss, reason = "no body has 2^53 bytes")]
        let number = |number: u64| Some(Value::Number(number as f64));
        match name {
            "body_size" => number(request.body.bytes().len() as u64),
            "endpoint" => borrowed(request.operation.name()),
            "images" => flag("vision"),
            "input_tokens" => number(request.estimated_tokens()),
            "json_schema" | "reasoning" | "tools" => flag(name),
            "key" => text(self.principal.name.as_str()),
            "max_output_tokens" => number(request.max_output_tokens?),
            "model" => text(request.model.as_str()),
            "session" => text(self.session()?),
            "stream" => Some(Value::Flag(request.streaming)),
            "tags" => Some(Value::List(Cow::Borrowed(self.header("x-brokle-tags")?))),
            "user" => text(self.user()?),
            _ => Some(Value::Text(Cow::Owned(self.metadata(name.strip_prefix("metadata.")?)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use brokle_expression::{Expression, FACTS, Type};
    use http::HeaderValue;

    use super::*;
    use crate::operation::Operation;
    use crate::who::tests::principal;

    const BODY: &str = r#"{"model":"gpt-4o","stream":true,"max_tokens":5,"user":"ann","tools":[{}],
        "messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}],
        "metadata":{"tier":"gold","n":5,"deep":{"a":1},"a/b":"c"}}"#;

    #[test]
    fn conditions_and_policies_see_what_the_call_says() {
        let request = Request::read(Operation::ChatCompletions, BODY.into()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-brokle-tags", HeaderValue::from_static("a, b"));
        headers.insert("x-brokle-session", HeaderValue::from_static("s1"));
        let principal = principal();
        let said = Said { principal: &principal, headers: &headers, request: &request };
        for (name, kind) in FACTS {
            let kinds = match said.get(name) {
                Some(Value::Flag(_)) => Some(Type::Flag),
                Some(Value::Number(_)) => Some(Type::Number),
                Some(Value::Text(_)) => Some(Type::Text),
                Some(Value::List(_)) => Some(Type::List),
                None => None,
            };
            assert_eq!(kinds, Some(kind), "{name} is told, and is what the table says");
        }
        for holds in [
            "endpoint == 'chat.completions' and model == 'gpt-4o' and stream and tools and images and not reasoning",
            "max_output_tokens == 5 and user == 'ann' and session == 's1' and tags contains 'b' and key == 'test'",
            "input_tokens > 10 and input_tokens < 100 and body_size > 100",
            "metadata.tier == 'gold' and metadata.n == '5' and not has(metadata.deep) and not has(metadata.none)",
        ] {
            assert!(Expression::read(holds).unwrap().holds(&said), "{holds}");
        }
        let told = said.attributes();
        let told: Vec<(&str, &str)> =
            told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("key", "test"),
            ("session", "s1"),
            ("tags", "a, b"),
            ("user", "ann"),
            ("metadata.a/b", "c"),
            ("metadata.n", "5"),
            ("metadata.tier", "gold"),
        ];
        assert_eq!(told, expected);
    }
}
