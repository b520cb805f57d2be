//! API keys, tokens and private keys: masked (`<SECRET:github>`), or the call is blocked.
//!
//! Formats and what makes a find certain stand in [`formats`], how they are looked for in [`search`]. In a stream what could be the beginning of a secret is
//! held back, 256 bytes at most; longer ones (private keys, tokens) are taken out to their end all the same.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod formats;
mod search;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::guardrail::scan::{Scanner, replace};
use brokle_plugin::guardrail::*;
use brokle_plugin::{Description, Problem, ProblemKind, host};
use serde::Deserialize;

use formats::Format;
use search::{first, undecided};

/// The longest beginning of a secret that is enough to know it.
const WINDOW: usize = 256;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Mask,
    Block,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    action: Action,
    ignore: Vec<String>,
}

struct Secrets {
    config: Config,
    scanner: Scanner,
    /// Of all that this instance has seen.
    found: usize,
    names: BTreeSet<&'static str>,
}

impl Secrets {
    fn with(config: Config) -> Self {
        Self { config, scanner: Scanner::new(WINDOW), found: 0, names: BTreeSet::new() }
    }

    fn ruling(&mut self, edits: Vec<Edit>, formats: &[Format]) -> Ruling {
        self.found += formats.len();
        self.names.extend(formats.iter().map(|format| format.0));
        let ruling = match self.config.action {
            Action::Block if !formats.is_empty() => {
                Ruling::block("secret", "The text holds what looks like an API key, token or private key.")
            }
            _ => Ruling::change(edits),
        };
        if self.found == 0 {
            return ruling;
        }
        ruling.annotate("secrets.found", &self.found).annotate("secrets.formats", &self.names)
    }

    fn texts(&mut self, texts: &[Text]) -> Ruling {
        let (mut edits, mut formats) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let ignore = &self.config.ignore;
            let found = self.scanner.text(&text.value, |text, from| first(text, from, ignore));
            formats.extend(found.iter().filter_map(|(_, format)| *format));
            edits.extend(replace(index, &found, |_, format| mask(*format)));
        }
        self.ruling(edits, &formats)
    }
}

fn mask(format: Format) -> String {
    format!("<SECRET:{}>", format.0)
}

impl Guardrail for Secrets {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        host::config().map(Self::with).map_err(|error| Failure::config(&error))
    }

    fn self_test() -> Result<(), Problem> {
        let sample = format!("AKIA{}", "QYLPMN5HFZT2B7XK");
        match first(&sample, 0, &[]) {
            Some(found) if found.range == (0..sample.len()) => Ok(()),
            _ => Err(Problem::new(ProblemKind::Other("self_test".into()), "A sample key isn't found.")),
        }
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        Ok(self.texts(texts))
    }

    fn on_response(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        Ok(self.texts(texts))
    }

    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        let (mut edits, mut formats, mut hold) = (Vec::new(), Vec::new(), Vec::new());
        for (index, fragment) in fragments.iter().enumerate() {
            let ignore = &self.config.ignore;
            let scanned = self.scanner.fragment(fragment, |text, from| first(text, from, ignore), undecided);
            formats.extend(scanned.found.iter().filter_map(|(_, format)| *format));
            edits.extend(replace(index, &scanned.found, |_, format| mask(*format)));
            hold.push(u32::try_from(scanned.hold).unwrap_or(u32::MAX));
        }
        Ok(self.ruling(edits, &formats).hold(hold))
    }
}

brokle_plugin::export!(guardrail: Secrets);
brokle_plugin::no_std!();
