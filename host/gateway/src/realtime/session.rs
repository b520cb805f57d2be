//! A session under way: two loops, one for each direction, and whatever may end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::tap::{Meaning, Tap};
use super::{Pin, RealtimeLimits, WRITE_BUFFER};
use crate::account::Meter;
use crate::answer::Told;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::routing::Candidate;
use crate::stream::Cut;

/// How long the other end has to answer a close.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest reason that a close frame holds.
const REASON: usize = 123;

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sender = SplitSink<Socket, Message>;
type Receiver = SplitStream<Socket>;

/// A session that both ends have agreed to.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) candidate: Candidate,
    pub(super) caller: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) meter: Meter,
    pub(super) told: Told,
    pub(super) cut: Cut,
    pub(super) leaving: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// The caller closed it.
    ByCaller(Option<CloseFrame>),
    /// The provider did.
    ByProvider(Option<CloseFrame>),
    /// The caller went away without a word.
    CallerGone,
    /// The caller sent what it mustn't.
    CallerFault(CloseCode, Refusal),
    /// We end it.
    Refused(CloseCode, Refusal),
}

/// When something was last heard, in milliseconds of the session.
struct Heard {
    begun: Instant,
    caller: AtomicU64,
    upstream: AtomicU64,
    /// A message, of either.
    message: AtomicU64,
}

impl Heard {
    fn note(&self, of: &AtomicU64) {
        of.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn silent(&self, of: &AtomicU64, limit: Duration) -> bool {
        Duration::from_millis(self.now().saturating_sub(of.load(Ordering::Relaxed))) >= limit
    }
}

impl Session {
    pub(super) async fn run(self) {
        let Self { gateway, candidate, caller, upstream, mut meter, mut told, mut cut, mut leaving } = self;
        let limits = gateway.parts.realtime;
        // Either fails only with its connection: then there is nobody to tell.
        let (Ok(caller), Ok(upstream)) = tokio::join!(caller, upstream) else { return };
        meter.end_attempt(None);
        let (mut to_caller, mut from_caller) = socket(caller, Role::Server, &limits).await.split();
        let (mut to_upstream, mut from_upstream) = socket(upstream, Role::Client, &limits).await.split();
        let zero = || AtomicU64::new(0);
        let heard = Heard { begun: Instant::now(), caller: zero(), upstream: zero(), message: zero() };
        let idle = gateway.parts.timeouts.idle;
        let (responding, mut responds) = watch::channel(false);
        let end = {
            let up = from_the_caller(&mut from_caller, &mut to_upstream, &heard, idle);
            let relayed = Relayed {
                gateway: &gateway,
                candidate: &candidate,
                meter: &mut meter,
                told: &mut told,
                responding,
            };
            let down = from_the_provider(&mut from_upstream, &mut to_caller, &heard, idle, relayed);
            let left = async {
                leaving.as_mut().await;
                // Never an error: the sender lives as long as the loop.
                let _ = responds.wait_for(|responding| !*responding).await;
            };
            tokio::select! {
                biased;
                refusal = cut.fired() => End::Refused(CloseCode::Away, refusal),
                () = left => End::Refused(CloseCode::Away, crate::stream::stopping()),
                () = tokio::time::sleep(limits.total) => End::expired("It lasted as long as a session may."),
                () = quiet(&heard, limits.idle) => End::expired("Nothing was said for too long."),
                end = up => end,
                end = down => end,
            }
        };
        end.account(&mut meter);
        // What it held is free before the goodbyes.
        drop(meter);
        let (caller_frame, upstream_frame) = end.frames();
        let farewell = async {
            if let Some(event) = end.event() {
                let _ = to_caller.send(Message::text(event)).await;
            }
            tokio::join!(
                close(to_caller, from_caller, caller_frame),
                close(to_upstream, from_upstream, upstream_frame)
            )
        };
        // Whoever doesn't answer is left without.
        let _ = timeout(FAREWELL, farewell).await;
    }
}

async fn socket(io: Upgraded, role: Role, limits: &RealtimeLimits) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(WRITE_BUFFER + limits.max_message_bytes)
        .max_message_size(Some(limits.max_message_bytes))
        .max_frame_size(Some(limits.max_message_bytes));
    WebSocketStream::from_raw_socket(TokioIo::new(io), role, Some(config)).await
}

/// Resolves when no message has passed for so long.
async fn quiet(heard: &Heard, limit: Duration) {
    while !heard.silent(&heard.message, limit) {
        let last = heard.begun + Duration::from_millis(heard.message.load(Ordering::Relaxed));
        tokio::time::sleep_until(last + limit).await;
    }
}

fn ticks(idle: Duration) -> tokio::time::Interval {
    let every = (idle / 3).max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The caller's messages on their way to the provider, and pings to the provider.
async fn from_the_caller(from: &mut Receiver, to: &mut Sender, heard: &Heard, idle: Duration) -> End {
    let mut ticks = ticks(idle);
    loop {
        let next = tokio::select! {
            next = from.next() => next,
            _ = ticks.tick() => {
                if heard.silent(&heard.upstream, idle) {
                    return End::provider_gone("sent nothing for too long");
                }
                if let Err(end) = pass(to, Message::Ping(Bytes::new()), idle).await {
                    return end;
                }
                continue;
            }
        };
        heard.note(&heard.caller);
        match next {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                heard.note(&heard.message);
                if let Err(end) = pass(to, message, idle).await {
                    return end;
                }
            }
            Some(Ok(Message::Close(frame))) => return End::ByCaller(frame),
            // The library answers pings itself.
            Some(Ok(_)) => {}
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { max_size, .. }))) => {
                let message = format!("A message has more than the {max_size} bytes that are allowed.");
                return End::CallerFault(CloseCode::Size, Refusal::client(413, "request_too_large", message));
            }
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return End::CallerGone;
            }
            Some(Err(Error::Protocol(_) | Error::Utf8(_))) => {
                let message = "What came isn't the WebSocket protocol.";
                return End::CallerFault(
                    CloseCode::Protocol,
                    Refusal::client(400, "invalid_request", message),
                );
            }
            Some(Err(_)) | None => return End::CallerGone,
        }
    }
}

/// Sends to the provider, which must take it in time.
async fn pass(to: &mut Sender, message: Message, idle: Duration) -> Result<(), End> {
    match timeout(idle, to.send(message)).await {
        // What it sent before it closed is yet to be read, by the other loop: it says why.
        Ok(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_))) => {
            std::future::pending().await
        }
        Ok(sent) => sent.map_err(|_| End::provider_gone("broke")),
        Err(_) => Err(End::provider_gone("takes nothing")),
    }
}

/// What the provider's loop works with beside its sockets.
struct Relayed<'a> {
    gateway: &'a Arc<Gateway>,
    candidate: &'a Candidate,
    meter: &'a mut Meter,
    told: &'a mut Told,
    responding: watch::Sender<bool>,
}

/// The provider's messages on their way to the caller, and pings to the caller.
async fn from_the_provider(
    from: &mut Receiver,
    to: &mut Sender,
    heard: &Heard,
    idle: Duration,
    relayed: Relayed<'_>,
) -> End {
    let Relayed { gateway, candidate, meter, told, responding } = relayed;
    let (mut ticks, mut tap) = (ticks(idle), Tap::default());
    loop {
        let next = tokio::select! {
            next = from.next() => next,
            _ = ticks.tick() => {
                if heard.silent(&heard.caller, idle) || to.send(Message::Ping(Bytes::new())).await.is_err() {
                    return End::CallerGone;
                }
                continue;
            }
        };
        heard.note(&heard.upstream);
        let message = match next {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
            Some(Ok(Message::Close(frame))) => return End::ByProvider(frame),
            Some(Ok(_)) => continue,
            Some(Err(Error::Capacity(_))) => return End::provider_gone("sent too large a message"),
            Some(Err(_)) | None => return End::provider_gone("broke"),
        };
        heard.note(&heard.message);
        let meaning = match &message {
            Message::Text(text) => tap.read(text.as_bytes(), meter),
            _ => Meaning::Other,
        };
        // Told before it is passed on: a caller that goes away with it has used it, too.
        let charged = match meaning {
            Meaning::Done => meter.charge_so_far(gateway, &candidate.connection, &candidate.model, told),
            _ => Ok(()),
        };
        if to.send(message).await.is_err() {
            return End::CallerGone;
        }
        if let Err(refusal) = charged {
            return End::Refused(CloseCode::Policy, refusal);
        }
        match meaning {
            Meaning::Other => {}
            Meaning::Begun => _ = responding.send_replace(true),
            Meaning::Done => _ = responding.send_replace(false),
        }
    }
}

impl End {
    fn expired(why: &str) -> Self {
        let message = format!("The session is over. {why}");
        Self::Refused(CloseCode::Normal, Refusal::client(408, "session_expired", message))
    }

    fn provider_gone(how: &str) -> Self {
        let message = format!("The provider's connection {how}.");
        Self::Refused(CloseCode::Error, Refusal::upstream(502, "upstream_disconnected", message))
    }

    /// Closes the account; of a caller that went away the meter itself says so.
    fn account(&self, meter: &mut Meter) {
        match self {
            Self::CallerGone => {}
            Self::ByProvider(Some(frame)) if !matches!(frame.code, CloseCode::Normal | CloseCode::Away) => {
                let message = format!("The provider closed the session with {}.", frame.code);
                meter.refuse(&Refusal::upstream(502, "upstream_error", message), Some(101));
            }
            Self::ByCaller(_) | Self::ByProvider(_) => {
                meter.complete();
                meter.note(|observation| observation.http_status = Some(101));
            }
            Self::CallerFault(_, refusal) | Self::Refused(_, refusal) => meter.refuse(refusal, Some(101)),
        }
    }

    /// What both ends are told by their close frames.
    fn frames(&self) -> (Option<CloseFrame>, Option<CloseFrame>) {
        let frame = |code, reason: &str| Some(CloseFrame { code, reason: reason.into() });
        match self {
            Self::ByCaller(given) | Self::ByProvider(given) => {
                // What no frame may say isn't said.
                let given = given.clone().filter(|frame| frame.code.is_allowed());
                (given.clone(), given)
            }
            Self::CallerGone => (None, frame(CloseCode::Away, "")),
            Self::CallerFault(code, refusal) | Self::Refused(code, refusal) => {
                let reason = refusal.code.get(..REASON).unwrap_or(&refusal.code);
                (frame(*code, reason), frame(CloseCode::Normal, ""))
            }
        }
    }

    /// What the caller is told before, as the Realtime API tells errors.
    fn event(&self) -> Option<String> {
        let (Self::CallerFault(_, refusal) | Self::Refused(_, refusal)) = self else { return None };
        let error = serde_json::json!({"type": "error", "error": {
            "type": refusal.kind(), "code": refusal.code, "message": refusal.message,
            "param": refusal.param, "event_id": null,
        }});
        Some(error.to_string())
    }
}

/// Says goodbye, and reads on until the other end has.
async fn close(mut to: Sender, mut from: Receiver, frame: Option<CloseFrame>) {
    // Answers a close that came, or is the first to send one.
    let _ = to.send(Message::Close(frame)).await;
    while let Some(Ok(_)) = from.next().await {}
    // What it sent and nobody read would reset the connection, and destroy the goodbye.
    if let Ok(mut socket) = to.reunite(from) {
        let _ = socket.get_mut().shutdown().await;
        let mut ignored = [0; 4_096];
        while socket.get_mut().read(&mut ignored).await.is_ok_and(|size| size > 0) {}
    }
}
