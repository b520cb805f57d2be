//! Patterns for texts whose characters are known.
//!
//! `\w` has some 140,000 characters in 800 ranges, and what finds them is made for each of those. Of those that aren't in a
//! text none can be found there: with them left out a pattern finds the same in it, and is made in a tenth of the time.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

/// The characters that can be in a text.
#[derive(Debug)]
pub(crate) enum Alphabet {
    Ascii,
    /// ASCII, and some others.
    Some(ClassUnicode),
    Any,
}

/// With so many characters beside ASCII's it is no longer worth it to tell which.
const MANY: usize = 256;

impl Alphabet {
    /// Of texts that are there.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut others = BTreeSet::new();
        for text in texts.filter(|text| !text.is_ascii()) {
            for other in text.chars().filter(|other| !other.is_ascii()) {
                others.insert(other);
                if others.len() > MANY {
                    return Self::Any;
                }
            }
        }
        if others.is_empty() {
            return Self::Ascii;
        }
        let others = others.into_iter().map(|other| ClassUnicodeRange::new(other, other));
        Self::Some(ClassUnicode::new(others.chain([ascii()])))
    }

    /// The pattern that finds in such a text what this one does.
    pub(crate) fn narrow(&self, pattern: Hir) -> Hir {
        let known = match self {
            Self::Ascii => &ClassUnicode::new([ascii()]),
            Self::Some(known) => known,
            Self::Any => return pattern,
        };
        self.narrowed(pattern, known)
    }

    fn narrowed(&self, pattern: Hir, known: &ClassUnicode) -> Hir {
        let one = |pattern: Box<Hir>| Box::new(self.narrowed(*pattern, known));
        let all =
            |patterns: Vec<Hir>| patterns.into_iter().map(|pattern| self.narrowed(pattern, known)).collect();
        match pattern.into_kind() {
            HirKind::Empty => Hir::empty(),
            HirKind::Literal(literal) => Hir::literal(literal.0),
            HirKind::Class(Class::Unicode(mut class)) => {
                class.intersect(known);
                Hir::class(Class::Unicode(class))
            }
            HirKind::Class(class) => Hir::class(class),
            HirKind::Look(look) => Hir::look(self.between(look)),
            HirKind::Repetition(repeated) => {
                Hir::repetition(Repetition { sub: one(repeated.sub), ..repeated })
            }
            HirKind::Capture(captured) => Hir::capture(Capture { sub: one(captured.sub), ..captured }),
            HirKind::Concat(patterns) => Hir::concat(all(patterns)),
            HirKind::Alternation(patterns) => Hir::alternation(all(patterns)),
        }
    }

    /// Bounds of words, where no other characters than ASCII's can stand beside them.
    fn between(&self, look: Look) -> Look {
        match (self, look) {
            (Self::Ascii, Look::WordUnicode) => Look::WordAscii,
            (Self::Ascii, Look::WordUnicodeNegate) => Look::WordAsciiNegate,
            (Self::Ascii, Look::WordStartUnicode) => Look::WordStartAscii,
            (Self::Ascii, Look::WordEndUnicode) => Look::WordEndAscii,
            (Self::Ascii, Look::WordStartHalfUnicode) => Look::WordStartHalfAscii,
            (Self::Ascii, Look::WordEndHalfUnicode) => Look::WordEndHalfAscii,
            (_, other) => other,
        }
    }
}

fn ascii() -> ClassUnicodeRange {
    ClassUnicodeRange::new('\0', '\x7f')
}
