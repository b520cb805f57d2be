//! What is kept, and what a store takes: roots, lists, anchors.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn next(vendor: &Vendor, version: u64, change: impl FnOnce(&mut Root), keys: &[&SecretKey]) -> Vec<u8> {
    let mut root = vendor.root(version);
    change(&mut root);
    root.sign(keys).unwrap()
}

#[test]
fn roots_follow_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    let store = vendor.store(folder.path());
    let [a, b, c] = &vendor.roots;
    let (d, e) = (key(4), key(5));
    // Root 2: C, D and E hold from now on; A and B go.
    let change = |root: &mut Root| {
        root.keys.retain(|id, _| *id != a.public().id() && *id != b.public().id());
        root.keys.extend([root_key(&d, Role::Root), root_key(&e, Role::Root)]);
        root.thresholds.insert(Role::Root, 2);
    };
    let import = |keys: &[&SecretKey]| store.import_root(&next(&vendor, 2, change, keys), day(60));
    for below in [&[a, b][..], &[&d, &e], &[a, &d, &e], &[a, b, &d], &[a, a, &d, &e], &[]] {
        assert!(import(below).is_err());
    }
    for (wrong, version) in [(1, 1), (3, 3)] {
        let bytes = next(&vendor, wrong, change, &[a, b, &d, &e]);
        let error = store.import_root(&bytes, day(60)).unwrap_err();
        assert!(matches!(error, TrustError::Version { found, .. } if found == version), "{error}");
    }
    let other_type =
        dsse::Envelope::sign(REVOCATIONS_TYPE, serde_json::to_vec(&vendor.root(2)).unwrap(), &[a, b]);
    assert!(store.import_root(&other_type.to_json(), day(60)).is_err());
    assert_eq!(store.root().unwrap().version, 1);
    // C is of both.
    let good = next(&vendor, 2, change, &[a, c, &d]);
    assert_eq!(store.import_root(&good, day(60)).unwrap(), 2);
    // Replayed.
    assert!(matches!(store.import_root(&good, day(60)), Err(TrustError::Version { .. })));
    // The old holders are out.
    let third = next(&vendor, 3, change, &[a, b]);
    assert!(store.import_root(&third, day(60)).is_err());
    // It is held after a restart.
    assert_eq!(vendor.store(folder.path()).root().unwrap().version, 2);
    let ended = next(
        &vendor,
        3,
        |root| {
            change(root);
            root.expires = day(50);
        },
        &[c, &d],
    );
    assert!(matches!(store.import_root(&ended, day(60)), Err(TrustError::Forbidden(_))));
    assert_eq!(store.import_root(&next(&vendor, 3, change, &[c, &d]), day(60)).unwrap(), 3);
}

#[test]
fn a_root_on_disk_is_checked_again() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    drop(vendor.store(folder.path()));
    let thief = [key(80), key(81)];
    let forged = next(
        &vendor,
        2,
        |root| {
            root.keys.retain(|_, key| key.role != Role::Root);
            root.keys.extend(thief.iter().map(|key| root_key(key, Role::Root)));
        },
        &[&thief[0], &thief[1]],
    );
    std::fs::write(folder.path().join("roots/2.json"), forged).unwrap();
    let opened = TrustStore::open(folder.path(), vendor.anchor(), Version::new(0, 1, 0), []);
    assert!(matches!(opened, Err(TrustError::Unauthorized { .. })));
}

#[test]
fn contradictory_roots_are_none() {
    let vendor = Vendor::new();
    let [a, b, _] = &vendor.roots;
    let id = a.public().id();
    type Change = fn(&mut Root, KeyId);
    let changes: [(&str, Change); 9] = [
        ("version", |root, _| root.version = 0),
        ("expires", |root, _| root.expires = root.issued_at),
        ("wrong id", |root, id| {
            let (key, other) =
                (root.keys[&id].clone(), SecretKey::generate(&SeededRandom::new(7)).public().id());
            root.keys.insert(other, key);
        }),
        ("dates", |root, id| root.keys.get_mut(&id).unwrap().not_after = day(0)),
        ("prefixes", |root, id| {
            root.keys.get_mut(&id).unwrap().prefixes = vec!["acme.".to_owned().try_into().unwrap()];
        }),
        ("threshold 0", |root, _| _ = root.thresholds.insert(Role::Publisher, 0)),
        ("no threshold", |root, _| _ = root.thresholds.remove(&Role::License)),
        ("too high", |root, _| _ = root.thresholds.insert(Role::Publisher, 3)),
        ("no root keys", |root, _| root.keys.retain(|_, key| key.role != Role::Root)),
    ];
    for (name, change) in changes {
        let mut root = vendor.root(1);
        change(&mut root, id);
        assert!(root.sign(&[a, b]).is_err(), "{name}");
        let bytes = dsse::Envelope::sign(ROOT_TYPE, serde_json::to_vec(&root).unwrap(), &[a, b]).to_json();
        assert!(Root::anchor(&bytes).is_err(), "{name}");
    }
    assert!(Root::anchor(&vendor.root(1).sign(&[a, b]).unwrap()).is_ok());
    assert!(Root::anchor(&vendor.root(1).sign(&[a]).unwrap()).is_err());
}

#[test]
fn lists_only_go_forward() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    let store = vendor.store(folder.path());
    let sign = |list: &Revocations, key: &SecretKey| list.sign(&[key]).unwrap();
    for wrong in [&vendor.license, &vendor.publishers[0], &vendor.roots[0], &key(99)] {
        assert!(store.import_revocations(&sign(&vendor.revocations(1), wrong)).is_err());
    }
    let five = sign(&vendor.revocations(5), &vendor.revocation);
    assert_eq!(store.import_revocations(&five).unwrap(), 5);
    assert_eq!(store.import_revocations(&five).unwrap(), 5);
    let mut other = vendor.revocations(5);
    other.min_security_epoch = 1;
    for older in [other, vendor.revocations(4)] {
        let bytes = sign(&older, &vendor.revocation);
        assert!(matches!(store.import_revocations(&bytes), Err(TrustError::Version { .. })));
    }
    let store = vendor.store(folder.path());
    assert_eq!(store.revocations().unwrap().version, 5);
    assert!(store.warnings(day(60)).is_empty());
    assert_eq!(store.warnings(day(100)).len(), 1);
    assert_eq!(store.warnings(day(900)).len(), 2);
    // A release may bring a newer list than the one that was dropped, or an older one.
    for (version, held) in [(7, 7), (3, 5)] {
        let Anchor::Provisioned { root, .. } = vendor.anchor() else { unreachable!() };
        let revocations = Some(sign(&vendor.revocations(version), &vendor.revocation));
        assert_eq!(
            open(folder.path(), Anchor::Provisioned { root, revocations }).revocations().unwrap().version,
            held
        );
    }
}

#[test]
fn a_list_outlives_the_key_that_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    let store = vendor.store(folder.path());
    vendor.revoke(&store, |list| list.min_security_epoch = 3);
    let successor = key(32);
    let root = next(
        &vendor,
        2,
        |root| {
            root.keys.remove(&vendor.revocation.public().id());
            root.keys.extend([root_key(&successor, Role::Revocation)]);
        },
        &[&vendor.roots[0], &vendor.roots[1]],
    );
    store.import_root(&root, day(60)).unwrap();
    assert_eq!(store.revocations().unwrap().min_security_epoch, 3);
    // The old key signs no new ones.
    let list = vendor.revocations(2);
    assert!(store.import_revocations(&list.sign(&[&vendor.revocation]).unwrap()).is_err());
    assert_eq!(store.import_revocations(&list.sign(&[&successor]).unwrap()).unwrap(), 2);
}

#[test]
fn a_binary_with_a_root_takes_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    let Anchor::Provisioned { root, .. } = vendor.anchor() else { unreachable!() };
    let path = folder.path().join("root.json");
    std::fs::write(&path, &root).unwrap();
    let choose = Anchor::choose_from;
    assert_eq!(choose(None, None, None).unwrap(), Anchor::Unprovisioned);
    assert_eq!(choose(None, None, Some(&path)).unwrap(), vendor.anchor());
    assert_eq!(choose(Some(&root), None, None).unwrap(), vendor.anchor());
    let refused = choose(Some(&root), None, Some(&path)).unwrap_err();
    assert!(refused.to_string().contains("BROKLE_TRUST_ROOT"));
    // Without a root there is nothing that roots, lists or the vendor's plugins could be held against.
    let store = open(&folder.path().join("trust"), Anchor::Unprovisioned);
    assert!(store.import_root(&root, day(60)).is_err());
    let list = vendor.revocations(1).sign(&[&vendor.revocation]).unwrap();
    assert!(store.import_revocations(&list).is_err());
    assert_eq!(Plugin::new("brokle.small").judge(&store, &vendor.both()), Err(RefusalCode::PluginKeyUnknown));
    // An operator's own publisher works even so.
    let ours = key(50);
    store.add_publisher(publisher(&ours, "bank.")).unwrap();
    assert_eq!(Plugin::new("bank.small").judge(&store, &[&ours]), Ok(Level::Private));
}

#[test]
fn files_are_the_owners_alone_and_shared_between_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust");
    let vendor = Vendor::new();
    let (server, shell) = (vendor.store(&path), vendor.store(&path));
    shell.add_publisher(publisher(&key(50), "bank.")).unwrap();
    vendor.revoke(&shell, |_| {});
    assert!(server.publishers().is_empty());
    server.reload().unwrap();
    assert_eq!(server.publishers(), shell.publishers());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["publishers.json", "revocations.json"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    assert!(
        std::fs::read_dir(&path).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("tmp"))
    );
    // What can't be read is told, and what was held stays.
    std::fs::write(path.join("publishers.json"), "[").unwrap();
    assert!(server.reload().unwrap_err().to_string().contains("publishers.json"));
    assert_eq!(server.publishers().len(), 1);
}
