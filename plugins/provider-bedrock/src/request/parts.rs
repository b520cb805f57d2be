//! The parts of one message's content.
//!
//! Text, images, videos and files become the vendor's blocks. The vendor fetches nothing from the web: `data:` URLs are
//! sent along, `s3://` ones named. A part without a `type` is one of the vendor's own blocks, and goes through as it came.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared_canonical::url::data_url;
use shared_canonical::{Text, parse};

use super::blocks::{Block, CachePoint, Document, Guarded, Media, Source};

/// What may stand in a content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A system message's: text.
    Text,
    /// An assistant's: text and refusals. Empty texts, which the vendor refuses, are left out.
    Assistant,
    /// A user's or a tool's.
    All,
}

/// What is known across the parts of a conversation: documents' names, which must differ.
#[derive(Default)]
pub(crate) struct Parts {
    names: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    refusal: Text<'a>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    video_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<File<'a>>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Url<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    file_data: Cow<'a, str>,
    #[serde(default)]
    file_id: Option<String>,
    #[serde(default)]
    filename: Option<String>,
}

/// Media types, endings of names, and the vendor's words for both.
type Formats = &'static [(&'static str, &'static str, &'static str)];

const IMAGES: Formats = &[
    ("image/png", "png", "png"),
    ("image/jpeg", "jpeg", "jpeg"),
    ("image/jpg", "jpg", "jpeg"),
    ("image/gif", "gif", "gif"),
    ("image/webp", "webp", "webp"),
];

const VIDEOS: Formats = &[
    ("video/mp4", "mp4", "mp4"),
    ("video/quicktime", "mov", "mov"),
    ("video/x-matroska", "mkv", "mkv"),
    ("video/webm", "webm", "webm"),
    ("video/x-flv", "flv", "flv"),
    ("video/mpeg", "mpeg", "mpeg"),
    ("video/x-ms-wmv", "wmv", "wmv"),
    ("video/3gpp", "3gp", "three_gp"),
];

const DOCUMENTS: Formats = &[
    ("application/pdf", "pdf", "pdf"),
    ("text/csv", "csv", "csv"),
    ("application/msword", "doc", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx", "docx"),
    ("application/vnd.ms-excel", "xls", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", "xlsx"),
    ("text/html", "html", "html"),
    ("text/plain", "txt", "txt"),
    ("text/markdown", "md", "md"),
];

impl Parts {
    pub(crate) fn blocks<'a>(
        &mut self,
        content: &'a RawValue,
        allowed: Allowed,
        param: &str,
    ) -> Result<Vec<Block<'a>>, Problem> {
        let mut blocks = Vec::new();
        if let Some(text) = Text::of(content) {
            if !(text.is_empty() && allowed == Allowed::Assistant) {
                blocks.push(Block::Text(text));
            }
            return Ok(blocks);
        }
        for (index, raw) in parse::<Vec<&RawValue>>(content, param)?.into_iter().enumerate() {
            let param = format!("{param}[{index}]");
            let part: Part<'a> = parse(raw, &param)?;
            let point = CachePoint::of(part.cache_control, &format!("{param}.cache_control"))?;
            blocks.extend(self.block(part, raw, allowed, &param)?);
            blocks.extend(point.map(Block::CachePoint));
        }
        Ok(blocks)
    }

    fn block<'a>(
        &mut self,
        part: Part<'a>,
        raw: &'a RawValue,
        allowed: Allowed,
        param: &str,
    ) -> Result<Option<Block<'a>>, Problem> {
        let Some(kind) = part.kind else { return Ok(Some(Block::Raw(raw))) };
        Ok(Some(match (kind.as_ref(), allowed) {
            ("text", Allowed::Assistant) if part.text.is_empty() => return Ok(None),
            ("text", _) => Block::Text(part.text),
            ("refusal", Allowed::Assistant) => Block::Text(part.refusal),
            ("guarded_text", Allowed::Text | Allowed::All) => {
                Block::GuardContent(Guarded::Text { text: part.text })
            }
            ("image_url", Allowed::All) => {
                Block::Image(media(part.image_url, IMAGES, &format!("{param}.image_url"))?)
            }
            ("video_url", Allowed::All) => {
                Block::Video(media(part.video_url, VIDEOS, &format!("{param}.video_url"))?)
            }
            ("file", Allowed::All) => self.document(part.file, part.citations, &format!("{param}.file"))?,
            (other, _) => {
                let message = format!("Bedrock takes no part of type '{other}' here.");
                return Err(Problem::unsupported(format!("{param}.type"), message));
            }
        }))
    }

    fn document<'a>(
        &mut self,
        file: Option<File<'a>>,
        citations: Option<&'a RawValue>,
        param: &str,
    ) -> Result<Block<'a>, Problem> {
        let Some(file) = file else { return Err(Problem::invalid(param, format!("'{param}' is required."))) };
        if file.file_id.is_some() {
            let message = "Bedrock keeps no files: send 'file_data'.";
            return Err(Problem::unsupported(format!("{param}.file_id"), message));
        }
        let (format, source) = place(file.file_data, DOCUMENTS, &format!("{param}.file_data"))?;
        let name = self.name(file.filename.as_deref().unwrap_or_default());
        Ok(Block::Document(Document { format, name, source, citations }))
    }

    /// A name of the characters that the vendor takes, another one for each document.
    fn name(&mut self, filename: &str) -> String {
        let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
        let allowed = |c: char| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
        let words: String = stem.chars().map(allowed).take(180).collect();
        let words: Vec<&str> = words.split_whitespace().collect();
        let plain = if words.is_empty() { "document".into() } else { words.join(" ") };
        let mut name = plain.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        name
    }
}

fn media<'a>(given: Option<&'a RawValue>, formats: Formats, param: &str) -> Result<Media<'a>, Problem> {
    let Some(given) = given else { return Err(Problem::invalid(param, format!("'{param}' is required."))) };
    let url = match given.get().starts_with('"') {
        true => parse(given, param)?,
        false => parse::<Url<'a>>(given, param)?.url,
    };
    let (format, source) = place(url, formats, param)?;
    Ok(Media { format, source })
}

/// Format and source of what is at an `s3://` URL, or in a `data:` URL.
fn place<'a>(
    url: Cow<'a, str>,
    formats: Formats,
    param: &str,
) -> Result<(&'static str, Source<'a>), Problem> {
    let known = || {
        let kinds: Vec<_> = formats.iter().map(|(kind, _, _)| *kind).collect();
        kinds.join(", ")
    };
    if url.starts_with("s3://") {
        let ending = url.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
        let format = formats
            .iter()
            .find(|(_, name, _)| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(name)))
            .map(|(_, _, format)| *format);
        return match format {
            Some(format) => Ok((format, Source::S3Location { uri: url })),
            None => Err(Problem::invalid(
                param,
                format!("The object's name must say what it is, of {}.", known()),
            )),
        };
    }
    if url.starts_with("https://") {
        let message = "Bedrock fetches nothing from the web: send a base64 data: URL, or an s3: URL.";
        return Err(Problem::unsupported(param, message));
    }
    let Some((kind, data)) = data_url(url) else {
        return Err(Problem::invalid(param, "A base64 data: URL or an s3: URL is expected."));
    };
    match formats.iter().find(|(name, _, _)| kind.eq_ignore_ascii_case(name)) {
        Some((_, _, format)) => Ok((format, Source::Bytes(data))),
        None => Err(Problem::unsupported(param, format!("Bedrock takes {}, not {kind}.", known()))),
    }
}
