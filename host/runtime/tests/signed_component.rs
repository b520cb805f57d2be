//! A component as `make plugins` builds it, signed and then changed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use brokle_core::random::SeededRandom;
use brokle_runtime::trust::{
    Anchor, Level, RefusalCode, Role, Root, RootKey, Rules, SecretKey, Statement, TrustStore,
};
use brokle_runtime::{Inspection, guest_stack, inspect};
use chrono::{DateTime, TimeDelta, Utc};

fn component() -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let path: PathBuf = exe
        .ancestors()
        .map(|folder| folder.join("wasm32-wasip2/guest/policy_priority.wasm"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("policy_priority.wasm isn't built: run `make plugins`"));
    std::fs::read(path).unwrap()
}

#[test]
fn no_changed_byte_passes() {
    let now: DateTime<Utc> = "2026-06-01T00:00:00Z".parse().unwrap();
    let keys = [1, 2].map(|seed| SecretKey::generate(&SeededRandom::new(seed)));
    let (not_before, not_after) = (now - TimeDelta::days(1), now + TimeDelta::days(1));
    let entry = |key: &SecretKey, role| {
        let public = key.public();
        (public.id(), RootKey { public, role, not_before, not_after, prefixes: vec![] })
    };
    let root = Root {
        version: 1,
        issued_at: now,
        expires: not_after,
        keys: [entry(&keys[0], Role::Root), entry(&keys[1], Role::Publisher)].into(),
        thresholds: Role::ALL.map(|role| (role, 1)).into(),
    };
    let anchor = Anchor::Provisioned { root: root.sign(&[&keys[0]]).unwrap(), revocations: None };
    let store = TrustStore::detached(anchor, semver::Version::new(0, 1, 0)).unwrap();

    let bytes = component();
    let inspection = inspect(&bytes).unwrap();
    assert!(matches!(guest_stack(&bytes), Some(16_384 | 65_536 | 131_072)));
    let statement = Statement::of(&inspection, 1, ">=0.1".parse().unwrap(), now);
    let envelope = statement.sign(&[&keys[1]]).to_json();
    let rules = Rules::default();
    let verify =
        |bytes: &[u8], inspection: &Inspection| store.verify(bytes, Some(&envelope), inspection, &rules, now);
    assert_eq!(verify(&bytes, &inspection).unwrap().level, Level::Vendor);

    let mut read = 0;
    for index in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[index] ^= 0x10;
        assert_eq!(verify(&changed, &inspection).unwrap_err().code, RefusalCode::PluginHashMismatch);
        // Many of them still describe themselves as they did, down to the manifest.
        if let Ok(own) = inspect(&changed) {
            read += 1;
            assert_eq!(
                verify(&changed, &own).unwrap_err().code,
                RefusalCode::PluginHashMismatch,
                "byte {index}"
            );
        }
    }
    assert!(read > 100, "the flips must get past the reader of sections: {read}");
    // It imports more than was signed for.
    let mut narrow = statement;
    let dropped = narrow.capabilities.pop().unwrap();
    let refusal = store
        .verify(&bytes, Some(&narrow.sign(&[&keys[1]]).to_json()), &inspection, &rules, now)
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::PluginCapability);
    assert!(refusal.detail.contains(&dropped));
}
