//! What a grant may say, and what comes of it.

use serde_json::json;

use super::*;
use crate::capabilities::Capabilities;
use crate::manifest::Kind;

fn manifest() -> Capabilities {
    serde_json::from_value(json!({
        "kv": { "max_keys": 100 },
        "http": { "upstreams": {
            "checker": { "hosts": ["*.example.com"], "methods": ["POST"], "secrets": ["token"], "timeout_ms": 900 },
            "list": { "hosts": ["list.example"] },
        }},
        "secrets": ["token", "pepper"],
        "crypto": {},
        "telemetry": { "metrics": { "blocked": { "kind": "counter", "labels": ["category"] } } },
        "clock": {},
    }))
    .unwrap()
}

fn grant(value: &serde_json::Value) -> Grants {
    Grants::from_value(value).unwrap()
}

fn pointers(problems: &[GrantProblem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.pointer.as_str()).collect()
}

#[test]
fn nothing_granted_is_nothing_given() {
    let effective = effective(&manifest(), &Grants::default()).unwrap();
    assert_eq!(
        effective.denied,
        ["kv", "http", "secrets.token", "secrets.pepper", "crypto", "telemetry", "clock"]
    );
    assert_eq!(EffectiveGrants { denied: Vec::new(), ..effective }, EffectiveGrants::default());
}

#[test]
fn the_effective_grant_is_the_smaller_of_both() {
    let grants = grant(&json!({
        "kv": { "max_keys": 1000, "max_value_bytes": 10 },
        "http": { "upstreams": { "checker": { "hosts": ["a.example.com:8443", "b.example.com"], "timeout_ms": 5 } } },
        "secrets": { "token": "env:TOKEN" },
        "clock": {},
    }));
    // A port of its own is another origin.
    let problems = effective(&manifest(), &grants).unwrap_err();
    assert_eq!(pointers(&problems), ["/http/upstreams/checker/hosts"]);
    let grants = grant(&json!({
        "kv": { "max_keys": 1000, "max_value_bytes": 10 },
        "http": { "upstreams": { "checker": { "hosts": ["b.example.com"], "timeout_ms": 5 } }, "max_in_flight": 2 },
        "secrets": { "token": "env:TOKEN" },
        "clock": {},
    }));
    let effective = effective(&manifest(), &grants).unwrap();
    assert_eq!(effective.kv, Some(KvGrant { max_keys: 100, max_bytes: 1 << 20, max_value_bytes: 10 }));
    let http = effective.http.unwrap();
    assert_eq!((http.max_in_flight, http.max_in_flight_per_tenant), (2, 8));
    assert_eq!(http.upstreams.len(), 1);
    let checker = &http.upstreams["checker"];
    assert_eq!(checker.timeout.as_millis(), 5);
    assert_eq!(checker.hosts[0].to_string(), "b.example.com");
    assert_eq!(checker.methods, ["POST".to_owned()].into());
    assert_eq!(checker.secrets, ["token".to_owned()].into());
    assert_eq!(effective.secrets["token"].reference.name(), "TOKEN");
    assert!(effective.clock && !effective.crypto && effective.telemetry.is_none());
    assert_eq!(effective.denied, ["http.list", "secrets.pepper", "crypto", "telemetry"]);
}

#[test]
fn a_grant_that_does_nothing_is_an_error_with_its_place() {
    let unused = grant(&json!({
        "random": {},
        "secrets": { "other": "env:OTHER" },
        "http": { "upstreams": {
            "elsewhere": {},
            "checker": { "hosts": ["evil.example"], "methods": ["POST", "DELETE"], "secrets": ["pepper"] },
        }},
    }));
    let problems = effective(&manifest(), &unused).unwrap_err();
    assert_eq!(
        pointers(&problems),
        [
            "/http/upstreams/elsewhere",
            "/http/upstreams/checker/hosts",
            "/http/upstreams/checker/methods",
            "/http/upstreams/checker/secrets",
            "/secrets/other",
            "/random",
        ]
    );
    assert!(problems[0].message.contains("checker, list"), "{}", problems[0]);
}

#[test]
fn hosts_that_are_left_open_must_be_named() {
    let grants = grant(&json!({ "http": { "upstreams": { "checker": {}, "list": {} } } }));
    let problems = effective(&manifest(), &grants).unwrap_err();
    assert_eq!(pointers(&problems), ["/http/upstreams/checker/hosts"]);
    assert!(problems[0].message.contains("*.example.com"), "{}", problems[0]);
}

#[test]
fn mistakes_in_a_grants_form_are_found_where_they_are() {
    let text = json!({
        "kv": { "max_keys": "many", "max_kees": 1 },
        "htpp": {},
        "http": { "max": 1, "upstreams": { "a/b": { "hosts": ["https://x.example/path"] }, "c": 1 } },
        "secrets": { "token": "sk-live-not-a-reference", "pepper": 3 },
        "limits": { "memory": 1 },
        "clock": { "precision": 1 },
    });
    let problems = Grants::parse(text.to_string().as_bytes()).unwrap_err();
    let mut found = pointers(&problems);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "/clock/precision",
            "/htpp",
            "/http/max",
            "/http/upstreams/a~1b/hosts",
            "/http/upstreams/c",
            "/kv/max_kees",
            "/kv/max_keys",
            "/limits/memory",
            "/secrets/pepper",
            "/secrets/token",
        ]
    );
    // A secret that was put where its reference belongs is in no message.
    assert!(problems.iter().all(|problem| !problem.message.contains("sk-live")));
    assert_eq!(pointers(&Grants::parse(b"[]").unwrap_err()), [""]);
    assert_eq!(pointers(&Grants::parse(b"{").unwrap_err()), [""]);
}

#[test]
fn a_grant_is_written_as_it_is_read() {
    let value = json!({
        "kv": { "max_keys": 5 },
        "http": { "upstreams": { "checker": { "hosts": ["http://[::1]:9000"], "methods": ["POST"] } } },
        "secrets": { "token": "env:TOKEN" },
        "random": {},
        "limits": { "cpu_ms": 500 },
    });
    assert_eq!(serde_json::to_value(grant(&value)).unwrap(), value);
}

#[test]
fn a_manifest_asks_for_no_more_than_its_role_may_have() {
    let check = |value, kind| serde_json::from_value::<Capabilities>(value).unwrap().check(kind);
    let refused = |value, kind| check(value, kind).unwrap_err();
    check(json!({ "kv": {}, "clock": {}, "random": {} }), Kind::RoutingPolicy).unwrap();
    check(json!({}), Kind::Provider).unwrap();
    assert!(refused(json!({ "clock": {} }), Kind::Provider).contains("capabilities/clock"));
    assert!(refused(json!({ "http": {} }), Kind::RoutingPolicy).contains("on offer: clock, kv, random"));
    assert!(refused(json!({ "kv": { "max_keys": 2_000_000 } }), Kind::RoutingPolicy).contains("1000000"));
    assert!(refused(json!({ "kv": { "max_keys": 0 } }), Kind::RoutingPolicy).contains("leave"));
    assert!(serde_json::from_value::<Capabilities>(json!({ "sockets": {} })).is_err());
}
