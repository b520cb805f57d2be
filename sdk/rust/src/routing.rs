//! Routing policies: which candidate is tried first.

use core::marker::PhantomData;

use crate::bindings::routing::Guest as Lifecycle;
use crate::bindings::routing::exports::brokle::routing::policy;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem};

pub use crate::bindings::routing::brokle::routing::facts::{Candidate, Plan, Refusal, Request, Stats};

/// A routing policy.
///
/// ```
/// use brokle_plugin::Description;
/// use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
///
/// /// The cheapest input price first; unknown prices last.
/// struct Cheapest;
///
/// impl RoutingPolicy for Cheapest {
///     fn describe() -> Description {
///         Description::routing_policy(["input-price"])
///     }
///
///     fn decide(_request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
///         Ok(Plan::by_key(candidates, |c| c.input_price.unwrap_or(f64::MAX), "cheapest input price"))
///     }
/// }
/// # brokle_plugin::export!(routing_policy: Cheapest, manifest = "{}");
/// # fn main() {}
/// ```
pub trait RoutingPolicy: Sized + 'static {
    /// The facts that the policy reads, by their names in the contract (`input-price`, `features`). Texts and lists that aren't
    /// named are empty when it is asked; an attribute may be named by itself.
    fn describe() -> Description;

    /// Checks what the manifest's schema can't say.
    ///
    /// # Errors
    /// What is wrong, each with the key at fault.
    fn check_config(_config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    /// Proves on a sample that the component works.
    ///
    /// # Errors
    /// Why it doesn't.
    fn self_test() -> Result<(), Problem> {
        Ok(())
    }

    /// Orders the candidates.
    ///
    /// # Errors
    /// There is no plan: the host takes its built-in order and raises an alert.
    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal>;
}

impl Candidate {
    /// Whether it is meant by a connection's or provider's name, with a model behind a slash or for any of its models.
    pub fn is_named(&self, name: &str) -> bool {
        [&self.connection, &self.provider].into_iter().any(|of| match name.strip_prefix(of.as_str()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('/') == Some(&*self.model),
            None => false,
        })
    }

    /// What an attribute of this name says, as a number.
    pub fn number(&self, attribute: &str) -> Option<f64> {
        let (_, text) = self.attributes.iter().find(|(name, _)| name == attribute)?;
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether it is known to do all that the request needs, and holds the prompt and what is wanted back. A context that
    /// the catalogue doesn't know is no obstacle; a feature that it doesn't know is one, since price tables leave out what
    /// isn't there more often than what is.
    pub fn can_serve(&self, request: &Request) -> bool {
        let room = request.input_tokens.saturating_add(request.max_output_tokens.unwrap_or(0));
        self.context_window.is_none_or(|window| window >= room)
            && request.features.iter().all(|needed| self.features.contains(needed))
    }

    /// What the request's prompt and so many tokens back cost, in millionths of a dollar; none without a known price.
    pub fn cost(&self, request: &Request, output_tokens: u64) -> Option<f64> {
        match (self.input_price, self.output_price) {
            (None, None) => None,
            (input, output) => Some(
                request.input_tokens as f64 * input.unwrap_or(0.0)
                    + output_tokens as f64 * output.unwrap_or(0.0),
            ),
        }
    }
}

impl Plan {
    /// All available candidates by ascending key, in the operator's order where keys are equal.
    /// The unavailable ones follow, so that a request isn't refused while all are cooling down.
    pub fn by_key(candidates: &[Candidate], key: impl Fn(&Candidate) -> f64, reason: &str) -> Self {
        let mut order: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| {
            (!a.available)
                .cmp(&!b.available)
                .then(key(a).total_cmp(&key(b)))
                .then(a.priority.cmp(&b.priority))
        });
        let order = order.into_iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        Self { order, reason: reason.to_owned() }
    }

    /// The available candidates first, of these those of the lowest priority, and so on: `arrange` orders each group
    /// of equals, which come in the operator's order, as indexes into `candidates`.
    ///
    /// ```
    /// # use brokle_plugin::routing::{Candidate, Draws, Plan, Request};
    /// fn at_random(request: &Request, candidates: &[Candidate]) -> Plan {
    ///     let mut draws = Draws::new(request.entropy);
    ///     Plan::by_group(candidates, |group| draws.shuffle(group), "at random")
    /// }
    /// ```
    pub fn by_group(candidates: &[Candidate], mut arrange: impl FnMut(&mut [u32]), reason: &str) -> Self {
        let rank = |index: &u32| {
            let candidate = candidates.get(*index as usize);
            candidate.map(|candidate| (!candidate.available, candidate.priority))
        };
        let mut order: Vec<u32> = (0..).take(candidates.len()).collect();
        order.sort_by_key(rank);
        for group in order.chunk_by_mut(|a, b| rank(a) == rank(b)) {
            arrange(group);
        }
        Self { order, reason: reason.to_owned() }
    }
}

/// More chance than the one number that a request brings: SplitMix64, seeded with it.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// Begins with `request.entropy`, or anything else that decides the sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `bound`; 0 if that is 0. Each is as likely, to within `bound` in 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Brings them into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for length in (2..=items.len()).rev() {
            let chosen = usize::try_from(self.below(length as u64)).unwrap_or_default();
            items.swap(length - 1, chosen);
        }
    }
}

/// How far a thing is from a key, by rendezvous hashing: the nearest one serves it. When a thing leaves, only its own keys move;
/// weights are shares of the keys, and one without weight is farthest. The same everywhere and always.
///
/// It is -log₂ of a hash in (0, 1], divided by the weight.
///
/// ```
/// # use brokle_plugin::routing::distance;
/// let nearest = |key| ["a", "b"].into_iter().min_by(|a, b| distance(key, [a], 1).total_cmp(&distance(key, [b], 1)));
/// assert_eq!(nearest(7), nearest(7));
/// ```
pub fn distance<const PARTS: usize>(key: u64, name: [&str; PARTS], weight: u32) -> f64 {
    if weight == 0 {
        return f64::MAX;
    }
    // FNV-1a of the name's parts, with zeros between them.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for (at, part) in name.into_iter().enumerate() {
        if at > 0 {
            add(0);
        }
        part.bytes().for_each(&mut add);
    }
    let hash = Draws::new(hash ^ Draws::new(key).draw()).draw();
    (64.0 - log2(hash)) / f64::from(weight)
}

/// The binary logarithm, digit by digit: `core` has none. 0 counts as 1.
fn log2(number: u64) -> f64 {
    let number = number.max(1);
    let whole = number.ilog2();
    let mut rest = number as f64 / (1_u64 << whole) as f64;
    let (mut log, mut digit) = (f64::from(whole), 0.5);
    for _ in 0..32 {
        rest *= rest;
        if rest >= 2.0 {
            rest /= 2.0;
            log += digit;
        }
        digit /= 2.0;
    }
    log
}

/// Glue between [`RoutingPolicy`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<P>(PhantomData<P>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<P: RoutingPolicy>() {}

impl<P: RoutingPolicy> policy::Guest for Component<P> {
    fn decide(request: Request, candidates: Vec<Candidate>) -> Result<Plan, Refusal> {
        P::decide(&request, &candidates)
    }
}

impl<P: RoutingPolicy> Lifecycle for Component<P> {
    fn describe() -> Vec<u8> {
        P::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, P::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        P::self_test()
    }
}
