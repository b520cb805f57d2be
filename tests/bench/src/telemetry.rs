//! What observability costs: spans in, as fast as they are taken and at half of that; questions over many rows.
//!
//! Brokle is started on its embedded store, on ClickHouse and Redis (`--store clickhouse`: the development server of
//! `tests/clickhouse-dev`, or the one that `CLICKHOUSE_URL` names), or with what `--config` says. A span counts when its
//! request was answered 200, which means that it is durable; what is still queued then is waited for, so that a rate is one
//! that goes on for ever. Generator, server and stores share the machine.

mod spans;

use crate::{
    candidate::{Candidate, serving, start_upstream},
    load::percentile,
    paced::Paced,
    process::{Server, get},
    report::{Machine, Target, table},
    request::API_KEY,
    run::{machine, ms},
    streams::micros,
    telemetry::spans::{PER_TRACE, Template, mixed, trace_id},
    wire::Connection,
};
use brokle_test_services::{ClickHouse, Fsync, Redis};
use std::{
    fs, io,
    net::SocketAddr,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::task::JoinSet;

/// Traces of four spans in each request, as batching exporters send them.
const TRACES: usize = 25;
const CONNECTIONS: usize = 16;
const BURST: Duration = Duration::from_secs(2);
const DAY: u64 = 86_400;
const NANOS: u64 = 1_000_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Brokle's binary, started with `serve`.
    #[arg(long)]
    brokle: PathBuf,
    /// Where observations go.
    #[arg(long, value_enum, default_value_t = Store::Embedded, conflicts_with = "config")]
    store: Store,
    /// A configuration with stores of its own, which are there.
    #[arg(long)]
    config: Option<PathBuf>,
    /// How long spans are sent as fast as they are taken.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Observations that questions are asked over; 10,000,000 is what the targets are for.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 60)]
    asked: u64,
    /// Seconds that a month which was stored in minutes is left alone before questions are asked over it. ClickHouse merges
    /// parts and sums up hours meanwhile, as it does all the month otherwise. By default 180 there, and 0 for the embedded
    /// store, which sums up while it stores.
    #[arg(long)]
    settle: Option<u64>,
    /// When the log of ClickHouse's queue is on the disk, as Redis names it: `always`, or `everysec` as in `compose.yaml`.
    #[arg(long, default_value = "everysec")]
    appendfsync: Fsync,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// Files in the data directory.
    Embedded,
    /// ClickHouse, by a queue in Redis.
    Clickhouse,
}

impl Store {
    /// Spans a second to be stored for long, on two processors.
    const fn sustained(self) -> u32 {
        match self {
            Self::Embedded => 10_000,
            Self::Clickhouse => 15_000,
        }
    }

    const fn settles(self) -> Duration {
        match self {
            Self::Embedded => Duration::ZERO,
            Self::Clickhouse => Duration::from_mins(3),
        }
    }
}

/// Inputs and outputs are stored, which nothing does unless it is told to.
const CAPTURE: &str = "[telemetry]\ncapture = \"full\"\n";

/// Servers of the bench's own.
struct Services {
    clickhouse: &'static ClickHouse,
    redis: Redis,
}

impl Services {
    fn start(fsync: Fsync) -> io::Result<Self> {
        let skipped = || io::Error::other("SKIP_SERVICES is set");
        let clickhouse = ClickHouse::shared().map_err(io::Error::other)?.ok_or_else(skipped)?;
        let redis = Redis::start_durable(fsync).map_err(io::Error::other)?.ok_or_else(skipped)?;
        Ok(Self { clickhouse, redis })
    }

    fn config(&self) -> String {
        let (clickhouse, redis) = (self.clickhouse.database_url(), self.redis.url());
        format!("[storage]\nclickhouse_url = \"{clickhouse}\"\nredis_url = \"{redis}\"\n")
    }
}

/// A server, and what was sent to it.
struct Stage {
    server: Server,
    template: Arc<Template>,
    /// Requests made; each has other ids.
    made: Arc<AtomicU64>,
    project: String,
}

/// Spans that were taken, and how long it took.
struct Taken {
    spans: u64,
    errors: u64,
    first_error: Option<String>,
    elapsed: Duration,
}

impl Taken {
    fn per_second(&self) -> f64 {
        self.spans as f64 / self.elapsed.as_secs_f64()
    }
}

/// Measures; true when every target was met.
///
/// # Errors
/// When a server can't be started or measured.
pub(crate) async fn run(args: &Args) -> io::Result<bool> {
    let Machine { cpu, cores, kernel, load_average_before } = machine();
    println!("{cores} × {cpu}, Linux {kernel}, load average before it {load_average_before}\n");
    let work = tempfile::tempdir()?;
    let upstream = start_upstream(work.path()).await?;
    let services = match args.store {
        Store::Clickhouse => Some(Services::start(args.appendfsync)?),
        Store::Embedded => None,
    };
    let config = match (&args.config, &services) {
        (Some(config), _) => fs::read_to_string(config)?,
        (None, Some(services)) => CAPTURE.to_owned() + &services.config(),
        (None, None) => CAPTURE.to_owned(),
    };
    fs::write(work.path().join("brokle.toml"), config)?;
    let data = work.path().join("data");
    let words = serving(&fs::canonicalize(&args.brokle)?);
    let server = Candidate::new(words, upstream.addr, work.path())?.start(&data).await?;
    let project = project(server.addr).await?;
    let template = Arc::new(Template::new(TRACES));
    let stage = Stage { server, template, made: Arc::default(), project };
    let (mut targets, paced) = stage.ingest(args).await?;
    targets.extend(stage.questions(args, paced).await?);
    stage.server.stop().await?;
    let mut out = String::new();
    table(&mut out, &["telemetry", "target", "measured", ""], targets.iter().map(Target::row));
    println!("{out}");
    Ok(targets.iter().all(|target| target.pass))
}

impl Stage {
    /// Also which requests were made to be sent at a pace: of those a busy machine leaves some out.
    async fn ingest(&self, args: &Args) -> io::Result<(Vec<Target>, Range<u64>)> {
        eprintln!("spans as fast as they are taken …");
        // The first requests open files and fill caches.
        let first = self.send(Duration::from_secs(1), now).await?;
        let burst = self.send(BURST, now).await?;
        let cpu = self.server.cpu()?;
        let begun = Instant::now();
        let steady = self.send(Duration::from_secs(args.seconds), now).await?;
        self.drained().await?;
        let sustained = steady.spans as f64 / begun.elapsed().as_secs_f64();
        let each = (self.server.cpu()? - cpu).as_secs_f64() * 1e6 / steady.spans as f64;
        // As long as the flood was: what it left to merge or to copy is no part of what comes at half of that.
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        // Half of what is to be reached, for latencies.
        let paced_spans = args.store.sustained() / 2;
        eprintln!("{paced_spans} spans a second …");
        let per_request = u32::try_from(self.template.len()).unwrap_or(u32::MAX);
        let length = Duration::from_secs(args.seconds.min(10));
        let per_second = paced_spans / per_request;
        let wanted = u64::from(per_second) * length.as_secs() + 1;
        let from = self.made.load(Ordering::Relaxed);
        let requests = (0..wanted).map(|_| self.request(&now).into()).collect();
        let made = from..self.made.load(Ordering::Relaxed);
        let paced = Paced { addr: self.server.addr, requests, per_second, left_each: 0 }.run(length).await;
        self.drained().await?;
        let (_, peak) = self.server.memory()?;
        let served = paced.served.len() as u64 * self.template.len() as u64;
        let taken = first.spans + burst.spans + steady.spans + served;
        let stored = self.count().await?;
        let failed = first.errors + burst.errors + steady.errors + paced.errors + paced.shed.len() as u64;
        for why in [&first.first_error, &burst.first_error, &steady.first_error, &paced.first_error]
            .into_iter()
            .flatten()
        {
            eprintln!("first error: {why}");
        }
        println!("{each:.1} µs of the server's processor time for each span, stores in it included\n");
        let targets = vec![
            Target::at_least("taken in a burst", 25_000.0, burst.per_second(), "spans/s"),
            Target::at_least(
                "taken and stored for long",
                args.store.sustained().into(),
                sustained,
                "spans/s",
            ),
            Target::at_most(
                "p99 of a request at half of that",
                50.0,
                ms(percentile(&paced.served, 99)),
                "ms",
            ),
            Target::at_most("memory at its highest", 400.0, peak, "MB"),
            Target::at_most("requests that failed or were refused", 0.0, failed as f64, ""),
            Target::at_most(
                "spans that were taken and are lost, or there twice",
                0.0,
                taken.abs_diff(stored) as f64,
                "",
            ),
            Target::at_most("spans of a trace without input or output", 0.0, self.bare().await? as f64, ""),
        ];
        Ok((targets, made))
    }

    /// How many spans of the first trace have lost their input or their output.
    async fn bare(&self) -> io::Result<usize> {
        let trace = json(self.server.addr, &format!("/api/v1/traces/{}", hex(trace_id(0)))).await?;
        let mut spans: Vec<_> =
            trace.get("observations").and_then(|all| all.as_array()).into_iter().flatten().collect();
        let mut whole = 0;
        while let Some(span) = spans.pop() {
            let is_there = |body: &str| span.get(body).is_some_and(|body| !body.is_null());
            whole += usize::from(is_there("input") && is_there("output"));
            spans.extend(span.get("children").and_then(|all| all.as_array()).into_iter().flatten());
        }
        Ok(PER_TRACE.abs_diff(whole))
    }

    /// Fills the last 30 days, and asks what people ask; for no trace of requests that may not have been sent.
    async fn questions(&self, args: &Args, unsure: Range<u64>) -> io::Result<Vec<Target>> {
        let Args { rows, asked, .. } = *args;
        let (begin, month) = (now(0) - 30 * DAY * NANOS, 30 * DAY * NANOS);
        let told = Instant::now();
        let stored = self.count().await?;
        let mut missing = rows.saturating_sub(stored);
        // One after the other, as a month's come.
        let first = self.made.load(Ordering::Relaxed) * TRACES as u64;
        let apart = month / (missing * TRACES as u64 / self.template.len() as u64).max(1);
        let spread = move |trace: u64| begin + trace.saturating_sub(first) * apart % month;
        while missing > 0 {
            let before = self.made.load(Ordering::Relaxed);
            let length = Duration::from_secs(5).min(Duration::from_secs(missing / 40_000 + 1));
            let taken = self.send(length, spread).await?;
            if taken.errors > 0 {
                return Err(io::Error::other(taken.first_error.unwrap_or_default()));
            }
            // What isn't stored yet fills the queue, which then takes no more.
            self.drained().await?;
            let made = (self.made.load(Ordering::Relaxed) - before) * self.template.len() as u64;
            missing = missing.saturating_sub(made);
            eprint!("\r{} of {rows} rows, {} s ", rows - missing, told.elapsed().as_secs());
        }
        self.drained().await?;
        let settle = args.settle.map_or(args.store.settles(), Duration::from_secs);
        eprintln!("\rleft alone for {} s …", settle.as_secs());
        tokio::time::sleep(settle).await;
        let stored = self.count().await?;
        eprintln!("questions over {stored} rows …");
        let base = format!("/api/v1/projects/{}", self.project);
        let traces = self.made.load(Ordering::Relaxed) * TRACES as u64;
        let list = self.ask(asked, |n| format!("{base}/observations?limit=50{}", pick(n))).await?;
        let trace = self
            .ask(asked, |n| {
                let any = mixed(n) % traces;
                let sent = !unsure.contains(&(any / TRACES as u64));
                let id = trace_id(if sent { any } else { any % (unsure.start * TRACES as u64) });
                format!("/api/v1/traces/{}", hex(id))
            })
            .await?;
        let month = format!("from={}&to={}", day(begin / NANOS), day(now(0) / NANOS + DAY));
        let sums = "count,error_rate,cost,input_tokens,output_tokens";
        let totals = self
            .ask(asked, |_| format!("{base}/metrics?measures={sums}&dimensions=model&bucket=day&{month}"))
            .await?;
        let percentiles = self
            .ask(asked, |_| format!("{base}/metrics?measures=count,latency_p95&bucket=day&{month}"))
            .await?;
        println!("questions over {stored} observations, {asked} of each\n");
        Ok(vec![
            Target::at_most("a page of a list, p95", 100.0, list, "ms"),
            Target::at_most("a trace by its id, p95", 30.0, trace, "ms"),
            Target::at_most("30 days of sums by day and model, p95", 500.0, totals, "ms"),
            Target::at_most("30 days of percentiles by day, p95", 500.0, percentiles, "ms"),
        ])
    }

    fn request(&self, start: &impl Fn(u64) -> u64) -> Vec<u8> {
        self.template.request(self.made.fetch_add(1, Ordering::Relaxed), start)
    }

    /// Sends for this long, each connection its next request when it has the answer to the last one.
    async fn send(
        &self,
        length: Duration,
        start: impl Fn(u64) -> u64 + Copy + Send + 'static,
    ) -> io::Result<Taken> {
        let begin = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(self.server.addr).await?;
            let (template, made) = (Arc::clone(&self.template), Arc::clone(&self.made));
            workers.spawn(async move {
                let (mut taken, mut errors, mut first_error) = (0, 0_u64, None);
                while begin.elapsed() < length {
                    let request = template.request(made.fetch_add(1, Ordering::Relaxed), start);
                    let mut told = Vec::new();
                    match connection.exchange(&request, |part| told.extend_from_slice(part)).await {
                        Ok(200) => taken += template.len() as u64,
                        Ok(status) => {
                            errors += 1;
                            let why = format!("status {status}: {}", String::from_utf8_lossy(&told));
                            first_error.get_or_insert(why);
                        }
                        Err(error) => return (taken, errors + 1, Some(error.to_string())),
                    }
                }
                (taken, errors, first_error)
            });
        }
        let mut all = Taken { spans: 0, errors: 0, first_error: None, elapsed: Duration::ZERO };
        while let Some(done) = workers.join_next().await {
            let (spans, errors, first_error) = done.map_err(io::Error::other)?;
            all.spans += spans;
            all.errors += errors;
            all.first_error = all.first_error.or(first_error);
        }
        all.elapsed = begin.elapsed();
        Ok(all)
    }

    /// Waits until nothing is queued any more.
    async fn drained(&self) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            let (_, text) = get(self.server.addr, "GET", "/metrics").await?;
            let depth = text.lines().find_map(|line| line.strip_prefix("brokle_telemetry_queue_depth "));
            if depth.is_some_and(|depth| depth.trim() == "0") {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(600) {
                return Err(io::Error::other("the queue isn't empty after ten minutes"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Observations that there are.
    async fn count(&self) -> io::Result<u64> {
        let (from, to) = (day(now(0) / NANOS - 40 * DAY), day(now(0) / NANOS + 2 * DAY));
        let path = format!("/api/v1/projects/{}/metrics?measures=count&from={from}&to={to}", self.project);
        let told = json(self.server.addr, &path).await?;
        let rows = told.get("data").and_then(|data| data.as_array()).cloned().unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row.get("count")?.as_u64()).sum())
    }

    /// The 95th percentile of a question's time, in ms.
    async fn ask(&self, asked: u64, path: impl Fn(u64) -> String) -> io::Result<f64> {
        let mut times = Vec::new();
        for number in 0..asked {
            let begin = Instant::now();
            json(self.server.addr, &path(number)).await?;
            times.push(micros(begin.elapsed()));
        }
        times.sort_unstable();
        Ok(ms(percentile(&times, 95)))
    }
}

/// Filters and orders in turns.
fn pick(number: u64) -> &'static str {
    match number % 4 {
        0 => "",
        1 => "&filter=status:error",
        2 => "&filter=model:gpt-4o%20type:generation",
        _ => "&filter=session:session-3&fields=trace_id,name,input,output",
    }
}

/// Nanoseconds since the Unix epoch.
fn now(_: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The start of the day of these seconds since the Unix epoch, as RFC 3339 has it (days to civil date: Howard Hinnant).
fn day(seconds: u64) -> String {
    let shifted = seconds / DAY + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T00:00:00Z")
}

fn hex(id: [u8; 16]) -> String {
    id.map(|byte| format!("{byte:02x}")).concat()
}

/// The project of the key that the server was started with.
async fn project(addr: SocketAddr) -> io::Result<String> {
    let told = json(addr, "/api/v1/keys").await?;
    let id = told.pointer("/data/0/project_id").and_then(|id| id.as_str());
    id.map(str::to_owned).ok_or_else(|| io::Error::other(format!("no project: {told}")))
}

async fn json(addr: SocketAddr, path: &str) -> io::Result<serde_json::Value> {
    let mut body = Vec::new();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {API_KEY}\r\n\r\n");
    let mut connection = Connection::open(addr).await?;
    let status = connection.exchange(request.as_bytes(), |part| body.extend_from_slice(part)).await?;
    if status != 200 {
        return Err(io::Error::other(format!("{path}: status {status}: {}", String::from_utf8_lossy(&body))));
    }
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01T00:00:00Z");
        assert_eq!(day(951_782_400 + 3_600), "2000-02-29T00:00:00Z");
        assert_eq!(day(1_709_164_800), "2024-02-29T00:00:00Z");
        assert_eq!(day(1_798_761_599), "2026-12-31T00:00:00Z");
    }
}
