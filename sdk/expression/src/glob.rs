//! Patterns of names: `*` is any characters, none too, and `?` is one.

/// Whether a text is what the pattern says. Time: the product of both lengths at most.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on when the last star takes one character more.
    let mut star = None;
    loop {
        let before_text = text.clone();
        let matched = match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = before_text.clone();
                star = Some((pattern.clone(), before_text));
                true
            }
            (Some('?'), Some(_)) => true,
            (Some(wanted), Some(there)) => wanted == there,
            (Some(_) | None, _) => false,
        };
        if matched {
            continue;
        }
        let Some((after_star, from)) = &mut star else { return false };
        if from.next().is_none() {
            return false;
        }
        pattern = after_star.clone();
        text = from.clone();
    }
}
