//! What was measured beside what is to be reached.

use std::path::PathBuf;
use std::time::SystemTime;

use criterion::Criterion;

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
struct Row {
    what: String,
    target: Target,
    measured: f64,
    unit: &'static str,
}

/// The table, and where Criterion's part of it comes from.
pub(crate) struct Figures {
    folder: PathBuf,
    began: SystemTime,
    rows: Vec<Row>,
}

impl Figures {
    /// Of a run that begins now.
    pub(crate) fn new() -> Self {
        let folder = crate::common::built().find(|folder| folder.join("wasm32-wasip2").exists()).unwrap();
        Self { folder: folder.join("criterion"), began: SystemTime::now(), rows: Vec::new() }
    }

    /// Writes what it estimates to where [`estimate`](Self::estimate) finds it.
    pub(crate) fn criterion(&self) -> Criterion {
        Criterion::default().without_plots().output_directory(&self.folder)
    }

    /// What Criterion says a bench of this run takes, in nanoseconds. None: it was not among those that were asked for.
    pub(crate) fn estimate(&self, group: &str, bench: &str) -> Option<f64> {
        let file = self.folder.join(group).join(bench.replace('/', "_")).join("new/estimates.json");
        // An older run's is still there.
        let written = std::fs::metadata(&file).and_then(|file| file.modified()).ok()?;
        let estimates = std::fs::read(file).ok().filter(|_| written >= self.began)?;
        let estimates: serde_json::Value = serde_json::from_slice(&estimates).unwrap();
        // Over samples of growing length, or, of what takes long, over samples of one length.
        let of =
            |kind| estimates.pointer(&format!("/{kind}/point_estimate")).and_then(serde_json::Value::as_f64);
        of("slope").or_else(|| of("mean"))
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, what: &str, target: Target, measured: f64, unit: &'static str) {
        self.rows.push(Row { what: what.to_owned(), target, measured, unit });
    }

    /// Adds a line for a bench of the group `sandbox`, if it ran; `of` makes the figure of its nanoseconds.
    pub(crate) fn of(
        &mut self,
        what: &str,
        bench: &str,
        target: Target,
        unit: &'static str,
        of: impl Fn(f64) -> f64,
    ) {
        if let Some(nanoseconds) = self.estimate("sandbox", bench) {
            self.add(what, target, of(nanoseconds), unit);
        }
    }

    /// Prints it, as Markdown.
    pub(crate) fn print(&self) {
        println!("\n| | to reach | measured | |\n|---|---:|---:|---|");
        for Row { what, target, measured, unit } in &self.rows {
            let (bound, met) = match target {
                Target::AtMost(most) => (format!("≤ {most}"), measured <= most),
                Target::AtLeast(least) => (format!("≥ {least}"), measured >= least),
            };
            let digits = if *measured < 10.0 { 2 } else { 1 };
            let verdict = if met { "pass" } else { "FAIL" };
            println!("| {what} | {bound} {unit} | {measured:.digits$} {unit} | {verdict} |");
        }
    }
}
