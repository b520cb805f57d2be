//! What was measured, the targets, and the tables that show both.

use crate::streams::Streams;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

/// One run. Times are in ms or µs as their names say, memory in MB of 10⁶ bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) cells: Vec<Cell>,
    pub(crate) floor_streams: Streams,
    pub(crate) candidate_streams: Streams,
    pub(crate) cold_starts_s: Vec<f64>,
    pub(crate) warm_starts_s: Vec<f64>,
    pub(crate) floor_memory: Memory,
    pub(crate) candidate_memory: Memory,
    pub(crate) targets: Vec<Target>,
}

/// Where it was measured, and what else went on there.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) load_average_before: String,
}

/// Resident memory when all load had passed, and at its highest.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) after_mb: f64,
    pub(crate) peak_mb: f64,
}

/// What is asked for, over how many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) body_bytes: usize,
    pub(crate) streamed: bool,
}

/// One shape through both gateways.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    #[serde(flatten)]
    pub(crate) shape: Shape,
    pub(crate) floor: Side,
    pub(crate) candidate: Side,
    /// The candidate's CPU per request over the floor's.
    pub(crate) cpu_ratio: f64,
    /// The median over the rounds of the difference of the two medians.
    pub(crate) added_p50_ms: f64,
}

/// One shape through one gateway.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) requests: usize,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) requests_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) rss_mb: f64,
}

/// A number that must not be exceeded.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) limit: f64,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) pass: bool,
}

/// The shape on which CPU is judged.
pub(crate) const CPU_SHAPE: Shape = Shape { connections: 32, body_bytes: 200, streamed: false };
/// Up to so many connections memory is judged. Beyond, the bodies themselves (256 × 400 KB are 100 MB) and what the
/// allocator keeps of them outweigh the gateway: the floor, which holds nothing, is left with 90 to 130 MB.
const MEMORY_CONNECTIONS: usize = 32;
/// The shape on which latency is judged.
pub(crate) const LATENCY_SHAPE: Shape = Shape { connections: 1, body_bytes: 200, streamed: false };

impl Report {
    /// Holds what was measured against the targets.
    pub(crate) fn judge(&mut self) {
        // A cell that is missing, or a ratio to nothing, is no pass.
        let of = |shape: Shape, value: fn(&Cell) -> f64| {
            self.cells.iter().find(|cell| cell.shape == shape).map_or(f64::NAN, value)
        };
        let errors =
            |side: fn(&Cell) -> &Side| self.cells.iter().map(|cell| side(cell).errors).sum::<u64>() as f64;
        let judged = self.cells.iter().filter(|cell| cell.shape.connections <= MEMORY_CONNECTIONS);
        let memory = judged.map(|cell| cell.candidate.rss_mb).reduce(f64::max).unwrap_or(f64::NAN);
        let target = Target::at_most;
        self.targets = vec![
            target(
                "CPU per request, over the floor's (32 connections, 0.2 KB)",
                2.5,
                of(CPU_SHAPE, |cell| cell.cpu_ratio),
                "×",
            ),
            target(
                "added median (1 connection, 0.2 KB)",
                0.15,
                of(LATENCY_SHAPE, |cell| cell.added_p50_ms),
                "ms",
            ),
            target("memory (after the worst load on up to 32 connections)", 80.0, memory, "MB"),
            target("errors", 0.0, errors(|cell| &cell.candidate), ""),
            target("broken streams", 0.0, self.candidate_streams.broken as f64, ""),
            target("cold start", 3.0, median(&self.cold_starts_s), "s"),
            target("warm start", 0.5, median(&self.warm_starts_s), "s"),
            target(
                "errors and broken streams of the floor",
                0.0,
                errors(|cell| &cell.floor) + self.floor_streams.broken as f64,
                "",
            ),
        ];
    }

    /// Whether every target was met.
    pub(crate) fn passes(&self) -> bool {
        self.targets.iter().all(|target| target.pass)
    }

    /// Tables in Markdown that can be read as they are, too.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let Machine { cpu, cores, kernel, load_average_before } = &self.machine;
        let kind = if self.quick { "a quick run" } else { "a full run" };
        let _ = writeln!(
            out,
            "{kind} on {cores} × {cpu}, Linux {kernel}, load average before it {load_average_before}\n"
        );
        let head = [
            "connections",
            "body KB",
            "answer",
            "floor p50 ms",
            "p99",
            "req/s",
            "CPU µs",
            "RSS MB",
            "Brokle p50 ms",
            "p99",
            "req/s",
            "CPU µs",
            "RSS MB",
            "CPU ratio",
            "added ms",
            "errors",
        ];
        table(&mut out, &head, self.cells.iter().map(Cell::row));
        let head = ["500 streams", "broken", "first byte p50 ms", "p99", "total p50 ms", "p99"];
        let streams = [("floor", &self.floor_streams), ("Brokle", &self.candidate_streams)];
        table(&mut out, &head, streams.map(|(name, streams)| streams_row(name, streams)));
        let head = ["memory", "after MB", "peak MB"];
        let memory = [("floor", &self.floor_memory), ("Brokle", &self.candidate_memory)];
        table(
            &mut out,
            &head,
            memory.map(|(name, memory)| {
                vec![name.to_owned(), format!("{:.1}", memory.after_mb), format!("{:.1}", memory.peak_mb)]
            }),
        );
        table(&mut out, &["target", "at most", "measured", ""], self.targets.iter().map(Target::row));
        for cell in &self.cells {
            for (name, side) in [("floor", &cell.floor), ("Brokle", &cell.candidate)] {
                if let Some(error) = &side.first_error {
                    let _ = writeln!(out, "{name}, {:?}: {error}", cell.shape);
                }
            }
        }
        for (name, streams) in streams {
            if let Some(why) = &streams.first_broken {
                let _ = writeln!(out, "{name}, first broken stream: {why}");
            }
        }
        out
    }
}

impl Cell {
    fn row(&self) -> Vec<String> {
        let side = |side: &Side| {
            [
                format!("{:.3}", side.p50_ms),
                format!("{:.3}", side.p99_ms),
                format!("{:.0}", side.requests_per_s),
                format!("{:.1}", side.cpu_us_per_request),
                format!("{:.1}", side.rss_mb),
            ]
        };
        let Shape { connections, body_bytes, streamed } = self.shape;
        let answer = if streamed { "stream" } else { "whole" };
        let mut row =
            vec![connections.to_string(), (body_bytes as f64 / 1000.0).to_string(), answer.to_owned()];
        row.extend(side(&self.floor));
        row.extend(side(&self.candidate));
        row.push(format!("{:.2}", self.cpu_ratio));
        row.push(format!("{:.3}", self.added_p50_ms));
        row.push(format!("{}+{}", self.floor.errors, self.candidate.errors));
        row
    }
}

impl Target {
    /// What can't be measured (not a number) isn't met.
    pub(crate) fn at_most(name: &'static str, limit: f64, measured: f64, unit: &'static str) -> Self {
        Self { name, limit, measured, unit, pass: measured <= limit }
    }

    pub(crate) fn at_least(name: &'static str, limit: f64, measured: f64, unit: &'static str) -> Self {
        Self { name, limit, measured, unit, pass: measured >= limit }
    }

    pub(crate) fn row(&self) -> Vec<String> {
        let number =
            |value: f64| format!("{} {}", (value * 1000.0).round() / 1000.0, self.unit).trim().to_owned();
        let pass = if self.pass { "pass" } else { "FAIL" };
        vec![self.name.to_owned(), number(self.limit), number(self.measured), pass.to_owned()]
    }
}

fn streams_row(name: &str, streams: &Streams) -> Vec<String> {
    let times =
        [streams.first_byte_p50_ms, streams.first_byte_p99_ms, streams.total_p50_ms, streams.total_p99_ms];
    let mut row = vec![name.to_owned(), streams.broken.to_string()];
    row.extend(times.map(|time| format!("{time:.1}")));
    row
}

/// Prints what was measured, and writes it where the user wants it.
pub(crate) fn publish(
    markdown: &str,
    report: &impl Serialize,
    table: Option<&Path>,
    json: Option<&Path>,
) -> io::Result<()> {
    println!("{markdown}");
    if let Some(path) = table {
        fs::write(path, markdown)?;
    }
    if let Some(path) = json {
        fs::write(path, serde_json::to_vec_pretty(report)?)?;
    }
    Ok(())
}

/// The middle value, or the mean of the two; not a number when there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

/// A Markdown table with its columns aligned.
pub(crate) fn table(out: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (index, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:>width$} |"));
        let _ = writeln!(out, "|{}", cells.collect::<String>());
        if index == 0 {
            let _ = writeln!(
                out,
                "|{}",
                widths.iter().map(|width| format!("{}:|", "-".repeat(width + 1))).collect::<String>()
            );
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(errors: u64) -> Side {
        Side {
            requests: 1,
            errors,
            first_error: None,
            requests_per_s: 1.0,
            p50_ms: 1.0,
            p99_ms: 1.0,
            cpu_us_per_request: 1.0,
            rss_mb: 80.0,
        }
    }

    fn report() -> Report {
        let cell = |shape, errors| Cell {
            shape,
            floor: side(0),
            candidate: side(errors),
            cpu_ratio: 2.5,
            added_p50_ms: 0.15,
        };
        Report {
            machine: Machine {
                cpu: "CPU".into(),
                cores: 2,
                kernel: "6".into(),
                load_average_before: "0".into(),
            },
            quick: true,
            cells: vec![cell(CPU_SHAPE, 0), cell(LATENCY_SHAPE, 0)],
            floor_streams: Streams::default(),
            candidate_streams: Streams::default(),
            cold_starts_s: vec![9.0, 3.0, 1.0],
            warm_starts_s: vec![0.5],
            floor_memory: Memory::default(),
            candidate_memory: Memory { after_mb: 800.0, peak_mb: 900.0 },
            targets: Vec::new(),
        }
    }

    #[test]
    fn a_limit_that_is_just_met_passes_and_each_that_is_not_fails_the_run() {
        let verdict = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            report.judge();
            let failed: Vec<&str> =
                report.targets.iter().filter(|target| !target.pass).map(|target| target.name).collect();
            assert_eq!(report.passes(), failed.is_empty());
            failed.len()
        };
        assert_eq!(verdict(|_| ()), 0);
        assert_eq!(verdict(|report| report.cells[0].cpu_ratio = 2.51), 1);
        assert_eq!(verdict(|report| report.cells[0].cpu_ratio = f64::NAN), 1);
        assert_eq!(verdict(|report| report.cells[1].added_p50_ms = 0.151), 1);
        assert_eq!(verdict(|report| report.cells.clear()), 3);
        assert_eq!(verdict(|report| report.cells[1].candidate.rss_mb = 80.1), 1);
        assert_eq!(verdict(|report| report.cells[1].candidate.errors = 1), 1);
        assert_eq!(verdict(|report| report.cells[1].floor.errors = 1), 1);
        assert_eq!(verdict(|report| report.candidate_streams.broken = 1), 1);
        assert_eq!(verdict(|report| report.cold_starts_s = vec![3.1]), 1);
        assert_eq!(verdict(|report| report.warm_starts_s = vec![]), 1);
    }

    #[test]
    fn tables_are_aligned_and_complete() {
        let mut report = report();
        report.judge();
        let markdown = report.markdown();
        let widths = |table: &str| {
            table.lines().map(|line| line.chars().count()).collect::<std::collections::HashSet<_>>()
        };
        let tables: Vec<&str> = markdown.split("\n\n").filter(|part| part.starts_with('|')).collect();
        assert_eq!(tables.len(), 4);
        assert!(tables.iter().all(|table| widths(table).len() == 1));
        assert!(tables[3].contains("| pass |") && !markdown.contains("FAIL"));
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
    }
}
