use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::*;
use crate::operation::Operation;
use crate::routing::routes::{Origin, Route, RouteCandidate, Target};
use crate::who::tests::principal;
use brokle_expression::Expression;

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
    key::of(Said { principal: &principal, headers: &headers, request: &request })
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

#[tokio::test]
async fn the_least_recently_used_goes_when_there_is_no_room() {
    let store = InMemory::new(10_000, Duration::from_secs(60));
    let tenant = principal().tenant;
    let entry = |size: usize| {
        Arc::new(Entry {
            tenant,
            model: "m".into(),
            route: None,
            content: Content::Whole(None, vec![b'x'; size].into()),
            provider: None,
            served: None,
            usage: None,
            cost: None,
            stored_at: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
        })
    };
    let keys: Vec<Key> = (0..20).map(|number: u64| format!("{number:064x}").parse().unwrap()).collect();
    store.put(keys[0], entry(1_000));
    for key in &keys[1..] {
        store.put(*key, entry(1_000));
        store.of(tenant).await;
        assert!(store.get(&keys[0]).await.is_some(), "it is used all the time");
    }
    assert!(store.get(&keys[1]).await.is_none());
    let kept = store.of(tenant).await;
    assert!((2..10).contains(&kept.len()), "{}", kept.len());
    assert!(store.of(principal().tenant).await.is_empty());
}
