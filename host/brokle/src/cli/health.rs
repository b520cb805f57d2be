//! `brokle health`: exit code 0 if the server that the configuration describes is ready.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{ConfigFile, Outcome};
use crate::config;

/// How long the server has to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Ask a running server whether it is ready.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(args: &HealthArgs) -> Outcome {
    let config = config::load(args.file.config.as_deref())?;
    let mut stream = TcpStream::connect_timeout(&reachable(config.server.listen), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0_u8; 12];
    stream.read_exact(&mut answer)?;
    if &answer == b"HTTP/1.1 200" {
        return Ok(ExitCode::SUCCESS);
    }
    Err("the server isn't ready".into())
}

/// Where a server can be reached from this machine that listens at this address.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
