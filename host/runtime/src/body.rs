//! The caller's body, as a component may read it.

mod abridged;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use brokle_core::form::{Form, FormError};
use brokle_core::json::{self, Change, Members};
use bytes::Bytes;

use crate::bindings::provider::brokle::provider::exchange::Edit;
use abridged::Abridged;
pub use abridged::Repeated;

/// A request's body, held by the host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Json(Arc<Known>),
    Form(Arc<Form>),
}

/// What was found out of a JSON body for a component that asked.
#[derive(Debug, Default)]
struct Known {
    members: OnceLock<Members>,
    /// What was left out.
    abridged: OnceLock<Abridged>,
}

impl Body {
    /// A JSON body that [`json::scan`] has accepted.
    pub fn json(bytes: Bytes) -> Self {
        Self { bytes, kind: Kind::Json(Arc::default()) }
    }

    /// The same, where it is known where its members are.
    pub fn visited(bytes: Bytes, members: Members) -> Self {
        let known = Known { members: members.into(), ..Known::default() };
        Self { bytes, kind: Kind::Json(known.into()) }
    }

    /// A `multipart/form-data` body. `content_type` is its media type with the boundary.
    ///
    /// # Errors
    /// Why it is none: the caller's fault.
    pub fn form(content_type: &str, bytes: Bytes) -> Result<Self, FormError> {
        let form = Form::parse(content_type, &bytes)?;
        Ok(Self { bytes, kind: Kind::Form(Arc::new(form)) })
    }

    /// All of it, as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where its parts are, if it is a form.
    pub fn as_form(&self) -> Option<&Form> {
        match &self.kind {
            Kind::Json(_) => None,
            Kind::Form(form) => Some(form),
        }
    }

    /// Its media type, as a vendor is told it: with a form's boundary.
    pub fn content_type(&self) -> Cow<'static, str> {
        self.as_form().map_or(Cow::Borrowed("application/json"), |form| form.content_type().into())
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = start.saturating_add(length as usize).min(self.bytes.len());
        self.bytes.get(start..end).unwrap_or_default().to_vec()
    }

    pub(crate) fn get(&self, pointer: &str) -> Option<Vec<u8>> {
        self.find(pointer).map(<[u8]>::to_vec)
    }

    /// The value at an RFC 6901 pointer; none when there is nothing, or it is a form.
    pub fn find(&self, pointer: &str) -> Option<&[u8]> {
        let Kind::Json(known) = &self.kind else { return None };
        let range = match pointer {
            "" => json::find(&self.bytes, "")?,
            _ => known.members.get_or_init(|| Members::of(&self.bytes)).find(&self.bytes, pointer)?,
        };
        self.bytes.get(range)
    }

    /// All of it, without its long base64 texts.
    pub(crate) fn abridged(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Json(known) if self.bytes.len() >= abridged::LONG => {
                known.abridged.get_or_init(|| Abridged::of(&self.bytes)).text(&self.bytes)
            }
            Kind::Json(_) | Kind::Form(_) => self.bytes.to_vec(),
        }
    }

    /// What a component made of this body, in pieces: with what it didn't see of the body put back. Nothing is copied.
    ///
    /// # Errors
    /// The component repeats it without measure.
    pub fn complete(&self, made: Bytes) -> Result<Vec<Bytes>, Repeated> {
        match self.left_out() {
            Some(abridged) => abridged.complete(&self.bytes, &made),
            None => Ok(vec![made]),
        }
    }

    /// The same in one piece.
    ///
    /// # Errors
    /// The component repeats it without measure.
    pub fn completed<'a>(&self, made: &'a [u8]) -> Result<Cow<'a, [u8]>, Repeated> {
        Ok(match self.left_out() {
            Some(abridged) => abridged.complete(&self.bytes, &Bytes::copy_from_slice(made))?.concat().into(),
            None => made.into(),
        })
    }

    /// What a component's edits change.
    ///
    /// # Errors
    /// The component repeats it without measure.
    pub fn changes<'a>(&self, edits: &'a [Edit]) -> Result<Vec<Change<'a>>, Repeated> {
        let change = |edit: &'a Edit| {
            Ok(match edit {
                Edit::Set(set) => Change::Set(&set.pointer, self.completed(&set.value)?),
                Edit::Remove(pointer) => Change::Remove(pointer),
            })
        };
        edits.iter().map(change).collect()
    }

    /// What a component was told without.
    fn left_out(&self) -> Option<&Abridged> {
        match &self.kind {
            Kind::Json(known) => known.abridged.get().filter(|abridged| !abridged.is_whole()),
            Kind::Form(_) => None,
        }
    }

    /// A text field of a form.
    pub fn form_field(&self, name: &str) -> Option<String> {
        self.as_form()?.field(&self.bytes, name).map(str::to_owned)
    }
}
