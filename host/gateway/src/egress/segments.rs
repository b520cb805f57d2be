//! A request body in pieces: slices of what the caller sent, with edits in between.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use brokle_core::form::{self, Form, Piece};
use brokle_core::json::{Change, EditError, Splices};
use brokle_runtime::exchange::FormEdit;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of known length. Nothing in it is copied.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    parts: VecDeque<Bytes>,
    remaining: u64,
}

impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Self {
        Self { remaining: bytes.len() as u64, parts: [bytes].into() }
    }
}

impl From<Vec<Bytes>> for Segments {
    fn from(parts: Vec<Bytes>) -> Self {
        Self { remaining: parts.iter().map(|part| part.len() as u64).sum(), parts: parts.into() }
    }
}

impl Segments {
    /// The caller's JSON with changes.
    ///
    /// # Errors
    /// The first change that can't be made.
    pub fn changed(body: &Bytes, changes: &[Change<'_>]) -> Result<Self, EditError> {
        let splices = Splices::apply(body, changes)?;
        let remaining = splices.len() as u64;
        Ok(Self { parts: splices.parts(|range| body.slice(range), Bytes::from).into(), remaining })
    }
}

impl Segments {
    /// The caller's form with a plugin's edits.
    ///
    /// # Errors
    /// The first edit that can't be made.
    pub fn form(body: &Bytes, form: &Form, edits: &[FormEdit]) -> Result<Self, form::EditError> {
        let changes: Vec<form::Change<'_>> = edits
            .iter()
            .map(|edit| match edit {
                FormEdit::Set(set) => form::Change::Set(&set.name, &set.value),
                FormEdit::Rename(rename) => form::Change::Rename(&rename.name, &rename.to),
                FormEdit::Remove(name) => form::Change::Remove(name),
            })
            .collect();
        let parts = form.apply(&changes)?.into_iter().map(|piece| match piece {
            Piece::Kept(range) => body.slice(range),
            Piece::New(bytes) => bytes.into(),
        });
        let parts: VecDeque<Bytes> = parts.collect();
        let remaining = parts.iter().map(|part| part.len() as u64).sum();
        Ok(Self { parts, remaining })
    }

    /// What is to be sent, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter()
    }
}

impl Body for Segments {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.remaining -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
