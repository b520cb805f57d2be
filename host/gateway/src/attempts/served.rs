//! What is ready for the caller, and how it becomes the answer.

use brokle_runtime::exchange::Output;
use bytes::Bytes;
use http::Response;
use http::header::HeaderMap;
use hyper::body::Incoming as Upstream;

use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::decoding::Decoding;
use crate::dialects::native::{self, Content, Native};
use crate::gateway::Gateway;
use crate::guardrails::StreamGuard;
use crate::stream::{self, Events};

use super::wire::event_stream;

/// What an attempt came to.
pub(crate) enum Served {
    /// The whole answer.
    Whole(HeaderMap, Bytes),
    /// The provider's own stream, which has the caller's form, its start read already.
    Canonical { headers: HeaderMap, head: Vec<Bytes>, body: Upstream, events: Events },
    /// Bytes to be relayed, the first of them read already.
    Relay { headers: HeaderMap, head: Vec<Bytes>, body: Upstream },
    /// A stream that a plugin translates.
    Decoded { headers: HeaderMap, head: Vec<Output>, decoding: Box<Decoding>, include_usage: bool },
    /// A stream without a vendor.
    Local { outputs: Vec<Output>, include_usage: bool },
    /// An answer that has the caller's dialect already.
    Native(Box<Native>),
    /// A stream that guardrails rule on.
    Guarded(Box<Served>, Box<StreamGuard>),
}

impl Served {
    /// What is there already goes into the cache, if it is to be kept; a stream does when it has come.
    pub(super) fn keep(&self, meter: &mut Meter) {
        match self {
            Self::Whole(headers, body) => meter.keep(headers, body),
            Self::Native(native) => {
                meter.keeps_native(&native.headers);
                if let Content::Whole(body) = &native.body {
                    meter.keep(&native.headers, body);
                }
            }
            _ => {}
        }
    }

    /// The answer to the caller; the meter goes where the rest of the answer comes from.
    pub(crate) fn answer(
        self,
        gateway: &std::sync::Arc<Gateway>,
        told: &Told,
        meter: Meter,
    ) -> Response<AnswerBody> {
        match self {
            Self::Guarded(served, guard) => served.send(gateway, told, meter, Some(guard)),
            served => served.send(gateway, told, meter, None),
        }
    }

    fn send(
        self,
        gateway: &std::sync::Arc<Gateway>,
        told: &Told,
        mut meter: Meter,
        guard: Option<Box<StreamGuard>>,
    ) -> Response<AnswerBody> {
        let timeouts = told.timeouts.unwrap_or(gateway.parts.timeouts);
        let idle = timeouts.idle;
        let left = timeouts.total.saturating_sub(meter.elapsed());
        let cut = stream::Cut::of(gateway);
        match self {
            Self::Whole(headers, body) => {
                meter.first_token();
                meter.output(&body);
                meter.complete();
                answer::whole(200, headers, body, told, &meter)
            }
            Self::Canonical { headers, head, body, events } => {
                answer::streamed(headers, told, meter, |meter| {
                    stream::native((head, body.into()), meter, guard, events, idle, left, cut)
                })
            }
            Self::Relay { headers, head, body } => answer::relayed(headers, told, meter, |meter| {
                stream::relay(head, body.into(), meter, idle, left, cut)
            }),
            Self::Decoded { headers, head, decoding, include_usage } => {
                answer::streamed(headers, told, meter, |meter| {
                    stream::decoded(gateway.clone(), head, *decoding, meter, guard, include_usage, left)
                })
            }
            Self::Local { outputs, include_usage } => {
                answer::streamed(event_stream(), told, meter, |meter| {
                    stream::local(outputs, meter, guard, include_usage)
                })
            }
            Self::Native(native) => {
                let Native { headers, body } = *native;
                match body {
                    Content::Whole(body) => {
                        meter.first_token();
                        meter.output(&body);
                        meter.complete();
                        answer::whole(200, headers, body, told, &meter)
                    }
                    Content::Relay { head, body } => answer::relayed(headers, told, meter, |meter| {
                        stream::relay(head, body.into(), meter, idle, left, cut)
                    }),
                    Content::Again(pieces) => {
                        answer::streamed(headers, told, meter, |meter| native::again(pieces, meter))
                    }
                    Content::Stream(reads) => answer::streamed(headers, told, meter, |meter| {
                        native::stream(gateway, *reads, meter, idle, left)
                    }),
                }
            }
            // A guarded stream isn't guarded twice.
            Self::Guarded(served, guard) => served.send(gateway, told, meter, Some(guard)),
        }
    }
}
