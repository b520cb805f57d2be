//! One candidate's turn: its plugin says what to send, and the vendor's answer is taken as far as has to be before the
//! caller gets any of it.

use std::sync::Arc;

use brokle_core::json;
use brokle_core::observation::SpanId;
use brokle_runtime::exchange::{Call, ErrorOutcome, Output, Preparation, ResponseHead, ResponsePlan};
use brokle_runtime::{Body, PluginError, ProviderInstance};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::body::Incoming as Upstream;

use crate::account::Meter;
use crate::decoding::{self, Decoding};
use crate::dialects::Asked;
use crate::dialects::native::{Content, Native, Owner, Reads};
use crate::dialects::{self, Dialected};
use crate::gateway::Gateway;
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::Candidate;
use crate::routing::plan::Plan;
use crate::start;
use crate::stream::Events;

use super::wire::{
    Held, answer_headers, broken_answer, error_body, event_stream, hold, json_headers, plugin_head,
    read_canonical, said, send,
};
use super::{ESTIMATED, HELD, HELD_NATIVE, Served};

/// One candidate's turn.
pub(super) struct Attempt<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) candidate: &'a Candidate,
    pub(super) request: &'a Request,
    pub(super) plan: &'a Plan,
    pub(super) passed: &'a HeaderMap,
    pub(super) meter: &'a mut Meter,
    pub(super) span: SpanId,
    /// The caller's dialect, which the provider is asked in.
    pub(super) native: Option<&'a Arc<Asked>>,
}

impl<'a> Attempt<'a> {
    pub(super) async fn run(mut self, mut call: Call) -> Result<Served, Refusal> {
        let plugin = &self.candidate.connection.plugin;
        let mut instance = self.open().await?;
        if let Some(dialect) = &self.request.dialect
            && let Some(estimate) = Box::pin(self.in_dialect(dialect, &instance, &mut call)).await?
        {
            return Ok(estimate);
        }
        if self.native.is_none() && !instance.offers(self.request.operation.name()) {
            let message =
                format!("Provider '{}' doesn't offer this operation.", self.candidate.connection.provider);
            return Err(Refusal::client(400, "unsupported", message));
        }
        // Chunks are the canonical form, which every adapter can make; other streams are only ever the vendor's own.
        let operation = self.request.operation;
        if self.request.streaming && !operation.has_choices() && !instance.can(operation.name(), "stream") {
            let provider = &self.candidate.connection.provider;
            let message = format!("Provider '{provider}' doesn't stream this operation.");
            let param = if operation == Operation::Speech { "stream_format" } else { "stream" };
            return Err(Refusal {
                param: Some(param.into()),
                ..Refusal::client(400, "unsupported", message)
            });
        }
        let body = self.body()?;
        let prepared = instance.prepare(&call, body.clone()).await;
        let export = "prepare";
        self.meter.plugin(
            plugin.label(),
            export,
            Some(self.span),
            instance.spent().time,
            &*self.gateway.parts.random,
        );
        let prepared = prepared.map_err(|error| self.plugin_failed(error))?;
        let wanted = match prepared.map_err(Refusal::from_problem)? {
            Preparation::Answer(outputs) => return self.local(outputs),
            Preparation::Request(wanted) => wanted,
        };
        // An answer that needs no decoder needs no instance either: its slot is free, and warm for the next call, while
        // the vendor thinks.
        let instance = matches!(wanted.response, ResponsePlan::Decoded(_)).then_some(instance);
        let sent = send(self.gateway, self.candidate, &wanted, &body, self.passed).await?;
        let (head, body) = sent.into_parts();
        self.meter.attempt_answered(head.status.as_u16(), &head.headers);
        if !head.status.is_success() {
            return Box::pin(self.failed(instance, call, head.status.as_u16(), &head.headers, body)).await;
        }
        match (&wanted.response, instance) {
            (ResponsePlan::Decoded(framing), Some(instance)) => {
                let head = plugin_head(head.status.as_u16(), &head.headers);
                let decoding = self.decoding(instance, call, body, framing)?;
                Box::pin(self.decoded(decoding, head)).await
            }
            (ResponsePlan::Native, _) if self.native.is_some() => {
                Box::pin(self.in_kind(head.headers, body)).await
            }
            (plan, _) => self.native(plan, head.headers, body).await,
        }
    }

    /// What is sent, or edited to be sent.
    fn body(&self) -> Result<Body, Refusal> {
        Ok(match self.native {
            Some(asked) => asked.original.clone(),
            // What a route sets are members of JSON.
            None if self.request.is_form() => self.request.body.clone(),
            None => self.plan.edit(&self.request.body)?,
        })
    }

    /// Chooses the form in which the provider is asked: the caller's own, if it takes that, else the canonical one. A
    /// count of tokens by a provider that doesn't take the dialect is an estimate, and the answer.
    async fn in_dialect(
        &mut self,
        dialect: &'a Dialected,
        instance: &ProviderInstance,
        call: &mut Call,
    ) -> Result<Option<Served>, Refusal> {
        let asked = &dialect.asked;
        if dialect.native && !self.plan.edits() && instance.speaks(asked.dialect.name()) {
            let tenant = self.meter.tenant().ok_or_else(broken_answer)?;
            dialect.check_owner(self.gateway, tenant, &self.candidate.connection.id)?;
            asked.rest();
            call.format = asked.dialect.name().into();
            call.operation.clone_from(&asked.call.endpoint);
            call.attributes.extend(said(self.passed));
            call.attributes.extend(
                asked.call.query.iter().map(|(name, value)| (format!("query.{name}"), value.clone())),
            );
            self.native = Some(asked);
            return Ok(None);
        }
        if self.request.operation == Operation::CountTokens {
            let body = Content::Whole(asked.estimate(self.gateway, self.meter).await?);
            let mut headers = json_headers();
            headers.insert(ESTIMATED, HeaderValue::from_static("true"));
            return Ok(Some(Served::Native(Box::new(Native { headers, body }))));
        }
        if !dialect.translated {
            let canonical = asked.canonical(self.gateway, self.meter, self.request).await;
            // Somebody who takes the dialect as it is may still serve it.
            let canonical = canonical.map_err(|refusal| Refusal { retryable: true, ..refusal })?;
            self.request = &canonical.request;
        }
        Ok(None)
    }

    /// The answer of a provider that was asked in the caller's dialect.
    async fn in_kind(self, upstream: HeaderMap, mut body: Upstream) -> Result<Served, Refusal> {
        let asked = self.native.ok_or_else(broken_answer)?;
        let mut headers = answer_headers(&upstream);
        asked.dialect.identify(&mut headers, &asked.call.request_id);
        let native = |headers, body| Ok(Served::Native(Box::new(Native { headers, body })));
        if headers.contains_key(CONTENT_ENCODING) {
            return native(headers, Content::Relay { head: Vec::new(), body });
        }
        let owner = Owner {
            kept: self.gateway.kept.clone(),
            tenant: self.meter.tenant().ok_or_else(broken_answer)?,
            connection: self.candidate.connection.id.clone(),
        };
        let failed = |error: PluginError| dialects::failed(self.meter, &error);
        if self.request.streaming {
            let reader = match asked.open().await {
                Ok(instance) => instance.read(&asked.call).await,
                Err(error) => Err(error),
            };
            let reader = reader.map_err(failed)?;
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let events = kind.starts_with("text/event-stream");
            let mut head = match events {
                true => start::of_dialect(&mut body, &self.candidate.timeouts(self.gateway)).await?,
                false => Vec::new(),
            };
            head.reverse();
            let reads = Reads { head, body: body.into(), reader, asked: Arc::clone(asked), events, owner };
            return native(headers, Content::Stream(Box::new(reads)));
        }
        let idle = self.candidate.timeouts(self.gateway).idle;
        let answer = match hold(&mut body, HELD_NATIVE, idle).await? {
            Held::Whole(answer) => answer,
            Held::Beginning(head) => return native(headers, Content::Relay { head, body }),
        };
        if json::scan(&answer, |_, _| {}).is_err() {
            return Err(broken_answer());
        }
        let mut instance = asked.open().await.map_err(failed)?;
        let reading = instance.read_answer(&asked.call, &answer.to_vec()).await.map_err(failed)?;
        owner.note(&reading, self.meter);
        native(headers, Content::Whole(answer))
    }

    async fn open(&self) -> Result<ProviderInstance, Refusal> {
        let opened = self.candidate.connection.plugin.open(self.candidate.connection.context.clone()).await;
        opened.map_err(|error| self.plugin_failed(error))
    }

    fn decoding(
        &self,
        instance: ProviderInstance,
        call: Call,
        upstream: Upstream,
        framing: &str,
    ) -> Result<Decoding, Refusal> {
        Ok(Decoding {
            instance,
            call,
            candidate: self.candidate.clone(),
            request: self.body()?,
            passed: self.passed.clone(),
            upstream,
            framer: decoding::framer(framing)?,
            steps: 0,
        })
    }

    async fn decoded(self, mut decoding: Decoding, head: ResponseHead) -> Result<Served, Refusal> {
        let begun = decoding.instance.begin_decoding(&decoding.call, &head, &[]).await;
        begun.map_err(|error| self.plugin_failed(error))?;
        if self.request.streaming {
            let headers = event_stream();
            let include_usage = self.request.include_usage;
            let timeouts = self.candidate.timeouts(self.gateway);
            let head = start::of_outputs(&mut decoding, self.gateway, &timeouts).await;
            let head = head.inspect_err(|refusal| self.note_trap(refusal))?;
            return Ok(Served::Decoded { headers, head, decoding: Box::new(decoding), include_usage });
        }
        let mut answer = None;
        let mut binary = Vec::new();
        while let Some(outputs) =
            decoding.next(self.gateway).await.inspect_err(|refusal| self.note_trap(refusal))?
        {
            for output in outputs {
                match output {
                    Output::Chunk(json) => answer = Some(json),
                    Output::Bytes(bytes) => binary.extend_from_slice(&bytes),
                    Output::Usage(entries) => self.meter.usage_entries(&entries),
                    Output::Failure(problem) => return Err(Refusal::from_problem(problem)),
                }
            }
        }
        let spent = decoding.instance.spent().time;
        let label = self.candidate.connection.plugin.label();
        self.meter.plugin(label, "decode", Some(self.span), spent, &*self.gateway.parts.random);
        if !binary.is_empty() {
            let mut headers = HeaderMap::with_capacity(16);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            return Ok(Served::Whole(headers, binary.into()));
        }
        let answer = Bytes::from(answer.ok_or_else(broken_answer)?);
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(json_headers(), answer))
    }

    /// The plugin answers by itself.
    fn local(self, outputs: Vec<Output>) -> Result<Served, Refusal> {
        if let Some(Output::Failure(problem)) = outputs.first() {
            return Err(Refusal::from_problem(problem.clone()));
        }
        if self.request.streaming {
            return Ok(Served::Local { outputs, include_usage: self.request.include_usage });
        }
        let mut answer = None;
        for output in outputs {
            match output {
                Output::Chunk(bytes) | Output::Bytes(bytes) => answer = Some(bytes),
                Output::Usage(entries) => self.meter.usage_entries(&entries),
                Output::Failure(problem) => return Err(Refusal::from_problem(problem)),
            }
        }
        let answer = Bytes::from(answer.ok_or_else(broken_answer)?);
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(json_headers(), answer))
    }

    async fn native(
        self,
        plan: &ResponsePlan,
        upstream: HeaderMap,
        mut body: Upstream,
    ) -> Result<Served, Refusal> {
        let mut headers = answer_headers(&upstream);
        let encoded = headers.contains_key(CONTENT_ENCODING);
        if *plan == ResponsePlan::Opaque || encoded {
            return Ok(Served::Relay { headers, head: Vec::new(), body });
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let document = kind.starts_with("application/json");
        let chunks = self.request.operation.has_choices();
        if self.request.streaming && document && chunks {
            // A vendor that answers a stream's request with a document: an error, or no streams at all.
            let message = "The provider answered a request for a stream with a document.";
            return Err(Refusal::upstream(502, "upstream_error", message));
        }
        // Of transcripts and speech, OpenAI says that some models ignore the wish for a stream.
        if self.request.operation == Operation::Speech && !kind.starts_with("text/event-stream") {
            return Ok(Served::Relay { headers, head: Vec::new(), body });
        }
        if self.request.streaming && !document {
            headers.extend(event_stream());
            let timeouts = self.candidate.timeouts(self.gateway);
            let (head, events) = match chunks {
                true => {
                    let strip_usage = !self.request.include_usage;
                    (start::of_events(&mut body, &timeouts).await?, Events::Chunks { strip_usage })
                }
                false => (start::of_dialect(&mut body, &timeouts).await?, Events::Typed),
            };
            return Ok(Served::Canonical { headers, head, body, events });
        }
        let idle = self.candidate.timeouts(self.gateway).idle;
        let answer = match hold(&mut body, HELD, idle).await? {
            Held::Whole(answer) => answer,
            Held::Beginning(head) => return Ok(Served::Relay { headers, head, body }),
        };
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(headers, answer))
    }

    /// An answer outside 2xx: the plugin says what it means, in a fresh instance if the first one was given back.
    async fn failed(
        self,
        instance: Option<ProviderInstance>,
        call: Call,
        status: u16,
        headers: &HeaderMap,
        mut body: Upstream,
    ) -> Result<Served, Refusal> {
        let text = error_body(&mut body, self.candidate.timeouts(self.gateway).idle).await;
        let own = self
            .native
            .filter(|_| json::scan(&text, |_, _| {}).is_ok())
            .map(|_| Bytes::copy_from_slice(&text));
        let head = plugin_head(status, headers);
        let mut instance = match instance {
            Some(instance) => instance,
            None => self.open().await?,
        };
        let outcome = instance.map_error(&call, &head, text).await;
        match outcome.map_err(|error| self.plugin_failed(error))? {
            ErrorOutcome::Problem(problem) => {
                let refusal = Refusal::from_problem(problem);
                // The caller gets what the vendor said, as it said it.
                match own {
                    Some(body) => Err(Refusal { body: Some(body), native: true, status, ..refusal }),
                    None => Err(refusal),
                }
            }
            ErrorOutcome::Next(next) => {
                let framing = match &next.request.response {
                    ResponsePlan::Decoded(framing) => framing.clone(),
                    _ => "whole".to_owned(),
                };
                let mut decoding = self.decoding(instance, call, body, &framing)?;
                let head = decoding.follow(self.gateway, next).await?;
                self.decoded(decoding, head).await
            }
        }
    }

    fn plugin_failed(&self, error: PluginError) -> Refusal {
        self.meter.trap(&error.plugin);
        error.into()
    }

    fn note_trap(&self, refusal: &Refusal) {
        if refusal.fault == crate::Fault::Plugin {
            self.meter.trap(self.candidate.connection.plugin.label());
        }
    }
}
