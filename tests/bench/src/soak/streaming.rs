//! Hundreds of streams at once, each checked word for word, against the bare proxy's.

use super::{Promise, Stage, always, figure};
use crate::{load::percentile, process::Server, request, run::ms, streams, wire::Connection};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// They begin within this time: a burst would measure the burst.
const BEGIN_WITHIN: Duration = Duration::from_millis(500);

/// What came of them. Times are in µs, sorted.
#[derive(Default)]
struct Seen {
    broken: usize,
    first_bytes: Vec<u32>,
    /// How far each pause between chunks was from the upstream's.
    jitter: Vec<u32>,
    /// What was resident when all were there, in MB.
    resident_mb: f64,
}

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    let (some, many) = (stage.of(500, 50), stage.of(1_000, 100));
    stage.pause(streams::DELAY).await?;
    let server = stage.brokle("streams", "").await?;
    // What the first stream costs isn't what each costs.
    at_once(&server, 8).await?;
    let before = server.memory()?.0;
    let floor = at_once(&stage.floor, some).await?;
    let brokle = at_once(&server, some).await?;
    let of_each = (brokle.resident_mb - before) * 1000.0 / some as f64;
    let all = at_once(&server, many).await?;
    let p99 = |times: &[u32]| ms(percentile(times, 99));
    eprintln!(
        "first byte p99 {:.1} ms (floor {:.1}), jitter p99 {:.1} ms (floor {:.1}), {before:.0} MB before",
        p99(&brokle.first_bytes),
        p99(&floor.first_bytes),
        p99(&brokle.jitter),
        p99(&floor.jitter)
    );
    server.stop().await?;
    Ok(vec![
        always("broken streams", 0.0, (brokle.broken + all.broken) as f64, ""),
        always("broken streams of the floor", 0.0, floor.broken as f64, ""),
        figure("first byte, p99, added", 15.0, p99(&brokle.first_bytes) - p99(&floor.first_bytes), "ms"),
        figure("jitter between chunks, p99, added", 10.0, p99(&brokle.jitter) - p99(&floor.jitter), "ms"),
        figure("memory of each stream", 100.0, of_each, "KB"),
        figure("memory with twice as many", 100.0, all.resident_mb, "MB"),
    ])
}

async fn at_once(server: &Server, count: usize) -> io::Result<Seen> {
    let request = request::chat(2_000, true);
    let mut readers = JoinSet::new();
    for number in 0..count {
        let (request, addr) = (request.clone(), server.addr);
        let after = BEGIN_WITHIN * u32::try_from(number).unwrap_or(0) / u32::try_from(count).unwrap_or(1);
        readers.spawn(async move {
            tokio::time::sleep(after).await;
            read(addr, &request).await
        });
    }
    let mut seen = Seen::default();
    tokio::time::sleep(BEGIN_WITHIN + Duration::from_millis(200)).await;
    seen.resident_mb = server.memory()?.0;
    while let Some(done) = readers.join_next().await {
        match done.map_err(io::Error::other)? {
            Ok((first, jitter)) => {
                seen.first_bytes.push(first);
                seen.jitter.extend(jitter);
            }
            Err(why) => {
                if seen.broken == 0 {
                    eprintln!("first broken stream: {why}");
                }
                seen.broken += 1;
            }
        }
    }
    seen.first_bytes.sort_unstable();
    seen.jitter.sort_unstable();
    Ok(seen)
}

/// One stream: its first byte's time, and the jitter of its chunks.
async fn read(addr: SocketAddr, request: &[u8]) -> Result<(u32, Vec<u32>), String> {
    let mut connection = Connection::open(addr).await.map_err(|error| error.to_string())?;
    let begin = Instant::now();
    let (mut times, mut body) = (Vec::new(), Vec::new());
    let exchange = connection.exchange(request, |part| {
        times.push(begin.elapsed());
        body.extend_from_slice(part);
    });
    let answer = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    let status = answer.map_err(|_| "it isn't over in time")?.map_err(|error| error.to_string())?;
    let body = String::from_utf8_lossy(&body);
    if status != 200 {
        return Err(format!("status {status}: {body}"));
    }
    streams::check(&body)?;
    let first = times.first().copied().unwrap_or_default();
    let pauses = times.windows(2).filter_map(|pair| Some(*pair.get(1)? - *pair.first()?));
    // The last chunk, the usage and the end come together.
    let pauses = pauses.take(times.len().saturating_sub(3));
    Ok((
        streams::micros(first),
        pauses.map(|pause| streams::micros(pause.abs_diff(streams::DELAY))).collect(),
    ))
}
