//! Dead letters in Redis.

use chrono::DateTime;
use redis::streams::{StreamId, StreamRangeReply};
use redis::{RedisResult, Script};

use super::{GROUP, LANES, Link, lane_of};
use crate::frame::{self, Dead};
use crate::queue::{DeadLetter, Whose};

/// A batch with a worker, or what is to be finished of one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lane: usize,
    pub(super) id: String,
    pub(super) rows: usize,
    pub(super) body: Vec<u8>,
}

impl Link {
    /// Takes entries out of the queue, and keeps what of them couldn't be stored: both or neither.
    pub(super) fn finish(&mut self, entries: &[Entry], died_us: i64, dead: &[Dead]) -> RedisResult<()> {
        let script = Script::new(include_str!("finish.lua"));
        let mut call = script.prepare_invoke();
        for name in ["depth", "dead", "dead:last"] {
            call.key(self.queue.key(name));
        }
        for lane in self.queue.lanes() {
            call.key(lane);
        }
        call.arg(GROUP).arg(died_us).arg(dead.len());
        for letter in dead {
            let project = letter.project.map(|project| project.to_string()).unwrap_or_default();
            call.arg(letter.reason.as_str()).arg(project).arg(letter.body.as_slice());
        }
        for entry in entries {
            call.arg(entry.lane + 4).arg(entry.id.as_str()).arg(entry.rows).arg(entry.body.len());
        }
        self.with(|connection| call.invoke(connection))
    }

    /// Keeps what can't be read of a server's own file.
    pub(crate) fn bury(&mut self, died_us: i64, dead: &[Dead]) -> RedisResult<()> {
        if dead.is_empty() { Ok(()) } else { self.finish(&[], died_us, dead) }
    }

    pub(crate) fn dead_letters(
        &mut self,
        whose: Whose,
        after: i64,
        limit: u32,
    ) -> RedisResult<Vec<DeadLetter>> {
        let script = Script::new(include_str!("letters.lua"));
        let mut call = script.prepare_invoke();
        call.key(self.queue.key("dead")).arg(project(whose)).arg(after.max(0)).arg(limit);
        let found: StreamRangeReply = self.with(|connection| call.invoke(connection))?;
        Ok(found.ids.iter().map(letter).collect())
    }

    /// Puts a letter back into its lane; false when there is no such one.
    pub(crate) fn redrive(&mut self, whose: Whose, id: i64) -> RedisResult<bool> {
        let found = self.dead_letters(whose, id.saturating_sub(1), 1)?;
        let Some(letter) = found.first().filter(|letter| letter.id == id) else { return Ok(false) };
        let lane = letter.observation.as_ref().map_or(LANES - 1, |row| lane_of(row.tenant.project));
        self.take(whose, id, Some(lane))
    }

    /// Deletes a letter; false when there is no such one.
    pub(crate) fn discard(&mut self, whose: Whose, id: i64) -> RedisResult<bool> {
        self.take(whose, id, None)
    }

    fn take(&mut self, whose: Whose, id: i64, lane: Option<usize>) -> RedisResult<bool> {
        let script = Script::new(include_str!("take.lua"));
        let mut call = script.prepare_invoke();
        call.key(self.queue.key("dead")).key(self.queue.key("depth"));
        if let Some(lane) = lane {
            call.key(self.queue.lane(lane));
        }
        call.arg(project(whose)).arg(id.max(0));
        self.with(|connection| call.invoke(connection))
    }
}

fn project(whose: Whose) -> String {
    match whose {
        Whose::Project(project) => project.to_string(),
        Whose::Everybody => String::new(),
    }
}

fn letter(entry: &StreamId) -> DeadLetter {
    let number = entry.id.split_once('-').and_then(|(number, _)| number.parse().ok());
    let (mut rows, _) = frame::decode(&entry.get::<Vec<u8>>("body").unwrap_or_default());
    DeadLetter {
        id: number.unwrap_or_default(),
        died: DateTime::from_timestamp_micros(entry.get("died").unwrap_or_default()).unwrap_or_default(),
        reason: entry.get("reason").unwrap_or_default(),
        observation: rows.observations.pop(),
    }
}
