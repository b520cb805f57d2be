//! The caller's body, as a provider may read it.

use std::borrow::Cow;
use std::sync::Arc;

use brokle_core::form::{Form, FormError};
use brokle_core::json;
use bytes::Bytes;

/// A request's body, held by the host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Json,
    Form(Arc<Form>),
}

impl Body {
    /// A JSON body that [`json::scan`] has accepted.
    pub fn json(bytes: Bytes) -> Self {
        Self { bytes, kind: Kind::Json }
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
            Kind::Json => None,
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
        let range = self.as_form().is_none().then(|| json::find(&self.bytes, pointer)).flatten()?;
        self.bytes.get(range).map(<[u8]>::to_vec)
    }

    /// A text field of a form.
    pub fn form_field(&self, name: &str) -> Option<String> {
        self.as_form()?.field(&self.bytes, name).map(str::to_owned)
    }
}
