//! What a run of fixtures came to.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a component's fixtures came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `id version`
    pub plugin: String,
    /// One entry a fixture, by name.
    pub fixtures: Vec<Fixture>,
    /// Calls of each function of the plugin's world. 0: no fixture reaches it.
    pub coverage: BTreeMap<String, u64>,
}

/// One fixture.
#[derive(Debug, Clone, Serialize)]
pub struct Fixture {
    /// Its folder's or file's name.
    pub name: String,
    /// How often it was played: once, once more to see that the same comes of it, and for streams once for each cut.
    pub plays: usize,
    /// What differs; nothing when it passed.
    pub differences: Vec<String>,
}

impl Report {
    /// Whether every fixture passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.fixtures.iter().all(|fixture| fixture.differences.is_empty())
    }

    /// The report for people, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.plugin.clone()];
        for Fixture { name, plays, differences } in &self.fixtures {
            let (word, times) = (if differences.is_empty() { "ok  " } else { "FAIL" }, times(*plays));
            lines.push(format!("  {word}  {name}  ({times})"));
            lines.extend(
                differences.iter().flat_map(|text| text.lines()).map(|line| format!("        {line}")),
            );
        }
        let reached = self.coverage.values().filter(|calls| **calls > 0).count();
        lines.push(format!("  coverage: {reached} of {} functions of the world", self.coverage.len()));
        for (function, calls) in &self.coverage {
            let note = if *calls == 0 { "no fixture reaches it".to_owned() } else { times(*calls) };
            lines.push(format!("    {function:<20} {note}"));
        }
        let failed = self.fixtures.iter().filter(|fixture| !fixture.differences.is_empty()).count();
        lines.push(format!("{} passed, {failed} failed", self.fixtures.len() - failed));
        lines
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = self.fixtures.iter().filter(|fixture| !fixture.differences.is_empty());
        failed.map(|fixture| format!("{}\n  {}", fixture.name, fixture.differences.join("\n  "))).collect()
    }
}

fn times(count: impl std::fmt::Display) -> String {
    match count.to_string().as_str() {
        "1" => "once".to_owned(),
        count => format!("{count} times"),
    }
}
