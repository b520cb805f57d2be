//! `/ws`: the same as messages of a WebSocket, several subscriptions at once.
//!
//! | what | limit | then closed with |
//! |---|---|---|
//! | the first message, if neither a header nor a ticket said who it is | [`AUTH_PATIENCE`] | 4408 |
//! | a message | [`MAX_MESSAGE`] bytes, text | 1009, 4400 |
//! | subscriptions | [`MAX_SUBSCRIPTIONS`] | an `error`, not closed |
//! | sockets and streams of a key | as configured | 4429 |
//! | a client that takes nothing, or misses events | [`SEND_PATIENCE`] | 4008 |
//! | a client that answers no ping | [`SILENCE`] | 4408 |
//! | a key that isn't valid (any more), or lacks the scope | | 4401, 4403 |
//! | the server stops | | 1001 |

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use brokle_storage::observations::Summary;
use brokle_storage::observations::query::Filter;
use futures_util::Stream;
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};
use utoipa::IntoParams;

use super::{Event, Lagged, filter, place, redeem, watching};
use crate::app::App;
use crate::auth::{self, Lasting, Visitor};
use crate::error::ApiError;
use crate::watching::Watching;

/// How long a client has to say who it is.
const AUTH_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a client's message.
const MAX_MESSAGE: usize = 64 << 10;
/// Subscriptions of one socket.
const MAX_SUBSCRIPTIONS: usize = 16;
/// How long a client may take nothing.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client that was told to end has to do so.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client may say nothing, though it is pinged.
const SILENCE: Duration = Duration::from_secs(45);

const GOING_AWAY: u16 = 1001;
const SLOW: u16 = 4008;
const BAD_MESSAGE: u16 = 4400;
const UNAUTHORIZED: u16 = 4401;
const FORBIDDEN: u16 = 4403;
const LATE: u16 = 4408;
const TOO_MANY: u16 = 4429;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct SocketQuery {
    /// A ticket of `POST /api/v1/streaming/tickets`; otherwise a header or the first message says who it is.
    ticket: Option<String>,
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Auth { api_key: Option<String>, ticket: Option<String> },
    Subscribe { id: String, filter: Option<String>, last_event_id: Option<String> },
    Unsubscribe { id: String },
    Ping {},
}

/// What it hears.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Reply<'a> {
    Authenticated {},
    Subscribed {
        id: &'a str,
    },
    Unsubscribed {
        id: &'a str,
    },
    /// Events before this one are lost.
    Gap {
        id: &'a str,
    },
    Observation {
        id: &'a str,
        event_id: String,
        data: Box<Summary>,
    },
    Pong {},
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        code: &'a str,
        message: &'a str,
    },
}

/// Why a socket ends.
enum End {
    /// The client is gone.
    Gone,
    /// It is told why.
    Close(u16, &'static str),
}

/// Opens a WebSocket for live events.
#[utoipa::path(get, path = "/ws", tag = "streaming", security(("bearer" = []), ("api_key" = []), ()),
    params(SocketQuery),
    responses((status = 101, description = "A WebSocket; its messages are in `docs/streaming.md`"),
        (status = 403, description = "`origin_not_allowed`", body = crate::error::Problem),
        (status = 426, description = "It isn't a WebSocket's handshake", body = crate::error::Problem)))]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    query: Result<Query<SocketQuery>, QueryRejection>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let watching = Arc::clone(watching(&app)?);
    watching.check_origin(&parts.headers)?;
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", rejection.body_text())
    })?;
    let visitor = Visitor::of(&parts);
    let caller = match (&query.ticket, auth::presented_key(&parts.headers)) {
        (Some(ticket), _) => Some(redeem(&app, &watching, &visitor, ticket).await?),
        (None, Some(key)) => Some(visitor.identify(&app, Some(key)).await?),
        (None, None) => None,
    };
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async move |socket| {
        let mut session =
            Session { app, watching, visitor, socket, subscriptions: VecDeque::new(), heard: Instant::now() };
        if let Err(End::Close(code, reason)) = session.run(caller).await {
            let frame = CloseFrame { code, reason: reason.into() };
            // Whoever takes nothing doesn't hear this either.
            let _ = timeout(SEND_PATIENCE, session.socket.send(Message::Close(Some(frame)))).await;
            // What the client still says is read: closing before would destroy what it hasn't read yet.
            let said = async { while let Some(Ok(_)) = session.socket.recv().await {} };
            let _ = timeout(LINGER, said).await;
        }
    }))
}

type Events = Pin<Box<dyn Stream<Item = Result<Arc<Event>, Lagged>> + Send>>;

struct Subscribed {
    id: String,
    filter: Filter,
    events: Events,
}

struct Session {
    app: Arc<App>,
    watching: Arc<Watching>,
    visitor: Visitor,
    socket: WebSocket,
    /// The one that was served last is the last.
    subscriptions: VecDeque<Subscribed>,
    /// When the client last said anything.
    heard: Instant,
}

/// What happened next.
enum Step {
    Heard(Request),
    Event(String, Result<Arc<Event>, Lagged>),
    Heartbeat,
    Draining,
}

impl Session {
    async fn run(&mut self, caller: Option<Lasting>) -> Result<(), End> {
        let caller = match caller {
            Some(caller) => caller,
            None => self.authenticate().await?,
        };
        let key = caller.principal().key_id;
        let _place = self.watching.admit(key).map_err(|_| End::Close(TOO_MANY, "too_many_streams"))?;
        self.send(&Reply::Authenticated {}).await?;
        let (mut heartbeat, draining) = (self.watching.heartbeats(), self.app.lifecycle.draining().clone());
        loop {
            let step = tokio::select! {
                () = draining.cancelled() => Step::Draining,
                _ = heartbeat.tick() => Step::Heartbeat,
                request = receive(&mut self.socket, &mut self.heard) => Step::Heard(request?),
                (id, event) = next(&mut self.subscriptions) => Step::Event(id, event),
            };
            match step {
                Step::Draining => return Err(End::Close(GOING_AWAY, "shutting_down")),
                Step::Heartbeat => self.beat(&caller).await?,
                Step::Heard(request) => self.answer(&caller, request).await?,
                Step::Event(_, Err(Lagged { .. })) => return Err(End::Close(SLOW, "slow_consumer")),
                Step::Event(id, Ok(event)) => {
                    let data = Box::new(Summary::from(&event.observation));
                    self.send(&Reply::Observation { id: &id, event_id: event.id.to_string(), data }).await?;
                }
            }
        }
    }

    async fn authenticate(&mut self) -> Result<Lasting, End> {
        let deadline = Instant::now() + AUTH_PATIENCE;
        let first = timeout_at(deadline, receive(&mut self.socket, &mut self.heard)).await;
        let found = match first.map_err(|_| End::Close(LATE, "not_authenticated"))?? {
            Request::Auth { ticket: Some(ticket), api_key: None } => {
                redeem(&self.app, &self.watching, &self.visitor, &ticket).await
            }
            Request::Auth { api_key: Some(key), ticket: None } => {
                self.visitor.identify(&self.app, Some(&key)).await
            }
            _ => return Err(End::Close(UNAUTHORIZED, "not_authenticated")),
        };
        found.map_err(|error| match error.status {
            StatusCode::FORBIDDEN => End::Close(FORBIDDEN, error.code),
            StatusCode::TOO_MANY_REQUESTS => End::Close(TOO_MANY, error.code),
            status if status.is_server_error() => End::Close(1013, error.code),
            _ => End::Close(UNAUTHORIZED, error.code),
        })
    }

    async fn beat(&mut self, caller: &Lasting) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE {
            return Err(End::Close(LATE, "silent"));
        }
        caller.check(&self.app).await.map_err(|_| End::Close(UNAUTHORIZED, "invalid_api_key"))?;
        self.put(Message::Ping(bytes::Bytes::new())).await
    }

    async fn answer(&mut self, caller: &Lasting, request: Request) -> Result<(), End> {
        match request {
            Request::Ping {} => self.send(&Reply::Pong {}).await,
            Request::Auth { .. } => {
                self.send(&Reply::Error {
                    id: None,
                    code: "invalid_request",
                    message: "auth comes first, and once",
                })
                .await
            }
            Request::Unsubscribe { id } => {
                let before = self.subscriptions.len();
                self.subscriptions.retain(|one| one.id != id);
                if self.subscriptions.len() == before {
                    let message = "there is no such subscription";
                    return self.send(&Reply::Error { id: Some(&id), code: "not_found", message }).await;
                }
                self.send(&Reply::Unsubscribed { id: &id }).await
            }
            Request::Subscribe { id, filter, last_event_id } => {
                match self.subscribe(caller, &id, filter.as_deref(), last_event_id.as_deref()) {
                    Ok(has_gap) => {
                        self.send(&Reply::Subscribed { id: &id }).await?;
                        if has_gap { self.send(&Reply::Gap { id: &id }).await } else { Ok(()) }
                    }
                    Err(error) => {
                        let (code, message) = (error.code, &*error.message);
                        self.send(&Reply::Error { id: Some(&id), code, message }).await
                    }
                }
            }
        }
    }

    /// Whether events between the last one and the next are lost.
    fn subscribe(
        &mut self,
        caller: &Lasting,
        id: &str,
        text: Option<&str>,
        after: Option<&str>,
    ) -> Result<bool, ApiError> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let message = format!("a socket has at most {MAX_SUBSCRIPTIONS} subscriptions");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_subscriptions", message));
        }
        if id.is_empty() || id.len() > 64 || self.subscriptions.iter().any(|one| one.id == id) {
            let message = "id: 1 to 64 bytes are expected that no other subscription has";
            return Err(ApiError::invalid_request(message).param("id"));
        }
        let (filter, after) = (filter(text)?, place(after)?);
        let subscription = self.watching.live.subscribe(caller.principal().tenant.project, after);
        let has_gap = subscription.has_gap();
        let events = futures_util::stream::unfold(subscription, |mut subscription| async {
            let event = subscription.next().await;
            Some((event, subscription))
        });
        self.subscriptions.push_back(Subscribed { id: id.to_owned(), filter, events: Box::pin(events) });
        Ok(has_gap)
    }

    async fn send(&mut self, reply: &Reply<'_>) -> Result<(), End> {
        let text = serde_json::to_string(reply).map_err(|_| End::Close(1011, "internal_error"))?;
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(SLOW, "slow_consumer")),
        }
    }
}

/// The client's next message; pings are answered beneath.
async fn receive(socket: &mut WebSocket, heard: &mut Instant) -> Result<Request, End> {
    loop {
        let message = socket.recv().await.and_then(Result::ok).ok_or(End::Gone)?;
        *heard = Instant::now();
        match message {
            Message::Text(text) => {
                let bad = |_| End::Close(BAD_MESSAGE, "invalid_request");
                return serde_json::from_str(&text).map_err(bad);
            }
            Message::Binary(_) => return Err(End::Close(BAD_MESSAGE, "invalid_request")),
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// The next event that passes a subscription's filter, of each in turn; never without any.
async fn next(subscriptions: &mut VecDeque<Subscribed>) -> (String, Result<Arc<Event>, Lagged>) {
    poll_fn(|context| {
        for at in 0..subscriptions.len() {
            let Some(one) = subscriptions.get_mut(at) else { break };
            while let Poll::Ready(Some(event)) = one.events.as_mut().poll_next(context) {
                if event.as_ref().is_ok_and(|event| !one.filter.passes(&event.observation)) {
                    continue;
                }
                let id = one.id.clone();
                subscriptions.rotate_left(at + 1);
                return Poll::Ready((id, event));
            }
        }
        Poll::Pending
    })
    .await
}
