use brokle_core::clock::SystemClock;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::*;
use crate::operation::Operation;
use crate::routing::conditions::Said;
use crate::routing::routes::{Origin, Route, RouteCandidate, Target};
use crate::who::tests::principal;
use brokle_expression::Expression;
use chrono::{DateTime, Utc};

fn key_of(tenant: Tenant, body: &str, headers: &[(&'static str, &'static str)]) -> Option<Key> {
    routed_key_of(tenant, body, headers, None)
}

fn routed_key_of(
    tenant: Tenant,
    body: &str,
    headers: &[(&'static str, &'static str)],
    route: Option<Route>,
) -> Option<Key> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let mut request = Request::read(Operation::ChatCompletions, body).unwrap();
    request.route = route.map(Arc::new);
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let principal = brokle_identity::Principal { tenant, ..principal() };
    key::of(Said { principal: &principal, headers: &headers, request: &request }, None)
}

const BODY: &str = r#"{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"hé"}],"tools":[{"a":1,"b":[2,3]}]}"#;

#[test]
fn what_doesnt_change_an_answer_doesnt_change_the_key() {
    let tenant = principal().tenant;
    let key = key_of(tenant, BODY, &[]).unwrap();
    for same in [
        r#"{ "tools":[{"b":[2,3],"a":1}], "messages":[{"content":"h\u00e9","role":"user"}], "temperature":5e-1, "model":"m" }"#,
        r#"{"model":"m","user":"ann","metadata":{"x":1},"temperature":0.50,"messages":[{"role":"user","content":"hé"}],"tools":[{"a":1,"b":[2,3]}],"prompt_cache_key":"p"}"#,
    ] {
        assert_eq!(key_of(tenant, same, &[]), Some(key), "{same}");
    }
    let hop = [("x-forwarded-for", "1.2.3.4"), ("authorization", "Bearer bk_x"), ("x-request-id", "7")];
    assert_eq!(key_of(tenant, BODY, &hop), Some(key));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert!("zz".repeat(32).parse::<Key>().is_err() && "é".repeat(32).parse::<Key>().is_err());
}

#[test]
fn what_may_change_an_answer_changes_the_key() {
    let tenant = principal().tenant;
    let mut keys = vec![key_of(tenant, BODY, &[]).unwrap(), key_of(principal().tenant, BODY, &[]).unwrap()];
    let elsewhere = Tenant { environment: principal().tenant.environment, ..tenant };
    keys.push(key_of(elsewhere, BODY, &[]).unwrap());
    for (from, to) in [
        (r#""m""#, r#""n""#),
        ("0.5", "0.6"),
        ("0.5", "1"),
        ("0.5", "1.0"),
        ("0.5", "null"),
        ("[2,3]", "[3,2]"),
        ("[2,3]", "[[2],3]"),
        ("[2,3]", "[2,\"3\"]"),
        (r#""hé""#, r#""he""#),
        (r#""a":1"#, r#""a":1,"user":"x""#),
        ("{\"model\"", "{\"stream\":true,\"model\""),
        ("{\"model\"", "{\"seed\":1,\"model\""),
    ] {
        assert!(BODY.contains(from));
        keys.push(key_of(tenant, &BODY.replacen(from, to, 1), &[]).unwrap());
    }
    let routed = |route: Route| routed_key_of(tenant, BODY, &[], Some(route)).unwrap();
    for (name, version) in [("smart", None), ("smart", Some(1)), ("smart", Some(2)), ("other", None)] {
        keys.push(routed(Route { name: name.into(), version, ..Route::default() }));
    }
    keys.push(routed(Route { name: "smart".into(), origin: Origin::Project, ..Route::default() }));
    keys.push(key_of(tenant, BODY, &[("some-beta", "1")]).unwrap());
    let all = keys.len();
    keys.sort_by_key(ToString::to_string);
    keys.dedup();
    assert_eq!(keys.len(), all);
    assert_eq!(key_of(tenant, &BODY.replacen("0.5", "123456789012345678901234567890", 1), &[]), None);
}

#[test]
fn what_callers_say_of_themselves_counts_where_a_route_has_conditions() {
    let tenant = principal().tenant;
    let key = |when: Option<&str>, user: &str| {
        let when = when.map(|text| Expression::read(text).unwrap());
        let target = Target::Provider("p".into());
        let candidate = RouteCandidate { target, model: "m".into(), priority: 0, weight: 1, when };
        let route = Route { name: "smart".into(), candidates: vec![candidate], ..Route::default() };
        let body = BODY.replacen('{', &format!(r#"{{"user":"{user}","#), 1);
        routed_key_of(tenant, &body, &[], Some(route)).unwrap()
    };
    assert_eq!(key(None, "ann"), key(None, "bob"));
    assert_ne!(key(Some("user == 'ann'"), "ann"), key(Some("user == 'ann'"), "bob"));
}

/// An answer of so many bytes.
pub(super) fn entry(tenant: Tenant, model: &str, size: usize, until: DateTime<Utc>) -> Arc<Entry> {
    let about = About {
        tenant,
        model: model.into(),
        route: None,
        provider: Some("p".into()),
        served: None,
        usage: None,
        cost: None,
        stored_at: until - chrono::TimeDelta::hours(1),
        expires_at: until,
    };
    // Nothing that a compressor could make smaller.
    let body: Vec<u8> =
        (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    Arc::new(Entry { about, content: Content::Whole(None, body.into()) })
}

pub(super) fn numbered(number: u64) -> Key {
    format!("{number:064x}").parse().unwrap()
}

/// What is expected of a store of 10,000 bytes. `settled` waits for what was put.
pub(super) async fn conforms(store: &dyn Store, settled: impl AsyncFn(usize)) {
    let later = SystemClock.now() + chrono::TimeDelta::hours(1);
    let (tenant, other) = (principal().tenant, principal().tenant);
    let list = async |tenant| {
        let mut listed: Vec<_> = store.of(tenant).await.unwrap();
        listed.sort_by_key(|(key, _)| key.to_string());
        listed
    };
    store.put(numbered(1), entry(tenant, "one", 100, later), Then::default());
    store.put(numbered(2), entry(tenant, "two", 100, later), Then::default());
    store.put(numbered(3), entry(other, "three", 100, later), Then::default());
    settled(3).await;
    let found = store.get(&numbered(1)).await.unwrap();
    assert_eq!((found.about.model.as_str(), found.about.expires_at), ("one", later));
    let Content::Whole(None, body) = &found.content else { panic!("{found:?}") };
    assert_eq!(body.len(), 100);
    assert!(store.get(&numbered(4)).await.is_none());
    let listed = list(tenant).await;
    assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [numbered(1), numbered(2)]);
    assert!(listed.iter().all(|(_, listed)| (100..1_000).contains(&listed.bytes)), "{listed:?}");
    // Another project's isn't removed by who names it.
    let now = SystemClock.now();
    assert_eq!(store.remove(other, &[numbered(1), numbered(3), numbered(9)], now).await, Ok(1));
    assert_eq!(store.remove(tenant, &[numbered(2), numbered(2)], now).await, Ok(1));
    assert!(store.get(&numbered(2)).await.is_none() && store.get(&numbered(3)).await.is_none());
    // Kept anew, it counts once.
    store.put(numbered(1), entry(tenant, "anew", 200, later), Then::default());
    settled(4).await;
    let listed = list(tenant).await;
    assert_eq!((listed.len(), listed[0].1.about.model.as_str()), (1, "anew"));
    // The least recently used goes.
    for number in 10..30 {
        store.put(numbered(number), entry(tenant, "m", 1_000, later), Then::default());
        settled(number as usize - 5).await;
        list(tenant).await;
        assert!(store.get(&numbered(1)).await.is_some(), "it is used all the time");
    }
    let left = list(tenant).await.len();
    assert!((3..10).contains(&left), "{left}");
    assert!(store.get(&numbered(10)).await.is_none());
    assert!(store.get(&numbered(29)).await.is_some());
    let all: Vec<Key> = list(tenant).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(store.remove(tenant, &all, now).await, Ok(left as u64));
    assert!(list(tenant).await.is_empty());
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&InMemory::new(10_000, Duration::from_secs(3_600)), async |_| {}).await;
}

#[test]
fn what_is_written_is_read_and_nothing_else() {
    let later = SystemClock.now() + chrono::TimeDelta::hours(1);
    let whole = entry(principal().tenant, "m", 100, later);
    let kind = Some(HeaderValue::from_static("text/event-stream"));
    let pieces: Vec<Bytes> = (0..500).map(|at| format!("data: {at}, and much the same\n\n").into()).collect();
    let stream =
        Entry { about: whole.about.clone(), content: Content::NativeStream(kind.clone(), pieces.clone()) };
    let (small, _) = packed::write(&whole).unwrap();
    assert!(packed::read(&small, 1_000).is_some());
    let (packed_stream, listed) = packed::write(&stream).unwrap();
    let plain: usize = pieces.iter().map(Bytes::len).sum();
    assert!(packed_stream.len() < plain / 4, "{} of {plain}", packed_stream.len());
    let listed: Listed = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed.bytes, packed_stream.len() as u64);
    let read = packed::read(&packed_stream, 100_000).unwrap();
    let Content::NativeStream(read_kind, read_pieces) = read.content else { panic!() };
    assert_eq!((read_kind, read_pieces), (kind, pieces));
    // Another version's, one that was cut, and nothing at all.
    let mut other = small.clone();
    other[0] = 9;
    assert!(packed::read(&other, 1_000).is_none());
    for bytes in [&small, &packed_stream] {
        for end in 0..bytes.len() {
            assert!(packed::read(&bytes[..end], 100_000).is_none(), "{end}");
        }
    }
    // One that would be larger than any may be.
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
    assert!(packed::read(&[&[1, 1][..], &bomb].concat(), 1_000).is_none());
}
