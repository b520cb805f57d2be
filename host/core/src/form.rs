//! Forms by position: where the parts of a `multipart/form-data` body (RFC 7578, RFC 2046) begin and end, and edits that
//! keep every other byte.
//!
//! A body is read once and nothing of it is copied, so that an audio file stays where it is. The reading is strict,
//! since another reader may have to find the same parts in it:
//! - it begins with a boundary (a line end before it is let pass), and ends with the closing one; behind that only
//!   space may stand;
//! - a line that begins with the boundary is a boundary, as RFC 2046 section 5.1.1 says: one that goes on with anything
//!   but space is refused, not taken for content;
//! - each part has one `Content-Disposition: form-data` with one `name`. Names are compared as they are written, with
//!   `\"` and `\\` resolved; percent signs stay;
//! - at most [`MAX_PARTS`] parts, each with at most [`MAX_HEADERS`] bytes of headers.
//!
//! A part with a `filename` is a file: its content is nobody's to read here.

mod edit;
mod headers;
#[cfg(test)]
mod tests;

use std::ops::Range;

use memchr::memmem::Finder;

pub use edit::{Change, EditError, Piece};

/// The most parts of a form.
pub const MAX_PARTS: usize = 256;
/// The most bytes of a part's headers.
pub const MAX_HEADERS: usize = 8 << 10;
/// The longest boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// Why a body isn't a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The media type isn't `multipart/form-data` with a boundary of 1 to 70 characters.
    #[error("the content type is not multipart/form-data with a boundary")]
    ContentType,
    /// It doesn't begin with its boundary.
    #[error("it does not begin with its boundary")]
    Start,
    /// A line begins with the boundary and goes on.
    #[error("a line begins with the boundary and is none")]
    Boundary,
    /// The closing boundary is missing, or something follows it.
    #[error("it does not end with its closing boundary")]
    End,
    /// A part's headers can't be read, or are too large.
    #[error("a part's headers cannot be read, or are larger than {MAX_HEADERS} bytes")]
    Headers,
    /// A part has no name, or several.
    #[error("a part has no Content-Disposition of form-data with one name")]
    Name,
    /// There are too many parts.
    #[error("it has more than {MAX_PARTS} parts")]
    Parts,
}

/// A form that was read: positions in its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    boundary: String,
    parts: Vec<Part>,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    is_file: bool,
    /// Empty where it has none.
    filename: String,
    /// From the headers' first byte to the content's last.
    whole: Range<usize>,
    /// The name as it is written, its quotes included.
    written_name: Range<usize>,
    content: Range<usize>,
}

impl Form {
    /// Reads a form. `content_type` is the media type with its parameters.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, FormError> {
        let boundary = headers::boundary(content_type).ok_or(FormError::ContentType)?;
        let first = format!("--{boundary}");
        let start = if body.starts_with(b"\r\n") { 2 } else { 0 };
        let rest = body.get(start..).unwrap_or_default();
        if !rest.starts_with(first.as_bytes()) {
            return Err(FormError::Start);
        }
        let delimiter = format!("\r\n{first}");
        let finder = Finder::new(delimiter.as_bytes());
        let mut parts = Vec::new();
        let mut at = start + first.len();
        while let Some(begin) = after_boundary(body, at)? {
            if parts.len() == MAX_PARTS {
                return Err(FormError::Parts);
            }
            let (part, next) = Part::read(body, begin, &finder)?;
            parts.push(part);
            at = next + delimiter.len();
        }
        Ok(Self { boundary, parts })
    }

    /// The media type to send with what [`Form::apply`] gives.
    pub fn content_type(&self) -> String {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match self.boundary.bytes().all(token) {
            true => format!("multipart/form-data; boundary={}", self.boundary),
            false => format!("multipart/form-data; boundary=\"{}\"", self.boundary),
        }
    }

    /// The text of the first field of this name; none for a file, and for what isn't text.
    pub fn field<'a>(&self, body: &'a [u8], name: &str) -> Option<&'a str> {
        let part = self.parts.iter().find(|part| part.name == name).filter(|part| !part.is_file)?;
        std::str::from_utf8(body.get(part.content.clone())?).ok()
    }

    /// The first file of this name: what it is called, and where its content is. A name that isn't text is none.
    pub fn file(&self, name: &str) -> Option<(&str, Range<usize>)> {
        let part = self.parts.iter().find(|part| part.name == name).filter(|part| part.is_file)?;
        Some((&part.filename, part.content.clone()))
    }

    /// The names of its parts, in order, and whether each is a file.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.parts.iter().map(|part| (part.name.as_str(), part.is_file))
    }
}

/// Where a part begins, behind the boundary that ends at `at`; none behind the closing one.
fn after_boundary(body: &[u8], at: usize) -> Result<Option<usize>, FormError> {
    let rest = body.get(at..).unwrap_or_default();
    if let Some(rest) = rest.strip_prefix(b"--") {
        let blank = rest.iter().all(|byte| b" \t\r\n".contains(byte));
        return if blank { Ok(None) } else { Err(FormError::End) };
    }
    let padding = rest.iter().take_while(|byte| b" \t".contains(byte)).count();
    match rest.get(padding..padding + 2) {
        Some(b"\r\n") => Ok(Some(at + padding + 2)),
        Some(_) => Err(FormError::Boundary),
        None => Err(FormError::End),
    }
}

impl Part {
    /// Reads the part that begins here, and gives where its delimiter is.
    fn read(body: &[u8], begin: usize, delimiter: &Finder<'_>) -> Result<(Self, usize), FormError> {
        let rest = body.get(begin..).unwrap_or_default();
        let window = rest.get(..MAX_HEADERS.min(rest.len())).unwrap_or_default();
        // A part without headers has no name, so there is a line before the blank one.
        let length = memchr::memmem::find(window, b"\r\n\r\n").ok_or(match window.len() {
            MAX_HEADERS => FormError::Headers,
            _ => FormError::End,
        })?;
        let disposition = headers::disposition(window.get(..length).unwrap_or_default())?;
        // The blank line's end may be the delimiter's beginning: then the part is empty.
        let content = begin + length + 4;
        let search = body.get(content - 2..).unwrap_or_default();
        let end = content - 2 + delimiter.find(search).ok_or(FormError::End)?;
        let part = Self {
            name: disposition.name,
            is_file: disposition.is_file,
            filename: disposition.filename,
            whole: begin..end.max(content),
            written_name: begin + disposition.written_name.start..begin + disposition.written_name.end,
            content: content..end.max(content),
        };
        Ok((part, end))
    }
}
