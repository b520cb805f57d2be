//! One run: starts, load in turns, streams, verdict.
//!
//! The generator (this process, one thread), the upstream (another) and the gateway share the machine, as they do for
//! both gateways. For each shape both are warmed up, then take turns: floor, Brokle, Brokle, floor, … CPU is the
//! process's own over all rounds of the shape, the other's included, so that work which a gateway puts off is counted;
//! it is divided by the requests of its own rounds. Every answer must have come from the upstream: one that didn't (out
//! of a cache, say) is an error, because it would measure something else.

use crate::{
    candidate::{Candidate, serving, start_floor, start_upstream},
    load::{Load, Round, percentile},
    process::{Server, get},
    report::{CPU_SHAPE, Cell, LATENCY_SHAPE, Machine, Memory, Report, Shape, Side, median, publish},
    request, streams,
};
use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The floor's binary.
    #[arg(long)]
    floor: PathBuf,
    /// Brokle's binary, started with `serve`.
    #[arg(long, required_unless_present = "candidate_cmd")]
    brokle: Option<PathBuf>,
    /// Another command in Brokle's place; `{listen}`, `{upstream}` and `{data}` are filled in.
    #[arg(long, value_name = "CMD", conflicts_with = "brokle")]
    candidate_cmd: Option<String>,
    /// At most 90 seconds, with more noise.
    #[arg(long)]
    quick: bool,
    /// Connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    connections: Vec<usize>,
    /// Sizes of request bodies, in bytes; 200 at least.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 2_000, 50_000, 400_000])]
    bodies: Vec<usize>,
    /// Write everything that was measured here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables here.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// What is asked of a gateway.
pub(crate) struct Asked {
    pub(crate) shape: Shape,
    /// Further lines of the head, each with its end.
    pub(crate) lines: &'static str,
    /// Whether each answer has to come from the upstream.
    pub(crate) from_upstream: bool,
}

impl Asked {
    /// The shape and nothing else.
    pub(crate) fn plain(shape: Shape) -> Self {
        Self { shape, lines: "", from_upstream: true }
    }
}

/// How long things take.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    warm_up: Duration,
    round: Duration,
    rounds: usize,
    starts: usize,
}

impl Pace {
    /// 24 shapes × 2 gateways × 6.4 s are five minutes, and less than eight with all the rest.
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_millis(400),
        round: Duration::from_millis(1200),
        rounds: 5,
        starts: 3,
    };
    /// 24 × 2 × 1.1 s are under a minute.
    pub(crate) const QUICK: Self =
        Self { warm_up: Duration::from_millis(150), round: Duration::from_millis(450), rounds: 2, starts: 1 };

    /// What a target is judged on gets more time.
    fn for_shape(self, shape: Shape) -> Self {
        let judged = shape == CPU_SHAPE || shape == LATENCY_SHAPE;
        Self { rounds: if judged { self.rounds * 2 } else { self.rounds }, ..self }
    }
}

/// Measures; true when every target was met.
///
/// # Errors
/// When a server can't be started or measured, or a file can't be written.
pub(crate) async fn run(args: &Args) -> io::Result<bool> {
    let pace = if args.quick { Pace::QUICK } else { Pace::FULL };
    let machine = machine();
    let work = tempfile::tempdir()?;
    let upstream = start_upstream(work.path()).await?;
    let floor = start_floor(&args.floor, upstream.addr, work.path()).await?;
    let words = match (&args.candidate_cmd, &args.brokle) {
        (Some(command), _) => command.split_whitespace().map(str::to_owned).collect(),
        (None, Some(brokle)) => serving(brokle),
        (None, None) => Vec::new(),
    };
    let candidate = Candidate::new(words, upstream.addr, work.path())?;
    let (mut cold_starts_s, mut warm_starts_s, mut last) = (Vec::new(), Vec::new(), None);
    for number in 0..pace.starts {
        if let Some(last) = last.take() {
            Server::stop(last).await?;
        }
        let data = work.path().join(format!("data-{number}"));
        fs::create_dir(&data)?;
        let cold = candidate.start(&data).await?;
        cold_starts_s.push(cold.start.as_secs_f64());
        cold.stop().await?;
        let warm = candidate.start(&data).await?;
        warm_starts_s.push(warm.start.as_secs_f64());
        last = Some(warm);
    }
    let candidate = last.ok_or_else(|| io::Error::other("nothing was started"))?;
    let mut cells = Vec::new();
    for shape in shapes(args) {
        let asked = Asked::plain(shape);
        let cell = cell(&asked, pace.for_shape(shape), &floor, &candidate, upstream.addr).await?;
        eprintln!("{shape:?}: CPU ratio {:.2}, added median {:.3} ms", cell.cpu_ratio, cell.added_p50_ms);
        cells.push(cell);
    }
    get(upstream.addr, "POST", &format!("/__delay/{}", streams::DELAY.as_millis())).await?;
    let mut report = Report {
        machine,
        quick: args.quick,
        cells,
        floor_streams: streams::run(floor.addr, streams::STREAMS).await?,
        candidate_streams: streams::run(candidate.addr, streams::STREAMS).await?,
        cold_starts_s,
        warm_starts_s,
        floor_memory: memory(&floor)?,
        candidate_memory: memory(&candidate)?,
        targets: Vec::new(),
    };
    report.judge();
    let markdown = report.markdown();
    publish(&markdown, &report, args.markdown.as_deref(), args.json.as_deref())?;
    candidate.stop().await?;
    Ok(report.passes())
}

fn shapes(args: &Args) -> impl Iterator<Item = Shape> {
    args.connections.iter().flat_map(|connections| {
        args.bodies.iter().flat_map(|body_bytes| {
            [false, true].map(|streamed| Shape {
                connections: *connections,
                body_bytes: *body_bytes,
                streamed,
            })
        })
    })
}

/// One shape through both; the floor is always asked plainly.
pub(crate) async fn cell(
    asked: &Asked,
    pace: Pace,
    floor: &Server,
    candidate: &Server,
    upstream: SocketAddr,
) -> io::Result<Cell> {
    let shape = asked.shape;
    let (mut floor, mut candidate) = (Turn::new(floor, &Asked::plain(shape)), Turn::new(candidate, asked));
    for turn in [&mut floor, &mut candidate] {
        let round = turn.load.round(pace.warm_up).await;
        turn.sum.errors += round.errors;
        turn.sum.first_error = turn.sum.first_error.take().or(round.first_error);
        turn.cpu_before = turn.server.cpu()?;
    }
    floor.cpu_before = floor.server.cpu()?;
    let (mut first, mut second) = (&mut floor, &mut candidate);
    for _ in 0..pace.rounds {
        first.round(pace.round, upstream).await?;
        second.round(pace.round, upstream).await?;
        std::mem::swap(&mut first, &mut second);
    }
    let added: Vec<f64> =
        candidate.medians.iter().zip(&floor.medians).map(|(with, without)| with - without).collect();
    let (floor, candidate) = (floor.finish()?, candidate.finish()?);
    let cpu_ratio = candidate.cpu_us_per_request / floor.cpu_us_per_request;
    Ok(Cell { shape, floor, candidate, cpu_ratio, added_p50_ms: median(&added) })
}

/// One gateway's part of a cell.
struct Turn<'a> {
    server: &'a Server,
    load: Load,
    from_upstream: bool,
    cpu_before: Duration,
    sum: Round,
    /// In ms, one for each round.
    medians: Vec<f64>,
}

impl<'a> Turn<'a> {
    fn new(server: &'a Server, asked: &Asked) -> Self {
        let shape = asked.shape;
        let request = request::chat_with(shape.body_bytes, shape.streamed, asked.lines);
        let load = Load::new(server.addr, request, shape.streamed, shape.connections);
        let from_upstream = asked.from_upstream;
        let (sum, medians) = (Round::default(), Vec::new());
        Self { server, load, from_upstream, cpu_before: Duration::ZERO, sum, medians }
    }

    async fn round(&mut self, length: Duration, upstream: SocketAddr) -> io::Result<()> {
        let before = served(upstream).await?;
        let mut round = self.load.round(length).await;
        let served = served(upstream).await? - before;
        let unserved = (round.latencies.len() as u64).saturating_sub(served);
        if unserved > 0 && self.from_upstream {
            round.errors += unserved;
            round.first_error.get_or_insert(format!("{unserved} answers didn't come from the upstream"));
        }
        round.latencies.sort_unstable();
        self.medians.push(ms(percentile(&round.latencies, 50)));
        self.sum.latencies.append(&mut round.latencies);
        self.sum.errors += round.errors;
        self.sum.first_error = self.sum.first_error.take().or(round.first_error);
        self.sum.elapsed += round.elapsed;
        Ok(())
    }

    fn finish(mut self) -> io::Result<Side> {
        let cpu = self.server.cpu()?.saturating_sub(self.cpu_before);
        let latencies = &mut self.sum.latencies;
        latencies.sort_unstable();
        Ok(Side {
            requests: latencies.len(),
            errors: self.sum.errors,
            first_error: self.sum.first_error,
            requests_per_s: latencies.len() as f64 / self.sum.elapsed.as_secs_f64(),
            p50_ms: ms(percentile(latencies, 50)),
            p99_ms: ms(percentile(latencies, 99)),
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / latencies.len() as f64,
            rss_mb: self.server.memory()?.0,
        })
    }
}

async fn served(upstream: SocketAddr) -> io::Result<u64> {
    let (_, text) = get(upstream, "GET", "/__served").await?;
    text.parse().map_err(|_| io::Error::other(format!("the upstream served {text:?}")))
}

fn memory(server: &Server) -> io::Result<Memory> {
    let (after_mb, peak_mb) = server.memory()?;
    Ok(Memory { after_mb, peak_mb })
}

pub(crate) fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpu = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    Machine {
        cpu: cpu.map_or("unknown", |(_, name)| name.trim()).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load_average_before: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }
}

pub(crate) fn ms(micros: u32) -> f64 {
    f64::from(micros) / 1000.0
}
