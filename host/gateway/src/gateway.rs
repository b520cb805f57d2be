//! The gateway: its parts, and the one way in.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::RequestId;
use brokle_core::random::Random;
use brokle_identity::{AuthError, Principal};
use brokle_plugins::Snapshots;
use brokle_storage::sql::Database;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use http::{HeaderMap, Response};
use tokio::sync::watch;

use crate::account::{Books, Meter};
use crate::answer::{self, AnswerBody, Told};
use crate::attempts::Served;
use crate::budgets::Budgets;
use crate::cache::Cache;
use crate::connections::Directory;
use crate::credentials::Tokens;
use crate::dialects::kept::Kept;
use crate::dialects::{self, Asking};
use crate::egress::Egress;
use crate::gate::{Place, Room};
use crate::guardrails::{Guardrails, Masking};
use crate::keys::Cooling;
use crate::limits::{Limit, LimitState, Limits, SharedLimits};
use crate::models::{self, ModelObject};
use crate::operation::Operation;
use crate::pipeline::{self, Stage};
use crate::realtime::RealtimeLimits;
use crate::refusal::{Fault, Refusal};
use crate::resilience::{Extra, Resilience};
use crate::routing::routes::Routing;
use crate::routing::scores::Scores;
use crate::routing::stats::LiveFacts;
use crate::routing::table::Book;
use crate::shadow::Shadows;
use crate::stream::Cut;

/// How long a provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To the head of its answer: 60 s. Reasoning models think before they speak, so long.
    pub first_byte: Duration,
    /// From a stream's head to its first token; none: as long as it isn't silent.
    pub first_token: Option<Duration>,
    /// Between two pieces of its answer: 60 s.
    pub idle: Duration,
    /// For the whole call, all attempts and the whole stream: 10 min.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(60),
            first_token: None,
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// What the gateway works with.
#[derive(Debug)]
pub struct Parts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// What accounts are written to.
    pub books: Books,
    /// Ways to providers.
    pub connections: Directory,
    /// Which components serve.
    pub plugins: Arc<Snapshots>,
    /// Configured routes, and who orders candidates.
    pub routing: Routing,
    /// Where organizations' and projects' own routes are; none: there are none.
    pub stored_routes: Option<Database>,
    /// What was thought of candidates; none: policies aren't told.
    pub scores: Option<Arc<Scores>>,
    /// What may go to a model, and what may come back.
    pub guardrails: Guardrails,
    /// The client for everything outside.
    pub egress: Egress,
    /// How long a provider may take.
    pub timeouts: Timeouts,
    /// How long a realtime session may last, and what it may send.
    pub realtime: RealtimeLimits,
    /// What is done about failures and overload.
    pub resilience: Resilience,
    /// How much callers may.
    pub limits: Vec<Limit>,
    /// Answers that are given again; none if nothing is cached.
    pub cache: Option<Arc<Cache>>,
    /// Where servers share limits.
    pub shared_limits: Option<Arc<SharedLimits>>,
    /// How much they may spend.
    pub budgets: Arc<Budgets>,
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) parts: Parts,
    pub(crate) limits: Limits,
    pub(crate) tokens: Tokens,
    /// All routes, as callers find them.
    pub(crate) routes: Book,
    /// Which of a connection's keys are passed over.
    pub(crate) cooling: Cooling,
    /// What is measured of candidates.
    pub(crate) facts: LiveFacts,
    /// Extra calls that may yet be made.
    pub(crate) extra: Extra,
    /// Calls that may yet begin.
    pub(crate) room: Room,
    /// What vendors keep, and for whom.
    pub(crate) kept: Kept,
    /// Calls that are made once more.
    pub(crate) shadows: Shadows,
    /// Says when streams are to end.
    pub(crate) cutting: watch::Sender<bool>,
}

/// An answer's extension: nothing was begun, and [`Gateway::tell_shed`] will tell.
#[derive(Debug, Clone, Copy)]
pub struct Shed;

/// A request that was read.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// What is asked for.
    pub operation: Operation,
    /// The dialect that it came in; none: the canonical form.
    pub dialect: Option<&'a Asking>,
    /// Whose key it came with, or why that is nobody's.
    pub caller: Result<Arc<Principal>, AuthError>,
    /// The caller's headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// As answered in `X-Request-Id`.
    pub request_id: RequestId,
    /// When it came.
    pub now: DateTime<Utc>,
    /// Chance.
    pub random: &'a dyn Random,
}

impl Gateway {
    /// A gateway of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            limits: Limits::new(parts.limits.clone(), parts.shared_limits.clone()),
            tokens: Tokens::default(),
            cooling: Cooling::new(Arc::clone(&parts.clock)),
            routes: Book::new(&parts.routing, parts.stored_routes.clone(), parts.timeouts),
            facts: LiveFacts::new(
                Arc::clone(&parts.clock),
                parts.resilience.breaker,
                parts.books.metrics.circuit_opens.clone(),
            ),
            extra: Extra::default(),
            room: Room::new(parts.resilience.max_in_flight),
            kept: Kept::new(),
            shadows: Shadows::new(parts.resilience.max_shadows),
            cutting: watch::Sender::new(false),
            parts,
        })
    }

    /// Ends every stream that is still open, with a verdict: the server is about to close their connections.
    pub fn cut(&self) {
        self.cutting.send_replace(true);
    }

    /// Serves one call in the canonical form.
    pub async fn serve(
        self: &Arc<Self>,
        operation: Operation,
        caller: Result<Arc<Principal>, AuthError>,
        headers: &HeaderMap,
        body: Bytes,
        request_id: RequestId,
    ) -> Response<AnswerBody> {
        self.serve_in(None, operation, caller, headers, body, request_id).await
    }

    /// Serves one call, in a dialect if one is given.
    pub async fn serve_in(
        self: &Arc<Self>,
        dialect: Option<&Asking>,
        operation: Operation,
        caller: Result<Arc<Principal>, AuthError>,
        headers: &HeaderMap,
        body: Bytes,
        request_id: RequestId,
    ) -> Response<AnswerBody> {
        let mut meter = Meter::new(self.parts.books.clone(), operation);
        let mut told = Told::default();
        let now = self.parts.clock.now();
        let incoming = Incoming {
            operation,
            dialect,
            caller,
            headers,
            body,
            request_id,
            now,
            random: &*self.parts.random,
        };
        // Loaded once: whatever is swapped meanwhile, this call ends on what it began with.
        let plugins = self.parts.plugins.load();
        let call = Stage { incoming, meter: &mut meter, told: &mut told, plugins, known: () };
        // In a box: it is some 20 KB, and each layer around it that is moved would move it too.
        let run = Box::pin(pipeline::run(self, call));
        let mut cut = Cut::of(self);
        let served = tokio::select! {
            biased;
            served = tokio::time::timeout(self.parts.timeouts.total, run) => match served {
                Ok(served) => served,
                Err(_) => {
                    let message = "The call took longer than is allowed.";
                    Err(Refusal::upstream(504, "upstream_timeout", message))
                }
            },
            // Its connection is about to be closed: a call that has no head yet is told so.
            refusal = cut.fired() => Err(refusal),
        };
        let answered = match served {
            Ok(served) => match told.dialect.clone().filter(|_| !matches!(served, Served::Native(_))) {
                None => return served.answer(self, &told, meter),
                Some(asked) => Box::pin(dialects::written::answer(self, &asked, served, &told, meter)).await,
            },
            Err(refusal) => Err((refusal, meter)),
        };
        match answered {
            Ok(answer) => answer,
            Err((refusal, mut meter)) => {
                if refusal.fault == Fault::Internal || refusal.fault == Fault::Plugin {
                    tracing::warn!(code = %refusal.code, %request_id, "{}", refusal.message);
                }
                meter.refuse(&refusal, None);
                match dialect {
                    None => answer::refused(&refusal, &told, &meter),
                    Some(asking) => {
                        let id = request_id.to_string();
                        Box::pin(dialects::refused(asking, &refusal, &id, &told, &meter)).await
                    }
                }
            }
        }
    }

    /// Room for one more call; none: it is to be [shed](Self::shed). Given back when it is dropped, so whoever takes it
    /// keeps it until the answer's last byte ([`Place::hold`]).
    #[must_use]
    pub fn admit(&self) -> Option<Place> {
        self.room.enter()
    }

    /// An answer is about to be written: calls that are ready on this thread go first, so that answers are written together.
    pub async fn others_first(&self) {
        self.room.others_first().await;
    }

    /// Refuses a call for which there is no room. It wasn't begun: it is counted, and leaves no trace.
    pub async fn shed(
        &self,
        dialect: Option<&Asking>,
        operation: Operation,
        request_id: RequestId,
    ) -> Response<AnswerBody> {
        self.parts.books.metrics.shed.inc();
        self.room.refuse();
        let message = "The gateway has as many calls as it takes at once. Try again shortly.";
        let refusal = Refusal {
            fault: Fault::Internal,
            retry_after: Some(Duration::from_secs(1)),
            ..Refusal::client(503, "gateway_overloaded", message)
        };
        let (told, meter) = (Told::default(), Meter::new(self.parts.books.clone(), operation));
        let mut answer = match dialect {
            None => answer::refused(&refusal, &told, &meter),
            Some(asking) => dialects::refused(asking, &refusal, &request_id.to_string(), &told, &meter).await,
        };
        answer.extensions_mut().insert(Shed);
        answer
    }

    /// Logs how many calls were refused for want of room, if any were; for the server to call each second. A line for each
    /// of them would be most of what an overloaded gateway does.
    pub fn tell_shed(&self) {
        let calls = self.room.newly_refused();
        if calls > 0 {
            tracing::warn!(calls, "calls were refused for want of room");
        }
    }

    /// The models and routes that a key can ask for.
    pub async fn models(&self, caller: &Principal) -> Vec<ModelObject> {
        let tenant = caller.tenant;
        let plugins = self.parts.plugins.load();
        let connections = self.parts.connections.of(tenant, plugins.of(tenant)).await;
        let routes = self.routes.of(tenant).await;
        let there = routes.there(&connections, caller);
        models::list(&connections, there, &self.parts.books.catalogue, caller)
    }

    /// Where a key stands with its limits. Those by user are told for the user that is named; empty: for nobody.
    pub async fn limits_of(&self, caller: &Principal, user: &str) -> Vec<LimitState> {
        self.limits.left(caller, user).await
    }

    /// Looks for changed connections and routes; for the server to call each second.
    pub async fn poll_revision(&self) {
        self.parts.connections.poll_revision().await;
        self.routes.poll_revision().await;
    }

    /// Sends what calls used of shared limits, and answers that are to be kept where servers share them, until the end; for the
    /// server to run once.
    pub async fn settle_shared(&self, end: impl Future<Output = ()> + Send) {
        let end = end.shared();
        let limits = async {
            if let Some(shared) = &self.parts.shared_limits {
                shared.settle(end.clone()).await;
            }
        };
        let answers = async {
            if let Some(cache) = &self.parts.cache {
                cache.run(end.clone()).await;
            }
        };
        tokio::join!(limits, answers);
    }

    /// The cache, if there is one.
    #[must_use]
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.parts.cache.as_ref()
    }

    /// What policies are told of candidates' scores, if anything.
    #[must_use]
    pub fn scores(&self) -> Option<&Arc<Scores>> {
        self.parts.scores.as_ref()
    }

    /// What guardrails leave of what is stored.
    pub fn masking(&self) -> &Masking {
        &self.parts.books.masking
    }

    /// The budgets.
    #[must_use]
    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.parts.budgets
    }

    pub(crate) fn entropy(&self) -> u64 {
        let mut bytes = [0; 8];
        self.parts.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
