//! Finding things in texts and in streams, with the same result for every way to cut them.
//!
//! Whether something is found at a place depends on the [`Scanner::window`] bytes that begin there, on what stands
//! before, and on nothing else. In a stream a place is decided when that much has come, or when the text is over; what
//! isn't decided is held back. A whole text is a stream that comes at once.
//!
//! A finding that fills its window may go on beyond it: what follows directly and is made of the same bytes
//! ([`Finding::more`]) belongs to it, however long.

use alloc::collections::BTreeMap;
use core::ops::Range;

use crate::prelude::*;

use super::{Edit, Fragment};

/// Something that was found.
#[derive(Debug, Clone)]
pub struct Finding<T> {
    /// Where, in bytes of the text that was searched.
    pub range: Range<usize>,
    /// What it is made of, should it be longer than the window; none: it never is.
    pub more: Option<fn(u8) -> bool>,
    /// What it is.
    pub what: T,
}

/// Searches texts, and remembers of each stream's text what it must.
#[derive(Debug, Default)]
pub struct Scanner {
    window: usize,
    /// Of texts whose last finding goes on.
    going_on: BTreeMap<String, fn(u8) -> bool>,
}

/// What a scan came to.
#[derive(Debug)]
pub struct Scanned<T> {
    /// What was found, in order, by its range in the fragment's value. A finding that goes on from an earlier fragment
    /// comes again without a `what`.
    pub found: Vec<(Range<usize>, Option<T>)>,
    /// How much of the end isn't decided, in bytes.
    pub hold: usize,
}

impl Scanner {
    /// Findings begin anywhere and are at most this long (or go on by [`Finding::more`]).
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self { window, going_on: BTreeMap::new() }
    }

    /// The longest finding, in bytes; what a stream holds back at most.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Searches a whole text.
    pub fn text<T>(
        &self,
        text: &str,
        find: impl FnMut(&str, usize) -> Option<Finding<T>>,
    ) -> Vec<(Range<usize>, Option<T>)> {
        let mut going_on = None;
        run(self.window, "", text, true, &mut going_on, find, |text| text.len()).found
    }

    /// Searches a part of a stream. `find` gives the first finding of a text that begins at or after a place; it may
    /// look at what is before. `undecided` says from where on a finding could still begin or change when more comes;
    /// the window bounds it.
    pub fn fragment<T>(
        &mut self,
        fragment: &Fragment,
        find: impl FnMut(&str, usize) -> Option<Finding<T>>,
        undecided: impl FnOnce(&str) -> usize,
    ) -> Scanned<T> {
        let mut going_on = self.going_on.remove(&fragment.pointer);
        let (before, value) = (fragment.before.as_str(), fragment.value.as_str());
        let scanned = run(self.window, before, value, fragment.last, &mut going_on, find, undecided);
        if let Some(more) = going_on {
            self.going_on.insert(fragment.pointer.clone(), more);
        }
        scanned
    }
}

fn run<T>(
    window: usize,
    before: &str,
    value: &str,
    last: bool,
    going_on: &mut Option<fn(u8) -> bool>,
    mut find: impl FnMut(&str, usize) -> Option<Finding<T>>,
    undecided: impl FnOnce(&str) -> usize,
) -> Scanned<T> {
    let text = format!("{before}{value}");
    let offset = before.len();
    let mut found = Vec::new();
    let mut at = offset;
    // Places from here on aren't decided.
    let frontier = match last {
        true => text.len(),
        false => undecided(&text).max(floor(&text, text.len().saturating_sub(window))).min(text.len()),
    };
    if let Some(more) = *going_on {
        let end = swallow(&text, at, more);
        if end > at {
            found.push((at - offset..end - offset, None));
        }
        at = end;
        if end < text.len() {
            *going_on = None;
        }
    }
    while at < text.len() {
        let Some(candidate) = find(&text, at).filter(|found| found.range.start < frontier) else { break };
        let start = candidate.range.start;
        let limit = floor(&text, start.saturating_add(window).min(text.len()));
        // What lies beyond the window has no say.
        let decided = match limit == text.len() {
            true => Some(candidate),
            false => text.get(..limit).and_then(|text| find(text, start)).filter(|f| f.range.start == start),
        };
        let Some(Finding { range, more, what }) = decided else {
            at = text
                .get(start..)
                .and_then(|rest| rest.chars().next())
                .map_or(text.len(), |c| start + c.len_utf8());
            continue;
        };
        let mut end = range.end;
        if end == limit
            && let Some(more) = more
        {
            end = swallow(&text, end, more);
            if end == text.len() && end - start >= window {
                *going_on = Some(more);
            }
        }
        found.push((start - offset..end - offset, Some(what)));
        at = end.max(start + 1);
    }
    let cut = if last { text.len() } else { frontier.max(at.min(text.len())) };
    let cut = floor(&text, cut);
    if last {
        *going_on = None;
    }
    Scanned { found, hold: text.len() - cut }
}

fn swallow(text: &str, from: usize, more: fn(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    floor(text, from + rest.iter().position(|&byte| !more(byte)).unwrap_or(rest.len()))
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Edits that replace what was found: by what `replacement` says, the rest of a long finding by nothing.
pub fn replace<T>(
    text: usize,
    found: &[(Range<usize>, Option<T>)],
    mut replacement: impl FnMut(&Range<usize>, &T) -> String,
) -> Vec<Edit> {
    let edit = |(range, what): &(Range<usize>, Option<T>)| {
        let with = what.as_ref().map(|what| replacement(range, what)).unwrap_or_default();
        Edit::replace(text, range.clone(), with)
    };
    found.iter().map(edit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of `a`, at most as long as the text.
    fn runs(text: &str, from: usize) -> Option<Finding<()>> {
        let start = from + text.get(from..)?.find('a')?;
        let end = text.get(start..)?.find(|c| c != 'a').map_or(text.len(), |at| start + at);
        Some(Finding { range: start..end, more: Some(|byte| byte == b'a'), what: () })
    }

    fn masked(text: &str, cuts: &[usize]) -> String {
        let mut scanner = Scanner::new(4);
        let (mut held, mut before, mut made) = (String::new(), String::new(), String::new());
        let mut from = 0;
        for (index, &cut) in cuts.iter().chain([&text.len()]).enumerate() {
            let last = index == cuts.len();
            let value = format!("{held}{}", &text[from..cut]);
            from = cut;
            let fragment = Fragment {
                pointer: "/x".into(),
                kind: "content".into(),
                before: before.clone(),
                value,
                last,
            };
            let scanned = scanner.fragment(&fragment, runs, |text| text.len().saturating_sub(4));
            let end = fragment.value.len() - scanned.hold;
            let mut at = 0;
            for (range, what) in scanned.found {
                made.push_str(&fragment.value[at..range.start]);
                made.push_str(if what.is_some() { "*" } else { "" });
                at = range.end;
            }
            made.push_str(&fragment.value[at..end]);
            before.push_str(&fragment.value[..end]);
            held = fragment.value[end..].to_owned();
        }
        made
    }

    #[test]
    fn every_cut_gives_the_same() {
        for text in ["xxaxaaaxx", "aaaaaaaaaaaaby", "é a é aaaaa", "", "baaaaaaa"] {
            let whole = masked(text, &[]);
            assert!(!whole.contains('a'), "{whole}");
            let places: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
            for &one in &places {
                for &two in places.iter().filter(|&&two| two >= one) {
                    assert_eq!(masked(text, &[one, two]), whole, "{text} at {one} and {two}");
                }
            }
            assert_eq!(masked(text, &places), whole, "{text} byte by byte");
        }
        assert_eq!(masked("aaaaaaaaaaaaby", &[]), "*by");
    }
}
