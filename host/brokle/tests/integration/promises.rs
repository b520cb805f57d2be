//! `docs/failure-modes.md` names a test for each promise: those tests are there.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../../docs/failure-modes.md");

/// What the last column of each row of a table names, in backticks.
fn named() -> impl Iterator<Item = &'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

/// `a/{b,c}` is `a/b` and `a/c`.
fn spread(name: &str) -> Vec<String> {
    match name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        None => vec![name.to_owned()],
        Some((before, (each, after))) => each.split(',').map(|one| format!("{before}{one}{after}")).collect(),
    }
}

/// Whether a file has this test: a function, a row of a macro's, or a module of a variant's name.
fn has(text: &str, test: &str) -> bool {
    let is_there = |part: &str| {
        [format!("fn {part}("), format!("    {part}: "), format!("mod {part}")]
            .iter()
            .any(|one| text.contains(one.as_str()))
    };
    test.split("::").all(is_there)
}

#[test]
fn each_test_that_a_promise_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut last, mut missing, mut found) = (PathBuf::new(), Vec::new(), 0);
    let names = named().filter(|name| name.starts_with("::") || name.contains(".rs"));
    for name in names.flat_map(spread) {
        let (file, test) =
            name.split_once("::").map_or((name.as_str(), None), |(file, test)| (file, Some(test)));
        // `…/x.rs` is beside the one before; nothing is the one before.
        let path = match file.strip_prefix("…/") {
            Some(beside) => last.parent().unwrap_or(&last).join(beside),
            None if file.is_empty() => last.clone(),
            None => root.join(file),
        };
        let text = std::fs::read_to_string(&path);
        match text.is_ok_and(|text| test.is_none_or(|test| has(&text, test))) {
            true => found += 1,
            false => missing.push(name.clone()),
        }
        last = path;
    }
    assert!(missing.is_empty(), "{found} are there, but not {missing:#?}");
    assert!(found > 200, "only {found} are named");
}
