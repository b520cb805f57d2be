//! Patterns that block or replace, and patterns one of which a request must match.
//!
//! Patterns are those of the `regex` crate: no look-around, no back references, time linear in the text. Each may
//! compile to 256 KiB at most. A match is `max_match_bytes` long at most: beyond that a pattern matches as if the text
//! ended there, in a stream as in a whole text, so that both give the same result.
//!
//! Where several patterns match, the match that begins first counts; of those that begin at one place the first in the
//! configuration, `deny` before `replace`.

use brokle_plugin::guardrail::scan::{Finding, Scanner, replace};
use brokle_plugin::guardrail::*;
use brokle_plugin::{ConfigProblem, Description, host};
use regex::{Regex, RegexBuilder};
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
    rules: Vec<(Rule, Regex)>,
    allow: Vec<Regex>,
    scanner: Scanner,
    /// Replacements, of all that this instance has seen.
    replaced: usize,
}

fn compiled(config: &Config, pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(config.case_insensitive)
        .size_limit(256 << 10)
        .dfa_size_limit(256 << 10)
        .nest_limit(64)
        .build();
    match built {
        Ok(pattern) if pattern.is_match("") => Err("it matches the empty text".into()),
        Ok(pattern) => Ok(pattern),
        Err(error) => Err(error.to_string()),
    }
}

impl Patterns {
    fn compile(config: Config) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        let mut compile = |pointer: String, pattern: &str| {
            compiled(&config, pattern)
                .map_err(|message| problems.push(ConfigProblem { pointer, message }))
                .ok()
        };
        let mut rules = Vec::new();
        for (index, deny) in config.deny.iter().enumerate() {
            let pattern = compile(format!("/deny/{index}/pattern"), &deny.pattern);
            rules.extend(pattern.map(|pattern| (Rule::Deny(index), pattern)));
        }
        for (index, replace) in config.replace.iter().enumerate() {
            let pattern = compile(format!("/replace/{index}/pattern"), &replace.pattern);
            rules.extend(pattern.map(|pattern| (Rule::Replace(index), pattern)));
        }
        let mut allow = Vec::new();
        for (index, pattern) in config.allow.iter().enumerate() {
            allow.extend(compile(format!("/allow/{index}"), pattern));
        }
        let scanner = Scanner::new(config.max_match_bytes.unwrap_or(128));
        if problems.is_empty() {
            Ok(Self { config, rules, allow, scanner, replaced: 0 })
        } else {
            Err(problems)
        }
    }

    fn sees(&self, kind: &str) -> bool {
        self.config.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|known| known == kind))
    }

    fn with(&self, rule: Rule) -> String {
        match rule {
            Rule::Replace(index) => {
                self.config.replace.get(index).map(|r| r.with.clone()).unwrap_or_default()
            }
            Rule::Deny(_) => String::new(),
        }
    }

    fn denied(&self, found: &[(std::ops::Range<usize>, Option<Rule>)]) -> Option<Ruling> {
        let denied = found.iter().find_map(|(_, rule)| match rule {
            Some(Rule::Deny(index)) => self.config.deny.get(*index),
            _ => None,
        })?;
        let category = denied.category.as_deref().unwrap_or("denied_pattern");
        let reason =
            denied.reason.as_deref().unwrap_or("The text matches a pattern that isn't allowed here.");
        Some(Ruling::block(category, reason))
    }

    fn texts(&mut self, texts: &[Text]) -> Ruling {
        let mut edits = Vec::new();
        for (index, text) in texts.iter().enumerate().filter(|(_, text)| self.sees(&text.kind)) {
            let found = self.scanner.text(&text.value, |text, from| first(&self.rules, text, from));
            if let Some(ruling) = self.denied(&found) {
                return ruling;
            }
            edits.extend(replace(index, &found, |_, rule| self.with(*rule)));
        }
        self.noted(edits)
    }

    fn noted(&mut self, edits: Vec<Edit>) -> Ruling {
        self.replaced += edits.len();
        let ruling = Ruling::change(edits);
        if self.replaced == 0 { ruling } else { ruling.annotate("replaced", &self.replaced) }
    }
}

/// The first match at or after a place.
fn first(rules: &[(Rule, Regex)], text: &str, from: usize) -> Option<Finding<Rule>> {
    let found = rules.iter().filter_map(|(rule, pattern)| {
        let found = pattern.find_at(text, from)?;
        Some(Finding { range: found.range(), more: None, what: *rule })
    });
    // The first of those that begin first.
    found.reduce(|best, next| if next.range.start < best.range.start { next } else { best })
}

impl Guardrail for Patterns {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        let config = host::config().map_err(|error| Failure::config(&error))?;
        Self::compile(config).map_err(|problems| {
            let told =
                problems.into_iter().map(|problem| format!("{}: {}", problem.pointer, problem.message));
            Failure::Misconfigured(told.collect::<Vec<_>>().join("; "))
        })
    }

    fn check_config(config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        let config: Config = serde_json::from_value(config)
            .map_err(|error| vec![ConfigProblem { pointer: String::new(), message: error.to_string() }])?;
        Self::compile(config).map(drop)
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let said =
            texts.iter().rfind(|text| text.role == "user" || text.role.is_empty() && text.kind == "content");
        if let Some(said) = said
            && !self.allow.is_empty()
            && !self.allow.iter().any(|pattern| pattern.is_match(&said.value))
        {
            return Ok(Ruling::block(
                "not_allowed",
                "The request is about something that isn't allowed here.",
            ));
        }
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
        let (mut edits, mut hold) = (Vec::new(), Vec::new());
        for (index, fragment) in fragments.iter().enumerate() {
            if !self.sees(&fragment.kind) {
                hold.push(0);
                continue;
            }
            let window = self.scanner.window();
            let rules = &self.rules;
            let undecided = |text: &str| text.len().saturating_sub(window);
            let scanned = self.scanner.fragment(fragment, |text, from| first(rules, text, from), undecided);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(config: serde_json::Value) -> Result<Patterns, Vec<ConfigProblem>> {
        Patterns::compile(serde_json::from_value(config).unwrap())
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
        let Verdict::Change(edits) = patterns.texts(&[text("see ACME42, acme")]).verdict else { panic!() };
        let edits: Vec<_> = edits.iter().map(|e| (e.start, e.end, e.replacement.as_str())).collect();
        assert_eq!(edits, [(4, 10, "$1<X>"), (12, 16, "$1<X>")]);
        let Verdict::Block(refusal) = patterns.texts(&[text("so BAD")]).verdict else { panic!() };
        assert_eq!(refusal.category, "words");
        assert!(!refusal.reason.contains("BAD"));
        assert!(matches!(patterns.texts(&[text("fine")]).verdict, Verdict::Allow));
    }
}
