//! Dialects: other wire formats in front of the same providers.
//!
//! A call in a dialect goes the same way as any other. What differs:
//! - **Read**: the dialect's component reads the hot fields (model, stream, …), without translating anything.
//! - **Native**: a candidate whose provider lists the dialect in `native_dialects` is asked with the caller's own bytes,
//!   model aside, and its answer is relayed byte for byte, while the component reads what the account needs of it
//!   ([`native`]). Errors of the vendor's are relayed as they are, too.
//! - **Translated**: any other candidate is asked in the canonical form, which the component makes once a call, when the
//!   first such candidate's turn has come; it writes the answer from the canonical one ([`written`]).
//! - **Guardrails** rule on the canonical form, on both sides. Where one rules on answers, or has changed the request,
//!   nothing is passed natively.
//! - **Refusals** have the dialect's own form: written by its component, or by the host ([`errors`]) where there is none
//!   yet or it has failed.
//! - **Objects that a vendor keeps** (`previous_response_id`) belong to the project whose call made them, and are asked
//!   for at the connection that made them ([`kept`]).
//!
//! A component's failure is answered 500 `plugin_…`; in a stream, by the host's own form of an error event.
//! A call without a dialect meets none of this but one look at an `Option`.

mod errors;
pub(crate) mod kept;
pub(crate) mod native;
pub(crate) mod objects;
pub(crate) mod written;

use std::sync::Arc;

use brokle_core::json;
use brokle_core::tenancy::Tenant;
use brokle_runtime::dialects::{self as wire, Head};
use brokle_runtime::{Body, CallContext, DialectInstance, DialectPlugin, PluginError};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::gateway::Gateway;
use crate::pipeline::{Caller, Stage};
use crate::refusal::{Fault, Refusal};
use crate::request::{self, Request};
pub(crate) use errors::problem_of;
pub use objects::ObjectCall;

/// Bytes that a dialect may leave itself from the request to the answer.
const STATE: usize = 64 << 10;

/// A wire format that the surface has endpoints for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic's Messages.
    AnthropicMessages,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// Gemini's `generateContent`.
    GeminiGenerateContent,
}

impl Dialect {
    /// Its name, as providers list it in `native_dialects`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic.messages",
            Self::OpenAiResponses => "openai.responses",
            Self::GeminiGenerateContent => "gemini.generate-content",
        }
    }

    /// The short name of its component.
    #[must_use]
    pub fn plugin(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiResponses => "openai-responses",
            Self::GeminiGenerateContent => "gemini-generate-content",
        }
    }
}

/// What the URL of a call in a dialect says.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The dialect.
    pub dialect: Dialect,
    /// As in `brokle:dialect`, `call.endpoint`.
    pub endpoint: &'static str,
    /// The model, where the URL names it.
    pub model: String,
    /// Whether the URL asks for a stream.
    pub streaming: bool,
    /// The query.
    pub query: Vec<(String, String)>,
}

/// A call in a dialect whose head was read.
pub(crate) struct Asked {
    pub(crate) dialect: Dialect,
    pub(crate) plugin: Arc<DialectPlugin>,
    context: CallContext,
    pub(crate) call: wire::Call,
    /// What the caller sent.
    pub(crate) original: Body,
    /// The media type of a streamed answer.
    pub(crate) content_type: String,
    /// The kept object that the request goes on from.
    pub(crate) previous: Option<String>,
    /// Whoever read the head translates, too, if that is still wanted.
    instance: Mutex<Option<DialectInstance>>,
    canonical: OnceCell<Canonical>,
}

/// A request in the canonical form, and what its dialect wants to know when the answer comes.
#[derive(Debug)]
pub(crate) struct Canonical {
    pub(crate) request: Request,
    pub(crate) state: Vec<u8>,
}

/// The part of a [`Request`] that came in a dialect.
#[derive(Debug, Clone)]
pub(crate) struct Dialected {
    pub(crate) asked: Arc<Asked>,
    /// The caller's bytes may go to a provider that takes them.
    pub(crate) native: bool,
    /// The request's body is the canonical one already.
    pub(crate) translated: bool,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// Reads a request that came in a dialect: the hot fields only.
///
/// # Errors
/// It isn't JSON, the dialect refuses it, or its component doesn't serve.
pub(crate) async fn read(call: &mut Stage<'_, Caller>, asking: &Asking) -> Result<Request, Refusal> {
    let body = call.incoming.body.clone();
    let read = request::object(&body, |_, _| {}, |_| {})?;
    let original = Body::visited(body.clone(), read.members);
    let tenant = call.known.principal.tenant;
    let Some(active) = call.plugins.of(tenant).dialect(asking.dialect.plugin()) else {
        let message = format!("No component serves the dialect '{}'.", asking.dialect.name());
        return Err(Refusal {
            fault: Fault::Internal,
            ..Refusal::client(503, "dialect_unavailable", message)
        });
    };
    let facts = wire::Call {
        endpoint: asking.endpoint.into(),
        model: asking.model.clone(),
        streaming: asking.streaming,
        query: asking.query.clone(),
        request_id: call.incoming.request_id.to_string(),
        created: u64::try_from(call.incoming.now.timestamp()).unwrap_or(0),
        attributes: Vec::new(),
    };
    let context = active.context_for(tenant, None);
    let opened = active.plugin.open(context.clone()).await;
    let mut instance = opened.map_err(|error| failed(call.meter, &error))?;
    let head = instance.read_head(&facts, original.clone()).await;
    let head = head.map_err(|error| failed(call.meter, &error))?;
    let asked = |content_type, previous| {
        Arc::new(Asked {
            dialect: asking.dialect,
            plugin: Arc::clone(&active.plugin),
            context: context.clone(),
            call: facts.clone(),
            original: original.clone(),
            content_type,
            previous,
            instance: Mutex::new(Some(instance)),
            canonical: OnceCell::new(),
        })
    };
    let head = match head {
        Ok(head) => head,
        Err(problem) => {
            call.told.dialect = Some(asked(String::new(), None));
            return Err(Refusal::from_problem(problem));
        }
    };
    let asked = asked(head.content_type.clone(), head.previous.clone());
    call.told.dialect = Some(Arc::clone(&asked));
    of_head(call.incoming.operation, head, asked)
}

fn of_head(operation: crate::Operation, head: Head, asked: Arc<Asked>) -> Result<Request, Refusal> {
    if head.operation != operation.name() {
        let message = format!("The dialect took the request for '{}'.", head.operation);
        return Err(Refusal { fault: Fault::Plugin, ..Refusal::client(500, "plugin_bad_answer", message) });
    }
    if head.model.trim().is_empty() || head.model.len() > 256 {
        return Err(Refusal::invalid("model", "'model' must have 1 to 256 characters."));
    }
    Ok(Request {
        operation,
        body: asked.original.clone(),
        model: head.model,
        streaming: head.streaming,
        include_usage: true,
        max_output_tokens: head.max_output_tokens,
        // The head doesn't say (Gemini's `candidateCount` may be more): what is reserved too little is settled.
        choices: 1,
        user: head.user,
        prompt_cache_key: None,
        features: head.features,
        provider: None,
        preferences: None,
        route: None,
        guards: None,
        cached: None,
        dialect: Some(Dialected { asked, native: true, translated: false }),
    })
}

/// A component of ours failed: 500, by its name.
pub(crate) fn failed(meter: &Meter, error: &PluginError) -> Refusal {
    meter.trap(&error.plugin);
    broke(error.clone())
}

fn broke(error: PluginError) -> Refusal {
    let refusal = Refusal::from(error);
    let status = if refusal.status == 503 { 503 } else { 500 };
    Refusal { status, retryable: false, ..refusal }
}

impl Asked {
    /// A fresh instance.
    pub(crate) async fn open(&self) -> Result<DialectInstance, PluginError> {
        self.plugin.open(self.context.clone()).await
    }

    /// The one that has read the head, or another one.
    async fn reuse(&self) -> Result<DialectInstance, PluginError> {
        let kept = self.instance.lock().take();
        match kept {
            Some(instance) => Ok(instance),
            None => self.open().await,
        }
    }

    /// Gives the sandbox back that has read the head: it isn't needed while a vendor thinks.
    pub(crate) fn rest(&self) {
        drop(self.instance.lock().take());
    }

    /// What [`Canonical::state`] is; empty before.
    pub(crate) fn state(&self) -> &[u8] {
        self.canonical.get().map_or(&[], |canonical| &canonical.state)
    }

    /// The request in the canonical form, translated when it is first asked for.
    ///
    /// # Errors
    /// The dialect can't say it in that form, or its component failed.
    pub(crate) async fn canonical(
        &self,
        gateway: &Gateway,
        meter: &mut Meter,
        request: &Request,
    ) -> Result<&Canonical, Refusal> {
        let translate = async {
            let mut instance = self.reuse().await.map_err(|error| failed(meter, &error))?;
            let translated = instance.to_canonical(&self.call, self.original.clone()).await;
            let translated = translated.map_err(|error| failed(meter, &error))?;
            let random = &*gateway.parts.random;
            meter.plugin(self.plugin.label(), "to-canonical", None, instance.spent().time, random);
            let translated = translated.map_err(Refusal::from_problem)?;
            let state = self.original.completed(&translated.state)?.into_owned();
            if state.len() > STATE {
                let message = "The dialect's component wants to remember more than 64 KiB.";
                let refusal = Refusal::client(500, "plugin_bad_answer", message);
                return Err(Refusal { fault: Fault::Plugin, ..refusal });
            }
            let checked = match request.operation {
                // The same words as a chat's.
                crate::Operation::CountTokens => crate::Operation::ChatCompletions,
                other => other,
            };
            let body = self.original.completed(&translated.body)?.into_owned();
            let read = Request::read(checked, body.into())?;
            let canonical = Request {
                operation: request.operation,
                model: request.model.clone(),
                streaming: request.streaming,
                provider: None,
                route: request.route.clone(),
                ..read
            };
            Ok(Canonical { request: canonical, state })
        };
        self.canonical.get_or_try_init(|| translate).await
    }

    /// An estimate of the request's tokens, as an answer in the dialect.
    ///
    /// # Errors
    /// The dialect can't read the request, or its component failed.
    pub(crate) async fn estimate(&self, gateway: &Gateway, meter: &mut Meter) -> Result<Bytes, Refusal> {
        let mut instance = self.reuse().await.map_err(|error| failed(meter, &error))?;
        let estimated = instance.estimate(&self.call, self.original.clone()).await;
        let estimated = estimated.map_err(|error| failed(meter, &error))?;
        let random = &*gateway.parts.random;
        meter.plugin(self.plugin.label(), "estimate", None, instance.spent().time, random);
        estimated.map(Bytes::from).map_err(Refusal::from_problem)
    }
}

impl Dialected {
    /// What the dialect's own answers have in their head.
    pub(crate) fn identify(&self, headers: &mut HeaderMap) {
        self.asked.dialect.identify(headers, &self.asked.call.request_id);
    }

    /// The connection that has the object which the request goes on from, if one is known.
    pub(crate) fn owner(&self, gateway: &Gateway, tenant: Tenant) -> Option<Arc<str>> {
        gateway.kept.find(tenant, self.asked.previous.as_deref()?)
    }

    /// Whether a connection may be asked for what the request goes on from: only the one that made it.
    ///
    /// # Errors
    /// 400 `previous_response_not_found`.
    pub(crate) fn check_owner(
        &self,
        gateway: &Gateway,
        tenant: Tenant,
        connection: &Arc<str>,
    ) -> Result<(), Refusal> {
        let Some(previous) = &self.asked.previous else { return Ok(()) };
        if gateway.kept.find(tenant, previous).as_ref() == Some(connection) {
            return Ok(());
        }
        Err(not_kept(previous))
    }

    /// The request as guardrails are to see it.
    ///
    /// # Errors
    /// As [`Asked::canonical`].
    pub(crate) async fn for_guardrails(
        &self,
        gateway: &Gateway,
        meter: &mut Meter,
        request: &Request,
    ) -> Result<Request, Refusal> {
        let canonical = self.asked.canonical(gateway, meter, request).await?;
        let dialect = Some(Self { translated: true, ..self.clone() });
        Ok(Request { dialect, ..canonical.request.clone() })
    }
}

/// There is no such object for this project.
pub(crate) fn not_kept(id: &str) -> Refusal {
    let message = format!(
        "Previous response with id '{}' not found: no call of this project's is known to have made it.",
        id.chars().take(100).collect::<String>().escape_debug()
    );
    let code = "previous_response_not_found";
    Refusal { code: code.into(), ..Refusal::invalid("previous_response_id", message) }
}

/// A refusal, in the dialect's own form.
pub(crate) async fn refused(
    asking: &Asking,
    refusal: &Refusal,
    request_id: &str,
    told: &Told,
    meter: &Meter,
) -> Response<AnswerBody> {
    let own = refusal.body.as_ref().filter(|_| refusal.native);
    let body = match (own, &told.dialect) {
        (Some(body), _) => Some(body.clone()),
        // Its component said that it can't.
        (None, Some(asked)) if refusal.fault != Fault::Plugin => written(asked, refusal).await,
        (None, _) => None,
    };
    let body = body.unwrap_or_else(|| asking.dialect.error(refusal, request_id));
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    asking.dialect.identify(&mut headers, request_id);
    answer::whole(refusal.status, headers, body, told, meter)
}

async fn written(asked: &Asked, refusal: &Refusal) -> Option<Bytes> {
    let mut instance = asked.reuse().await.ok()?;
    let problem = problem_of(refusal);
    let body = instance.write_error(&asked.call, refusal.status, &problem).await.ok()?;
    json::scan(&body, |_, _| {}).ok()?;
    Some(body.into())
}

impl Dialect {
    /// Puts the call's id where the dialect's clients look for it, unless a vendor's is there.
    pub fn identify(self, headers: &mut HeaderMap, request_id: &str) {
        let name = match self {
            Self::AnthropicMessages => HeaderName::from_static("request-id"),
            Self::OpenAiResponses | Self::GeminiGenerateContent => return,
        };
        if let Ok(value) = HeaderValue::from_str(request_id) {
            headers.entry(name).or_insert(value);
        }
    }
}
