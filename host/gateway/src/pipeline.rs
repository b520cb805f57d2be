//! The stages of a call, in their order. Each takes what the one before gives; the first refusal ends the call.
//!
//! Accounting is no stage: the meter is opened by [`Identify`] and closed when it is dropped, whatever happens.

use std::sync::Arc;

use brokle_identity::{AuthError, Principal};
use brokle_plugins::Snapshot;

use crate::account::Meter;
use crate::answer::Told;
use crate::attempts::Served;
use crate::cache::{Look, LookAgain};
use crate::dialects;
use crate::gateway::{Gateway, Incoming};
use crate::guardrails::{Ask, GuardRequest};
use crate::limits::Reserve;
use crate::refusal::{Fault, Refusal};
use crate::request::Request;
use crate::routing::conditions::Said;
use crate::routing::decide::Asked;
use crate::routing::plan::{Plan, Ruled};
use crate::routing::preferences::Preferences;
use crate::routing::table::{Table, find};
use crate::shadow::Shadows;

/// A call on its way: what the stages know of it so far.
pub(crate) struct Stage<'a, T> {
    pub(crate) incoming: Incoming<'a>,
    pub(crate) meter: &'a mut Meter,
    pub(crate) told: &'a mut Told,
    /// What served when the call began.
    pub(crate) plugins: Arc<Snapshot>,
    pub(crate) known: T,
}

macro_rules! stages {
    ($gateway:expr, $call:expr => $($(#[$doc:meta])* $stage:ident),+ $(,)?) => {{
        let call = $call;
        $(let call = $stage::run($gateway, call).await?;)+
        Ok(call)
    }};
}

/// Runs a call.
pub(crate) async fn run(gateway: &Gateway, call: Stage<'_, ()>) -> Result<Served, Refusal> {
    stages! { gateway, call =>
        // Whose key is it, and may it call models?
        Identify,
        // Has the key requests left?
        Limits,
        // Is the request well formed, and what does it want?
        Read,
        // Which route is it for, and what does that say of the call?
        Choose,
        // Has its caller anything left, of what rules allow?
        Reserve,
        // May it go to a model, and with which words?
        GuardRequest,
        // Was it asked and answered before?
        Look,
        // Who can serve it, and in which order are they asked?
        Route,
        // Was it answered before by whom the policy chose, where that makes a difference?
        LookAgain,
        // Ask them, until one answers with what may reach the caller.
        Ask,
    }
}

impl<'a, T> Stage<'a, T> {
    pub(crate) fn with<U>(self, known: U) -> (T, Stage<'a, U>) {
        let Self { incoming, meter, told, plugins, known: before } = self;
        (before, Stage { incoming, meter, told, plugins, known })
    }
}

/// Whose call it is, and the routes that it may be for: what is withheld, and which one is chosen, goes by the same ones.
pub(crate) struct Caller {
    pub(crate) principal: Arc<Principal>,
    routes: Arc<Table>,
}

struct Identify;

impl Identify {
    async fn run<'a>(gateway: &Gateway, call: Stage<'a, ()>) -> Result<Stage<'a, Caller>, Refusal> {
        let principal = identified(call.incoming.caller.clone())?;
        call.meter.open(&principal, &call.incoming);
        let routes = gateway.routes.of(principal.tenant).await;
        if routes.keeps_back() || gateway.parts.guardrails.withhold(&principal) {
            call.meter.withhold_input();
        }
        Ok(call.with(Caller { principal, routes }).1)
    }
}

/// A caller who may call models.
pub(crate) fn identified(caller: Result<Arc<Principal>, AuthError>) -> Result<Arc<Principal>, Refusal> {
    let principal = caller.map_err(denied)?;
    if !principal.scopes.allows(brokle_identity::Scope::Gateway) {
        let message = "This API key may not call models: it lacks the scope 'gateway'.";
        return Err(Refusal::client(403, "insufficient_scope", message));
    }
    Ok(principal)
}

fn denied(error: AuthError) -> Refusal {
    match error {
        AuthError::Unavailable => {
            let message = "API keys can't be checked right now. Try again shortly.";
            let refusal = Refusal::client(503, "auth_unavailable", message);
            let retry_after = Some(std::time::Duration::from_secs(2));
            Refusal { fault: Fault::Internal, retry_after, ..refusal }
        }
        AuthError::Endpoint => {
            let message = "This API key may not be used for this endpoint.";
            Refusal::client(403, "endpoint_not_allowed", message)
        }
        AuthError::Address => {
            let message = "This API key may not be used from this address.";
            Refusal::client(403, "address_not_allowed", message)
        }
        // The same words for unknown, revoked and expired: a key's past is no business of a stranger's.
        AuthError::Missing => Refusal::client(
            401,
            "invalid_api_key",
            "You didn't provide an API key. Put it into an Authorization header: Authorization: Bearer bk_...",
        ),
        AuthError::Expired => Refusal::client(401, "invalid_api_key", "The API key has expired."),
        AuthError::Revoked => Refusal::client(401, "invalid_api_key", "The API key has been revoked."),
        _ => Refusal::client(401, "invalid_api_key", "Incorrect API key provided."),
    }
}

struct Limits;

impl Limits {
    async fn run<'a>(gateway: &Gateway, call: Stage<'a, Caller>) -> Result<Stage<'a, Caller>, Refusal> {
        take(gateway, &call.known.principal, call.told).await?;
        Ok(call)
    }
}

/// Takes one of the key's requests per minute.
pub(crate) async fn take(gateway: &Gateway, principal: &Principal, told: &mut Told) -> Result<(), Refusal> {
    match gateway.limits.take_key(principal, principal.requests_per_minute).await {
        Ok(allowance) => {
            told.standing.requests = Some(allowance);
            Ok(())
        }
        Err(exceeded) => {
            told.standing = exceeded.standing;
            Err(*exceeded.refusal)
        }
    }
}

struct Read;

impl Read {
    async fn run<'a>(
        _gateway: &Gateway,
        mut call: Stage<'a, Caller>,
    ) -> Result<Stage<'a, (Caller, Box<Request>)>, Refusal> {
        let request = match call.incoming.dialect {
            None if call.incoming.operation.is_form() => {
                // Pictures and recordings aren't kept.
                call.meter.withhold_input();
                let kind = call.incoming.headers.get(http::header::CONTENT_TYPE);
                let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                Request::read_form(call.incoming.operation, kind, &call.incoming.body)?
            }
            None => Request::read(call.incoming.operation, call.incoming.body.clone())?,
            Some(asking) => Box::pin(dialects::read(&mut call, asking)).await?,
        };
        call.meter.note(|observation| {
            observation.model_requested = Some(request.model.as_str().into());
            observation.streaming = request.streaming;
            observation.name = format!("{} {}", request.operation.gen_ai_name(), request.model).into();
            if observation.user.is_none() {
                observation.user =
                    request.user.as_deref().map(|user| user.chars().take(256).collect::<String>().into());
            }
        });
        let (caller, call) = call.with(());
        // In a box: it is moved from stage to stage.
        Ok(call.with((caller, Box::new(request))).1)
    }
}

struct Choose;

impl Choose {
    async fn run<'a>(
        gateway: &Gateway,
        call: Stage<'a, (Caller, Box<Request>)>,
    ) -> Result<Stage<'a, (Arc<Principal>, Box<Request>)>, Refusal> {
        let ((Caller { principal, routes }, mut request), call) = call.with(());
        request.choose(|model| find(&routes, call.incoming.headers, model))?;
        if let Some(most) = request.rules().and_then(|rules| rules.capture) {
            call.meter.capture_at_most(most);
        }
        let named = request.rules().map_or(&[][..], |rules| &rules.guardrails);
        let guardrails = &gateway.parts.guardrails;
        if routes.keeps_back() && !request.is_form() && !guardrails.withhold_for(&principal, named) {
            call.meter.input(&call.incoming.body);
        }
        Ok(call.with((principal, request)).1)
    }
}

struct Route;

impl Route {
    async fn run<'a>(
        gateway: &Gateway,
        call: Stage<'a, (Arc<Principal>, Box<Request>)>,
    ) -> Result<Stage<'a, (Arc<Principal>, Box<Request>, Plan)>, Refusal> {
        let ((principal, request), call) = call.with(());
        // A guardrail may send even a known answer back, and then somebody has to give another one.
        let guarded = request.guards.as_ref().is_some_and(|chain| chain.rules_on_answers());
        if request.cached.is_some() && !guarded {
            return Ok(call.with((principal, request, Plan::default())).1);
        }
        let plugins = Arc::clone(&call.plugins);
        let view = plugins.of(principal.tenant);
        let connections = gateway.parts.connections.of(principal.tenant, view).await;
        let said = Said { principal: &principal, headers: call.incoming.headers, request: &request };
        let asked = Asked { view, said };
        let mut found = asked.candidates(gateway, &connections)?;
        let ruled = request.route.as_ref().and_then(|route| Ruled::new(route, &connections, &said));
        let mut rules = ruled.map(Arc::new);
        if let Some(owner) =
            request.dialect.as_ref().and_then(|dialect| dialect.owner(gateway, principal.tenant))
        {
            found.candidates.retain(|candidate| candidate.connection.id == owner);
            // Nobody else has what it goes on from.
            rules = None;
            if found.candidates.is_empty() {
                let previous = request.dialect.as_ref().and_then(|dialect| dialect.asked.previous.as_deref());
                return Err(dialects::not_kept(previous.unwrap_or_default()));
            }
        }
        let decision = asked.decide(gateway, found, false).await?;
        let candidates = decision.conclude(gateway, call.meter)?;
        let preferences = request.preferences.as_deref();
        let alone = preferences.is_some_and(Preferences::allows_no_fallbacks);
        let plan = Plan { candidates, rules, preferred: preferences.is_some(), alone };
        let request_id = call.incoming.request_id;
        if let Some(part) = Shadows::part(gateway, &principal, &said, &plan, &connections, request_id) {
            call.meter.compare(part);
        }
        Ok(call.with((principal, request, plan)).1)
    }
}
