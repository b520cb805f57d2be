//! Between instances: Redis pub/sub.
//!
//! An instance subscribes to the one pub/sub channel while somebody listens there, and publishes while somebody listens
//! elsewhere, which it asks Redis once per [`LOOK`] (`PUBSUB NUMSUB`). A message is the publisher's id and a batch as
//! [`frame`] writes it; an instance passes over its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::observation::Observation;
use futures_util::StreamExt as _;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, PubSubStream};
use redis::{Client, RedisError, RedisResult};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Live;
use crate::frame::{self, Encoder};
use crate::rows::Row;
use crate::shared::Outage;

/// How often to look who listens.
const LOOK: Duration = Duration::from_secs(1);
/// How long Redis may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pub/sub channel.
const TOPIC: &str = "brokle:live";

/// Tells other instances, and is told by them.
pub struct Relay {
    live: Arc<Live>,
    client: Client,
    connection: ConnectionManager,
    id: [u8; 8],
}

impl fmt::Debug for Relay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows a password.
        out.debug_struct("Relay").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Relay {
    /// One by way of this Redis. Connects when it runs.
    ///
    /// # Errors
    /// When the client's address is none.
    pub fn new(live: Arc<Live>, client: Client) -> RedisResult<Self> {
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), patient())?;
        let mut id = [0; 8];
        live.random.fill(&mut id);
        Ok(Self { live, client, connection, id })
    }

    /// Runs for ever; once per [`Live`].
    pub async fn run(mut self) {
        let Some(mut outbox) = self.live.waiting.lock().take() else { return };
        let (mut encoder, outage) = (Encoder::new(), Outage::default());
        let mut messages: Option<PubSubStream> = None;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                rows = outbox.recv() => match rows {
                    Some(rows) => self.send(&mut encoder, &rows).await,
                    None => return,
                },
                message = next(&mut messages) => {
                    match message {
                        Some(message) => self.receive(message.get_payload_bytes()),
                        // Its connection has ended: made anew at the next look.
                        None => messages = None,
                    }
                    Ok(())
                }
                () = self.live.opened.notified() => self.look(&mut messages).await,
                _ = look.tick() => self.look(&mut messages).await,
            };
            match outcome {
                Ok(()) => outage.ended("live events of other instances come again"),
                Err(error) => {
                    self.live.elsewhere.store(false, Ordering::SeqCst);
                    outage.began(&error, "Redis doesn't answer: live events stay on their instance");
                }
            }
        }
    }

    /// Who listens: here, then elsewhere.
    async fn look(&mut self, messages: &mut Option<PubSubStream>) -> RedisResult<()> {
        if !self.live.is_wanted_here() {
            *messages = None;
        } else if messages.is_none() {
            let subscribe = async {
                let mut pubsub = self.client.get_async_pubsub().await?;
                pubsub.subscribe(TOPIC).await?;
                Ok::<_, RedisError>(pubsub.into_on_message())
            };
            *messages = Some(timeout(PATIENCE, subscribe).await.map_err(|_| late())??);
        }
        let mut ask = redis::cmd("PUBSUB");
        ask.arg("NUMSUB").arg(TOPIC);
        let (_, listening): (String, usize) = ask.query_async(&mut self.connection).await?;
        let here = usize::from(messages.is_some());
        self.live.elsewhere.store(listening > here, Ordering::SeqCst);
        Ok(())
    }

    async fn send(&mut self, encoder: &mut Encoder, rows: &[Observation]) -> RedisResult<()> {
        let Ok(body) = encoder.encode(rows.iter().map(Row::Observation)) else { return Ok(()) };
        let message = [&self.id[..], &body].concat();
        redis::cmd("PUBLISH").arg(TOPIC).arg(message).exec_async(&mut self.connection).await
    }

    fn receive(&self, message: &[u8]) {
        if let Some((publisher, body)) = message.split_first_chunk()
            && *publisher != self.id
        {
            let (rows, unreadable) = frame::decode(body);
            if !unreadable.is_empty() {
                tracing::debug!(rows = unreadable.len(), "live events that can't be read");
            }
            self.live.deliver(rows.observations);
        }
    }
}

/// The next message; never, while nothing is subscribed to.
async fn next(messages: &mut Option<PubSubStream>) -> Option<redis::Msg> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}

fn late() -> RedisError {
    (redis::ErrorKind::Io, "no answer in time").into()
}

/// How a shared connection to Redis waits.
pub(super) fn patient() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_max_delay(LOOK)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}
