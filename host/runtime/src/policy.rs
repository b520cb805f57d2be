//! Routing policies, ready to be asked.

use std::sync::OnceLock;

use serde_json::Value;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::routing::RoutingPolicy;
use crate::engine::RuntimeConfig;
use crate::error::PluginError;
use crate::export::{Export, signature};
use crate::facts::{Candidate, Plan, Refusal, Request};
use crate::instance::{CallContext, Session, Spent, State};
use crate::limits::Limits;
use crate::loaded::{Loaded, World, plugin};
use crate::manifest::Kind;

/// A routing policy: compiled, linked, proved by its own test.
pub struct PolicyPlugin(Loaded<Policy>);
plugin!(PolicyPlugin);

/// What a policy exports.
struct Policy {
    decide: Export<Decide>,
    reads: OnceLock<Reads>,
}

/// Which texts and lists a policy says it reads. Each that it is told is memory in the guest that has to be asked for and
/// filled, numbers cost next to nothing: so what it doesn't name is left empty.
#[derive(Debug, PartialEq)]
struct Reads {
    operation: bool,
    model: bool,
    connection: bool,
    provider: bool,
    features: bool,
    attributes: Attributes,
}

/// Attributes are named as a whole, or one by one.
#[derive(Debug, PartialEq)]
enum Attributes {
    All,
    These(Vec<String>),
}

signature!(
    Decide,
    Some("brokle:routing/policy@0.1.0"),
    "decide",
    (&'a Request, &'a [Candidate]) -> Result<Plan, Refusal>
);

impl World for Policy {
    const KIND: Kind = Kind::RoutingPolicy;

    fn limits(config: &RuntimeConfig) -> Limits {
        config.policy
    }

    fn link(linker: &mut Linker<State>) -> Wasm<()> {
        RoutingPolicy::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn find(
        component: &Component,
        _: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self> {
        Ok(Self { decide: Export::check(component, instance, store)?, reads: OnceLock::new() })
    }
}

impl Reads {
    /// By what `describe` answered; one that names no facts at all is told everything.
    fn of(description: &Value) -> Self {
        let named = description.get("facts").and_then(Value::as_array);
        let named: Option<Vec<&str>> = named.map(|named| named.iter().filter_map(Value::as_str).collect());
        let has = |fact: &str| named.as_ref().is_none_or(|named| named.contains(&fact));
        let attributes = match &named {
            Some(named) if !has("attributes") => {
                Attributes::These(named.iter().map(|&name| name.to_owned()).collect())
            }
            _ => Attributes::All,
        };
        Self {
            operation: has("operation"),
            model: has("model"),
            connection: has("connection"),
            provider: has("provider"),
            features: has("features"),
            attributes,
        }
    }

    fn request(&self, request: &Request) -> Request {
        Request {
            operation: text(self.operation, &request.operation),
            model: text(self.model, &request.model),
            features: texts(self.features, &request.features),
            attributes: self.attributes.of(&request.attributes),
            ..*request
        }
    }

    fn candidate(&self, candidate: &Candidate) -> Candidate {
        Candidate {
            connection: text(self.connection, &candidate.connection),
            provider: text(self.provider, &candidate.provider),
            model: text(self.model, &candidate.model),
            features: texts(self.features, &candidate.features),
            attributes: self.attributes.of(&candidate.attributes),
            ..*candidate
        }
    }
}

impl Attributes {
    fn of(&self, attributes: &[(String, String)]) -> Vec<(String, String)> {
        match self {
            Self::All => attributes.to_vec(),
            Self::These(names) => {
                attributes.iter().filter(|(name, _)| names.contains(name)).cloned().collect()
            }
        }
    }
}

fn text(is_read: bool, text: &str) -> String {
    if is_read { text.to_owned() } else { String::new() }
}

fn texts(is_read: bool, texts: &[String]) -> Vec<String> {
    if is_read { texts.to_vec() } else { Vec::new() }
}

impl PolicyPlugin {
    /// Asks a fresh instance for the order of the candidates, and says what that cost. It is told of texts and lists what it
    /// says it reads, and of everything else all.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it has no plan.
    pub async fn decide<'a>(
        &self,
        context: CallContext,
        request: &Request,
        candidates: impl IntoIterator<Item = &'a Candidate> + Send,
    ) -> Result<(Result<Plan, Refusal>, Spent), PluginError> {
        let (mut session, mut instance, ready) = self.0.open(context).await?;
        let reads = ready.world.reads.get_or_init(|| Reads::of(&ready.description));
        let request = reads.request(request);
        let candidates: Vec<Candidate> = candidates.into_iter().map(|one| reads.candidate(one)).collect();
        let params = |_: &mut Session| (&request, &*candidates);
        let (answer,) = ready.call(&ready.world.decide, &mut session, &mut instance, params).await?;
        Ok((answer, session.spent))
    }
}

impl crate::bindings::routing::brokle::routing::facts::Host for State {}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        let stats = crate::facts::Stats {
            latency_ms: Some(1.0),
            first_token_ms: None,
            error_rate: None,
            in_flight: 2,
            remaining_requests: None,
            remaining_tokens: None,
        };
        Candidate {
            connection: "main".into(),
            provider: "openai".into(),
            model: "gpt-4o".into(),
            priority: 3,
            weight: 4,
            available: true,
            stats,
            input_price: Some(0.5),
            output_price: None,
            context_window: None,
            features: vec!["tools".into()],
            attributes: vec![("score".into(), "1".into()), ("region".into(), "eu".into())],
        }
    }

    #[test]
    fn a_policy_is_told_the_texts_that_it_names_and_all_numbers() {
        let told = Reads::of(&serde_json::json!({"facts": ["model", "score"]})).candidate(&candidate());
        assert_eq!((&*told.connection, &*told.provider, &*told.model), ("", "", "gpt-4o"));
        assert_eq!((told.features, told.attributes), (vec![], vec![("score".into(), "1".into())]));
        assert_eq!((told.priority, told.weight, told.available), (3, 4, true));
        assert_eq!(
            (told.stats.latency_ms, told.stats.in_flight, told.input_price),
            (Some(1.0), 2, Some(0.5))
        );
    }

    #[test]
    fn one_that_names_no_facts_is_told_everything() {
        let (all, one) = (Reads::of(&serde_json::json!({})), candidate());
        let told = all.candidate(&one);
        assert_eq!((told.connection, told.provider, told.model), (one.connection, one.provider, one.model));
        assert_eq!((told.features, told.attributes), (one.features, one.attributes));
        let attributes = Reads::of(&serde_json::json!({"facts": ["attributes"]}));
        assert_eq!(attributes.candidate(&candidate()).attributes.len(), 2);
    }
}
