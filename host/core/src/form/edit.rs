//! Changes to a form.

use std::ops::Range;

use super::{Form, Part};

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets a text field: in the place of the first part of this name, the others of which go, or at the end.
    Set(&'a str, &'a str),
    /// Gives every part of a name another one, its content and its other headers untouched.
    Rename(&'a str, &'a str),
    /// Removes every part of a name; nothing happens when there is none.
    Remove(&'a str),
}

/// Why a change can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The value has the form's boundary in it: it would end the field, and begin another one.
    #[error("the value of '{0}' has the form's boundary in it")]
    Boundary(String),
}

/// A piece of the form as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it came.
    Kept(Range<usize>),
    /// New.
    New(Vec<u8>),
}

/// A part on its way through the changes.
#[derive(Clone)]
enum Edited<'a> {
    Kept { part: &'a Part, name: &'a str },
    Text { name: &'a str, value: &'a str },
}

impl<'a> Edited<'a> {
    fn name(&self) -> &'a str {
        match self {
            Self::Kept { name, .. } | Self::Text { name, .. } => name,
        }
    }
}

impl Form {
    /// The form with these changes, made in order: pieces of the body it was read from, and new ones.
    ///
    /// # Errors
    /// The first change that can't be made.
    pub fn apply(&self, changes: &[Change<'_>]) -> Result<Vec<Piece>, EditError> {
        let mut parts: Vec<Edited<'_>> =
            self.parts.iter().map(|part| Edited::Kept { part, name: &part.name }).collect();
        for change in changes {
            match *change {
                Change::Set(name, value) => {
                    // At a line's beginning it is a boundary, and the value begins a line.
                    let delimiter = format!("\r\n--{}", self.boundary);
                    if value.contains(&delimiter) || value.starts_with(delimiter.trim_start()) {
                        return Err(EditError::Boundary(name.to_owned()));
                    }
                    let at = parts.iter().position(|part| part.name() == name);
                    parts.retain(|part| part.name() != name);
                    // Those before the first of this name are still there.
                    parts.insert(at.unwrap_or(parts.len()), Edited::Text { name, value });
                }
                Change::Rename(from, to) => {
                    for part in parts.iter_mut().filter(|part| part.name() == from) {
                        match part {
                            Edited::Kept { name, .. } | Edited::Text { name, .. } => *name = to,
                        }
                    }
                }
                Change::Remove(name) => parts.retain(|part| part.name() != name),
            }
        }
        Ok(self.pieces(&parts))
    }

    fn pieces(&self, parts: &[Edited<'_>]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
        let mut new = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                new.extend_from_slice(b"\r\n");
            }
            new.extend_from_slice(format!("--{}\r\n", self.boundary).as_bytes());
            match part {
                Edited::Text { name, value } => {
                    let name = quoted(name);
                    let field = format!("Content-Disposition: form-data; name={name}\r\n\r\n{value}");
                    new.extend_from_slice(field.as_bytes());
                }
                Edited::Kept { part, name } => {
                    let mut rest = part.whole.clone();
                    if *name != part.name {
                        pieces.push(Piece::New(std::mem::take(&mut new)));
                        pieces.push(Piece::Kept(rest.start..part.written_name.start));
                        new.extend_from_slice(quoted(name).as_bytes());
                        rest.start = part.written_name.end;
                    }
                    pieces.push(Piece::New(std::mem::take(&mut new)));
                    pieces.push(Piece::Kept(rest));
                }
            }
        }
        if !parts.is_empty() {
            new.extend_from_slice(b"\r\n");
        }
        new.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        pieces.push(Piece::New(new));
        pieces
    }
}

/// A name as browsers write it (WHATWG HTML, multipart/form-data): quotes and line ends as percent codes. What no header
/// may hold otherwise goes the same way.
fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for character in name.chars() {
        match character {
            '"' => text.push_str("%22"),
            '\\' => text.push_str("\\\\"),
            character if character.is_ascii_control() => {
                text.push_str(&format!("%{:02X}", u32::from(character)));
            }
            character => text.push(character),
        }
    }
    text.push('"');
    text
}
