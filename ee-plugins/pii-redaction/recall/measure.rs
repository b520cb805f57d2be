#![expect(clippy::print_stdout, reason = "the figures are what it is run for")]
// How many of the labelled spans are found, and how many finds are labelled. Shared by the native test and the one in
// the sandbox.

use std::collections::BTreeMap;

/// A labelled sentence.
#[derive(serde::Deserialize)]
pub struct Sentence {
    pub text: String,
    pub spans: Vec<Span>,
}

/// A labelled span, in bytes of the text.
#[derive(serde::Deserialize)]
pub struct Span {
    #[serde(rename = "type")]
    pub entity: String,
    pub start: usize,
    pub end: usize,
}

/// Counts of one entity.
#[derive(Debug, Default)]
pub struct Score {
    pub labelled: usize,
    pub recalled: usize,
    pub found: usize,
    pub right: usize,
}

impl Score {
    pub fn recall(&self) -> f64 {
        self.recalled as f64 / self.labelled.max(1) as f64
    }
    pub fn precision(&self) -> f64 {
        if self.found == 0 { 1.0 } else { self.right as f64 / self.found as f64 }
    }
}

pub fn sentences() -> Vec<Sentence> {
    let text = include_str!("sentences.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Scores what a detector finds: entity and bytes of the text.
pub fn score(
    mut detect: impl FnMut(&str) -> Vec<(String, std::ops::Range<usize>)>,
) -> BTreeMap<String, Score> {
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for sentence in sentences() {
        let found = detect(&sentence.text);
        let overlaps =
            |range: &std::ops::Range<usize>, span: &Span| range.start < span.end && span.start < range.end;
        for span in &sentence.spans {
            let score = scores.entry(span.entity.clone()).or_default();
            score.labelled += 1;
            score.recalled += usize::from(
                found.iter().any(|(entity, range)| *entity == span.entity && overlaps(range, span)),
            );
        }
        for (entity, range) in &found {
            let score = scores.entry(entity.clone()).or_default();
            score.found += 1;
            let right = sentence.spans.iter().any(|span| span.entity == *entity && overlaps(range, span));
            score.right += usize::from(right);
            if !right && std::env::var_os("SHOW").is_some() {
                println!("{entity} {:?} in {:?}", &sentence.text[range.clone()], sentence.text);
            }
        }
        if std::env::var_os("SHOW").is_some() {
            for span in &sentence.spans {
                if !found.iter().any(|(entity, range)| *entity == span.entity && overlaps(range, span)) {
                    println!(
                        "missed {} {:?} in {:?}",
                        span.entity,
                        &sentence.text[span.start..span.end],
                        sentence.text
                    );
                }
            }
        }
    }
    scores
}

/// Holds scores against what is promised: entity, least recall. Precision is 0.90 at least for each.
pub fn hold(scores: &BTreeMap<String, Score>) {
    for (entity, score) in scores {
        println!(
            "{entity:14} labelled {:4}  recall {:.3}  found {:4}  precision {:.3}",
            score.labelled,
            score.recall(),
            score.found,
            score.precision()
        );
    }
    for (entity, recall) in [
        ("EMAIL", 1.0),
        ("IP", 1.0),
        ("SSN", 1.0),
        ("IBAN", 0.95),
        ("CREDIT_CARD", 0.95),
        ("PHONE", 0.75),
        ("DATE", 0.60),
    ] {
        let score = &scores[entity];
        assert!(score.labelled >= 5, "{entity}: too few labels to say anything");
        assert!(score.recall() >= recall, "{entity}: recall {:.3}, {recall} promised", score.recall());
        assert!(score.precision() >= 0.90, "{entity}: precision {:.3}, 0.90 promised", score.precision());
    }
}
