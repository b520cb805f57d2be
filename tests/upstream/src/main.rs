//! The test upstream as a program, for suites in other languages and for trying things by hand.
#![expect(clippy::print_stdout, reason = "the address on the first line is this program's interface")]

use brokle_test_upstream::Upstream;
use clap::Parser;
use std::{io, net::SocketAddr};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about, after_long_help = include_str!("../README.md"))]
struct Args {
    /// A loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let upstream = Upstream::listen(Args::parse().listen).await?;
    println!("listening on {}", upstream.origin());
    tokio::select! {
        ctrl_c = tokio::signal::ctrl_c() => ctrl_c?,
        _ = terminated.recv() => {}
    }
    upstream.stop().await;
    Ok(())
}
