//! `/api/v1/streaming/…` and `/ws`: a project's calls and spans as they come. What is told, and when, is
//! [`brokle_telemetry::live`]'s; how it looks to clients is `docs/streaming.md`.

pub mod socket;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use brokle_identity::api_key::KeyHash;
use brokle_storage::observations::Summary;
use brokle_storage::observations::query::{Filter, Subject};
use brokle_telemetry::live::{Event, EventId, Lagged, Subscription, TICKET_TTL, TicketError};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::Interval;
use utoipa::{IntoParams, ToSchema};

use super::queries;
use crate::app::App;
use crate::auth::{self, Lasting, Visitor};
use crate::error::{ApiError, Problem};
use crate::watching::{HEARTBEAT, Place, Watching};

/// How long a client waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 3_000;
/// The place that a client goes on from.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What is listened to.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuery {
    /// The filter language of `docs/queries.md`; not `scores.…`, which are given later.
    filter: Option<String>,
    /// A ticket of `POST /api/v1/streaming/tickets`, for who can't send a header.
    ticket: Option<String>,
    /// The same as the header `Last-Event-ID`, for who can't send that.
    last_event_id: Option<String>,
}

/// A ticket for one stream or socket.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ticket {
    /// To be sent once, as `?ticket=` or in a socket's first message.
    ticket: String,
    /// Seconds until it is worth nothing.
    expires_in: u64,
}

/// Makes a one-time ticket for a browser's stream or socket. It stands for the key that asks.
#[utoipa::path(post, path = "/api/v1/streaming/tickets", tag = "streaming",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 201, description = "Good for one stream or socket, within 30 seconds", body = Ticket),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 503, description = "Tickets can't be kept now", body = Problem)))]
pub(crate) async fn ticket(
    State(app): State<Arc<App>>,
    parts: Parts,
) -> Result<(StatusCode, Json<Ticket>), ApiError> {
    let visitor = Visitor::of(&parts);
    let caller = visitor.identify(&app, auth::presented_key(&parts.headers)).await?;
    let ticket = watching(&app)?.tickets.issue(*caller.hash().as_bytes()).await.map_err(no_ticket)?;
    Ok((StatusCode::CREATED, Json(Ticket { ticket, expires_in: TICKET_TTL.as_secs() })))
}

/// Streams the key's project's calls and spans as they come, as server-sent events.
#[utoipa::path(get, path = "/api/v1/streaming/traces", tag = "streaming",
    security(("bearer" = []), ("api_key" = [])),
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this event")),
    responses((status = 200, description = "Events `open`, `observation`, `gap`, `lagged` and `closing`", body = String,
            content_type = "text/event-stream"),
        (status = 400, description = "`invalid_filter` with the place, `invalid_request`", body = Problem),
        (status = 401, description = "No key, or a ticket that is none, was used or is too old", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:read`; `origin_not_allowed`", body = Problem),
        (status = 429, description = "`too_many_streams`: the key has as many open as it may", body = Problem)))]
pub(crate) async fn traces(
    State(app): State<Arc<App>>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    parts: Parts,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let watching = Arc::clone(watching(&app)?);
    watching.check_origin(&parts.headers)?;
    let visitor = Visitor::of(&parts);
    let caller = match &query.ticket {
        Some(ticket) => redeem(&app, &watching, &visitor, ticket).await?,
        None => visitor.identify(&app, auth::presented_key(&parts.headers)).await?,
    };
    let filter = filter(query.filter.as_deref())?;
    let given = parts.headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let after = place(given.or(query.last_event_id.as_deref()))?;
    let place = watching.admit(caller.principal().key_id)?;
    let subscription = watching.live.subscribe(caller.principal().tenant.project, after);
    let mut text = format!("retry: {RETRY_MS}\n");
    write_event(
        &mut text,
        "open",
        Some(subscription.place()).filter(|_| after.is_none()),
        &serde_json::json!({}),
    );
    if subscription.has_gap() {
        write_event(
            &mut text,
            "gap",
            None,
            &Notice::new("gap", "Events before this one are lost: ask for them."),
        );
    }
    let feed = Feed {
        app,
        caller,
        filter,
        subscription,
        heartbeat: watching.heartbeats(),
        _place: place,
        is_over: false,
    };
    let first = futures_util::stream::iter([Ok::<_, ApiError>(Bytes::from(text))]);
    let rest = futures_util::stream::unfold(feed, |mut feed| async {
        let text = feed.next().await?;
        Some((Ok(Bytes::from(text)), feed))
    });
    let mut answer = Response::new(Body::from_stream(futures_util::StreamExt::chain(first, rest)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What nginx understands as "don't hold it back".
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(answer)
}

/// A stream under way.
struct Feed {
    app: Arc<App>,
    caller: Lasting,
    filter: Filter,
    subscription: Subscription,
    heartbeat: Interval,
    _place: Place,
    is_over: bool,
}

impl Feed {
    /// What to send next; none at the end.
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        let mut text = String::new();
        loop {
            tokio::select! {
                () = self.app.lifecycle.draining().cancelled() => {
                    return Some(self.end("closing", "shutting_down", "The server is shutting down: come back."));
                }
                _ = self.heartbeat.tick() => {
                    if self.caller.check(&self.app).await.is_err() {
                        return Some(self.end("closing", "invalid_api_key", "The API key isn't valid any more."));
                    }
                    // An id without data: the client's place moves, and no event is dispatched.
                    let _ = write!(text, ": ping\nid: {}\n\n", self.subscription.place());
                    return Some(text);
                }
                event = self.subscription.next() => match event {
                    Ok(event) if self.filter.passes(&event.observation) => {
                        write_event(&mut text, "observation", Some(event.id), &Summary::from(&event.observation));
                        return Some(text);
                    }
                    Ok(_) => {}
                    Err(Lagged { .. }) => {
                        return Some(self.end("lagged", "slow_consumer", "Too slow: events were missed. Come back."));
                    }
                },
            }
        }
    }

    fn end(&mut self, name: &str, code: &'static str, message: &'static str) -> String {
        self.is_over = true;
        let mut text = String::new();
        write_event(&mut text, name, None, &Notice::new(code, message));
        text
    }
}

/// What a stream says of itself.
#[derive(Serialize)]
struct Notice {
    code: &'static str,
    message: &'static str,
}

impl Notice {
    const fn new(code: &'static str, message: &'static str) -> Self {
        Self { code, message }
    }
}

/// As [the HTML standard](https://html.spec.whatwg.org/multipage/server-sent-events.html) has it; JSON has no line breaks.
fn write_event(out: &mut String, name: &str, id: Option<EventId>, data: &impl Serialize) {
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    let data = serde_json::to_string(data).unwrap_or_default();
    let _ = write!(out, "event: {name}\ndata: {data}\n\n");
}

fn watching(app: &App) -> Result<&Arc<Watching>, ApiError> {
    app.watching.as_ref().ok_or_else(|| ApiError::internal("this server has no live streams"))
}

fn filter(text: Option<&str>) -> Result<Filter, ApiError> {
    let filter = queries::filter(text, Subject::Observations)?;
    if filter.asks_for_scores() {
        let message = "filter: scores are given later: they can't be asked for in a live stream";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_filter", message).param("filter"));
    }
    Ok(filter)
}

fn place(text: Option<&str>) -> Result<Option<EventId>, ApiError> {
    let wrong = |error| ApiError::invalid_request(format!("last_event_id: {error}")).param("last_event_id");
    text.filter(|text| !text.is_empty()).map(|text| text.parse().map_err(wrong)).transpose()
}

/// Whom a ticket stands for.
async fn redeem(
    app: &App,
    watching: &Watching,
    visitor: &Visitor,
    ticket: &str,
) -> Result<Lasting, ApiError> {
    let Some(holder) = watching.tickets.redeem(ticket).await.map_err(no_ticket)? else {
        let message = "The ticket is none, was used, or is too old.";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_ticket", message));
    };
    visitor.recognize(app, KeyHash::from_bytes(holder)).await
}

fn no_ticket(error: TicketError) -> ApiError {
    let message = "Tickets can't be kept at the moment. Try again.";
    ApiError {
        source: Some(Arc::new(error)),
        ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "tickets_unavailable", message)
            .retry_after(HEARTBEAT)
    }
}
