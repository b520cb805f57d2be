//! One guardrail on a stream: what it is shown, what it holds back and what it releases.

use std::time::Duration;

use brokle_runtime::guarding::{self, Fragment, Verdict};
use brokle_runtime::{Body, GuardrailInstance};

use super::{Begun, Piece};
use crate::guardrails::call::Link;
use crate::guardrails::rulings::{Failed, Note, edited};
use crate::refusal::Refusal;

/// What a guardrail is told of what it has released, in bytes.
const BEFORE: usize = 256;

/// A guardrail of a stream.
#[derive(Debug)]
pub(super) struct StreamLink {
    pub(super) link: Link,
    /// None after it has failed.
    pub(super) instance: Option<GuardrailInstance>,
    /// By the index of `begun`.
    pub(super) held: Vec<Held>,
    pub(super) note: Option<Note>,
    pub(super) spent: Duration,
}

/// Of one text: the end of what was released, and what isn't yet.
#[derive(Debug, Default, Clone)]
pub(super) struct Held {
    before: String,
    value: String,
}

/// Why a guardrail doesn't let a stream go on.
#[derive(Debug)]
pub(super) enum Stop {
    Blocks(Box<Refusal>),
    Fails(Failed),
}

impl<T: Into<Failed>> From<T> for Stop {
    fn from(failed: T) -> Self {
        Self::Fails(failed.into())
    }
}

impl StreamLink {
    /// Shows what there is, and takes what is released.
    pub(super) async fn pass(
        &mut self,
        begun: &[Begun],
        request: &Body,
        facts: &guarding::Call,
        pieces: &[Piece],
        finish: bool,
    ) -> Result<Vec<Piece>, Stop> {
        self.held.resize(begun.len(), Held::default());
        let Some(instance) = &mut self.instance else {
            return Ok(pieces
                .iter()
                .map(|piece| Piece { text: piece.text, value: piece.value.clone(), last: piece.last })
                .collect());
        };
        let fragments: Vec<Fragment> = pieces
            .iter()
            .filter_map(|piece| {
                let (begun, held) = (begun.get(piece.text)?, self.held.get(piece.text)?);
                Some(Fragment {
                    pointer: begun.pointer.clone(),
                    kind: begun.kind.into(),
                    before: held.before.clone(),
                    value: format!("{}{}", held.value, piece.value),
                    last: piece.last,
                })
            })
            .collect();
        if fragments.is_empty() && !finish {
            return Ok(Vec::new());
        }
        let call = guarding::Call { state: self.link.state.clone(), ..facts.clone() };
        let asked = instance.on_chunk(&call, request.clone(), &fragments, finish).await;
        self.spent = instance.spent().time;
        let ruling = asked??;
        let note = self.note.as_mut();
        let mut edits = Vec::new();
        if let Some(note) = note {
            note.annotate(ruling.ruling.annotations);
            match ruling.ruling.verdict {
                Verdict::Allow => {}
                Verdict::Change(wanted) => {
                    note.changes(wanted.len());
                    edits = wanted;
                }
                Verdict::Block(refusal) => {
                    return Err(Stop::Blocks(Box::new(note.blocks(&self.link, &refusal))));
                }
                Verdict::Retry(_) => return Err(Failed::ruling("a stream can't be asked for again").into()),
            }
        }
        let mut ends = Vec::with_capacity(fragments.len());
        for (index, fragment) in fragments.iter().enumerate() {
            let hold = ruling.hold.get(index).copied().unwrap_or(0) as usize;
            let window = if fragment.last { 0 } else { self.link.guardrail.hold_back };
            let end =
                fragment.value.len().checked_sub(hold).filter(|end| fragment.value.is_char_boundary(*end));
            let Some(end) = end.filter(|_| hold <= window) else {
                let detail =
                    format!("{hold} bytes held back of {}; {window} are the most", fragment.value.len());
                return Err(Failed::ruling(detail).into());
            };
            ends.push(end);
        }
        let values: Vec<&str> = fragments.iter().map(|fragment| fragment.value.as_str()).collect();
        let changed = edited(&values, &ends, &edits)?;
        let mut released = Vec::with_capacity(pieces.len());
        for (((piece, fragment), end), changed) in pieces.iter().zip(&fragments).zip(ends).zip(changed) {
            let (free, kept) = fragment.value.split_at(end);
            if let Some(held) = self.held.get_mut(piece.text) {
                held.before = tail(&fragment.before, free);
                held.value = kept.to_owned();
            }
            let value = changed.unwrap_or_else(|| free.to_owned());
            released.push(Piece { text: piece.text, value, last: piece.last });
        }
        Ok(released)
    }

    /// After a failure: everything goes on as it came.
    pub(super) fn release(&mut self, pieces: Vec<Piece>) -> Vec<Piece> {
        let held = &mut self.held;
        let mut released: Vec<Piece> = pieces
            .into_iter()
            .map(|piece| {
                let before = held.get_mut(piece.text).map(|held| std::mem::take(&mut held.value));
                Piece { value: format!("{}{}", before.unwrap_or_default(), piece.value), ..piece }
            })
            .collect();
        for (text, held) in held.iter_mut().enumerate().filter(|(_, held)| !held.value.is_empty()) {
            released.push(Piece { text, value: std::mem::take(&mut held.value), last: false });
        }
        released
    }
}

/// The end of what was released, on a character's border.
fn tail(before: &str, released: &str) -> String {
    let whole = format!("{before}{released}");
    let mut start = whole.len().saturating_sub(BEFORE);
    while !whole.is_char_boundary(start) {
        start += 1;
    }
    whole.get(start..).unwrap_or_default().to_owned()
}
