//! What a row has that may hold texts, ruled on by one guardrail after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use brokle_core::observation::{Kind, Observation, Step};
use brokle_runtime::Body;
use brokle_runtime::guarding::{self, Text, Verdict};
use bytes::Bytes;
use serde_json::Value;

use super::stored::Stored;
use crate::guardrails::call::Link;
use crate::guardrails::rulings::{Failed, edited};
use crate::guardrails::{Chain, OnFailure, texts};

/// The attribute that names the guardrails that changed something.
const MASKED: &str = "brokle.storage.masked";
/// The attribute that says why there is no content.
const WITHHELD: &str = "brokle.storage.withheld";

/// Why content isn't stored as it is.
enum Refused {
    Blocked(String),
    Failed(Failed),
}

impl<T: Into<Failed>> From<T> for Refused {
    fn from(failed: T) -> Self {
        Self::Failed(failed.into())
    }
}

/// What a guardrail is told of a row.
pub(super) fn told(operation: &str) -> guarding::Call {
    guarding::Call {
        operation: operation.to_owned(),
        model: String::new(),
        streaming: false,
        request_id: String::new(),
        retries: 0,
        state: Vec::new(),
        attributes: vec![("stage".to_owned(), "storage".to_owned())],
    }
}

/// What may hold texts, of a row.
pub(super) struct Content<'a> {
    pub(super) call: guarding::Call,
    /// Where a component chose it.
    pub(super) name: Option<&'a mut Cow<'static, str>>,
    pub(super) input: &'a mut Option<Bytes>,
    pub(super) output: &'a mut Option<Bytes>,
    pub(super) failure: &'a mut Option<Box<str>>,
    pub(super) attributes: &'a mut BTreeMap<String, Value>,
    pub(super) steps: &'a mut [Step],
}

impl<'a> Content<'a> {
    pub(super) fn of(row: &'a mut Observation) -> Self {
        let call = guarding::Call {
            model: row.model_requested.as_deref().unwrap_or_default().to_owned(),
            streaming: row.streaming,
            request_id: row.request_id.map(|id| id.to_string()).unwrap_or_default(),
            ..told(&row.operation)
        };
        let is_a_plugins = row.kind == Kind::Plugin;
        Self {
            call,
            name: is_a_plugins.then_some(&mut row.name),
            input: &mut row.input,
            output: &mut row.output,
            failure: &mut row.error_message,
            attributes: &mut row.attributes,
            steps: &mut row.steps,
        }
    }

    pub(super) async fn mask(&mut self, chain: &Chain) {
        let mut masked: Vec<Value> = Vec::new();
        for link in &chain.links {
            match self.rule(link).await {
                Ok(true) => masked.push((*link.guardrail.name).into()),
                Ok(false) => {}
                Err(Refused::Blocked(category)) => {
                    return self.withhold(&format!("{}: blocked as {category}", link.guardrail.name));
                }
                Err(Refused::Failed(failed)) => {
                    let (guardrail, plugin) = (&*link.guardrail.name, link.label());
                    tracing::warn!(
                        guardrail,
                        plugin,
                        "guardrail failed on what is stored: {}",
                        failed.detail()
                    );
                    if link.guardrail.on_failure == OnFailure::Closed {
                        return self.withhold(&format!("{guardrail}: failed"));
                    }
                }
            }
        }
        if !masked.is_empty() {
            self.attributes.insert(MASKED.to_owned(), masked.into());
        }
    }

    /// Leaves out whatever may hold a text.
    pub(super) fn withhold(&mut self, why: &str) {
        (*self.input, *self.output, *self.failure) = (None, None, None);
        let is_no_text = |_: &String, value: &mut Value| value.is_number() || value.is_boolean();
        self.attributes.retain(is_no_text);
        self.attributes.insert(WITHHELD.to_owned(), why.into());
        for step in &mut *self.steps {
            step.error_message = None;
            step.attributes.retain(is_no_text);
        }
        if let Some(name) = &mut self.name {
            **name = "plugin".into();
        }
    }

    /// One guardrail's rulings on both sides; true when it changed something.
    async fn rule(&mut self, link: &Link) -> Result<bool, Refused> {
        let mut changed = false;
        if link.has_rules_for("request") {
            let body = self.input.clone();
            let input = Stored::of(body.as_ref())?;
            let mut shown = input.texts.clone();
            self.beside_bodies(&mut shown);
            let new = self.ask(link, "request", &shown).await?;
            let (of_input, of_others) = new.split_at_checked(input.texts.len()).unwrap_or_default();
            if let Some(body) = input.with(of_input)? {
                *self.input = Some(body);
                changed = true;
            }
            let places = shown.iter().skip(input.texts.len()).map(|text| text.pointer.as_str());
            for (pointer, text) in places.zip(of_others) {
                let Some(text) = text else { continue };
                self.replace(pointer, text)?;
                changed = true;
            }
        }
        if link.has_rules_for("response") && self.output.is_some() {
            let body = self.output.clone();
            let output = Stored::of(body.as_ref())?;
            let new = self.ask(link, "response", &output.texts).await?;
            if let Some(body) = output.with(&new)? {
                *self.output = Some(body);
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The texts that stand beside input and output, each where [`replace`](Self::replace) finds it.
    fn beside_bodies(&self, found: &mut Vec<Text>) {
        let mut add = |base: &str, failure: Option<&str>, attributes: &BTreeMap<String, Value>| {
            for (name, value) in attributes {
                texts::everything(value, &format!("{base}/attributes/{}", texts::escaped(name)), "", found);
            }
            found.extend(failure.map(|failure| text(format!("{base}/error_message"), failure)));
        };
        add("", self.failure.as_deref(), self.attributes);
        for (number, step) in self.steps.iter().enumerate() {
            add(&format!("/steps/{number}"), step.error_message.as_deref(), &step.attributes);
        }
        found.extend(self.name.as_deref().map(|name| text("/name".to_owned(), name)));
    }

    /// The text at `/attributes/NAME/…`, `/error_message`, either of them below `/steps/NUMBER`, or `/name`, anew.
    fn replace(&mut self, pointer: &str, text: &str) -> Result<(), Failed> {
        let lost = || Failed::ruling("a text isn't where it was");
        if let ("/name", Some(name)) = (pointer, &mut self.name) {
            **name = text.to_owned().into();
            return Ok(());
        }
        let (failure, attributes, place) = match pointer.strip_prefix("/steps/") {
            Some(rest) => {
                let (number, _) = rest.split_once('/').ok_or_else(lost)?;
                let step = number.parse().ok().and_then(|number: usize| self.steps.get_mut(number));
                let step = step.ok_or_else(lost)?;
                (&mut step.error_message, &mut step.attributes, rest.get(number.len()..).unwrap_or_default())
            }
            None => (&mut *self.failure, &mut *self.attributes, pointer),
        };
        if place == "/error_message" {
            *failure = Some(text.into());
            return Ok(());
        }
        let rest = place.strip_prefix("/attributes/").ok_or_else(lost)?;
        let (name, inside) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let name = name.replace("~1", "/").replace("~0", "~");
        let value = attributes.get_mut(&name).and_then(|value| value.pointer_mut(inside));
        *value.ok_or_else(lost)? = text.into();
        Ok(())
    }

    /// What becomes of each text; none where nothing changes.
    async fn ask(&self, link: &Link, stage: &str, shown: &[Text]) -> Result<Vec<Option<String>>, Refused> {
        if shown.is_empty() {
            return Ok(Vec::new());
        }
        let mut instance = link.open(None).await?;
        let document = Body::json(self.input.clone().unwrap_or_else(|| Bytes::from_static(b"null")));
        let ruling = match stage {
            "request" => instance.on_request(&self.call, document, shown).await?,
            _ => instance.on_response(&self.call, document, shown).await?,
        };
        match ruling?.verdict {
            Verdict::Allow => Ok(vec![None; shown.len()]),
            Verdict::Change(edits) => {
                let values: Vec<&str> = shown.iter().map(|text| text.value.as_str()).collect();
                let ends: Vec<usize> = values.iter().map(|value| value.len()).collect();
                Ok(edited(&values, &ends, &edits)?)
            }
            Verdict::Block(refusal) => Err(Refused::Blocked(refusal.category.chars().take(64).collect())),
            Verdict::Retry(_) => Err(Refused::Blocked("retry".to_owned())),
        }
    }
}

fn text(pointer: String, value: &str) -> Text {
    Text { pointer, kind: String::new(), role: String::new(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use brokle_core::observation::{SpanId, TraceId};
    use brokle_core::random::SeededRandom;
    use brokle_core::tenancy::Tenant;
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_beside_the_bodies_are_shown_and_replaced_wherever_they_are() {
        let random = SeededRandom::new(1);
        let ulid = "01KJME5T5V7QZ8WXJ3N4P6R9ST";
        let tenant = Tenant {
            organization: ulid.parse().unwrap(),
            project: ulid.parse().unwrap(),
            environment: ulid.parse().unwrap(),
        };
        let mut row =
            Observation::new(tenant, TraceId::generate(&random), SpanId::generate(&random), Kind::Plugin, 0);
        (row.name, row.error_message) = ("secret".into(), Some("secret".into()));
        row.attributes.insert("a/b~".to_owned(), json!({ "in": ["secret", 7] }));
        let step = json!({
            "span_id": "00f067aa0ba902b7", "kind": "attempt", "name": "none", "offset_us": 0, "duration_us": 0, "status": "error",
            "error_message": "secret", "attributes": { "why": "secret" },
        });
        row.steps = vec![serde_json::from_value(step).unwrap()];
        let mut shown = Vec::new();
        let mut content = Content::of(&mut row);
        content.beside_bodies(&mut shown);
        assert_eq!(shown.iter().filter(|text| text.value == "secret").count(), 5);
        for text in &shown {
            content.replace(&text.pointer, "***").unwrap();
        }
        for lost in
            ["/steps/1/error_message", "/steps/0", "/attributes/none", "/attributes/a~1b~0/out", "/other"]
        {
            assert!(content.replace(lost, "").is_err(), "{lost}");
        }
        let written = serde_json::to_string(&row).unwrap();
        assert!(!written.contains("secret") && written.matches("***").count() == 5, "{written}");
        assert_eq!(row.attributes["a/b~"], json!({ "in": ["***", 7] }));
        Content::of(&mut row).withhold("because");
        assert!(!serde_json::to_string(&row).unwrap().contains("***"));
    }
}
