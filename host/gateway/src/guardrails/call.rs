//! The guardrails of one call.

use std::sync::Arc;

use brokle_core::tenancy::Tenant;
use brokle_plugins::{Active, View};
use brokle_runtime::capabilities::telemetry::TraceParent;
use brokle_runtime::guarding::{self, Text, Verdict};
use brokle_runtime::{Body, GuardrailInstance, GuardrailPlugin};

use super::Guardrail;
use super::rulings::{Failed, Note, edited};
use crate::account::Meter;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::Request;

/// What a guardrail may want to be told again at the answer: 64 KiB.
const STATE: usize = 64 << 10;

/// The guardrails that rule on a call, in order.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Link>,
    pub(crate) request_id: String,
}

/// One of them, with what it left at the request.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) guardrail: Arc<Guardrail>,
    /// What served when the call began; none if nothing did.
    active: Option<Active<GuardrailPlugin>>,
    tenant: Tenant,
    pub(crate) state: Vec<u8>,
}

/// What a ruling comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It goes on: the new texts, where there are any.
    Pass(Vec<Option<String>>),
    /// The model is to be asked again.
    Retry(String),
}

impl Chain {
    pub(crate) fn new(guardrails: impl Iterator<Item = Arc<Guardrail>>, tenant: Tenant, view: &View) -> Self {
        let link = |guardrail: Arc<Guardrail>| Link {
            active: view.guardrail(&guardrail.plugin).cloned(),
            guardrail,
            tenant,
            state: Vec::new(),
        };
        Self { links: guardrails.map(link).collect(), request_id: String::new() }
    }

    /// Whether any of them rules on answers.
    pub(crate) fn rules_on_answers(&self) -> bool {
        self.links.iter().any(Link::on_response)
    }

    /// The call, as a guardrail is told.
    pub(crate) fn facts(&self, request: &Request, retries: u32) -> guarding::Call {
        guarding::Call {
            operation: request.operation.name().into(),
            model: request.model.clone(),
            streaming: request.streaming,
            request_id: self.request_id.clone(),
            retries,
            state: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

impl Link {
    /// Whether the component has rules for this. One that isn't there might.
    pub(crate) fn has_rules_for(&self, stage: &str) -> bool {
        self.active.as_ref().is_none_or(|active| active.plugin.rules_on(stage))
    }

    /// Whether it rules on requests: the operator wants it, and the component has rules. One that isn't there might.
    pub(crate) fn on_request(&self) -> bool {
        self.guardrail.on_request && self.has_rules_for("request")
    }

    /// Whether it rules on answers.
    pub(crate) fn on_response(&self) -> bool {
        self.guardrail.on_response && self.has_rules_for("response")
    }

    /// The component's id and version; its configured name when it isn't there.
    pub(crate) fn label(&self) -> &str {
        self.active.as_ref().map_or(&self.guardrail.plugin, |active| active.plugin.label())
    }

    /// A fresh instance; what it reports belongs to this place in the trace.
    pub(crate) async fn open(&self, parent: Option<TraceParent>) -> Result<GuardrailInstance, Failed> {
        let Some(active) = &self.active else {
            return Err(Failed::missing(&self.guardrail.plugin));
        };
        let mut context = active.context_for(self.tenant, parent);
        if let Some(config) = &self.guardrail.config {
            context.config = config.clone();
        }
        Ok(active.plugin.open(context).await?)
    }

    /// Asks about a request, or about a whole answer. What comes back counts: in shadow mode and after a failure that
    /// the operator lets pass, it is that nothing changes.
    ///
    /// # Errors
    /// The call doesn't go on.
    pub(crate) async fn ask(
        &mut self,
        gateway: &Gateway,
        meter: &mut Meter,
        stage: &'static str,
        facts: &guarding::Call,
        document: &Body,
        texts: &[Text],
    ) -> Result<Outcome, Refusal> {
        let random = &*gateway.parts.random;
        let mut note = Note::begin(meter, self, stage, random);
        let mut spent = std::time::Duration::ZERO;
        let parent = note.parent(meter);
        let asked = self.ruling(parent, stage, facts, document, texts, &mut spent).await;
        let result = match asked.and_then(|ruling| self.outcome(stage, ruling, texts, &mut note)) {
            Ok(outcome) => outcome,
            Err(failed) => match note.fails(meter, self, &failed) {
                Some(refusal) => Err(refusal),
                None => Ok(Outcome::Pass(Vec::new())),
            },
        };
        let export = if stage == "request" { "on-request" } else { "on-response" };
        note.end(meter, self, spent, export, random);
        match result {
            _ if !self.guardrail.enforces() => Ok(Outcome::Pass(Vec::new())),
            result => result,
        }
    }

    async fn ruling(
        &self,
        parent: Option<TraceParent>,
        stage: &str,
        facts: &guarding::Call,
        document: &Body,
        texts: &[Text],
        spent: &mut std::time::Duration,
    ) -> Result<guarding::Ruling, Failed> {
        let mut instance = self.open(parent).await?;
        let call = guarding::Call { state: self.state.clone(), ..facts.clone() };
        let ruling = match stage {
            "request" => instance.on_request(&call, document.clone(), texts).await,
            _ => instance.on_response(&call, document.clone(), texts).await,
        };
        *spent = instance.spent().time;
        Ok(ruling??)
    }

    /// Holds a ruling against what was shown. Inner error: it blocks.
    fn outcome(
        &mut self,
        stage: &str,
        ruling: guarding::Ruling,
        texts: &[Text],
        note: &mut Note,
    ) -> Result<Result<Outcome, Refusal>, Failed> {
        note.annotate(ruling.annotations);
        if stage == "request" {
            if ruling.state.len() > STATE {
                return Err(Failed::ruling(format!(
                    "{} bytes of state; {STATE} are the most",
                    ruling.state.len()
                )));
            }
            self.state = ruling.state;
        }
        Ok(match ruling.verdict {
            Verdict::Allow => Ok(Outcome::Pass(Vec::new())),
            Verdict::Change(edits) => {
                let values: Vec<&str> = texts.iter().map(|text| text.value.as_str()).collect();
                let ends: Vec<usize> = values.iter().map(|value| value.len()).collect();
                let changed = edited(&values, &ends, &edits)?;
                note.changes(edits.len());
                Ok(Outcome::Pass(changed))
            }
            Verdict::Block(refusal) => Err(note.blocks(self, &refusal)),
            Verdict::Retry(instruction) if stage == "response" => {
                note.retries();
                Ok(Outcome::Retry(instruction))
            }
            Verdict::Retry(_) => return Err(Failed::ruling("only a whole answer can be asked for again")),
        })
    }
}
