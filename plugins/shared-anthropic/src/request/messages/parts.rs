//! The parts of one message's content.
//!
//! Text, images (`https:` and `data:` URLs) and files become the vendor's blocks; a part that is
//! one of the vendor's blocks already goes through as it came.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use brokle_plugin::Problem;
use serde_json::value::RawValue;

use crate::request::blocks::{Block, Kind, Source};
use crate::request::input::{File, ImageUrl, Part};
use shared_canonical::url::data_url;
use shared_canonical::{Text, parse};

/// What may stand in a content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A system message's: text.
    Text,
    /// An assistant's: text, refusals and the vendor's blocks. Empty texts, which the vendor
    /// refuses, are left out: an assistant that only called tools often has one.
    Assistant,
    /// A user's or a tool's.
    All,
}

pub(crate) fn blocks<'a>(
    content: &'a RawValue,
    allowed: Allowed,
    param: &str,
) -> Result<Vec<Block<'a>>, Problem> {
    let mut blocks = Vec::new();
    if let Some(text) = Text::of(content) {
        if !(text.is_empty() && allowed == Allowed::Assistant) {
            blocks.push(Block::text(text));
        }
        return Ok(blocks);
    }
    for (index, raw) in parse::<Vec<&RawValue>>(content, param)?.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        let part: Part<'a> = parse(raw, &param)?;
        blocks.extend(block(part, raw, allowed, &param)?);
    }
    Ok(blocks)
}

fn block<'a>(
    part: Part<'a>,
    raw: &'a RawValue,
    allowed: Allowed,
    param: &str,
) -> Result<Option<Block<'a>>, Problem> {
    let kind = match (part.kind.as_str(), allowed) {
        ("text", Allowed::Assistant) if part.text.is_empty() => return Ok(None),
        ("text", _) if part.citations.is_some() => return Ok(Some(Block::Raw(raw))),
        ("text", _) => Kind::Text { text: part.text },
        ("refusal", Allowed::Assistant) => Kind::Text { text: part.refusal },
        ("image_url", Allowed::All) => Kind::Image { source: image(part.image_url, param)? },
        ("file", Allowed::All) => document(part.file, part.citations, param)?,
        ("image" | "document" | "search_result" | "container_upload", Allowed::All)
        | ("thinking" | "redacted_thinking", Allowed::Assistant) => return Ok(Some(Block::Raw(raw))),
        (other, _) => {
            let message = format!("Anthropic takes no part of type '{other}' here.");
            return Err(Problem::unsupported(format!("{param}.type"), message));
        }
    };
    Ok(Some(Block::made(kind, part.cache_control)))
}

fn image<'a>(image: Option<&'a RawValue>, param: &str) -> Result<Source<'a>, Problem> {
    let param = format!("{param}.image_url");
    let Some(image) = image else { return Err(Problem::invalid(&param, format!("'{param}' is required."))) };
    let url = match image.get().starts_with('"') {
        true => parse(image, &param)?,
        false => parse::<ImageUrl>(image, &param)?.url,
    };
    if url.starts_with("https://") {
        return Ok(Source::Url { url });
    }
    match data_url(url) {
        Some((media_type, data)) => Ok(Source::Base64 { media_type, data }),
        None => Err(Problem::invalid(param, "An image must be an https: URL or a base64 data: URL.")),
    }
}

fn document<'a>(
    file: Option<File<'a>>,
    citations: Option<&'a RawValue>,
    param: &str,
) -> Result<Kind<'a>, Problem> {
    let param = format!("{param}.file");
    let Some(file) = file else { return Err(Problem::invalid(&param, format!("'{param}' is required."))) };
    let source = match (file.file_id, file.file_data) {
        (Some(file_id), _) => Source::File { file_id },
        (None, url) if url.starts_with("https://") => Source::Url { url },
        (None, data) => match data_url(data) {
            Some((media_type, data)) if media_type == "application/pdf" => {
                Source::Base64 { media_type, data }
            }
            Some((media_type, data)) if media_type == "text/plain" => plain_text(&data, &param)?,
            Some((media_type, _)) => {
                let message = format!("Anthropic takes application/pdf and text/plain, not {media_type}.");
                return Err(Problem::unsupported(format!("{param}.file_data"), message));
            }
            None => {
                let message = "A file must be a 'file_id', an https: URL or a base64 data: URL.";
                return Err(Problem::invalid(format!("{param}.file_data"), message));
            }
        },
    };
    Ok(Kind::Document { source, title: file.filename, citations })
}

fn plain_text<'a>(data: &str, param: &str) -> Result<Source<'a>, Problem> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    match text {
        Some(data) => Ok(Source::Text { media_type: "text/plain", data }),
        None => Err(Problem::invalid(format!("{param}.file_data"), "The text must be UTF-8 in base64.")),
    }
}
