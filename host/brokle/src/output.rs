//! What goes to standard output: answers, for people or (with `--json`) for programs. The log goes to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Writes lines.
///
/// # Errors
/// When the reader is gone, as `| head` is.
pub(crate) fn lines<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.as_ref())?;
    }
    out.flush()
}

/// Writes a value as JSON.
///
/// # Errors
/// When the reader is gone.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Asks for the word `yes`. Without a terminal there is nobody to ask, and the answer is no.
///
/// # Errors
/// When the terminal can't be read.
pub(crate) fn confirm(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut err = io::stderr();
    write!(err, "{question} Type yes to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
