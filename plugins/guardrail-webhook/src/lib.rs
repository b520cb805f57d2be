//! A check of the operator's own, over HTTP.
//!
//! The host is asked to `POST` to the upstream `check`:
//!
//! ```json
//! {"stage": "request", "operation": "chat.completions", "model": "gpt-4o", "request_id": "01…",
//!  "texts": [{"pointer": "/messages/0/content", "kind": "content", "role": "user", "text": "…"}]}
//! ```
//!
//! and gets, with status 200, one of
//!
//! ```json
//! {"verdict": "allow"}
//! {"verdict": "block", "category": "legal", "reason": "Not with this customer."}
//! {"verdict": "change", "texts": [{"pointer": "/messages/0/content", "text": "…"}]}
//! ```
//!
//! with `annotations` (an object) beside it. Anything else is a failure of the guardrail.
//!
//! A stream's texts are asked about when they are complete (`"stage": "stream"`), once what was read can't be taken
//! back: such an answer can block, ending the stream before its finish reason, and can't change.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use brokle_plugin::guardrail::*;
use brokle_plugin::{Description, host};
use serde::{Deserialize, Serialize};

/// What a stream's text may have: 1 MiB.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    path: Option<String>,
    authenticate: Option<bool>,
    roles: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Question<'a> {
    stage: &'a str,
    operation: &'a str,
    model: &'a str,
    request_id: &'a str,
    texts: Vec<Asked<'a>>,
}

#[derive(Debug, Serialize)]
struct Asked<'a> {
    pointer: &'a str,
    kind: &'a str,
    role: &'a str,
    text: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
enum Answer {
    Allow,
    Block { category: Option<String>, reason: Option<String> },
    Change { texts: Vec<Changed> },
}

#[derive(Debug, Deserialize)]
struct Changed {
    pointer: String,
    text: String,
}

#[derive(Debug, Default, Deserialize)]
struct Beside {
    #[serde(default)]
    annotations: BTreeMap<String, serde_json::Value>,
}

struct Webhook {
    config: Config,
    seen: BTreeMap<String, (String, String)>,
}

impl Webhook {
    fn ask(&self, stage: &str, call: &Call, texts: Vec<Asked<'_>>) -> Result<(Answer, Beside), Failure> {
        let (operation, model, request_id) = (&call.operation, &call.model, &call.request_id);
        let question = Question { stage, operation, model, request_id, texts };
        let body = serde_json::to_vec(&question).map_err(|error| Failure::Other(error.to_string()))?;
        let request = host::http::Request::post("check", self.config.path.as_deref().unwrap_or("/"))
            .header("content-type", "application/json")
            .body(&body);
        let request =
            if self.config.authenticate.unwrap_or(true) { request.bearer("token") } else { request };
        let response =
            request.send().map_err(|error| Failure::Unavailable(format!("the check: {error:?}")))?;
        if response.status != 200 {
            return Err(Failure::Unavailable(format!("the check answered {}", response.status)));
        }
        read(&response.body)
    }

    fn sees(&self, role: &str) -> bool {
        self.config.roles.as_ref().is_none_or(|roles| roles.iter().any(|known| known == role))
    }

    fn texts(&self, stage: &str, call: &Call, texts: &[Text]) -> Result<Ruling, Failure> {
        let asked: Vec<Asked<'_>> = texts
            .iter()
            .filter(|text| self.sees(&text.role))
            .map(|text| Asked {
                pointer: &text.pointer,
                kind: &text.kind,
                role: &text.role,
                text: &text.value,
            })
            .collect();
        if asked.is_empty() {
            return Ok(Ruling::allow());
        }
        let (answer, beside) = self.ask(stage, call, asked)?;
        let ruling = match answer {
            Answer::Change { texts: changed } => Ruling::change(edits(texts, changed)?),
            answer => blocked(answer),
        };
        Ok(annotated(ruling, &beside))
    }
}

fn read(body: &[u8]) -> Result<(Answer, Beside), Failure> {
    let unreadable = |_| Failure::Unavailable("the check's answer can't be read".into());
    Ok((serde_json::from_slice(body).map_err(unreadable)?, serde_json::from_slice(body).map_err(unreadable)?))
}

fn edits(texts: &[Text], changed: Vec<Changed>) -> Result<Vec<Edit>, Failure> {
    let edit = |changed: Changed| {
        let place = texts.iter().position(|text| text.pointer == changed.pointer);
        let (index, text) = place
            .and_then(|index| Some((index, texts.get(index)?)))
            .ok_or_else(|| Failure::Other("the check changes a text that it wasn't shown".into()))?;
        Ok(Edit::replace(index, 0..text.value.len(), changed.text))
    };
    changed.into_iter().map(edit).collect()
}

fn blocked(answer: Answer) -> Ruling {
    match answer {
        Answer::Block { category, reason } => {
            let reason =
                reason.unwrap_or_else(|| "A check of this gateway's operator refused the text.".into());
            Ruling::block(category.unwrap_or_else(|| "webhook".into()), reason)
        }
        Answer::Allow | Answer::Change { .. } => Ruling::allow(),
    }
}

fn annotated(mut ruling: Ruling, beside: &Beside) -> Ruling {
    for (name, value) in beside.annotations.iter().take(16) {
        ruling = ruling.annotate(format!("webhook.{name}"), value);
    }
    ruling
}

impl Guardrail for Webhook {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        let config = host::config().map_err(|error| Failure::config(&error))?;
        Ok(Self { config, seen: BTreeMap::new() })
    }

    fn on_request(&mut self, call: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        self.texts("request", call, texts)
    }

    fn on_response(&mut self, call: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        self.texts("response", call, texts)
    }

    fn on_chunk(
        &mut self,
        call: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        if !self.sees("assistant") {
            return Ok(Ruling::allow().into());
        }
        for fragment in fragments {
            let (_, seen) =
                self.seen.entry(fragment.pointer.clone()).or_insert((fragment.kind.clone(), String::new()));
            seen.push_str(&fragment.value);
            if seen.len() > LONGEST {
                return Err(Failure::Other("the text is too long to be asked about".into()));
            }
        }
        let over: Vec<&Fragment> = fragments.iter().filter(|fragment| fragment.last).collect();
        let asked: Vec<Asked<'_>> = over
            .iter()
            .filter_map(|fragment| {
                let (kind, text) = self.seen.get(&fragment.pointer)?;
                Some(Asked { pointer: &fragment.pointer, kind, role: "assistant", text })
            })
            .filter(|asked| !asked.text.is_empty())
            .collect();
        if asked.is_empty() {
            return Ok(Ruling::allow().into());
        }
        match self.ask("stream", call, asked)? {
            (Answer::Change { .. }, _) => {
                Err(Failure::Other("the check changes what was read already".into()))
            }
            (answer, beside) => Ok(annotated(blocked(answer), &beside).into()),
        }
    }
}

brokle_plugin::export!(guardrail: Webhook);
brokle_plugin::no_std!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_refused() {
        let (answer, beside) =
            read(br#"{"verdict":"block","category":"legal","annotations":{"rule":7}}"#).unwrap();
        assert_eq!(beside.annotations.get("rule"), Some(&7.into()));
        let Verdict::Block(refusal) = blocked(answer).verdict else { panic!() };
        assert_eq!(refusal.category, "legal");
        for wrong in [&b"{}"[..], b"[]", b"no", br#"{"verdict":"perhaps"}"#, br#"{"verdict":"change"}"#] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn only_what_was_shown_can_be_changed() {
        let text =
            Text { pointer: "/a".into(), kind: "content".into(), role: "user".into(), value: "héh".into() };
        let changed = |pointer: &str| vec![Changed { pointer: pointer.into(), text: "x".into() }];
        let made = edits(std::slice::from_ref(&text), changed("/a")).unwrap();
        assert_eq!((made[0].start, made[0].end, made[0].replacement.as_str()), (0, 4, "x"));
        assert!(edits(&[text], changed("/b")).is_err());
    }
}
