//! One request's way: from the caller's bytes to a provider and back, accounted for whatever happens.
//!
//! [`pipeline`] is the list of stages; read it first. What this crate promises:
//! - Bytes that needn't change don't: a body is scanned once and goes out as slices of what came in.
//! - A call that was started is accounted for, also when the client goes away or the upstream dies ([`account`]).
//! - Nothing is tried again once a byte reached the client; before that, the next candidate is ([`attempts`]).
//! - A stream ends with a verdict: `[DONE]`, or an error event and then `[DONE]`. Never with half an event.
//! - Every outbound connection is made in [`egress`], which filters addresses and puts secrets in last.

pub mod account;
pub mod answer;
mod attempts;
pub mod batches;
pub mod budgets;
pub mod cache;
mod checks;
pub mod connections;
mod credentials;
mod decoding;
mod dialects;
pub mod egress;
pub mod files;
pub mod gate;
mod gateway;
pub mod guardrails;
mod health;
mod hold;
pub mod keys;
pub mod limits;
mod models;
mod native;
mod operation;
mod pipeline;
mod raw;
mod realtime;
mod refusal;
mod request;
pub mod resilience;
pub mod routing;
mod shadow;
mod shared;
mod single;
mod start;
mod stream;
mod trial;
pub mod who;

pub use answer::{AnswerBody, BrokenOff};
pub use checks::{CheckHealth, CheckStatus};
pub use dialects::{Asking, Dialect, ObjectCall};
pub use gateway::{Gateway, Incoming, Parts, Shed, Timeouts};
pub use health::{CircuitState, ModelHealth, ProviderHealth};
pub use models::ModelObject;
pub use operation::Operation;
pub use raw::RawCall;
pub use realtime::{RealtimeCall, RealtimeLimits, RealtimeSession, key_in_protocols};
pub use refusal::{Class, Fault, Refusal};
pub use routing::explain::{Explanation, Place, Told};
pub use shared::Gone;
pub use trial::Trial;
