//! What a form's headers say: the boundary, and each part's name.

use std::ops::Range;

use super::{FormError, MAX_BOUNDARY};

/// A `Content-Disposition`, read.
pub(super) struct Disposition {
    pub(super) name: String,
    pub(super) is_file: bool,
    /// As `filename` says it.
    pub(super) filename: String,
    /// Where the name stands among the headers, quotes included.
    pub(super) written_name: Range<usize>,
}

/// The boundary that a media type names, if it is `multipart/form-data`.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let (kind, _) = content_type.split_at(end);
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    for parameter in Parameters::new(content_type.as_bytes(), end) {
        let parameter = parameter?;
        if parameter.name.eq_ignore_ascii_case("boundary") && found.replace(parameter.value).is_some() {
            return None;
        }
    }
    // RFC 2046: these characters, and no space at the end. Nothing in them needs an escape.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    found.filter(|boundary| {
        (1..=MAX_BOUNDARY).contains(&boundary.len())
            && boundary.bytes().all(allowed)
            && !boundary.ends_with(' ')
    })
}

/// What a part's headers say of it.
pub(super) fn disposition(headers: &[u8]) -> Result<Disposition, FormError> {
    let mut found = None;
    let mut at = 0;
    for line in headers.split(|&byte| byte == b'\n') {
        let start = at;
        at += line.len() + 1;
        // Continued lines are obsolete, and a lone line end is a way to show different headers to different readers.
        let is_last = at > headers.len();
        let line = if is_last { line } else { line.strip_suffix(b"\r").ok_or(FormError::Headers)? };
        let colon = line.iter().position(|&byte| byte == b':').ok_or(FormError::Headers)?;
        let (name, value) = line.split_at(colon);
        let odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if name.is_empty() || name.iter().any(|byte| !byte.is_ascii_graphic()) || value.iter().any(odd) {
            return Err(FormError::Headers);
        }
        if name.eq_ignore_ascii_case(b"content-disposition") {
            let read = form_data(headers, start + colon + 1, start + line.len()).ok_or(FormError::Name)?;
            if found.replace(read).is_some() {
                return Err(FormError::Name);
            }
        }
    }
    found.ok_or(FormError::Name)
}

fn form_data(headers: &[u8], from: usize, to: usize) -> Option<Disposition> {
    let line = headers.get(..to)?;
    let value = line.get(from..)?;
    let end = from + value.iter().position(|&byte| byte == b';')?;
    if !line.get(from..end)?.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let mut name = None;
    let (mut is_file, mut filename) = (false, String::new());
    for parameter in Parameters::new(line, end) {
        let parameter = parameter?;
        if parameter.name.eq_ignore_ascii_case("name") {
            if name.replace((parameter.value, parameter.written)).is_some() {
                return None;
            }
        } else if parameter.name.eq_ignore_ascii_case("filename")
            || parameter.name.eq_ignore_ascii_case("filename*")
        {
            is_file = true;
            if parameter.name.eq_ignore_ascii_case("filename") {
                filename = parameter.value;
            }
        }
    }
    name.map(|(name, written_name)| Disposition { name, is_file, filename, written_name })
}

/// `; name=value` again and again; an item that is none ends it with `None`.
struct Parameters<'a> {
    text: &'a [u8],
    at: usize,
}

struct Parameter {
    name: String,
    /// Unquoted.
    value: String,
    /// The value's place, quotes included.
    written: Range<usize>,
}

impl<'a> Parameters<'a> {
    fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| b" \t".contains(byte)) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        while self.text.get(self.at).is_some_and(|&byte| wanted(byte)) {
            self.at += 1;
        }
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn parameter(&mut self) -> Option<Parameter> {
        self.skip_space();
        let name = self.take(|byte| byte.is_ascii_graphic() && !b"=;\"".contains(&byte));
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?.to_owned();
        if self.text.get(self.at) != Some(&b'=') {
            return None;
        }
        self.at += 1;
        let from = self.at;
        let value = if self.text.get(from) == Some(&b'"') {
            self.at += 1;
            self.quoted()?
        } else {
            self.take(|byte| !b"; \t\"".contains(&byte)).to_vec()
        };
        Some(Parameter { name, value: String::from_utf8(value).ok()?, written: from..self.at })
    }

    /// To the closing quote. A backslash escapes a quote and itself; before anything else it is a character, as in the
    /// file names that browsers of another time sent.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(value),
                b'\\' if self.text.get(self.at).is_some_and(|next| b"\"\\".contains(next)) => {
                    value.push(*self.text.get(self.at)?);
                    self.at += 1;
                }
                byte => value.push(byte),
            }
        }
    }
}

impl Iterator for Parameters<'_> {
    type Item = Option<Parameter>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_space();
        match self.text.get(self.at) {
            None => None,
            Some(b';') => {
                self.at += 1;
                self.skip_space();
                // A semicolon at the end is let pass.
                if self.at == self.text.len() { None } else { Some(self.parameter()) }
            }
            Some(_) => {
                self.at = self.text.len();
                Some(None)
            }
        }
    }
}
