//! Clients that hold a connection and say next to nothing (slow-loris), beside good ones.

use super::{Promise, Stage, always, figure};
use crate::{load::percentile, paced::Paced, request};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const GOOD_PER_SECOND: u32 = 100;
const PAUSE: Duration = Duration::from_secs(5);
/// A head's time is 10 s, as is a body's before its speed counts.
const CLOSED_WITHIN: f64 = 11.0;

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    let server = stage.brokle("slow", "").await?;
    let good = Paced {
        addr: server.addr,
        requests: vec![request::chat(200, false)],
        per_second: GOOD_PER_SECOND,
        left_each: 0,
    };
    let alone = good.run(stage.of(Duration::from_secs(10), Duration::from_secs(2))).await;
    let each: u32 = stage.of(1_000, 40);
    let body = request::chat(100_000, false);
    let begun_body = body.get(..body.len() - 99_990).unwrap_or_default().to_vec();
    let mut slow = JoinSet::new();
    for number in 0..each {
        // One after the other: a burst of connections is another matter.
        let after = PAUSE * number / each;
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ".to_vec();
        slow.spawn(dawdle(server.addr, after, head));
        slow.spawn(dawdle(server.addr, after, begun_body.clone()));
    }
    let beside = good.run(Duration::from_secs(15)).await;
    let mut held = Vec::new();
    while let Some(done) = slow.join_next().await {
        held.push(done.map_err(io::Error::other)??.as_secs_f64());
    }
    let longest = held.iter().copied().fold(f64::NAN, f64::max);
    let p99 = |times: &[u32]| f64::from(percentile(times, 99)) / 1000.0;
    eprintln!("p99 of good calls: {:.2} ms alone, {:.2} ms beside", p99(&alone.served), p99(&beside.served));
    server.stop().await?;
    Ok(vec![
        always("good calls that failed", 0.0, (alone.errors + beside.errors) as f64, ""),
        always("good calls that were shed", 0.0, (alone.shed.len() + beside.shed.len()) as f64, ""),
        figure("the last slow one was cut off after", CLOSED_WITHIN, longest, "s"),
        figure(
            "p99 of good calls beside them, over alone",
            1.5,
            p99(&beside.served) / p99(&alone.served),
            "×",
        ),
    ])
}

/// Sends this after a while, and then a byte at each [`PAUSE`]; how long it was let.
async fn dawdle(addr: SocketAddr, after: Duration, first: Vec<u8>) -> io::Result<Duration> {
    tokio::time::sleep(after).await;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(&first).await?;
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        loop {
            tokio::time::sleep(PAUSE).await;
            if writer.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    // A refusal may come first; what counts is when the connection is given up.
    let mut refusal = Vec::new();
    let reading = timeout(Duration::from_secs(60), reader.read_to_end(&mut refusal));
    tokio::select! {
        () = writing => {}
        closed = reading => drop(closed?),
    }
    Ok(begin.elapsed())
}
