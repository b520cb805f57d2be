//! A `usage` object as it stands in an answer: read in one pass, without a tree of it.
//!
//! Lenient where it must be: a member of another type is as good as absent, and what isn't known is skipped.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member that may be a count. Some servers write `12.0`; a negative or fractional number, or a string, isn't a count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count(pub(super) Option<u64>);

/// What is read of a `usage` object and of the objects in it; every level knows the same names.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) is_object: bool,
    pub(super) prompt_tokens: Count,
    pub(super) completion_tokens: Count,
    pub(super) input_tokens: Count,
    pub(super) output_tokens: Count,
    pub(super) total_tokens: Count,
    pub(super) prompt_cache_hit_tokens: Count,
    pub(super) cached_tokens: Count,
    pub(super) cache_write_tokens: Count,
    pub(super) reasoning_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
    pub(super) input_details: Option<Box<Members>>,
    pub(super) output_details: Option<Box<Members>>,
    pub(super) cached_details: Option<Box<Members>>,
}

/// The names that are known, at any level.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    PromptTokens,
    CompletionTokens,
    InputTokens,
    OutputTokens,
    TotalTokens,
    PromptCacheHitTokens,
    CachedTokens,
    CacheWriteTokens,
    ReasoningTokens,
    AudioTokens,
    ImageTokens,
    #[serde(alias = "input_tokens_details", alias = "input_token_details")]
    PromptTokensDetails,
    #[serde(alias = "output_tokens_details", alias = "output_token_details")]
    CompletionTokensDetails,
    CachedTokensDetails,
    #[serde(other)]
    Other,
}

impl Members {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: Name, map: &mut A) -> Result<(), A::Error> {
        let count = match name {
            Name::PromptTokens => &mut self.prompt_tokens,
            Name::CompletionTokens => &mut self.completion_tokens,
            Name::InputTokens => &mut self.input_tokens,
            Name::OutputTokens => &mut self.output_tokens,
            Name::TotalTokens => &mut self.total_tokens,
            Name::PromptCacheHitTokens => &mut self.prompt_cache_hit_tokens,
            Name::CachedTokens => &mut self.cached_tokens,
            Name::CacheWriteTokens => &mut self.cache_write_tokens,
            Name::ReasoningTokens => &mut self.reasoning_tokens,
            Name::AudioTokens => &mut self.audio_tokens,
            Name::ImageTokens => &mut self.image_tokens,
            Name::PromptTokensDetails => return details(&mut self.input_details, map),
            Name::CompletionTokensDetails => return details(&mut self.output_details, map),
            Name::CachedTokensDetails => return details(&mut self.cached_details, map),
            Name::Other => return map.next_value::<IgnoredAny>().map(drop),
        };
        *count = map.next_value()?;
        Ok(())
    }
}

/// Reads an object's members; the first of several spellings that is an object stands.
fn details<'de, A: MapAccess<'de>>(slot: &mut Option<Box<Members>>, map: &mut A) -> Result<(), A::Error> {
    let read: Members = map.next_value()?;
    if read.is_object && slot.is_none() {
        *slot = Some(Box::new(read));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient::<Self>(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient::<Self>(PhantomData))
    }
}

/// What a value means to a member; nothing, unless it is told.
trait Meaning: Default {
    fn number(_: f64) -> Self {
        Self::default()
    }

    fn whole(_: u64) -> Self {
        Self::default()
    }

    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl Meaning for Count {
    fn number(number: f64) -> Self {
        // 2^53: beyond it a float no longer tells neighbouring whole numbers apart.
        let is_count = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        Self(is_count.then_some(number as u64))
    }

    fn whole(count: u64) -> Self {
        Self(Some(count))
    }
}

impl Meaning for Members {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut members = Self { is_object: true, ..Self::default() };
        while let Some(name) = map.next_key::<Name>()? {
            members.member(name, &mut map)?;
        }
        Ok(members)
    }
}

/// Takes any value, and makes of it what `T` sees in it.
struct Lenient<T>(PhantomData<T>);

impl<'de, T: Meaning> Visitor<'de> for Lenient<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_u64<E>(self, count: u64) -> Result<T, E> {
        Ok(T::whole(count))
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        // Negative: `visit_u64` gets the others.
        Ok(T::default())
    }

    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::map(map)
    }
}
