//! The places in which a span says something, and how a value is found in them.

use serde_json::Value;

use super::super::span::{Attributes, Event};
use super::table::Source;

/// What a span and its process say.
#[derive(Debug)]
pub(super) struct Places<'a> {
    /// The span's attributes; what is used is taken out.
    pub(super) attributes: Attributes,
    /// The process's; shared with other spans, so they stay.
    pub(super) resource: &'a Attributes,
    /// The span's events.
    pub(super) events: Vec<Event>,
}

impl Places<'_> {
    /// The first text that isn't empty, up to this many bytes. Numbers are texts too. Taken out.
    pub(super) fn text(&mut self, sources: &[Source], max_bytes: usize) -> Option<String> {
        self.find(sources, true, |value| text(value, max_bytes))
    }

    /// The same; it stays where it is.
    pub(super) fn kept_text(&mut self, sources: &[Source], max_bytes: usize) -> Option<String> {
        self.find(sources, false, |value| text(value, max_bytes))
    }

    /// The first text, or the first of the first list. Taken out.
    pub(super) fn first(&mut self, sources: &[Source], max_bytes: usize) -> Option<String> {
        self.find(sources, true, |value| match value {
            Value::Array(list) => text(list.first()?, max_bytes),
            // Some write a list as a text.
            Value::String(written) if written.starts_with('[') => {
                text(serde_json::from_str::<Vec<Value>>(written).ok()?.first()?, max_bytes)
            }
            other => text(other, max_bytes),
        })
    }

    /// The first list, also as JSON in a text, or as a text with commas. Taken out.
    pub(super) fn list(&mut self, sources: &[Source]) -> Vec<String> {
        let names = |list: &[Value]| -> Vec<String> {
            list.iter().filter_map(|value| text(value, usize::MAX)).collect()
        };
        let found = self.find(sources, true, |value| {
            Some(match value {
                Value::Array(list) => names(list),
                Value::String(written) => match serde_json::from_str::<Vec<Value>>(written) {
                    Ok(list) => names(&list),
                    Err(_) => {
                        let tags = written.split(',').map(str::trim);
                        tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
                    }
                },
                _ => return None,
            })
            .filter(|list| !list.is_empty())
        });
        found.unwrap_or_default()
    }

    /// The first of these attributes that can be read so. Taken out; one that can't be read stays.
    pub(super) fn take<T>(&mut self, names: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        names.iter().find_map(|name| {
            let found = read(self.attributes.get(*name)?)?;
            self.attributes.remove(*name);
            Some(found)
        })
    }

    /// A whole value, whatever it is, if it isn't empty. Taken out.
    pub(super) fn value(&mut self, source: Source) -> Option<Value> {
        match source {
            Source::Attribute(name) => {
                self.attributes.get(name).filter(|value| !is_empty(value))?;
                self.attributes.remove(name)
            }
            Source::Event(event, name) => {
                let event = self.events.iter_mut().find(|known| known.name == event)?;
                event.attributes.get(name).filter(|value| !is_empty(value))?;
                event.attributes.remove(name)
            }
            Source::Resource(name) => self.resource.get(name).filter(|value| !is_empty(value)).cloned(),
            Source::Below(_) | Source::Events(_) => None,
        }
    }

    fn find<T>(&mut self, sources: &[Source], takes: bool, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        sources.iter().find_map(|source| match *source {
            Source::Attribute(name) => {
                let found = read(self.attributes.get(name)?)?;
                if takes {
                    self.attributes.remove(name);
                }
                Some(found)
            }
            Source::Resource(name) => read(self.resource.get(name)?),
            Source::Event(event, name) => {
                read(self.events.iter().find(|known| known.name == event)?.attributes.get(name)?)
            }
            Source::Below(_) | Source::Events(_) => None,
        })
    }
}

fn text(value: &Value, max_bytes: usize) -> Option<String> {
    match value {
        Value::String(text) => Some(cut(text.trim(), max_bytes).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// As many whole characters as fit.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
}
