//! SIGTERM among streams and new calls: nobody who was taken is let down, and each call is on record.

use super::{Promise, Stage, always, figure};
use crate::{
    paced::Paced,
    process::{Server, get},
    request, streams,
    wire::Connection,
};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Between an upstream's chunks: a stream takes ten seconds, and so goes on when accepting has ended.
const PAUSE: Duration = Duration::from_millis(200);
/// A lame duck takes new calls for five.
const NEW_CALLS: Duration = Duration::from_millis(4_500);

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    stage.pause(PAUSE).await?;
    let server = stage.brokle("drain", "").await?;
    let addr = server.addr;
    let (open, per_second) = (stage.of(200, 20), stage.of(100, 20));
    let mut readers = JoinSet::new();
    for _ in 0..open {
        readers.spawn(read(addr));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    server.terminate()?;
    let new = Paced { addr, requests: vec![request::chat(200, false)], per_second, left_each: 0 };
    let (unready, new) = tokio::join!(unready(addr, begin), new.run(NEW_CALLS));
    let mut broken = 0;
    while let Some(done) = readers.join_next().await {
        if let Err(why) = done.map_err(io::Error::other)? {
            eprintln!("broken: {why}");
            broken += 1;
        }
    }
    server.ended().await?;
    let ended = begin.elapsed().as_secs_f64();
    stage.pause(Duration::ZERO).await?;
    // What was recorded must be there for the next one.
    let server = stage.brokle("drain", "").await?;
    let recorded = recorded(&server).await?;
    server.stop().await?;
    let made = open + new.served.len();
    if let Some(why) = &new.first_error {
        eprintln!("first error: {why}");
    }
    Ok(vec![
        always("streams that broke", 0.0, f64::from(broken), ""),
        always(
            "new calls of a lame duck that failed or were refused",
            0.0,
            (new.errors + new.shed.len() as u64) as f64,
            "",
        ),
        always("calls that aren't on record, or are twice", 0.0, recorded.abs_diff(made) as f64, ""),
        always("it ended after", 35.0, ended, "s"),
        figure("it says that it isn't ready after", 0.1, unready?.as_secs_f64(), "s"),
    ])
}

async fn read(addr: SocketAddr) -> Result<(), String> {
    let mut body = Vec::new();
    let mut connection = Connection::open(addr).await.map_err(|error| error.to_string())?;
    let request = request::chat(2_000, true);
    let status = connection.exchange(&request, |part| body.extend_from_slice(part)).await;
    let body = String::from_utf8_lossy(&body);
    match status.map_err(|error| error.to_string())? {
        200 => streams::check(&body),
        status => Err(format!("status {status}: {body}")),
    }
}

/// When `/health/ready` said no, counted from `begin`.
async fn unready(addr: SocketAddr, begin: Instant) -> io::Result<Duration> {
    while get(addr, "GET", "/health/ready").await?.0 == 200 {
        if begin.elapsed() > NEW_CALLS {
            return Err(io::Error::other("it is ready all the time"));
        }
    }
    Ok(begin.elapsed())
}

/// Calls on record.
async fn recorded(server: &Server) -> io::Result<usize> {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let path = format!("/api/v1/traces?limit=100{cursor}");
        let mut body = Vec::new();
        let mut connection = Connection::open(server.addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n\r\n", request::API_KEY);
        let status = connection.exchange(request.as_bytes(), |part| body.extend_from_slice(part)).await?;
        if status != 200 {
            return Err(io::Error::other(format!("status {status}: {}", String::from_utf8_lossy(&body))));
        }
        let page: serde_json::Value = serde_json::from_slice(&body)?;
        count += page.get("data").and_then(|data| data.as_array()).map_or(0, Vec::len);
        match page.get("next_cursor").and_then(|next| next.as_str()) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(count),
        }
    }
}
