//! "Did you mean": the names that look like one that isn't there.
//!
//! Two names are compared without case, and with every separator (`. _ : @ /` and blank) as `-`, by the
//! number of edits (insert, delete, replace, swap two neighbours) between them. Near is up to a third
//! of the asked name's length, at least 1 and at most 8. A name that continues the asked one at a
//! separator (`mistral-large` and `mistral-large-latest`) is two edits away, whatever its length, and
//! one that is the asked one behind a path (`gpt-oss-20b` and `openai/gpt-oss-20b`) one.
//!
//! Names come from clients, so the work is bounded: almost every candidate is ruled out by its length
//! and its letters before edits are counted.

/// How near counts as near, at most.
const MAX_DISTANCE: usize = 8;

/// Every distinct name, ready to compare.
#[derive(Clone, Debug)]
pub(super) struct Spellings(Vec<Spelling>);

#[derive(Clone, Debug)]
struct Spelling {
    text: String,
    folded: String,
    letters: Letters,
}

impl Spellings {
    /// From names in order of preference, which settles ties.
    pub(super) fn new(names: &[&str]) -> Self {
        let spell = |name: &&str| {
            let folded = fold(name);
            Spelling { text: (*name).to_owned(), letters: Letters::of(&folded), folded }
        };
        Self(names.iter().map(spell).collect())
    }

    /// At most `limit` names near this one, nearest first.
    pub(super) fn nearest(&self, name: &str, limit: usize) -> Vec<&str> {
        let asked = fold(name);
        let letters = Letters::of(&asked);
        let most = (asked.len() / 3).clamp(1, MAX_DISTANCE);
        let mut found: Vec<(usize, &str)> = self
            .0
            .iter()
            .filter_map(|candidate| {
                let distance = extends(&asked, &candidate.folded).or_else(|| {
                    let possible = candidate.folded.len().abs_diff(asked.len()) <= most
                        && letters.least_edits(&candidate.letters) <= most;
                    possible.then(|| strsim::osa_distance(&asked, &candidate.folded))
                })?;
                (distance <= most).then_some((distance, candidate.text.as_str()))
            })
            .collect();
        found.sort_by_key(|(distance, _)| *distance);
        found.into_iter().take(limit).map(|(_, text)| text).collect()
    }
}

/// Whether the candidate is the asked name with something before or after it.
fn extends(asked: &str, candidate: &str) -> Option<usize> {
    // Shorter ones would be continued by half the catalogue.
    if asked.len() < 4 {
        return None;
    }
    if candidate.strip_suffix(asked).is_some_and(|before| before.ends_with('-')) {
        return Some(1);
    }
    candidate.strip_prefix(asked).is_some_and(|after| after.starts_with('-')).then_some(2)
}

fn fold(name: &str) -> String {
    let fold = |letter: char| match letter {
        '.' | '_' | ':' | '@' | '/' | ' ' => '-',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// How often each letter occurs, in 32 classes.
#[derive(Clone, Debug)]
struct Letters([u8; 32]);

impl Letters {
    fn of(folded: &str) -> Self {
        let mut classes = [0_u8; 32];
        for byte in folded.bytes() {
            if let Some(class) = classes.get_mut(usize::from(byte % 32)) {
                *class = class.saturating_add(1);
            }
        }
        Self(classes)
    }

    /// At least this many edits lie between two texts with these letters, as long as neither has a
    /// letter of more than one byte; with such letters it may be a few too many, and a suggestion is
    /// missed.
    fn least_edits(&self, other: &Self) -> usize {
        let pairs = self.0.iter().zip(&other.0);
        let (more, fewer) = pairs.fold((0, 0), |(more, fewer), (ours, theirs)| {
            (
                more + usize::from(ours.saturating_sub(*theirs)),
                fewer + usize::from(theirs.saturating_sub(*ours)),
            )
        });
        more.max(fewer)
    }
}
