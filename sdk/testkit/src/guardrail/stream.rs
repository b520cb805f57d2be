//! Playing streams as the gateway does: what is held back is shown again with what follows.

use std::fmt;

use brokle_runtime::guarding::{Edit, Fragment, StreamRuling, Text, Verdict};
use brokle_runtime::{GuardrailInstance, PluginError};
use serde_json::{Map, Value, json};

use super::{Played, Player, annotate, edits, failure_of, verdict};

/// What a guardrail is shown again of what it has released, in bytes.
const BEFORE: usize = 256;

/// The gateway's default for `hold_back_bytes`.
const HOLD_BACK: usize = 512;

/// How the texts come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// Each in one part.
    Whole,
    /// The text with this index in two parts that meet there, in bytes; the others in one.
    Two { text: usize, at: usize },
    /// Character by character.
    Characters,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("uncut"),
            Self::Two { text, at } => write!(f, "text {text} cut at byte {at}"),
            Self::Characters => f.write_str("character by character"),
        }
    }
}

impl Cut {
    fn parts<'a>(&self, index: usize, text: &'a str) -> Vec<&'a str> {
        match self {
            Self::Two { text: cut, at } if *cut == index => {
                text.split_at_checked(*at).map_or(vec![text], |(first, second)| vec![first, second])
            }
            Self::Characters => text.split_inclusive(|_| true).collect(),
            Self::Whole | Self::Two { .. } => vec![text],
        }
    }
}

/// Every way to cut texts, beside not at all.
pub(crate) fn cuts(texts: &[Text]) -> Vec<Cut> {
    let two = texts.iter().enumerate().flat_map(|(text, shown)| {
        shown.value.char_indices().skip(1).map(move |(at, _)| Cut::Two { text, at })
    });
    two.chain([Cut::Characters]).collect()
}

/// An outcome without its annotations: how often a stream's guardrail is asked may show in them.
pub(crate) fn without_annotations(mut outcome: Value) -> Value {
    if let Some(members) = outcome.as_object_mut() {
        members.remove("annotations");
    }
    outcome
}

/// One text on its way.
#[derive(Debug, Default)]
struct Passing {
    held: String,
    before: String,
    released: String,
}

impl Passing {
    fn fragment(&self, text: &Text, last: bool) -> Fragment {
        Fragment {
            pointer: text.pointer.clone(),
            kind: text.kind.clone(),
            before: self.before.clone(),
            value: self.held.clone(),
            last,
        }
    }

    /// Releases all but `hold` bytes.
    fn release(&mut self, edits: &[Edit], hold: usize, last: bool) -> Result<(), String> {
        let value = std::mem::take(&mut self.held);
        if last && hold > 0 {
            return Err(format!("it holds back {hold} bytes of a fragment that is the last"));
        }
        if hold > HOLD_BACK {
            return Err(format!("it holds back {hold} bytes; {HOLD_BACK} are the host's default window"));
        }
        let Some((released, held)) = value.len().checked_sub(hold).and_then(|at| value.split_at_checked(at))
        else {
            return Err(format!(
                "it holds back {hold} bytes, which doesn't end between characters of the fragment"
            ));
        };
        let made = edits::apply(&[(released, released.len())], edits)?;
        self.released.extend(made);
        self.before.push_str(released);
        let mut from = self.before.len().saturating_sub(BEFORE);
        while !self.before.is_char_boundary(from) {
            from += 1;
        }
        self.before.drain(..from);
        self.held = held.to_owned();
        Ok(())
    }
}

/// What a ruling came to.
enum Step {
    GoesOn,
    Ends(Map<String, Value>),
}

impl Player<'_> {
    /// One playing of a stream.
    pub(super) async fn stream(&self, cut: &Cut) -> Played {
        let failed = |error: PluginError| error.to_string();
        let stage = self.case.host.stage(self.plugin.manifest(), self.heard)?;
        let mut instance = self.plugin.open(stage.context.clone()).await.map_err(failed)?;
        let mut passing: Vec<Passing> = self.texts.iter().map(|_| Passing::default()).collect();
        let mut outcome = Map::new();
        let ended = self.run(&mut instance, cut, &mut passing, &mut outcome).await?;
        match ended {
            Step::Ends(ending) => outcome.extend(ending),
            Step::GoesOn => {
                let changed = passing.iter().zip(&self.texts).any(|(made, text)| made.released != text.value);
                outcome.insert("verdict".into(), if changed { "change" } else { "allow" }.into());
                if changed {
                    let texts: Vec<_> = passing.into_iter().map(|passing| passing.released).collect();
                    outcome.insert("texts".into(), json!(texts));
                }
            }
        }
        let differences = stage.close(&mut outcome);
        Ok((outcome.into(), differences))
    }

    async fn run(
        &self,
        instance: &mut GuardrailInstance,
        cut: &Cut,
        passing: &mut [Passing],
        outcome: &mut Map<String, Value>,
    ) -> Result<Step, String> {
        for (index, text) in self.texts.iter().enumerate() {
            for part in cut.parts(index, &text.value) {
                if let Some(passing) = passing.get_mut(index) {
                    passing.held.push_str(part);
                }
                if let Step::Ends(ending) = self.show(instance, passing, &[index], false, outcome).await? {
                    return Ok(Step::Ends(ending));
                }
            }
        }
        // Each text comes to its last fragment, though nothing of it was held back.
        let all: Vec<usize> = (0..passing.len()).collect();
        self.show(instance, passing, &all, true, outcome).await
    }

    /// Shows what is there of some texts.
    async fn show(
        &self,
        instance: &mut GuardrailInstance,
        passing: &mut [Passing],
        which: &[usize],
        finish: bool,
        outcome: &mut Map<String, Value>,
    ) -> Result<Step, String> {
        let shown = which
            .iter()
            .filter_map(|index| Some(passing.get(*index)?.fragment(self.texts.get(*index)?, finish)));
        let fragments: Vec<Fragment> = shown.collect();
        let ruled = instance.on_chunk(&self.call, self.case.body(), &fragments, finish).await;
        let StreamRuling { ruling, hold } = match ruled.map_err(|error| error.to_string())? {
            Ok(ruling) => ruling,
            Err(failure) => return Ok(Step::Ends(failure_of(&failure))),
        };
        annotate(outcome, &ruling);
        let list = match &ruling.verdict {
            Verdict::Allow => &Vec::new(),
            Verdict::Change(list) => list,
            Verdict::Block(_) => return Ok(Step::Ends(verdict(&ruling.verdict))),
            Verdict::Retry(_) => return Err("a stream can't be retried: what was sent is sent".to_owned()),
        };
        for (position, index) in which.iter().enumerate() {
            let of_text = |edit: &&Edit| usize::try_from(edit.text).is_ok_and(|text| text == position);
            let edits: Vec<Edit> =
                list.iter().filter(of_text).map(|edit| Edit { text: 0, ..edit.clone() }).collect();
            let hold = hold.get(position).map_or(0, |hold| usize::try_from(*hold).unwrap_or(usize::MAX));
            if let Some(passing) = passing.get_mut(*index) {
                passing.release(&edits, hold, finish)?;
            }
        }
        match list.iter().find(|edit| usize::try_from(edit.text).is_ok_and(|text| text >= which.len())) {
            Some(edit) => {
                Err(format!("there is an edit of text {}, and only {} were shown", edit.text, which.len()))
            }
            None => Ok(Step::GoesOn),
        }
    }
}
