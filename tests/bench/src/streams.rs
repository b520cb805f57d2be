//! Many slow streams: 500 (or as many as are wanted) of 50 chunks, 20 ms apart, each read to its end and compared word for word.
//! Either all begin in the same moment, which measures the moment, or as many are kept up for a while, as one begins when another ends.

use crate::{
    load::percentile,
    request,
    upstream::{CHUNKS, TOTAL_TOKENS, streamed_content},
    wire::Connection,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Streams at once.
pub(crate) const STREAMS: usize = 500;
/// The pause between chunks.
pub(crate) const DELAY: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(30);

/// What came of the streams through one gateway.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Streams {
    /// At once.
    pub(crate) streams: usize,
    /// Read to their ends, one after the other, or broken.
    pub(crate) read: usize,
    pub(crate) broken: usize,
    pub(crate) first_broken: Option<String>,
    /// To the first byte of the body; 49 pauses of 20 ms are 980 ms.
    pub(crate) first_byte_p50_ms: f64,
    pub(crate) first_byte_p99_ms: f64,
    pub(crate) total_p50_ms: f64,
    pub(crate) total_p99_ms: f64,
}

/// How long one of them takes.
const LASTS: Duration = DELAY.saturating_mul(CHUNKS as u32 - 1);

/// The first byte's time and the last one's, or what is wrong.
type Outcome = Result<(Duration, Duration), String>;

/// Opens all connections, then starts all streams together.
pub(crate) async fn run(addr: SocketAddr, count: usize) -> io::Result<Streams> {
    let request = request::chat(2_000, true);
    let mut readers = JoinSet::new();
    for mut connection in open(addr, count).await? {
        let request = request.clone();
        readers.spawn(async move { in_time(&mut connection, &request).await });
    }
    let mut outcomes = Vec::with_capacity(count);
    while let Some(done) = readers.join_next().await {
        outcomes.push(done.unwrap_or_else(|error| Err(error.to_string())));
    }
    Ok(Streams::of(count, outcomes))
}

/// Keeps so many up for this long, once all of them have begun. Beginnings are spread over the time that a stream takes, so that some
/// begin at any moment.
pub(crate) async fn keep_up(addr: SocketAddr, count: usize, length: Duration) -> io::Result<Streams> {
    let request = request::chat(2_000, true);
    let connections = open(addr, count).await?;
    let begin = Instant::now();
    let mut readers = JoinSet::new();
    for (mut connection, number) in connections.into_iter().zip(0_u32..) {
        let request = request.clone();
        let after = LASTS.mul_f64(f64::from(number) / count as f64);
        readers.spawn(async move {
            tokio::time::sleep(after).await;
            let mut outcomes = Vec::new();
            while begin.elapsed() < LASTS + length {
                let counts = begin.elapsed() >= LASTS;
                let outcome = in_time(&mut connection, &request).await;
                let is_broken = outcome.is_err();
                if counts || is_broken {
                    outcomes.push(outcome);
                }
                if is_broken {
                    break;
                }
            }
            outcomes
        });
    }
    let mut outcomes = Vec::new();
    while let Some(done) = readers.join_next().await {
        outcomes.extend(done.unwrap_or_else(|error| vec![Err(error.to_string())]));
    }
    Ok(Streams::of(count, outcomes))
}

async fn open(addr: SocketAddr, count: usize) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::open(addr).await?);
    }
    Ok(connections)
}

impl Streams {
    fn of(count: usize, outcomes: Vec<Outcome>) -> Self {
        let mut streams = Self { streams: count, read: outcomes.len(), ..Self::default() };
        let (mut first_bytes, mut totals) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok((first_byte, total)) => {
                    first_bytes.push(micros(first_byte));
                    totals.push(micros(total));
                }
                Err(why) => {
                    streams.broken += 1;
                    streams.first_broken.get_or_insert(why);
                }
            }
        }
        first_bytes.sort_unstable();
        totals.sort_unstable();
        let ms = |sorted: &[u32], percent| f64::from(percentile(sorted, percent)) / 1000.0;
        streams.first_byte_p50_ms = ms(&first_bytes, 50);
        streams.first_byte_p99_ms = ms(&first_bytes, 99);
        streams.total_p50_ms = ms(&totals, 50);
        streams.total_p99_ms = ms(&totals, 99);
        streams
    }
}

pub(crate) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

async fn in_time(connection: &mut Connection, request: &[u8]) -> Outcome {
    let read = tokio::time::timeout(DEADLINE, read(connection, request));
    read.await.unwrap_or_else(|_| Err("it isn't over in time".into()))
}

/// Reads one stream, and says what is wrong with it if anything is.
async fn read(connection: &mut Connection, request: &[u8]) -> Outcome {
    let begin = Instant::now();
    let (mut first_byte, mut body) = (None, Vec::new());
    let status = connection.exchange(request, |part| {
        first_byte.get_or_insert_with(|| begin.elapsed());
        body.extend_from_slice(part);
    });
    let status = status.await.map_err(|error| error.to_string())?;
    let total = begin.elapsed();
    if status != 200 {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
    }
    check(&String::from_utf8_lossy(&body))?;
    Ok((first_byte.unwrap_or_default(), total))
}

/// All the chunks, all the words, the usage, and `[DONE]` at the end.
pub(crate) fn check(body: &str) -> Result<(), String> {
    let mut events =
        body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect::<Vec<_>>();
    if events.pop() != Some("[DONE]") {
        return Err("it doesn't end with [DONE]".into());
    }
    let (mut chunks, mut content, mut tokens) = (0, String::new(), None);
    for event in events {
        let event: Value = serde_json::from_str(event).map_err(|error| format!("{error} in {event:?}"))?;
        if let Some(word) = event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
            chunks += 1;
            content.push_str(word);
        }
        tokens = tokens.or(event.pointer("/usage/total_tokens").and_then(Value::as_u64));
    }
    if (chunks, tokens) != (CHUNKS, Some(TOTAL_TOKENS)) {
        return Err(format!("it has {chunks} chunks and {tokens:?} tokens"));
    }
    if content != streamed_content() {
        return Err(format!("it reads {content:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(words: &str, end: &str) -> String {
        let chunk =
            |word: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\" {word}\"}}}}]}}\n\n");
        let chunks: String = words.split_whitespace().map(chunk).collect();
        format!("{chunks}data: {{\"choices\":[],\"usage\":{{\"total_tokens\":200}}}}\n\n{end}")
    }

    #[test]
    fn a_stream_is_broken_that_lacks_a_word_or_its_end() {
        let (words, end) = (streamed_content(), "data: [DONE]\n\n");
        assert_eq!(check(&stream(&words, end)), Ok(()));
        assert!(check(&stream(&words, "")).is_err());
        assert!(check(&stream(words.strip_suffix(" word49").unwrap(), end)).is_err());
        assert!(check(&stream(&words.replace("word07", "word70"), end)).is_err());
        assert!(check(&stream(&words, end).replace("200", "201")).is_err());
        assert!(check(&stream(&words, "data: {\n\ndata: [DONE]\n\n")).is_err());
    }
}
