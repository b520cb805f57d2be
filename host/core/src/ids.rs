//! The ids of everything that has one: [ULIDs](https://github.com/ulid/spec), a newtype per kind, so that a project's id
//! can't be passed where an organization's is meant.
//!
//! An id is 48 bits of Unix milliseconds followed by 80 random bits, so ids sort by the time they were made; within one
//! millisecond their order is random. In text it is 26 characters of Crockford's base 32 in upper case. Reading is
//! strict: lower case, look-alikes (`I`, `L`, `O`) and values beyond 128 bits are refused, so that one id has one
//! spelling and comparing texts is comparing ids.

use std::fmt;

use ulid::{ULID_LEN, Ulid};

use crate::clock::Clock;
use crate::random::Random;

/// A text that is not the canonical form of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 26 characters of 0-9 and A-Z without I, L, O and U are expected, 0 to 7 first")]
pub struct ParseIdError;

fn generate(clock: &dyn Clock, random: &dyn Random) -> Ulid {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    // Before 1970 there is no ULID: a clock that is that wrong counts as the epoch.
    let millis = u64::try_from(clock.now().timestamp_millis()).unwrap_or_default();
    Ulid::from_parts(millis, u128::from_be_bytes(bytes))
}

fn parse(text: &str) -> Result<Ulid, ParseIdError> {
    let ulid = Ulid::from_string(text).map_err(|_| ParseIdError)?;
    let mut canonical = [0; ULID_LEN];
    if ulid.array_to_str(&mut canonical) == text { Ok(ulid) } else { Err(ParseIdError) }
}

fn show(ulid: Ulid, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    formatter.pad(ulid.array_to_str(&mut [0; ULID_LEN]))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Ulid);

        impl $name {
            /// A new id, made of the clock's time and 80 random bits.
            #[must_use]
            pub fn generate(clock: &dyn Clock, random: &dyn Random) -> Self {
                Self(generate(clock, random))
            }

            /// The id as a number; its order is the id's order.
            #[must_use]
            pub fn as_u128(self) -> u128 {
                self.0.into()
            }

            /// The id that [`as_u128`](Self::as_u128) gave this number.
            #[must_use]
            pub const fn from_u128(number: u128) -> Self {
                Self(Ulid(number))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                show(self.0, formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }
    )+};
}

ids! {
    /// An organization: the tenant that everything belongs to in the end.
    OrganizationId;
    /// A project of an organization.
    ProjectId;
    /// An environment of a project, such as `development`.
    EnvironmentId;
    /// An API key; never the key itself.
    ApiKeyId;
    /// A configured access to a provider.
    ConnectionId;
    /// A route that an organization or a project defines.
    RouteId;
    /// A rule for scores of a name.
    ScoreConfigId;
    /// A file of a project's.
    FileId;
    /// A batch of calls.
    BatchId;
    /// A change in the catalogue of components.
    PluginEventId;
    /// One request to the gateway or the API; answered as `X-Request-Id`.
    RequestId;
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::clock::ManualClock;
    use crate::random::{SeededRandom, SystemRandom};

    #[test]
    fn an_id_is_the_time_and_then_chance() {
        let clock = ManualClock::new(DateTime::from_timestamp_millis(1_772_359_200_123).unwrap());
        let random = SeededRandom::new(1);
        let id = ProjectId::generate(&clock, &random);
        assert_eq!(id.as_u128() >> 80, 1_772_359_200_123);
        assert_ne!(id, ProjectId::generate(&clock, &random));

        clock.advance(TimeDelta::milliseconds(1));
        let later = ProjectId::generate(&clock, &random);
        assert!(id < later, "ids sort by time");
        assert!(id.to_string() < later.to_string(), "and so do their texts");
    }

    #[test]
    fn text_and_json_are_the_canonical_form() {
        let text = "01KJME5T5V7QZ8WXJ3N4P6R9ST";
        let id: ApiKeyId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("{id:?}"), format!("ApiKeyId({text})"));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ApiKeyId>(&format!("\"{text}\"")).unwrap(), id);
        assert_eq!(ApiKeyId::try_from(text.to_owned()), Ok(id));
        assert_eq!(ApiKeyId::from_u128(id.as_u128()), id);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let lower = "01kjme5t5v7qz8wxj3n4p6r9st";
        let look_alike = "OIKJME5T5V7QZ8WXJ3N4P6R9ST";
        let overflow = "81KJME5T5V7QZ8WXJ3N4P6R9ST";
        let not_ascii = "01KJME5T5V7QZ8WXJ3N4P6R9Sé";
        for text in ["", "01KJME", lower, look_alike, overflow, not_ascii] {
            assert_eq!(text.parse::<RequestId>(), Err(ParseIdError), "{text}");
        }
        assert!(serde_json::from_str::<RequestId>(&format!("\"{lower}\"")).is_err());
    }

    #[test]
    fn every_text_it_writes_it_reads() {
        for _ in 0..1_000 {
            let id = ConnectionId::generate(&crate::clock::SystemClock, &SystemRandom);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
