//! Patterns that block or replace, and patterns one of which a request must match.
//!
//! Patterns are those of the `regex` crate: no look-around, no back references, time linear in the text. Of Unicode's properties
//! they know the general categories and scripts: all tables would be twice as much memory for each call. Each may
//! compile to 256 KiB at most. A match is `max_match_bytes` long at most: beyond that a pattern matches as if the text
//! ended there, in a stream as in a whole text, so that both give the same result.
//!
//! Where several patterns match, the match that begins first counts; of those that begin at one place the first in the
//! configuration, `deny` before `replace`.
//!
//! An instance lives for one call, and making what finds patterns takes longer than reading a short text with it. So all
//! of a list are made into one, without a search for literals of their own where the text is short; and the characters that
//! can't be in it are left out of their classes first, which are most of them ([`narrow`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod narrow;

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::guardrail::scan::{Finding, Scanner, replace};
use brokle_plugin::guardrail::*;
use brokle_plugin::{ConfigProblem, Description, host};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_automata::{Input, meta::Regex};
use regex_syntax::hir::Hir;

use narrow::Alphabet;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    deny: Vec<Deny>,
    replace: Vec<Replace>,
    allow: Vec<String>,
    kinds: Option<Vec<String>>,
    case_insensitive: bool,
    max_match_bytes: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Deny {
    pattern: String,
    category: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Replace {
    pattern: String,
    with: String,
}

/// What a pattern is for: an index into `deny` or `replace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Deny(usize),
    Replace(usize),
}

struct Patterns {
    config: Config,
    /// What each of the patterns is for, in the order in which they count.
    rules: Vec<Rule>,
    /// Finds the first of them in a stream: in ASCII, in any text. Each is made when there is such a text.
    streamed: [Option<Regex>; 2],
    scanner: Scanner,
    /// Replacements, of all that this instance has seen.
    replaced: usize,
}

/// The most that a pattern may compile to, and as much again may be kept of what was found out in a search.
const SIZE: usize = 256 << 10;
const NEST: u32 = 64;
/// Above this many bytes it pays to look for literals first.
const LONG: usize = 8 << 10;

/// Whether a pattern can be used.
fn check(config: &Config, pattern: &str) -> Result<(), String> {
    let parsed = syntax::parse_with(pattern, &config.syntax()).map_err(|error| error.to_string())?;
    let settings = Regex::config().nfa_size_limit(Some(SIZE)).hybrid_cache_capacity(SIZE);
    let built = Regex::builder().configure(settings).build_from_hir(&parsed);
    match built {
        Ok(pattern) if pattern.is_match("") => Err("it matches the empty text".into()),
        Ok(_) => Ok(()),
        Err(error) if error.size_limit().is_some() => Err(format!("it is larger than {SIZE} bytes")),
        Err(error) => Err(error.to_string()),
    }
}

/// One expression for all of these patterns, each of which was checked, to be used on so many bytes.
fn together(config: &Config, patterns: &[&str], alphabet: &Alphabet, bytes: usize) -> Result<Regex, Failure> {
    let parsed = syntax::parse_many_with(patterns, &config.syntax());
    let size = SIZE * patterns.len().max(1);
    let built = parsed.map_err(|error| error.to_string()).and_then(|parsed| {
        let parsed: Vec<Hir> = parsed.into_iter().map(|pattern| alphabet.narrow(pattern)).collect();
        let is_word = matches!(parsed.as_slice(), [one] if one.properties().is_literal());
        let settings = Regex::config()
            .nfa_size_limit(Some(size))
            .hybrid_cache_capacity(size)
            .auto_prefilter(is_word || bytes > LONG)
            .onepass(false)
            .which_captures(WhichCaptures::Implicit);
        Regex::builder().configure(settings).build_many_from_hir(&parsed).map_err(|error| error.to_string())
    });
    built.map_err(|error| {
        let problems = config.problems();
        let told = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message));
        let told = told.collect::<Vec<_>>().join("; ");
        Failure::Misconfigured(if told.is_empty() { error } else { told })
    })
}

impl Config {
    fn syntax(&self) -> syntax::Config {
        syntax::Config::new().case_insensitive(self.case_insensitive).nest_limit(NEST)
    }

    /// Every pattern that can't be used, by its place.
    fn problems(&self) -> Vec<ConfigProblem> {
        let deny = self.deny.iter().enumerate();
        let deny = deny.map(|(index, deny)| (format!("/deny/{index}/pattern"), &deny.pattern));
        let replace = self.replace.iter().enumerate();
        let replace = replace.map(|(index, replace)| (format!("/replace/{index}/pattern"), &replace.pattern));
        let allow =
            self.allow.iter().enumerate().map(|(index, pattern)| (format!("/allow/{index}"), pattern));
        let problem = |(pointer, pattern): (String, &String)| {
            check(self, pattern).err().map(|message| ConfigProblem { pointer, message })
        };
        deny.chain(replace).chain(allow).filter_map(problem).collect()
    }
}

impl Patterns {
    fn of(config: Config) -> Self {
        let deny = (0..config.deny.len()).map(Rule::Deny);
        let rules = deny.chain((0..config.replace.len()).map(Rule::Replace)).collect();
        let scanner = Scanner::new(config.max_match_bytes.unwrap_or(128));
        Self { config, rules, streamed: [None, None], scanner, replaced: 0 }
    }

    /// What finds the first match in such texts, of so many bytes in all.
    fn finds(&self, alphabet: &Alphabet, bytes: usize) -> Result<Regex, Failure> {
        let deny = self.config.deny.iter().map(|deny| deny.pattern.as_str());
        let replace = self.config.replace.iter().map(|replace| replace.pattern.as_str());
        let patterns: Vec<&str> = deny.chain(replace).collect();
        together(&self.config, &patterns, alphabet, bytes)
    }

    /// The same for a part of a stream. How much comes is not known: as for a long text.
    fn finds_in(&mut self, fragment: &Fragment) -> Result<Regex, Failure> {
        let is_ascii = fragment.before.is_ascii() && fragment.value.is_ascii();
        if let Some(finds) = self.streamed.get(usize::from(!is_ascii)).and_then(Option::as_ref) {
            return Ok(finds.clone());
        }
        let alphabet = if is_ascii { Alphabet::Ascii } else { Alphabet::Any };
        let finds = self.finds(&alphabet, usize::MAX)?;
        let [ascii, any] = &mut self.streamed;
        *if is_ascii { ascii } else { any } = Some(finds.clone());
        Ok(finds)
    }

    fn sees(&self, kind: &str) -> bool {
        self.config.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|known| known == kind))
    }

    /// Whether a text matches one of the patterns of which it must match one.
    fn allows(&self, text: &str) -> Result<bool, Failure> {
        let patterns: Vec<&str> = self.config.allow.iter().map(String::as_str).collect();
        Ok(together(&self.config, &patterns, &Alphabet::of([text].into_iter()), text.len())?.is_match(text))
    }

    fn with(&self, rule: Rule) -> String {
        match rule {
            Rule::Replace(index) => {
                self.config.replace.get(index).map(|r| r.with.clone()).unwrap_or_default()
            }
            Rule::Deny(_) => String::new(),
        }
    }

    fn denied(&self, found: &[(core::ops::Range<usize>, Option<Rule>)]) -> Option<Ruling> {
        let denied = found.iter().find_map(|(_, rule)| match rule {
            Some(Rule::Deny(index)) => self.config.deny.get(*index),
            _ => None,
        })?;
        let category = denied.category.as_deref().unwrap_or("denied_pattern");
        let reason =
            denied.reason.as_deref().unwrap_or("The text matches a pattern that isn't allowed here.");
        Some(Ruling::block(category, reason))
    }

    fn texts(&mut self, texts: &[Text]) -> Result<Ruling, Failure> {
        let seen: Vec<_> = texts.iter().enumerate().filter(|(_, text)| self.sees(&text.kind)).collect();
        let bytes = seen.iter().map(|(_, text)| text.value.len()).sum();
        let alphabet = Alphabet::of(seen.iter().map(|(_, text)| text.value.as_str()));
        let finds = self.finds(&alphabet, bytes)?;
        let mut edits = Vec::new();
        for (index, text) in seen {
            let find = |text: &str, from| first(&finds, &self.rules, text, from);
            let found = self.scanner.text(&text.value, find);
            if let Some(ruling) = self.denied(&found) {
                return Ok(ruling);
            }
            edits.extend(replace(index, &found, |_, rule| self.with(*rule)));
        }
        Ok(self.noted(edits))
    }

    fn noted(&mut self, edits: Vec<Edit>) -> Ruling {
        self.replaced += edits.len();
        let ruling = Ruling::change(edits);
        if self.replaced == 0 { ruling } else { ruling.annotate("replaced", &self.replaced) }
    }
}

/// The first match at or after a place.
fn first(finds: &Regex, rules: &[Rule], text: &str, from: usize) -> Option<Finding<Rule>> {
    let found = finds.find(Input::new(text).range(from..))?;
    Some(Finding { range: found.range(), more: None, what: *rules.get(found.pattern().as_usize())? })
}

impl Guardrail for Patterns {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        host::config().map(Self::of).map_err(|error| Failure::config(&error))
    }

    fn check_config(config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        let config: Config = serde_json::from_value(config)
            .map_err(|error| vec![ConfigProblem { pointer: String::new(), message: error.to_string() }])?;
        let problems = config.problems();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let said =
            texts.iter().rfind(|text| text.role == "user" || text.role.is_empty() && text.kind == "content");
        if let Some(said) = said
            && !self.config.allow.is_empty()
            && !self.allows(&said.value)?
        {
            return Ok(Ruling::block(
                "not_allowed",
                "The request is about something that isn't allowed here.",
            ));
        }
        self.texts(texts)
    }

    fn on_response(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        self.texts(texts)
    }

    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        let (mut edits, mut hold) = (Vec::new(), Vec::new());
        for (index, fragment) in fragments.iter().enumerate() {
            if !self.sees(&fragment.kind) {
                hold.push(0);
                continue;
            }
            let finds = self.finds_in(fragment)?;
            let window = self.scanner.window();
            let rules = &self.rules;
            let undecided = |text: &str| text.len().saturating_sub(window);
            let find = |text: &str, from| first(&finds, rules, text, from);
            let scanned = self.scanner.fragment(fragment, find, undecided);
            if let Some(ruling) = self.denied(&scanned.found) {
                return Ok(ruling.into());
            }
            edits.extend(replace(index, &scanned.found, |_, rule| self.with(*rule)));
            hold.push(u32::try_from(scanned.hold).unwrap_or(u32::MAX));
        }
        Ok(self.noted(edits).hold(hold))
    }
}

brokle_plugin::export!(guardrail: Patterns);
brokle_plugin::no_std!();

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(config: serde_json::Value) -> Result<Patterns, Vec<ConfigProblem>> {
        Patterns::check_config(config.clone())?;
        Ok(Patterns::of(serde_json::from_value(config).unwrap()))
    }

    fn text(value: &str) -> Text {
        Text { pointer: "/p".into(), kind: "content".into(), role: "user".into(), value: value.into() }
    }

    #[test]
    fn bad_patterns_are_named_by_their_place() {
        let problems = patterns(serde_json::json!({"deny": [{"pattern": "ok"}, {"pattern": "("}],
            "replace": [{"pattern": "x*", "with": ""}], "allow": ["(?=a)"]}))
        .err()
        .unwrap();
        let places: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(places, ["/deny/1/pattern", "/replace/0/pattern", "/allow/0"]);
        assert!(
            patterns(serde_json::json!({"deny": [{"pattern": r"(\w{100}){100}"}]})).is_err(),
            "too large"
        );
    }

    #[test]
    fn the_first_match_counts_and_replacements_are_literal() {
        let mut patterns = patterns(serde_json::json!({"case_insensitive": true,
            "deny": [{"pattern": "bad", "category": "words"}],
            "replace": [{"pattern": "acme[0-9]*", "with": "$1<X>"}]}))
        .unwrap();
        let Verdict::Change(edits) = patterns.texts(&[text("see ACME42, acme")]).unwrap().verdict else {
            panic!()
        };
        let edits: Vec<_> = edits.iter().map(|e| (e.start, e.end, e.replacement.as_str())).collect();
        assert_eq!(edits, [(4, 10, "$1<X>"), (12, 16, "$1<X>")]);
        let Verdict::Block(refusal) = patterns.texts(&[text("so BAD")]).unwrap().verdict else { panic!() };
        assert_eq!(refusal.category, "words");
        assert!(!refusal.reason.contains("BAD"));
        assert!(matches!(patterns.texts(&[text("fine")]).unwrap().verdict, Verdict::Allow));
    }

    /// Each pattern by itself, which is what the documentation promises.
    fn one_by_one(
        rules: &[(&str, Rule)],
        text: &str,
        from: usize,
    ) -> Option<(core::ops::Range<usize>, Rule)> {
        let found = rules.iter().filter_map(|(pattern, rule)| {
            Some((regex::Regex::new(pattern).unwrap().find_at(text, from)?.range(), *rule))
        });
        found.reduce(|best, next| if next.0.start < best.0.start { next } else { best })
    }

    #[test]
    fn all_at_once_find_what_each_finds_by_itself() {
        let list = [
            r"\bab?",
            "abc+",
            r"\w+@x\.yz",
            "(?i)É|b",
            r"\d{2,}",
            "abcd|a",
            r"c(?:d|$)",
            "(?i)[k-s]1",
            r"[^a-z\s]x",
            r"\p{Lu}\d",
            r"\b",
        ];
        let rules: Vec<_> = list.iter().enumerate().map(|(at, pattern)| (*pattern, Rule::Deny(at))).collect();
        let kinds: Vec<_> = rules.iter().map(|(_, rule)| *rule).collect();
        let made = |alphabet: &Alphabet, bytes| together(&Config::default(), &list, alphabet, bytes).unwrap();
        let any = [made(&Alphabet::Any, 0), made(&Alphabet::Any, usize::MAX)];
        for text in [
            "",
            "abcd",
            "xabccab",
            "K2 x@x.yz",
            "\u{212a}12",
            "s1\u{17f}",
            "é12 É",
            "joe@x.yz, abc 1234",
            "a b c",
            "ééé",
            "cc",
        ] {
            let alphabet = Alphabet::of([text].into_iter());
            let narrow = [made(&alphabet, 0), made(&alphabet, usize::MAX)];
            for from in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                let wanted = one_by_one(&rules, text, from);
                for finds in any.iter().chain(&narrow) {
                    let found = first(finds, &kinds, text, from).map(|found| (found.range, found.what));
                    assert_eq!(found, wanted, "{text} from {from}");
                }
            }
        }
    }
}
