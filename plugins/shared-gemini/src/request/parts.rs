//! The parts of one message's content.
//!
//! Data comes inline, from base64 `data:` URLs and `input_audio`; what is at an `https:` URL the vendor fetches itself
//! (`fileData`), told its type by the name's ending where that is known.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::messages::{Blob, FileData, Part};
use shared_canonical::url::data_url;
use shared_canonical::{Text, parse};

/// What may stand in a content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A system message's: text.
    Text,
    /// An assistant's: text and refusals; empty texts are left out.
    Assistant,
    /// A user's or a tool's.
    All,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    refusal: Text<'a>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    video_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<Audio<'a>>,
    #[serde(borrow, default)]
    file: Option<File<'a>>,
}

#[derive(Deserialize)]
struct Url<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    format: Cow<'a, str>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    file_data: Cow<'a, str>,
    #[serde(borrow, default)]
    file_id: Option<Cow<'a, str>>,
}

pub(crate) fn of<'a>(content: &'a RawValue, allowed: Allowed, param: &str) -> Result<Vec<Part<'a>>, Problem> {
    if content.get() == "null" {
        return Ok(Vec::new());
    }
    let mut parts = Vec::new();
    if let Some(text) = Text::of(content) {
        if !(text.is_empty() && allowed == Allowed::Assistant) {
            parts.push(Part { text: Some(text), ..Part::default() });
        }
        return Ok(parts);
    }
    for (index, raw) in parse::<Vec<&RawValue>>(content, param)?.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        parts.extend(part(parse(raw, &param)?, allowed, &param)?);
    }
    Ok(parts)
}

fn part<'a>(given: Given<'a>, allowed: Allowed, param: &str) -> Result<Option<Part<'a>>, Problem> {
    let missing =
        |name: &str| Problem::invalid(format!("{param}.{name}"), format!("'{param}.{name}' is required."));
    let text = |text: Text<'a>| Part { text: Some(text), ..Part::default() };
    Ok(Some(match (given.kind.as_str(), allowed) {
        ("text", Allowed::Assistant) if given.text.is_empty() => return Ok(None),
        ("text", _) => text(given.text),
        ("refusal", Allowed::Assistant) => text(given.refusal),
        ("image_url", Allowed::All) => {
            url(given.image_url.ok_or_else(|| missing("image_url"))?, &format!("{param}.image_url"))?
        }
        ("video_url", Allowed::All) => {
            url(given.video_url.ok_or_else(|| missing("video_url"))?, &format!("{param}.video_url"))?
        }
        ("input_audio", Allowed::All) => {
            let audio = given.input_audio.ok_or_else(|| missing("input_audio"))?;
            let mime_type = Cow::Owned(format!("audio/{}", audio.format));
            Part { inline_data: Some(Blob { mime_type, data: audio.data }), ..Part::default() }
        }
        ("file", Allowed::All) => {
            let file = given.file.ok_or_else(|| missing("file"))?;
            let (place, name) = match file.file_id {
                Some(id) => (id, "file_id"),
                None => (file.file_data, "file_data"),
            };
            at(place, &format!("{param}.file.{name}"))?
        }
        (other, _) => {
            let message = format!("Gemini takes no part of type '{other}' here.");
            return Err(Problem::unsupported(format!("{param}.type"), message));
        }
    }))
}

fn url<'a>(given: &'a RawValue, param: &str) -> Result<Part<'a>, Problem> {
    let url = match given.get().starts_with('"') {
        true => parse(given, param)?,
        false => parse::<Url<'a>>(given, param)?.url,
    };
    at(url, param)
}

/// What is at an `https:` or `gs:` URL, or in a `data:` URL.
fn at<'a>(url: Cow<'a, str>, param: &str) -> Result<Part<'a>, Problem> {
    if url.starts_with("https://") || url.starts_with("gs://") {
        let mime_type = mime_type(&url);
        return Ok(Part { file_data: Some(FileData { mime_type, file_uri: url }), ..Part::default() });
    }
    match data_url(url) {
        Some((mime_type, data)) => {
            Ok(Part { inline_data: Some(Blob { mime_type, data }), ..Part::default() })
        }
        None => Err(Problem::invalid(param, "An https: URL or a base64 data: URL is expected.")),
    }
}

/// By the ending of the path's last name.
fn mime_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let ending = path.rsplit('/').next()?.rsplit_once('.')?.1;
    let known = [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("heic", "image/heic"),
        ("heif", "image/heif"),
        ("gif", "image/gif"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
        ("mov", "video/quicktime"),
        ("mp3", "audio/mp3"),
        ("wav", "audio/wav"),
    ];
    known.into_iter().find(|(name, _)| ending.eq_ignore_ascii_case(name)).map(|(_, mime_type)| mime_type)
}
