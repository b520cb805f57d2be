#![doc = include_str!("../README.md")]

mod config;
pub mod detect;
mod tokens;

use std::collections::BTreeMap;
use std::ops::Range;

use brokle_plugin::guardrail::scan::{Scanned, Scanner};
use brokle_plugin::guardrail::*;
use brokle_plugin::host::{self, crypto, secrets};
use brokle_plugin::{Description, Problem, ProblemKind};

use config::{Action, Config};
use detect::{Match, WINDOW, first, undecided};
use tokens::Tokens;

/// The name of the key for hashes.
const KEY: &str = "pii-key";

struct Redaction {
    config: Config,
    wanted: detect::Wanted,
    scanner: Scanner,
    tokens: Tokens,
    /// By entity and action, of all that this instance has seen.
    counts: BTreeMap<&'static str, usize>,
    key: Option<secrets::Secret>,
    /// What is shown is the model's: there is nothing to come that a token could be turned back in.
    answering: bool,
}

/// What was found in one text.
type Found = [(Range<usize>, Option<Match>)];

impl Redaction {
    fn with(config: Config) -> Result<Self, Failure> {
        let key = match config.uses(Action::Hash) {
            true => {
                let denied =
                    |error| Failure::Misconfigured(format!("hashes need the secret '{KEY}': {error:?}"));
                Some(secrets::open(KEY).map_err(denied)?)
            }
            false => None,
        };
        let (scanner, tokens) = (Scanner::new(WINDOW), Tokens::default());
        Ok(Self {
            wanted: config.wanted(),
            config,
            scanner,
            tokens,
            counts: BTreeMap::new(),
            key,
            answering: false,
        })
    }

    /// What takes a find's place; none where it stays.
    fn replacement(&mut self, found: &Match, value: &str) -> Result<Option<String>, Failure> {
        let name = found.entity.name();
        Ok(match self.config.of(found) {
            Action::Mask => Some(format!("<{name}>")),
            Action::Tokenize if self.answering => Some(format!("<{name}>")),
            Action::Tokenize => Some(self.tokens.token(found.entity, value)),
            Action::Hash => {
                let Some(key) = &self.key else {
                    return Err(Failure::Misconfigured("there is no key".into()));
                };
                let mac = crypto::hmac("sha-256", key, value.as_bytes())
                    .map_err(|error| Failure::Other(format!("no hash could be made: {error:?}")))?;
                let hex: String = mac.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                Some(format!("<{name}:{hex}>"))
            }
            Action::Detect | Action::Block | Action::Ignore => None,
        })
    }

    /// Edits for one text, and whether it blocks.
    fn edits(
        &mut self,
        index: usize,
        kind: &str,
        value: &str,
        found: &Found,
        edits: &mut Vec<Edit>,
    ) -> Result<bool, Failure> {
        let mut blocked = false;
        let mut kept = true;
        for (range, what) in found {
            let Some(found) = what else {
                // The rest of a long find goes with it.
                if !kept {
                    edits.push(Edit::replace(index, range.clone(), ""));
                }
                continue;
            };
            *self.counts.entry(found.entity.name()).or_default() += 1;
            blocked |= self.config.of(found) == Action::Block;
            let replacement = self.replacement(found, value.get(range.clone()).unwrap_or_default())?;
            kept = replacement.is_none();
            if let Some(replacement) = replacement {
                let quoted = kind == "tool-arguments" && is_json_number(value, range);
                let replacement = if quoted { format!("\"{replacement}\"") } else { replacement };
                edits.push(Edit::replace(index, range.clone(), replacement));
            }
        }
        Ok(blocked)
    }

    fn ruling(&self, edits: Vec<Edit>, blocked: bool) -> Ruling {
        let ruling = match blocked {
            true => Ruling::block("pii", "The text holds personal data of a kind that isn't allowed here."),
            false => Ruling::change(edits),
        };
        if self.counts.is_empty() { ruling } else { ruling.annotate("redactions", &self.counts) }
    }

    fn texts(&mut self, texts: &[Text]) -> Result<(Vec<Edit>, bool), Failure> {
        let (mut edits, mut blocked) = (Vec::new(), false);
        for (index, text) in texts.iter().enumerate() {
            if !self.config.sees(&text.kind) {
                continue;
            }
            let wanted = self.wanted;
            let found = self.scanner.text(&text.value, |text, from| first(text, from, &wanted));
            blocked |= self.edits(index, &text.kind, &text.value, &found, &mut edits)?;
        }
        Ok((edits, blocked))
    }

    /// Whether tokens of the request are to be turned back.
    fn restores(&mut self, call: &Call) -> bool {
        self.answering = true;
        if self.config.restore && self.tokens.is_empty() {
            self.tokens = Tokens::load(&call.state);
        }
        self.config.restore && !self.tokens.is_empty()
    }
}

/// A number of a JSON text, which a mask would break if it weren't quoted.
fn is_json_number(text: &str, range: &Range<usize>) -> bool {
    let before = text.get(..range.start).unwrap_or_default().trim_end();
    let after = text.get(range.end..).unwrap_or_default().trim_start();
    before.ends_with([':', ',', '[']) && after.starts_with([',', '}', ']']) && {
        // Inside a string there are quotes around it: an even count before means outside.
        before.bytes().filter(|&byte| byte == b'"').count().is_multiple_of(2)
    }
}

impl Guardrail for Redaction {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        Self::with(host::config().map_err(|error| Failure::config(&error))?)
    }

    fn self_test() -> Result<(), Problem> {
        let wanted = Config::default().wanted();
        let sample = "Write to ann@example.com or pay DE89370400440532013000.";
        let first = first(sample, 0, &wanted).map(|found| found.range);
        match first.as_ref().and_then(|range| sample.get(range.clone())) {
            Some("ann@example.com") => Ok(()),
            _ => Err(Problem::new(ProblemKind::Other("self_test".into()), "A sample address isn't found.")),
        }
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let (edits, blocked) = self.texts(texts)?;
        Ok(self.ruling(edits, blocked).with_state(self.tokens.save()))
    }

    fn on_response(&mut self, call: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        if !self.restores(call) {
            let (edits, blocked) = self.texts(texts)?;
            return Ok(self.ruling(edits, blocked));
        }
        // What stands for something is no find of its own: tokens hold nothing personal.
        let tokens = std::mem::take(&mut self.tokens);
        let (mut edits, blocked) = self.texts(texts)?;
        let plain = Scanner::new(tokens::LONGEST);
        for (index, text) in texts.iter().enumerate() {
            for (range, value) in plain.text(&text.value, |text, from| tokens.first(text, from)) {
                edits.extend(value.map(|value| Edit::replace(index, range, value)));
            }
        }
        Ok(self.ruling(edits, blocked))
    }

    fn on_chunk(
        &mut self,
        call: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        let restores = self.restores(call);
        let (mut edits, mut hold, mut blocked) = (Vec::new(), Vec::new(), false);
        for (index, fragment) in fragments.iter().enumerate() {
            let sees = self.config.sees(&fragment.kind);
            let wanted = self.wanted;
            let tokens = restores.then(|| std::mem::take(&mut self.tokens));
            let open = |text: &str| tokens.as_ref().map_or(text.len(), |_| Tokens::undecided(text));
            let Scanned { found, hold: held } = self.scanner.fragment(
                fragment,
                |text, from| if sees { first(text, from, &wanted) } else { None },
                |text| if sees { undecided(text).min(open(text)) } else { open(text) },
            );
            let decided = fragment.value.len() - held;
            let count = edits.len();
            blocked |= self.edits(index, &fragment.kind, &fragment.value, &found, &mut edits)?;
            if let Some(tokens) = tokens {
                let mut at = 0;
                while let Some(token) =
                    tokens.first(&fragment.value, at).filter(|token| token.range.end <= decided)
                {
                    at = token.range.end;
                    let free = edits.iter().skip(count).all(|edit: &Edit| {
                        edit.end as usize <= token.range.start || edit.start as usize >= token.range.end
                    });
                    if free {
                        edits.push(Edit::replace(index, token.range, token.what));
                    }
                }
                self.tokens = tokens;
            }
            hold.push(u32::try_from(held).unwrap_or(u32::MAX));
        }
        Ok(self.ruling(edits, blocked).hold(hold))
    }
}

brokle_plugin::export!(guardrail: Redaction);

#[cfg(test)]
mod tests;
