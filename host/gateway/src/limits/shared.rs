//! Limits that servers share, in Redis.
//!
//! The same algorithm, by Redis' clock: one script takes from all of a call's allowances or from none, so that counts
//! are exact across servers. Keys begin with `brokle:limit:{ORGANIZATION}`, whose braces keep a call's keys in one slot of a cluster;
//! names of users and models are in them as hashes. What a call really used is settled by another script, off its way.
//! A server that dies leaves its calls' places taken until their lease ends: the longest that a call may take, and a
//! minute.
//!
//! **Redis gone.** A check that isn't answered within [`PATIENCE`] is made by this server's own count instead
//! ([`crate::shared`]). No call fails by it, and the metric counts the checks.
//! Meanwhile each server allows the whole limit by itself. A settlement that can't be sent is dropped: time gives the
//! tokens back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::random::Random;
use brokle_telemetry::metrics::Metrics;
use parking_lot::Mutex;
use redis::{Client, RedisError, Script};
use ring::digest;
use tokio::sync::mpsc;

use super::cell::{Allowance, Measure, Refused, allowance};
use super::{Exceeded, Limit, Reservation, Standing, refusal};
use crate::shared::{PATIENCE, PAUSE, Shared};
use crate::who::{Caller, Subject};

/// Settlements that wait at most.
const SETTLEMENTS: usize = 10_000;

/// A connection to what servers share. Clones would be other connections: share one by `Arc`.
pub struct SharedLimits {
    redis: Shared,
    take: Script,
    metrics: Arc<Metrics>,
    random: Arc<dyn Random>,
    lease: Duration,
    patience: Duration,
    epoch: Instant,
    settlements: mpsc::Sender<Settlement>,
    waiting: Mutex<Option<mpsc::Receiver<Settlement>>>,
}

impl std::fmt::Debug for SharedLimits {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SharedLimits").finish_non_exhaustive()
    }
}

/// One allowance of a call.
#[derive(Debug)]
struct Share {
    key: String,
    measure: Measure,
    limit: u64,
    amount: u64,
    /// When it is paid back, by Redis' clock.
    paid: i64,
}

/// What has to be settled.
#[derive(Debug)]
struct Settlement {
    member: String,
    shares: Vec<(Share, i64)>,
}

/// What a call has taken in Redis.
#[derive(Debug)]
pub(super) struct SharedTaken {
    member: String,
    shares: Vec<Share>,
    settlements: mpsc::Sender<Settlement>,
}

impl SharedTaken {
    /// The call used these tokens.
    pub(super) fn settle(self, tokens: u64) {
        let shares = self.shares.into_iter().filter_map(|share| {
            let charged = match share.measure {
                Measure::ConcurrentRequests => 0,
                measure if measure.is_tokens() => signed(tokens) - signed(share.amount),
                _ => return None,
            };
            Some((share, charged))
        });
        let settlement = Settlement { member: self.member, shares: shares.collect() };
        if !settlement.shares.is_empty() && self.settlements.try_send(settlement).is_err() {
            tracing::debug!("a settlement of shared limits was dropped");
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn micros(nanos: u64) -> u64 {
    nanos / 1_000
}

impl SharedLimits {
    /// A connection that is made when it is first needed. `longest` is how long a call may take.
    ///
    /// # Errors
    /// When the client's address is none.
    pub fn connect(
        client: Client,
        longest: Duration,
        metrics: Arc<Metrics>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, RedisError> {
        let (settlements, waiting) = mpsc::channel(SETTLEMENTS);
        Ok(Arc::new(Self {
            redis: Shared::connect(client, "limits")?,
            take: Script::new(include_str!("take.lua")),
            metrics,
            random,
            lease: longest + Duration::from_secs(60),
            patience: PATIENCE,
            epoch: Instant::now(),
            settlements,
            waiting: Mutex::new(Some(waiting)),
        }))
    }

    /// Sends settlements until the end, and then those that wait; for the server to run once.
    pub async fn settle(&self, end: impl Future<Output = ()>) {
        let Some(mut waiting) = self.waiting.lock().take() else { return };
        let script = Script::new(include_str!("settle.lua"));
        let mut end = std::pin::pin!(end);
        let mut ended = false;
        loop {
            let settlement = if ended {
                waiting.try_recv().ok()
            } else {
                tokio::select! {
                    biased;
                    settlement = waiting.recv() => settlement,
                    () = end.as_mut() => {
                        ended = true;
                        continue;
                    }
                }
            };
            let Some(settlement) = settlement else { return };
            let mut call = script.prepare_invoke();
            call.arg(&settlement.member);
            for (share, charged) in &settlement.shares {
                call.key(&share.key);
                call.arg(micros(share.measure.window())).arg(share.limit).arg(charged).arg(share.paid);
            }
            if let Err(reason) =
                self.redis.tell(PAUSE, async |redis| call.invoke_async::<i64>(redis).await).await
            {
                tracing::debug!(reason, "a settlement of shared limits was lost");
            }
        }
    }

    /// Takes from every rule that counts the call; none if Redis doesn't answer.
    pub(super) async fn admit(
        &self,
        rules: &[Limit],
        caller: &Caller<'_>,
        tokens: u64,
    ) -> Option<Result<(Reservation, Standing), Exceeded>> {
        let mut counted = Vec::new();
        let mut shares = Vec::new();
        for rule in rules {
            if rule.who.needs_model() != caller.model.is_some() || !rule.who.counts(caller) {
                continue;
            }
            let subject = rule.who.subject(caller);
            for (measure, limit) in rule.amounts.each() {
                let amount = if measure.is_tokens() { tokens } else { 1 };
                shares.push(Share {
                    key: key(&rule.name, &subject, measure),
                    measure,
                    limit,
                    amount,
                    paid: 0,
                });
                counted.push(rule);
            }
        }
        if shares.is_empty() {
            return Some(Ok((Reservation::new(self.epoch), Standing::default())));
        }
        let answer = self.take(shares).await?;
        Some(match answer {
            Ok((taken, allowances)) => {
                let mut standing = Standing::default();
                for (measure, allowance) in allowances {
                    standing.note(measure, allowance);
                }
                let mut reservation = Reservation::new(self.epoch);
                reservation.shared = Some(taken);
                Ok((reservation, standing))
            }
            Err((index, share, refused)) => {
                let mut standing = Standing::default();
                standing.note(share.measure, refused.allowance);
                let rule = counted.get(index)?;
                let refusal = refusal(rule, share.measure, share.limit, tokens, &refused);
                Err(Exceeded { refusal: Box::new(refusal), standing })
            }
        })
    }

    /// Takes one request of a key that carries a limit; none if Redis doesn't answer.
    pub(super) async fn take_key(
        &self,
        organization: brokle_core::ids::OrganizationId,
        id: brokle_core::ids::ApiKeyId,
        limit: u64,
    ) -> Option<Result<Allowance, Refused>> {
        let subject = Subject { organization, project: None, key: Some(id), user: None, model: None };
        let measure = Measure::RequestsPerMinute;
        let share = Share { key: key("", &subject, measure), measure, limit, amount: 1, paid: 0 };
        Some(match self.take(vec![share]).await? {
            Ok((_, allowances)) => Ok(allowances.first()?.1),
            Err((_, _, refused)) => Err(refused),
        })
    }

    /// What could be taken now of a key's own limit; none if Redis doesn't answer.
    pub(super) async fn key_left(
        &self,
        organization: brokle_core::ids::OrganizationId,
        id: brokle_core::ids::ApiKeyId,
        limit: u64,
    ) -> Option<Allowance> {
        let subject = Subject { organization, project: None, key: Some(id), user: None, model: None };
        self.left("", &subject, Measure::RequestsPerMinute, limit).await
    }

    /// What could be taken now of a rate; none if Redis doesn't answer. Taking nothing tells.
    pub(super) async fn left(
        &self,
        rule: &str,
        subject: &Subject,
        measure: Measure,
        limit: u64,
    ) -> Option<Allowance> {
        let share = Share { key: key(rule, subject, measure), measure, limit, amount: 0, paid: 0 };
        match self.take(vec![share]).await? {
            Ok((_, allowances)) => allowances.first().map(|(_, allowance)| *allowance),
            Err((_, _, refused)) => Some(refused.allowance),
        }
    }

    async fn take(
        &self,
        mut shares: Vec<Share>,
    ) -> Option<Result<(SharedTaken, Vec<(Measure, Allowance)>), (usize, Share, Refused)>> {
        let mut member = [0; 16];
        self.random.fill(&mut member);
        let member = member.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut call = self.take.prepare_invoke();
        call.arg(&member).arg(u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX));
        for share in &shares {
            call.key(&share.key);
            call.arg(micros(share.measure.window())).arg(share.limit).arg(share.amount);
        }
        let answer =
            self.redis.ask(self.patience, async |redis| call.invoke_async::<Vec<i64>>(redis).await).await;
        let Ok(answer) = answer else {
            self.metrics.limit_fallbacks.inc();
            return None;
        };
        let [refused, now, rest @ ..] = answer.as_slice() else { return None };
        if let Some(index) = usize::try_from(*refused).ok().and_then(|index| index.checked_sub(1)) {
            let share = (index < shares.len()).then(|| shares.swap_remove(index))?;
            let (ahead, wait) = (*rest.first()?, *rest.get(1)?);
            let refused = Refused {
                allowance: allowance_of(&share, ahead),
                wait: u64::try_from(wait).ok().map(Duration::from_micros),
            };
            return Some(Err((index, share, refused)));
        }
        let mut allowances = Vec::with_capacity(shares.len());
        for (share, ahead) in shares.iter_mut().zip(rest) {
            share.paid = now + ahead;
            allowances.push((share.measure, allowance_of(share, *ahead)));
        }
        Some(Ok((SharedTaken { member, shares, settlements: self.settlements.clone() }, allowances)))
    }
}

fn allowance_of(share: &Share, ahead: i64) -> Allowance {
    let ahead = u64::try_from(ahead).unwrap_or_default();
    match share.measure.window() {
        0 => Allowance {
            limit: share.limit,
            remaining: share.limit.saturating_sub(ahead),
            reset: Duration::ZERO,
        },
        window => allowance(ahead.saturating_mul(1_000), share.limit, window),
    }
}

/// A key's name. What callers make up is in it as a hash.
fn key(rule: &str, subject: &Subject, measure: Measure) -> String {
    let text = serde_json::to_vec(&(rule, subject)).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &text);
    let hash: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("brokle:limit:{{{}}}:{hash}:{}", subject.organization, measure.name())
}

#[cfg(test)]
mod tests;
