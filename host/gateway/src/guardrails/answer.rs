//! The last stage for guarded calls: candidates are asked, and the answer is held against the guardrails before it
//! reaches the caller.

use std::sync::Arc;

use brokle_core::json;
use brokle_core::usage::Usage;
use brokle_runtime::Body;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use hyper::body::Incoming as Upstream;
use serde_json::Value;

use super::call::{Chain, Link, Outcome};
use super::rulings::{Failed, Note, respell};
use super::stream::StreamGuard;
use super::texts;
use crate::account::Meter;
use crate::attempts::{Attempts, Served, next_piece};
use crate::cache::CacheNote;
use crate::gateway::{Gateway, Incoming};
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::plan::Plan;

/// The largest unstreamed answer that is held to be shown to guardrails: 16 MiB.
const HELD: usize = 16 << 20;

/// The stage.
pub(crate) struct Ask;

/// What a whole answer comes to.
enum Verdict {
    Goes(Bytes),
    Again(Box<Request>),
}

impl Ask {
    pub(crate) async fn run(
        gateway: &Gateway,
        call: Stage<'_, (Box<Request>, Plan)>,
    ) -> Result<Served, Refusal> {
        let Some(chain) = call.known.0.guards.clone().filter(|chain| chain.rules_on_answers()) else {
            return Attempts::run(gateway, call).await;
        };
        Box::pin(Self::guarded(gateway, call, chain)).await
    }

    async fn guarded(
        gateway: &Gateway,
        call: Stage<'_, (Box<Request>, Plan)>,
        chain: Arc<Chain>,
    ) -> Result<Served, Refusal> {
        let Stage { incoming, meter, told, plugins, known: (mut request, plan) } = call;
        // A compressed answer can't be shown to anybody.
        let mut headers = incoming.headers.clone();
        headers.remove(ACCEPT_ENCODING);
        let mut chain = Chain::clone(&chain);
        let mut before = Usage::default();
        let mut retries = 0;
        loop {
            let incoming = Incoming { headers: &headers, ..incoming.clone() };
            let known = (request.clone(), plan.clone());
            let again =
                Stage { incoming, meter: &mut *meter, told: &mut *told, plugins: plugins.clone(), known };
            let served = Attempts::run(gateway, again).await;
            meter.note(|observation| add(&mut observation.usage, &before));
            let (headers, body) = match served? {
                Served::Whole(headers, body) => (headers, body),
                Served::Relay { headers, head, body } if !request.streaming => {
                    let whole = match headers.contains_key(CONTENT_ENCODING) {
                        true => None,
                        false => whole(gateway, head, body).await?,
                    };
                    let Some(whole) = whole else {
                        chain.unreadable(gateway, meter, "the answer is compressed or too large")?;
                        let message = "The answer can't be relayed once it was held.";
                        return Err(Refusal::upstream(502, "upstream_error", message));
                    };
                    (headers, whole)
                }
                Served::Relay { headers, head, body } => {
                    chain.unreadable(gateway, meter, "the stream is compressed or not text")?;
                    return Ok(Served::Relay { headers, head, body });
                }
                // An estimate: there is no answer of a model's to be ruled on.
                Served::Native(native) => return Ok(Served::Native(native)),
                images if !request.operation.has_choices() => return Ok(images),
                stream => {
                    let guard = StreamGuard::open(gateway, meter, &chain, &request).await?;
                    return Ok(Served::Guarded(Box::new(stream), Box::new(guard)));
                }
            };
            match chain.whole_answer(gateway, meter, &request, body, retries).await? {
                Verdict::Goes(body) => return Ok(Served::Whole(headers, body)),
                Verdict::Again(next) => {
                    // Both answers are paid for; the account keeps running totals of one.
                    meter.note(|observation| before = observation.usage.take().unwrap_or_default());
                    // Another request, whose answer nobody has.
                    *request = Request { cached: None, ..*next };
                    meter.uncached();
                    told.cache = CacheNote::Bypass;
                    retries += 1;
                }
            }
        }
    }
}

/// An answer that was too large to be held by the attempt; none when it is too large for this too.
async fn whole(gateway: &Gateway, head: Vec<Bytes>, mut rest: Upstream) -> Result<Option<Bytes>, Refusal> {
    let mut held = BytesMut::new();
    for piece in &head {
        held.extend_from_slice(piece);
    }
    while let Some(piece) = next_piece(&mut rest, gateway.parts.timeouts.idle).await? {
        held.extend_from_slice(&piece);
        if held.len() > HELD {
            return Ok(None);
        }
    }
    Ok(Some(held.freeze()))
}

fn add(usage: &mut Option<Usage>, before: &Usage) {
    if before.is_empty() {
        return;
    }
    let sum = usage.get_or_insert_default();
    sum.estimated |= before.estimated;
    let counts = sum.counts();
    for ((kind, more), (_, count)) in before.counts().into_iter().zip(counts) {
        let known = sum.set(kind, count.saturating_add(more));
        debug_assert!(known, "{kind} is a kind of ours");
    }
}

impl Chain {
    /// There is an answer that can't be shown: those that enforce and fail closed refuse the call.
    fn unreadable(&self, gateway: &Gateway, meter: &mut Meter, what: &str) -> Result<(), Refusal> {
        for link in self.links.iter().filter(|link| link.on_response()) {
            let random = &*gateway.parts.random;
            let mut note = Note::begin(meter, link, "response", random);
            let refusal = note.fails(meter, link, &Failed::unreadable(what));
            note.end(meter, link, std::time::Duration::ZERO, "on-response", random);
            refusal.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    async fn whole_answer(
        &mut self,
        gateway: &Gateway,
        meter: &mut Meter,
        request: &Request,
        mut answer: Bytes,
        retries: u32,
    ) -> Result<Verdict, Refusal> {
        // Vectors, images, speech and classes have no text to be ruled on; transcripts were refused before.
        if !request.operation.has_choices() {
            return Ok(Verdict::Goes(answer));
        }
        let mut found = match texts::of_answer(&answer) {
            Ok(found) => found,
            Err(error) => {
                self.unreadable(gateway, meter, &format!("the answer can't be read: {error}"))?;
                return Ok(Verdict::Goes(answer));
            }
        };
        let facts = self.facts(request, retries);
        for link in self.links.iter_mut().filter(|link| link.on_response()) {
            match link.ask(gateway, meter, "response", &facts, &request.body, &found).await? {
                Outcome::Pass(changed) => {
                    let mut changes = Vec::new();
                    for (text, new) in found.iter_mut().zip(changed) {
                        if let Some(new) = new {
                            changes.push((text.pointer.clone(), new.clone()));
                            text.value = new;
                        }
                    }
                    if !changes.is_empty() {
                        let nulls = logprobs(&answer, changes.iter().map(|(pointer, _)| pointer.as_str()));
                        answer = respell(&answer, changes, nulls).map_err(|failed| broken(&failed))?;
                    }
                }
                Outcome::Retry(instruction) if retries == 0 => {
                    if let Some(next) = again(request, &answer, &instruction) {
                        return Ok(Verdict::Again(Box::new(next)));
                    }
                    return Err(exhausted(link));
                }
                Outcome::Retry(_) => return Err(exhausted(link)),
            }
        }
        Ok(Verdict::Goes(answer))
    }
}

fn broken(failed: &Failed) -> Refusal {
    tracing::error!("a changed answer can't be written: {failed:?}");
    Refusal::upstream(502, "upstream_error", "The answer couldn't be written after a guardrail changed it.")
}

/// Where the token probabilities of changed choices are: they spell the old text.
fn logprobs<'a>(answer: &[u8], pointers: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for pointer in pointers {
        let Some(position) = pointer.strip_prefix("/choices/").and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        let logprobs = format!("/choices/{position}/logprobs");
        if !found.contains(&logprobs) && json::find(answer, &logprobs).is_some() {
            found.push(logprobs);
        }
    }
    found
}

/// The request that asks again: the same, then the first choice's message, then the instruction.
fn again(request: &Request, answer: &[u8], instruction: &str) -> Option<Request> {
    let message = json::find(answer, "/choices/0/message").and_then(|range| answer.get(range))?;
    let instruction = serde_json::json!({"role": "user", "content": instruction}).to_string();
    let changes = [message, instruction.as_bytes()]
        .map(|message| json::Change::Set("/messages/-", message.to_vec().into()));
    let body = json::Splices::apply(request.body.bytes(), &changes).ok()?.to_vec();
    Some(Request { body: Body::json(body.into()), ..request.clone() })
}

/// The answer is still not what it should be.
fn exhausted(link: &Link) -> Refusal {
    let mut told = Refusal::client(
        400,
        "content_policy_violation",
        "The model's answer wasn't acceptable, and asking it again didn't help.",
    );
    let body: Value = serde_json::json!({"error": {
        "message": told.message, "type": told.kind(), "param": null, "code": told.code,
        "category": "retry_exhausted", "guardrail": &*link.guardrail.name,
    }});
    told.body = Some(body.to_string().into());
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_two_answers_is_added() {
        let mut first = Usage::default();
        assert!(first.set("input", 5) && first.set("output", 3));
        let mut second = Some(first);
        add(&mut second, &first);
        let second = second.unwrap();
        assert_eq!((second.input, second.output), (10, 6));
        let mut none = None;
        add(&mut none, &Usage::default());
        assert_eq!(none, None);
    }
}
