//! Words that must not leave the house: requests with one are blocked, answers have them masked.

use brokle_plugin::guardrail::scan::{Finding, Scanner, replace};
use brokle_plugin::guardrail::{Call, Document, Failure, Fragment, Guardrail, Ruling, StreamRuling, Text};
use brokle_plugin::{Description, host};
use serde::Deserialize;

/// What an operator sets; the schema is in `plugin.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    words: Vec<String>,
}

/// One is made for each request, each whole answer, and each stream.
struct Acme {
    words: Vec<String>,
    scanner: Scanner,
}

/// The first word in a text that begins at or after a place.
fn first(words: &[String], text: &str, from: usize) -> Option<Finding<()>> {
    let rest = text.get(from..)?;
    let found = words.iter().filter_map(|word| {
        let start = from + rest.find(word.as_str())?;
        Some(Finding { range: start..start + word.len(), more: None, what: () })
    });
    // Of those that begin at the same place, the longest.
    found.min_by_key(|finding| (finding.range.start, usize::MAX - finding.range.end))
}

fn masked(_: &std::ops::Range<usize>, _: &()) -> String {
    "***".to_owned()
}

impl Guardrail for Acme {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        let Config { mut words } = host::config().map_err(|error| Failure::config(&error))?;
        words.retain(|word| !word.is_empty());
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { words, scanner: Scanner::new(longest) })
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        Ok(match texts.iter().any(|text| first(&self.words, &text.value, 0).is_some()) {
            // Never put what was found into the reason.
            true => Ruling::block("confidential", "The request names something that must not leave the house."),
            false => Ruling::allow(),
        })
    }

    fn on_response(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let mut edits = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let found = self.scanner.text(&text.value, |text, from| first(&self.words, text, from));
            edits.extend(replace(index, &found, masked));
        }
        let count = edits.len();
        let ruling = Ruling::change(edits);
        Ok(if count == 0 { ruling } else { ruling.annotate("masked", &count) })
    }

    // A word may be cut in two by the stream: the scanner holds back what could still become one, so that the same
    // comes of every cut. The fixtures try them all.
    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        fragments: &[Fragment],
        _finish: bool,
    ) -> Result<StreamRuling, Failure> {
        let (mut edits, mut hold) = (Vec::new(), Vec::new());
        let words = &self.words;
        let window = self.scanner.window();
        for (index, fragment) in fragments.iter().enumerate() {
            let undecided = |text: &str| text.len().saturating_sub(window);
            let scanned = self.scanner.fragment(fragment, |text, from| first(words, text, from), undecided);
            edits.extend(replace(index, &scanned.found, masked));
            hold.push(u32::try_from(scanned.hold).unwrap_or(u32::MAX));
        }
        Ok(Ruling::change(edits).hold(hold))
    }
}

brokle_plugin::export!(guardrail: Acme);
