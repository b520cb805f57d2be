//! The license: every state, every confusion.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use brokle_core::random::SeededRandom;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tiers::ENTITLEMENTS;
use super::token::Token;
use super::*;
use crate::trust::tests::{Vendor, day, key};
use crate::trust::{RefusalCode as Code, RevokedKey, RevokedLicense, SecretKey, TrustStore};

/// A host with a folder of its own.
struct Host {
    folder: tempfile::TempDir,
    vendor: Vendor,
    trust: Arc<TrustStore>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vendor = Vendor::new();
        let trust = Arc::new(vendor.store(folder.path()));
        Self { folder, vendor, trust }
    }

    fn licenses(&self, now: DateTime<Utc>) -> Licenses {
        self.built(now, day(0))
    }

    fn built(&self, now: DateTime<Utc>, built_at: DateTime<Utc>) -> Licenses {
        let random = SeededRandom::new(1);
        Licenses::open_built(self.folder.path(), None, self.trust.clone(), &random, now, built_at).unwrap()
    }

    fn sign(&self, claims: &Claims) -> Vec<u8> {
        claims.sign(&self.vendor.license).unwrap().into_bytes()
    }
}

/// From day 100 to day 465, warned 30 days before, 30 days of grace, terminated 60 days after.
fn claims(tier: Tier) -> Claims {
    Claims::new("acme", "lic-1", tier, day(100), day(465))
}

#[test]
fn states_follow_the_calendar() {
    let host = Host::new();
    let licenses = host.licenses(day(99));
    let second = TimeDelta::seconds(1);
    assert_eq!(licenses.current().state, State::None);
    licenses.install(&host.sign(&claims(Tier::Pro)), day(100)).unwrap();
    for (now, state) in [
        (day(100), State::Valid),
        (day(435) - second, State::Valid),
        (day(435), State::Warn),
        (day(465) - second, State::Warn),
        (day(465), State::Grace),
        (day(495) - second, State::Grace),
        (day(495), State::Limited),
        (day(525) - second, State::Limited),
        (day(525), State::Terminated),
        (day(5000), State::Terminated),
    ] {
        assert_eq!(licenses.state(now), state, "{now}");
        let seen = licenses.evaluate(now);
        assert_eq!((seen.state, licenses.current().state), (state, state));
        assert_eq!(seen.warnings.is_empty(), state == State::Valid);
    }
    // A term that ends before the grace does not cut the grace short.
    let short = Claims { term_days: 0, jti: "short".into(), ..claims(Tier::Pro) };
    assert_eq!(Entitlements::of(short.clone(), None, day(490)).state, State::Grace);
    assert_eq!(Entitlements::of(short, None, day(495)).state, State::Terminated);
}

/// What each state allows, as `docs/licensing.md` has it. Columns: the actions of [`actions`].
const MATRIX: [(State, &str); 8] = [
    //                     always    read configure view seat old new
    (State::None, "        yyyyyyyy  y    -         -    y    -   -"),
    (State::Invalid, "     yyyyyyyy  y    -         -    y    -   -"),
    (State::Valid, "       yyyyyyyy  y    y         y    y    y   -"),
    (State::Warn, "        yyyyyyyy  y    y         y    y    y   -"),
    (State::Grace, "       yyyyyyyy  y    y         y    y    y   -"),
    (State::Limited, "     yyyyyyyy  y    -         -    -    y   -"),
    (State::Terminated, "  yyyyyyyy  y    -         -    -    -   -"),
    (State::Revoked, "     yyyyyyyy  y    -         -    -    y   -"),
];

fn actions(entitlement: &str) -> [Action<'_>; 14] {
    [
        Action::Traffic,
        Action::Ingest,
        Action::SignIn,
        Action::EnforceAccess,
        Action::Redact,
        Action::Audit,
        Action::Export,
        Action::Erase,
        Action::ReadPaidConfig,
        Action::ConfigurePaid { entitlement },
        Action::ViewPaid { entitlement },
        Action::AddSeat { taken: 9 },
        Action::LoadPaidComponent { entitlement, built_at: day(200) },
        Action::LoadPaidComponent { entitlement, built_at: day(466) },
    ]
}

/// What a tier sells, written down a second time.
fn sold(tier: Tier) -> BTreeSet<&'static str> {
    let pro = ["sso.oidc", "pii.redaction", "analytics.forecast"];
    let business = [
        "sso.saml",
        "rbac.custom_roles",
        "audit.export",
        "retention.custom",
        "analytics.anomalies",
        "analytics.reports",
    ];
    let enterprise = ["scim", "audit.siem", "compliance.reports", "legal_hold", "residency"];
    let all = [&pro[..], &business, &enterprise];
    all[..tier as usize].concat().into_iter().collect()
}

#[test]
fn the_whole_matrix() {
    let at = |state| match state {
        State::Valid | State::Revoked | State::None | State::Invalid => day(200),
        State::Warn => day(440),
        State::Grace => day(470),
        State::Limited => day(500),
        State::Terminated => day(600),
    };
    let mut cells = 0;
    for tier in Tier::ALL {
        for (state, row) in MATRIX {
            let revoked = (state == State::Revoked).then_some(day(300));
            let entitlements = match state {
                State::None => Entitlements::none(at(state)),
                State::Invalid => Entitlements::invalid(Code::LicenseInvalid.because("x"), at(state)),
                _ => Entitlements::of(claims(tier), revoked, at(state)),
            };
            assert_eq!(entitlements.state, state);
            for (entitlement, _) in ENTITLEMENTS {
                let row = row.bytes().filter(|byte| *byte != b' ');
                for (action, cell) in actions(entitlement).into_iter().zip(row) {
                    let paid = matches!(
                        action,
                        Action::ConfigurePaid { .. }
                            | Action::ViewPaid { .. }
                            | Action::LoadPaidComponent { .. }
                    );
                    let expected = cell == b'y' && (!paid || sold(tier).contains(entitlement));
                    let outcome = entitlements.allows(action);
                    assert_eq!(
                        outcome.is_ok(),
                        expected,
                        "{tier:?} {state:?} {entitlement} {action:?}: {outcome:?}"
                    );
                    if let Err(refusal) = outcome {
                        let expected = match state {
                            State::None => Code::LicenseMissing,
                            State::Invalid => Code::LicenseInvalid,
                            _ if paid && !sold(tier).contains(entitlement) => Code::LicenseNotEntitled,
                            State::Revoked => Code::LicenseRevoked,
                            _ => Code::LicenseExpired,
                        };
                        assert_eq!(refusal.code, expected, "{tier:?} {state:?} {entitlement} {action:?}");
                    }
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, 4 * 8 * 14 * 14);
}

#[test]
fn a_token_says_what_differs_from_its_tier() {
    let mut claims = claims(Tier::Pro);
    claims.entitlements =
        [("scim".into(), true), ("sso.oidc".into(), false), ("of.tomorrow".into(), true)].into();
    claims.limits = [("seats".into(), Some(3)), ("projects".into(), None)].into();
    claims.updates_until = Some(day(600));
    let entitlements = Entitlements::of(claims.clone(), None, day(200));
    let code = |outcome: Result<(), crate::trust::Refusal>| outcome.err().map(|refusal| refusal.code);
    for (entitlement, expected) in [
        ("scim", None),
        ("of.tomorrow", None),
        ("pii.redaction", None),
        ("sso.oidc", Some(Code::LicenseNotEntitled)),
        ("sso.saml", Some(Code::LicenseNotEntitled)),
        ("nonsense", Some(Code::LicenseNotEntitled)),
    ] {
        assert_eq!(code(entitlements.require(entitlement, day(150))), expected, "{entitlement}");
    }
    // Updates that were paid for longer than the license.
    assert_eq!(code(entitlements.require("scim", day(600))), None);
    assert_eq!(code(entitlements.require("scim", day(601))), Some(Code::LicenseExpired));
    let limited = Entitlements::of(claims.clone(), None, day(500));
    assert_eq!(limited.state, State::Limited);
    assert_eq!(code(limited.require("scim", day(600))), None);
    // Seats.
    let seat = |taken| code(entitlements.allows(Action::AddSeat { taken }));
    assert_eq!(
        (seat(2), seat(3), seat(4)),
        (None, Some(Code::LicenseNotEntitled), Some(Code::LicenseNotEntitled))
    );
    claims.limits = [("seats".into(), None)].into();
    let unlimited = Entitlements::of(claims.clone(), None, day(200));
    assert!(unlimited.allows(Action::AddSeat { taken: u64::MAX }).is_ok());
    // A revocation ends updates at its date.
    let revoked = Entitlements::of(claims.clone(), Some(day(150)), day(200));
    assert_eq!(code(revoked.require("scim", day(150))), None);
    assert_eq!(code(revoked.require("scim", day(151))), Some(Code::LicenseRevoked));
    // Organizations.
    assert!(revoked.covers_organization("any"));
    claims.bind.organizations = vec!["org-a".into()];
    let bound = Entitlements::of(claims, None, day(200));
    assert!(bound.covers_organization("org-a") && !bound.covers_organization("org-b"));
}

#[test]
fn setting_the_clock_back_wins_nothing() {
    let host = Host::new();
    let licenses = host.licenses(day(200));
    licenses.install(&host.sign(&claims(Tier::Pro)), day(200)).unwrap();
    assert_eq!(licenses.evaluate(day(500)).state, State::Limited);
    let back = licenses.evaluate(day(200));
    assert_eq!(back.state, State::Limited);
    assert!(back.warnings.iter().any(|warning| warning.starts_with("LICENSE_CLOCK")), "{:?}", back.warnings);
    // A few hours are a time zone's mistake, not a warning.
    let hours = licenses.evaluate(day(500) - TimeDelta::hours(23));
    assert!(!hours.warnings.iter().any(|warning| warning.contains("LICENSE_CLOCK")));
    // A restart doesn't help.
    drop(licenses);
    assert_eq!(host.licenses(day(200)).current().state, State::Limited);
    // The binary was built later than the clock says.
    std::fs::remove_file(host.folder.path().join("clock.json")).unwrap();
    assert_eq!(host.built(day(200), day(470)).current().state, State::Grace);
    // A damaged mark takes nothing away.
    std::fs::write(host.folder.path().join("clock.json"), "{").unwrap();
    assert_eq!(host.licenses(day(200)).current().state, State::Valid);
    // The license's own date counts; a license for later waits.
    let early = Claims { nbf: day(300), ..claims(Tier::Pro) };
    let checked = host.licenses(day(10)).check(&host.sign(&early), day(10));
    assert_eq!(checked.refusal.map(|refusal| refusal.code), Some(Code::LicenseClock));
    let checked = host.licenses(day(10)).check(&host.sign(&claims(Tier::Pro)), day(10));
    assert_eq!((checked.state, checked.evaluated_at), (State::Valid, day(200)));
}

#[test]
fn a_license_is_bound_to_its_instance() {
    let (a, b) = (Host::new(), Host::new());
    let here = a.licenses(day(200)).instance().to_owned();
    assert_eq!(here.len(), 32);
    assert_eq!(a.licenses(day(200)).instance(), here);
    let there =
        Licenses::open(b.folder.path(), None, b.trust.clone(), &SeededRandom::new(2), day(200)).unwrap();
    assert_ne!(there.instance(), here);
    let mut claims = claims(Tier::Pro);
    claims.bind.instances = vec!["elsewhere".into(), here];
    let token = a.sign(&claims);
    assert_eq!(a.licenses(day(200)).install(&token, day(200)).unwrap().state, State::Valid);
    let refusal = there.install(&token, day(200)).unwrap_err();
    assert_eq!(refusal.code, Code::LicenseWrongInstance);
    assert!(refusal.detail.contains(there.instance()));
    assert_eq!(there.current().state, State::None);
    // Copied by hand it is invalid, which is as if there were none.
    std::fs::write(b.folder.path().join("license.jwt"), token).unwrap();
    let state = there.evaluate(day(200));
    assert_eq!(state.state, State::Invalid);
    assert_eq!(state.require("pii.redaction", day(150)).unwrap_err().code, Code::LicenseWrongInstance);
    assert!(state.allows(Action::Traffic).is_ok() && state.allows(Action::SignIn).is_ok());
}

#[test]
fn licenses_and_their_keys_are_revoked() {
    let host = Host::new();
    let licenses = host.licenses(day(200));
    licenses.install(&host.sign(&claims(Tier::Pro)), day(200)).unwrap();
    let entry = |jti: &str| RevokedLicense { jti: jti.into(), from: None, reason: String::new() };
    host.vendor.revoke(&host.trust, |list| list.licenses = vec![entry("another")]);
    assert_eq!(licenses.evaluate(day(200)).state, State::Valid);
    host.vendor.revoke(&host.trust, |list| list.licenses = vec![entry("lic-1")]);
    let revoked = licenses.evaluate(day(200));
    assert_eq!((revoked.state, revoked.updates_end), (State::Revoked, Some(day(10))));
    let keyid = host.vendor.license.public().id();
    for (from, state) in
        [(Some(day(101)), State::Valid), (Some(day(100)), State::Invalid), (None, State::Invalid)]
    {
        host.vendor.revoke(&host.trust, |list| {
            list.keys = vec![RevokedKey { keyid, from, except: vec![], reason: String::new() }];
        });
        assert_eq!(licenses.evaluate(day(200)).state, state);
    }
}

#[test]
fn the_configured_file_goes_first() {
    let host = Host::new();
    host.licenses(day(200)).install(&host.sign(&claims(Tier::Pro)), day(200)).unwrap();
    let path = host.folder.path().join("mounted");
    let open = || {
        let random = SeededRandom::new(1);
        Licenses::open(host.folder.path(), Some(path.clone()), host.trust.clone(), &random, day(200)).unwrap()
    };
    assert_eq!(open().current().state, State::Invalid);
    // Orchestrators mount secrets as links.
    let real = host.folder.path().join("real");
    std::fs::write(&real, [host.sign(&claims(Tier::Enterprise)), b"\n".to_vec()].concat()).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let licenses = open();
    assert_eq!(licenses.current().claims.as_ref().unwrap().tier, Tier::Enterprise);
    assert!(licenses.install(&host.sign(&claims(Tier::Pro)), day(200)).is_err());
    std::fs::write(&real, host.sign(&claims(Tier::Business))).unwrap();
    assert_eq!(licenses.evaluate(day(200)).claims.as_ref().unwrap().tier, Tier::Business);
}

/// A token of any header and claims, honestly signed.
fn forge(header: &Value, claims: &Value, key: &SecretKey) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[test]
fn nothing_else_passes_for_a_license() {
    let host = Host::new();
    let licenses = host.licenses(day(200));
    let kid = host.vendor.license.public().id().to_string();
    let header = json!({"alg": "EdDSA", "typ": "brokle-license+jwt", "kid": kid});
    let payload = serde_json::to_value(claims(Tier::Pro)).unwrap();
    let with = |base: &Value, name: &str, value: Value| {
        let mut changed = base.clone();
        changed[name] = value;
        changed
    };
    let good = forge(&header, &payload, &host.vendor.license);
    assert_eq!(licenses.check(good.as_bytes(), day(200)).state, State::Valid);
    let forged = |header: &Value, payload: &Value| forge(header, payload, &host.vendor.license);
    let mut bad: Vec<(String, String)> = Vec::new();
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("None")),
        ("alg", json!("HS256")),
        ("alg", json!("Ed25519")),
        ("alg", json!("ES256")),
        ("alg", json!("eddsa")),
        ("alg", json!(["EdDSA"])),
        ("alg", Value::Null),
        ("typ", json!("JWT")),
        ("typ", json!("application/brokle-license+jwt")),
        ("typ", json!("at+jwt")),
        ("kid", json!("../../etc/passwd")),
        ("kid", json!(kid.to_uppercase())),
        ("kid", json!(key(99).public().id())),
        ("kid", json!(host.vendor.publishers[0].public().id())),
        ("jwk", json!({"kty": "OKP"})),
        ("jku", json!("https://example.com")),
        ("x5u", json!("https://example.com")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ] {
        bad.push((format!("{name} {value}"), forged(&with(&header, name, value), &payload)));
    }
    for name in ["alg", "typ", "kid"] {
        let mut without = header.clone();
        without.as_object_mut().unwrap().remove(name);
        bad.push((format!("no {name}"), forged(&without, &payload)));
    }
    for (name, value) in [
        ("v", json!(2)),
        ("iss", json!("evil")),
        ("aud", json!("another-host")),
        ("aud", json!(["brokle-host"])),
        ("exp", json!("2030-01-01")),
        ("exp", json!(1.5)),
        ("exp", json!(0)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(8_210_000_000_000_i64)),
        ("grace_days", json!(u32::MAX)),
        ("grace_days", json!(-1)),
        ("tier", json!("platinum")),
        ("jti", json!("")),
        ("unlimited", json!(true)),
    ] {
        bad.push((format!("{name} {value}"), forged(&header, &with(&payload, name, value))));
    }
    for name in ["exp", "nbf", "iat", "jti", "sub", "tier", "aud", "iss", "v"] {
        let mut without = payload.clone();
        without.as_object_mut().unwrap().remove(name);
        bad.push((format!("no {name}"), forged(&header, &without)));
    }
    // Signed by somebody else, with the right name on it; by the right roles' neighbours; with the public key as a secret.
    for other in [&key(99), &host.vendor.publishers[0], &host.vendor.roots[0], &host.vendor.revocation] {
        bad.push(("other key".into(), forge(&header, &payload, other)));
        let own = with(&header, "kid", json!(other.public().id()));
        bad.push(("other key, own kid".into(), forge(&own, &payload, other)));
    }
    let parts: Vec<&str> = good.split('.').collect();
    let twice = URL_SAFE_NO_PAD
        .encode(format!(r#"{{"alg":"EdDSA","alg":"EdDSA","typ":"brokle-license+jwt","kid":"{kid}"}}"#));
    let twice_signed = format!("{twice}.{}", parts[1]);
    let signature = URL_SAFE_NO_PAD.encode(host.vendor.license.sign(twice_signed.as_bytes()));
    bad.extend([
        ("no signature".into(), format!("{}.{}.", parts[0], parts[1])),
        ("two parts".into(), format!("{}.{}", parts[0], parts[1])),
        ("four parts".into(), format!("{good}.x")),
        ("five parts, as if encrypted".into(), format!("{good}.x.y")),
        ("padding".into(), format!("{good}=")),
        ("standard alphabet".into(), format!("{}.{}.+/{}", parts[0], parts[1], &parts[2][2..])),
        ("a line break within".into(), format!("{}.\n{}.{}", parts[0], parts[1], parts[2])),
        ("a member twice".into(), format!("{twice_signed}.{signature}")),
        ("empty".into(), String::new()),
        ("too long".into(), format!("{good}{}", " ".repeat(token::MAX_LICENSE))),
        ("deep".into(), format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("[".repeat(9000)), parts[2])),
    ]);
    for (name, token) in bad {
        let seen = licenses.check(token.as_bytes(), day(200));
        assert_eq!(seen.state, State::Invalid, "{name}");
        assert_eq!(
            seen.refusal.as_ref().map(|refusal| refusal.code),
            Some(Code::LicenseInvalid),
            "{name}: {seen:?}"
        );
        assert!(licenses.install(token.as_bytes(), day(200)).is_err(), "{name}");
    }
    assert!(!host.folder.path().join("license.jwt").exists());
    // Each character matters, the last one too, whose spare bits must be zero.
    for index in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        assert_eq!(licenses.check(&changed, day(200)).state, State::Invalid, "character {index}");
    }
}

#[test]
fn an_unprovisioned_host_believes_no_license() {
    let host = Host::new();
    let other = tempfile::tempdir().unwrap();
    let trust = Arc::new(crate::trust::tests::open(other.path(), crate::trust::Anchor::Unprovisioned));
    let licenses = Licenses::open(other.path(), None, trust, &SeededRandom::new(1), day(200)).unwrap();
    let seen = licenses.check(&host.sign(&claims(Tier::Pro)), day(200));
    assert!(seen.refusal.unwrap().detail.contains("BROKLE_TRUST_ROOT"));
}

#[test]
fn a_reader_of_the_snapshot_sees_whole_states() {
    let host = Host::new();
    let licenses = Arc::new(host.licenses(day(200)));
    licenses.install(&host.sign(&claims(Tier::Pro)), day(200)).unwrap();
    // Expiry while others ask: what always goes on is never refused, and no state is half of another.
    let done = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let licenses = licenses.clone();
                scope.spawn(move || {
                    let mut seen = 0_u64;
                    while !done.load(std::sync::atomic::Ordering::SeqCst) || seen == 0 {
                        let now = licenses.current();
                        for action in &actions("pii.redaction")[..9] {
                            assert!(now.allows(*action).is_ok());
                        }
                        let configure = now.allows(Action::ConfigurePaid { entitlement: "pii.redaction" });
                        assert_eq!(configure.is_ok(), now.state.is_full());
                        seen += 1;
                    }
                })
            })
            .collect();
        for now in 200..560 {
            licenses.evaluate(day(now));
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(licenses.current().state, State::Terminated);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Token::parse(&bytes);
    }

    #[test]
    fn nor_do_any_claims(header in "[ -~]{0,80}", claims in "[ -~]{0,200}") {
        let text = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        prop_assert!(Token::parse(text.as_bytes()).is_err());
    }
}
