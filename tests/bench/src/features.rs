//! What each feature adds: Brokle is started anew with it alone, then with all together, and takes turns with the floor as in a run.
//!
//! What is told of a feature is its own median and CPU, and what both are above those of a start without any (`nothing`). An answer
//! from the cache doesn't come from the upstream; all others must. Redis is the distribution's, started on loopback for the
//! rows that need it. At the end the start with nothing carries many slow streams: 500 that are kept up, for the time to the first byte, and 1,000
//! that begin in one moment, for the memory.

use crate::{
    candidate::{Candidate, serving, start_floor, start_upstream},
    process::{Server, get},
    report::{Cell, Machine, Memory, Shape, Target, publish, table},
    run::{Asked, Pace, cell, machine},
    streams::{self, Streams},
};
use brokle_test_services::Redis;
use serde::Serialize;
use std::{fmt::Write, fs, io, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The floor's binary.
    #[arg(long)]
    floor: PathBuf,
    /// Brokle's binary, started with `serve`.
    #[arg(long)]
    brokle: PathBuf,
    /// Shorter rounds, with more noise.
    #[arg(long)]
    quick: bool,
    /// Connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32])]
    connections: Vec<usize>,
    /// Only these features, by name; `nothing` is measured always.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Streams that begin at once.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Streams that are kept up.
    #[arg(long, default_value_t = streams::STREAMS)]
    kept_up: usize,
    /// Write everything that was measured here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables here.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Bytes of a request's body, for which the targets are.
const BODY: usize = 2_000;

/// What is switched on, and how it is asked.
struct Feature {
    name: &'static str,
    /// Of `brokle.toml`; `{upstream}` is filled in.
    configuration: &'static str,
    needs_redis: bool,
    lines: &'static str,
    from_upstream: bool,
}

const PLAIN: Feature =
    Feature { name: "nothing", configuration: "", needs_redis: false, lines: "", from_upstream: true };
/// A look that is skipped, and an answer that is kept: as much work as a miss, for one and the same request.
const ANEW: &str = "cache-control: no-cache\r\n";

const POLICY: &str = "[gateway]\npolicy = \"latency\"\n";
const GUARDRAIL: &str = r#"
[[guardrails]]
name = "words"
plugin = "regex"
config = { deny = [{ pattern = "zephyr", category = "confidential" }] }
"#;
const CACHE: &str = "[cache]\nenabled = true\n";
const SHARED_CACHE: &str = "[cache]\nenabled = true\nstore = \"redis\"\n";
const LIMITS: &str = r#"
[[limits]]
name = "much"
by = ["project"]
requests_per_minute = 1000000000
tokens_per_minute = 1000000000
"#;
/// Armed and never fired: what it costs to be ready.
const HEDGE: &str = r#"
[[gateway.connections]]
name = "spare"
provider = "openai"
base_url = "{upstream}/v1"
api_key_env = "OPENAI_API_KEY"

[[routes]]
name = "hedged"
aliases = ["gpt-4o-mini"]
hedge = { after_ms = 5000 }
candidates = [{ provider = "openai", model = "gpt-4o-mini" }, { provider = "spare", model = "gpt-4o-mini" }]
"#;

fn features() -> Vec<Feature> {
    let cached = |name, configuration, needs_redis| Feature {
        name,
        configuration,
        needs_redis,
        from_upstream: false,
        ..PLAIN
    };
    vec![
        PLAIN,
        Feature { name: "policy", configuration: POLICY, ..PLAIN },
        Feature { name: "guardrail", configuration: GUARDRAIL, ..PLAIN },
        Feature { name: "cache-miss", configuration: CACHE, lines: ANEW, ..PLAIN },
        cached("cache-hit", CACHE, false),
        Feature {
            name: "redis-cache-miss",
            configuration: SHARED_CACHE,
            needs_redis: true,
            lines: ANEW,
            ..PLAIN
        },
        cached("redis-cache-hit", SHARED_CACHE, true),
        Feature { name: "limits", configuration: LIMITS, ..PLAIN },
        Feature { name: "redis-limits", configuration: LIMITS, needs_redis: true, ..PLAIN },
        Feature { name: "hedging", configuration: HEDGE, ..PLAIN },
        Feature { name: "all", configuration: "all", needs_redis: true, lines: ANEW, ..PLAIN },
    ]
}

impl Feature {
    fn text(&self, upstream: SocketAddr, redis: Option<&Redis>) -> String {
        let text = match self.configuration {
            "all" => [POLICY, GUARDRAIL, SHARED_CACHE, LIMITS, HEDGE].concat(),
            one => one.to_owned(),
        };
        let storage = redis.filter(|_| self.needs_redis);
        let storage = storage.map(|redis| format!("[storage]\nredis_url = \"{}\"\n", redis.url()));
        text.replace("{upstream}", &format!("http://{upstream}")) + &storage.unwrap_or_default()
    }
}

/// One feature, one number of connections.
#[derive(Debug, Serialize)]
struct Row {
    feature: &'static str,
    #[serde(flatten)]
    cell: Cell,
    /// Above the start without features: the median in ms, CPU in µs.
    over_nothing_ms: f64,
    over_nothing_cpu_us: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    rows: Vec<Row>,
    floor_streams: Streams,
    streams: Streams,
    floor_kept_up: Streams,
    kept_up: Streams,
    memory: Memory,
    targets: Vec<Target>,
}

/// Measures; true when every target was met.
///
/// # Errors
/// When a server can't be started or measured, or a file can't be written.
pub(crate) async fn run(args: &Args) -> io::Result<bool> {
    let pace = if args.quick { Pace::QUICK } else { Pace::FULL };
    let wanted: Vec<Feature> = features()
        .into_iter()
        .filter(|one| {
            one.name == PLAIN.name || args.only.is_empty() || args.only.iter().any(|name| name == one.name)
        })
        .collect();
    let machine = machine();
    let work = tempfile::tempdir()?;
    let upstream = start_upstream(work.path()).await?;
    let floor = start_floor(&args.floor, upstream.addr, work.path()).await?;
    let redis = match wanted.iter().any(|one| one.needs_redis) {
        true => Redis::start().map_err(io::Error::other)?,
        false => None,
    };
    let mut rows: Vec<Row> = Vec::new();
    for feature in wanted.iter().filter(|one| redis.is_some() || !one.needs_redis) {
        let folder = work.path().join(feature.name);
        fs::create_dir(&folder)?;
        fs::write(folder.join("brokle.toml"), feature.text(upstream.addr, redis.as_ref()))?;
        let server = start(&args.brokle, upstream.addr, &folder).await?;
        for &connections in &args.connections {
            let shape = Shape { connections, body_bytes: BODY, streamed: false };
            let asked = Asked { shape, lines: feature.lines, from_upstream: feature.from_upstream };
            let cell = cell(&asked, pace, &floor, &server, upstream.addr).await?;
            let plain = rows.iter().find(|row| row.feature == PLAIN.name && row.cell.shape == shape);
            let over = |of: fn(&Cell) -> f64| plain.map_or(0.0, |plain| of(&cell) - of(&plain.cell));
            let over_nothing_ms = over(|cell| cell.added_p50_ms);
            let over_nothing_cpu_us =
                over(|cell| cell.candidate.cpu_us_per_request - cell.floor.cpu_us_per_request);
            eprintln!(
                "{}, {connections} connections: {:.3} ms above the floor",
                feature.name, cell.added_p50_ms
            );
            rows.push(Row { feature: feature.name, cell, over_nothing_ms, over_nothing_cpu_us });
        }
        server.stop().await?;
    }
    get(upstream.addr, "POST", &format!("/__delay/{}", streams::DELAY.as_millis())).await?;
    let folder = work.path().join("streams");
    fs::create_dir(&folder)?;
    let server = start(&args.brokle, upstream.addr, &folder).await?;
    let length = Duration::from_secs(if args.quick { 4 } else { 15 });
    let kept_up = |addr| streams::keep_up(addr, args.kept_up, length);
    let (floor_kept_up, kept_up) = (kept_up(floor.addr).await?, kept_up(server.addr).await?);
    let (floor_streams, streams) =
        (streams::run(floor.addr, args.streams).await?, streams::run(server.addr, args.streams).await?);
    let (after_mb, peak_mb) = server.memory()?;
    let memory = Memory { after_mb, peak_mb };
    server.stop().await?;
    let targets = targets(&rows, &floor_kept_up, &kept_up, &streams, &memory);
    let quick = args.quick;
    let report =
        Report { machine, quick, rows, floor_streams, streams, floor_kept_up, kept_up, memory, targets };
    let markdown = report.markdown();
    publish(&markdown, &report, args.markdown.as_deref(), args.json.as_deref())?;
    Ok(report.targets.iter().all(|target| target.pass))
}

async fn start(brokle: &Path, upstream: SocketAddr, folder: &Path) -> io::Result<Server> {
    let data = folder.join("data");
    fs::create_dir(&data)?;
    Candidate::new(serving(brokle), upstream, folder)?.start(&data).await
}

fn targets(
    rows: &[Row],
    floor: &Streams,
    kept_up: &Streams,
    at_once: &Streams,
    memory: &Memory,
) -> Vec<Target> {
    // What wasn't measured is not a number, and not met.
    let of = |feature: &str, value: fn(&Row) -> f64| {
        let row = rows.iter().find(|row| row.feature == feature && row.cell.shape.connections == 1);
        row.map_or(f64::NAN, value)
    };
    let errors: u64 = rows.iter().map(|row| row.cell.candidate.errors + row.cell.floor.errors).sum();
    vec![
        Target::at_most(
            "exact-cache hit above the floor (1 connection, 2 KB)",
            0.15,
            of("cache-hit", |row| row.cell.added_p50_ms),
            "ms",
        ),
        Target::at_most(
            "a further plugin in the chain (1 connection, 2 KB)",
            0.05,
            of("guardrail", |row| row.over_nothing_ms),
            "ms",
        ),
        Target::at_most(
            "first byte p99 above the floor's, streams kept up",
            1.0,
            kept_up.first_byte_p99_ms - floor.first_byte_p99_ms,
            "ms",
        ),
        Target::at_most("memory at its highest, all streams at once", 100.0, memory.peak_mb, "MB"),
        Target::at_most("broken streams", 0.0, (kept_up.broken + at_once.broken) as f64, ""),
        Target::at_most("errors", 0.0, errors as f64, ""),
    ]
}

impl Report {
    fn markdown(&self) -> String {
        let mut out = String::new();
        let Machine { cpu, cores, kernel, load_average_before } = &self.machine;
        let kind = if self.quick { "a quick run" } else { "a full run" };
        let _ = writeln!(
            out,
            "{kind} on {cores} × {cpu}, Linux {kernel}, load average before it {load_average_before}\n"
        );
        let head = [
            "feature",
            "connections",
            "p50 ms",
            "p99",
            "req/s",
            "CPU µs",
            "RSS MB",
            "above the floor ms",
            "above nothing ms",
            "CPU above nothing µs",
            "errors",
        ];
        table(&mut out, &head, self.rows.iter().map(Row::row));
        let head = ["streams", "read", "broken", "first byte p50 ms", "p99", "total p50 ms", "p99"];
        let streams = [
            ("floor", "kept up", &self.floor_kept_up),
            ("Brokle", "kept up", &self.kept_up),
            ("floor", "at once", &self.floor_streams),
            ("Brokle", "at once", &self.streams),
        ];
        table(
            &mut out,
            &head,
            streams.map(|(name, how, one)| {
                let times =
                    [one.first_byte_p50_ms, one.first_byte_p99_ms, one.total_p50_ms, one.total_p99_ms];
                let name = format!("{name}, {} {how}", one.streams);
                let mut row = vec![name, one.read.to_string(), one.broken.to_string()];
                row.extend(times.map(|time| format!("{time:.1}")));
                row
            }),
        );
        table(&mut out, &["target", "at most", "measured", ""], self.targets.iter().map(Target::row));
        for row in &self.rows {
            if let Some(error) = &row.cell.candidate.first_error {
                let _ = writeln!(out, "{}: {error}", row.feature);
            }
        }
        out
    }
}

impl Row {
    fn row(&self) -> Vec<String> {
        let side = &self.cell.candidate;
        vec![
            self.feature.to_owned(),
            self.cell.shape.connections.to_string(),
            format!("{:.3}", side.p50_ms),
            format!("{:.3}", side.p99_ms),
            format!("{:.0}", side.requests_per_s),
            format!("{:.1}", side.cpu_us_per_request),
            format!("{:.1}", side.rss_mb),
            format!("{:.3}", self.cell.added_p50_ms),
            format!("{:.3}", self.over_nothing_ms),
            format!("{:.1}", self.over_nothing_cpu_us),
            side.errors.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_a_name_of_its_own_and_all_is_all() {
        let all = features();
        let mut names: Vec<_> = all.iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let upstream = ([127, 0, 0, 1], 80).into();
        let text = all.last().unwrap().text(upstream, None);
        for part in
            ["policy = ", "[[guardrails]]", "[cache]", "[[limits]]", "hedge = ", "http://127.0.0.1:80/v1"]
        {
            assert!(text.contains(part), "{part}");
        }
        assert_eq!(text.matches("[gateway]").count(), 1);
    }

    #[test]
    fn what_wasnt_measured_isnt_met() {
        let none = Streams::default();
        let judged = targets(&[], &none, &none, &none, &Memory::default());
        let failed: Vec<_> = judged.iter().filter(|target| !target.pass).map(|target| target.name).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
    }
}
