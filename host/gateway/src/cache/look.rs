//! The two stages that look: before routing, and for routes whose policy chooses between answers once it has chosen.
//!
//! A policy that says so of itself (`policy.chooses_answers` in its manifest: conditions, variants of an experiment) is asked
//! first, and what its first choice answered is found by that choice only, and kept only if that choice answered. Everybody
//! else's calls are looked for before anybody is asked.
//!
//! A call in a dialect has entries of its own: the vendor's bytes, where it was asked in that dialect, or else the canonical
//! answer, which the dialect's component writes anew. One that goes on from what a vendor keeps, and a count of tokens, isn't looked for.

use std::sync::Arc;

use brokle_identity::Principal;
use brokle_telemetry::metrics::CacheOutcome;

use super::control::Control;
use super::key::{self, Key};
use super::recording::{Of, Recording};
use super::semantic::{Meaning, Question};
use super::{Cache, CacheNote, Entry, embedding};
use crate::gateway::Gateway;
use crate::operation::Operation;
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::Candidate;
use crate::routing::conditions::Said;
use crate::routing::plan::Plan;

/// The stage between what guardrails say of a request and its routing.
pub(crate) struct Look;

/// The stage after routing.
pub(crate) struct LookAgain;

pub(super) type Call<'a> = Stage<'a, (Arc<Principal>, Box<Request>)>;

/// Whether who is asked first decides what the answer is, rather than who gives it.
fn chooses_answers(gateway: &Gateway, call: &Call<'_>) -> bool {
    let (principal, request) = &call.known;
    let policy = request.route.as_ref().map_or(&gateway.parts.routing.policy, |route| &route.policy);
    let active = call.plugins.of(principal.tenant).policy(&policy.name);
    active.is_some_and(|active| active.plugin.manifest().policy.chooses_answers)
}

impl Look {
    pub(crate) async fn run<'a>(gateway: &Gateway, call: Call<'a>) -> Result<Call<'a>, Refusal> {
        let Some(cache) = &gateway.parts.cache else { return Ok(call) };
        if chooses_answers(gateway, &call) {
            return Ok(call);
        }
        Box::pin(look(gateway, cache, call, None)).await
    }
}

impl LookAgain {
    pub(crate) async fn run<'a>(
        gateway: &Gateway,
        call: Stage<'a, (Arc<Principal>, Box<Request>, Plan)>,
    ) -> Result<Stage<'a, (Box<Request>, Plan)>, Refusal> {
        let ((principal, request, plan), call) = call.with(());
        let Some((cache, chosen)) = gateway.parts.cache.as_ref().zip(plan.candidates.first()) else {
            return Ok(call.with((request, plan)).1);
        };
        let mut call = call.with((principal, request)).1;
        if chooses_answers(gateway, &call) {
            call = Box::pin(look(gateway, cache, call, Some(chosen))).await?;
        }
        let ((_, request), call) = call.with(());
        Ok(call.with((request, plan)).1)
    }
}

async fn look<'a>(
    gateway: &Gateway,
    cache: &Arc<Cache>,
    mut call: Call<'a>,
    chosen: Option<&Candidate>,
) -> Result<Call<'a>, Refusal> {
    let control = Control::read(call.incoming.headers, &cache.settings)?;
    let (principal, request) = &call.known;
    let rules = request.rules();
    let goes_on = request.dialect.as_ref().is_some_and(|dialect| dialect.asked.previous.is_some());
    if control.no_store
        || rules.is_some_and(|rules| rules.uncached)
        || request.is_form()
        || request.operation == Operation::CountTokens
        || goes_on
    {
        cache.count(CacheOutcome::bypass);
        return Ok(call);
    }
    let said = Said { principal, headers: call.incoming.headers, request };
    let Some(key) = key::of(said, chosen) else {
        cache.count(CacheOutcome::bypass);
        return Ok(call);
    };
    let flight = match cache.look(&key, &control).await {
        Ok(entry) => match can_be_written(gateway, &mut call, &entry).await {
            true => {
                cache.count(CacheOutcome::hit);
                found(cache, &mut call, key, entry, None);
                return Ok(call);
            }
            false => None,
        },
        Err(flight) => flight,
    };
    let said = Said { principal: &call.known.0, headers: call.incoming.headers, request: &call.known.1 };
    let semantic = cache.semantic.as_ref();
    let meaning = match semantic.and_then(|one| Question::of(said, &one.settings, &control, chosen)) {
        None => None,
        // In a box of its own: it is large, and most calls get by without it.
        Some(question) => match Box::pin(ask(gateway, cache, &mut call, key, question, &control)).await {
            Ok((key, entry, score)) => {
                cache.count(CacheOutcome::semantic_hit);
                found(cache, &mut call, key, entry, Some(score));
                return Ok(call);
            }
            Err(meaning) => meaning,
        },
    };
    cache.count(CacheOutcome::miss);
    call.told.cache = CacheNote::Miss(key);
    let (principal, request) = &call.known;
    let by_route = request.rules().and_then(|rules| rules.cache_ttl);
    let by_route = by_route.map(|ttl| ttl.min(cache.settings.max_ttl));
    let of = Of {
        tenant: principal.tenant,
        model: request.model.clone(),
        route: request.route.as_ref().map(|route| route.name.clone()),
        ttl: control.ttl.or(by_route).unwrap_or(cache.settings.ttl),
        chosen: chosen.map(|chosen| (chosen.connection.id.clone(), chosen.model.clone())),
    };
    let recording = Recording::new(Arc::clone(cache), key, of, flight);
    call.meter.record(recording.meaning(meaning));
    Ok(call)
}

/// Whether the answer can be given in the call's form: a canonical one to a call in a dialect is written by its component, which
/// has to know the request.
async fn can_be_written(gateway: &Gateway, call: &mut Call<'_>, entry: &Entry) -> bool {
    let request = &call.known.1;
    match &request.dialect {
        Some(dialect) if !entry.is_native() => {
            let canonical = Box::pin(dialect.asked.canonical(gateway, call.meter, request)).await;
            canonical
                .inspect_err(
                    |refusal| tracing::debug!(code = %refusal.code, "a cached answer can't be written"),
                )
                .is_ok()
        }
        _ => true,
    }
}

/// The answer is known.
fn found(cache: &Cache, call: &mut Call<'_>, key: Key, entry: Arc<Entry>, score: Option<f32>) {
    let age = entry.about.age(cache.clock.now());
    call.told.cache = CacheNote::Hit(key, age, score);
    call.told.provider = entry.about.provider.as_deref().map(Into::into);
    call.told.model = entry.about.served.clone();
    call.meter.cached(&entry, score);
    call.known.1.cached = Some(entry);
}

/// Looks for a question that means the same. `key` is the request's own.
///
/// # Errors
/// There is none; what the question means, if that is known.
async fn ask(
    gateway: &Gateway,
    cache: &Cache,
    call: &mut Call<'_>,
    key: Key,
    question: Question,
    control: &Control,
) -> Result<(Key, Arc<Entry>, f32), Option<Meaning>> {
    let Some(semantic) = &cache.semantic else { return Err(None) };
    let vector = match semantic.meanings.get(&key) {
        Some(vector) => vector,
        None => match embedding::of(gateway, call, semantic, &question.text).await {
            Ok(vector) => {
                semantic.meanings.insert(key, vector.clone());
                vector
            }
            Err(refusal) => {
                cache.count(CacheOutcome::semantic_error);
                let model = &semantic.settings.model;
                tracing::info!(code = %refusal.code, model, "the cache can't tell what a question means");
                return Err(None);
            }
        },
    };
    let project = call.known.0.tenant.project;
    let near = match control.no_cache {
        true => None,
        false => semantic.vectors.nearest(project, question.space, &vector, cache.clock.now()).await,
    };
    if let Some((key, score)) = near.filter(|(_, score)| *score >= question.threshold) {
        match cache.get(&key, control).await {
            Some(entry) => return Ok((key, entry, score)),
            // Its answer has gone, or is older than the caller wants it.
            None if cache.store.get(&key).await.is_none() => semantic.vectors.remove(project, &[key]),
            None => {}
        }
    }
    Err(Some(Meaning { space: question.space, vector }))
}
