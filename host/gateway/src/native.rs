//! What providers keep for projects: files of lines, and batches of them (the operations `files` and `batches`).
//!
//! **Whose.** A provider's ids never leave: callers know files and batches by ids of ours, whose rows name the project and the
//! connection. Nothing is asked for by an id that a caller wrote.
//!
//! **Who may.** Whoever may call models at the connection: all that becomes of a file is a batch of calls, which is accounted.
//! A key on whose calls a guardrail rules is refused (403 `guarded`): nothing would rule on lines that a provider works on.
//!
//! **Errands** are short: one request, an answer of up to [`LARGEST`]. Only uploads and what is in a file are streamed.
//!
//! **Without files.** Some providers take a batch's lines with the batch (feature `lines` of `batches`). Their files are kept here, and
//! their components make each line, and OpenAI's lines of the results. Of some the lines of a batch are one model's (`one_model`).

use std::sync::Arc;
use std::time::Duration;

use brokle_core::ids::RequestId;
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_runtime::exchange::{Call, Output, Preparation, ResponseHead, ResponsePlan, UpstreamRequest};
use brokle_runtime::{Body, Framer, ProviderInstance};
use brokle_storage::blobs::BlobReader;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use hyper::body::Incoming as Upstream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio_util::io::StreamReader;

use crate::account::Meter;
use crate::answer::Told;
use crate::attempts::{next_piece, plugin_head, send};
use crate::connections::Connection;
use crate::decoding::{framer, step};
use crate::egress::{self, CallerBody};
use crate::gateway::Gateway;
use crate::guardrails::Named;
use crate::limits;
use crate::operation::Operation;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::Candidate;

/// The largest answer about a file or a batch: 1 MiB.
const LARGEST: usize = 1 << 20;

/// A provider that keeps files and batches, at one connection.
pub(crate) struct Keeper<'a> {
    gateway: &'a Gateway,
    candidate: Candidate,
}

/// A file, as its provider tells of it.
#[derive(Debug, Deserialize)]
pub(crate) struct KeptFile {
    #[serde(deserialize_with = "name")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) bytes: i64,
    #[serde(default)]
    pub(crate) filename: String,
    #[serde(default)]
    pub(crate) purpose: String,
    pub(crate) status: Option<String>,
    pub(crate) expires_at: Option<i64>,
}

/// A batch, likewise.
#[derive(Debug, Deserialize)]
pub(crate) struct KeptBatch {
    #[serde(deserialize_with = "name")]
    pub(crate) id: String,
    pub(crate) status: String,
    #[serde(default, deserialize_with = "some_name")]
    pub(crate) output_file_id: Option<String>,
    #[serde(default, deserialize_with = "some_name")]
    pub(crate) error_file_id: Option<String>,
    pub(crate) errors: Option<KeptErrors>,
    pub(crate) request_counts: Option<Counts>,
}

/// What is wrong with a batch's file.
#[derive(Debug, Deserialize)]
pub(crate) struct KeptErrors {
    #[serde(default)]
    pub(crate) data: Vec<serde_json::Value>,
}

/// A batch's lines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) total: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
}

/// That a file is gone, or anything else that is only to be well-formed.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// An id that can stand in a path. Ids come from providers, and go back to them only.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_name(&text) { Ok(text) } else { Err(serde::de::Error::custom("an id is expected")) }
}

/// Some leave out what there isn't, some say null, and some write nothing.
fn some_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    match text {
        Some(text) if !is_name(&text) => Err(serde::de::Error::custom("an id is expected")),
        text => Ok(text),
    }
}

fn is_name(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !text.starts_with('.')
}

impl Gateway {
    /// The caller's connection of this name, or else the first one to the provider of this name.
    ///
    /// # Errors
    /// 403 `guarded`, 404 `provider_not_found`.
    pub(crate) async fn keeper(&self, principal: &Principal, name: &str) -> Result<Keeper<'_>, Refusal> {
        let found = |all: &[Arc<Connection>]| {
            let named = all.iter().find(|one| one.name == name);
            named.or_else(|| all.iter().find(|one| *one.provider == *name)).cloned()
        };
        let keeper = self.keeper_that(principal.tenant, found).await;
        let keeper = keeper.ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            let message = format!("There is no provider '{}'.", name.escape_debug());
            Refusal::client(404, "provider_not_found", message)
        })?;
        keeper.check(principal)?;
        Ok(keeper)
    }

    /// The tenant's connection of this id; none: it isn't there any more.
    pub(crate) async fn keeper_at(&self, tenant: Tenant, id: &str) -> Option<Keeper<'_>> {
        self.keeper_that(tenant, |all| all.iter().find(|one| *one.id == *id).cloned()).await
    }

    async fn keeper_that(
        &self,
        tenant: Tenant,
        find: impl FnOnce(&[Arc<Connection>]) -> Option<Arc<Connection>>,
    ) -> Option<Keeper<'_>> {
        let plugins = self.parts.plugins.load();
        let connections = self.parts.connections.of(tenant, plugins.of(tenant)).await;
        let connection = find(&connections).filter(|connection| connection.origin.is_some())?;
        Some(Keeper { gateway: self, candidate: Candidate::of(&connection, "") })
    }
}

impl Keeper<'_> {
    pub(crate) fn connection(&self) -> &Connection {
        &self.candidate.connection
    }

    /// Whether the caller's lines may be the provider's to work on.
    fn check(&self, principal: &Principal) -> Result<(), Refusal> {
        let parts = &self.gateway.parts;
        let plugins = parts.plugins.load();
        match parts.guardrails.of(principal, plugins.of(principal.tenant), Named::All)? {
            None => Ok(()),
            Some(_) => {
                let message =
                    "Guardrails rule on this key's calls, and can't rule on those that a provider works on.";
                Err(Refusal::client(403, "guarded", message))
            }
        }
    }

    /// Takes one of the key's requests.
    pub(crate) async fn take(&self, principal: &Principal) -> Result<(), Refusal> {
        pipeline::take(self.gateway, principal, &mut Told::default()).await
    }

    /// Whether the caller's limits and budgets have anything left for a batch. What its lines will cost isn't known yet: it is
    /// charged when it ends.
    pub(crate) async fn admit(&self, principal: &Arc<Principal>) -> Result<(), Refusal> {
        self.check(principal)?;
        self.take(principal).await?;
        let mut meter = Meter::new(self.gateway.parts.books.clone(), Operation::Raw);
        let (mut told, request) = (Told::default(), Request::unread(Operation::Raw, "", false));
        let headers = HeaderMap::new();
        limits::reserve(self.gateway, &mut meter, &mut told, &headers, principal, &request).await?;
        meter.reserve(self.gateway, self.connection(), "", &mut told).await
    }

    /// Whether the provider takes a batch's lines with the batch, and has no files.
    pub(crate) async fn takes_lines(&self) -> Result<bool, Refusal> {
        self.batches_have("lines").await
    }

    /// Whether all lines of a batch must be one model's there.
    pub(crate) async fn takes_one_model(&self) -> Result<bool, Refusal> {
        self.batches_have("one_model").await
    }

    async fn batches_have(&self, feature: &str) -> Result<bool, Refusal> {
        let connection = self.connection();
        Ok(connection.plugin.open(connection.context.clone()).await?.can("batches", feature))
    }

    /// A line of a batch as the provider takes it, for this model of its own.
    pub(crate) async fn line(&self, custom_id: &str, model: &str, body: Bytes) -> Result<Vec<u8>, Refusal> {
        let body = Body::json(body);
        match self.prepare_for("batches.line", custom_id, model, body.clone()).await? {
            Errand::Ask(asked) => {
                let (_, line) = egress::planned(&asked.wanted.body, &body)?;
                Ok(line.parts().flatten().copied().collect())
            }
            Errand::Answered(_) => Err(self.unsupported()),
        }
    }

    /// Has a batch made, which has this id here; `model` is its lines', where they have one.
    pub(crate) async fn create(&self, id: &str, model: &str, body: Bytes) -> Result<KeptBatch, Refusal> {
        self.ask_for("batches.create", id, model, body).await
    }

    /// Runs an errand: `files.get`, `batches.cancel`, …, about what has this id there.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        operation: &str,
        id: &str,
        body: Bytes,
    ) -> Result<T, Refusal> {
        self.ask_for(operation, id, "", body).await
    }

    async fn ask_for<T: DeserializeOwned>(
        &self,
        operation: &str,
        id: &str,
        model: &str,
        body: Bytes,
    ) -> Result<T, Refusal> {
        let body = Body::json(body);
        let asked = match self.prepare_for(operation, id, model, body.clone()).await? {
            Errand::Ask(asked) => asked,
            Errand::Answered(answer) => return self.understood(&answer),
        };
        let Asked { wanted, instance, call } = *asked;
        let answer = send(self.gateway, &self.candidate, &wanted, &body, &HeaderMap::new()).await?;
        let mut answer = self.good(answer, instance, &call).await?;
        let ResponsePlan::Decoded(framing) = &wanted.response else {
            return self.read_answer(&mut answer.body).await;
        };
        let mut decoded = answer.decoded(&call, framing, self.candidate.timeouts(self.gateway).idle).await?;
        let mut whole = BytesMut::new();
        while let Some(pieces) = decoded.next().await?
            && whole.len() <= LARGEST
        {
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        }
        self.understood(&whole)
    }

    /// Sends a caller's form with a file as it comes, up to `most` bytes.
    pub(crate) async fn upload(&self, kind: &str, body: CallerBody, most: u64) -> Result<KeptFile, Refusal> {
        let Errand::Ask(asked) = self.prepare("files.create", "", Body::json(Bytes::new())).await? else {
            return Err(self.unsupported());
        };
        let Asked { wanted, instance, call } = *asked;
        let (connection, passed) = (self.connection(), HeaderMap::new());
        let sent = self.gateway.send_raw(connection, &wanted, Some(kind), body, most, &passed);
        let sent = tokio::time::timeout(self.gateway.parts.timeouts.total, sent).await;
        let answer = sent.map_err(|_| {
            let message = "The upload took longer than is allowed.";
            Refusal::upstream(504, "upstream_timeout", message)
        })??;
        let mut answer = self.good(answer, instance, &call).await?;
        self.read_answer(&mut answer.body).await
    }

    /// What is in a file, as it comes.
    pub(crate) async fn content(&self, id: &str) -> Result<BlobReader, Refusal> {
        let nothing = Body::json(Bytes::new());
        let Errand::Ask(asked) = self.prepare("files.content", id, nothing.clone()).await? else {
            return Err(self.unsupported());
        };
        let Asked { wanted, instance, call } = *asked;
        let answer = send(self.gateway, &self.candidate, &wanted, &nothing, &HeaderMap::new()).await?;
        let answer = self.good(answer, instance, &call).await?;
        let idle = self.candidate.timeouts(self.gateway).idle;
        if let ResponsePlan::Decoded(framing) = &wanted.response {
            let decoded = answer.decoded(&call, framing, idle).await?;
            let lines = futures_util::stream::try_unfold(decoded, |mut decoded| async move {
                let pieces = decoded.next().await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(pieces.map(|pieces| (lines(&pieces), decoded)))
            });
            return Ok(Box::pin(StreamReader::new(Box::pin(lines))));
        }
        let pieces = futures_util::stream::try_unfold(answer.body, move |mut answer| async move {
            let piece = next_piece(&mut answer, idle).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(piece.map(|piece| (piece, answer)))
        });
        Ok(Box::pin(StreamReader::new(Box::pin(pieces))))
    }

    fn unsupported(&self) -> Refusal {
        let message = format!("Provider '{}' keeps no files and batches.", self.connection().provider);
        Refusal::client(400, "unsupported", message)
    }

    async fn prepare(&self, operation: &str, id: &str, body: Body) -> Result<Errand, Refusal> {
        self.prepare_for(operation, id, "", body).await
    }

    async fn prepare_for(
        &self,
        operation: &str,
        id: &str,
        model: &str,
        body: Body,
    ) -> Result<Errand, Refusal> {
        let (connection, parts) = (self.connection(), &self.gateway.parts);
        let mut instance = connection.plugin.open(connection.context.clone()).await?;
        let offered = operation.split_once('.').is_some_and(|(kind, _)| instance.offers(kind));
        // What it has for files are its batches' results.
        if !offered && !instance.can("batches", "lines") {
            return Err(self.unsupported());
        }
        let mut attributes = connection.attributes.clone();
        attributes.push(("object".to_owned(), id.to_owned()));
        let call = Call {
            operation: operation.into(),
            model: model.to_owned(),
            streaming: false,
            format: "canonical".into(),
            content_type: "application/json".into(),
            request_id: RequestId::generate(&*parts.clock, &*parts.random).to_string(),
            created: u64::try_from(parts.clock.now().timestamp()).unwrap_or(0),
            options: connection.options.clone(),
            attributes,
        };
        match instance.prepare(&call, body).await?.map_err(Refusal::from_problem)? {
            Preparation::Request(wanted) => Ok(Errand::Ask(Box::new(Asked { wanted, instance, call }))),
            Preparation::Answer(outputs) => Ok(Errand::Answered(chunks(outputs)?.concat())),
        }
    }

    /// A good answer; any other one is refused in the words of the provider's component.
    async fn good(
        &self,
        answer: Response<Upstream>,
        instance: ProviderInstance,
        call: &Call,
    ) -> Result<Good, Refusal> {
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        if head.status.is_success() {
            return Ok(Good { instance, head: plugin_head(status, &head.headers), body });
        }
        let refusal = self.gateway.refused(instance, call, status, &head.headers, body).await?;
        // What is wrong with the request is told with its member's name, which isn't one of ours.
        Err(Refusal { retryable: status == 429 || status >= 500, ..refusal })
    }

    async fn read_answer<T: DeserializeOwned>(&self, answer: &mut Upstream) -> Result<T, Refusal> {
        let idle = self.candidate.timeouts(self.gateway).idle;
        let mut read = BytesMut::new();
        while let Some(piece) = next_piece(answer, idle).await? {
            read.extend_from_slice(&piece);
            if read.len() > LARGEST {
                break;
            }
        }
        self.understood(&read)
    }

    fn understood<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Refusal> {
        serde_json::from_slice(answer).map_err(|error| {
            tracing::info!(%error, connection = self.connection().name, "an answer about a file or batch isn't one");
            Refusal::upstream(502, "upstream_error", "The provider's answer can't be understood.")
        })
    }
}

/// What a component makes of an errand.
enum Errand {
    /// This is to be asked.
    Ask(Box<Asked>),
    /// The provider need not be asked.
    Answered(Vec<u8>),
}

struct Asked {
    wanted: UpstreamRequest,
    instance: ProviderInstance,
    call: Call,
}

/// A good answer, and who understands it.
struct Good {
    instance: ProviderInstance,
    head: ResponseHead,
    body: Upstream,
}

impl Good {
    /// Turned into OpenAI's form by the component.
    async fn decoded(mut self, call: &Call, framing: &str, idle: Duration) -> Result<Decoded, Refusal> {
        let framer = framer(framing)?;
        self.instance.begin_decoding(call, &self.head, &[]).await?;
        Ok(Decoded { instance: self.instance, upstream: self.body, framer, idle })
    }
}

/// An answer on its way through a component. Holds one of the runtime's slots.
struct Decoded {
    instance: ProviderInstance,
    upstream: Upstream,
    framer: Option<Framer>,
    idle: Duration,
}

impl Decoded {
    /// The next documents; none at the end.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Refusal> {
        match step(&mut self.instance, &mut self.upstream, &mut self.framer, self.idle).await? {
            None => Ok(None),
            Some((outputs, None)) => chunks(outputs).map(Some),
            Some((_, Some(_))) => {
                let message = "The plugin asks for more than one request for a file or a batch.";
                Err(Refusal::upstream(502, "plugin_request_refused", message))
            }
        }
    }
}

/// A line each.
fn lines(documents: &[Bytes]) -> Bytes {
    let mut lines = BytesMut::new();
    for document in documents {
        lines.extend_from_slice(document);
        lines.extend_from_slice(b"\n");
    }
    lines.freeze()
}

/// The documents among them.
fn chunks(outputs: Vec<Output>) -> Result<Vec<Bytes>, Refusal> {
    let chunk = |output| match output {
        Output::Chunk(json) => Some(Ok(Bytes::from(json))),
        Output::Failure(problem) => Some(Err(Refusal::from_problem(problem))),
        Output::Bytes(_) | Output::Usage(_) => None,
    };
    outputs.into_iter().filter_map(chunk).collect()
}
