//! What makes two requests the same: a hash of everything that may change the answer.
//!
//! The body is hashed as JSON, in one pass: an object is the set of its members, a string what it spells, a number its
//! value. Two bodies that differ in anything else have different keys. What can't be told apart for certain (whole
//! numbers beyond 2⁵³, which pass through a float) has none, and isn't cached.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::attempts::passed_on;
use crate::dialects::Dialected;
use crate::routing::Candidate;
use crate::routing::conditions::Said;
use crate::routing::routes::Route;

/// Members of a request that don't change its answer; or that say in which form it is wanted.
const IGNORED: [&str; 6] =
    ["metadata", "prompt_cache_key", "safety_identifier", "stream", "stream_options", "user"];

/// The largest request that is looked at: 4 MiB.
const MAX_REQUEST: usize = 4 << 20;

/// What an entry is found by. Nobody who doesn't know tenant and request can guess it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that is no key: 64 hexadecimal digits are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cache key: 64 hexadecimal digits are expected")]
pub struct ParseKeyError;

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseKeyError);
        }
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or(ParseKeyError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseKeyError)?;
        }
        Ok(Self(key))
    }
}

/// The key of a request, and of whom a policy chose for it if that decides the answer; none if it isn't cached.
pub(super) fn of(said: Said<'_>, chosen: Option<&Candidate>) -> Option<Key> {
    hash(b'K', said, chosen, said.request.body.bytes(), [])
}

/// The space of a request's question: all but its text, which `blank` is without, and what else tells spaces apart.
pub(super) fn of_space<const MORE: usize>(
    said: Said<'_>,
    chosen: Option<&Candidate>,
    blank: &[u8],
    more: [&str; MORE],
) -> Option<Key> {
    hash(b'S', said, chosen, blank, more)
}

fn hash<const MORE: usize>(
    kind: u8,
    said: Said<'_>,
    chosen: Option<&Candidate>,
    body: &[u8],
    more: [&str; MORE],
) -> Option<Key> {
    let Said { principal, headers, request } = said;
    let tenant = principal.tenant;
    if body.len() > MAX_REQUEST {
        return None;
    }
    let Members(body) = serde_json::from_slice(body).ok()?;
    let mut hash = Hash::new(kind);
    more.iter().for_each(|text| hash.text(text));
    for id in [tenant.organization.to_string(), tenant.project.to_string(), tenant.environment.to_string()] {
        hash.text(&id);
    }
    hash.text(request.operation.name());
    hash.text(if request.streaming { "stream" } else { "whole" });
    if let Some(dialect) = &request.dialect {
        hash_dialect(&mut hash, dialect)?;
    }
    if let Some(chosen) = chosen {
        hash.bytes(b"chosen");
        hash.text(&chosen.connection.id);
        hash.text(&chosen.model);
    }
    // What was answered by a model that a key may not use isn't for that key.
    let allowed = principal.allowed.restrictions();
    for list in [&allowed.models, &allowed.routes] {
        hash.bytes(&list.len().to_le_bytes());
        list.iter().for_each(|pattern| hash.text(pattern));
    }
    // A route that was changed may answer otherwise.
    let route = request.route.as_deref();
    hash.text(route.map_or("", |route| &route.name));
    hash.bytes(&[route.map_or(0, |route| route.origin as u8)]);
    hash.bytes(&route.and_then(|route| route.version).unwrap_or_default().to_le_bytes());
    // Whoever is asked by what the caller says of itself answers for such callers only.
    if route.is_some_and(Route::has_conditions) {
        for (name, text) in said.attributes() {
            hash.text(&name);
            hash.text(&text);
        }
    }
    let passed = passed_on(headers);
    let mut passed: Vec<_> = passed.iter().filter(|(name, _)| changes_answers(name.as_str())).collect();
    passed.sort_by(|a, b| (a.0.as_str(), a.1.as_bytes()).cmp(&(b.0.as_str(), b.1.as_bytes())));
    for (name, value) in passed {
        hash.text(name.as_str());
        hash.bytes(value.as_bytes());
    }
    hash.bytes(&body);
    Some(Key(hash.end()))
}

/// The form in which a call came, and in which it is answered.
fn hash_dialect(hash: &mut Hash, dialect: &Dialected) -> Option<()> {
    let asked = &dialect.asked;
    hash.bytes(b"dialect");
    for text in [asked.dialect.name(), &asked.call.endpoint, &asked.call.model] {
        hash.text(text);
    }
    // An answer that may be the vendor's own bytes isn't for a call whose mayn't.
    hash.bytes(&[u8::from(dialect.native), u8::from(dialect.translated)]);
    if dialect.native && dialect.translated {
        // Its body is the canonical one, and the vendor may get the caller's.
        let Members(original) = serde_json::from_slice(asked.original.bytes()).ok()?;
        hash.bytes(&original);
    }
    // The caller's key may be there, too.
    for (name, value) in asked.call.query.iter().filter(|(name, _)| name != "key") {
        hash.text(name);
        hash.text(value);
    }
    Some(())
}

/// Whether a header that goes to the provider may change its answer. Those that intermediaries add, and those of this
/// cache, don't.
fn changes_answers(name: &str) -> bool {
    let prefixes =
        ["accept", "cf-", "x-amzn-", "x-b3-", "x-cloud-trace", "x-datadog-", "x-forwarded-", "x-envoy-"];
    let names = [
        "b3",
        "cache-control",
        "dnt",
        "forwarded",
        "idempotency-key",
        "pragma",
        "priority",
        "uber-trace-id",
        "via",
        "x-correlation-id",
    ];
    !prefixes.iter().any(|prefix| name.starts_with(prefix)) && !names.contains(&name)
}

/// A hash of parts, each with its length, so that no two lists of parts are the same bytes.
struct Hash(Context);

impl Hash {
    fn new(kind: u8) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[kind]);
        Self(context)
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn end(self) -> [u8; 32] {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        hash
    }
}

/// The hash of a value.
struct Value([u8; 32]);

/// The hash of a request: an object without the members that are ignored.
struct Members([u8; 32]);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Hashing { ignored: &[] }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Hashing { ignored: &IGNORED }).map(Self)
    }
}

struct Hashing {
    ignored: &'static [&'static str],
}

fn hashed(kind: u8, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Hash::new(kind);
    hash.bytes(bytes);
    hash.end()
}

impl<'de> Visitor<'de> for Hashing {
    type Value = [u8; 32];

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<[u8; 32], E> {
        Ok(hashed(b'n', b""))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<[u8; 32], E> {
        Ok(hashed(b'b', &[u8::from(value)]))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<[u8; 32], E> {
        Ok(hashed(b'i', &i128::from(value).to_le_bytes()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<[u8; 32], E> {
        Ok(hashed(b'i', &i128::from(value).to_le_bytes()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<[u8; 32], E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.abs() >= EXACT {
            return Err(E::custom("a number that may not be exact"));
        }
        // 1.0 and 1 aren't the same to every vendor.
        Ok(hashed(b'f', &value.to_bits().to_le_bytes()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<[u8; 32], E> {
        Ok(hashed(b's', value.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<[u8; 32], A::Error> {
        let mut hash = Hash::new(b'a');
        while let Some(Value(value)) = sequence.next_element()? {
            hash.bytes(&value);
        }
        Ok(hash.end())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<[u8; 32], A::Error> {
        let mut members: Vec<(String, [u8; 32])> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.ignored.contains(&name.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                let Value(value) = map.next_value()?;
                members.push((name, value));
            }
        }
        // Stable: of two members of one name the later one stays the later.
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Hash::new(b'o');
        for (name, value) in members {
            hash.text(&name);
            hash.bytes(&value);
        }
        Ok(hash.end())
    }
}
