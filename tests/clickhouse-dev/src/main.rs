//! A ClickHouse server for development and tests: its engine as a library, behind the part of its HTTP protocol that the
//! `clickhouse` crate speaks. What it does and doesn't is in the README beside it.
//!
//! A few queries run at the same time, each in a session of the engine's that nobody else has meanwhile: in it a request sets
//! its database and settings before its query, and takes settings back after it.

mod engine;
mod lz4;
mod request;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use engine::Engine;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Arguments {
    library: PathBuf,
    path: PathBuf,
    port: u16,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("clickhouse-dev: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments = arguments(std::env::args().skip(1))?;
    let engine = Arc::new(Engine::open(&arguments.library, &arguments.path)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(server::serve(engine, SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port))))
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    const USAGE: &str = "usage: clickhouse-dev --library libchdb.so --path DIRECTORY --port PORT";
    let (mut library, mut path, mut port) = (None, None, None);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(USAGE)?;
        match name.as_str() {
            "--library" => library = Some(PathBuf::from(value)),
            "--path" => path = Some(PathBuf::from(value)),
            "--port" => port = Some(value.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Arguments { library: library.ok_or(USAGE)?, path: path.ok_or(USAGE)?, port: port.ok_or(USAGE)? })
}

#[expect(clippy::print_stderr, reason = "a program for developers, whose log is standard error")]
fn complain(line: &str) {
    eprintln!("{line}");
}
