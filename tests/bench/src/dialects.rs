//! What translation costs: each dialect and each vendor's form, whole and streamed, against the canonical form to OpenAI; bodies of
//! 1 KB to 10 MB on the pass-through path; and the memory that a request with a picture of 10 MB takes.
//!
//! **In the guest** is the time that Brokle counts in its components (`brokle_plugin_call_seconds`), those of the policy left out,
//! for each call: a request's are the exports of [`REQUEST`], an answer's all others. A guest doesn't wait, so on a machine that
//! does nothing else it is processor time. A streamed event's is what the answer takes above the same one unstreamed, by its
//! [`CHUNKS`] pieces.

use crate::{
    candidate::{Candidate, serving, start_floor, start_upstream},
    load::{Load, percentile},
    process::{Server, get},
    report::{Cell, Machine, Shape, Target, publish, table},
    request::API_KEY,
    run::{Asked, Pace, cell, machine},
    upstream::CHUNKS,
    wire::Connection,
};
use bytes::Bytes;
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
    /// Write everything that was measured here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables here.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

const CONFIGURATION: &str = r#"
[[gateway.connections]]
name = "claude"
provider = "anthropic"
base_url = "{upstream}"
api_key_env = "OPENAI_API_KEY"

[[gateway.connections]]
name = "aws"
provider = "bedrock"
base_url = "{upstream}"
api_key_env = "OPENAI_API_KEY"
options = { auth = "api_key", region = "us-east-1" }
"#;

/// Bytes of a request's body, for which the targets are.
const BODY: usize = 2_000;
/// Of the bodies that pass through.
const BODIES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// A server has given back what its start and the compiler of components took of its program by then, which it does every five
/// seconds: else that would make up for some of a picture's memory.
const LET_GO: Duration = Duration::from_secs(6);
/// Of a picture, as base64.
const PICTURE: usize = 10_000_000;
/// What components are asked on a request's way to the vendor; everything else is for its answer.
const REQUEST: [&str; 3] = ["read-head", "to-canonical", "prepare"];
/// A prompt that fills a body.
const SAID: &str = "Gateways read what they must and pass on the rest. ";

/// A way through the gateway.
struct Way {
    name: &'static str,
    path: &'static str,
    model: &'static str,
    form: Form,
    /// Nothing is translated: the others are compared with it.
    is_native: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Chat,
    Messages,
    Responses,
    Gemini,
}

const WAYS: [Way; 6] = [
    way("chat → OpenAI", "/v1/chat/completions", "openai/gpt-4o-mini", Form::Chat, true),
    way("chat → Anthropic", "/v1/chat/completions", "claude/claude-haiku-4-5", Form::Chat, false),
    way("chat → Bedrock", "/v1/chat/completions", "aws/anthropic.claude-haiku-4-5", Form::Chat, false),
    way("Messages → OpenAI", "/v1/messages", "openai/gpt-4o-mini", Form::Messages, false),
    way("Responses → Anthropic", "/v1/responses", "claude/claude-haiku-4-5", Form::Responses, false),
    way("Gemini → OpenAI", "/v1beta/models/gpt-4o-mini", "", Form::Gemini, false),
];

const fn way(
    name: &'static str,
    path: &'static str,
    model: &'static str,
    form: Form,
    is_native: bool,
) -> Way {
    Way { name, path, model, form, is_native }
}

impl Way {
    /// The request, with a body of about `size` bytes.
    fn request(&self, size: usize, streamed: bool) -> Bytes {
        let text: String = SAID.chars().cycle().take(size.saturating_sub(150)).collect();
        let (model, path) = (self.model, self.path);
        let (path, body) = match self.form {
            Form::Chat => (
                path.to_owned(),
                format!(
                    r#"{{"model":"{model}","stream":{streamed},"max_tokens":1000,"messages":[{{"role":"user","content":"{text}"}}]}}"#
                ),
            ),
            Form::Messages => (
                path.to_owned(),
                format!(
                    r#"{{"model":"{model}","stream":{streamed},"max_tokens":1000,"messages":[{{"role":"user","content":"{text}"}}]}}"#
                ),
            ),
            Form::Responses => (
                path.to_owned(),
                format!(
                    r#"{{"model":"{model}","stream":{streamed},"store":false,"max_output_tokens":1000,"input":"{text}"}}"#
                ),
            ),
            Form::Gemini => (
                format!(
                    "{path}:{}",
                    if streamed { "streamGenerateContent?alt=sse" } else { "generateContent" }
                ),
                format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{text}"}}]}}]}}"#),
            ),
        };
        post(&path, &body)
    }

    fn end(&self, streamed: bool) -> &'static [u8] {
        if streamed && self.form == Form::Chat { b"data: [DONE]" } else { b"}" }
    }
}

fn post(path: &str, body: &str) -> Bytes {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n\
         accept: */*\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// One way, whole or streamed.
#[derive(Debug, Serialize)]
struct Row {
    way: &'static str,
    streamed: bool,
    requests: usize,
    errors: u64,
    first_error: Option<String>,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the whole process.
    cpu_us: f64,
    /// In components but the policy.
    guest_us: InGuests,
    /// For each piece of a stream, above the same way unstreamed.
    event_us: Option<f64>,
    is_native: bool,
}

/// Time in components: for each call in microseconds, or all of it in seconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct InGuests {
    request: f64,
    answer: f64,
}

/// What a picture takes.
#[derive(Debug, Serialize)]
struct Picture {
    way: &'static str,
    status: u16,
    /// The most memory above that before, over the body's size.
    times_the_body: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    rows: Vec<Row>,
    passed: Vec<Cell>,
    pictures: Vec<Picture>,
    targets: Vec<Target>,
}

/// Measures; true when every target was met.
///
/// # Errors
/// When a server can't be started or measured, or a file can't be written.
pub(crate) async fn run(args: &Args) -> io::Result<bool> {
    let (pace, length) = match args.quick {
        true => (Pace::QUICK, Duration::from_millis(500)),
        false => (Pace::FULL, Duration::from_secs(5)),
    };
    let machine = machine();
    let work = tempfile::tempdir()?;
    let upstream = start_upstream(work.path()).await?;
    let floor = start_floor(&args.floor, upstream.addr, work.path()).await?;
    let server = start(&args.brokle, upstream.addr, &work.path().join("ways")).await?;
    let mut rows: Vec<Row> = Vec::new();
    for way in &WAYS {
        for streamed in [false, true] {
            let mut row = measure_way(&server, way, streamed, length).await?;
            let whole = rows.iter().find(|row| row.way == way.name && !row.streamed).map(|row| row.guest_us);
            let above = |whole: InGuests| (row.guest_us.answer - whole.answer) / CHUNKS as f64;
            row.event_us = whole.filter(|_| streamed).map(above);
            let InGuests { request, answer } = row.guest_us;
            eprintln!("{}, streamed {streamed}: {request:.1} + {answer:.1} µs in the guest", row.way);
            rows.push(row);
        }
    }
    let mut passed = Vec::new();
    for body_bytes in BODIES {
        let asked = Asked::plain(Shape { connections: 1, body_bytes, streamed: false });
        let cell = cell(&asked, pace, &floor, &server, upstream.addr).await?;
        eprintln!("{body_bytes} bytes: CPU ratio {:.2}", cell.cpu_ratio);
        passed.push(cell);
    }
    server.stop().await?;
    let mut pictures = Vec::new();
    for (number, way) in WAYS.iter().take(2).enumerate() {
        let folder = work.path().join(format!("picture-{number}"));
        pictures.push(picture(&args.brokle, upstream.addr, &folder, way).await?);
    }
    let targets = targets(&rows, &passed, &pictures);
    let report = Report { machine, quick: args.quick, rows, passed, pictures, targets };
    let markdown = report.markdown();
    publish(&markdown, &report, args.markdown.as_deref(), args.json.as_deref())?;
    Ok(report.targets.iter().all(|target| target.pass))
}

async fn start(brokle: &Path, upstream: SocketAddr, folder: &Path) -> io::Result<Server> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let configuration = CONFIGURATION.replace("{upstream}", &format!("http://{upstream}"));
    fs::write(folder.join("brokle.toml"), configuration)?;
    Candidate::new(serving(brokle), upstream, folder)?.start(&data).await
}

async fn measure_way(server: &Server, way: &Way, streamed: bool, length: Duration) -> io::Result<Row> {
    let mut load = Load::ending(server.addr, way.request(BODY, streamed), way.end(streamed), 1);
    // The first call compiles what it needs.
    load.round(length / 5).await;
    let (cpu, guest) = (server.cpu()?, in_guests(server).await?);
    let mut round = load.round(length).await;
    let count = round.latencies.len().max(1) as f64;
    let cpu_us = (server.cpu()? - cpu).as_secs_f64() * 1e6 / count;
    let guest_us = in_guests(server).await?.since(guest, count);
    round.latencies.sort_unstable();
    let at = |percent| f64::from(percentile(&round.latencies, percent)) / 1e3;
    Ok(Row {
        way: way.name,
        streamed,
        requests: round.latencies.len(),
        errors: round.errors,
        p50_ms: at(50),
        p99_ms: at(99),
        first_error: round.first_error,
        cpu_us,
        guest_us,
        event_us: None,
        is_native: way.is_native,
    })
}

/// Seconds that were spent in components so far, those of policies left out.
async fn in_guests(server: &Server) -> io::Result<InGuests> {
    let (_, text) = get(server.addr, "GET", "/metrics").await?;
    Ok(InGuests::of(&text))
}

impl InGuests {
    fn of(metrics: &str) -> Self {
        let sums = metrics.lines().filter(|line| line.starts_with("brokle_plugin_call_seconds_sum"));
        let mut total = Self::default();
        for line in sums.filter(|line| !line.contains("brokle.policy-")) {
            let seconds = line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
            let of_request = REQUEST.iter().any(|export| line.contains(&format!("export=\"{export}\"")));
            *if of_request { &mut total.request } else { &mut total.answer } += seconds.unwrap_or_default();
        }
        total
    }

    /// What each of so many calls took in the meantime, in microseconds.
    fn since(self, before: Self, calls: f64) -> Self {
        let each = |after: f64, before: f64| (after - before) * 1e6 / calls;
        Self { request: each(self.request, before.request), answer: each(self.answer, before.answer) }
    }
}

/// A request with a picture, on a server that has answered a small one.
async fn picture(brokle: &Path, upstream: SocketAddr, folder: &Path, way: &Way) -> io::Result<Picture> {
    let server = start(brokle, upstream, folder).await?;
    let mut connection = Connection::open(server.addr).await?;
    connection.exchange(&way.request(BODY, false), |_| {}).await?;
    let data: String = "iVBORw0KGgoAAAAN".chars().cycle().take(PICTURE).collect();
    let model = way.model;
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":[{{"type":"text","text":"What is it?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
    );
    let request = post(way.path, &body);
    tokio::time::sleep(LET_GO).await;
    server.forget_peak()?;
    let (before, _) = server.memory()?;
    let status = connection.exchange(&request, |_| {}).await?;
    let (_, peak) = server.memory()?;
    server.stop().await?;
    let times_the_body = (peak - before).max(0.0) * 1e6 / body.len() as f64;
    Ok(Picture { way: way.name, status, times_the_body })
}

fn targets(rows: &[Row], passed: &[Cell], pictures: &[Picture]) -> Vec<Target> {
    // What wasn't measured is not a number, and not met.
    let worst = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NAN, f64::max);
    let translated = |streamed| move |row: &&Row| !row.is_native && row.streamed == streamed;
    let errors: u64 = rows.iter().map(|row| row.errors).sum::<u64>()
        + passed.iter().map(|cell| cell.candidate.errors + cell.floor.errors).sum::<u64>()
        + pictures.iter().filter(|picture| picture.status != 200).count() as u64;
    vec![
        Target::at_most(
            "a translated request in the guest, the dearest (2 KB)",
            60.0,
            worst(&mut rows.iter().filter(translated(false)).map(|row| row.guest_us.request)),
            "µs",
        ),
        Target::at_most(
            "a translated event in the guest, the dearest",
            6.0,
            worst(&mut rows.iter().filter(translated(true)).filter_map(|row| row.event_us)),
            "µs",
        ),
        Target::at_most(
            "CPU over the floor's, pass-through of 1 KB to 10 MB, the dearest",
            2.5,
            worst(&mut passed.iter().map(|cell| cell.cpu_ratio)),
            "×",
        ),
        Target::at_most(
            "memory for a request with a picture of 10 MB, the dearest",
            3.0,
            worst(&mut pictures.iter().map(|picture| picture.times_the_body)),
            "× the body",
        ),
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
            "way",
            "answer",
            "p50 ms",
            "p99",
            "CPU µs",
            "request in the guest µs",
            "answer in the guest µs",
            "an event µs",
            "errors",
        ];
        table(&mut out, &head, self.rows.iter().map(Row::row));
        let head =
            ["body KB", "floor p50 ms", "Brokle p50 ms", "floor CPU µs", "Brokle CPU µs", "ratio", "errors"];
        table(&mut out, &head, self.passed.iter().map(passed));
        let head = ["a picture of 10 MB", "status", "memory × the body"];
        let pictures = self.pictures.iter();
        table(
            &mut out,
            &head,
            pictures.map(|one| {
                vec![one.way.to_owned(), one.status.to_string(), format!("{:.2}", one.times_the_body)]
            }),
        );
        table(&mut out, &["target", "at most", "measured", ""], self.targets.iter().map(Target::row));
        for row in &self.rows {
            if let Some(error) = &row.first_error {
                let _ = writeln!(out, "{}: {error}", row.way);
            }
        }
        out
    }
}

fn passed(cell: &Cell) -> Vec<String> {
    vec![
        (cell.shape.body_bytes / 1_000).to_string(),
        format!("{:.3}", cell.floor.p50_ms),
        format!("{:.3}", cell.candidate.p50_ms),
        format!("{:.1}", cell.floor.cpu_us_per_request),
        format!("{:.1}", cell.candidate.cpu_us_per_request),
        format!("{:.2}", cell.cpu_ratio),
        (cell.floor.errors + cell.candidate.errors).to_string(),
    ]
}

impl Row {
    fn row(&self) -> Vec<String> {
        vec![
            self.way.to_owned(),
            if self.streamed { "stream" } else { "whole" }.to_owned(),
            format!("{:.3}", self.p50_ms),
            format!("{:.3}", self.p99_ms),
            format!("{:.1}", self.cpu_us),
            format!("{:.1}", self.guest_us.request),
            format!("{:.1}", self.guest_us.answer),
            self.event_us.map_or_else(String::new, |us| format!("{us:.2}")),
            self.errors.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_told_apart_and_policies_left_out() {
        let metrics = "# HELP brokle_plugin_call_seconds x\n\
            brokle_plugin_call_seconds_sum{plugin=\"brokle.provider-anthropic\",export=\"prepare\"} 0.25\n\
            brokle_plugin_call_seconds_sum{plugin=\"brokle.policy-priority\",export=\"decide\"} 4\n\
            brokle_plugin_call_seconds_sum{plugin=\"brokle.dialect-gemini\",export=\"to-canonical\"} 0.125\n\
            brokle_plugin_call_seconds_sum{plugin=\"brokle.dialect-gemini\",export=\"encoder.push\"} 0.5\n\
            brokle_plugin_call_seconds_count{plugin=\"brokle.dialect-gemini\",export=\"encoder.push\"} 9\n";
        let InGuests { request, answer } = InGuests::of(metrics);
        assert!((request - 0.375).abs() < 1e-9 && (answer - 0.5).abs() < 1e-9, "{request} {answer}");
    }

    #[test]
    fn what_wasnt_measured_isnt_met() {
        let failed = targets(&[], &[], &[]).iter().filter(|target| !target.pass).count();
        assert_eq!(failed, 4);
    }
}
